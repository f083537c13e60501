"""All that the database knows of one person, and forgetting it.

A person is a number (E.164). That a number is not to be rung is kept, as a hash.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.campaigns.attempts import LIVE
from bot.campaigns.gate import Reason
from bot.storage import tables
from bot.storage.call_reports import lock_attempts
from bot.storage.database import Database
from bot.storage.settling import close_contacts

__all__ = ["Forgotten", "PeopleStore"]

calls, turns = tables.calls, tables.turns
contacts, attempts, consents = tables.contacts, tables.attempts, tables.consents
findings = tables.findings
_LIVE = [state.value for state in LIVE]
_MOST_AT_ONCE = 1000  # calls in a statement, which has 32,767 parameters at most


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was taken away of a person."""

    n_calls: int
    n_turns: int
    n_contacts: int
    n_recordings: int


class PeopleStore:
    """The people in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recordings(self, person: str) -> list[str]:
        """The files that hold a person's voice."""
        async with self._database.reading() as connection:
            return _recordings(await _calls_with(connection, person))

    async def n_calls(self, person: str) -> int:
        """The calls with a person."""
        async with self._database.reading() as connection:
            return await _count(connection, calls, calls.c.person == person)

    async def n_contacts(self, person: str) -> int:
        """The campaigns on whose list a person is."""
        async with self._database.reading() as connection:
            return await _count(connection, contacts, contacts.c.number == person)

    async def n_running(self, person: str) -> int:
        """The calls with a person that have not ended, and those that are being placed."""
        async with self._database.reading() as connection:
            return await _n_running(connection, person)

    async def forget(self, person: str, *, now: datetime) -> Forgotten | None:
        """Remove a person's number, zone, words, sound, variables and consents.

        Times and counts stay; what is planned for the person is cancelled. None, with nothing
        removed, while a call with the person runs or is being placed. Recordings are deleted in
        the transaction, as the last thing: whatever ends it before its commit leaves their names,
        and the same, done again, deletes the rest. Raises OSError for one that cannot be deleted.
        """
        async with self._database.writing_alone() as connection:
            await _lock(connection, person)
            theirs = await _calls_with(connection, person)
            if await _n_running(connection, person):
                return None
            recordings = _recordings(theirs)
            n_turns = await _forget_calls(connection, [call.record_id for call in theirs], now)
            n_contacts = await _forget_contacts(connection, person, now)
            await connection.execute(delete(consents).where(consents.c.number == person))
            await asyncio.to_thread(_delete, recordings)
        await self._database.scrub()
        return Forgotten(len(theirs), n_turns, n_contacts, len(recordings))


async def _count(connection: AsyncConnection, table: Any, *where: Any) -> int:
    query = select(func.count()).select_from(table).where(*where)
    return (await connection.execute(query)).scalar_one()


async def _n_running(connection: AsyncConnection, person: str) -> int:
    talking = await _count(connection, calls, calls.c.person == person, calls.c.ended_at.is_(None))
    return talking + await _count(
        connection, attempts, attempts.c.number == person, attempts.c.state.in_(_LIVE)
    )


async def _calls_with(connection: AsyncConnection, person: str) -> Sequence[Any]:
    query = select(calls.c.record_id, calls.c.recording).where(calls.c.person == person)
    return (await connection.execute(query)).all()


def _recordings(theirs: Sequence[Any]) -> list[str]:
    return [call.recording for call in theirs if call.recording is not None]


async def _lock(connection: AsyncConnection, person: str) -> None:
    """Who plans another attempt for the person just now is waited for, or finds nobody."""
    await lock_attempts(connection, person)
    await connection.execute(
        select(contacts.c.contact_id).where(contacts.c.number == person).with_for_update()
    )


async def _forget_calls(
    connection: AsyncConnection, record_ids: Sequence[str], now: datetime
) -> int:
    """How many turns that were. A call that has begun since is not among them, nor its sound."""
    n_turns = 0
    for first in range(0, len(record_ids), _MOST_AT_ONCE):
        some = record_ids[first : first + _MOST_AT_ONCE]
        spoken = await connection.execute(
            update(turns).where(turns.c.record_id.in_(some)).values(caller_text="", bot_text="")
        )
        await connection.execute(
            update(calls)
            .where(calls.c.record_id.in_(some))
            .values(person=None, recording=None, forgotten_at=now)
        )
        n_turns += spoken.rowcount
    return n_turns


async def _forget_contacts(connection: AsyncConnection, person: str, now: datetime) -> int:
    """How many places on lists that were."""
    tried = select(attempts.c.attempt_id).where(attempts.c.number == person)
    await connection.execute(delete(findings).where(findings.c.attempt_id.in_(tried)))
    await close_contacts(connection, contacts.c.number == person, Reason.FORGOTTEN)
    await connection.execute(
        update(attempts).where(attempts.c.number == person).values(number=None)
    )
    listed = await connection.execute(
        update(contacts)
        .where(contacts.c.number == person)
        .values(number=None, zone=None, variables={}, forgotten_at=now)
    )
    return listed.rowcount


def _delete(files: Sequence[str]) -> None:
    for name in files:
        Path(name).unlink(missing_ok=True)
