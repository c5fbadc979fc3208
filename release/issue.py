"""Issuing: draw a fingerprint, bake it into every filter, export the plain network that its user gets.

Yu et al. 2022 (arXiv 2012.08726, section 3): a user's instance is G(·, c) with its filters modulated once.
"""
import os
import tempfile
from typing import Optional

from dnnlib.util import INCOMPLETE, UserError, atomic_folder, sha256_folder
from fingerprints.registry import Registry, check_name
from release.export import export
from training.snapshot import Snapshot, find_released, keep_released

VERSION = '1'


def issue(run_dir: str, registry: Registry, name: str, out: str, kimg: Optional[int] = None,
          snapshot: Optional[Snapshot] = None, user: Optional[str] = None) -> tuple[str, str]:
    """Issues one user's instance into out/NAME/1 and enters it into the registry.

    The registry reserves the name and the code first, and no lock is held while the instance is made. A failure leaves
    no folder and frees the name. What a killed command leaves, the same command takes over, and `Registry.verify`
    names until then. The snapshot is copied to
    RUN_DIR/released, where training never removes it: attribution needs its decoder.

    Args:
        run_dir: the training run; kimg: its snapshot, None for the released or else the latest one.
        registry: who has an instance.
        name: the instance's, also the folder's: the user's own for their only one.
        out: the folder of all instances.
        snapshot: an already loaded Snapshot instead of run_dir's.
        user: whose the instance is, if not called the same.

    Returns:
        (folder, sha256 of the SavedModel).

    Raises:
        UserError: a bad or taken name, an existing folder, a registry of another model, a run without fingerprints, or
            a snapshot whose pictures do not show them.
    """
    check_name(name)
    snapshot = snapshot or issuing_snapshot(run_dir, registry, kimg)
    target = os.path.join(out, name)
    if os.path.exists(target):  # before anything is reserved
        return _finish(registry, name, user or name, snapshot, target)
    if not snapshot.has_fingerprint:
        raise UserError(f'{run_dir}: the snapshot at {snapshot.kimg} kimg draws the same pictures for any fingerprint, '
                        'so that no instance could be told from another; issue from a later one or another run')
    with registry.issue(name, snapshot.digest, snapshot.config.fingerprint_bits, user) as issued:
        with atomic_folder(target) as temporary:
            keep_released(run_dir, snapshot)
            model = os.path.join(temporary, VERSION)
            export(snapshot.method.bake(snapshot.nets, issued.code), model)
            issued.digest = sha256_folder(model)
        issued.instance = os.path.join(target, VERSION)
    return issued.instance, issued.digest


def _finish(registry, name, user, snapshot, target):
    """Enters the instance of a command that was killed when its folder was in place, but not in the ledger yet.

    That the folder holds the reserved code is seen by exporting it again: the bytes depend on code and model alone.
    """
    found, folder = registry.unfinished(name), os.path.join(target, VERSION)
    if found and (found.name, found.user, found.model_digest) == (name, user, snapshot.digest):
        digest = sha256_folder(folder)
        if os.listdir(target) == [VERSION] and _digest_again(registry.code(name), snapshot, target) == digest:
            registry.finish(found, digest, folder)
            return folder, digest
    raise UserError(f'{target} exists already; remove it or choose another name')


def _digest_again(code, snapshot, target):
    # Its name is that of a temporary folder of atomic_folder: should this process be killed too, it will be removed.
    parent, name = os.path.split(os.path.abspath(target))
    with tempfile.TemporaryDirectory(dir=parent, prefix=f'.{name}-', suffix=INCOMPLETE) as temporary:
        export(snapshot.method.bake(snapshot.nets, code), os.path.join(temporary, VERSION))
        return sha256_folder(os.path.join(temporary, VERSION))


def issuing_snapshot(run_dir: str, registry: Registry, kimg: Optional[int] = None) -> Snapshot:
    """The Snapshot to issue from: the registry's own if it has issued before, else the one asked for or latest."""
    if registry.model() and kimg is None:
        return released_snapshot(run_dir, registry)
    snapshot = Snapshot(run_dir, kimg, impl='ref')
    if not snapshot.can_bake:
        raise UserError(f'{run_dir} was trained without fingerprints; issue from a run of --method=fingerprinted')
    return snapshot


def released_snapshot(run_dir: str, registry: Registry) -> Snapshot:
    """The Snapshot that the registry's instances came from: of its models the newest one that the run holds.

    Raises UserError if the run holds none of them.
    """
    digests = [model['model_digest'] for model in registry.models()]
    if not digests:
        raise UserError(f'{registry.location} holds no users, so there is no one to attribute to; issue an instance '
                        'first')
    errors = []
    for digest in reversed(digests):
        try:
            return find_released(run_dir, digest)
        except UserError as error:
            errors.append(error)
    raise errors[0]


def register(run_dir: str, registry: Registry, kimg: Optional[int] = None) -> str:
    """Adds a run's model to a registry, and keeps its snapshot for attribution. Returns its digest.

    Raises:
        UserError: a run without fingerprints, or the model is registered already.
    """
    snapshot = Snapshot(run_dir, kimg, impl='ref')
    if not snapshot.can_bake:
        raise UserError(f'{run_dir} was trained without fingerprints; register a run of --method=fingerprinted')
    keep_released(run_dir, snapshot)
    registry.register_model(snapshot.digest, snapshot.config.fingerprint_bits)
    return snapshot.digest
