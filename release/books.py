"""The owner's books on the command line: verify, checkpoints, timestamps, proofs, copies, misuse and its deadlines."""
import argparse
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from dnnlib.util import UsageError, UserError, printable

OVERDUE = 3      # exit code: not an error, but something that must not wait
KEY_BYTES = 32   # of a file that encrypts codes

KEY_KEPT = 'the key was there already, without its public half; '

ABOUT = ('name', 'model_digest', 'image_digest')  # what an event is about: the first of these that it has


def open_registry(args: argparse.Namespace, create: bool = False) -> Any:
    """The Registry of --registry and, where the command has them, --code-key or --passphrase."""
    from fingerprints.registry import Registry
    return Registry(args.registry, create=create, key=_code_key(args, create))


def _code_key(args, create):
    """The bytes that encrypt the codes; None if the command has no key."""
    from fingerprints.database import is_absent
    from fingerprints.sealing import ask_passphrase, read_key_file
    if getattr(args, 'passphrase', False):
        return ask_passphrase(twice=create and is_absent(args.registry))
    return read_key_file(args.code_key) if getattr(args, 'code_key', None) else None


def crowded_models(registry: Any) -> Iterator[str]:
    """Yields a line per model that has drawn half of the codes or more that are certain to be there."""
    for model in registry.models():
        if 2 * model['codes'] >= model['users_possible']:
            yield (f'the model {model["model_digest"][:12]}… has drawn {model["codes"]:,} codes of {model["num_bits"]} '
                   f'bits; for {model["users_possible"]:,} there is certain to be one: train a model of more bits')


def recorded(registry: Any, results: Iterable[Any], context: dict[str, Any]) -> Iterator[Any]:
    """Yields attribution's Results on, after each was entered into the registry; files without one are not.

    context: what every result rests on, entered with it.
    """
    for result in results:
        if result.attribution is not None:
            registry.record_attribution(result.sha256, {**result.record(), **context})
        yield result


def verify_command(args: argparse.Namespace) -> int:
    """Prints what is wrong with a registry. Returns 1 if anything but leftovers is."""
    notes = _notes(args.checkpoint, args.public_key)
    registry = open_registry(args)
    findings = registry.verify(notes)
    for finding in findings:
        record = {'event': finding.seq, 'kind': finding.kind, 'text': finding.text}
        print(json.dumps(record) if args.json else f'{finding.kind}: {printable(finding.text)}')
    damages = sum(finding.kind != 'leftover' for finding in findings)
    if not args.json:
        print(_verdict(registry, damages, len(findings) - damages))
    return 1 if damages else 0


def _verdict(registry, damages, leftovers):
    if damages:
        return (f'{registry.location} is damaged or was changed ({damages} findings); keep it as it is for evidence, '
                'and go on with a copy that verifies')
    left = f', but for {leftovers} left by killed commands' if leftovers else ''
    return f'{registry.location}: {registry.size():,} events, nothing was changed{left}'


def _notes(paths: Sequence[str], public_key) -> list[str]:
    """The checkpoints in files, signed by the public key if one is given."""
    from fingerprints.files import read_text
    notes = [read_text(path) for path in paths]
    if public_key and not notes:
        raise UsageError('--public-key goes with --checkpoint; add it')
    for note in notes if public_key else ():
        _public_key(public_key).verify(note)
    return notes


def _public_key(path):
    from fingerprints.files import read_text
    from fingerprints.notes import VerifierKey
    return VerifierKey.parse(read_text(path))


def history_command(args: argparse.Namespace) -> None:
    """Prints a line per event."""
    registry = open_registry(args)
    if args.name is not None:
        registry.get(args.name)  # it is told if there is none
    wanted = args.name and args.name.partition('#')[0].lower()  # NAME#7 was called NAME when it was reserved
    for event in registry.events():
        about = next((str(event.fields[key]) for key in ABOUT if key in event.fields), '')
        if wanted is None or about.lower() == wanted:
            print(f'{event.seq:7}  {event.time}  {printable(f"{event.actor}  {event.kind}  {about}")}'.rstrip())


def abandon_command(args: argparse.Namespace) -> None:
    """Ends a reservation."""
    open_registry(args).abandon(args.name, args.reason)
    print(f'abandoned {args.name}; remove what its export left, and issue it again')


def key_command(args: argparse.Namespace) -> None:
    """Writes a new key, and prints the public half."""
    from fingerprints.files import new_file, new_key_pair
    from fingerprints.notes import SigningKey
    if args.codes:
        with new_file(args.file) as file:
            file.write(f'{secrets.token_hex(KEY_BYTES)}\n'.encode())
        print(f'{args.file} encrypts codes: keep a copy elsewhere, without it no image can be attributed')
        return

    def public_of(private):
        key = SigningKey.parse(private.decode('ascii', 'replace'))
        if key.name != args.name:
            raise UserError(f'{args.file} is the key of {key.name}')
        return f'{key.verifier.text}\n'.encode()

    public, is_new = new_key_pair(args.file, f'{SigningKey.generate(args.name).text}\n'.encode(), public_of)
    print(f'{public.decode()}{"" if is_new else KEY_KEPT}keep {args.file} apart from the registry, and publish '
          f'{args.file}.pub')


def checkpoint_command(args: argparse.Namespace) -> None:
    """Signs a checkpoint, and prints or writes it."""
    from fingerprints.notes import SigningKey
    from fingerprints.sealing import read_key_file
    _check_new(args.out)
    key = SigningKey.parse(read_key_file(args.key).decode('ascii', 'replace'))
    _print_or_write(open_registry(args).checkpoint(key), args.out)


def _check_new(path):
    """Raises UserError before anything is done, if an output file exists."""
    if path is not None and os.path.lexists(path):
        raise UserError(f'{path} exists already; choose another file')


def _print_or_write(text, path):
    from fingerprints.files import new_file
    if path is None:
        print(text, end='')
        return
    with new_file(path, private=False) as file:
        file.write(text.encode())
    print(f'written to {path}')


def prove_command(args: argparse.Namespace) -> None:
    """Writes a proof."""
    from fingerprints.files import read_text
    from fingerprints.proofs import event_proof, growth_proof
    if (args.event is None) == (args.since is None):
        raise UsageError('give either the number of an EVENT or --since=FILE')
    _check_new(args.out)
    registry, note = open_registry(args), read_text(args.checkpoint)
    if args.since is not None:
        text = growth_proof(registry, read_text(args.since), note)
    elif registry.event(args.event).kind == 'code_reserved' and not args.reveal_code:
        raise UserError(f'event {args.event} holds a code, and whoever has it can frame its user; prove the event of '
                        'kind instance_issued instead, or add --reveal-code')
    else:
        text = event_proof(registry, args.event, note)
    _print_or_write(text, args.out)


def check_proof_command(args: argparse.Namespace) -> None:
    """Checks a proof, and prints what it proves."""
    from fingerprints.files import read_text
    from fingerprints.proofs import check_event_proof, check_growth_proof
    text, key = read_text(args.file), _public_key(args.public_key)
    if args.since is not None:
        old, new = check_growth_proof(text, read_text(args.since), key)
        print(f'proven: the {new.size} events of {key.name} begin with its {old.size} of the earlier checkpoint')
    else:
        event, checkpoint = check_event_proof(text, key)
        print(f'proven: this is event {event.seq} of the {checkpoint.size} of {key.name}\n{event.text}')


def timestamp_command(args: argparse.Namespace) -> None:
    """Has a checkpoint stamped, or verifies its stamp."""
    from fingerprints import timestamps
    from fingerprints.files import new_file, read_bytes
    data, nonce = read_bytes(args.file), None
    if bool(args.request) == bool(args.response and args.root):
        raise UsageError('give --response and --root; or only --request, to write a request')
    if args.request:
        with new_file(args.request, private=False) as file:
            file.write(timestamps.make_request(data).der)
        print(f"send it: curl -H 'Content-Type: {timestamps.CONTENT}' --data-binary @{args.request} URL > RESPONSE.tsr")
        return
    roots = read_bytes(args.root)
    if args.url:
        _check_new(args.response)
        request = timestamps.make_request(data)
        response, nonce = timestamps.ask(args.url, request), request.nonce
    else:
        response = read_bytes(args.response)
    found = timestamps.check(response, data, roots, nonce)
    if args.url:
        with new_file(args.response, private=False) as file:
            file.write(response)
    print(f'{args.file} was there at {found.time}, says {printable(found.authority)}')


def register_command(args: argparse.Namespace) -> None:
    """Adds a model."""
    registry = open_registry(args)
    from release.issue import register  # here, since it takes seconds to import
    digest = register(args.run, registry, args.kimg)
    print(f'registered the model {digest[:12]}…; issue with --run={args.run} takes it from now on')


def code_command(args: argparse.Namespace) -> None:
    """Prints an instance's code in letters that find their own typos, or whose code such letters are."""
    from fingerprints.spelling import code_to_words, words_to_code
    if (args.name is None) == (args.words is None):
        raise UsageError('give either a NAME or --words=WORDS')
    registry = open_registry(args)
    if args.name is not None:
        print(code_to_words(registry.code(args.name)))
        return
    code = words_to_code(args.words)
    holders = [name for model in registry.models()
               for name, known in zip(*registry.codes(model['model_digest'])) if np.array_equal(known, code)]
    if not holders:
        raise UserError('these words are a code, but of no instance in this registry')
    print(*holders, sep='\n')


def export_command(args: argparse.Namespace) -> None:
    """Writes a registry to a file."""
    from fingerprints.transfer import export_ledger
    count = export_ledger(open_registry(args), args.file)
    print(f'{count} events are in {args.file}; keep it as secret as the registry')


def import_command(args: argparse.Namespace) -> None:
    """Makes a registry of a file."""
    from fingerprints.transfer import import_ledger
    count = import_ledger(args.file, args.registry)
    print(f'{count} events are in {open_registry(args).location}')  # which names no password


def upgrade_command(args: argparse.Namespace) -> None:
    """Brings an older program's registry to this one's tables."""
    from fingerprints.database import Database
    from fingerprints.schema import VERSION
    found = Database(args.registry).upgrade()
    registry = open_registry(args)
    done = 'had' if found == VERSION else f'was upgraded from version {found} to'
    print(f'{registry.location} {done} tables of version {VERSION}; its {registry.size():,} events are as they were')


def misuse_command(args: argparse.Namespace) -> None:
    """Records a misuse, and prints the deadline."""
    deadline = open_registry(args).note_misuse(args.name, args.reason, args.known_at)
    print(f'{args.name} must be revoked by {deadline}')


def deadlines_command(args: argparse.Namespace) -> int:
    """Prints what must be revoked, and by when. Returns OVERDUE if it should have been."""
    registry = open_registry(args)
    overdue = {one.name for one in registry.overdue()}
    waiting = [one for one in registry.list() if one.known_at and not one.revoked_at]
    for one in sorted(waiting, key=lambda one: one.revocation_deadline):
        state = 'OVERDUE since' if one.name in overdue else 'due'
        print(f'{one.name:20}  {state} {one.revocation_deadline}  known since {one.known_at}  {printable(one.reason)}')
    if not waiting:
        print('nothing is waiting to be revoked')
    return OVERDUE if overdue else 0


def notice_command(args: argparse.Namespace) -> None:
    """Prints or writes the letter of a revocation."""
    from release.notice import notice
    _check_new(args.out)
    instance = open_registry(args).get(args.name)
    if instance.issued_at is None:
        raise UserError(f'{args.name!r} was never issued, so there is nobody to tell')
    _print_or_write(notice(instance), args.out)


COMMANDS = {'verify': verify_command, 'history': history_command, 'abandon': abandon_command, 'key': key_command,
            'checkpoint': checkpoint_command, 'prove': prove_command, 'check-proof': check_proof_command,
            'timestamp': timestamp_command, 'register': register_command, 'code': code_command,
            'export': export_command, 'import': import_command, 'upgrade': upgrade_command, 'misuse': misuse_command,
            'deadlines': deadlines_command, 'notice': notice_command}
