"""Waiting for a database that is away."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from bot.storage.database import is_out_of_reach
from telephony.clock import Clock

__all__ = ["with_patience", "with_patience_until"]

log = structlog.get_logger()

T = TypeVar("T")


async def with_patience(step: Callable[[], Awaitable[T]], clock: Clock) -> T:
    """Do something with the database, again and again while it is away. Cancelling gives up."""
    while True:
        try:
            return await step()
        except Exception as exc:
            _tell_or_raise(exc)
        await clock.sleep(1)


async def with_patience_until(
    stop: asyncio.Event, step: Callable[[], Awaitable[T]], clock: Clock
) -> T | None:
    """As `with_patience`, but None once `stop` is set and the database is still away."""
    while True:
        try:
            return await step()
        except Exception as exc:
            _tell_or_raise(exc)
        if stop.is_set():
            return None
        await clock.sleep(1)


def _tell_or_raise(exc: Exception) -> None:
    if not is_out_of_reach(exc):
        raise exc
    log.warning("database_away", error=type(exc).__name__)
