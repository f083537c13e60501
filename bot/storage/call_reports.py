"""What Twilio says of calls, written down; and jobs that are left for the dialer.

Reports come twice, late, out of order, and from several sides at once (callbacks, the answer to the
request, a look at Twilio's list). Each is believed as far as it is news.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.campaigns.attempts import OPEN, AttemptState, Outcome, is_machine, outcome_of, reached
from bot.campaigns.records import CallReport, Job, JobKind, SilentCall
from bot.storage import tables
from bot.storage.database import Database
from bot.storage.settling import plan_of, settle
from config.campaigns import Campaign

__all__ = ["CallReports", "leave_job"]

campaigns, contacts, attempts = tables.campaigns, tables.contacts, tables.attempts
call_events, outbox = tables.call_events, tables.outbox
S = AttemptState
ON_THE_LINE = (S.PLACED.value, S.RINGING.value, S.ANSWERED.value)
MACHINES_DONE = ("machine_end_beep", "machine_end_silence", "machine_end_other")


class CallReports:
    """Reports about attempts, and the jobs that follow from them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, attempt_id: str, report: CallReport, *, now: datetime) -> bool:
        """Write down what was said of a call; False if it is not that of the attempt.

        A call that is not the attempt's own is kept as an event and moves nothing.
        """
        try:
            return await self._note(attempt_id, report, now)
        except IntegrityError:  # another attempt was given the call at the same moment
            return False

    async def _note(self, attempt_id: str, report: CallReport, now: datetime) -> bool:
        async with self._database.writing() as connection:
            attempt = await _locked(connection, attempt_id)
            if attempt is None:
                return False
            await _keep_event(connection, attempt_id, report, now)
            is_own = attempt.call_sid == report.call_sid or (
                attempt.call_sid is None and await _is_free(connection, report.call_sid)
            )
            if is_own:
                await _note(connection, attempt, report, now)
            return is_own

    async def lost(self, attempt_id: str, *, now: datetime) -> None:
        """Twilio knows nothing of a call any more that it had."""
        async with self._database.writing() as connection:
            attempt = await _locked(connection, attempt_id)
            if attempt is None or attempt.state not in ON_THE_LINE:
                return
            await _end(connection, attempt, Outcome.LOST, now, duration_ms=None)

    async def silent(self, *, since: datetime, n: int) -> list[SilentCall]:
        """Calls that go on, and of which nothing was heard since then."""
        quiet = (
            select(attempts.c.attempt_id)
            .where(attempts.c.state.in_(ON_THE_LINE), attempts.c.heard_at < since)
            .order_by(attempts.c.heard_at)
            .limit(n)
        )
        async with self._database.reading() as connection:
            rows = await connection.execute(
                select(attempts.c.attempt_id, attempts.c.call_sid).where(
                    attempts.c.attempt_id.in_(quiet), attempts.c.call_sid.is_not(None)
                )
            )
            return [SilentCall(attempt_id, call_sid) for attempt_id, call_sid in rows]

    async def jobs(self, *, n: int, now: datetime) -> list[Job]:
        """What Twilio is to be asked for now, oldest first."""
        query = (
            select(outbox, attempts.c.call_sid, attempts.c.state, campaigns.c.plan)
            .join(attempts, attempts.c.attempt_id == outbox.c.attempt_id)
            .join(campaigns, campaigns.c.campaign_id == attempts.c.campaign_id)
            .where(outbox.c.done_at.is_(None), outbox.c.due_at <= now)
            .order_by(outbox.c.job_id)
            .limit(n)
        )
        async with self._database.reading() as connection:
            return [
                Job(
                    job_id=row.job_id,
                    kind=JobKind(row.kind),
                    attempt_id=row.attempt_id,
                    call_sid=row.call_sid,
                    is_over=AttemptState(row.state) not in OPEN,
                    plan=plan_of(row.plan),
                    n_tries=row.n_tries,
                )
                for row in await connection.execute(query)
            ]

    async def job_done(self, job_id: int, *, now: datetime) -> None:
        """A job is done, or there is nothing left to be done."""
        async with self._database.writing() as connection:
            await connection.execute(
                update(outbox).where(outbox.c.job_id == job_id).values(done_at=now)
            )

    async def job_put_off(self, job_id: int, *, due_at: datetime) -> None:
        """A job could not be done; it is tried again."""
        async with self._database.writing() as connection:
            await connection.execute(
                update(outbox)
                .where(outbox.c.job_id == job_id)
                .values(due_at=due_at, n_tries=outbox.c.n_tries + 1)
            )

    async def ask_to_end(self, attempt_id: str, *, now: datetime) -> None:
        """Have a call ended."""
        async with self._database.writing() as connection:
            await leave_job(connection, JobKind.END_CALL, attempt_id, now)


async def leave_job(
    connection: AsyncConnection, kind: JobKind, attempt_id: str, now: datetime
) -> None:
    """Have the dialer do something about a call, once; asked twice, it is one job."""
    insert = insert_sqlite if connection.dialect.name == "sqlite" else insert_postgresql
    job = insert(outbox).values(kind=kind.value, attempt_id=attempt_id, due_at=now, n_tries=0)
    await connection.execute(job.on_conflict_do_nothing())


async def _locked(connection: AsyncConnection, attempt_id: str) -> Row[Any] | None:
    query = select(attempts).where(attempts.c.attempt_id == attempt_id).with_for_update()
    return (await connection.execute(query)).first()


async def _keep_event(
    connection: AsyncConnection, attempt_id: str, report: CallReport, now: datetime
) -> None:
    insert = insert_sqlite if connection.dialect.name == "sqlite" else insert_postgresql
    event = insert(call_events).values(
        attempt_id=attempt_id,
        call_sid=report.call_sid,
        status=report.answered_by or report.status,
        at=now,
        facts=dict(report.facts),
    )
    await connection.execute(event.on_conflict_do_nothing())


async def _is_free(connection: AsyncConnection, call_sid: str) -> bool:
    """Whether no attempt has this call."""
    query = select(attempts.c.attempt_id).where(attempts.c.call_sid == call_sid)
    return (await connection.execute(query)).first() is None


async def _note(
    connection: AsyncConnection, attempt: Row[Any], report: CallReport, now: datetime
) -> None:
    changes: dict[str, Any] = {"call_sid": report.call_sid, "heard_at": now}
    if report.queue_ms is not None:
        changes["queue_ms"] = report.queue_ms
    if report.first_sound_ms is not None and attempt.first_sound_ms is None:
        changes["first_sound_ms"] = report.first_sound_ms
    answered_by = _answerer(attempt.answered_by, report.answered_by)
    if report.answered_by is not None:
        changes["answered_by"] = answered_by
        await _handle_machine(connection, attempt, report.answered_by, now)
    state = reached(AttemptState(attempt.state), report.status)
    if state is S.ANSWERED:
        changes["answered_at"] = now
    if state is not None and state is not S.ENDED:
        changes["state"] = state.value
    if state is not None and AttemptState(attempt.state) in (S.NOT_PLACED, S.CANCELLED, S.PLANNED):
        await _take_back(connection, attempt)
        changes |= {"outcome": None, "ended_at": None}
        if attempt.committed_at is None:
            changes["committed_at"] = now  # it was rung after all
    await connection.execute(
        update(attempts).where(attempts.c.attempt_id == attempt.attempt_id).values(**changes)
    )
    if state is S.ENDED:
        outcome = outcome_of(report.status, answered_by)
        duration_ms = None if report.duration_s is None else 1000 * report.duration_s
        await _end(connection, attempt, outcome, now, duration_ms=duration_ms)


def _answerer(known: str | None, told: str | None) -> str | None:
    """Who answered, by all that was told: a machine once is a machine."""
    if told is None or (is_machine(known) and not is_machine(told)):
        return known
    return told


async def _handle_machine(
    connection: AsyncConnection, attempt: Row[Any], answered_by: str, now: datetime
) -> None:
    """What a machine that answered is to get."""
    if answered_by == "fax":
        await leave_job(connection, JobKind.END_CALL, attempt.attempt_id, now)
        return
    if not is_machine(answered_by):
        return
    match (await _plan(connection, attempt)).voicemail.then:
        case "hang_up":
            await leave_job(connection, JobKind.END_CALL, attempt.attempt_id, now)
        case "leave_message" if answered_by in MACHINES_DONE:
            await leave_job(connection, JobKind.LEAVE_MESSAGE, attempt.attempt_id, now)


async def _plan(connection: AsyncConnection, attempt: Row[Any]) -> Campaign:
    query = select(campaigns.c.plan).where(campaigns.c.campaign_id == attempt.campaign_id)
    return plan_of((await connection.execute(query)).scalar_one())


async def _take_back(connection: AsyncConnection, attempt: Row[Any]) -> None:
    """A call that was thought not to be there is: what was planned in its place is not."""
    later = delete(attempts).where(
        attempts.c.contact_id == attempt.contact_id,
        attempts.c.n > attempt.n,
        attempts.c.state.in_((S.PLANNED.value, S.CLAIMED.value)),
    )
    await connection.execute(later)
    newest = select(func.max(attempts.c.n)).where(attempts.c.contact_id == attempt.contact_id)
    if (await connection.execute(newest)).scalar_one() != attempt.n:
        return
    await connection.execute(
        update(contacts)
        .where(contacts.c.contact_id == attempt.contact_id)
        .values(n_attempts=attempt.n, outcome=None, is_refused=False)
    )


async def _end(
    connection: AsyncConnection,
    attempt: Row[Any],
    outcome: Outcome,
    now: datetime,
    *,
    duration_ms: int | None,
) -> None:
    minutes = -(-(duration_ms or 0) // int(timedelta(minutes=1) / timedelta(milliseconds=1)))
    await connection.execute(
        update(attempts)
        .where(attempts.c.attempt_id == attempt.attempt_id)
        .values(
            state=S.ENDED.value,
            outcome=outcome.value,
            ended_at=now,
            duration_ms=duration_ms,
            paid_minutes=minutes,
        )
    )
    if outcome is Outcome.ANSWERED and (await _plan(connection, attempt)).outcome_fields:
        await leave_job(connection, JobKind.FILL_FIELDS, attempt.attempt_id, now)
    await settle(connection, attempt, outcome, now)
