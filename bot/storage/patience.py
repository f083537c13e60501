"""Waiting for a database that is away."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from bot.storage.database import is_out_of_reach
from telephony.clock import Clock

__all__ = [
    "ANSWER_S",
    "Ending",
    "Tries",
    "with_last_patience",
    "with_patience",
    "with_patience_until",
]

log = structlog.get_logger()

T = TypeVar("T")

ANSWER_S = 30.0  # much longer than SQLite waits for its turn


class Ending:
    """The end of what works with a database, which is given a little time then, all in all."""

    def __init__(self, stop: asyncio.Event, *, last_s: float) -> None:
        """It begins when `stop` is set, and is over `last_s` real seconds later."""
        self._stop = stop
        self._last_s = last_s
        self._over_at_s: float | None = None

    @property
    def has_begun(self) -> bool:
        """Whether there is to be an end."""
        return self._stop.is_set()

    async def over_at_s(self) -> float:
        """When it is over, by the clock of the loop; waits for the beginning."""
        await self._stop.wait()
        if self._over_at_s is None:
            self._over_at_s = asyncio.get_running_loop().time() + self._last_s
        return self._over_at_s


class Tries:
    """What is tried with a database, one step at a time or many, each with a limit of time."""

    def __init__(self, answer_s: float = ANSWER_S) -> None:
        """A step may take `answer_s` real seconds."""
        self._answer_s = answer_s
        self._limits: set[asyncio.Timeout] = set()  # of the steps under way

    async def once(self, step: Callable[[], Awaitable[T]]) -> T:
        """Raises what the step raises, and TimeoutError if it takes longer: it is cancelled."""
        async with asyncio.timeout(self._answer_s) as limit:
            self._limits.add(limit)
            try:
                return await step()
            finally:
                self._limits.discard(limit)

    def end_within(self, last_s: float) -> None:
        """From now on a step may take a third of that, one under way too: others are to follow."""
        self._answer_s = min(self._answer_s, last_s / 3)
        soon_s = asyncio.get_running_loop().time() + self._answer_s
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(min(soon_s, limit.when() or soon_s))


async def with_patience(
    step: Callable[[], Awaitable[T]], clock: Clock, *, answer_s: float | None = ANSWER_S
) -> T:
    """Do something with the database, again and again while it is away. Cancelling gives up.

    One that has not answered within `answer_s` real seconds hangs, which is to be away as well: it
    is asked again on another connection.
    """
    while True:
        try:
            async with asyncio.timeout(answer_s):
                return await step()
        except Exception as exc:
            _tell_or_raise(exc)
        await clock.sleep(1)


async def with_patience_until(
    ending: Ending, step: Callable[[], Awaitable[T]], clock: Clock
) -> T | None:
    """As `with_patience`, but None once the end has begun and the database is still away.

    One that hangs is away when the end is over: the step is cancelled then.
    """
    while True:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await _before(ending, step)
        except Exception as exc:
            _tell_or_raise(exc)
        if ending.has_begun:
            return None
        await clock.sleep(1)


async def with_last_patience(ending: Ending, step: Callable[[], Awaitable[T]], clock: Clock) -> T:
    """As `with_patience`, but TimeoutError if the end is over before the step is done."""
    return await _before(ending, lambda: with_patience(step, clock))


async def _before(ending: Ending, step: Callable[[], Awaitable[T]]) -> T:
    """Raises what the step raises, and TimeoutError if the end is over before."""
    async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as tasks:
        limiting = tasks.create_task(_limit(limit, ending))
        result = await _tried(step)
        limiting.cancel()
    if isinstance(result, Exception):
        raise result
    return result


async def _limit(limit: asyncio.Timeout, ending: Ending) -> None:
    limit.reschedule(await ending.over_at_s())


async def _tried(step: Callable[[], Awaitable[T]]) -> T | Exception:
    """What the step gives or raises, which is not to end the other task."""
    try:
        return await step()
    except Exception as exc:
        return exc


def _tell_or_raise(exc: Exception) -> None:
    if not is_out_of_reach(exc):
        raise exc
    log.warning("database_away", error=type(exc).__name__)
