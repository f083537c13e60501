"""Each test of this room runs on every kind of database."""

from tests.bot.storage.databases import database_url, postgresql, postgresql_url, sqlite_url

__all__ = ["database_url", "postgresql", "postgresql_url", "sqlite_url"]
