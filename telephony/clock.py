"""What time it is, and waiting: of the real clock, or of one that runs faster.

With a fast clock a day of calls passes in a minute. Sound is not of this clock: 20 ms of it last
20 ms.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "FastClock", "RealClock"]


class Clock(Protocol):
    """The time, and waiting for it."""

    def now(self) -> datetime:
        """The moment, in UTC."""
        ...

    async def sleep(self, duration_s: float) -> None:
        """Wait for so many seconds of this clock."""
        ...

    def real_s(self, duration_s: float) -> float:
        """How long a duration of this clock really takes, for time-outs."""
        ...


class RealClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The moment, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, duration_s: float) -> None:
        """Wait for so many seconds."""
        await asyncio.sleep(duration_s)

    def real_s(self, duration_s: float) -> float:
        """The same duration."""
        return duration_s


class FastClock:
    """A clock that shows `begins` as it is made and then runs `speed` times as fast as real ones.

    Clocks of several processes agree if they are given the same `started_s`, the moment of the
    machine's own clock (seconds since 1970) at which they show `begins`.
    """

    def __init__(self, begins: datetime, speed: float, *, started_s: float | None = None) -> None:
        if begins.tzinfo is None or speed <= 0:
            raise ValueError("expected a moment with a time zone, and a speed above 0")
        self._begins = begins
        self._speed = speed
        self.started_s = time.time() if started_s is None else started_s

    def now(self) -> datetime:
        """The moment, in UTC."""
        passed_s = self._speed * (time.time() - self.started_s)
        return self._begins.astimezone(UTC) + timedelta(seconds=passed_s)

    async def sleep(self, duration_s: float) -> None:
        """Wait for so many seconds of this clock."""
        await asyncio.sleep(self.real_s(duration_s))

    def real_s(self, duration_s: float) -> float:
        """How long a duration of this clock really takes."""
        return duration_s / self._speed
