"""The whole path in one call: train, issue, draw, save, attribute, report."""
import os
import shutil
import time

import numpy as np
import tensorflow as tf
from PIL import Image

from datasets.sources import find_dataset
from dnnlib.util import make_folder, progress, write_json
from fingerprints.registry import Registry
from metrics.base import Options, run_metric
from release.attribute import Attributor
from release.instance import issue
from release.report import attribution_table, residual_picture
from training.config import make_config
from training.evaluation import snapshot_model
from training.state import Snapshot
from training.training_loop import Plan, train

USERS = ('alice', 'bob')
IMAGES = 64
RATES = (1e-3, 1e-6)
COLUMNS = 12


def demo(out, total_kimg=None):
    """Trains quickstart on digits, issues two users, attributes 64 images of each and 64 real ones. Returns seconds.

    `out` gets data, run, registry, instances, images, report.json and demo.png. A second call resumes the training
    and issues anew.
    """
    begun = time.time()
    make_folder(out)
    dataset = find_dataset('digits', os.path.join(out, 'data'))
    config = make_config('quickstart', {'total_kimg': total_kimg} if total_kimg else {})
    run_dir = os.path.join(out, 'run')
    print(f'1. Training on {dataset.num_images("train")} digits, {config.fingerprint_bits} bits, '
          f'{config.total_kimg} kimg, on the CPU; {run_dir}/log.txt keeps this', flush=True)
    train(Plan('quickstart', config, run_dir, 0), dataset)
    snapshot = Snapshot(run_dir)
    print('2. Bit accuracy over 1000 latents and fingerprints', flush=True)
    accuracy = run_metric('bit_accuracy', snapshot_model(snapshot), dataset, Options(num_images=1000))
    print(f'   float {accuracy["float"]:.4f}  uint8 {accuracy["uint8"]:.4f}  saved PNG {accuracy["png"]:.4f}')
    rows, report = release(out, run_dir, dataset, snapshot.config)
    print(attribution_table(rows, config.fingerprint_bits, len(USERS), RATES))
    write_json(os.path.join(out, 'report.json'), {'bit_accuracy': accuracy, 'images': report})
    print(f'The picture: {os.path.join(out, "demo.png")}')
    return time.time() - begun


def release(out, run_dir, dataset, config):
    """Issues USERS, lets each SavedModel draw, attributes everything. Returns report rows and JSON records."""
    for name in ('instances', 'images'):
        shutil.rmtree(os.path.join(out, name), ignore_errors=True)
    path = os.path.join(out, 'registry.sqlite')
    if os.path.exists(path):
        os.unlink(path)
    registry = Registry(path, create=True)
    print(f'3. Issuing {" and ".join(USERS)}', flush=True)
    folders = {}
    for name in USERS:
        started = time.time()
        folders[name], digest = issue(run_dir, registry, name, os.path.join(out, 'instances'))
        print(f'   {folders[name]}  sha256 {digest[:16]}…  {time.time() - started:.1f}s')
    print(f'4. Drawing {IMAGES} images from each instance, and taking {IMAGES} real ones; saved as PNG', flush=True)
    latents = np.random.default_rng(2).standard_normal([IMAGES, config.latent_dim]).astype(np.float32)
    images = {name: draw(folder, latents) for name, folder in folders.items()}
    residual_picture(os.path.join(out, 'demo.png'), {name: images[name][:COLUMNS] for name in USERS}, USERS,
                     max(1, 96 // dataset.resolution))
    images['real digits'] = next(dataset.images('eval', IMAGES, IMAGES))
    print('5. Attributing all of them', flush=True)
    attributor = Attributor(run_dir, registry)
    rows = []
    for source, pictures in images.items():
        paths = save_images(pictures, os.path.join(out, 'images', source.replace(' ', '_')))
        rows.append((source, source if source in USERS else None, list(attributor(paths, RATES[0]))))
    return rows, {source: [result.record() for result in results] for source, _, results in rows}


def draw(folder, latents):
    """The uint8 images [N, H, W, 3] that a SavedModel draws of latents, as any serving client would have it do."""
    serve = tf.saved_model.load(folder).signatures['serving_default']
    return serve(latents=tf.constant(latents))['images'].numpy()


def save_images(images, folder):
    """Saves uint8 images as 000.png, 001.png ... Returns their paths."""
    make_folder(folder)
    paths = [os.path.join(folder, f'{i:03d}.png') for i in range(len(images))]
    for path, image in progress(list(zip(paths, images)), desc='save'):
        Image.fromarray(image).save(path)
    return paths
