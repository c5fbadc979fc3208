"""What leaves the house: equal to G with the user's fingerprint, plain TensorFlow, and nothing else in the folder."""
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from dnnlib.util import UserError, sha256_folder
from fingerprints.codes import code_to_text
from fingerprints.registry import Registry
from helpers import killed_before_its_event, save_run
from release.export import export
from release.issue import issue, released_snapshot
from training.snapshot import Snapshot

LATENTS = np.random.default_rng(0).standard_normal([5, 6]).astype(np.float32)


def load(folder):
    return tf.saved_model.load(folder).signatures


def expected_images(run_dir, code):
    """G with the fingerprint as its input: modulation by activations, fixed noise."""
    snapshot = Snapshot(run_dir, impl='ref')
    embeddings = snapshot.nets['E'](np.repeat(code[None], len(LATENTS), 0).astype(np.float32))
    return snapshot.nets['G'](LATENTS, embeddings).numpy()


@pytest.mark.parametrize('name', ['alice', 'bob'])
def test_instance_equals_the_generator_with_the_fingerprint(released, name):
    run_dir, registry, instances = released
    signatures = load(os.path.join(instances, name, '1'))
    expected = expected_images(run_dir, registry.code(name))
    images = signatures['float'](latents=LATENTS)['images'].numpy()
    np.testing.assert_allclose(images, expected, atol=1e-4)
    assert np.abs(images).max() > 0.1
    served = signatures['serving_default'](latents=LATENTS)['images'].numpy()
    assert served.dtype == np.uint8
    np.testing.assert_array_equal(served, np.clip(np.rint((images + 1) * 127.5), 0, 255))


def test_instances_differ(released):
    _, _, instances = released
    a, b = (load(os.path.join(instances, name, '1'))['float'](latents=LATENTS)['images'] for name in ('alice', 'bob'))
    assert np.abs(a - b).max() > 1e-2


@pytest.mark.parametrize('count', [1, 3])
def test_signature(released, count):
    _, _, instances = released
    signatures = load(os.path.join(instances, 'alice', '1'))
    assert set(signatures) == {'serving_default', 'float'}
    for name, dtype in (('serving_default', tf.uint8), ('float', tf.float32)):
        spec = signatures[name].structured_input_signature[1]
        assert {key: (one.shape.as_list(), one.dtype) for key, one in spec.items()} == {
            'latents': ([None, 6], tf.float32)}
        output = signatures[name].structured_outputs['images']
        assert output.shape.as_list() == [None, 16, 16, 3] and output.dtype == dtype
        assert signatures[name](latents=LATENTS[:count])['images'].shape == (count, 16, 16, 3)


def saved_graph(folder):
    message = saved_model_pb2.SavedModel()
    with open(os.path.join(folder, 'saved_model.pb'), 'rb') as file:
        message.ParseFromString(file.read())
    return message.meta_graphs[0].graph_def


def test_only_the_plain_generator_is_in_the_folder(released):
    """No variable, no E, F, D or affine layer, no fingerprint: as names, as bits, or as the numbers of a weight."""
    run_dir, registry, instances = released
    folder = os.path.join(instances, 'alice', '1')
    assert tf.train.list_variables(os.path.join(folder, 'variables', 'variables')) == [
        ('_CHECKPOINTABLE_OBJECT_GRAPH', [])]
    data = b''.join(open(os.path.join(root, file), 'rb').read()
                    for root, _, files in os.walk(folder) for file in files)
    for secret in (b'affine', b'embedding', b'E/dense', b'F/output', b'D/output', b'fingerprints'):
        assert secret not in data, secret
    code = registry.code('alice')
    forms = [code_to_text(code).encode(), code.tobytes(), np.packbits(code).tobytes()]
    forms += [code.astype(dtype).tobytes() for dtype in ('<f4', '<f8', '<i4', '<i8', '<f2')]
    snapshot = Snapshot(run_dir, impl='ref')
    forms += [snapshot.nets['E'](code[None].astype(np.float32)).numpy().tobytes()]
    nets = [snapshot.nets['E'], snapshot.nets['F']]
    forms += [variable.numpy().tobytes()[:64] for net in nets for variable in net.trainable_variables]
    forms += [layer.affine.weight.numpy().tobytes()[:64] for layer in snapshot.nets['G'].layers_in_order]
    forms += [layer.weight.numpy().tobytes()[:64] for layer in snapshot.nets['G'].layers_in_order]
    assert all(form not in data for form in forms if len(form) > 2)
    assert snapshot.nets['G'].input_layer.bias.numpy().tobytes() in data, 'the search would not find a constant'


def ops_of(folder):
    graph = saved_graph(folder)
    return {node.op for function in graph.library.function for node in function.node_def} | {n.op for n in graph.node}


def test_only_tensorflows_own_ops(released):
    ops = ops_of(os.path.join(released[2], 'alice', '1'))
    assert not {op for op in ops if 'Upfirdn' in op or 'Fused' in op and 'BiasAct' in op}
    assert 'Conv2D' in ops


def test_an_adopted_instance_is_plain_tensorflow_and_holds_its_users_marks_alone(tmp_path):
    """Trained with native ops, read at half the size: marks are up-sampled in the instance too."""
    run = save_run(str(tmp_path / 'run'), preset='adopted', method='adopted', read_side=8, impl='auto')
    registry = Registry(str(tmp_path / 'registry.sqlite'), create=True)
    folder, _ = issue(run, registry, 'alice', str(tmp_path / 'instances'))
    assert not {op for op in ops_of(folder) if 'Upfirdn' in op or 'Fused' in op and 'BiasAct' in op}
    snapshot, code = Snapshot(run, impl='ref'), registry.code('alice')
    expected = snapshot.method.generate(snapshot.nets, tf.constant(LATENTS),
                                        tf.constant(np.repeat(code[None], 5, 0), tf.float32))
    found = load(folder)['float'](latents=tf.constant(LATENTS))['images']
    np.testing.assert_allclose(found, expected, atol=1e-5)
    data = b''.join(open(os.path.join(root, file), 'rb').read() for root, _, files in os.walk(folder) for file in files)
    carriers, decoder = snapshot.nets['C'], snapshot.nets['F']
    secrets = [*carriers.templates, *decoder.trainable_variables]
    found = [variable.name for variable in secrets if variable.shape.rank and variable.numpy().tobytes()[:64] in data]
    assert not found
    marks = carriers.marks(tf.constant(code[None], tf.float32)).numpy()
    assert marks.tobytes() in data, 'the search would not find a constant'


def test_an_instance_does_not_tell_how_many_came_before_it(run_dir, tmp_path):
    """TensorFlow numbers the functions of a process; the same generator gives the same bytes all the same."""
    snapshot = Snapshot(run_dir, impl='ref')
    codes = np.random.default_rng(0).integers(0, 2, [2, 16]).astype(np.uint8)
    for number, code in enumerate([codes[0], codes[1], codes[0]]):
        export(snapshot.method.bake(snapshot.nets, code), str(tmp_path / str(number)))
    first, other, again = (sha256_folder(tmp_path / name) for name in '012')
    assert first == again != other
    functions = [function.signature.name for function in saved_graph(tmp_path / '0').library.function]
    assert [int(name.rsplit('_', 1)[1]) for name in functions] == list(range(len(functions))) and functions
    nodes = [node for function in saved_graph(tmp_path / '0').library.function for node in function.node_def]
    settings = {node.attr['config_proto'].s for node in nodes if 'config_proto' in node.attr}
    assert settings == {b''}  # it would hold how many threads this process was given
    assert sorted(os.listdir(tmp_path / '0')) in (['assets', 'saved_model.pb', 'variables'],
                                                  ['saved_model.pb', 'variables'])


def test_loads_where_the_project_is_not(released, tmp_path):
    folder = os.path.join(released[2], 'alice', '1')
    code = ('import sys, tensorflow as tf; f = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]; '
            'print(f(latents=tf.zeros([2, 6]))["images"].shape)')
    result = subprocess.run([sys.executable, '-I', '-c', code, folder], cwd=tmp_path, capture_output=True, text=True)
    assert '(2, 16, 16, 3)' in result.stdout, result.stderr


def test_registry_knows_the_instance(released):
    run_dir, registry, instances = released
    user = registry.get('bob')
    assert user.digest == sha256_folder(os.path.join(instances, 'bob', '1'))
    assert user.model_digest == Snapshot(run_dir).digest == released_snapshot(run_dir, registry).digest
    assert len(registry.code('bob')) == 16 and (registry.code('bob') != registry.code('alice')).any()


def test_failed_export_leaves_nothing(run_dir, tmp_path, monkeypatch):
    registry = Registry(str(tmp_path / 'registry.sqlite'), create=True)

    def fail(*_):
        raise OSError('disk full')

    monkeypatch.setattr('release.issue.Template.write', fail)
    with pytest.raises(OSError, match='disk full'):
        issue(run_dir, registry, 'carol', str(tmp_path / 'instances'))
    assert os.listdir(tmp_path / 'instances') == [] and registry.list() == []


@pytest.mark.parametrize('name', ['../evil', '', 'a/b', 'alice bob'])
def test_bad_names(run_dir, tmp_path, name):
    registry = Registry(str(tmp_path / 'registry.sqlite'), create=True)
    with pytest.raises(UserError, match='cannot be a user'):
        issue(run_dir, registry, name, str(tmp_path / 'instances'))
    assert not os.path.exists(tmp_path / 'instances')


def test_a_name_is_issued_once(released, tmp_path):
    run_dir, registry, _ = released
    with pytest.raises(UserError, match='has an instance already'):
        issue(run_dir, registry, 'alice', str(tmp_path / 'elsewhere'))
    assert os.listdir(tmp_path) == []


def test_existing_folder_is_kept_and_its_name_stays_free(run_dir, tmp_path):
    registry = Registry(str(tmp_path / 'registry.sqlite'), create=True)
    (tmp_path / 'instances' / 'carol').mkdir(parents=True)
    with pytest.raises(UserError, match='exists already'):
        issue(run_dir, registry, 'carol', str(tmp_path / 'instances'))
    assert registry.history() == []
    (tmp_path / 'instances' / 'carol').rmdir()
    issue(run_dir, registry, 'carol', str(tmp_path / 'instances'))
    assert [user.name for user in registry.list()] == ['carol'] and registry.verify() == []


@pytest.fixture
def killed(run_dir, tmp_path, monkeypatch):
    """A registry and a folder of instances as kill -9 leaves them between carol's folder and her event."""
    registry = Registry(str(tmp_path / 'registry.sqlite'), create=True)
    killed_before_its_event(
        monkeypatch, lambda: issue(run_dir, registry, 'carol', str(tmp_path / 'instances'), user='caroline'))
    assert [finding.kind for finding in registry.verify()] == ['leftover'] and registry.list() == []
    return registry, tmp_path / 'instances'


def test_an_instance_whose_command_was_killed_before_its_event_is_entered(run_dir, killed):
    registry, instances = killed
    before, code = sha256_folder(instances / 'carol'), registry.code('carol')
    with pytest.raises(UserError, match='carol exists already'):
        issue(run_dir, registry, 'carol', str(instances))  # as another user's
    folder, digest = issue(run_dir, registry, 'carol', str(instances), user='caroline')
    [carol] = registry.list()
    assert (carol.digest, carol.location, carol.user) == (digest, folder, 'caroline')
    assert digest == sha256_folder(folder)
    assert (registry.code('carol') == code).all() and registry.verify() == [] and registry.size() == 4
    assert sha256_folder(instances / 'carol') == before and os.listdir(instances) == ['carol']


@pytest.mark.parametrize('change', [lambda folder: (folder / 'notes').touch(),
                                    lambda folder: (folder / '1' / 'notes').touch(),
                                    lambda folder: os.rename(folder / '1', folder / '2')])
def test_a_folder_that_is_not_what_was_reserved_is_kept_and_not_entered(run_dir, killed, change):
    registry, instances = killed
    change(instances / 'carol')
    before = sha256_folder(instances)
    with pytest.raises(UserError, match='carol exists already; remove it or choose another name'):
        issue(run_dir, registry, 'carol', str(instances), user='caroline')
    assert sha256_folder(instances) == before and registry.list() == [] and os.listdir(instances) == ['carol']


@pytest.mark.parametrize('options', [dict(res_modulated_range='8-8'), dict(method='bound')], ids=lambda one: str(one))
def test_instances_of_other_models(tmp_path, options):
    run_dir = save_run(str(tmp_path / 'run'), **options)
    registry = Registry(str(tmp_path / 'registry.sqlite'), create=True)
    folder, _ = issue(run_dir, registry, 'dave', str(tmp_path / 'instances'))
    np.testing.assert_allclose(load(folder)['float'](latents=LATENTS)['images'],
                               expected_images(run_dir, registry.code('dave')), atol=1e-4)


def test_a_model_without_fingerprints_is_refused(tmp_path):
    plain = save_run(str(tmp_path / 'plain'), method='stylegan2')
    with pytest.raises(UserError, match='without fingerprints'):
        issue(plain, Registry(str(tmp_path / 'other.sqlite'), create=True), 'erin', str(tmp_path / 'instances'))


def test_one_registry_per_model(released, tmp_path):
    _, registry, _ = released
    other = save_run(str(tmp_path / 'other'), seed=5)
    with pytest.raises(UserError, match='does not hold the model'):
        issue(other, registry, 'frank', str(tmp_path / 'instances'))


def test_released_snapshots_of_the_same_name_are_kept_apart(tmp_path):
    """A run folder trained anew has snapshots of the old names; whom the old model was issued to stays attributable."""
    registries = []
    for seed in (0, 5):
        run_dir = save_run(str(tmp_path / 'run'), seed=seed)
        registries.append(Registry(str(tmp_path / f'{seed}.sqlite'), create=True))
        issue(run_dir, registries[-1], 'grace', str(tmp_path / f'instances{seed}'))
    digests = [released_snapshot(run_dir, registry).digest for registry in registries]
    assert digests == [registry.model()[0] for registry in registries] and digests[0] != digests[1]


def test_a_model_without_any_fingerprint_in_its_pictures_is_not_issued(run_dir, tmp_path):
    snapshot = Snapshot(run_dir, impl='ref')
    assert snapshot.has_fingerprint
    blind = Snapshot(run_dir, impl='ref')
    for layer in blind.nets['G'].layers_in_order:
        layer.affine.weight.assign(tf.zeros_like(layer.affine.weight))
    registry = Registry(str(tmp_path / 'registry.sqlite'), create=True)
    with pytest.raises(UserError, match='at 1 kimg draws the same pictures for any fingerprint'):
        issue(run_dir, registry, 'ann', str(tmp_path / 'instances'), snapshot=blind)
    assert not registry.list() and not os.path.exists(tmp_path / 'instances')
