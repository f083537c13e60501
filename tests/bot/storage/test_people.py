"""What is known of a person, and forgetting it."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from bot.campaigns.gate import Never, Reason
from bot.storage import tables
from bot.storage.calls import CallStore
from bot.storage.database import open_database
from bot.storage.dialling import Held
from bot.storage.people import Forgotten, PeopleStore
from tests.bot.campaigns.facts import NOON as CAMPAIGN_NOON
from tests.bot.campaigns.facts import number, people
from tests.bot.storage.desk import FAST, desk
from tests.bot.storage.notes import CALLER, NOON, begun, ended, turn


async def test_a_person_is_forgotten_and_counts_stay(database_url: str, tmp_path: Path) -> None:
    """Number, words and recordings go; calls, times and counts stay, and other people's words."""
    file = tmp_path / "a.wav"
    file.touch()
    note, other = begun("CA1", recording=str(file)), begun("CA2", person="+14155550199")
    async with open_database(database_url) as database:
        store = CallStore(database)
        await store.write([note, turn(note), turn(note, 2), ended(note), other, turn(other)])
        people = PeopleStore(database)
        recordings = await people.recordings(CALLER)
        gone = await people.forget(CALLER, now=NOON + timedelta(days=1))
        [call] = await store.find("CA1")
        said = await store.turns(note.record_id)
        [others] = await store.turns(other.record_id)

    assert recordings == [str(file)]
    assert not file.exists()
    assert gone == Forgotten(n_calls=1, n_turns=2, n_contacts=0, n_recordings=1)
    assert (call.person, call.recording) == (None, None)
    assert call.forgotten_at == NOON + timedelta(days=1)
    assert (call.reason, call.n_turns) == ("goodbye", 1)
    assert {(turn.caller_text, turn.bot_text) for turn in said} == {("", "")}
    assert [turn.heard_ms for turn in said] == [900, 900]
    assert others.caller_text == "Where is it?"


async def test_who_called_very_often_is_forgotten(postgresql_url: str) -> None:
    """As a probe that calls each minute; a statement has 32,767 parameters at most."""
    row = {"retry": 0, "direction": "inbound", "person": CALLER, "persona": "x", "detail": ""}
    rows = [
        {**row, "record_id": str(n), "call_sid": str(n), "began_at": NOON, "ended_at": NOON}
        for n in range(33_000)
    ]
    async with open_database(postgresql_url) as database:
        async with database.writing() as connection:
            await connection.execute(insert(tables.calls), rows)
        gone = await PeopleStore(database).forget(CALLER, now=NOON)

    assert gone is not None
    assert gone.n_calls == 33_000


def files_of(folder: Path) -> list[Path]:
    return list(folder.glob("voicebot.db*"))


async def test_the_forgotten_is_not_left_in_the_file(tmp_path: Path) -> None:
    """SQLite's files hold nothing of a forgotten person, though another process has them open."""
    note, url = begun(), f"sqlite:///{tmp_path}/voicebot.db"
    async with open_database(url) as database, open_database(url) as other:
        await CallStore(database).write([note, turn(note), ended(note)])
        await CallStore(other).newest(n=1)
        await PeopleStore(database).forget(CALLER, now=NOON)
        content = [path.read_bytes() for path in files_of(tmp_path)]

    assert len(content) > 1
    assert b"Where is it?" not in b"".join(content)
    assert CALLER.encode() not in b"".join(content)


async def test_a_forgotten_contact_is_not_rung(database_url: str) -> None:
    """What was known of the person goes from every table; the place on a list stays, closed."""
    contacts = [
        *people(1, variables={"first_name": "Ann"}, zone="America/Boise"),
        *people(2, variables={"first_name": "Bob"}, zone="America/Denver")[1:],
    ]
    async with desk(database_url, contacts, variables=["first_name"]) as ours:
        store = PeopleStore(ours.database)
        n_before = await store.n_contacts(number(1))
        gone = await store.forget(number(1), now=CAMPAIGN_NOON)
        claims = await ours.claim(9)
        counts = await ours.store.counts(ours.campaign.campaign_id)
        numbers = {row.number for row in await ours.rows()}
        async with ours.database.reading() as connection:
            consents = (await connection.execute(select(tables.consents.c.number))).scalars().all()
            known = [
                str(row)
                for table in tables.METADATA.tables.values()
                for row in await connection.execute(select(table))
            ]

    assert (n_before, gone) == (1, Forgotten(n_calls=0, n_turns=0, n_contacts=1, n_recordings=0))
    assert len(claims) == 1
    assert (counts.planned, counts.refused) == (1, {"forgotten": 1})
    assert numbers == {None, number(2)}
    assert consents == [number(2)]
    assert all(any(fact in row for row in known) for fact in (number(2), "Bob", "America/Denver"))
    assert not any(fact in row for row in known for fact in (number(1), "Ann", "America/Boise"))


async def test_who_is_being_rung_counts_as_running(database_url: str) -> None:
    """Somebody whose telephone rings is forgotten afterwards."""
    async with desk(database_url) as ours:
        store = PeopleStore(ours.database)
        before = await store.n_running(number(1))
        await ours.order()
        during = await store.n_running(number(1))

    assert (before, during) == (0, 1)


async def test_who_is_being_rung_is_not_forgotten(database_url: str) -> None:
    """The number stays until the call has ended, so that a stop that is said in it is kept."""
    async with desk(database_url) as ours:
        people, order = PeopleStore(ours.database), await ours.order()
        gone = await people.forget(order.number, now=CAMPAIGN_NOON)
        [row] = await ours.rows()
        is_kept = await ours.store.stop_person_of(order.attempt_id, source="key", now=CAMPAIGN_NOON)
        await ours.heard(order, "completed", at=CAMPAIGN_NOON)
        after = await people.forget(order.number, now=CAMPAIGN_NOON)

    assert (gone, row.number, row.state) == (None, order.number, "committed")
    assert is_kept
    assert after == Forgotten(n_calls=0, n_turns=0, n_contacts=1, n_recordings=0)


async def test_who_talks_now_is_not_forgotten(database_url: str, tmp_path: Path) -> None:
    """Nothing is taken away of a person in whose newest call words are still to come."""
    file = tmp_path / "a.wav"
    file.touch()
    old, running = begun("CA1", recording=str(file)), begun("CA2")
    async with open_database(database_url) as database:
        store = CallStore(database)
        await store.write([old, turn(old), ended(old), running])
        gone = await PeopleStore(database).forget(CALLER, now=NOON)
        [call] = await store.find("CA1")
        [said] = await store.turns(old.record_id)

    assert gone is None
    assert file.exists()
    assert (call.person, call.recording) == (CALLER, str(file))
    assert said.caller_text == "Where is it?"


async def test_a_recording_that_cannot_be_deleted_stays_listed(
    database_url: str, tmp_path: Path
) -> None:
    """Then nothing is forgotten, so that whoever mends it finds the rest."""
    note = begun(recording=str(tmp_path))  # a folder is not to be deleted as a file
    async with open_database(database_url) as database:
        people = PeopleStore(database)
        await CallStore(database).write([note, turn(note), ended(note)])
        with pytest.raises(OSError, match=tmp_path.name):
            await people.forget(CALLER, now=NOON)
        recordings = await people.recordings(CALLER)

    assert recordings == [str(tmp_path)]


async def test_a_stop_outlives_the_number(database_url: str) -> None:
    """Who said stop and was forgotten is not rung when a new list has the number again."""
    async with desk(database_url) as ours:
        await ours.store.stop(number(1), source="api", now=CAMPAIGN_NOON)
        await PeopleStore(ours.database).forget(number(1), now=CAMPAIGN_NOON)
        await ours.store.add(ours.campaign.campaign_id, people(1), now=CAMPAIGN_NOON)
        [claim] = await ours.claim()
        held = await ours.commit(claim, FAST, CAMPAIGN_NOON)

    assert held == Held(Never(Reason.STOPPED))
