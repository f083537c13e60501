"""Alembic's entry: the steps run on the connection that bot.storage.database hands over."""

from alembic import context

from bot.storage.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite alters a table by copying it
)
# not in a transaction of its own: whoever asked has begun one
context.run_migrations()
