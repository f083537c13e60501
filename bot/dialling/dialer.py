"""A dialer put together: it dials and watches until it is asked to stop."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from bot.campaigns.gate import LineLimits
from bot.campaigns.urls import CallbackUrls
from bot.dialling.asking import Dialling, Timings
from bot.dialling.watching import Watching, WatchTimings
from bot.storage.answering import BELIEVED
from bot.storage.call_reports import CallReports
from bot.storage.database import Database
from bot.storage.dialling import LEASE, DialStore
from bot.storage.findings import FindingStore
from telephony.clock import Clock
from telephony.rest import TwilioCalls

__all__ = ["Dialer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialer:
    """One dialer. Several may share a database (PostgreSQL, if on several machines) and a line."""

    owner: str  # its name among them
    database: Database
    calls: TwilioCalls
    urls: CallbackUrls
    limits: LineLimits
    clock: Clock
    lease: timedelta = LEASE
    believed: timedelta = BELIEVED  # what answering processes said of themselves
    timings: Timings = field(default_factory=Timings)
    watch_timings: WatchTimings = field(default_factory=WatchTimings)

    async def run(self, stop: asyncio.Event) -> None:
        """Dial until `stop` is set and what Twilio was asked for is written down.

        Calls that were begun go on. Cancelling breaks off; what was left is taken over by others.
        """
        store = DialStore(self.database, lease=self.lease, believed=self.believed)
        reports = CallReports(self.database)
        dialling = Dialling(
            store=store,
            reports=reports,
            calls=self.calls,
            urls=self.urls,
            limits=self.limits,
            clock=self.clock,
            owner=self.owner,
            timings=self.timings,
        )
        watching = Watching(
            store=store,
            reports=reports,
            findings=FindingStore(self.database),
            calls=self.calls,
            clock=self.clock,
            timings=self.watch_timings,
        )
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(watching.run())
            await dialling.run(stop)
            watch.cancel()
