"""The Merkle tree over the ledger's events, as RFC 6962 defines it: one hash that stands for all of them.

A tree of n leaves splits at the largest power of two below n. Leaves and nodes are hashed with different first bytes,
so that neither can pass for the other. Proofs are made as RFC 6962 (section 2.1) says and checked as RFC 9162 (2.1.3.2
and 2.1.4.2) does, which needs no tree.
"""
import hashlib
from collections.abc import Iterable, Sequence

EMPTY = hashlib.sha256(b'').digest()


def leaf_hash(data: bytes) -> bytes:
    """The hash of one leaf, 32 bytes."""
    return hashlib.sha256(b'\0' + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above two others, 32 bytes."""
    return hashlib.sha256(b'\1' + left + right).digest()


class Tree:
    """A growing tree that keeps only the roots of its complete subtrees: at most 64 hashes for any size."""

    def __init__(self, leaves: Iterable[bytes] = ()):
        self.size = 0
        self._roots = []  # largest subtree first; their sizes are the binary digits of `size`
        for leaf in leaves:
            self.append(leaf)

    def append(self, leaf: bytes) -> None:
        """Adds the hash of a leaf."""
        merged = self.size
        while merged & 1:  # two subtrees of one size become one of twice the size
            leaf = node_hash(self._roots.pop(), leaf)
            merged >>= 1
        self._roots.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The hash that stands for all leaves, 32 bytes."""
        if not self._roots:
            return EMPTY
        root = self._roots[-1]
        for left in self._roots[-2::-1]:
            root = node_hash(left, root)
        return root


def _split(size):
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes that lead from leaf `index` to the root of `leaves`, the leaf's neighbour first."""
    if len(leaves) == 1:
        return []
    middle = _split(len(leaves))
    left, right = leaves[:middle], leaves[middle:]
    if index < middle:
        return inclusion_proof(left, index) + [Tree(right).root()]
    return inclusion_proof(right, index - middle) + [Tree(left).root()]


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """The hashes that show that the tree of the first `old_size` leaves, at least 1, is the beginning of this one."""
    return _consistency(leaves, old_size, True)


def _consistency(leaves, old_size, known):
    """`known`: whether the old tree's root, which the reader has, is the root of these leaves' beginning."""
    if old_size == len(leaves):
        return [] if known else [Tree(leaves).root()]
    middle = _split(len(leaves))
    left, right = leaves[:middle], leaves[middle:]
    if old_size <= middle:
        return _consistency(left, old_size, known) + [Tree(right).root()]
    return _consistency(right, old_size - middle, False) + [Tree(left).root()]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the proof shows that the hash `leaf` is leaf `index` of the tree of this size and root."""
    if not 0 <= index < size:
        return False
    here, last, computed = index, size - 1, leaf
    for neighbour in proof:
        if last == 0:
            return False
        if here & 1 or here == last:
            computed = node_hash(neighbour, computed)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            computed = node_hash(computed, neighbour)
        here, last = here >> 1, last >> 1
    return last == 0 and computed == root


def verify_consistency(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that the tree of `old_size` leaves and `old_root` is the beginning of the larger one."""
    if not 0 < old_size <= size:
        return False
    if old_size == size:
        return not proof and old_root == root
    path = list(proof)
    if old_size & (old_size - 1) == 0:  # the old tree is complete: its root is where the path begins
        path.insert(0, old_root)
    if not path:
        return False
    here, last = old_size - 1, size - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    old = new = path[0]
    for neighbour in path[1:]:
        if last == 0:
            return False
        if here & 1 or here == last:
            old, new = node_hash(neighbour, old), node_hash(neighbour, new)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            new = node_hash(new, neighbour)
        here, last = here >> 1, last >> 1
    return last == 0 and old == old_root and new == root
