"""A running application for the tests of its parts."""

from collections.abc import AsyncIterator

import pytest

from tests.bot.inbound.line import TestLine, running_line


@pytest.fixture
async def line() -> AsyncIterator[TestLine]:
    """The application with default settings, on a port of its own."""
    async with running_line() as running:
        yield running
