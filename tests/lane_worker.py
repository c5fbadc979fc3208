"""A program for test_lanes.py, run by the Python of either lane.

    lane_worker.py make FOLDER OUT     writes a run with one snapshot and an instance issued from it, then draws
    lane_worker.py draw FOLDER OUT     what this lane's TensorFlow makes of both: arrays, in the file OUT (.npz)
"""
import os
import sys

import numpy as np

import dnnlib  # noqa: F401  (before TensorFlow: it chooses the Keras)
from helpers import BITS, save_run


def make(folder, out):
    """Writes FOLDER/run and FOLDER/instances/alice, then draws."""
    from fingerprints.registry import Registry
    from release.issue import issue
    save_run(os.path.join(folder, 'run'))
    registry = Registry(os.path.join(folder, 'registry.sqlite'), create=True)
    issue(os.path.join(folder, 'run'), registry, 'alice', os.path.join(folder, 'instances'))
    draw(folder, out)


def draw(folder, out):
    """Saves images and logits of the snapshot, images of the instance, and every variable of the training state."""
    import tensorflow as tf

    from training.snapshot import Snapshot
    from training.state import TrainState, restore
    snapshot = Snapshot(os.path.join(folder, 'run'))
    model = snapshot.model()
    rng = np.random.default_rng(0)
    latents = rng.standard_normal([8, model.latent_dim]).astype(np.float32)
    images = model.generate(latents, rng.integers(0, 2, [8, BITS]))
    instance = tf.saved_model.load(os.path.join(folder, 'instances', 'alice', '1'))
    arrays = {'images': images, 'logits': model.decode(images),
              'instance': instance.signatures['float'](latents=tf.constant(latents))['images'].numpy()}
    state = TrainState(snapshot.config, snapshot.resolution)
    restore(state.checkpoint(), snapshot.path)  # all that the file holds: Adam's slots too
    variables = [*state.variables]
    for name in sorted(state.optimizers):
        variables += state.optimizers[name].variables()
    np.savez(out, **arrays, **{f'variable {i}': variable.numpy() for i, variable in enumerate(variables)})


if __name__ == '__main__':
    {'make': make, 'draw': draw}[sys.argv[1]](*sys.argv[2:])
