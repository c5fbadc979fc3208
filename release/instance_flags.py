"""The flags of issuing, testing, signing and serving instances."""
from typing import Any

from release.books_flags import add_code_key

SELF_TEST = {'true': ('png',), 'jpeg': ('png', 'jpeg'), 'false': ()}  # what must be read


def add_issue_flags(issue: Any) -> None:
    """Adds to the subcommand `issue` what an instance goes through before it is handed over."""
    issue.add_argument('--selftest', choices=list(SELF_TEST), default='true', help='draw from the issued folder, save '
                       'PNG and JPEG, read them back, and refuse an instance whose fingerprint does not read at 1e-6 '
                       'from PNG (the default); jpeg: from JPEG too; false: do not test')
    issue.add_argument('--noise-seed', type=int, metavar='N', help="draw fixed noise images of the instance's own from "
                       "this number, instead of the model's: small details, strands of hair say, then lie otherwise. "
                       'With --names, for those whose cell in a column "noise_seed" is empty')
    issue.add_argument('--float16', action='store_true', help='store the weights in 16 bits, which halves the file; '
                       'all is computed in float32')
    _add_card_flags(issue)


def _add_card_flags(command):
    command.add_argument('--model-name', help='what the model is called on the instance card')
    command.add_argument('--licence', metavar='FILE', help='text file of the licence, for the instance card')
    command.add_argument('--sign', metavar='KEY', help='sign the instance with this key (signing-key makes one): '
                         'OUT/NAME/1.sig beside it. A file in PEM, or the URI of a key in a PKCS#11 token '
                         '("pkcs11:token=...;object=...")')
    command.add_argument('--certificate', metavar='FILE', help="with --sign: the key's certificate, and those that "
                         'lead to its root, in PEM')
    command.add_argument('--onnx', action='store_true', help='an ONNX file of it too, OUT/NAME/1.onnx, tested and '
                         'signed likewise')


def add_commands(commands: Any, run: dict[str, Any], registry: dict[str, Any]) -> None:
    """Adds the subcommands.

    Args:
        commands: what `add_subparsers` returned.
        run, registry: the arguments of --run and --registry.
    """
    _add_reissue(commands, run, registry)
    _add_signing(commands)
    _add_serving(commands, run, registry)


def _add_reissue(commands, run, registry):
    test = commands.add_parser('selftest', help='check that the fingerprint of an issued folder can be read',
                               description='Draws from the folder, saves PNG and JPEG, and reads them as attribute '
                               'does. Exit code 1 if the fingerprint does not read at 1e-6 from PNG.')
    test.add_argument('folder', metavar='FOLDER', nargs='+', help='of an instance, such as instances/alice/1, or an '
                      'ONNX file beside it; the registry knows whose it is by its digest')
    again = commands.add_parser('reissue', help='write an instance again that got lost: the same bytes, or nothing',
                                description='Makes OUT/NAME/1 anew from the code in the registry, and holds it to the '
                                'digest in the ledger.')
    again.add_argument('name', metavar='NAME', nargs='+', help='issued instances')
    again.add_argument('--out', default='instances', help='folder of all instances')
    again.add_argument('--selftest', choices=list(SELF_TEST), help='with --onnx: what must be read of the ONNX file, '
                       'as of issue (default: true); the folder has the bytes that were issued and is not tested')
    again.set_defaults(noise_seed=None, float16=False)
    _add_card_flags(again)
    for command in (test, again):
        command.add_argument('--run', **run)
        command.add_argument('--registry', **registry)
        add_code_key(command)


def _add_signing(commands):
    key = commands.add_parser('signing-key', help='make a key that signs instances', description='Writes a new secret '
                              'key (P-256, PEM), readable by its owner only, and its public half to FILE.pub, which '
                              'users verify with.')
    key.add_argument('file', metavar='FILE', help='the new key')

    verify = commands.add_parser('verify-instance', help='check a signed instance with the public key alone',
                                 description='Checks that every file is as its owner signed it, and that there is '
                                 'none more. Needs no registry; model_signing verify says the same.')
    verify.add_argument('folder', metavar='FOLDER', help='of the SavedModel, such as instances/alice/1, or an ONNX '
                        'file beside it')
    signer = verify.add_mutually_exclusive_group(required=True)
    signer.add_argument('--public-key', metavar='FILE', help="the owner's public key, in PEM")
    signer.add_argument('--root', metavar='FILE', help="the certificate, in PEM, that the owner's leads to")
    verify.add_argument('--signature', metavar='FILE', help='FOLDER.sig if not given')


def _add_serving(commands, run, registry):
    serve = commands.add_parser('serve-config', help='write what TensorFlow Serving needs to serve all live instances',
                                description='Writes OUT/models.config and OUT/batching.config. Revoked instances are '
                                'not in it: a server that polls the file unloads them. Exit code 1 if an instance is '
                                'gone or changed; it is left out, and the others are served.')
    serve.add_argument('--registry', **registry)
    serve.add_argument('--out', default='serving', help='folder of both files, which are replaced')
    serve.add_argument('--instances', metavar='FOLDER', help='folder of all instances, if it was moved')
    serve.add_argument('--base', metavar='FOLDER', help='that folder as the server sees it, such as /models')
    serve.add_argument('--decoder', metavar='FOLDER', help='serve an exported decoder too: its folder as the server '
                       'sees it. For a server that only its owner reaches')
    serve.add_argument('--threads', type=int, default=2, help='batches drawn at once: the cores of the server')

    decoder = commands.add_parser('export-decoder', help='write the decoder as a SavedModel for a server of your own',
                                  description='Writes OUT/1, readable by its owner only: pixels or files to logits. '
                                  'Keep it secret: whoever has it can learn to make pictures that it misreads.')
    decoder.add_argument('--run', **run)
    decoder.add_argument('--kimg', type=int, help='snapshot: the latest if not given')
    decoder.add_argument('--registry', metavar='LOCATION', help='take the snapshot that its instances came from')
    decoder.add_argument('--out', default='decoder', help='the new folder')
    add_code_key(decoder)
