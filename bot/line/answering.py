"""Tells dialers that this process answers calls, and how many more it could answer now.

Nobody is rung whom nobody would talk to: a dialer believes what was written down lately, and
nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import structlog

from bot.storage.answering import AnsweringStore
from bot.storage.database import is_out_of_reach
from telephony.clock import Clock

__all__ = ["AnsweringNotes"]

log = structlog.get_logger()

INTERVAL_S = 2.0
ANSWER_S = 10.0
LOST_AFTER = timedelta(days=1)
LOOK_S = 0.1  # between two looks whether calls are taken by now


class AnsweringNotes:
    """What one process says of itself, every two seconds of the machine's clock."""

    def __init__(
        self,
        store: AnsweringStore,
        clock: Clock,
        count_places: Callable[[], int | None],
        *,
        interval_s: float = INTERVAL_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        """`count_places` tells how many calls could be answered now; None if none are taken.

        Each time the database has `answer_s` to take it, at the end of the process as well.
        """
        self._store = store
        self._clock = clock
        self._count_places = count_places
        self._interval_s = interval_s
        self._answer_s = answer_s
        self._process = uuid4().hex
        self._may_be_known = False  # to answer calls
        self._is_refused = False  # the last time, by a database that is there

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Say it beside the body; at its end, however it comes, that nobody answers here."""
        try:
            async with asyncio.TaskGroup() as tasks:
                saying = tasks.create_task(self._say_again_and_again())
                try:
                    yield
                finally:
                    saying.cancel()
        finally:
            await self._if_in_reach(self._leave)

    async def _leave(self) -> None:
        await self._store.forget(self._process)
        await self._store.forget_lost(before=self._clock.now() - LOST_AFTER)

    async def _say_again_and_again(self) -> None:
        while True:
            await self._if_in_reach(self._say)
            await asyncio.sleep(self._interval_s if self._may_be_known else LOOK_S)

    async def _say(self) -> None:
        now, n_places = self._clock.now(), self._count_places()
        if n_places is not None:
            self._may_be_known = True  # whatever comes of it
            await self._store.note(self._process, n_places=n_places, now=now)
        elif self._may_be_known:
            await self._store.forget(self._process)
            self._may_be_known = False

    async def _if_in_reach(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(self._answer_s):  # a network that is gone says nothing
                await step()
        except Exception as exc:
            # whatever the database refuses, it is not to end all else that runs beside calls
            is_away = is_out_of_reach(exc)
            tell = log.warning if is_away or self._is_refused else log.exception
            tell("answering_not_noted", error=type(exc).__name__)
            self._is_refused = not is_away
        else:
            self._is_refused = False
