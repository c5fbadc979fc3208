"""What Alembic runs for every command: migrations go through the connection, and the transaction, of who asks."""
from alembic import context

attributes = context.config.attributes
context.configure(connection=attributes['connection'], version_table=attributes['version_table'])
with context.begin_transaction():
    context.run_migrations()
