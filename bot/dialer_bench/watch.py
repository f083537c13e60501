"""The times of a dialer's steps, taken at the database and by nothing that a dialer knows of."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from bot.storage.database import Database
from telephony.clock import Clock

__all__ = ["Goal", "Watch", "WatchedDatabase"]

# When the decision fell that a task carries out. The task that asks Twilio is begun right after
# it, by the one that decides, and so is given what that one has here.
_decided_s: ContextVar[float] = ContextVar("decided_s")


class Goal(Enum):
    """What has happened to a contact that counts."""

    DECIDED = "decided"
    WRITTEN = "written"  # Twilio was asked, and what it answered is written down


@dataclass(slots=True)
class Watch:
    """Takes times, and stops the dialer once `n_contacts` have come to the goal."""

    goal: Goal
    n_contacts: int
    clock: Clock
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    decide_ms: list[float] = field(default_factory=list)  # of the gate's transaction
    ask_ms: list[float] = field(default_factory=list)  # from its end until Twilio's answer is there
    write_ms: list[float] = field(default_factory=list)  # of that answer's transaction
    wall_s: float = 0.0  # from `begin` to the goal, as `cpu_s`
    cpu_s: float = 0.0
    reached_at: datetime | None = None  # when the goal was, by the clock
    _decider: asyncio.Task[Any] | None = None

    def begin(self) -> None:
        """The dialer begins."""
        self.wall_s, self.cpu_s = -time.perf_counter(), -time.process_time()

    def decided(self, began_s: float) -> None:
        """A decision was written down by this task."""
        now_s = time.perf_counter()
        self._decider = asyncio.current_task()
        _decided_s.set(now_s)
        self.decide_ms.append(1000 * (now_s - began_s))
        if self.goal is Goal.DECIDED:
            self._check(len(self.decide_ms))

    def written(self, began_s: float) -> None:
        """Something was written down: an answer of Twilio, if this is a task that asked."""
        decided_s = _decided_s.get(None)
        if decided_s is None or asyncio.current_task() is self._decider:
            return
        self.ask_ms.append(1000 * (began_s - decided_s))
        self.write_ms.append(1000 * (time.perf_counter() - began_s))
        if self.goal is Goal.WRITTEN:
            self._check(len(self.write_ms))

    def _check(self, n_there: int) -> None:
        if n_there == self.n_contacts:
            self.wall_s += time.perf_counter()
            self.cpu_s += time.process_time()
            self.reached_at = self.clock.now()
            self.stop.set()


class WatchedDatabase(Database):
    """A database whose writing is timed."""

    def __init__(self, database: Database, watch: Watch) -> None:
        super().__init__(database._engine)
        self._watch = watch

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Any]:
        """As that of a database."""
        began_s = time.perf_counter()
        async with super().writing() as connection:
            yield connection
        self._watch.written(began_s)

    @asynccontextmanager
    async def writing_alone(self) -> AsyncIterator[Any]:
        """As that of a database: a dialer only decides so."""
        began_s = time.perf_counter()
        async with super().writing_alone() as connection:
            yield connection
        self._watch.decided(began_s)
