"""Dialers that die: nobody is rung twice in an attempt, and nobody is forgotten.

Who was rung is read from the network's own list of calls. A contact who was not rung, because the
dialer died before it asked Twilio, is rung by the next attempt.
"""

import ast
import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, NamedTuple

import pytest

from bot.campaigns.records import Counts
from telephony.clock import FastClock
from telephony.emulator import CreateFault
from telephony.emulator.dial_request import DialRequest
from telephony.emulator.rest import Faults
from tests.bot.campaigns.facts import number, people
from tests.bot.dialling.campaigns import (
    BUSY,
    EVERY_LIMIT,
    MORNING,
    CampaignLine,
    campaign_line,
    plan,
)
from tests.bot.dialling.mortal_dialer import Settings
from tests.bot.line.line import TOKEN
from tests.bot.storage.databases import start_postgresql
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]
SPEED = 200.0
PATIENCE_MS = (
    480_000  # for a thousand contacts, on a slow machine, too: a test that hangs ends then
)
LIFE_S = 4  # in which a place is come to, on a slow machine, too
N_STATEMENTS = 220  # from claim to record, at least, at which one dies
N_LIVES = 4  # more, for a place that most lives come to and one did not
ONCE_MORE = {
    "failed": {"times": 5, "after_ms": 60_000},
    "busy": {"times": 0},
    "no_answer": {"times": 0},
    "max_attempts": 6,
    "another_hour": False,
}
Place = tuple[str, int]  # file and line
# Where all takes long the sun sets meanwhile, two hundred times as fast.
ALL_DAY = {"begins": "00:00", "ends": "23:59"}
PLAN = plan(retries=ONCE_MORE, caps={"per_day": 9, "per_week": 9}, window=ALL_DAY)


class Ending(NamedTuple):
    """Of a life: the signal it died of, 0 for none, and the lines it came to."""

    died_of: int
    lines: list[Place]


class MortalDialer:
    """A process that lives as a dialer of a line, again and again."""

    def __init__(self, process: Popen[str], ours: CampaignLine, database_url: str) -> None:
        assert isinstance(ours.clock, FastClock)
        self._process = process
        self._ours = ours
        self._settings = Settings(
            database_url=database_url,
            account_sid=ours.network.account_sid,
            auth_token=TOKEN,
            rest_url=ours.rest.url,
            public_url=ours.line.url,
            begins=MORNING.isoformat(),
            speed=SPEED,
            started_s=ours.clock.started_s,
        )

    @asynccontextmanager
    async def life(
        self, ends_by: signal.Signals = signal.SIGTERM, **life: Any
    ) -> AsyncIterator["asyncio.Task[Ending]"]:
        """One life, which ends by the signal unless it has ended; how it ended."""
        assert self._process.stdin is not None
        print(json.dumps({"settings": asdict(self._settings), **life}), file=self._process.stdin)
        pid = (await self._answer())["pid"]
        ending = asyncio.create_task(self._end())
        try:
            yield ending
        finally:
            if not ending.done():
                with suppress(ProcessLookupError):
                    os.kill(pid, ends_by)
            await ending

    async def die_at(self, place: Place) -> int:
        """One life; the signal it died of, 0 if nothing was left to do before it came to the place.

        Then it was stopped.
        """
        async with self.life(at=place) as ending:
            done = asyncio.create_task(self._ours.finished())
            await asyncio.wait({ending, done}, timeout=LIFE_S, return_when=asyncio.FIRST_COMPLETED)
            done.cancel()
            await asyncio.gather(done, return_exceptions=True)
        return ending.result().died_of

    async def die_again_and_again(self, over: asyncio.Event, chance: random.Random) -> int:
        """Short lives until `over` is set; how many there were."""
        n_lives = 0
        while not over.is_set():
            async with self.life(signal.SIGKILL):
                n_lives += 1
                with suppress(TimeoutError):
                    async with asyncio.timeout(chance.uniform(0.05, 1)):
                        await over.wait()
        return n_lives

    async def watched(self) -> list[Place]:
        """One life to the end; the statements it came to."""
        async with self.life(watched=True) as ending:
            await self._ours.finished()
        return statements(ending.result().lines)

    async def live(self) -> Counts:
        """Dial to the end."""
        async with self.life():
            return await self._ours.finished(timeout_ms=60_000)

    async def _end(self) -> Ending:
        answer = await self._answer()
        return Ending(answer["signal"], [tuple(line) for line in answer["lines"]])

    async def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(await asyncio.to_thread(self._process.stdout.readline))


@asynccontextmanager
async def dying(dialers: Sequence[MortalDialer], chance: random.Random) -> AsyncIterator[list[int]]:
    """Dialers that live shortly, again and again; in the end, how often each did."""
    over = asyncio.Event()
    tasks = [asyncio.create_task(dialer.die_again_and_again(over, chance)) for dialer in dialers]
    n_lives: list[int] = []
    try:
        yield n_lives
    finally:
        over.set()
        n_lives += await asyncio.gather(*tasks)


@pytest.fixture(scope="module")
def processes(postgresql: Any) -> Iterator[list[Popen[str]]]:
    """Two that dialers may live in; to begin them takes seconds."""
    command = (sys.executable, "-m", "tests.bot.dialling.mortal_dialer", postgresql.get_uri())
    begun = [
        Popen(
            command,
            cwd=ROOT,
            stdin=PIPE,
            stdout=PIPE,
            bufsize=1,
            text=True,
            start_new_session=True,
        )
        for _ in range(2)
    ]
    yield begun
    for process in begun:
        with process:
            os.killpg(process.pid, signal.SIGKILL)  # and whatever lives in it


def statements(lines: Sequence[Place]) -> list[Place]:
    """The lines at which a statement begins."""
    begins = {
        (name, node.lineno)
        for name in {name for name, _ in lines}
        for node in ast.walk(ast.parse((ROOT / name).read_text()))
        if isinstance(node, ast.stmt)
    }
    return [line for line in lines if line in begins]


@pytest.mark.parametrize(
    ("url", "step"),
    [
        ("sqlite_url", 5),
        pytest.param("sqlite_url", 1, marks=pytest.mark.thorough),
        pytest.param("postgresql_url", 1, marks=pytest.mark.thorough),
    ],
)
async def test_a_dialer_may_be_killed_at_every_statement(
    url: str, step: int, request: pytest.FixtureRequest, processes: Sequence[Popen[str]]
) -> None:
    """At whatever statement from claim to record a dialer dies, its contacts are rung once.

    Some are come to in one life and not in the next, as where an answer was slow: it lives three
    times before it dies, and a place that most lives came to gets several tries.
    """
    database_url = request.getfixturevalue(url)
    async with campaign_line(database_url, directory=lambda number: BUSY, speed=SPEED) as ours:
        await ours.campaign(people(3), PLAN)
        dialer = MortalDialer(processes[0], ours, database_url)
        lives = [await dialer.watched()]
        for n_before in (3, 6):
            await _add(ours, n_before, n_before + 3)
            lives.append(await dialer.watched())
        n_times = Counter(chain.from_iterable(lives))  # a life comes to a place once or not
        places = list(n_times)[::step]
        usual = [place for place in places if n_times[place] > 1]
        n_contacts, deaths = 9, dict.fromkeys(places, 0)
        for place in (*places, *usual * N_LIVES):  # the usual ones again, until they are come to
            if deaths[place] != signal.SIGKILL:
                await _add(ours, n_contacts, n_contacts + 1)  # each life has somebody to ring
                n_contacts += 1
                deaths[place] = await dialer.die_at(place)
        counts = await dialer.live()

    assert ours.times_rung == {number(n): 1 for n in range(1, n_contacts + 1)}
    assert counts.done == {"busy": n_contacts}
    died_at = [place for place in places if deaths[place] == signal.SIGKILL]
    assert len(died_at) * step > N_STATEMENTS, sorted({*places} - {*died_at})


async def _add(ours: CampaignLine, n_before: int, n_after: int) -> None:
    """More contacts for a campaign."""
    new = people(n_after)[n_before:]
    await ours.store.add(ours.campaigns[0].campaign_id, new, now=ours.clock.now())


async def test_a_database_may_restart(tmp_path: Path) -> None:
    """PostgreSQL goes down and comes back while a campaign dials: everybody is rung once."""
    server = start_postgresql(tmp_path / "data")
    slowly = replace(EVERY_LIMIT, calls_per_second=0.1)
    async with campaign_line(
        server.get_uri(), directory=lambda number: BUSY, speed=SPEED, limits=slowly
    ) as ours:
        await ours.campaign(people(40), PLAN)
        async with ours.dialling():
            await eventually(lambda: len(ours.rung) >= 5)
            await asyncio.to_thread(server.cleanup)
            n_rung = len(ours.rung)
            server = await asyncio.to_thread(start_postgresql, tmp_path / "data")
            counts = await ours.finished(timeout_ms=60_000)
    server.cleanup()

    assert n_rung < 40
    assert ours.times_rung == {number(n): 1 for n in range(1, 41)}
    assert counts.done == {"busy": 40}


def mishaps(chance: random.Random) -> Faults:
    """One request in five goes wrong, in one way or another."""

    def fault_of(request: DialRequest) -> CreateFault | None:
        return chance.choice(list(CreateFault)) if chance.random() < 0.2 else None

    return fault_of


@pytest.mark.parametrize(
    ("url", "n_dialers"), [("sqlite_url", 1), ("postgresql_url", 1), ("postgresql_url", 2)]
)
@pytest.mark.parametrize("n_contacts", [60, pytest.param(1000, marks=pytest.mark.thorough)])
async def test_everybody_is_rung_once_whatever_dies(
    url: str,
    n_dialers: int,
    n_contacts: int,
    request: pytest.FixtureRequest,
    processes: Sequence[Popen[str]],
) -> None:
    """Dialers that are killed at random, requests that go wrong at random: all is well.

    Whoever was not rung in one attempt is rung in a later one; nobody is rung twice in an attempt.
    """
    chance = random.Random(20261128)
    database_url = request.getfixturevalue(url)
    async with campaign_line(
        database_url, directory=lambda number: BUSY, faults=mishaps(chance), speed=SPEED
    ) as ours:
        await ours.campaign(people(n_contacts), PLAN)
        dialers = [MortalDialer(process, ours, database_url) for process in processes[:n_dialers]]
        async with dying(dialers, chance) as n_lives:
            counts = await ours.finished(timeout_ms=PATIENCE_MS)

    assert counts.done == {"busy": n_contacts}
    assert ours.times_rung == {number(n): 1 for n in range(1, n_contacts + 1)}
    assert sum(n_lives) > n_contacts / 50
