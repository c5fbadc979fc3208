"""The owner's books as an owner types them: what is printed, the exit code, and what lies in the folder afterwards."""
import base64
import contextlib
import hashlib
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import run_release
from dnnlib.util import UserError
from fingerprints.registry import Registry
from helpers import ROOT
from release import books
from timestamping import OPENSSL, Authority, service

MODEL, DIGEST = 'a' * 64, 'd' * 64


def issue(registry, name, **arguments):
    with registry.issue(name, MODEL, 32, **arguments) as pending:
        pending.digest, pending.instance = DIGEST, f'instances/{name}/1'
    return pending.code


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """registry.sqlite alone in a folder: 0 created, 1 model, 2 ann reserved, 3 issued, 4 bob reserved, 5 issued."""
    monkeypatch.chdir(tmp_path)
    registry = Registry('registry.sqlite', create=True, actor='owner')
    for name in ('ann', 'bob'):
        issue(registry, name)
    return registry


@pytest.fixture
def run(capsys):
    """A function that runs a command in this process; returns (exit code, what it printed, what it complained)."""
    def call(*words):
        try:
            code = run_release.main(run_release.make_parser().parse_args(words)) or 0
            complaint = ''
        except UserError as error:
            code, complaint = error.exit_code, str(error)
        assert '\n' not in complaint
        return code, capsys.readouterr().out, complaint
    return call


@pytest.fixture
def note(registry, run):
    """A signing key 'key', its public half 'key.pub', and a checkpoint in the file 'note'."""
    assert run('key', 'key', '--name=example.com/fingerprints')[0] == 0
    assert run('checkpoint', '--key=key', '--out=note') == (0, 'written to note\n', '')
    return open('note').read()


def sql(*statements):
    with sa.create_engine('sqlite:///registry.sqlite').begin() as connection:
        for trigger in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all():
            connection.exec_driver_sql(f'DROP TRIGGER {trigger[0]}')
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_it_works_from_a_shell(registry):
    """Through the real script: exit codes and one line on stderr."""
    def shell(*words):
        return subprocess.run([sys.executable, os.path.join(ROOT, 'run_release.py'), *words], capture_output=True,
                              text=True)
    done = shell('verify')
    assert (done.returncode, done.stderr) == (0, '') and done.stdout.endswith(': 6 events, nothing was changed\n')
    done = shell('verify', '--registry=nowhere.sqlite')
    assert done.returncode == 1 and re.fullmatch('run_release.py: error: there is no registry at .*\n', done.stderr)


def test_an_edited_row_is_named_and_the_exit_code_is_1(registry, run):
    sql("UPDATE events SET event = replace(event, 'bob', 'eve') WHERE seq = 4")
    code, out, _ = run('verify')
    assert code == 1 and out.startswith('edited: event 4 was changed after it was written\n')
    assert 'registry.sqlite is damaged or was changed' in out and 'keep it as it is for evidence' in out
    code, out, _ = run('verify', '--json')
    assert code == 1 and {'event': 4, 'kind': 'edited', 'text': 'event 4 was changed after it was written'} in [
        json.loads(line) for line in out.splitlines()]


def test_a_leftover_is_named_and_is_no_damage(registry, run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr('fingerprints.registry.this_process', lambda: {'host': 'elsewhere', 'pid': 7, 'started': None})
        patch.setattr(Registry, '_abandon', lambda *arguments: None)  # as if it were killed
        with pytest.raises(RuntimeError), registry.issue('cid', MODEL, 32):
            raise RuntimeError
    code, out, _ = run('verify')
    assert code == 0 and out.startswith("leftover: 'cid' was reserved on 20") and 'process 7 on elsewhere' in out
    assert out.endswith('7 events, nothing was changed, but for 1 left by killed commands\n')
    assert run('abandon', 'cid', '--reason=that machine is gone')[0] == 0
    assert registry.history()[-1].reason == 'that machine is gone'
    assert run('verify')[1].endswith('8 events, nothing was changed\n')
    assert run('abandon', 'ann')[2].startswith("'ann' has no open reservation")


def test_only_a_checkpoint_elsewhere_finds_a_ledger_that_was_cut_off(note, run):
    assert run('verify', '--checkpoint', 'note', '--public-key=key.pub')[0] == 0
    sql('DELETE FROM events WHERE seq > 3', 'DELETE FROM checkpoints')
    assert run('verify')[0] == 0
    code, out, _ = run('verify', '--checkpoint', 'note')
    assert code == 1 and out.startswith('truncated: events 4 to 5 are missing: a checkpoint of the one handed out')


def test_a_checkpoint_of_another_key_is_refused(note, run):
    run('key', 'other', '--name=example.com/fingerprints')
    complaint = run('verify', '--checkpoint', 'note', '--public-key=other.pub')[2]
    assert 'not signed by example.com/fingerprints' in complaint
    assert run('verify', '--public-key=key.pub') == (2, '', '--public-key goes with --checkpoint; add it')


def test_keys_are_for_their_owner_only_and_never_overwritten(registry, run):
    code, out, _ = run('key', 'key', '--name=example.com/fingerprints')
    assert code == 0 and open('key.pub').read() == out.splitlines()[0] + '\n'
    assert [stat.S_IMODE(os.stat(name).st_mode) & 0o677 for name in ('key', 'key.pub')] == [0o600, 0o644]
    assert 'PRIVATE' not in out and open('key').read().startswith('PRIVATE+KEY+example.com/fingerprints+')
    assert run('key', 'key', '--codes') == (1, '', 'key exists already; choose another file')
    os.remove('key')
    assert run('key', 'key', '--name=example.com/fingerprints')[2] == 'key.pub exists already; choose another file'
    assert not os.path.exists('key')
    assert "'a b' cannot be a key's name" in run('key', 'key', '--name=a b')[2]
    assert run('key', 'nowhere/key', '--codes')[2].startswith('nowhere/key cannot be written: No such file')
    assert run('key', 'codes', '--codes')[0] == 0 and len(open('codes').read()) == 65


def test_a_checkpoint_is_printed_and_a_bad_key_is_told(note, run):
    assert run('checkpoint', '--key=key') == (0, note, '')
    assert run('checkpoint', '--key=key', '--out=note')[2] == 'note exists already; choose another file'
    os.chmod('note', 0o600)
    assert 'this is not a signing key' in run('checkpoint', '--key=note')[2]
    os.chmod('key', 0o644)
    assert 'can be read by others' in run('checkpoint', '--key=key')[2]


def naive_root(leaf, index, size, path):
    """The root that RFC 6962's definition gives for a leaf and its path; the last hash of the path is the topmost."""
    if size == 1:
        assert not path
        return leaf
    split = 1
    while 2 * split < size:
        split *= 2
    if index < split:
        return hashlib.sha256(b'\1' + naive_root(leaf, index, split, path[:-1]) + path[-1]).digest()
    return hashlib.sha256(b'\1' + path[-1] + naive_root(leaf, index - split, size - split, path[:-1])).digest()


@pytest.mark.parametrize('seq', [0, 1, 3, 5])
def test_a_stranger_checks_a_proof_with_nothing_of_ours(note, run, seq):
    assert run('prove', str(seq), '--checkpoint=note', '--out=proof')[0] == 0
    head, checkpoint, signatures = open('proof').read().split('\n\n')
    version, extra, index, *path = head.split('\n')
    event = base64.b64decode(extra.partition(' ')[2])
    origin, size, root = checkpoint.split('\n')
    leaf = hashlib.sha256(b'\0' + event).digest()
    computed = naive_root(leaf, seq, int(size), [base64.b64decode(line) for line in path])
    assert (version, index, base64.b64decode(root)) == ('c2sp.org/tlog-proof@v1', f'index {seq}', computed)
    public = base64.b64decode(open('key.pub').read().strip().split('+', 2)[2])[1:]
    signature = base64.b64decode(signatures.split()[2])[4:]
    Ed25519PublicKey.from_public_bytes(public).verify(signature, f'{checkpoint}\n'.encode())
    assert json.loads(event)['seq'] == seq and origin == 'example.com/fingerprints'


def test_a_proof_is_checked_without_the_registry(note, run):
    run('prove', '3', '--checkpoint=note', '--out=proof')
    os.remove('registry.sqlite')
    code, out, _ = run('check-proof', 'proof', '--public-key=key.pub')
    assert code == 0 and out.startswith('proven: this is event 3 of the 6 of example.com/fingerprints\n{"actor":"own')
    run('key', 'other', '--name=example.com/fingerprints')
    assert 'not signed by' in run('check-proof', 'proof', '--public-key=other.pub')[2]


def changed_event(text):
    event = base64.b64decode(text.split()[2])
    return text.replace(base64.b64encode(event).decode(), base64.b64encode(event.replace(b'ann', b'eve')).decode())


@pytest.mark.parametrize('change, message', [
    (changed_event, 'the proof does not hold: event 3 was not in the ledger'),
    (lambda text: text.replace('index 3', 'index 2'), 'the proof does not hold: event 2 was not'),
    (lambda text: text.replace('index 3', 'index x'), "'x' is no event's number"),
    (lambda text: text.replace('index 3\n', 'index 3\nAAAA\n'), 'a line of the proof is no hash'),
    (lambda text: re.sub('index 3\n[^\n]*\n', 'index 3\n', text), 'the proof does not hold'),
    (lambda text: re.sub('extra .*', 'extra ***', text), 'the proof does not hold'),
    (lambda text: text.replace('\n6\n', '\n7\n'), 'does not fit the note; it was changed'),
    (lambda text: text.partition('\n\n')[2], 'is not signed|does not fit|no proof of an event'),
    (lambda text: 'old 3' + text[22:], 'this is no proof of an event'),
    (lambda text: '', 'is not signed')])
def test_a_changed_proof_proves_nothing(note, run, change, message):
    run('prove', '3', '--checkpoint=note', '--out=proof')
    text = open('proof').read()
    assert change(text) != text
    with open('changed', 'w') as file:
        file.write(change(text))
    code, out, complaint = run('check-proof', 'changed', '--public-key=key.pub')
    assert (code, out) == (1, '') and re.search(message, complaint)


def test_a_reservation_is_proven_only_if_its_code_may_be_shown(note, run):
    code, _, complaint = run('prove', '2', '--checkpoint=note', '--out=proof')
    assert code == 1 and 'event 2 holds a code' in complaint and not os.path.exists('proof')
    assert run('prove', '2', '--checkpoint=note', '--out=proof', '--reveal-code')[0] == 0


def test_growth_is_proven_and_a_rewritten_past_is_not(note, registry, run):
    issue(registry, 'cid')
    run('checkpoint', '--key=key', '--out=later')
    assert run('prove', '--since=note', '--checkpoint=later', '--out=proof')[0] == 0
    assert open('proof').read().startswith('old 6\n')
    check = ('check-proof', 'proof', '--public-key=key.pub', '--since=note')
    assert run(*check) == (0, 'proven: the 8 events of example.com/fingerprints begin with its 6 of the earlier '
                           'checkpoint\n', '')
    text = open('proof').read()
    for old, new, message in (('old 6', 'old 5', 'no proof that starts from a checkpoint of 6 events'),
                              (text.split('\n')[1], 'A' * 43 + '=', 'the proof does not hold')):
        with open('proof', 'w') as file:
            file.write(text.replace(old, new))
        assert message in run(*check)[2]


def test_proofs_of_another_registrys_checkpoint_are_refused(note, run):
    other = Registry('other.sqlite', create=True, actor='someone else')
    for name in ('ann', 'bob'):
        issue(other, name)
    wrong = 'no checkpoint of the ledger in'
    assert wrong in run('prove', '3', '--checkpoint=note', '--out=proof', '--registry=other.sqlite')[2]
    issue(other, 'cid')
    run('checkpoint', '--key=key', '--out=later', '--registry=other.sqlite')
    assert wrong in run('prove', '--since=note', '--checkpoint=later', '--out=proof', '--registry=other.sqlite')[2]
    assert not os.path.exists('proof')


@pytest.mark.parametrize('words, code, message', [
    (['prove', '--checkpoint=note', '--out=p'], 2, 'give either the number of an EVENT or --since=FILE'),
    (['prove', '3', '--since=note', '--checkpoint=note', '--out=p'], 2, 'give either'),
    (['prove', '6', '--checkpoint=note', '--out=p'], 2, 'has no event 6; the last is 5'),
    (['prove', '-1', '--checkpoint=note', '--out=p'], 2, 'has no event -1'),
    (['prove', '3', '--checkpoint=registry.sqlite', '--out=p'], 1, 'is no text; name the right file'),
    (['prove', '3', '--checkpoint=key.pub', '--out=p'], 1, 'is not a checkpoint'),
    (['prove', '3', '--checkpoint=nowhere', '--out=p'], 1, 'nowhere cannot be read: No such file'),
    (['prove', '3', '--checkpoint=/dev/zero', '--out=p'], 1, '/dev/zero has more than 1048576 bytes'),
    (['prove', '3', '--checkpoint=note', '--out=note'], 1, 'note exists already'),
    (['check-proof', 'note', '--public-key=note'], 1, 'is not a public key'),
    (['history', 'eve'], 1, "knows no user 'eve'"),
    (['notice', 'eve'], 1, "knows no user 'eve'"),
    (['misuse', 'ann', '--reason=x', '--known-at=soon'], 2, "'soon' is no time"),
    (['export', 'note'], 1, 'note exists already'),
    (['import', 'note', '--registry=new.sqlite'], 1, 'note is not an exported ledger'),
    (['timestamp', 'note'], 2, 'give --response and --root; or only --request'),
    (['timestamp', 'note', '--request=q', '--response=r', '--root=note'], 2, 'give --response and --root; or only'),
    (['timestamp', 'note', '--url=https://[', '--response=r', '--root=note'], 1, 'https://[ cannot be asked: '),
    (['timestamp', 'note', '--url=https://x', '--response=note', '--root=note'], 1, 'note exists already')])
def test_what_is_wrong_is_told_and_changes_nothing(note, run, words, code, message):
    before = {name: open(name, 'rb').read() for name in os.listdir()}
    assert run(*words)[0] == code and message in run(*words)[2]
    assert {name: open(name, 'rb').read() for name in os.listdir()} == before


@pytest.mark.skipif(not OPENSSL, reason='there is no program openssl to be the timestamping authority')
def test_a_checkpoint_is_timestamped_and_verified_offline(note, run, tmp_path_factory):
    pytest.importorskip('rfc3161_client', reason='the package rfc3161-client is not installed')
    authority = Authority(tmp_path_factory.mktemp('authority'))
    with service(authority.answer) as url:
        code, out, _ = run('timestamp', 'note', f'--url={url}', '--response=r.tsr', f'--root={authority.root}')
    assert code == 0 and re.fullmatch(r'note was there at 20\S+\+00:00, says CN=Test Authority\n', out)
    verify = ('timestamp', 'note', '--response=r.tsr', f'--root={authority.root}')
    assert run(*verify) == (0, out, '')  # the service is gone
    with open('note', 'a') as file:
        file.write(' ')
    assert run(*verify)[2].startswith('the timestamp does not hold: Mismatch')
    with service(lambda body: b'\x30\x03\x02\x01\x02') as url:
        code, _, complaint = run('timestamp', 'note', f'--url={url}', '--response=bad', f'--root={authority.root}')
    assert code == 1 and 'this is no RFC 3161 timestamp response' in complaint and not os.path.exists('bad')


@pytest.mark.skipif(not OPENSSL, reason='there is no program openssl to be the timestamping authority')
def test_a_timestamp_may_be_asked_for_by_other_means(note, run, tmp_path_factory):
    pytest.importorskip('rfc3161_client', reason='the package rfc3161-client is not installed')
    authority = Authority(tmp_path_factory.mktemp('authority'))
    code, out, _ = run('timestamp', 'note', '--request=q.tsq')
    assert code == 0 and '--data-binary @q.tsq' in out
    with open('r.tsr', 'wb') as file:
        file.write(authority.answer(open('q.tsq', 'rb').read()))
    assert run('timestamp', 'note', '--response=r.tsr', f'--root={authority.root}')[0] == 0


def test_the_history_of_all_and_of_one(registry, run):
    registry.revoke('bob', 'left')
    lines = run('history')[1].splitlines()
    assert len(lines) == 7 and re.fullmatch(r' +3  20\S+\+00:00  owner  instance_issued  ann', lines[3])
    assert [line.split()[3] for line in run('history', 'BOB')[1].splitlines()] == [
        'code_reserved', 'instance_issued', 'instance_revoked']


def test_misuse_deadline_overdue_revocation_and_notice(registry, run):
    assert run('deadlines') == (0, 'nothing is waiting to be revoked\n', '')
    assert run('misuse', 'ann', '--reason=removed the fingerprint', '--known-at=2026-03-01T12:00:00Z') == (
        0, 'ann must be revoked by 2026-03-05T12:00:00+00:00\n', '')
    run('misuse', 'bob', '--reason=sold it', '--known-at=2026-03-01T12:00:00Z')
    code, out, _ = run('deadlines')
    assert code == 3 and re.fullmatch('ann +OVERDUE since 2026-03-05T12:00:00.00:00  known since 2026-03-01T12:00:00.00'
                                      ':00  removed the fingerprint\nbob +OVERDUE .*\n', out)
    letter = run('notice', 'ann')[1]
    assert 'To: ann' in letter and 'is revoked with this letter' in letter
    run('revoke', 'ann', '--reason=removed the fingerprint')
    run('revoke', 'bob')
    assert run('deadlines')[0] == 0
    assert run('notice', 'ann', '--out=letter')[0] == 0
    letter = open('letter').read()
    for part in (f'was revoked on {registry.get("ann").revoked_at}', 'Reason: removed the fingerprint', DIGEST,
                 'within 96\nhours', 'here by 2026-03-05T12:00:00+00:00', '22757.3 (c)'):
        assert part in letter
    code = ''.join(map(str, registry.code('ann')))
    assert code not in letter


def test_a_misuse_known_today_is_due_but_not_overdue(registry, run):
    run('misuse', 'bob', '--reason=sold it')
    code, out, _ = run('deadlines')
    assert code == 0 and re.match('bob +due 20', out)


def test_a_notice_for_a_mere_end_claims_no_law_was_broken(registry, run):
    run('revoke', 'bob', '--reason=contract ended')
    letter = run('notice', 'bob')[1]
    assert 'contract ended' in letter and 'SB 942' not in letter and 'We learned' not in letter


def test_export_and_import_go_round(note, registry, run):
    assert run('export', 'copy.jsonl') == (0, '7 events are in copy.jsonl; keep it as secret as the registry\n', '')
    imported = f'7 events are in {os.path.abspath("new.sqlite")}\n'
    assert run('import', 'copy.jsonl', '--registry=new.sqlite') == (0, imported, '')
    assert run('verify', '--registry=new.sqlite', '--checkpoint', 'note')[0] == 0
    assert list(Registry('new.sqlite').events()) == list(registry.events())
    assert 'holds a registry already' in run('import', 'copy.jsonl', '--registry=new.sqlite')[2]


def test_a_code_is_spelled_for_the_phone_and_found_again(registry, run):
    code, words, _ = run('code', 'bob')
    assert code == 0 and words.startswith('fp1')
    assert run('code', f'--words={words.upper()}') == (0, 'bob\n', '')
    typo = words[:6] + ('q' if words[6] != 'q' else 'p') + words[7:]
    assert run('code', f'--words={typo}')[2].endswith('does not fit: character 7 may be wrong; read it again')
    with registry.issue('cid', MODEL, 32) as pending:
        pending.digest = DIGEST
    other = run('code', 'cid')[1]
    os.rename('registry.sqlite', 'old.sqlite')
    issue(Registry('registry.sqlite', create=True), 'eve')
    assert run('code', f'--words={other}')[2] == 'these words are a code, but of no instance in this registry'
    assert run('code')[0] == run('code', 'ann', '--words=x')[0] == 2


def test_that_codes_run_out_is_told_when_half_are_drawn(tmp_path):
    registry = Registry(tmp_path / 'r.sqlite', create=True)
    registry.register_model(MODEL, 8, minimum_distance=3)  # 256 codes, 37 within a distance of 2: 7 are certain
    for number in range(4):
        assert list(books.crowded_models(registry)) == []
        with registry.issue(f'user{number}', MODEL, 8) as pending:
            pending.digest = DIGEST
    [line] = books.crowded_models(registry)
    assert line == ('the model aaaaaaaaaaaa… has drawn 4 codes of 8 bits; for 7 there is certain to be one: train a '
                    'model of more bits')


def test_an_older_programs_registry_is_upgraded(registry, run):
    with open(os.path.join(ROOT, 'tests/fingerprints/registry_version_2.sql')) as file:
        with contextlib.closing(sqlite3.connect('old.sqlite')) as connection:
            connection.executescript(file.read())
    assert 'then: run_release.py upgrade --registry=' in run('list', '--registry=old.sqlite')[2]
    code, out, _ = run('upgrade', '--registry=old.sqlite')
    assert code == 0 and out.endswith('upgraded from version 2 to tables of version 3; its 6 events are as they were\n')
    assert run('upgrade')[1].endswith('registry.sqlite had tables of version 3; its 6 events are as they were\n')
    assert run('verify', '--registry=old.sqlite')[0] == 0


def test_a_registry_whose_codes_are_encrypted(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    run('key', 'codes.key', '--codes')
    from fingerprints.sealing import read_key_file
    registry = Registry('registry.sqlite', create=True, key=read_key_file('codes.key'))
    code = ''.join(map(str, issue(registry, 'ann')))
    assert code not in open('registry.sqlite', 'rb').read().decode('latin-1')
    assert code in run('list', '--json', '--codes', '--code-key=codes.key')[1]
    refused, out, complaint = run('list', '--json', '--codes')
    assert (refused, out) == (1, '') and '; give the key or passphrase (--code-key=FILE, --passphrase)' in complaint
    assert run('list')[0] == 0 and run('verify')[0] == 0 and run('verify', '--code-key=codes.key')[0] == 0
    run('key', 'other.key', '--codes')
    assert 'the key does not fit' in run('verify', '--code-key=other.key')[2]


@pytest.mark.parametrize('name', sorted(books.COMMANDS))
def test_every_flag_of_the_books_says_what_it_does(name, capsys):
    parser = run_release.make_parser()
    with pytest.raises(SystemExit):
        parser.parse_args([name, '--help'])
    assert re.match(rf'usage: \S+ {name} ', capsys.readouterr().out)
    [commands] = [action for action in parser._actions if action.dest == 'command']
    assert not [action.dest for action in commands.choices[name]._actions if not action.help]
    assert commands.choices[name].description.endswith('.')
