"""The flags of the subcommands in `release.books`."""
from typing import Any

CODE_KEY = ('file whose bytes encrypt the codes (the command key --codes makes one); a new registry is encrypted with '
            'it, an encrypted one needs it to issue and attribute')


def add_commands(commands: Any, registry: dict[str, Any]) -> None:
    """Adds the subcommands, and the key of the codes to those that need codes.

    Args:
        commands: what `add_subparsers` returned.
        registry: the arguments of --registry.
    """
    for name in ('issue', 'list', 'attribute', 'attribute-beam', 'detect', 'report', 'stamp'):
        add_code_key(commands.choices[name])
    commands.choices['issue'].add_argument('--user', help='whose these instances are, if not called the same: a second '
                                           'instance of a user, or one of a new model')
    commands.choices['attribute'].add_argument('--record', action='store_true', help='enter each image\'s digest and '
                                               'what was found into the registry, with who asked and when')
    _add_checking(commands, registry)
    _add_proofs(commands, registry)
    _add_timestamp(commands)
    _add_models(commands, registry)
    _add_code(commands, registry)
    _add_copies(commands, registry)
    _add_misuse(commands, registry)


def add_code_key(command: Any) -> None:
    """Adds --code-key and --passphrase."""
    key = command.add_mutually_exclusive_group()
    key.add_argument('--code-key', metavar='FILE', help=CODE_KEY)
    key.add_argument('--passphrase', action='store_true', help='type a passphrase instead of naming such a file')


def _add_checking(commands, registry):
    verify = commands.add_parser(
        'verify', help='check that nothing in the registry was changed, and name what killed commands left',
        description='Checks every page, row, hash and rule, and the checkpoints. Exit code 1 if anything is damaged.')
    verify.add_argument('--registry', **registry)
    verify.add_argument('--checkpoint', metavar='FILE', nargs='+', default=[], help='checkpoints kept elsewhere: only '
                        'with one of these is a registry found out that was rewritten or cut off as a whole')
    verify.add_argument('--public-key', metavar='FILE', help='check that this key signed those checkpoints')
    add_code_key(verify)
    verify.add_argument('--json', action='store_true', help='one JSON object per finding')

    history = commands.add_parser('history', help='show what happened: every event, or those about one instance',
                                  description='Shows the numbers, times, actors and kinds of the ledger\'s events.')
    history.add_argument('name', metavar='NAME', nargs='?', help='an instance; all events if not given')
    history.add_argument('--registry', **registry)

    abandon = commands.add_parser('abandon', help='free a name that a killed command has reserved', description='Ends '
                                  'a reservation. On the same machine, issuing again does it by itself.')
    abandon.add_argument('name', metavar='NAME', help='the reserved name; verify lists those there are')
    abandon.add_argument('--reason', default='its command was killed', help='why, for the record')
    abandon.add_argument('--registry', **registry)


def _add_proofs(commands, registry):
    key = commands.add_parser('key', help='make a key that signs checkpoints, or one that encrypts codes',
                              description='Writes a new secret key, readable by its owner only; for signing, its '
                              'public half to FILE.pub too.')
    key.add_argument('file', metavar='FILE', help='the new key')
    kind = key.add_mutually_exclusive_group(required=True)
    kind.add_argument('--name', help="make a signing key of this name: the owner's domain and a path, "
                      'for example example.com/fingerprints')
    kind.add_argument('--codes', action='store_true', help='make a key for --code-key')

    checkpoint = commands.add_parser('checkpoint', help='sign how the registry is now, to hand to someone else',
                                     description='Makes a signed checkpoint, and prints it. Hand it to a notary, a '
                                     'lawyer or a timestamping service: what it covers can\'t be changed unseen.')
    checkpoint.add_argument('--key', metavar='FILE', required=True, help='signing key (the command key makes one)')
    checkpoint.add_argument('--out', metavar='FILE', help='write it to a new file instead')
    checkpoint.add_argument('--registry', **registry)

    prove = commands.add_parser('prove', help='write a proof that a stranger can check', description='Proves that an '
                                'event was in the registry at a checkpoint, or with --since that one checkpoint is '
                                'the beginning of another. The command check-proof checks it without a registry.')
    prove.add_argument('event', metavar='EVENT', nargs='?', type=int, help="the event's number; history lists them")
    prove.add_argument('--since', metavar='FILE', help='the earlier checkpoint')
    prove.add_argument('--checkpoint', metavar='FILE', required=True, help='the signed checkpoint that covers it')
    prove.add_argument('--out', metavar='FILE', required=True, help='the new file')
    prove.add_argument('--reveal-code', action='store_true', help='prove a reservation, whose text holds the code')
    prove.add_argument('--registry', **registry)

    check = commands.add_parser('check-proof', help='check a proof with the public key alone', description='Checks a '
                                'file that prove wrote, and shows what it proves. Needs no registry.')
    check.add_argument('file', metavar='PROOF', help='the proof')
    check.add_argument('--public-key', metavar='FILE', required=True, help="the owner's public key")
    check.add_argument('--since', metavar='FILE', help='the earlier checkpoint, for a proof that was made with --since')


def _add_timestamp(commands):
    timestamp = commands.add_parser(
        'timestamp', help='have a checkpoint timestamped by RFC 3161, or verify its timestamp offline',
        description='With --url, has a service stamp the checkpoint and saves its response; with --request, only '
        'writes the request, to be sent by other means; else verifies a response, without any network.')
    timestamp.add_argument('file', metavar='CHECKPOINT', help='the file to stamp, or that was stamped')
    how = timestamp.add_mutually_exclusive_group()
    how.add_argument('--url', help="the service's address; nothing but a hash is sent there")
    how.add_argument('--request', metavar='FILE', help='write the request to this new file (.tsq)')
    timestamp.add_argument('--response', metavar='FILE', help='the response (.tsr): a new file with --url')
    timestamp.add_argument('--root', metavar='FILE', help="PEM file of the certificate of the service's root")


def _add_models(commands, registry):
    register = commands.add_parser('register', help='add a newly trained model to a registry that has one already',
                                   description='Instances may then be issued of it: issue NEWNAME --user=USER.')
    register.add_argument('--run', required=True, help="the new model's run folder")
    register.add_argument('--kimg', type=int, help='its snapshot: the latest if not given')
    register.add_argument('--registry', **registry)


def _add_code(commands, registry):
    code = commands.add_parser('code', help="spell an instance's code for the phone, or find whose code was spelled",
                               description='Prints a code as words with a checksum (Bech32m), which is secret: whoever '
                               'has it can frame its user. With --words, says whose it is, or where the typo is.')
    code.add_argument('name', metavar='NAME', nargs='?', help='the instance')
    code.add_argument('--words', help='the words of a code, in quotes')
    code.add_argument('--registry', **registry)
    add_code_key(code)


def _add_copies(commands, registry):
    export = commands.add_parser('export', help='write the whole registry to a file of JSON lines', description='Makes '
                                 'a copy for its owner\'s eyes only, which import makes a registry of again.')
    export.add_argument('file', metavar='FILE', help='the new file; it holds the codes as the registry does')
    export.add_argument('--registry', **registry)

    take = commands.add_parser('import', help='make a registry of an exported file', description='Makes a new '
                               'registry with the same events and hashes, or nothing: all is checked first.')
    take.add_argument('file', metavar='FILE', help='the exported file')
    take.add_argument('--registry', required=True, help='new SQLite file, or URL of an empty database')

    upgrade = commands.add_parser('upgrade', help="bring an older program's registry to this one's tables",
                                  description='Changes the tables in place, in one transaction, and no event. Make a '
                                  'copy first.')
    upgrade.add_argument('--registry', **registry)


def _add_misuse(commands, registry):
    misuse = commands.add_parser('misuse', help='note that a misuse is known: 96 hours are left to revoke',
                                 description='Records since when the owner knows of it, and says by when the instance '
                                 'must be revoked. California\'s SB 942 gives 96 hours from discovering that a '
                                 'licensee\'s changes keep the model from marking its images.')
    misuse.add_argument('name', metavar='NAME', help='the instance')
    misuse.add_argument('--reason', required=True, help='what was done, for the record and the notice')
    misuse.add_argument('--known-at', metavar='TIME', help='since when, ISO 8601; now if not given')
    misuse.add_argument('--registry', **registry)

    deadlines = commands.add_parser('deadlines', help='list known misuses that are not revoked yet, the overdue first',
                                    description='Exit code 3 if any is overdue, so that a daily job notices.')
    deadlines.add_argument('--registry', **registry)

    notice = commands.add_parser('notice', help='print a letter that tells a user of the revocation',
                                 description='A text to send; have it checked by a lawyer.')
    notice.add_argument('name', metavar='NAME', help='the instance')
    notice.add_argument('--out', metavar='FILE', help='write it to a new file instead')
    notice.add_argument('--registry', **registry)
