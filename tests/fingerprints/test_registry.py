"""What a registry promises, on SQLite and on PostgreSQL alike."""
import datetime
import secrets

import numpy as np
import pytest
from registries import DIGEST, MODEL, SPAWN, die_while_issuing, issue, issue_many, issue_slowly, run

from dnnlib.util import UsageError, UserError
from fingerprints import codes as code_module
from fingerprints.registry import Registry
from helpers import PATIENCE


def age(text):
    return abs(datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(text))


def test_what_is_issued_is_found_again(location):
    registry = Registry(location, create=True)
    assert registry.model() is None and registry.list() == [] and registry.models() == []
    codes = [issue(registry, name) for name in ('zoe', 'ann')]
    again = Registry(location)
    user = again.get('ann')
    assert (user.name, user.user, user.model_digest) == ('ann', 'ann', MODEL)
    assert (user.state, user.digest, user.location) == ('issued', DIGEST, 'instances/ann')
    assert user.revoked_at is None and user.reason is None and user.revocation_deadline is None
    assert age(user.issued_at) < datetime.timedelta(minutes=1) and user.reserved_at <= user.issued_at
    assert [user.name for user in again.list()] == ['zoe', 'ann']  # in the order of issue
    names, matrix = again.codes()
    assert names == ['zoe', 'ann'] and matrix.dtype == np.uint8 and (matrix == codes).all()
    assert again.model() == (MODEL, 32)
    assert registry.verify() == again.verify() == []


def test_a_registry_sees_what_another_appends(location):
    first, second = Registry(location, create=True), Registry(location, create=True)
    issue(first, 'ann')
    assert [user.name for user in second.list()] == ['ann']
    issue(second, 'bob')
    first.revoke('bob')
    assert second.get('bob').state == 'revoked' and second.verify() == []


def test_an_empty_registry_has_no_codes(location):
    names, codes = Registry(location, create=True).codes()
    assert names == [] and codes.shape == (0, 0)


def test_what_is_returned_is_a_copy(location):
    registry = Registry(location, create=True)
    issue(registry, 'ann')
    registry.get('ann').state = registry.list()[0].state = 'revoked'
    registry.codes()[1][:] = 7
    assert registry.get('ann').state == 'issued' and registry.codes()[1].max() <= 1


def test_a_failed_issue_frees_the_name_and_keeps_the_code(location):
    registry = Registry(location, create=True)
    with pytest.raises(RuntimeError), registry.issue('ann', MODEL, 32) as failed:
        raise RuntimeError('the export failed')
    assert registry.list() == [] and registry.verify() == []
    code = issue(registry, 'ann')
    names, codes = registry.codes()
    assert names == [f'ann#{registry.history()[0].id}', 'ann'] and (codes == [failed.code, code]).all()
    abandoned = registry.get(names[0])
    assert (abandoned.state, abandoned.reason) == ('abandoned', 'the export failed (RuntimeError)')


def test_an_instance_without_a_digest_is_not_issued(location):
    registry = Registry(location, create=True)
    with pytest.raises(AssertionError, match='digest'), registry.issue('ann', MODEL, 32):
        pass
    assert registry.list() == []


def test_a_killed_issue_is_named_and_the_same_command_works_again(location):
    process = run(die_while_issuing, location)
    process.join()
    assert process.exitcode == -9
    registry = Registry(location)
    assert registry.list() == []
    [finding] = registry.verify()
    assert finding.kind == 'leftover' and finding.seq == 2
    assert str(process.pid) in finding.text
    issue(registry, 'ann')
    assert registry.verify() == [] and [user.state for user in registry.history()] == ['abandoned', 'issued']
    assert 'was killed' in registry.history()[0].reason and len(registry.codes()[0]) == 2


def test_a_reservation_is_kept_while_its_process_lives(location):
    registry = Registry(location, create=True)
    with registry.issue('ann', MODEL, 32) as pending:
        assert [user.state for user in registry.history()] == ['reserved']
        assert Registry(location).codes()[0] == ['ann'] and registry.verify() == []
        with pytest.raises(UserError, match="'ann' is being issued by process .* since 20"):
            issue(Registry(location), 'ann')
        with pytest.raises(UserError, match='is being issued'):
            registry.abandon('ann')
        pending.digest = DIGEST
    assert registry.get('ann').state == 'issued'


ELSEWHERE = {'host': 'elsewhere', 'pid': 1, 'started': None}


def test_a_reservation_made_elsewhere_is_abandoned_by_hand(location, monkeypatch):
    registry = Registry(location, create=True)
    with monkeypatch.context() as patch:  # as if the process were killed: nothing ends its reservation
        patch.setattr('fingerprints.registry.this_process', lambda: ELSEWHERE)
        patch.setattr(Registry, '_abandon', lambda *arguments: None)
        with pytest.raises(RuntimeError), registry.issue('bob', MODEL, 32):
            raise RuntimeError
    [finding] = registry.verify()
    assert finding.kind == 'leftover' and 'process 1 on elsewhere' in finding.text
    with pytest.raises(UserError, match='is being issued by process 1 on elsewhere .* abandon the reservation'):
        issue(registry, 'bob')
    registry.abandon('bob', 'that machine is gone')
    assert registry.history()[0].reason == 'that machine is gone'
    issue(registry, 'bob')
    for name in ('bob', 'eve'):
        with pytest.raises(UserError, match=f"{name!r} has no open reservation"):
            registry.abandon(name)


def test_an_export_whose_reservation_was_abandoned_meanwhile_is_not_issued(location, monkeypatch):
    registry = Registry(location, create=True)
    monkeypatch.setattr('fingerprints.registry.this_process', lambda: ELSEWHERE)
    with pytest.raises(UserError, match="reservation of 'ann' was abandoned meanwhile; remove what was exported"):
        with registry.issue('ann', MODEL, 32) as pending:
            Registry(location).abandon('ann')
            pending.digest = DIGEST
    assert registry.list() == [] and registry.verify() == []


def test_processes_issuing_at_once_share_no_code(location):
    Registry(location, create=True).register_model(MODEL, 8)
    processes = [run(issue_many, location, prefix, 12, 8) for prefix in 'ab']
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    registry = Registry(location)
    names, codes = registry.codes()
    assert sorted(names) == sorted(f'{prefix}{index}' for prefix in 'ab' for index in range(12))
    assert len(np.unique(codes, axis=0)) == 24 and registry.verify() == []


def test_processes_issuing_the_same_name_at_once(location):
    Registry(location, create=True)
    outcomes = SPAWN.Queue()
    processes = [run(issue_slowly, location, 'ann', outcomes) for _ in range(2)]
    results = sorted(outcomes.get(timeout=PATIENCE) for _ in processes)
    for process in processes:
        process.join()
    assert results[1] == 'issued' and results[0].startswith(("'ann' is being issued by", "'ann' has an instance"))
    assert len(Registry(location).history()) == 1


def test_codes_keep_the_models_minimum_distance(location, monkeypatch):
    draws = [b'\x00\x00', b'\x00\x0f', b'\x00\x1f', b'\x0f\x1f']
    monkeypatch.setattr(secrets, 'token_bytes', lambda size: draws.pop(0))
    registry = Registry(location, create=True)
    registry.register_model(MODEL, 16, minimum_distance=5)
    codes = [issue(registry, name, 16) for name in ('ann', 'bob')]
    assert [np.packbits(code).tobytes() for code in codes] == [b'\x00\x00', b'\x00\x1f']
    assert registry.models() == [{'model_digest': MODEL, 'num_bits': 16, 'minimum_distance': 5, 'codes': 2,
                                  'users_possible': code_module.users_possible(16, 5)}]


def test_a_code_drawn_meanwhile_by_another_process_keeps_its_distance_too(location, monkeypatch):
    registry, other = Registry(location, create=True), Registry(location)
    registry.register_model(MODEL, 16, minimum_distance=5)
    draws = [b'\x00\x00', b'\x00\x01', b'\x00\x01', b'\xff\xff']

    def draw(size):
        if len(draws) == 4:  # between the first draw and its append, another process issues what lies too near
            first = draws.pop(0)
            issue(other, 'bob', 16)
            return first
        return draws.pop(0)
    monkeypatch.setattr(secrets, 'token_bytes', draw)
    assert issue(registry, 'ann', 16).tolist() == [1] * 16
    assert registry.codes()[0] == ['bob', 'ann'] and not draws


def test_a_registry_without_free_codes_says_so_and_reserves_nothing(location, monkeypatch):
    registry = Registry(location, create=True)
    monkeypatch.setattr(secrets, 'token_bytes', bytes)
    monkeypatch.setattr(code_module, 'DRAWS', 5)
    issue(registry, 'ann')
    with pytest.raises(UserError, match='5 draws found no code of 32 bits .* more bits'):
        issue(registry, 'bob')
    assert len(registry.history()) == 1


def test_a_name_is_issued_once(location):
    registry = Registry(location, create=True)
    issue(registry, 'ann')
    registry.revoke('ann')
    with pytest.raises(UserError, match="'ann' has an instance already; choose another name"):
        issue(registry, 'ann')
    with pytest.raises(UserError, match="'Ann' has an instance already, spelled 'ann'"):  # one folder on macOS, Windows
        issue(registry, 'Ann')


@pytest.mark.parametrize('name', ['', '.', '..', 'a/b', '-ann', 'ann\n', 'Zoë', 'a b', 'x' * 65, 'ann.', 'CON', 'nul.x',
                                  'a\udce4'])
def test_bad_names_are_refused(tmp_path, name):
    registry = Registry(tmp_path / 'r.sqlite', create=True)
    for arguments in ((name, None), ('fine', name or ' ')):
        with pytest.raises(UserError, match="cannot be a user's name") as caught:
            issue(registry, arguments[0], user=arguments[1])
        assert '\n' not in str(caught.value) and registry.history() == []


@pytest.mark.parametrize('name', ['a', 'ann', '7', 'Ann-Lee_2.b', 'x' * 64, 'CONNY', 'com'])
def test_good_names_are_accepted(tmp_path, name):
    registry = Registry(tmp_path / 'r.sqlite', create=True)
    issue(registry, name)
    assert registry.get(name).name == name


def test_revoked_users_stay_attributable(location):
    registry = Registry(location, create=True)
    codes = [issue(registry, name) for name in ('ann', 'bob')]
    registry.revoke('ann', 'leaked')
    user = registry.get('ann')
    assert user.state == 'revoked' and user.reason == 'leaked' and user.revoked_at >= user.issued_at
    assert registry.get('bob').revoked_at is None
    names, matrix = registry.codes()
    assert names == ['ann', 'bob'] and (matrix == codes).all()
    with pytest.raises(UserError, match="'ann' was revoked already, on 20"):
        registry.revoke('ann', 'again')
    assert registry.get('ann').reason == 'leaked'


def test_unknown_users_are_named(location):
    registry = Registry(location, create=True)
    for call in (registry.get, registry.revoke, lambda name: registry.note_misuse(name, 'x')):
        with pytest.raises(UserError, match="knows no user 'eve'"):
            call('eve')


def test_misuse_starts_the_96_hours(location):
    registry = Registry(location, create=True)
    for name in ('ann', 'bob', 'cid'):
        issue(registry, name)
    assert registry.note_misuse('ann', 'sold it', '2026-03-01T12:00:00+02:00') == '2026-03-05T10:00:00+00:00'
    registry.note_misuse('ann', 'sold it again', '2026-03-09T12:00:00Z')  # the earlier knowledge counts
    assert registry.get('ann').known_at == '2026-03-01T10:00:00+00:00'
    registry.note_misuse('bob', 'removed the fingerprint')
    assert [user.name for user in registry.overdue()] == ['ann']
    assert registry.overdue('2026-03-05T10:00:00+00:00') == []
    registry.revoke('ann', 'sold it')
    assert registry.overdue() == [] and registry.get('ann').revocation_deadline == '2026-03-05T10:00:00+00:00'
    registry.revoke('cid', 'left', known_at='2026-03-01')
    assert registry.get('cid').known_at and registry.get('bob').state == 'issued' and registry.verify() == []


@pytest.mark.parametrize('text, message', [('soon', "'soon' is no time"), ('2999-01-01', 'is in the future')])
def test_times_that_make_no_sense_are_refused(location, text, message):
    registry = Registry(location, create=True)
    issue(registry, 'ann')
    with pytest.raises(UsageError, match=message):
        registry.revoke('ann', known_at=text)
    assert registry.get('ann').state == 'issued'


@pytest.mark.parametrize('model, num_bits, message', [
    ('b' * 64, 32, 'belongs to the model aaaaaaaaaaaa…, this one is bbbbbbbbbbbb…; register the new model first'),
    (MODEL, 64, 'has codes of 32 bits for the model aaaaaaaaaaaa…, not 64')])
def test_another_models_instance_is_refused(location, model, num_bits, message):
    registry = Registry(location, create=True)
    issue(registry, 'ann')
    with pytest.raises(UserError, match=message):
        issue(registry, 'bob', num_bits, model)
    assert len(registry.history()) == 1


def test_several_models_and_users_issued_anew(location):
    registry = Registry(location, create=True)
    old = issue(registry, 'ann')
    registry.register_model('b' * 64, 64)
    with pytest.raises(UserError, match='bbbbbbbbbbbb… is registered already'):
        registry.register_model('b' * 64, 64)
    new = issue(registry, 'ann-2', 64, 'b' * 64, user='ann')
    extra = issue(registry, 'ann-3', 64, 'b' * 64, user='ann')
    assert registry.model() == ('b' * 64, 64)
    names, codes = registry.codes()
    assert names == ['ann-2', 'ann-3'] and (codes == [new, extra]).all()
    names, codes = registry.codes(MODEL)
    assert names == ['ann'] and (codes == [old]).all()
    assert registry.codes('c' * 64)[0] == []
    assert [(one.name, one.user) for one in registry.list()] == [('ann', 'ann'), ('ann-2', 'ann'), ('ann-3', 'ann')]


@pytest.mark.parametrize('num_bits, distance, message', [(7, 1, '7 bits is out of range'), (8, 9, 'distance of 9'),
                                                         (8, 0, 'distance of 0')])
def test_models_that_make_no_sense_are_refused(location, num_bits, distance, message):
    registry = Registry(location, create=True)
    with pytest.raises(UserError, match=message):
        registry.register_model(MODEL, num_bits, distance)
    assert registry.models() == []


def test_attributions_are_recorded_with_who_and_when(location):
    registry = Registry(location, create=True, actor='clerk')
    registry.record_attribution('f' * 64, {'user': None, 'reason': 'nobody', 'note': 'a\nb\x1b[31m\udce4'})
    event = list(registry.events())[-1]
    assert (event.kind, event.actor) == ('image_attributed', 'clerk') and age(event.time).seconds < 60
    assert event.fields['findings']['note'] == 'a\nb\x1b[31m\udce4' and '\n' not in event.text


def test_neither_readers_nor_writers_wait_for_an_export(location):
    registry = Registry(location, create=True)
    issue(registry, 'ann')
    with registry.issue('bob', MODEL, 32) as pending:
        other = Registry(location, timeout=0.1)
        assert [user.name for user in other.list()] == ['ann']
        issue(other, 'cid')
        pending.digest = DIGEST
    assert [user.name for user in registry.list()] == ['ann', 'bob', 'cid']


def test_a_busy_registry_is_told(location):
    registry = Registry(location, create=True)
    issue(registry, 'ann')
    with registry._database.transaction(write=True):
        with pytest.raises(UserError, match='busy: another process is appending'):
            issue(Registry(location, timeout=0.1), 'bob')
        assert [user.name for user in Registry(location, timeout=0.1).list()] == ['ann']
    issue(registry, 'bob')
