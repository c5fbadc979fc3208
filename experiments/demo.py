"""The whole path in one call: train, issue, generate, save, attribute, report. It deletes nothing."""
import os
import time

import numpy as np
from PIL import Image

from datasets.sources import find_dataset
from dnnlib.pictures import tile_zoom
from dnnlib.util import UserError, make_folder, naming, progress, read_json, read_json_lines, write_json
from fingerprints.registry import Registry
from metrics.base import Options, run_metric
from release.attribute import Attributor
from release.drawing import Drawer
from release.issue import issue
from release.report import attribution_table, residual_picture
from training.config import Plan, make_config
from training.loop import METRICS, train
from training.snapshot import Snapshot

USERS = ('alice', 'bob')
IMAGES = 64
RATES = (1e-3, 1e-6)
COLUMNS = 12
MARKER = 'demo.json'  # tells a folder that the demo made from any other
REGISTRY = 'registry.sqlite'


def demo(out, total_kimg=None):
    """Trains quickstart on digits, issues two users, attributes 64 images of each and 64 real ones. Returns seconds.

    `out` gets data, run, registry, instances, images, report.json and demo.png. A second call resumes: it trains what
    is left and issues who has no instance yet.

    Raises:
        UserError: `out` holds what the demo did not make, or instances of a shorter or longer training.
    """
    begun = time.time()
    config = make_config('quickstart', {'total_kimg': total_kimg} if total_kimg else {})
    claim(out, config.total_kimg)
    dataset = find_dataset('digits', os.path.join(out, 'data'))
    run_dir = os.path.join(out, 'run')
    print(f'1. Training on {dataset.num_images("train")} digits, {config.fingerprint_bits} bits, '
          f'{config.total_kimg} kimg, on the CPU; {run_dir}/log.txt keeps this', flush=True)
    train(Plan('quickstart', config, run_dir, 0), dataset)
    snapshot = Snapshot(run_dir)
    print('2. Bit accuracy over 1000 latents and fingerprints', flush=True)
    accuracy = run_metric('bit_accuracy', snapshot.model(), dataset, Options(num_images=1000))
    print(f'   float {accuracy["float"]:.4f}  uint8 {accuracy["uint8"]:.4f}  saved PNG {accuracy["png"]:.4f}')
    measured = read_json_lines(os.path.join(run_dir, METRICS))  # training measured forgery at its last snapshot
    forgery = [record for record in measured if record['metric'] == 'forgery'][-1]
    print(f'   copied marks: {forgery["summary"]}', flush=True)
    rows, report = release(out, run_dir, dataset, snapshot.config)
    print(attribution_table(rows, config.fingerprint_bits, len(USERS), RATES))
    write_json(os.path.join(out, 'report.json'), {'bit_accuracy': accuracy, 'forgery': forgery, 'images': report})
    print(f'The picture: {os.path.join(out, "demo.png")}')
    return time.time() - begun


def claim(out, total_kimg):
    """Makes `out` the demo's folder. Raises UserError for a folder of something else, or of another demo."""
    marker = os.path.join(out, MARKER)
    if os.path.isdir(out) and os.listdir(out) and not os.path.exists(marker):
        raise UserError(f'{out} holds files that the demo did not make; name a new or empty folder with --out')
    if os.path.exists(os.path.join(out, REGISTRY)) and read_json(marker)['total_kimg'] != total_kimg:
        raise UserError(f'{out} holds instances of a training of {read_json(marker)["total_kimg"]} kimg, not '
                        f'{total_kimg}; name another folder with --out')
    make_folder(out)
    write_json(marker, {'made_by': 'run_release.py demo', 'total_kimg': total_kimg})


def release(out, run_dir, dataset, config):
    """Issues USERS, lets each SavedModel draw, attributes everything. Returns report rows and JSON records."""
    registry = Registry(os.path.join(out, REGISTRY), create=True)
    print(f'3. Issuing {" and ".join(USERS)}', flush=True)
    folders = {name: issued_folder(run_dir, registry, name, os.path.join(out, 'instances')) for name in USERS}
    print(f'4. Drawing {IMAGES} images from each instance, and taking {IMAGES} real ones; saved as PNG', flush=True)
    latents = np.random.default_rng(2).standard_normal([IMAGES, config.latent_dim]).astype(np.float32)
    images = {name: Drawer(folder)(latents) for name, folder in folders.items()}
    residual_picture(os.path.join(out, 'demo.png'), {name: images[name][:COLUMNS] for name in USERS}, USERS,
                     tile_zoom(dataset.resolution))
    images['real digits'] = next(dataset.images('eval', IMAGES, IMAGES))
    print('5. Attributing all of them', flush=True)
    attributor = Attributor(run_dir, registry)
    rows = []
    for source, pictures in images.items():
        paths = save_images(pictures, os.path.join(out, 'images', source.replace(' ', '_')))
        rows.append((source, source if source in USERS else None, list(attributor(paths, RATES[0]))))
    return rows, {source: [result.record() for result in results] for source, _, results in rows}


def issued_folder(run_dir, registry, name, instances):
    """The folder of the user's instance, which is issued if the registry does not hold the user yet."""
    folder = os.path.join(instances, name, '1')
    if name in [user.name for user in registry.list()]:
        if not os.path.isdir(folder):
            raise UserError(f'{folder} is missing, though {name} has been issued; name another folder with --out')
        print(f'   {folder} is there', flush=True)
        return folder
    started = time.time()
    folder, digest = issue(run_dir, registry, name, instances)
    print(f'   {folder}  sha256 {digest[:16]}…  {time.time() - started:.1f}s', flush=True)
    return folder


def save_images(images, folder):
    """Saves uint8 images as 000.png, 001.png ... Returns their paths."""
    make_folder(folder)
    paths = [os.path.join(folder, f'{i:03d}.png') for i in range(len(images))]
    for path, image in progress(list(zip(paths, images)), desc='save'):
        with naming(path):
            Image.fromarray(image).save(path)
    return paths
