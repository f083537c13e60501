"""Who answers the calls that are placed: what each `web` says of itself, a moment ago."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, delete, func, select

from bot.storage import tables
from bot.storage.database import Database, upsert

__all__ = ["BELIEVED", "Answering", "AnsweringStore", "answering"]

answerers = tables.answerers
# What was said is believed for so long; a process says it ten times meanwhile.
BELIEVED = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Answering:
    """What is known of those who answer."""

    n_places: int  # conversations that could be begun
    as_of: datetime  # a call that was answered later is not counted in that


class AnsweringStore:
    """The answering processes of a database. Times have a time zone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, process: str, *, n_places: int, now: datetime) -> None:
        """How many conversations a process could begin at this moment."""
        async with self._database.writing() as connection:
            row = upsert(connection)(answerers).values(
                process=process, n_places=n_places, seen_at=now
            )
            await connection.execute(
                row.on_conflict_do_update(
                    index_elements=[answerers.c.process],
                    set_={"n_places": row.excluded.n_places, "seen_at": row.excluded.seen_at},
                )
            )

    async def forget(self, process: str) -> None:
        """A process that takes no calls."""
        async with self._database.writing() as connection:
            await connection.execute(delete(answerers).where(answerers.c.process == process))

    async def forget_lost(self, *, before: datetime) -> None:
        """Processes of which nothing was heard since then: they were killed."""
        async with self._database.writing() as connection:
            await connection.execute(delete(answerers).where(answerers.c.seen_at < before))

    async def find(self, *, since: datetime) -> Answering | None:
        """What those say who were heard of since then; None if nobody was."""
        async with self._database.reading() as connection:
            found = (await connection.execute(answering(since))).one()
        return None if found.n_places is None else Answering(found.n_places, found.as_of)


def answering(since: datetime) -> Select[tuple[int | None, datetime | None]]:
    """The question for that, with one row: `n_places` and `as_of`, both NULL for nobody.

    Several processes may share one model host, so their places are not added up.
    """
    return select(
        func.max(answerers.c.n_places).label("n_places"),
        func.min(answerers.c.seen_at).label("as_of"),
    ).where(answerers.c.seen_at > since)
