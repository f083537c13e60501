"""Each test that asks for `database_url` runs on every kind of database."""

from tests.bot.storage.databases import database_url, postgresql, postgresql_url, sqlite_url

__all__ = ["database_url", "postgresql", "postgresql_url", "sqlite_url"]
