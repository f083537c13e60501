"""All that the database knows of one person, and forgetting it.

A person is a number (E.164). That a number is not to be rung is kept, as a hash.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update

from bot.campaigns.attempts import LIVE
from bot.campaigns.gate import Reason
from bot.storage import tables
from bot.storage.database import Database
from bot.storage.settling import close_contacts

__all__ = ["Forgotten", "PeopleStore"]

calls, turns = tables.calls, tables.turns
contacts, attempts, consents = tables.contacts, tables.attempts, tables.consents
_LIVE = [state.value for state in LIVE]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was taken away of a person."""

    n_calls: int
    n_turns: int
    n_contacts: int


class PeopleStore:
    """The people in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recordings(self, person: str) -> list[str]:
        """The files that hold a person's voice."""
        query = select(calls.c.recording).where(
            calls.c.person == person, calls.c.recording.is_not(None)
        )
        async with self._database.reading() as connection:
            return [str(name) for name in (await connection.execute(query)).scalars()]

    async def n_calls(self, person: str) -> int:
        """The calls with a person."""
        return await self._count(calls, calls.c.person == person)

    async def n_contacts(self, person: str) -> int:
        """The campaigns on whose list a person is."""
        return await self._count(contacts, contacts.c.number == person)

    async def n_running(self, person: str) -> int:
        """The calls with a person that have not ended, and those that are being placed."""
        talking = await self._count(calls, calls.c.person == person, calls.c.ended_at.is_(None))
        return talking + await self._count(
            attempts, attempts.c.number == person, attempts.c.state.in_(_LIVE)
        )

    async def _count(self, table: Any, *where: Any) -> int:
        query = select(func.count()).select_from(table).where(*where)
        async with self._database.reading() as connection:
            return (await connection.execute(query)).scalar_one()

    async def forget(self, person: str, *, now: datetime) -> Forgotten:
        """Remove a person's number, zone, words, variables and consents; times and counts stay.

        What is planned for the person is cancelled. The recordings' files are the caller's to
        delete, before.
        """
        theirs = select(calls.c.record_id).where(calls.c.person == person)
        async with self._database.writing_alone() as connection:
            spoken = await connection.execute(
                update(turns)
                .where(turns.c.record_id.in_(theirs))
                .values(caller_text="", bot_text="")
            )
            rung = await connection.execute(
                update(calls)
                .where(calls.c.person == person)
                .values(person=None, recording=None, forgotten_at=now)
            )
            # who plans another attempt for the person just now is waited for, or finds nobody
            await connection.execute(
                select(contacts.c.contact_id).where(contacts.c.number == person).with_for_update()
            )
            tried = select(attempts.c.attempt_id).where(attempts.c.number == person)
            await connection.execute(
                delete(tables.findings).where(tables.findings.c.attempt_id.in_(tried))
            )
            await close_contacts(connection, contacts.c.number == person, Reason.FORGOTTEN)
            await connection.execute(
                update(attempts).where(attempts.c.number == person).values(number=None)
            )
            listed = await connection.execute(
                update(contacts)
                .where(contacts.c.number == person)
                .values(number=None, zone=None, variables={}, forgotten_at=now)
            )
            await connection.execute(delete(consents).where(consents.c.number == person))
        await self._database.scrub()
        return Forgotten(rung.rowcount, spoken.rowcount, listed.rowcount)
