"""Waiting for what no event tells of: something on another thread, in another process."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from tests.conftest import MS


async def eventually_so(
    condition: Callable[[], Awaitable[object]], timeout_ms: int = 10_000
) -> None:
    """As `eventually`, for what has to be asked for."""
    async with asyncio.timeout(timeout_ms * MS):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def eventually(condition: Callable[[], object], timeout_ms: int = 10_000) -> None:
    """Return once the condition holds; it is looked at every few milliseconds."""
    async with asyncio.timeout(timeout_ms * MS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def stand_still(duration_ms: int) -> None:
    """Nothing else happens on this thread for a time."""
    time.sleep(duration_ms / 1000)
