"""Fuzzes the import of a ledger with Atheris: every file is refused in one line, or taken over as it stands.

    python3.12 -m venv fuzz && fuzz/bin/pip install -c constraints-3.12.txt atheris==3.1.0 numpy scipy SQLAlchemy \\
        cryptography absl-py tqdm
    fuzz/bin/python -m tests.fuzz.import_ledger --runs=1000000 CORPUS

Atheris has wheels for Linux and for some Pythons only, so the test suite doesn't ask for it. CORPUS is a folder that
is made; what is found new is kept there, what fails becomes a file crash-… in the working folder. Half of the files
are mended after their mutation (numbers, links, count and root), so that the fuzzer gets beyond the hashes.
"""
import argparse
import io
import json
import os
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=['fingerprints', 'dnnlib.util']):
    from dnnlib.util import UserError
    from fingerprints import transfer
    from fingerprints.ledger import ENCODER, EVENTS, FIRST, VERSION
    from fingerprints.merkle import Tree, leaf_hash
    from fingerprints.registry import Registry

MODEL, DIGEST = 'a' * 64, 'd' * 64
COUNTS = {'taken': 0, 'refused': 0}


def example():
    """The bytes of an exported ledger in which every kind of event occurs."""
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(os.path.join(folder, 'r.sqlite'), create=True, actor='owner')
        for name in ('ann', 'bob'):
            with registry.issue(name, MODEL, 16) as issue:
                issue.digest = DIGEST
        registry.note_misuse('ann', 'sold it')
        registry.revoke('ann', 'sold it')
        registry.record_attribution(DIGEST, {'user': 'bob', 'p_value': 1e-9})
        try:
            with registry.issue('cid', MODEL, 16):
                raise KeyError
        except KeyError:
            pass
        transfer.export_ledger(registry, os.path.join(folder, 'l.jsonl'))
        with open(os.path.join(folder, 'l.jsonl'), 'rb') as file:
            return file.read()


def mended(data):
    """The same lines with numbers and links that fit, as far as they are events at all, and a head that fits them."""
    previous, tree, lines = FIRST, Tree(), []
    for line in data.split(b'\n')[1:]:
        try:
            event = json.loads(line)
            if 'seq' in event:
                line = ENCODER.encode({**event, 'seq': tree.size, 'previous': previous}).encode()
        except (ValueError, TypeError, RecursionError):
            continue
        leaf = leaf_hash(line)
        previous = leaf.hex()
        tree.append(leaf)
        lines.append(line)
    head = {'format': transfer.FORMAT, 'version': VERSION, 'events': tree.size, 'root': tree.root().hex()}
    return b''.join(line + b'\n' for line in [json.dumps(head).encode(), *lines])


def attempt(data):
    """Imports a file: all of it as it stands, or UserError in one line. Anything else is a defect."""
    data = mended(data) if len(data) % 2 else data
    try:
        rows = list(transfer._check('x', transfer._lines('x', io.BytesIO(data))))
    except UserError as error:
        COUNTS['refused'] += 1
        assert str(error) and '\n' not in str(error), error
        return
    COUNTS['taken'] += 1
    events = [row['event'].encode() for table, row in rows if table is EVENTS]
    assert events == data.split(b'\n')[1:1 + len(events)]


def main():
    """Runs the fuzzer."""
    parser = argparse.ArgumentParser(prog='python -m tests.fuzz.import_ledger', description=__doc__.split('\n')[0])
    parser.add_argument('--runs', type=int, default=100_000, help='how many files to try')
    parser.add_argument('corpus', metavar='CORPUS', help='folder of files to begin with; made if absent')
    args = parser.parse_args()
    os.makedirs(args.corpus, exist_ok=True)
    for name, data in (('example', example()), ('mended', example() + b'\n')):
        with open(os.path.join(args.corpus, name), 'wb') as file:
            file.write(data)

    def test_one_input(data):
        attempt(data)
        if sum(COUNTS.values()) == args.runs:
            print(f'{args.runs} files: {COUNTS}, no defect', file=sys.stderr)

    atheris.Setup([sys.argv[0], f'-runs={args.runs}', '-max_len=8192', '-timeout=5', args.corpus], test_one_input)
    atheris.Fuzz()


if __name__ == '__main__':
    main()
