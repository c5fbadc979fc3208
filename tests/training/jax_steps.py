"""Runs a few steps of a package in JAX and saves all that they did; a test starts it: PACKAGE FOLDER STEPS."""
import sys

import numpy as np

from training.xla_run import Package, read_reals, run_step


def main(folder, out, steps):
    package = Package(folder)
    package.run('initialize', seed=np.array([0, -1], np.int32))
    package.save(f'{out}/before.npz')
    reals = read_reals(folder)
    np.save(f'{out}/reals.npy', reals)
    rows = [run_step(package, step, reals[20 * step:20 * step + 20]) for step in range(steps)]
    np.savez(f'{out}/statistics.npz', **{f'{i} {k}': v for i, row in enumerate(rows) for k, v in row.items()})
    package.save(f'{out}/after.npz')
    rng = np.random.default_rng(0)
    latents, bits = rng.standard_normal([20, 6]).astype(np.float32), rng.integers(0, 2, [20, 8]).astype(np.float32)
    images = np.asarray(package.run('generate', latents=latents, fingerprints=bits)['result'])
    package.run('bake', fingerprint=bits[0])
    instance = np.asarray(package.run('instance', latents=latents)['result'])
    logits = np.asarray(package.run('decode', images=images)['result'])
    np.savez(f'{out}/images.npz', latents=latents, bits=bits, images=images, instance=instance, logits=logits)


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
