"""A running API for the tests of its parts."""

from collections.abc import AsyncIterator

import pytest

from tests.bot.api.service import Service, running_api
from tests.bot.storage.databases import postgresql, postgresql_url, sqlite_url

__all__ = ["postgresql", "postgresql_url", "sqlite_url"]


@pytest.fixture
async def service(sqlite_url: str) -> AsyncIterator[Service]:
    """The API on an empty SQLite database."""
    async with running_api(sqlite_url) as running:
        yield running
