"""The database itself refuses to change or delete rows; the version moves from `meta` to Alembic's table.

This keeps mistakes out, not their owner, who may drop the triggers; whoever does is found out as before.
"""
from alembic import op

revision = '3'
down_revision = '2'

TABLES = {'events': 'seq', 'checkpoints': 'size'}  # each with its key
REFUSAL = 'the ledger is append-only'


def upgrade() -> None:
    """Adds a trigger per table and way to change it."""
    op.drop_table('meta')
    if op.get_bind().dialect.name == 'postgresql':
        _refuse_in_postgresql()
    else:
        _refuse_in_sqlite()


def _refuse_in_sqlite():
    for table, key in TABLES.items():
        replaces = f'WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})'  # INSERT OR REPLACE is no DELETE
        for action, condition in (('UPDATE', ''), ('DELETE', ''), ('INSERT', replaces)):
            op.execute(f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} {condition} "
                       f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END")


def _refuse_in_postgresql():
    op.execute(f"CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
               f"$$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$")
    for table in TABLES:
        op.execute(f'CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} '
                   'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()')
