"""Opening the database and keeping its tables up to date.

    StorageError         the database cannot be used; the text says why, without its password

A transaction is asked for as `reading` or `writing`. SQLite has one writer: a transaction that will
write says so as it begins and waits there, instead of failing half-way (`BEGIN IMMEDIATE`).
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Table, event, make_url, text
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pipelines.private_files import make_private_file

__all__ = [
    "Database",
    "StorageError",
    "is_out_of_reach",
    "migrate",
    "open_database",
    "open_for_command",
    "upsert",
]

MIGRATIONS = Path(__file__).parent / "migrations"
# Names for PostgreSQL's locks; any numbers that nobody else uses.
MIGRATION_LOCK = 7_460_125
ALONE_LOCK = 7_460_126
POOL_SIZE = 15
MAX_PORT = 65_535
# What was decided while a lock was waited for is seen after it.
ISOLATION = {"postgresql": {"isolation_level": "READ COMMITTED"}}
IDLE, MAX_IDLE_MS = "idle_in_transaction_session_timeout", 10_000
BUSY_TIMEOUT_MS = 10_000  # how long a writer of SQLite waits for another
# PostgreSQL's appendix A: connection exceptions, transactions that gave way to others (deadlocks),
# insufficient resources, operator intervention, and a server that only reads for the moment.
AWAY_STATES = ("08", "25006", "40", "53", "55P03", "57014", "57P")
DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
# After the ? of a URL for PostgreSQL: what asyncpg takes as text, and libpq's word for its `ssl`.
QUERY_KEYS = frozenset(
    {
        "database",
        "gsslib",
        "host",
        "krbsrvname",
        "passfile",
        "password",
        "port",
        "prepared_statement_cache_size",
        "service",
        "servicefile",
        "ssl",
        "sslmode",
        "target_session_attrs",
        "user",
    }
)
NUMBER_KEYS = frozenset({"port", "prepared_statement_cache_size"})


class StorageError(Exception):
    """The database cannot be used."""


class Database:
    """One database. `open_database` makes it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads. Cancelling ends it."""
        async with self._engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: kept at the end, undone by an exception or by cancelling."""
        async with self._engine.connect() as connection:
            writer = await connection.execution_options(begins="BEGIN IMMEDIATE")
            async with writer.begin():
                yield writer

    @asynccontextmanager
    async def writing_alone(self) -> AsyncIterator[AsyncConnection]:
        """As `writing`, and no other such transaction runs meanwhile, in any process."""
        async with self.writing() as connection:
            if connection.dialect.name == "postgresql":
                # whoever holds the lock and does not go on is not to stop all others
                await connection.execute(text(f"SET LOCAL {IDLE} = '{MAX_IDLE_MS}ms'"))
                lock = text("SELECT pg_advisory_xact_lock(:lock)")
                await connection.execute(lock, {"lock": ALONE_LOCK})
            yield connection

    async def scrub(self) -> None:
        """Leave nothing of what was deleted in SQLite's log of writes, unless somebody reads it.

        PostgreSQL reuses that space by itself (autovacuum).
        """
        if self._engine.dialect.name != "sqlite":
            return
        async with self._engine.connect() as connection:
            bare = await connection.execution_options(begins="")
            await bare.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


@asynccontextmanager
async def open_database(url: str, *, makes: bool = True) -> AsyncIterator[Database]:
    """The database at `url`, its tables brought up to date; connections are closed at the end.

    `url` is `sqlite:///file` or `postgresql://user:password@host/name`; a file that is not there is
    made, or else refused. Raises StorageError.
    """
    engine = _engine(url)
    database = Database(engine)
    try:
        try:
            await _try_file(engine, makes=makes)
            await _bring_up_to_date(database)
        except (DBAPIError, sqlite3.Error, OSError) as exc:
            reason = exc.orig if isinstance(exc, DBAPIError) else exc
            file = _file_of(engine)
            which = f" {file}" if file else ""
            raise StorageError(f"cannot open the database{which}: {reason}") from None
        except CommandError:
            raise StorageError(
                "the database is newer than this program; bring the program up to date, or go back"
                " with the program that made it"
            ) from None
        yield database
    finally:
        await engine.dispose()


@asynccontextmanager
async def open_for_command(url: str, *, makes: bool = False) -> AsyncIterator[Database]:
    """As `open_database`, for what is run by hand: it ends where the database goes away or is busy.

    Raises StorageError then, too.
    """
    async with open_database(url, makes=makes) as database:
        try:
            yield database
        except (DBAPIError, PoolTimeoutError, ConnectionRefusedError, ConnectionResetError) as exc:
            if not is_out_of_reach(exc):
                raise
            reason = exc.orig if isinstance(exc, DBAPIError) else exc
            raise StorageError(
                f"the database is out of reach, or busy: {reason}; what is not done yet is done by"
                " the same command"
            ) from None


async def _try_file(engine: AsyncEngine, *, makes: bool) -> None:
    """Make SQLite's file, and open it once without a thread of its own. Raises sqlite3.Error.

    aiosqlite does not wait for the thread of a connection that could not be made, which may then
    outlive the event loop and complain. Raises StorageError for a file that is not to be made.
    """
    if (file := _file_of(engine)) is not None:
        if not makes and not await asyncio.to_thread(file.exists):
            raise StorageError(
                f"there is no database {file}: name the one that `python -m bot.web` and"
                " `python -m bot.dialer` use, or make it with `python -m bot.campaign create`"
            )
        with suppress(OSError):  # SQLite says what is wrong
            await asyncio.to_thread(make_private_file, file)
    if engine.dialect.name == "sqlite" and (name := engine.url.database):
        (await asyncio.to_thread(sqlite3.connect, name, check_same_thread=False)).close()


def _file_of(engine: AsyncEngine) -> Path | None:
    """Where SQLite keeps a database, if it is told by a path."""
    name = engine.url.database
    if engine.dialect.name != "sqlite" or not name or name.startswith("file:"):
        return None
    return Path(name).absolute()


async def _bring_up_to_date(database: Database) -> None:
    """Migrate, once whoever sets up the same SQLite file has done so.

    A file is switched to its log of writes as it is first opened; SQLite does not wait there.
    """
    deadline_s = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            async with database.writing() as connection:
                await connection.run_sync(migrate)
            return
        except OperationalError as exc:
            if not _is_busy(exc) or time.monotonic() > deadline_s:
                raise
        await asyncio.sleep(0.02)


def _is_busy(error: OperationalError) -> bool:
    return getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


def migrate(connection: Connection, revision: str = "head") -> None:
    """Bring the tables to a revision, forwards or (`base`, or steps as in `-1`) backwards.

    In the transaction of `connection`: all of it happens or nothing. Processes that start together
    wait for each other.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    if revision == "base" or revision.startswith("-"):
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)


def _engine(url: str) -> AsyncEngine:
    try:
        parsed = make_url(url)
        driver = DRIVERS[parsed.get_backend_name()]
        _check(parsed)
    except (ArgumentError, KeyError, ValueError):
        raise StorageError(
            "expected sqlite:///voicebot.db or postgresql://user:password@host/name"
        ) from None
    if driver == DRIVERS["postgresql"]:
        parsed = _in_words_of_asyncpg(parsed)
    engine = create_async_engine(
        parsed.set(drivername=driver),
        hide_parameters=True,
        pool_size=POOL_SIZE,
        max_overflow=0,  # a connection beyond would be made and closed again each time
        **ISOLATION.get(parsed.get_backend_name(), {}),
    )
    if driver == DRIVERS["sqlite"]:
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _check(url: URL) -> None:
    """Raise ValueError for what no driver can open, or would forget with its first connection."""
    is_sqlite = url.get_backend_name() == "sqlite"
    if is_sqlite and (url.host or not url.database or url.database.startswith(":memory:")):
        raise ValueError("no file")
    if not 0 <= (url.port or 0) <= MAX_PORT:
        raise ValueError("no port")


def _in_words_of_asyncpg(url: URL) -> URL:
    """The same with what libpq and hosters write after the name of the database.

    Raises StorageError for a key that cannot be followed, and for a value that is no number.
    """
    query = dict(url.query)
    if query.get("channel_binding") in ("disable", "prefer"):
        del query["channel_binding"]  # asyncpg has none, which both allow
    if unknown := sorted(query.keys() - QUERY_KEYS):
        raise StorageError(
            f"the database's URL: {', '.join(unknown)} cannot be followed; after ? may stand"
            f" {', '.join(sorted(QUERY_KEYS))}, and channel_binding=disable or prefer"
        )
    for key in sorted(NUMBER_KEYS & query.keys()):
        if not all(value.isdecimal() for value in url.normalized_query[key]):
            raise StorageError(f"the database's URL: {key} should be a number")
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return url.set(query=query)


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say so
    with ExitStack() as unless_usable:
        unless_usable.callback(connection.close)
        _set_pragmas(connection)
        unless_usable.pop_all()


def _set_pragmas(connection: Any) -> None:
    cursor = connection.cursor()
    for setting in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",  # readers do not wait for the writer
        "synchronous = FULL",  # what is committed is on the disk
        "foreign_keys = ON",
        "secure_delete = ON",  # what was forgotten is not left in free pages
    ):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """A reading transaction begins plainly; others say how, and "" that there is to be none."""
    statement = connection.get_execution_options().get("begins", "BEGIN")
    if statement:
        connection.exec_driver_sql(statement)


def upsert(connection: AsyncConnection) -> Callable[[Table], Any]:
    """The `insert` of a connection's database that can leave alone what is there already."""
    return insert_sqlite if connection.dialect.name == "sqlite" else insert_postgresql


def is_out_of_reach(error: Exception) -> bool:
    """Whether the database was away or busy, so that the same may be tried again."""
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None) or ""
        is_away = state.startswith(AWAY_STATES)
        return is_away or isinstance(error, OperationalError) or error.connection_invalidated
    return isinstance(error, OSError | PoolTimeoutError)
