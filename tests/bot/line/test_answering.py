"""What the application says of itself to those who place calls."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text
from structlog.testing import capture_logs

from bot.line.answering import AnsweringNotes
from bot.line.callbacks import Outbound
from bot.storage.answering import Answering, AnsweringStore
from bot.storage.database import open_database
from telephony.clock import RealClock
from tests.bot.line.line import health_page, persona_folder, running_line
from tests.conftest import MS
from tests.waiting import eventually, eventually_so

AGES = timedelta(days=1)


async def test_it_says_how_many_calls_it_could_answer(tmp_path: Path) -> None:
    """As many as it has places for, less those that run; none once it drains or has ended."""
    async with open_database(f"sqlite:///{tmp_path}/a.db") as database:
        store = AnsweringStore(database)

        async def says(n_places: int | None) -> bool:
            found: Answering | None = await store.find(since=datetime.now(UTC) - AGES)
            return (found and found.n_places) == n_places

        outbound = Outbound.of(database, RealClock(), persona_folder())
        async with (
            health_page() as (gpu_url, _),
            running_line(outbound=outbound, gpu_url=gpu_url, max_calls=3) as line,
        ):
            await eventually_so(lambda: says(3))
            async with line.running_call():
                await eventually_so(lambda: says(2))
                draining = asyncio.create_task(line.web.drain(5_000))
                await eventually_so(lambda: says(None))
            await draining
        assert await says(None)


async def test_without_a_host_it_answers_nobody(tmp_path: Path) -> None:
    """A model host that is out of reach takes its word back."""
    async with open_database(f"sqlite:///{tmp_path}/a.db") as database:
        store = AnsweringStore(database)

        async def answers() -> bool:
            return await store.find(since=datetime.now(UTC) - AGES) is not None

        async def answers_not() -> bool:
            return not await answers()

        outbound = Outbound.of(database, RealClock(), persona_folder())
        async with (
            health_page() as (gpu_url, host),
            running_line(outbound=outbound, gpu_url=gpu_url),
        ):
            await eventually_so(answers)
            host.close()
            await eventually_so(answers_not)


async def test_processes_that_were_killed_are_forgotten(tmp_path: Path) -> None:
    """Whoever ends takes away what was said days ago, and nothing newer."""
    now = datetime.now(UTC)
    async with open_database(f"sqlite:///{tmp_path}/a.db") as database:
        store = AnsweringStore(database)
        await store.note("killed", n_places=9, now=now - 2 * AGES)
        await store.note("other", n_places=1, now=now)

        async def only_the_other_is_left() -> bool:
            return await store.find(since=now - 3 * AGES) == Answering(n_places=1, as_of=now)

        assert not await only_the_other_is_left()
        async with running_line(outbound=Outbound.of(database, RealClock(), persona_folder())):
            pass
        assert await only_the_other_is_left()


async def test_a_database_that_refuses_ends_nothing_else(sqlite_url: str) -> None:
    """Told once with its trace; calls, and what else runs beside them, go on."""
    async with open_database(sqlite_url) as database:
        async with database.writing() as connection:
            refusal = "BEFORE INSERT ON answerers BEGIN SELECT RAISE(ABORT, 'refused'); END"
            await connection.execute(text(f"CREATE TRIGGER refusing {refusal}"))
        notes = AnsweringNotes(AnsweringStore(database), RealClock(), lambda: 1, interval_s=0.01)
        with capture_logs() as logs:
            async with notes.running():
                await eventually(lambda: len(logs) >= 3)

    assert {one["event"] for one in logs} == {"answering_not_noted"}
    assert [one["log_level"] for one in logs[:3]] == ["error", "warning", "warning"]


async def test_a_database_that_hangs_does_not_keep_the_process(postgresql_url: str) -> None:
    """At its end the process says that it answers no more, unless that takes too long."""
    async with open_database(postgresql_url) as database:
        notes = AnsweringNotes(AnsweringStore(database), RealClock(), lambda: 1, answer_s=200 * MS)
        with capture_logs() as logs:
            async with (
                asyncio.timeout(5_000 * MS),
                database.writing() as connection,
                notes.running(),
            ):
                await connection.execute(text("LOCK TABLE answerers"))

    assert logs[-1]["event"] == "answering_not_noted"
    assert logs[-1]["error"] == "TimeoutError"


async def test_a_database_that_does_not_take_it_is_not_asked_again_at_once(sqlite_url: str) -> None:
    """Not even by a process that has never said anything: it looks at its calls as often, alone."""
    looks_s: list[float] = []

    def count_places() -> int | None:
        looks_s.append(time.monotonic())
        return None if len(looks_s) == 1 else 1

    async with open_database(sqlite_url) as database:
        async with database.writing() as connection:
            await connection.execute(text("DROP TABLE answerers"))
        notes = AnsweringNotes(
            AnsweringStore(database), RealClock(), count_places, interval_s=600 * MS
        )
        with capture_logs() as logs:
            async with notes.running():
                await eventually(lambda: len(looks_s) >= 3)

    assert looks_s[2] - looks_s[1] >= 600 * MS
    assert {one["event"] for one in logs} == {"answering_not_noted"}
