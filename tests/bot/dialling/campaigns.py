"""A campaign on the phone network's emulator: real callbacks, real REST, a real database."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bot.campaigns.gate import CampaignState, LineLimits
from bot.campaigns.records import CampaignRecord, Counts, DecisionRow, NewContact
from bot.campaigns.urls import CallbackUrls
from bot.dialling.asking import Timings
from bot.dialling.dialer import Dialer
from bot.dialling.watching import WatchTimings
from bot.line.callbacks import Outbound
from bot.line.record_keeper import RecordKeeper
from bot.storage.call_reports import CallReports
from bot.storage.calls import CallStore
from bot.storage.campaigns import CampaignStore
from bot.storage.database import Database, open_database
from config.campaigns import Campaign
from telephony.clock import Clock, FastClock
from telephony.emulator import CallbackFaults, Callee, Fate, PhoneNetwork, serve_rest
from telephony.emulator.callee import Directory
from telephony.emulator.line import Line
from telephony.emulator.outbound import OutboundCall
from telephony.emulator.rest import Faults, Rest, no_faults
from telephony.rest import TwilioCalls, twilio_calls
from tests.bot.campaigns import facts
from tests.bot.campaigns.facts import OURS
from tests.bot.line.line import (
    PERSONAS,
    TOKEN,
    TestLine,
    health_page,
    persona_folder,
    running_line,
)
from tests.waiting import eventually_so

# A Wednesday, 10:00 in New York.
MORNING = datetime(2026, 11, 18, 15, tzinfo=UTC)
NO_FAULTS = CallbackFaults()
EVERY_LIMIT = LineLimits(
    caller_ids=frozenset({OURS}), calls_per_second=1_000, model_slots=50, inbound_reserve=0
)


def plan(name: str = "reminders", **changes: Any) -> Campaign:
    """A campaign without retries, unless the test asks for some."""
    none = {"times": 0, "after_ms": 60_000}
    return facts.plan(
        **{
            "name": name,
            "max_concurrent": 50,
            "breaker": {"calls": 1000, "max_failed_share": 1.0, "max_short_share": 1.0},
            "retries": {"busy": none, "no_answer": none, "voicemail": none, "failed": none},
            **changes,
        }
    )


async def hangs_up(line: Line) -> None:
    """Somebody who answers and hangs up soon."""
    await asyncio.sleep(0.05)


async def stays(line: Line) -> None:
    """Somebody who hears the bot out for half a second."""
    await line.wait_until(lambda: line.stream is not None)
    await line.sleep(500)


QUICK = Callee(answer=hangs_up, rings_ms=1_000)
BUSY = Callee(fate=Fate.BUSY, rings_ms=500)


def quick(number: str) -> Callee:
    """A directory in which everybody answers and hangs up soon."""
    return QUICK


@dataclass
class CampaignLine:
    """The line, the network and the database of a test."""

    database: Database
    clock: Clock
    network: PhoneNetwork
    rest: Rest
    line: TestLine
    limits: LineLimits
    lease: timedelta
    believed: timedelta
    answer_timeout_ms: int  # then an answer of Twilio's counts as lost
    campaigns: list[CampaignRecord] = field(default_factory=list)

    @property
    def store(self) -> CampaignStore:
        return CampaignStore(self.database)

    @property
    def reports(self) -> CallReports:
        return CallReports(self.database)

    @property
    def rung(self) -> list[OutboundCall]:
        """The network's own list of calls whose telephone rang or was busy."""
        return list(self.network.outbound.values())

    @property
    def times_rung(self) -> Counter[str]:
        """How often the telephone of each number rang or was busy."""
        return Counter(call.request.to_number for call in self.rung)

    async def campaign(
        self, contacts: Sequence[NewContact], plan: Campaign, *, starts: bool = True
    ) -> CampaignRecord:
        """A campaign that runs."""
        now = self.clock.now()
        record = await self.store.create(plan, now=now)
        await self.store.add(record.campaign_id, contacts, now=now)
        if starts:
            assert await self.store.move(record.campaign_id, CampaignState.RUNNING, now=now)
        self.campaigns.append(record)
        return record

    def rest_calls(self) -> AbstractAsyncContextManager[TwilioCalls]:
        """The network's REST interface, as a dialer has it."""
        return twilio_calls(
            self.network.account_sid,
            TOKEN,
            base_url=self.rest.url,
            answer_timeout_ms=self.answer_timeout_ms,
        )

    @asynccontextmanager
    async def dialling(self, **timings: int) -> AsyncIterator[None]:
        """A dialer runs."""
        async with self.rest_calls() as calls:
            dialer = Dialer(
                owner="test",
                database=self.database,
                calls=calls,
                urls=CallbackUrls(self.line.url),
                limits=self.limits,
                clock=self.clock,
                lease=self.lease,
                believed=self.believed,
                timings=Timings(**timings),
                watch_timings=WatchTimings(),
            )
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(dialer.run(stop))
                yield
                stop.set()

    async def dialled(self) -> list[DecisionRow]:
        """Of the first campaign: whom the gate let be rung, in order.

        Their times are exact, where a request that takes its time is minutes of a fast clock.
        """
        rows = self.store.decisions(self.campaigns[0].campaign_id)
        return [row async for row in rows if row.is_dialled]

    async def counts(self) -> Counts:
        """Of the first campaign."""
        return await self.store.counts(self.campaigns[0].campaign_id)

    async def finished(self, timeout_ms: int = 20_000) -> Counts:
        """The counts once nothing is open any more."""

        async def nothing_is_open() -> bool:
            return (await self.counts()).n_open == 0

        await eventually_so(nothing_is_open, timeout_ms)
        return await self.counts()


@asynccontextmanager
async def campaign_line(
    database_url: str,
    *,
    directory: Directory = quick,
    faults: Faults = no_faults,
    callback_faults: CallbackFaults = NO_FAULTS,
    calls_per_second: float = 10_000,
    limits: LineLimits = EVERY_LIMIT,
    begins: datetime = MORNING,
    speed: float = 20,
    keeps_calls: bool = False,
    personas_dir: Path = PERSONAS,
    **line_changes: Any,
) -> AsyncIterator[CampaignLine]:
    """The line on which campaigns run, by a clock that begins at `begins`.

    `line_changes` are for `running_line`.
    """
    clock = FastClock(begins, speed)
    network = PhoneNetwork(
        auth_token=TOKEN,
        directory=directory,
        callback_faults=callback_faults,
        calls_per_second=calls_per_second,
        ring_slack_ms=0,
        clock=clock,
    )
    personas = persona_folder(personas_dir)
    await personas.now()
    async with open_database(database_url) as database:
        outbound = Outbound.of(database, clock, personas)
        keeper = RecordKeeper(CallStore(database).write) if keeps_calls else None
        async with (
            health_page() as (gpu_url, _),
            running_line(
                outbound=outbound, keeper=keeper, **{"gpu_url": gpu_url, **line_changes}
            ) as line,
            network,
            serve_rest(network, faults=faults) as rest,
        ):
            # what is believed, and leased, lasts as long as a machine may stand still, whatever
            # its clock says
            lease, believed = timedelta(seconds=max(60, speed * 5)), timedelta(seconds=speed * 30)
            # where answers are lost, that is soon known; elsewhere they come, sooner or later
            patience_ms = 4_000 if faults is no_faults else 1_000
            yield CampaignLine(
                database, clock, network, rest, line, limits, lease, believed, patience_ms
            )
