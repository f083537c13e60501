"""Calls and turns in the database."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.calls.records import (
    CallBegun,
    CallEnded,
    CallerTranscribed,
    CallRecord,
    Direction,
    Turn,
    TurnEnded,
)
from bot.storage import tables
from bot.storage.database import Database, upsert

__all__ = ["CallStore", "Note"]

Note = CallBegun | TurnEnded | CallerTranscribed | CallEnded

calls, turns = tables.calls, tables.turns
LOST = "lost"
LONGEST_CALL = timedelta(hours=24)  # Twilio lets none last longer


class CallStore:
    """The calls of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, notes: Sequence[Note]) -> None:
        """Write what happened in calls, in its order and all at once.

        The same may be written again, as by one who did not hear that it was: it changes nothing.
        Raises sqlalchemy.exc.DBAPIError, with nothing written. Cancelling writes nothing.
        """
        async with self._database.writing() as connection:
            for note in notes:
                await _write(connection, note)

    async def mark_lost(self, *, now: datetime) -> int:
        """End the calls that cannot run any more, as their process went down; how many."""
        begun_before = now - LONGEST_CALL
        async with self._database.writing() as connection:
            done = await connection.execute(
                update(calls)
                .where(calls.c.ended_at.is_(None), calls.c.began_at < begun_before)
                .values(ended_at=now, reason=LOST)
            )
            return done.rowcount

    async def newest(self, *, n: int, person: str | None = None) -> list[CallRecord]:
        """The calls that began last, newest first; of one person only where a number is given."""
        query = select(calls).order_by(calls.c.began_at.desc(), calls.c.record_id).limit(n)
        if person is not None:
            query = query.where(calls.c.person == person)
        async with self._database.reading() as connection:
            return [_record(row) for row in await connection.execute(query)]

    async def find(self, call_sid: str) -> list[CallRecord]:
        """The streams of one telephone call, in their order; none if it is not known."""
        query = select(calls).where(calls.c.call_sid == call_sid).order_by(calls.c.retry)
        async with self._database.reading() as connection:
            return [_record(row) for row in await connection.execute(query)]

    async def turns(self, record_id: str) -> list[Turn]:
        """What was said in one call, in its order."""
        query = select(turns).where(turns.c.record_id == record_id).order_by(turns.c.number)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings()
            return [Turn(**{k: v for k, v in row.items() if k != "record_id"}) for row in rows]


async def _write(connection: AsyncConnection, note: Note) -> None:
    match note:
        case CallBegun():
            row = upsert(connection)(calls).values(**_begun(note))
            await connection.execute(row.on_conflict_do_nothing(index_elements=calls.primary_key))
        case TurnEnded():
            row = upsert(connection)(turns).values(**_turn(note))
            await connection.execute(row.on_conflict_do_nothing(index_elements=turns.primary_key))
        case CallerTranscribed():
            await connection.execute(
                update(turns)
                .where(turns.c.record_id == note.record_id, turns.c.number == note.turn)
                .values(caller_text=_storable(note.text))
            )
        case CallEnded():
            await connection.execute(
                update(calls).where(calls.c.record_id == note.record_id).values(**_ended(note))
            )


def _begun(note: CallBegun) -> dict[str, Any]:
    return {
        "record_id": note.record_id,
        "call_sid": note.call_sid,
        "retry": note.retry,
        "direction": note.direction.value,
        "person": note.person,
        "line": note.line,
        "persona": note.persona,
        "began_at": note.began_at,
        "recording": note.recording,
        "detail": "",
    }


def _turn(note: TurnEnded) -> dict[str, Any]:
    turn = note.turn
    return {
        "record_id": note.record_id,
        "number": turn.turn,
        "at": note.at,
        "caller_text": _storable(turn.caller_text),
        "bot_text": _storable(turn.bot_text),
        "interrupted": turn.interrupted,
        "reply_latency_ms": turn.reply_latency_ms,
        "heard_ms": turn.heard_ms,
        "reply_ms": turn.reply_ms,
        "host_ms": dict(turn.host_ms),
    }


def _storable(text: str) -> str:
    """PostgreSQL keeps no NUL, and no database half a surrogate pair."""
    return text.replace("\x00", "").encode(errors="replace").decode()


def _ended(note: CallEnded) -> dict[str, Any]:
    result = note.result
    return {
        "ended_at": note.at,
        "reason": result.reason.value,
        "detail": result.detail,
        "duration_ms": result.duration_ms,
        "n_turns": result.n_turns,
        "n_interruptions": result.n_interruptions,
        "heard_ms": result.heard_ms,
    }


def _record(row: Row[Any]) -> CallRecord:
    fields = dict(row._mapping)
    return CallRecord(**{**fields, "direction": Direction(fields["direction"])})
