"""Waiting for a database that is away."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from bot.storage.database import is_out_of_reach
from telephony.clock import Clock

__all__ = ["with_patience"]

log = structlog.get_logger()

T = TypeVar("T")


async def with_patience(step: Callable[[], Awaitable[T]], clock: Clock) -> T:
    """Do something with the database, again and again while it is away. Cancelling gives up."""
    while True:
        try:
            return await step()
        except Exception as exc:
            if not is_out_of_reach(exc):
                raise
            log.warning("database_away", error=type(exc).__name__)
        await clock.sleep(1)
