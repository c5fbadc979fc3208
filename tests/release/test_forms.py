"""Instances with noise images of their own, or weights in 16 bits: what they draw, and that the ledger remembers."""
import os

import numpy as np
import pytest
import tensorflow as tf
from painting import BITS, PaintedSnapshot

import run_release
from dnnlib.images import to_uint8
from dnnlib.util import UsageError, UserError
from fingerprints.instances import Form
from fingerprints.registry import Registry
from helpers import save_run
from release.export import MODEL, read_saved_model
from release.issue import HandOver, Issuer
from training.snapshot import Snapshot

LATENTS = np.random.default_rng(0).standard_normal([5, 6]).astype(np.float32)
SEED = 2 ** 40 + 7


def call(*words):
    return run_release.main(run_release.make_parser().parse_args(words)) or 0


@pytest.fixture(scope='module', params=['fingerprinted', 'adopted'])
def issued(request, tmp_path_factory):
    """(words that name the place, folder of everything, Snapshot) of one instance of each form, by the command."""
    place = tmp_path_factory.mktemp('forms')
    special = dict(preset='adopted', read_side=8) if request.param == 'adopted' else {}
    run = save_run(str(place / 'run'), method=request.param, **special)
    words = [f'--run={run}', f'--registry={place}/registry.sqlite']
    for name, *flags in (('plain',), ('noise', f'--noise-seed={SEED}'), ('half', '--float16'),
                         ('both', '--float16', '--noise-seed=5')):
        call('issue', name, f'--out={place}/instances', '--selftest=false', *words, *flags)
    return words, place, Snapshot(run, impl='ref')


def drawn(place, name):
    signatures = tf.saved_model.load(f'{place}/instances/{name}/1').signatures
    return signatures['float'](latents=tf.constant(LATENTS))['images'].numpy()


def expected(snapshot, code, seed):
    """The snapshot's own pictures, with noise images drawn here."""
    kept = [variable.numpy() for variable in snapshot.nets['G'].fixed_noise]
    for index, variable in enumerate(snapshot.nets['G'].fixed_noise if seed is not None else []):
        variable.assign(tf.random.stateless_normal(variable.shape, [seed, index]))
    codes = tf.constant(np.repeat(code[None], len(LATENTS), 0), tf.float32)
    images = snapshot.method.generate(snapshot.nets, tf.constant(LATENTS), codes).numpy()
    for variable, value in zip(snapshot.nets['G'].fixed_noise, kept):
        variable.assign(value)
    return images


@pytest.mark.parametrize('name, seed, float16', [('plain', None, False), ('noise', SEED, False), ('half', None, True),
                                                 ('both', 5, True)])
def test_pictures_are_those_of_the_noise_and_the_weights(issued, name, seed, float16):
    _, place, snapshot = issued
    registry = Registry(f'{place}/registry.sqlite')
    assert registry.get(name).form == Form(seed, float16)
    images, code = drawn(place, name), registry.code(name)
    wanted = expected(snapshot, code, seed)
    np.testing.assert_allclose(images, wanted, atol=0.03 if float16 else 1e-4)
    if seed is not None:
        assert np.abs(wanted - expected(snapshot, code, None)).max() > 0.1, 'noise that shows nothing'
    if float16:
        assert np.abs(images - wanted).max() > 1e-5, 'weights of 32 bits'


def test_reissue_makes_the_same_bytes_of_every_form(issued, capsys):
    words, place, _ = issued
    call('reissue', 'both', 'plain', 'noise', 'half', f'--out={place}/again', *words)
    for name in ('plain', 'noise', 'half', 'both'):
        first, again = (open(f'{place}/{folder}/{name}/1/{MODEL}', 'rb').read() for folder in ('instances', 'again'))
        assert first == again, name
    assert capsys.readouterr().out.count('as issued') == 4


def test_the_file_holds_weights_of_16_bits_and_no_other_constant_changed(issued):
    _, place, _ = issued
    found = {}
    for name in ('plain', 'half'):
        graph = read_saved_model(f'{place}/instances/{name}/1/{MODEL}').meta_graphs[0].graph_def
        tensors = [node.attr['value'].tensor for function in graph.library.function for node in function.node_def
                   if node.op == 'Const']
        found[name] = {kind: sum(tf.make_ndarray(one).size for one in tensors if one.dtype == kind.as_datatype_enum)
                       for kind in (tf.float32, tf.float16)}
    assert found['plain'][tf.float16] == 0 and found['half'][tf.float32] < 200
    assert sum(found['half'].values()) == sum(found['plain'].values())


def test_a_self_test_tells_the_psnr_of_16_bits(tmp_path):
    """A grey of 0.1 and blocks of ±0.3 are not exact in 16 bits, and near enough to read."""
    (tmp_path / 'run').mkdir()
    registry = Registry(str(tmp_path / 'registry.sqlite'), create=True)
    strong = PaintedSnapshot(tmp_path, strength=0.3)
    made = Issuer(str(tmp_path / 'run'), registry, str(tmp_path / 'instances'), strong,
                  HandOver(('png',), form=Form(float16=True)))('ann')
    assert made.float16 and made.test.matching['png'] == (BITS,) * 8
    assert made.psnr is None or made.psnr > 55
    # Twice 2⁻¹² is lost beside 1 in 16 bits: 0.5 + 2⁻¹³ becomes 0.5.
    lost = PaintedSnapshot(tmp_path, strength=0.0, decode=strong.decode)
    with pytest.raises(UserError, match='does not read'):
        Issuer(str(tmp_path / 'run'), registry, str(tmp_path / 'instances'), lost,
               HandOver(('png',), form=Form(float16=True)))('ben')
    assert sorted(os.listdir(tmp_path / 'instances')) == ['ann']


def test_the_psnr_is_that_of_the_files_pictures(tmp_path, monkeypatch):
    run = save_run(str(tmp_path / 'run'))
    monkeypatch.setattr('release.issue.check', lambda *_: None)  # untrained networks show no fingerprint
    registry = Registry(str(tmp_path / 'registry.sqlite'), create=True)
    hand_over = HandOver(('png',), form=Form(float16=True))
    made = Issuer(run, registry, str(tmp_path / 'instances'), hand_over=hand_over)('a')
    latents = np.random.default_rng(0).standard_normal([8, 6]).astype(np.float32)
    served = tf.saved_model.load(made.folder).signatures['serving_default'](latents=tf.constant(latents))['images']
    snapshot, codes = Snapshot(run, impl='ref'), np.repeat(registry.code('a')[None], 8, 0).astype(np.float32)
    exact = to_uint8(snapshot.method.generate(snapshot.nets, tf.constant(latents), tf.constant(codes)).numpy())
    error = np.mean((served.numpy().astype(float) - exact) ** 2)
    assert made.psnr == pytest.approx(10 * np.log10(255 ** 2 / error), abs=1) and 40 < made.psnr < 75


def test_a_model_without_noise_is_told_and_nothing_is_reserved(tmp_path):
    run = save_run(str(tmp_path / 'run'))
    registry = Registry(str(tmp_path / 'registry.sqlite'), create=True)
    snapshot = Snapshot(run, impl='ref')
    for layer in snapshot.nets['G'].layers_in_order:
        if layer.noise_strength is not None:
            layer.noise_strength.assign(0)
    with pytest.raises(UserError, match='without noise .*leave --noise-seed, and .* out') as caught:
        Issuer(run, registry, str(tmp_path / 'instances'), snapshot, HandOver(form=Form(noise_seed=1)))
    assert '\n' not in str(caught.value) and registry.history() == [] and registry.models() == []


@pytest.fixture
def listed(tmp_path):
    """(words of `issue --names`, Snapshot, Registry) for a file whose seeds are one's own, none and another's own."""
    (tmp_path / 'users.csv').write_text('Noise-seed,name,since\n5,ann,2024\n,ben,2024\n 7 ,cid\n')
    words = ['issue', f'--names={tmp_path}/users.csv', f'--run={save_run(str(tmp_path / "run"))}',
             f'--registry={tmp_path}/registry.sqlite', f'--out={tmp_path}/instances', '--selftest=false']
    return words, Snapshot(str(tmp_path / 'run'), impl='ref'), Registry(f'{tmp_path}/registry.sqlite', create=True)


@pytest.mark.parametrize('flags, others', [([], None), (['--noise-seed=9', '--float16'], 9)])
def test_a_list_gives_users_seeds_of_their_own(listed, tmp_path, capsys, flags, others):
    words, snapshot, registry = listed
    call(*words, *flags)
    for name, seed in (('ann', 5), ('ben', others), ('cid', 7)):
        assert registry.get(name).form == Form(seed, bool(flags))
        np.testing.assert_allclose(drawn(tmp_path, name), expected(snapshot, registry.code(name), seed),
                                   atol=0.03 if flags else 1e-4)
    call(*words, *flags)
    assert '0 issued, 3 had an instance already' in capsys.readouterr().out
    call('reissue', 'cid', 'ben', f'--out={tmp_path}/again', *words[2:4])


def test_seeds_of_a_list_for_a_model_without_noise_are_told_before_anyone_gets_an_instance(listed, monkeypatch):
    words, snapshot, registry = listed
    for layer in snapshot.nets['G'].layers_in_order:
        if layer.noise_strength is not None:
            layer.noise_strength.assign(0)
    monkeypatch.setattr('release.issue.issuing_snapshot', lambda *_: snapshot)
    with pytest.raises(UserError, match='without noise'):
        call(*words)
    assert registry.history() == []


def test_flags_out_of_range(tmp_path):
    for flags, said in ((['--noise-seed=-1'], 'from 0 to'), ([f'--noise-seed={2 ** 63}'], 'from 0 to'),
                        (['--certificate=x'], '--certificate goes with --sign')):
        with pytest.raises(UsageError, match=said):
            call('issue', 'ann', f'--registry={tmp_path}/registry.sqlite', f'--run={tmp_path}', *flags)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('fields', [{'noise_seed': -1}, {'noise_seed': 2 ** 63}, {'noise_seed': '1'},
                                    {'noise_seed': True}, {'float16': 1}])
def test_what_is_no_form_in_a_ledger(fields):
    with pytest.raises(ValueError, match='is none'):
        Form.of_fields(fields)
    assert Form.of_fields(Form(3, True).fields) == Form(3, True) and Form().fields == {}
