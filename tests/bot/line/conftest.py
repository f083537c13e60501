"""A running application for the tests of its parts; `database_url` is every kind of database."""

from collections.abc import AsyncIterator

import pytest

from tests.bot.line.line import TestLine, running_line
from tests.bot.storage.databases import database_url, postgresql, postgresql_url, sqlite_url

__all__ = ["database_url", "line", "postgresql", "postgresql_url", "sqlite_url"]


@pytest.fixture
async def line() -> AsyncIterator[TestLine]:
    """The application with default settings, on a port of its own."""
    async with running_line() as running:
        yield running
