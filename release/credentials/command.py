"""`run_release.py make-certificate` and `stamp`: their flags, and what they do."""
import argparse
import hashlib
import os
from typing import Any

from dnnlib.util import UserError, atomic_file, atomic_folder, make_folder, printable, quoted

CERTIFICATES = '''\
Makes a folder with a root certificate, which viewers must be told to trust, and one that signs. Keep root.key offline:
it is needed again only for the next signing certificate. A certificate of an authority on C2PA's trust list, which
viewers trust by themselves, is used the same way: chain.pem, signing.key and root.pem in a folder.
'''
STAMP = '''\
Writes each picture to FOLDER with Content Credentials (C2PA): signed, with the statement that a trained algorithm made
it and an opaque id for its fingerprint, without any name, thumbnail or time. The pixels stay as they are. A picture
whose fingerprint names no user is not stamped, nor one whose user is another than --user.

exit codes: 0 all are stamped; 1 some are not (the others are).
'''


def add_commands(commands: Any, registry: dict[str, Any], run: str, rate: float) -> None:
    """Adds the subcommands.

    Args:
        commands: what `add_subparsers` returned. registry: the arguments of --registry. run: the default of --run.
        rate: the rate of false positives at which a fingerprint is read.
    """
    raw = dict(formatter_class=argparse.RawDescriptionHelpFormatter)
    make = commands.add_parser('make-certificate', help='make certificates to sign Content Credentials with',
                               description=CERTIFICATES, **raw)
    make.add_argument('folder', metavar='FOLDER', help='the new folder; readable by its owner only')
    make.add_argument('--organisation', required=True, help='what viewers show as the signer')
    make.add_argument('--days', type=int, default=365, help='how long it may sign (default: 365)')

    stamp = commands.add_parser('stamp', help='sign pictures of instances with Content Credentials', description=STAMP,
                                **raw)
    stamp.add_argument('image', nargs='+', metavar='IMAGE', help='PNG, JPEG, WebP, TIFF or GIF that instances '
                       'drew')
    stamp.add_argument('--certificate', metavar='FOLDER', required=True, help='what make-certificate made')
    stamp.add_argument('--out', metavar='FOLDER', required=True, help='where the stamped files go, by the same names')
    stamp.add_argument('--user', help='stamp the pictures of this instance only')
    stamp.add_argument('--run', default=run, help=f"the training run's folder (default: {run})")
    stamp.add_argument('--registry', **registry)
    stamp.add_argument('--fpr', type=float, default=rate, help=f'as of attribute (default: {rate:g})')


def make_certificate_command(args: argparse.Namespace) -> None:
    """Makes the folder, or nothing."""
    from release.credentials.certificates import make_chain
    files = make_chain(args.organisation, args.days)
    with atomic_folder(args.folder, private=True) as temporary:
        for name, data in files.items():
            with open(os.open(os.path.join(temporary, name), os.O_CREAT | os.O_WRONLY, 0o600), 'wb') as file:
                file.write(data)
    print(f'written to {args.folder}: publish root.pem, keep root.key offline')


def stamp_command(args: argparse.Namespace, registry: Any) -> int:
    """Stamps what it can; a line for each picture."""
    from fingerprints.statistics import check_fpr
    from release.credentials.stamp import Stamper, opaque_id
    check_fpr(args.fpr)
    if args.user is not None:
        registry.get(args.user)  # it is told if there is none
    stamper, new = Stamper(args.certificate), not os.path.lexists(args.out)
    make_folder(args.out)
    from release.attribute import Attributor  # here, since it takes seconds to import
    failed, stamped, identities = 0, 0, {}
    for result in Attributor(args.run, registry)(args.image, args.fpr):
        try:
            user = _user_of(result, args.user)
            identity = identities.setdefault(user, opaque_id(registry, registry.get(user)))
            _stamp_one(stamper, result, os.path.join(args.out, os.path.basename(result.path)), identity)
            stamped += 1
            print(f'{quoted(result.path)}: stamped')
        except UserError as error:
            failed += 1
            print(f'{quoted(result.path)}: error: {printable(str(error))}')
    if new and not stamped:
        os.rmdir(args.out)
    return 1 if failed else 0


def _user_of(result, wanted):
    """The instance that a picture's fingerprint names. Raises UserError if none, or not the one that is wanted."""
    if result.error:
        raise UserError(result.error)
    user = result.attribution.user
    if user is None:
        raise UserError('its fingerprint names nobody, so there is nothing to bind to; stamp what an instance drew')
    if wanted is not None and user.lower() != wanted.lower():
        raise UserError(f'its fingerprint is not that of {wanted!r}; name the right user or leave --user out')
    return user


def _stamp_one(stamper, result, target, identity):
    """Writes the stamped file, if all its pixels are what they were."""
    import io

    from PIL import Image, ImageChops

    from dnnlib.images import decode, read_file
    if os.path.lexists(target):
        raise UserError(f'{target} exists already; choose another folder')
    data = read_file(result.path)
    if hashlib.sha256(data).hexdigest() != result.sha256:
        raise UserError('it was changed while it was read; stamp it again')
    with Image.open(io.BytesIO(data)) as image:
        kind = image.format
    stamped = stamper.stamp(data, kind, identity)
    before, after = decode(data), decode(stamped)
    if before.size != after.size or ImageChops.difference(before, after).getbbox() is not None:
        raise UserError('its pixels would change; convert it to PNG first')
    with atomic_file(target, 'wb') as file:
        file.write(stamped)
