"""What is around a dialer that is measured: a campaign's people, a phone network, its callbacks."""

import csv
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final

from bot.campaigns.gate import CampaignState
from bot.campaigns.records import CampaignRecord, Consent, NewContact
from bot.dialer_bench.callback_process import Callbacks, callbacks_apart
from bot.dialer_bench.dialer_process import MANY, OURS, Dialled, DialTask, dial_apart
from bot.dialer_bench.import_process import Imported, ImportTask, import_apart
from bot.dialer_bench.watch import Goal
from bot.storage.answering import AnsweringStore
from bot.storage.campaigns import CampaignStore
from bot.storage.database import Database, open_database
from config.campaigns import Campaign
from telephony.clock import FastClock
from telephony.emulator import Callee, Fate, PhoneNetwork, serve_rest

__all__ = ["Bench", "BenchFailed", "Ran", "numbers", "open_bench", "write_list"]

# A Wednesday, 10:00 in New York, where everybody lives; the clock goes as fast as a real one.
MORNING: Final = datetime(2026, 11, 18, 15, tzinfo=UTC)
DAY: Final = timedelta(days=1)
AGREED: Final = Consent(
    purpose="appointment reminders",
    method="web form",
    source="form 7",
    given_at=datetime(2026, 1, 2, tzinfo=UTC),
)
HEADINGS: Final = ("number", "first_name", "consent_at", "consent_method", "consent_source")
CHUNK: Final = 500  # people that are added in one transaction
BUSY: Final = Callee(fate=Fate.BUSY, rings_ms=0)
UNREACHABLE: Final = Callee(fate=Fate.UNREACHABLE, rings_ms=0)


class BenchFailed(Exception):
    """What was to be measured did not happen; the text says what did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a dialer did."""

    dialled: Dialled
    n_rung: int
    network_cpu_s: float
    callbacks_cpu_s: float  # of the process that writes them down
    behind_s: float  # how long after the dialer's goal the last one was written down, if it was


@dataclass(frozen=True, slots=True)
class Bench:
    """A database, who writes callbacks down in it, and a clock; `open_bench` makes it."""

    url: str
    database: Database
    clock: FastClock
    auth_token: str
    callbacks: Callbacks

    async def campaign(self, name: str) -> CampaignRecord:
        """A campaign without people."""
        return await self._store.create(_plan(name), now=MORNING)

    async def add(
        self, campaign: CampaignRecord, those: Iterable[str], *, have_agreed: bool
    ) -> None:
        """Add people by their numbers."""
        consent = AGREED if have_agreed else None
        people = (
            NewContact(number=number, row=n, variables={"first_name": "Ada"}, consent=consent)
            for n, number in enumerate(those, 1)
        )
        while chunk := list(islice(people, CHUNK)):
            await self._store.add(campaign.campaign_id, chunk, now=MORNING)

    async def import_list(self, campaign: CampaignRecord, path: Path) -> Imported:
        """Add the people of a file. Raises BenchFailed."""
        task = ImportTask(
            database_url=self.url,
            campaign=campaign.plan.name,
            path=str(path),
            now=MORNING.isoformat(),
        )
        imported = await import_apart(task)
        if imported is None:
            raise BenchFailed("the import broke off, or took too long")
        return imported

    async def dial(self, campaign: CampaignRecord, goal: Goal, n_contacts: int) -> Ran:
        """Let a dialer do so much; the campaign is paused afterwards. Raises BenchFailed."""
        await self._store.move(campaign.campaign_id, CampaignState.RUNNING, now=MORNING)
        network, callbacks = self._network(), self.callbacks
        await callbacks.begun()
        began_cpu_s = time.process_time(), callbacks.process.cpu_s()
        async with network, serve_rest(network) as rest:
            dialled = await dial_apart(self._task(network, rest.url, goal, n_contacts))
        cpu_s = time.process_time(), callbacks.process.cpu_s()
        await self._store.move(campaign.campaign_id, CampaignState.PAUSED, now=MORNING)
        if dialled is None:
            raise BenchFailed("the dialer broke off, or took too long")
        behind = await callbacks.last_at() - datetime.fromisoformat(dialled.reached_at)
        return Ran(
            dialled=dialled,
            n_rung=_n_rung(network),
            network_cpu_s=cpu_s[0] - began_cpu_s[0],
            callbacks_cpu_s=cpu_s[1] - began_cpu_s[1],
            behind_s=max(0.0, behind.total_seconds()),
        )

    @property
    def _store(self) -> CampaignStore:
        return CampaignStore(self.database)

    def _network(self) -> PhoneNetwork:
        return PhoneNetwork(
            auth_token=self.auth_token,
            directory=_callee,
            calls_per_second=MANY,
            ring_slack_ms=0,
            clock=self.clock,
        )

    def _task(self, network: PhoneNetwork, rest_url: str, goal: Goal, n_contacts: int) -> DialTask:
        return DialTask(
            database_url=self.url,
            account_sid=network.account_sid,
            auth_token=self.auth_token,
            rest_url=rest_url,
            public_url=self.callbacks.url,
            begins=MORNING.isoformat(),
            started_s=self.clock.started_s,
            goal=goal.value,
            n_contacts=n_contacts,
        )


@asynccontextmanager
async def open_bench(url: str) -> AsyncIterator[Bench]:
    """A database that is empty so far. Raises BenchFailed, StorageError."""
    async with open_database(url) as database:
        if await CampaignStore(database).all():
            raise BenchFailed("expected an empty database, found one with campaigns")
        # as if a `web` said so all the time
        await AnsweringStore(database).note("bench", n_places=MANY, now=MORNING + DAY)
        clock, auth_token = FastClock(MORNING, speed=1), secrets.token_hex(16)
        async with callbacks_apart(url, auth_token, clock, begins=MORNING) as callbacks:
            yield Bench(url, database, clock, auth_token, callbacks)


def numbers(n: int, *, first: int = 0) -> Iterator[str]:
    """Numbers of New York. There are two million."""
    return (f"+1212{2_000_000 + place}" for place in range(first, first + n))


def write_list(path: Path, n_rows: int) -> None:
    """A contact list as a customer may send it."""
    agreed = (AGREED.given_at.isoformat(), AGREED.method, AGREED.source)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADINGS)
        writer.writerows((number, "Ada", *agreed) for number in numbers(n_rows))


def _plan(name: str) -> Campaign:
    """A campaign that tries nobody again, and that nothing holds up or stops."""
    never = {"times": 0}
    return Campaign.model_validate(
        {
            "name": name,
            "persona": "reminder-en",
            "caller_id": OURS,
            "purpose": AGREED.purpose,
            "variables": ["first_name"],
            "max_concurrent": MANY,
            "retries": {"busy": never, "no_answer": never, "voicemail": never, "failed": never},
            "breaker": {"max_failed_share": 1.0, "max_short_share": 1.0},
        }
    )


def _callee(number: str) -> Callee:
    """Every second one is busy, the others cannot be reached."""
    return BUSY if int(number) % 2 else UNREACHABLE


def _n_rung(network: PhoneNetwork) -> int:
    """How many people. Raises BenchFailed if somebody was rung twice."""
    rung = Counter(call.request.to_number for call in network.outbound.values())
    if rung.total() > len(rung):
        raise BenchFailed("somebody was rung twice")
    return len(rung)
