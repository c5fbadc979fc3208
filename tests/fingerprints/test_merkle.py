import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fingerprints import merkle

# The eight leaves and roots that Certificate Transparency's implementations test against.
LEAVES = [bytes.fromhex(text) for text in ('', '00', '10', '2021', '3031', '40414243', '5051525354555657',
                                           '606162636465666768696a6b6c6d6e6f')]
ROOTS = ['6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
         'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
         'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
         'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
         '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
         '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
         'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
         '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328']


def naive_root(datas):
    """RFC 6962, section 2.1, to the letter."""
    if not datas:
        return hashlib.sha256(b'').digest()
    if len(datas) == 1:
        return hashlib.sha256(b'\0' + datas[0]).digest()
    k = 1
    while k * 2 < len(datas):
        k *= 2
    return hashlib.sha256(b'\1' + naive_root(datas[:k]) + naive_root(datas[k:])).digest()


def hashes(count):
    return [merkle.leaf_hash(bytes([i])) for i in range(count)]


@pytest.mark.parametrize('size', range(1, 9))
def test_known_roots(size):
    assert merkle.Tree(map(merkle.leaf_hash, LEAVES[:size])).root().hex() == ROOTS[size - 1]


def test_known_proofs():
    """RFC 6962's own examples: seven leaves, proofs of d0, d3, d4, d6 and of sizes 3, 4, 6."""
    a, b, c, d, e, f, j = leaves = hashes(7)
    g, h, i = merkle.node_hash(a, b), merkle.node_hash(c, d), merkle.node_hash(e, f)
    k, m = merkle.node_hash(g, h), merkle.node_hash(i, j)
    assert merkle.inclusion_proof(leaves, 0) == [b, h, m]
    assert merkle.inclusion_proof(leaves, 3) == [c, g, m]
    assert merkle.inclusion_proof(leaves, 4) == [f, j, k]
    assert merkle.inclusion_proof(leaves, 6) == [i, k]
    assert merkle.consistency_proof(leaves, 3) == [c, d, g, m]
    assert merkle.consistency_proof(leaves, 4) == [m]
    assert merkle.consistency_proof(leaves, 6) == [i, j, k]


def test_every_tree_up_to_forty_leaves():
    datas = [bytes([i]) for i in range(40)]
    leaves, roots = hashes(40), [naive_root(datas[:n]) for n in range(41)]
    for n in range(41):
        assert merkle.Tree(leaves[:n]).root() == roots[n]
        for index in range(n):
            proof = merkle.inclusion_proof(leaves[:n], index)
            assert merkle.verify_inclusion(leaves[index], index, n, proof, roots[n])
            assert not merkle.verify_inclusion(leaves[index], (index + 1) % n, n, proof, roots[n]) or n == 1
            old = merkle.consistency_proof(leaves[:n], index + 1)
            assert merkle.verify_consistency(index + 1, roots[index + 1], n, roots[n], old)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_proof_is_refused(data):
    n = data.draw(st.integers(2, 70))
    leaves, index = hashes(n), data.draw(st.integers(0, n - 1))
    old_size = data.draw(st.integers(1, n - 1))
    root, old_root = merkle.Tree(leaves).root(), merkle.Tree(leaves[:old_size]).root()
    proofs = {'inclusion': merkle.inclusion_proof(leaves, index),
              'consistency': merkle.consistency_proof(leaves, old_size)}
    kind = data.draw(st.sampled_from(list(proofs)))
    proof = proofs[kind]
    place = data.draw(st.integers(0, len(proof) - 1))
    changed = data.draw(st.sampled_from([
        proof[:place] + proof[place + 1:], proof[:place] + [b'x' * 32] + proof[place:],
        proof[:place] + [b'x' * 32] + proof[place + 1:], proof + proof[-1:], []]))
    if kind == 'inclusion':
        assert not merkle.verify_inclusion(leaves[index], index, n, changed, root)
        assert not merkle.verify_inclusion(b'x' * 32, index, n, proof, root)
        assert not merkle.verify_inclusion(leaves[index], index, n, proof, b'x' * 32)
    else:
        assert not merkle.verify_consistency(old_size, old_root, n, root, changed)
        assert not merkle.verify_consistency(old_size, b'x' * 32, n, root, proof)
        assert not merkle.verify_consistency(old_size, old_root, n, b'x' * 32, proof)


def test_sizes_that_make_no_sense_are_refused():
    leaves = hashes(3)
    root = merkle.Tree(leaves).root()
    for index in (-1, 3):
        assert not merkle.verify_inclusion(leaves[0], index, 3, [], root)
    for old_size in (0, 4):
        assert not merkle.verify_consistency(old_size, root, 3, root, [])
    assert merkle.verify_consistency(3, root, 3, root, []) and not merkle.verify_consistency(3, root, 3, root, [root])
    assert merkle.Tree().root() == merkle.EMPTY
