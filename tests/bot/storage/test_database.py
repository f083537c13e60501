"""Opening the database, and its migrations, forwards and backwards."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from bot.storage.calls import CallStore
from bot.storage.database import StorageError, migrate, open_database
from bot.storage.tables import METADATA, attempts
from tests.bot.campaigns.facts import NOON, number, people
from tests.bot.storage.desk import FAST, desk
from tests.bot.storage.notes import begun, turn
from tests.conftest import mode_of


async def test_the_migrations_make_the_tables_as_declared(database_url: str) -> None:
    """After all migrations the database has the tables, columns and indexes of tables.py."""

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, METADATA))

    async with open_database(database_url) as database, database.reading() as connection:
        found = await connection.run_sync(differences)

    assert found == []


@pytest.mark.usefixtures("open_umask")
async def test_sqlites_files_are_their_owners_alone(sqlite_url: str, tmp_path: Path) -> None:
    """The file and the logs beside it hold numbers and words."""
    async with desk(sqlite_url, people(1)):
        names = ("voicebot.db", "voicebot.db-wal", "voicebot.db-shm")
        modes = [mode_of(tmp_path / name) for name in names]

    assert modes == [0o600] * 3


async def test_migrations_go_back_and_forth_with_data(database_url: str) -> None:
    """Tables that hold calls can be taken away and made again."""
    note = begun()
    async with open_database(database_url) as database:
        await CallStore(database).write([note, turn(note)])
        async with database.writing() as connection:
            await connection.run_sync(migrate, "base")
        async with database.reading() as connection:
            left = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
        async with database.writing() as connection:
            await connection.run_sync(migrate)
        await CallStore(database).write([note, turn(note)])
        [call] = await CallStore(database).newest(n=5)

    assert left == ["alembic_version"]
    assert call.record_id == note.record_id


async def test_a_database_of_the_version_before_is_brought_up_to_date(database_url: str) -> None:
    """It gets the indexes of tables.py, and what it has planned is claimed."""
    shorter, declared = "ix_attempts_campaign_id_state_due_at", {i.name for i in attempts.indexes}
    async with desk(database_url, people(3)) as ours:
        async with ours.database.writing() as connection:
            await connection.run_sync(migrate, "-1")
            before = await connection.run_sync(_indexes_of_attempts)
        async with ours.database.writing() as connection:
            await connection.run_sync(migrate)
            after = await connection.run_sync(_indexes_of_attempts)
        claims = await ours.claim(9)

    assert (shorter in before, shorter in after) == (True, False)
    assert (declared <= before, declared <= after) == (False, True)
    assert len(claims) == 3


def _indexes_of_attempts(connection: Connection) -> set[str | None]:
    return {index["name"] for index in inspect(connection).get_indexes("attempts")}


async def test_going_back_two_steps_keeps_campaigns(database_url: str) -> None:
    """What holds a campaign is forgotten, and found out again; its people and attempts stay."""
    no_number = replace(FAST, caller_ids=frozenset())
    async with desk(database_url, people(3)) as ours:
        [claim] = await ours.claim()
        await ours.commit(claim, no_number, NOON)
        async with ours.database.writing() as connection:
            await connection.run_sync(migrate, "-2")
        async with ours.database.reading() as connection:
            columns = await connection.run_sync(
                lambda sync: [column["name"] for column in inspect(sync).get_columns("campaigns")]
            )
        async with ours.database.writing() as connection:
            await connection.run_sync(migrate)
        claims = await ours.claim(9)
        states = await ours.states()

    assert "plan" in columns
    assert not {"held_until", "held_for"} & set(columns)
    assert len(claims) == 3  # nothing holds the campaign any more
    assert states == ["claimed"] * 3


async def test_going_back_to_calls_alone_keeps_them(database_url: str) -> None:
    """Campaigns with attempts, consents and stops go with their tables; calls stay."""
    async with desk(database_url, people(3)) as ours:
        await ours.heard(await ours.order(), "ringing", at=NOON)
        await ours.store.stop(number(2), source="api", now=NOON)
        await CallStore(ours.database).write([begun()])
        async with ours.database.writing() as connection:
            await connection.run_sync(migrate, "-3")
        async with ours.database.reading() as connection:
            left = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
        async with ours.database.writing() as connection:
            await connection.run_sync(migrate)
        kept = await CallStore(ours.database).newest(n=5)
        campaigns = await ours.store.all()

    assert sorted(left) == ["alembic_version", "calls", "turns"]
    assert (len(kept), campaigns) == (1, [])


async def test_processes_may_start_together(database_url: str) -> None:
    """Several processes that find an empty database do not make its tables twice."""

    async def start(call_sid: str) -> None:
        async with open_database(database_url) as database:
            await CallStore(database).write([begun(call_sid)])

    async with asyncio.TaskGroup() as tasks:
        for n in range(5):
            tasks.create_task(start(f"CA{n}"))
    async with open_database(database_url) as database:
        kept = await CallStore(database).newest(n=9)

    assert len(kept) == 5


async def test_writers_wait_for_each_other(database_url: str) -> None:
    """Many writers at once all succeed, on SQLite too, which has one at a time."""
    async with open_database(database_url) as database:
        store = CallStore(database)
        async with asyncio.TaskGroup() as tasks:
            for n in range(20):
                note = begun(f"CA{n}")
                tasks.create_task(store.write([note, turn(note)]))
        kept = await store.newest(n=50)

    assert len(kept) == 20


async def test_a_newer_database_is_left_alone(database_url: str) -> None:
    """A database made by a later version is not touched, and the operator is told."""
    async with open_database(database_url) as database, database.writing() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(StorageError, match="newer than this program"):
        async with open_database(database_url):
            pass


async def test_an_unusable_url_says_what_is_expected() -> None:
    """One of another kind, without a file, or no URL at all, is refused with an example."""
    for url in (
        "mysql://a:secret@host/name",
        "voicebot.db",
        "postgresql://host:port/name",
        "postgresql://host:99999/name",
        "sqlite://voicebot.db",
        "sqlite://",
        "sqlite:///:memory:",
    ):
        with pytest.raises(StorageError, match=r"sqlite:///voicebot\.db") as caught:
            async with open_database(url):
                pass

        assert "secret" not in str(caught.value)


async def test_libpqs_words_for_encryption_are_known(postgresql_url: str) -> None:
    """Hosters write it into the URLs that they hand out."""
    joint = "&" if "?" in postgresql_url else "?"
    words = "sslmode=prefer&channel_binding=prefer"
    async with open_database(f"{postgresql_url}{joint}{words}") as database:
        assert await CallStore(database).newest(n=1) == []


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("sslmode=require&channel_binding=require", "channel_binding"),
        ("sslrootcert=/secret/root.crt", "sslrootcert"),
        ("options=secret", "options"),
    ],
)
async def test_what_cannot_be_followed_in_a_url_is_named(words: str, key: str) -> None:
    """Hosters write more than is understood here; what may stand there is told, values are not."""
    url = f"postgresql://a:secret@127.0.0.1:1/name?{words}"
    with pytest.raises(StorageError, match=rf"URL: {key} cannot .* host, .* sslmode, ") as caught:
        async with open_database(url):
            pass

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["port", "prepared_statement_cache_size"])
async def test_what_is_no_number_in_a_url_is_named(key: str) -> None:
    """One of several values is enough to be refused; it is not told, the URL may hold secrets."""
    url = f"postgresql://a:secret@127.0.0.1:1/name?{key}=5432&{key}=secret"
    with pytest.raises(StorageError, match=f"URL: {key} should be a number") as caught:
        async with open_database(url):
            pass

    assert "secret" not in str(caught.value)


async def test_a_database_that_is_not_there_says_so(tmp_path: Path) -> None:
    """A missing folder and a server that does not listen are told without the password."""
    for url in (f"sqlite:///{tmp_path}/none/a.db", "postgresql://a:secret@127.0.0.1:1/name"):
        with pytest.raises(StorageError, match="cannot open the database") as caught:
            async with open_database(url):
                pass

        assert "secret" not in str(caught.value)
