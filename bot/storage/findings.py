"""What calls have told, in the database."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import delete, insert, select

from bot.campaigns.attempts import Outcome
from bot.campaigns.outcome_fields import Said, Told
from bot.storage import tables
from bot.storage.database import Database

__all__ = ["FindingStore"]

calls, turns = tables.calls, tables.turns
attempts, findings = tables.attempts, tables.findings
_OF_MACHINES = frozenset({Outcome.VOICEMAIL.value, Outcome.FAX.value})


class FindingStore:
    """The findings of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def said(self, call_sid: str) -> list[Said] | None:
        """What the person said in a call; None while it is not written down to its end."""
        streams = select(calls.c.record_id, calls.c.ended_at).where(calls.c.call_sid == call_sid)
        words = (
            select(turns.c.number, turns.c.at, turns.c.caller_text)
            .join(calls, calls.c.record_id == turns.c.record_id)
            .where(calls.c.call_sid == call_sid)
            .order_by(calls.c.retry, turns.c.number)
        )
        async with self._database.reading() as connection:
            found = (await connection.execute(streams)).all()
            if not found or any(stream.ended_at is None for stream in found):
                return None
            return [Said(*row) for row in await connection.execute(words)]

    async def keep(self, attempt_id: str, told: Sequence[Told], *, names: Collection[str]) -> None:
        """Write down what a call has told of these fields, in place of what was told earlier.

        Nothing is kept of a person who was forgotten meanwhile, nor of a call that turned out to be
        with a machine.
        """
        old = select(findings.c.name, findings.c.at).where(
            findings.c.attempt_id == attempt_id, findings.c.name.in_(names)
        )
        theirs = select(attempts.c.number, attempts.c.outcome).where(
            attempts.c.attempt_id == attempt_id
        )
        async with self._database.writing() as connection:
            attempt = (await connection.execute(theirs.with_for_update())).one_or_none()
            is_kept = (
                attempt is not None
                and attempt.number is not None
                and attempt.outcome not in _OF_MACHINES
            )
            said_at = {found.name: found.at for found in told}
            later = {
                name
                for name, at in (await connection.execute(old)).all()
                if name in said_at and at > said_at[name]
            }
            await connection.execute(
                delete(findings).where(
                    findings.c.attempt_id == attempt_id,
                    findings.c.name.in_(set(names) - later),
                )
            )
            rows = [_row(attempt_id, found) for found in told if found.name not in later]
            if rows and is_kept:
                await connection.execute(insert(findings), rows)

    async def of(self, attempt_id: str) -> list[Told]:
        """What an attempt's call has told."""
        query = (
            select(findings.c.name, findings.c.value, findings.c.turn, findings.c.at)
            .where(findings.c.attempt_id == attempt_id)
            .order_by(findings.c.name)
        )
        async with self._database.reading() as connection:
            return [Told(*row) for row in await connection.execute(query)]


def _row(attempt_id: str, found: Told) -> dict[str, Any]:
    return {
        "attempt_id": attempt_id,
        "name": found.name,
        "value": found.value,
        "turn": found.turn,
        "at": found.at,
    }
