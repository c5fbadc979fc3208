"""Issuing: draw a fingerprint, bake it into every filter, export the plain network that its user gets.

Yu et al. 2022 (arXiv 2012.08726, section 3): a user's instance is G(·, c) with its filters modulated once.
"""
import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator
from typing import Optional

import numpy as np

from dnnlib.images import to_uint8
from dnnlib.util import INCOMPLETE, UserError, atomic_folder, sha256_file, sha256_folder
from fingerprints.instances import Form, Instance
from fingerprints.registry import Registry, check_name
from metrics.similarity import psnr, squared_error
from release.card import write_card
from release.export import Template
from release.onnx_files import ONNX, OnnxExporter, onnx_pictures
from release.selftest import SelfTest, check, latents, self_test
from release.shared_graph import SharedGraph
from release.signing import SUFFIX, Signer
from release.warmup import write_warmup
from training.snapshot import Snapshot, find_released, keep_released

VERSION = '1'
FIXED_TIME = 315532800  # of every issued file: 1980, the first that a zip can hold; not when it was made
MODEL_NAME = 'StyleGAN2 generator'
ONNX_REMEDY = 'leave --onnx out, or give --selftest=false'  # of an instance that is issued already, and stays as it is


@dataclasses.dataclass(frozen=True)
class HandOver:
    """What an instance goes through before it leaves, and what is said on its card.

    required: those of selftest.FORMATS in which its pictures must be read back; none: it is not tested. A folder that
        is written again never is: it has the bytes that were issued.
    model_name, licence: for its card.
    signer: signs its folder, and its ONNX file; None: they are not signed.
    onnx: writes it as an ONNX file too; None: not.
    form: what a new one differs in from others, unless it is given its own; an issued one keeps its own.
    """
    required: tuple[str, ...] = ()
    model_name: str = MODEL_NAME
    licence: str = ''
    signer: Optional[Signer] = None
    onnx: Optional[OnnxExporter] = None
    form: Form = Form()


@dataclasses.dataclass(frozen=True)
class Issued:
    """An instance that was written: its folder, the folder's sha256, and the self-test it passed, if there was one.

    onnx_test, onnx_digest: of its ONNX file, if there is one.
    float16: whether its weights are stored so; psnr: then, in dB, of its self-test's pictures to those of the same
        numbers in float32; None if they are equal.
    """
    folder: str
    digest: str
    test: Optional[SelfTest] = None
    onnx_test: Optional[SelfTest] = None
    onnx_digest: str = ''
    float16: bool = False
    psnr: Optional[float] = None


class Issuer:
    """Issues instances of one run. What they share, their graph and the decoder, is made once.

    Args:
        run_dir: the training run.
        registry: who has an instance.
        out: the folder of all instances.
        snapshot: a loaded Snapshot instead of `issuing_snapshot`'s.
        hand_over: what each goes through.

    Raises:
        UserError: a run without fingerprints, a registry of another model, or a snapshot whose pictures do not show
            fingerprints, or without noise where the form asks for noise images.
    """

    def __init__(self, run_dir: str, registry: Registry, out: str, snapshot: Optional[Snapshot] = None,
                 hand_over: Optional[HandOver] = None):
        self.run_dir, self.registry, self.out = run_dir, registry, out
        self.snapshot = snapshot or issuing_snapshot(run_dir, registry)
        self.hand_over = hand_over or HandOver()
        self._generator = self._model = None
        self._templates: dict[bool, Template] = {}  # in float16 or not
        self._draw = SharedGraph()
        if not self.snapshot.has_fingerprint:
            raise UserError(f'{run_dir}: the snapshot at {self.snapshot.kimg} kimg draws the same pictures for any '
                            'fingerprint, so that no instance could be told from another; issue from a later one or '
                            'another run')
        self.check(self.hand_over.form)

    def check(self, form: Form) -> None:
        """Raises UserError if no instance can have this form; else it does once something is reserved."""
        if form.noise_seed is not None:
            self._bake(np.zeros(self.snapshot.config.fingerprint_bits, np.uint8), form)

    def __call__(self, name: str, user: Optional[str] = None, form: Optional[Form] = None) -> Issued:
        """Issues one user's instance into OUT/NAME/1 and enters it into the registry.

        The registry reserves the name and the code first, and no lock is held while the instance is made. A failure,
        of the self-test too, leaves no folder and frees the name. What a killed command leaves, the same command takes
        over, and `Registry.verify` names until then. The snapshot is copied to RUN_DIR/released, where training never
        removes it: attribution needs its decoder.

        Args:
            name: the instance's, also the folder's: the user's own for their only one.
            user: whose the instance is, if not called the same.
            form: what it differs in from others, if not `hand_over`'s.

        Raises:
            UserError: a bad or taken name, an existing folder, or a fingerprint that does not read.
        """
        target, form = self._target(name), form or self.hand_over.form
        if os.path.exists(target):  # before anything is reserved
            return self._finish(name, user or name, form, target)
        num_bits = self.snapshot.config.fingerprint_bits
        keep_released(self.run_dir, self.snapshot)  # before the registry knows of the model, and asks the run for it
        with self.registry.issue(name, self.snapshot.digest, num_bits, user, form) as issued:
            with self._written(name, issued.code, form, target) as made:
                issued.digest, issued.instance, issued.onnx_digest = made.digest, made.folder, made.onnx_digest
        return made

    def again(self, instance: Instance) -> Issued:
        """Writes an issued instance's folder anew, from the code in the registry: the same bytes, or nothing.

        An ONNX file, if that is asked for, has other bytes every time, so that each one is tested and entered.

        Raises:
            UserError: an existing folder, an instance of another model, bytes that are not those of the ledger, or an
                ONNX file whose fingerprint does not read.
        """
        if instance.model_digest != self.snapshot.digest:
            raise UserError(f'{instance.name} is of the model {instance.model_digest[:12]}…, not of this run\'s '
                            f'{self.snapshot.digest[:12]}…; name its run')
        target = self._target(instance.name)
        if os.path.exists(target):
            raise self._taken(target)
        code = self.registry.code(instance.name)
        with self._written(instance.name, code, instance.form, target, again=True) as made:
            if made.digest != instance.digest:
                raise UserError(f'{instance.name} comes out with the sha256 {made.digest[:16]}…, not as issued with '
                                f'{instance.digest[:16]}…; give the --model-name and --licence of then, and take the '
                                'same processor and versions, or issue a new instance')
            if made.onnx_digest:  # before it is in place: whatever ends this command here, no file is out unknown
                self.registry.record_onnx(instance.name, made.onnx_digest)
        return made

    def _finish(self, name, user, form, target):
        """Enters the instance of a command that was killed when its folder was in place, but not in the ledger yet.

        That the folder holds the reserved code is seen by writing it again: the bytes depend on code, model and card
        alone.
        """
        found, folder = self.registry.unfinished(name), os.path.join(target, VERSION)
        expected = (name, user, self.snapshot.digest, form)
        if found and (found.name, found.user, found.model_digest, found.form) == expected:
            digest, code = sha256_folder(folder), self.registry.code(name)
            onnx = (ONNX, ONNX + SUFFIX) if self.hand_over.onnx else ()  # else there must be none: it is not entered
            known = {VERSION + ending for ending in ('', SUFFIX, *onnx)}
            if known.issuperset(os.listdir(target)) and self._digest_again(code, found.form, target) == digest:
                made = self._completed(name, code, found.form, folder)  # it may have been asked for less
                set_times(target)
                self.registry.finish(found, digest, folder, made.onnx_digest)
                return made
        raise self._taken(target)

    def _digest_again(self, code, form, target):
        # Its name is that of a temporary folder of atomic_folder: should this process be killed too, it is removed.
        parent, name = os.path.split(os.path.abspath(target))
        with tempfile.TemporaryDirectory(dir=parent, prefix=f'.{name}-', suffix=INCOMPLETE) as temporary:
            folder = os.path.join(temporary, VERSION)
            self._write(code, form, folder)
            return sha256_folder(folder)

    def _target(self, name):
        check_name(name)
        return os.path.join(self.out, name)

    def _taken(self, target):
        return UserError(f'{target} exists already; remove it or choose another name')

    @contextlib.contextmanager
    def _written(self, name, code, form, target, again=False) -> Iterator[Issued]:
        """The Issued that becomes `target` unless the block or anything before it fails."""
        with atomic_folder(target) as temporary:
            folder = os.path.join(temporary, VERSION)
            self._write(code, form, folder)
            made = self._completed(name, code, form, folder, again)
            set_times(temporary)
            yield dataclasses.replace(made, folder=os.path.join(target, VERSION))

    def _write(self, code, form, folder):
        """What a user gets: the SavedModel, its warm-up and its card."""
        self._bake(code, form).write(folder)
        write_warmup(folder, self._generator.config.latent_dim)
        write_card(folder, self._generator, self.hand_over.model_name, self.hand_over.licence)

    def _bake(self, code, form):
        """The Template, filled with the code's filters."""
        snapshot = self.snapshot
        self._generator = snapshot.method.bake(snapshot.nets, code, into=self._generator)
        if form.noise_seed is not None:
            self._generator.draw_noise(form.noise_seed)
        if form.float16 not in self._templates:
            self._templates[form.float16] = Template(self._generator, form.float16)
        return self._templates[form.float16]

    def _completed(self, name, code, form, folder, again=False):
        """The Issued of a folder just written, tested and signed, with its ONNX file likewise, if these are asked for.

        The generator still holds its numbers. `again`: of a folder that was issued, whose bytes are the test of it.
        """
        given = latents(self._generator.config.latent_dim)
        made = Issued(folder, sha256_folder(folder), float16=form.float16)
        if self.hand_over.required and not again:
            images = self._draw(folder, given)
            made = dataclasses.replace(made, test=self._tested(name, code, images))
            if form.float16:
                exact = to_uint8(self._generator(given).numpy())
                made = dataclasses.replace(made, psnr=psnr(squared_error(images, exact)))
        if self.hand_over.onnx:
            self.hand_over.onnx(folder, folder + ONNX)
            made = dataclasses.replace(made, onnx_digest=sha256_file(folder + ONNX))
            if self.hand_over.required:
                images, remedy = onnx_pictures(folder + ONNX, given), ONNX_REMEDY if again else ''
                made = dataclasses.replace(made, onnx_test=self._tested(f'{name} as ONNX', code, images, remedy))
        if self.hand_over.signer:
            for path in [folder, *([folder + ONNX] if self.hand_over.onnx else [])]:
                self.hand_over.signer(path, path + SUFFIX)
        return made

    def _tested(self, name, code, images, remedy=''):
        """The SelfTest of pictures of an instance's. Raises UserError, with the remedy, unless it is passed."""
        self._model = self._model or self.snapshot.model()
        test = self_test(images, self._model, code, self.hand_over.required)
        check(test, name, remedy)
        return test


def issue(run_dir: str, registry: Registry, name: str, out: str, kimg: Optional[int] = None,
          snapshot: Optional[Snapshot] = None, user: Optional[str] = None) -> tuple[str, str]:
    """Issues one instance: an `Issuer`'s, untested and unsigned. Returns (folder, sha256 of the folder).

    kimg: the run's snapshot; None for the released or else the latest one.
    """
    check_name(name)
    issuer = Issuer(run_dir, registry, out, snapshot or issuing_snapshot(run_dir, registry, kimg))
    issued = issuer(name, user)
    return issued.folder, issued.digest


def set_times(folder: str) -> None:
    """Gives all that is in a folder, and the folder, one fixed time: when they were made is their owner's business."""
    for root, _, names in os.walk(folder):
        for path in [root, *(os.path.join(root, name) for name in names)]:
            os.utime(path, (FIXED_TIME, FIXED_TIME))


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
