"""Calls are written down beside the line that carries them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from bot.line.record_keeper import Note, RecordKeeper
from bot.storage.calls import CallStore
from bot.storage.database import open_database
from pipelines.call.plan import EndReason
from tests.bot.line.line import CALL_SID, running_line
from tests.bot.storage.databases import start_postgresql
from tests.bot.storage.notes import begun, ended, turn
from tests.bot.storage.wire import wire
from tests.conftest import MS
from tests.waiting import eventually

TURN = turn(begun()).turn


async def keep(keeper: RecordKeeper, notes: Sequence[Note]) -> None:
    """Everything, to the end."""
    async with asyncio.timeout(10_000 * MS), keeper.running():
        for note in notes:
            keeper.put(note)


async def test_a_call_of_the_line_is_kept(tmp_path: Path) -> None:
    """A call that came in over the line stands in the database with its numbers and turns."""
    async with open_database(f"sqlite:///{tmp_path}/voicebot.db") as database:
        store = CallStore(database)
        async with running_line(
            keeper=RecordKeeper(store.write), recording_dir=tmp_path / "recordings"
        ) as line:
            line.call.turns = [TURN]
            async with line.running_call():
                pass
            await eventually(lambda: line.web.calls.n_running == 0)
        [call] = await store.newest(n=5)
        [said] = await store.turns(call.record_id)

    assert (call.call_sid, call.retry) == (CALL_SID, 0)
    assert (call.person, call.line) == ("+15550199", "+15550100")
    assert (call.reason, call.n_turns) == ("caller_hung_up", 1)
    assert call.recording == str(tmp_path / "recordings" / f"{CALL_SID}-0.wav")
    assert (said.bot_text, said.heard_ms) == (TURN.bot_text, TURN.heard_ms)


async def test_a_call_that_failed_is_kept(tmp_path: Path) -> None:
    """A call that broke is written down as failed; metrics hear of turns as without a keeper."""
    async with open_database(f"sqlite:///{tmp_path}/voicebot.db") as database:
        store = CallStore(database)
        async with running_line(keeper=RecordKeeper(store.write)) as line:
            line.call.turns = [TURN]
            line.call.error = RuntimeError("broken")
            async with line.running_call():
                await eventually(lambda: line.web.calls.n_running == 0)
            n_turns = line.metric("turns_total", interrupted="yes")
        [call] = await store.newest(n=5)

    assert call.reason == EndReason.FAILED.value
    assert n_turns == 1


async def test_a_database_that_was_away_costs_nothing(tmp_path: Path) -> None:
    """Notes wait while the database cannot be reached, and are all written once it can."""
    note = begun()
    async with open_database(f"sqlite:///{tmp_path}/voicebot.db") as database:
        store = CallStore(database)
        refusals = iter(range(3))

        async def write(notes: Sequence[Note]) -> None:
            if next(refusals, None) is not None:
                raise ConnectionRefusedError
            await store.write(notes)

        await keep(RecordKeeper(write, retry_after_ms=1), [note, turn(note), ended(note)])
        [call] = await store.newest(n=5)
        said = await store.turns(note.record_id)

    assert (call.reason, len(said)) == ("goodbye", 1)


async def test_a_database_restarts(tmp_path: Path) -> None:
    """PostgreSQL goes down and comes back while notes come in: all of them are kept."""
    server = start_postgresql(tmp_path / "data")
    async with open_database(server.get_uri()) as database:
        store = CallStore(database)
        keeper = RecordKeeper(store.write, retry_after_ms=10)
        note = begun()
        await store.write([note])
        async with keeper.running():
            await asyncio.to_thread(server.cleanup)
            keeper.put(turn(note))
            await eventually(lambda: keeper.n_waiting == 0)  # it is being tried
            keeper.put(ended(note))
            server = await asyncio.to_thread(start_postgresql, tmp_path / "data")
        [call] = await store.newest(n=5)
        said = await store.turns(note.record_id)
    server.cleanup()

    assert (call.reason, len(said)) == ("goodbye", 1)
    assert keeper.n_dropped == 0


async def test_a_database_that_says_nothing_is_asked_on_another_connection(
    postgresql_url: str,
) -> None:
    """As one behind a network that was cut: the writer of all records is not held up."""
    async with wire(postgresql_url) as (ours, url), open_database(url) as database:
        store = CallStore(database)
        await store.write([begun()])
        ours.fall_silent()
        keeper = RecordKeeper(store.write, retry_after_ms=1, answer_s=500 * MS)
        async with keeper.running():
            keeper.put(begun("CA2"))
        calls = await store.newest(n=5)

    assert {call.call_sid for call in calls} == {"CA1", "CA2"}
    assert keeper.n_dropped == 0


async def test_a_connection_that_is_silent_at_the_end_is_given_up_in_time(
    postgresql_url: str,
) -> None:
    """The last moments are shorter than a database may usually take: another gets some of them."""
    async with wire(postgresql_url) as (ours, url), open_database(url) as database:
        store = CallStore(database)
        await store.write([begun()])
        keeper = RecordKeeper(store.write, retry_after_ms=1, last_ms=6_000)
        async with keeper.running():
            ours.fall_silent()
            keeper.put(begun("CA2"))
            await eventually(lambda: keeper.n_waiting == 0)  # it is being tried
        calls = await store.newest(n=5)

    assert {call.call_sid for call in calls} == {"CA1", "CA2"}


async def test_what_was_written_without_an_answer_is_not_dropped(sqlite_url: str) -> None:
    """A write that was kept, and whose answer came too late, is done again: nothing is refused."""
    note = begun()
    async with open_database(sqlite_url) as database:
        store = CallStore(database)
        is_late = iter([True])

        async def write(notes: Sequence[Note]) -> None:
            await store.write(notes)
            if next(is_late, False):
                await asyncio.Event().wait()

        keeper = RecordKeeper(write, retry_after_ms=1, answer_s=500 * MS)
        await keep(keeper, [note, turn(note), ended(note)])
        [call] = await store.newest(n=5)
        said = await store.turns(note.record_id)

    assert (call.reason, len(said)) == ("goodbye", 1)
    assert keeper.n_dropped == 0


async def test_a_refused_note_does_not_cost_the_others(tmp_path: Path) -> None:
    """A note that the database does not take is dropped and counted; those beside it are kept."""
    first, second, like_first = begun("CA1"), begun("CA2"), begun("CA1")
    async with open_database(f"sqlite:///{tmp_path}/voicebot.db") as database:
        store = CallStore(database)
        keeper = RecordKeeper(store.write)
        await keep(keeper, [first, like_first, turn(begun("CA3")), second, ended(second)])
        kept = {call.call_sid: call.reason for call in await store.newest(n=5)}

    assert kept == {"CA1": None, "CA2": "goodbye"}
    assert keeper.n_dropped == 2


async def test_what_waits_is_bounded(tmp_path: Path) -> None:
    """A queue that is full drops what comes, counts it, and still takes the end."""
    async with open_database(f"sqlite:///{tmp_path}/voicebot.db") as database:
        store = CallStore(database)
        keeper = RecordKeeper(store.write, max_waiting=3)
        await keep(keeper, [begun(f"CA{n}") for n in range(5)])
        kept = await store.newest(n=9)

    assert len(kept) == 3
    assert keeper.n_dropped == 2


async def test_the_line_ends_though_its_database_is_away() -> None:
    """A process that is to end waits for the last records for a limited time only."""

    async def write(notes: Sequence[Note]) -> None:
        raise ConnectionRefusedError

    async with asyncio.timeout(10_000 * MS):
        async with running_line(keeper=RecordKeeper(write, last_ms=50)) as line:
            async with line.running_call():
                pass
            await eventually(lambda: line.web.calls.n_running == 0)
            n_waiting = line.metric("records_waiting")

    assert n_waiting >= 1  # the end at least; the beginning is being tried
