"""Events and checkpoints, as they were before Alembic kept the tables' version."""
import sqlalchemy as sa
from alembic import op

revision = '2'
down_revision = None


def upgrade() -> None:
    """Makes the tables."""
    meta = op.create_table(
        'meta',
        sa.Column('key', sa.String(32), primary_key=True),
        sa.Column('value', sa.String(255), nullable=False))
    op.bulk_insert(meta, [{'key': 'schema_version', 'value': '2'}])
    op.create_table(
        'events',
        sa.Column('seq', sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column('event', sa.Text, nullable=False),
        sa.Column('hash', sa.String(64), nullable=False))
    op.create_table(
        'checkpoints',
        sa.Column('size', sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column('note', sa.Text, nullable=False))
