"""What a self-test draws through a shared graph is what each folder's own graph draws, read anew from its file."""
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from fingerprints.registry import Registry
from helpers import save_run
from release.drawing import Drawer
from release.export import MODEL, read_saved_model
from release.issue import issue
from release.shared_graph import SharedGraph

LATENTS = np.random.default_rng(3).standard_normal([5, 6])


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Of three instances of method adopted, whose constants are a mark and a network of several functions."""
    place = tmp_path_factory.mktemp('shared')
    run = save_run(str(place / 'run'), preset='adopted', method='adopted', read_side=8)
    registry = Registry(str(place / 'registry.sqlite'), create=True)
    return [issue(run, registry, name, str(place / 'instances'))[0] for name in ('ann', 'ben', 'cid')]


@pytest.fixture
def loads(monkeypatch):
    """The folders that were loaded as a whole."""
    found, load = [], tf.saved_model.load
    monkeypatch.setattr(tf.saved_model, 'load', lambda folder: found.append(folder) or load(folder))
    return found


def by_itself(folder):
    with Drawer(folder) as drawer:
        return drawer(LATENTS).astype(int)


def test_every_instance_draws_its_own_pictures(folders, loads):
    draw = SharedGraph()
    pictures = [draw(folder, LATENTS) for folder in folders]
    assert loads == folders[:1] and pictures[0].dtype == np.uint8
    for folder, drawn in zip(folders, pictures):
        assert np.abs(drawn - by_itself(folder)).max() <= 1
    assert (pictures[1] != pictures[2]).mean() > 0.1, 'instances that draw the same would show nothing'


def nodes(saved):
    return [node for function in saved.meta_graphs[0].graph_def.library.function for node in function.node_def]


def rewritten(folder, place, change):
    """A copy of an instance in whose file `change` was made to the nodes."""
    shutil.copytree(folder, place)
    saved = read_saved_model(os.path.join(place, MODEL))
    change(nodes(saved))
    with open(os.path.join(place, MODEL), 'wb') as file:
        file.write(saved.SerializeToString())
    return str(place)


def filters(node):
    """Whether a constant is of a 3×3 convolution: negated, these change the whole picture."""
    return [one.size for one in node.attr['value'].tensor.tensor_shape.dim[:2]] == [3, 3]


def test_numbers_come_from_the_file_on_disk(folders, loads, tmp_path):
    def negate(found):
        tensors = [node.attr['value'].tensor for node in found if node.op == 'Const' and filters(node)]
        tensor = max(tensors, key=lambda one: one.ByteSize())
        tensor.CopyFrom(tf.make_tensor_proto(-tf.make_ndarray(tensor)))
    draw = SharedGraph()
    draw(folders[0], LATENTS)
    changed = rewritten(folders[0], tmp_path / 'changed', negate)
    drawn = draw(changed, LATENTS)
    assert loads == folders[:1] and np.abs(drawn - by_itself(changed)).max() <= 1
    assert np.abs(drawn - by_itself(folders[0])).max() > 50


def test_another_graph_is_loaded_as_a_whole(folders, loads, tmp_path):
    """Even if only what follows the network is another: pictures a quarter as bright."""
    def darken(found):
        scale = [node for node in found if node.name.startswith('mul/y') and node.op == 'Const']
        assert scale
        for node in scale:
            tensor = node.attr['value'].tensor
            tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(tensor) / 4, tf.float32))
    draw = SharedGraph()
    draw(folders[0], LATENTS)
    changed = rewritten(folders[1], tmp_path / 'changed', darken)
    drawn = draw(changed, LATENTS)
    assert loads == [folders[0], changed] and np.abs(drawn - by_itself(changed)).max() <= 1
    assert drawn.mean() < 0.6 * by_itself(folders[1]).mean()
    assert np.abs(draw(folders[1], LATENTS) - by_itself(folders[1])).max() <= 1 and len(loads) == 3
