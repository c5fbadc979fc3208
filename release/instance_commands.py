"""Instances on the command line: issue, self-test, write again, sign, verify, serve."""
import argparse
import dataclasses
import os
from collections.abc import Iterable
from typing import Any, Optional

from dnnlib.util import Log, UsageError, UserError, progress, sha256_file, sha256_folder
from release import books
from release.instance_flags import SELF_TEST

RATE = 1e-6


def hand_over(args: argparse.Namespace) -> Any:
    """The HandOver of the flags."""
    from fingerprints.files import read_text
    from fingerprints.instances import LARGEST_SEED, Form
    from release.issue import MODEL_NAME, HandOver
    if args.noise_seed is not None and not 0 <= args.noise_seed < LARGEST_SEED:
        raise UsageError(f'--noise-seed={args.noise_seed}: choose a number from 0 to {LARGEST_SEED - 1}')
    if args.certificate and not args.sign:
        raise UsageError('--certificate goes with --sign=KEY; add the key that it is for')
    signer = onnx = None
    if args.sign:
        from release.signing import Signer
        signer = Signer(args.sign, args.certificate)
    if args.onnx:
        from release.onnx_files import OnnxExporter
        onnx = OnnxExporter()
    return HandOver(SELF_TEST[args.selftest or 'true'], args.model_name or MODEL_NAME,
                    read_text(args.licence) if args.licence else '', signer, onnx,
                    Form(args.noise_seed, args.float16))


def wanted(args: argparse.Namespace) -> dict[str, Optional[int]]:
    """{name to issue to, whoever has an instance already: the noise seed that the file has for it, or None}.

    Raises UsageError without any or with one twice, and UserError for one that can't be a user's.
    """
    from fingerprints.registry import check_name
    from release.names import read_names
    if bool(args.name) == (args.names is not None):
        raise UsageError('whom to issue to? give NAMEs, or --names=FILE')
    for name in args.name:
        check_name(name)
    if len({name.lower() for name in args.name}) < len(args.name):
        raise UsageError('the same name twice; every user has one instance')
    return read_names(args.names) if args.names else dict.fromkeys(args.name)


def issue(args: argparse.Namespace, names: dict[str, Optional[int]]) -> None:
    """Issues to all of `names`, which `wanted` returned; with --names, to those who have no instance yet."""
    from release.issue import Issuer, issuing_snapshot  # here, since it takes seconds to import
    from release.names import check_distinct
    from release.results import bits_needed
    handing = hand_over(args)
    registry = books.open_registry(args, create=True)
    snapshot = issuing_snapshot(args.run, registry, args.kimg)
    known = [user.name for user in registry.list()]
    check_distinct(names, known)
    issued = {name.lower() for name in known} if args.names else set()
    forms = {name: handing.form if seed is None else dataclasses.replace(handing.form, noise_seed=seed)
             for name, seed in names.items() if name.lower() not in issued}
    issuer, log = Issuer(args.run, registry, args.out, snapshot, handing), Log()  # prints above the progress bar
    seeded = [form for form in forms.values() if form.noise_seed is not None]
    if seeded:
        issuer.check(seeded[0])  # before the first of all is issued
    num_bits = snapshot.config.fingerprint_bits
    for name, form in progress(forms.items(), desc='issue', unit='instance'):
        made = issuer(name, args.user, form)
        log(f'issued {name}: {made.folder}  {digests(made.digest, [made.onnx_digest])}  ({num_bits} bits, snapshot '
            f'{snapshot.kimg} kimg); {"; ".join(_tests(made))}')
    if args.names:
        print(f'{args.names}: {len(forms)} issued, {len(names) - len(forms)} had an instance already')
    codes = next(model['codes'] for model in registry.models() if model['model_digest'] == snapshot.digest)
    print(f'to attribute an image, {bits_needed(num_bits, codes, RATE)}')
    for line in books.crowded_models(registry):
        print(line)


def digests(folder: str, onnx: Iterable[str]) -> str:
    """The beginnings of the sha256s of a folder, and of its ONNX files but for those that are empty."""
    return f'sha256 {folder[:16]}…' + ''.join(f', as ONNX {digest[:16]}…' for digest in onnx if digest)


def _tests(made):
    """What was seen of an Issued."""
    if not made.test:
        return ['not tested whether its fingerprint reads']
    said = [made.test.summary]
    if made.float16:
        said.append('in float16 ' + ('the same pictures' if made.psnr is None else f'{made.psnr:.1f} dB from float32'))
    return said + ([f'ONNX: {made.onnx_test.summary}'] if made.onnx_test else [])


def selftest_command(args: argparse.Namespace) -> int:
    """Tests folders and ONNX files. Returns 1 unless all of their fingerprints read."""
    registry = books.open_registry(args)
    found = [_instance_of(registry, folder) for folder in args.folder]
    from release.onnx_files import onnx_pictures
    from release.selftest import drawn, latents, self_test
    from training.snapshot import find_released
    models: dict[str, Any] = {}
    passed = True
    for folder, instance in zip(args.folder, found):
        digest = instance.model_digest
        model = models[digest] = models.get(digest) or find_released(args.run, digest).model()
        images = onnx_pictures(folder, latents(model.latent_dim)) if os.path.isfile(folder) else drawn(folder)
        test = self_test(images, model, registry.code(instance.name))
        passed = passed and test.passed
        print(f'{folder} ({instance.name}): {test.summary}; {"reads" if test.passed else "DOES NOT READ"}')
    return 0 if passed else 1


def _instance_of(registry, path):
    """The issued Instance whose folder or ONNX file this is."""
    digest = sha256_file(path) if os.path.isfile(path) else sha256_folder(path)
    instance = next((one for one in registry.list() if digest in (one.digest, *one.onnx_digests)), None)
    if instance is None:
        raise UserError(f'{path} is of no instance in {registry.location}, or was changed; name a folder as it was '
                        'issued, such as instances/alice/1, or an ONNX file, such as instances/alice/1.onnx')
    return instance


def reissue_command(args: argparse.Namespace) -> None:
    """Writes instances again."""
    if args.selftest and not args.onnx:
        raise UsageError(f'--selftest={args.selftest} goes with --onnx, since the folder is held to its digest in the '
                         'ledger; leave it out')
    registry = books.open_registry(args)
    instances = [_issued(registry, name) for name in args.name]
    from release.issue import Issuer
    from training.snapshot import find_released
    issuer = None
    for instance in instances:
        if issuer is None or issuer.snapshot.digest != instance.model_digest:
            issuer = Issuer(args.run, registry, args.out, find_released(args.run, instance.model_digest),
                            hand_over(args))
        made = issuer.again(instance)
        entered = f'; its ONNX file {made.onnx_digest[:16]}… is in the ledger now' if made.onnx_digest else ''
        tested = f'; ONNX: {made.onnx_test.summary}' if made.onnx_test else ''
        print(f'wrote {instance.name} again: {made.folder}  sha256 {made.digest[:16]}…, as issued{entered}{tested}')


def _issued(registry, name):
    instance = registry.get(name)
    if instance.issued_at is None:
        raise UserError(f'{name!r} was never issued, so there is nothing to write again')
    return instance


def signing_key_command(args: argparse.Namespace) -> None:
    """Makes a key."""
    from release.signing import make_key
    is_new = make_key(args.file)
    print(f'{"" if is_new else books.KEY_KEPT}keep {args.file} apart from the registry, and publish {args.file}.pub')


def verify_instance_command(args: argparse.Namespace) -> None:
    """Verifies a signature."""
    from release.signing import SUFFIX, verify
    path = args.folder.rstrip('/')
    verify(path, args.signature or path + SUFFIX, args.public_key, args.root)
    print(f'{path} is as the owner of {args.public_key or args.root} signed it')


def serve_config_command(args: argparse.Namespace) -> int:
    """Writes a server's configuration. Returns 1 if an instance had to be left out."""
    if args.threads < 1:
        raise UsageError(f'--threads={args.threads}: give at least 1')
    registry = books.open_registry(args)
    from release.serving import MODELS, write_serving_config
    served = write_serving_config(registry, args.out, args.instances, args.base, args.decoder, args.threads)
    for name, why in served.left_out.items():
        print(f'left out {name}: {why}')
    print(f'{args.out}/{MODELS}: {len(served.names)} instances, {len(served.revoked)} revoked not in it')
    return 1 if served.left_out else 0


def export_decoder_command(args: argparse.Namespace) -> None:
    """Writes the decoder."""
    snapshot = _decoding_snapshot(args)
    from release.decoder import export_decoder
    export_decoder(snapshot, args.out)
    print(f'{args.out}/1 reads pictures of {snapshot.resolution}x{snapshot.resolution}; keep it secret')


def _decoding_snapshot(args):
    if args.registry is not None and args.kimg is not None:
        raise UsageError('give --registry or --kimg; the registry says of which snapshot its instances are')
    from release.issue import released_snapshot
    from training.snapshot import Snapshot
    if args.registry is not None:
        return released_snapshot(args.run, books.open_registry(args))
    snapshot = Snapshot(args.run, args.kimg, impl='ref')
    if not snapshot.can_bake:
        raise UserError(f'{args.run} was trained without fingerprints, so there is nothing to decode')
    return snapshot


COMMANDS = {'selftest': selftest_command, 'reissue': reissue_command, 'signing-key': signing_key_command,
            'verify-instance': verify_instance_command, 'serve-config': serve_config_command,
            'export-decoder': export_decoder_command}
