"""Makes a registry with a ledger of one of version 1, which was a table of users without a ledger.

    python -m fingerprints.migration OLD NEW

The old one is only read. What it says of times is kept; when it was taken over is recorded beside it.
"""
import argparse
from typing import Any

import sqlalchemy as sa

from dnnlib import cli
from dnnlib.util import UserError
from fingerprints import schema
from fingerprints.clock import now
from fingerprints.database import Database
from fingerprints.drafts import Draft
from fingerprints.instances import Contradiction, State
from fingerprints.ledger import EVENTS, Chain
from fingerprints.processes import current_actor

USERS = ['id', 'name', 'bits', 'issued_at', 'model', 'digest', 'instance', 'revoked_at', 'reason']


def migrate(old: str, new: str) -> int:
    """Makes the registry at `new` of the one at `old`, both files or URLs. Returns the number of users.

    Raises:
        UserError: `old` is not a registry of version 1, or is damaged; `new` holds a registry already.
    """
    source = Database(old)
    meta, users = _read(source)
    rows = _rows(source.location, meta, users)
    target = Database(new, create=True)
    if not target.create_tables(lambda connection: connection.execute(EVENTS.insert(), rows)):
        raise UserError(f'{target.location} holds a registry already; name a new one')
    return len(users)


def _read(source):
    """The old registry's meta values and its users' rows."""
    with source.transaction() as connection:
        found = schema.version(connection)
        if found != '1':
            raise UserError(f'{source.location} is a registry of version {found}, not 1; there is nothing to migrate')
        meta = dict(connection.execute(sa.select(schema.META.c.key, schema.META.c.value)).all())
        query = sa.select(*map(sa.column, USERS)).select_from(sa.table('users')).order_by(sa.column('id'))
        return meta, [dict(row) for row in connection.execute(query).mappings()]


def _rows(location, meta, users) -> list[dict[str, Any]]:
    """The rows of a ledger that says what the old registry did. Raises UserError if it contradicts itself."""
    chain, state, rows, time, actor = Chain(), State(lambda code, name: code), [], now(), current_actor()
    for kind, fields in _drafts(meta, users, chain):
        event = chain.next_event(time, actor, kind, fields)
        try:
            state.apply(event)
        except Contradiction as error:
            raise UserError(f'{location} is damaged: {error}; restore it from a copy') from None
        rows.append(event.row())
        chain.follow(*rows[-1].values())
    return rows


def _drafts(meta, users, chain):
    """Yields the events' kinds and fields. Codes were only distinct then, so their least distance is 1."""
    yield 'registry_created', {'version': 2, 'sealing': None, 'migrated_from': 'version 1'}
    if 'model' in meta:
        num_bits = int(meta['bits']) if meta.get('bits', '').isdigit() else 0
        yield 'model_registered', {'model_digest': meta['model'], 'num_bits': num_bits, 'minimum_distance': 1}
    for user in users:
        yield from _user_drafts(user, chain.size)


def _user_drafts(user, reservation) -> list[Draft]:
    name, at = user['name'], user['issued_at']
    drafts = [('code_reserved', {'name': name, 'user': name, 'model_digest': user['model'], 'code': user['bits'],
                                 'at': at}),
              ('instance_issued', {'name': name, 'reservation': reservation, 'digest': user['digest'],
                                   'location': user['instance'], 'at': at})]
    if user['revoked_at']:
        drafts.append(('instance_revoked', {'name': name, 'reason': user['reason'] or '', 'known_at': None,
                                            'at': user['revoked_at']}))
    return drafts


def make_parser() -> cli.ArgumentParser:
    """The command line."""
    parser = cli.ArgumentParser(prog='python -m fingerprints.migration', description=__doc__.split('\n')[0])
    parser.add_argument('old', metavar='OLD', help='SQLite file or database URL of the registry of version 1')
    parser.add_argument('new', metavar='NEW', help='file or URL of the registry to make')
    return parser


def main(args: argparse.Namespace) -> None:
    """Migrates, and says what was made."""
    print(f'{migrate(args.old, args.new)} users are in {args.new}; keep {args.old}, which nothing was changed in')


if __name__ == '__main__':
    cli.run(make_parser(), main)
