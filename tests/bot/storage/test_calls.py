"""Calls in the database, on SQLite and on PostgreSQL alike."""

from datetime import timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from bot.calls.records import CallerTranscribed
from bot.storage.calls import CallStore
from bot.storage.database import open_database
from tests.bot.storage.notes import CALLER, LINE, NOON, begun, ended, turn


async def test_a_call_is_kept_as_it_was(database_url: str) -> None:
    """What was noted of a call is read back, with its turns and its times in UTC."""
    note = begun(recording="/recordings/CA1-0.wav")
    async with open_database(database_url) as database:
        store = CallStore(database)
        await store.write([note, turn(note), ended(note)])
        [call] = await store.find("CA1")
        [said] = await store.turns(note.record_id)

    assert (call.person, call.line, call.persona) == (CALLER, LINE, "support-en")
    assert (call.began_at, call.ended_at) == (NOON, NOON + timedelta(seconds=8))
    assert (call.reason, call.duration_ms, call.n_turns, call.heard_ms) == ("goodbye", 8000, 1, 900)
    assert (said.caller_text, said.bot_text) == ("Where is it?", "It is on its way.")
    assert (said.interrupted, said.reply_latency_ms, said.heard_ms) == (True, 320, 900)
    assert said.host_ms == {"total": 280.5}


async def test_words_that_are_written_down_later_join_their_turn(database_url: str) -> None:
    """What the model writes down after a turn was noted is kept with it, and with no other."""
    note = begun()
    said = CallerTranscribed(note.record_id, 2, "My bill is wrong.")
    async with open_database(database_url) as database:
        store = CallStore(database)
        await store.write([note, turn(note), turn(note, 2, caller_text=""), said])
        first, second = await store.turns(note.record_id)

    assert (first.caller_text, second.caller_text) == ("Where is it?", "My bill is wrong.")


async def test_a_call_outlives_the_process(database_url: str) -> None:
    """What was written is there when the database is opened again; a running call has no end."""
    note = begun()
    async with open_database(database_url) as database:
        await CallStore(database).write([note, turn(note)])
    async with open_database(database_url) as database:
        [call] = await CallStore(database).newest(n=5)

    assert (call.reason, call.ended_at) == (None, None)


async def test_a_batch_is_written_whole_or_not_at_all(database_url: str) -> None:
    """One note that cannot be written leaves none of its batch behind."""
    first, second, like_first = begun("CA1"), begun("CA2"), begun("CA1")
    async with open_database(database_url) as database:
        store = CallStore(database)
        with pytest.raises(IntegrityError):
            await store.write([first, second, like_first])
        kept = await store.newest(n=5)

    assert kept == []


async def test_a_batch_may_be_written_again(database_url: str) -> None:
    """As by one whom the database did not answer in time: what is kept is kept once."""
    note = begun()
    batch = [note, turn(note), CallerTranscribed(note.record_id, 1, "Where?"), ended(note)]
    async with open_database(database_url) as database:
        store = CallStore(database)
        await store.write(batch)
        once = await store.newest(n=5), await store.turns(note.record_id)
        await store.write(batch)
        twice = await store.newest(n=5), await store.turns(note.record_id)

    assert [len(kept) for kept in twice] == [1, 1]
    assert once == twice


async def test_the_newest_calls_come_first(database_url: str) -> None:
    """Calls are listed by the time they began, as many as asked, of one number if asked."""
    notes = [begun(f"CA{n}", at=NOON + timedelta(minutes=n)) for n in range(4)]
    other = begun("CA9", person="+14155550199", at=NOON + timedelta(hours=1))
    async with open_database(database_url) as database:
        store = CallStore(database)
        await store.write([*notes, other])
        newest = [call.call_sid for call in await store.newest(n=2)]
        theirs = [call.call_sid for call in await store.newest(n=9, person=CALLER)]

    assert newest == ["CA9", "CA3"]
    assert theirs == ["CA3", "CA2", "CA1", "CA0"]


async def test_calls_of_a_process_that_went_down_are_lost(database_url: str) -> None:
    """A call without an end that began too long ago is given one; the others are left alone."""
    old, running, over = begun("CA1"), begun("CA2", at=NOON + timedelta(hours=30)), begun("CA3")
    async with open_database(database_url) as database:
        store = CallStore(database)
        await store.write([old, running, over, ended(over)])
        n_lost = await store.mark_lost(now=NOON + timedelta(hours=31))
        reasons = {call.call_sid: call.reason for call in await store.newest(n=5)}

    assert n_lost == 1
    assert reasons == {"CA1": "lost", "CA2": None, "CA3": "goodbye"}


async def test_any_text_can_be_kept(database_url: str) -> None:
    """A NUL or half a surrogate pair in a transcript does not cost the turn."""
    note = begun()
    async with open_database(database_url) as database:
        store = CallStore(database)
        await store.write([note, turn(note, caller_text="a\x00b\ud83d 你好 😀")])
        [said] = await store.turns(note.record_id)

    assert said.caller_text == "ab? 你好 😀"


async def test_a_time_without_a_zone_is_refused(database_url: str) -> None:
    """A time that means something else on each machine is not written."""
    async with open_database(database_url) as database:
        with pytest.raises(Exception, match="time zone"):
            await CallStore(database).write([begun(at=NOON.replace(tzinfo=None))])
