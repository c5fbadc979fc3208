"""Issuing: draw a fingerprint, bake it into every filter, export the plain network that leaves the house.

Yu et al. 2022 (arXiv 2012.08726, section 3): a user's instance is G(·, c) with its filters modulated once.
"""
import dataclasses
import os
import shutil

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dnnlib.util import UserError, atomic_folder, sha256_folder
from fingerprints.registry import check_name
from training.networks import Generator
from training.state import Snapshot, list_snapshots, snapshot_digest, snapshot_files

RELEASED = 'released'
VERSION = '1'


def bake(config, encoder, generator, code):
    """The plain generator whose filters are those that `code` [bits] of 0 and 1 makes of `generator`'s.

    It is a Generator without modulated layers: each filter is modulated and demodulated once (arXiv 1912.04958,
    equations 1 and 3); biases, noise and the input layer are copied. Its ops are 'ref' ones.
    """
    baked = Generator(dataclasses.replace(config, ops='ref'), generator.resolution, modulated=False)
    bake_into(baked, encoder, generator, code)
    return baked


def bake_into(baked, encoder, generator, code):
    """Assigns to a Generator without modulated layers the filters of `generator` that `code` makes, and the rest."""
    embedding = encoder(tf.cast(code, tf.float32)[tf.newaxis])[0]
    for source, target in zip(generator.layers_in_order(), baked.layers_in_order()):
        target.weight.assign(source.baked_weight(embedding) / target.weight_gain)
        target.bias.assign(source.bias)
        if source.noise_strength is not None:
            target.noise_strength.assign(source.noise_strength)
    copies = zip(generator.input_layer.variables + generator.fixed_noise,
                 baked.input_layer.variables + baked.fixed_noise)
    for source, target in copies:
        target.assign(source)


def to_uint8(images):
    """dnnlib.images.to_uint8 in TensorFlow: [-1, 1] to 0..255, rounded, clipped."""
    return tf.cast(tf.clip_by_value(tf.round((images + 1) * 127.5), 0, 255), tf.uint8)


def export(generator, latent_dim, folder):
    """Writes a generator as a SavedModel of constants and TensorFlow's own ops.

    Signatures, both of `latents` [N, latent_dim] float32 with N free: 'serving_default' returns `images`
    [N, H, W, 3] uint8; 'float' returns them as float32, in [-1, 1] but for overshoot.
    """
    spec = tf.TensorSpec([None, latent_dim], tf.float32, name='latents')
    concrete = tf.function(generator, input_signature=[spec]).get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete)
    shape = [None, generator.resolution, generator.resolution, 3]

    def as_float(latents):
        return {'images': tf.ensure_shape(frozen(latents)[0], shape)}

    def as_uint8(latents):
        return {'images': to_uint8(as_float(latents)['images'])}

    module = tf.Module()
    module.serve, module.serve_float = (tf.function(function, input_signature=[spec])
                                        for function in (as_uint8, as_float))
    tf.saved_model.save(module, folder, signatures={'serving_default': module.serve, 'float': module.serve_float})


def issue(run_dir, registry, name, out, kimg=None, snapshot=None):
    """Issues one user's instance into out/NAME/1 and enters it into the registry.

    The instance's folder appears only once the registry holds its fingerprint, and a failure leaves neither. The
    snapshot is copied to RUN_DIR/released, where training never removes it: attribution needs its decoder.

    Args:
        run_dir: the training run; kimg: its snapshot, None for the released or else the latest one.
        registry: fingerprints.registry.Registry.
        name: the user, also the folder's name.
        out: the folder of all instances.
        snapshot: an already loaded training.state.Snapshot instead of run_dir's.

    Returns:
        (folder, sha256 of the SavedModel).

    Raises:
        UserError: a bad or taken name, an existing folder, a registry of another model, a run without fingerprints.
    """
    check_name(name)
    snapshot = snapshot or issuing_snapshot(run_dir, registry, kimg)
    config, target = snapshot.config, os.path.join(out, name)
    with atomic_folder(target) as temporary:
        with registry.issue(name, snapshot.digest, config.fingerprint_bits) as issued:
            keep_released(run_dir, snapshot)
            model = os.path.join(temporary, VERSION)
            export(bake(config, snapshot.encoder, snapshot.generator, issued.code), config.latent_dim, model)
            issued.digest, issued.instance = sha256_folder(model), os.path.join(target, VERSION)
    return issued.instance, issued.digest


def issuing_snapshot(run_dir, registry, kimg=None):
    """The Snapshot to issue from: the registry's own where it has issued before, else the one asked for or latest."""
    if registry.model() and kimg is None:
        return released_snapshot(run_dir, registry)
    snapshot = Snapshot(run_dir, kimg, ops='ref')
    if snapshot.decoder is None:
        raise UserError(f'{run_dir} was trained without fingerprints; issue from a run of --generator=fingerprinted')
    return snapshot


def released_folder(digest):
    """Where, within a run, the snapshot of this digest is kept: its name alone may be that of another model."""
    return os.path.join(RELEASED, digest[:16])


def keep_released(run_dir, snapshot):
    """Copies a snapshot's files to RUN_DIR/released/DIGEST unless they are there."""
    folder = os.path.join(run_dir, released_folder(snapshot.digest))
    if os.path.isdir(folder):
        return
    with atomic_folder(folder) as temporary:
        for file in snapshot_files(snapshot.path):
            shutil.copy(file, temporary)


def released_snapshot(run_dir, registry):
    """The Snapshot that the registry's instances came from. Raises UserError where the run does not hold it."""
    known = registry.model()
    if known is None:
        raise UserError(f'{registry.where} holds no users, so there is no one to attribute to; issue an instance first')
    folder = released_folder(known[0])
    for kimg, path in list_snapshots(run_dir, folder):
        if snapshot_digest(path) == known[0]:
            return Snapshot(run_dir, kimg, ops='ref', folder=folder)
    raise UserError(f'{run_dir} does not hold the model of {registry.where} (digest {known[0][:12]}…); '
                    'name the run whose instances were issued with --run')
