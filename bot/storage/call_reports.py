"""What Twilio says of calls, written down; and jobs that are left for the dialer.

Reports come twice, late, out of order, and from several sides at once (callbacks, the answer to the
request, a look at Twilio's list). Each is believed as far as it is news.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.campaigns.attempts import OPEN, AttemptState, Outcome, is_machine, outcome_of, reached
from bot.campaigns.outcome_fields import by_rules
from bot.campaigns.records import CallReport, Job, JobKind, SilentCall
from bot.storage import tables
from bot.storage.database import Database, upsert
from bot.storage.settling import PlanUnreadable, is_stopped, plan_of, settle, tell_unreadable
from config.campaigns import Campaign

__all__ = ["SAID_STOP", "CallReports", "leave_job", "lock_attempts"]

campaigns, contacts, attempts = tables.campaigns, tables.contacts, tables.attempts
call_events, findings, outbox = tables.call_events, tables.findings, tables.outbox
S = AttemptState
GOES_ON = (S.PLACED, S.RINGING, S.ANSWERED)
ON_THE_LINE = tuple(state.value for state in GOES_ON)
NOT_ASKED = (S.NOT_PLACED, S.CANCELLED, S.PLANNED, S.CLAIMED)  # as far as we knew
NEVER_MADE = (S.PLANNED.value, S.CLAIMED.value, S.CANCELLED.value)
MINUTE_MS = 60_000
SAID_STOP = "said_stop"  # in the attempt's own call, which ends by itself
NOBODY_SPOKE = "nobody_spoke"  # why an attempt failed that was answered
JOB_LEASE = timedelta(seconds=30)
MACHINES_DONE = ("machine_end_beep", "machine_end_silence", "machine_end_other")


class CallReports:
    """Reports about attempts, and the jobs that follow from them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, attempt_id: str, report: CallReport, *, now: datetime) -> bool:
        """Write down what was said of a call; False if it is not that of the attempt.

        A call that is not the attempt's own is kept as an event and moves nothing. Raises
        PlanUnreadable, with nothing written, where what follows hangs on such a plan.
        """
        async with self._database.writing() as connection:
            attempt = await _locked(connection, attempt_id)
            if attempt is None:
                return False
            await _keep_event(connection, attempt_id, report, now)
            is_own = attempt.call_sid == report.call_sid or (
                attempt.call_sid is None and await _take(connection, attempt_id, report.call_sid)
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

    async def put_off(self, attempt_id: str, *, now: datetime) -> None:
        """Twilio does not tell of a silent call, or nothing we can write: it is asked after others.

        As if it had been heard of now.
        """
        async with self._database.writing() as connection:
            await connection.execute(
                update(attempts)
                .where(attempts.c.attempt_id == attempt_id, attempts.c.state.in_(ON_THE_LINE))
                .values(heard_at=now)
            )

    async def jobs(self, *, n: int, now: datetime) -> list[Job]:
        """Take what is to be done now, for half a minute; fields are filled when all else is done.

        No two dialers get the same job. Where a campaign's plan cannot be read, calls are ended all
        the same, and other jobs are taken again later.
        """
        due = (
            select(outbox.c.job_id)
            .where(outbox.c.done_at.is_(None), outbox.c.due_at <= now)
            .order_by(outbox.c.kind == JobKind.FILL_FIELDS.value, outbox.c.job_id)
            .limit(n)
            .with_for_update(skip_locked=True)
        )
        async with self._database.writing() as connection:
            taken = (await connection.execute(due)).scalars().all()
            await connection.execute(
                update(outbox)
                .where(outbox.c.job_id.in_(taken))
                .values(due_at=now + JOB_LEASE, n_tries=outbox.c.n_tries + 1)
            )
            rows = (await connection.execute(_jobs(taken))).all()
        jobs = [_job(row) for row in rows]
        return [job for job in jobs if job.plan is not None or job.kind is JobKind.END_CALL]

    async def job_done(self, job: Job, *, now: datetime) -> None:
        """A job is done, or there was nothing to be done; unless it was asked for again since."""
        async with self._database.writing() as connection:
            await connection.execute(
                update(outbox)
                .where(outbox.c.job_id == job.job_id, outbox.c.n_tries == job.n_tries)
                .values(done_at=now)
            )

    async def job_put_off(self, job_id: int, *, due_at: datetime) -> None:
        """A job could not be done; it is tried again."""
        async with self._database.writing() as connection:
            await connection.execute(
                update(outbox).where(outbox.c.job_id == job_id).values(due_at=due_at)
            )

    async def ask_to_end(self, attempt_id: str, *, now: datetime) -> None:
        """Have a call ended."""
        async with self._database.writing() as connection:
            await leave_job(connection, JobKind.END_CALL, attempt_id, now)


def _job(row: Row[Any]) -> Job:
    try:
        plan = plan_of(row.plan)
    except PlanUnreadable as exc:
        tell_unreadable(exc, campaign=row.name)
        plan = None
    return Job(
        job_id=row.job_id,
        kind=JobKind(row.kind),
        attempt_id=row.attempt_id,
        call_sid=row.call_sid,
        is_over=AttemptState(row.state) not in OPEN,
        plan=plan,
        n_tries=row.n_tries,
    )


def _jobs(job_ids: Sequence[int]) -> Any:
    return (
        select(outbox, attempts.c.call_sid, attempts.c.state, campaigns.c.name, campaigns.c.plan)
        .join(attempts, attempts.c.attempt_id == outbox.c.attempt_id)
        .join(campaigns, campaigns.c.campaign_id == attempts.c.campaign_id)
        .where(outbox.c.job_id.in_(job_ids))
        .order_by(outbox.c.kind == JobKind.FILL_FIELDS.value, outbox.c.job_id)
    )


async def leave_job(
    connection: AsyncConnection, kind: JobKind, attempt_id: str, now: datetime
) -> None:
    """Have the dialer do something about a call; asked twice, it is one job.

    To end a call is asked again where it was done: then, nothing may have been there to be ended.
    """
    job = upsert(connection)(outbox).values(
        kind=kind.value, attempt_id=attempt_id, due_at=now, n_tries=0
    )
    if kind is JobKind.END_CALL:
        again = {"due_at": now, "n_tries": outbox.c.n_tries + 1, "done_at": None}
        once = job.on_conflict_do_update(index_elements=["attempt_id", "kind"], set_=again)
    else:
        once = job.on_conflict_do_nothing()
    await connection.execute(once)


async def lock_attempts(connection: AsyncConnection, number: str) -> None:
    """Have reports about calls to a number wait for this transaction, and wait for theirs.

    Older attempts first, as a report would take them.
    """
    known = (
        select(attempts.c.attempt_id)
        .where(attempts.c.number == number)
        .order_by(attempts.c.contact_id, attempts.c.n)
        .with_for_update()
    )
    await connection.execute(known)


async def _locked(connection: AsyncConnection, attempt_id: str) -> Row[Any] | None:
    query = select(attempts).where(attempts.c.attempt_id == attempt_id).with_for_update()
    return (await connection.execute(query)).first()


async def _keep_event(
    connection: AsyncConnection, attempt_id: str, report: CallReport, now: datetime
) -> None:
    event = upsert(connection)(call_events).values(
        attempt_id=attempt_id,
        call_sid=report.call_sid,
        status=report.answered_by or report.status,
        at=now,
        facts=dict(report.facts),
    )
    await connection.execute(event.on_conflict_do_nothing())


async def _take(connection: AsyncConnection, attempt_id: str, call_sid: str) -> bool:
    """Give an attempt a call; False if another attempt has it."""
    mine = update(attempts).where(attempts.c.attempt_id == attempt_id).values(call_sid=call_sid)
    try:
        async with connection.begin_nested():
            await connection.execute(mine)
    except IntegrityError:
        return False
    return True


async def _note(
    connection: AsyncConnection, attempt: Row[Any], report: CallReport, now: datetime
) -> None:
    changes: dict[str, Any] = {"call_sid": report.call_sid, "heard_at": now}
    if report.queue_ms is not None:
        changes["queue_ms"] = report.queue_ms
    if report.first_sound_ms is not None and attempt.first_sound_ms is None:
        changes["first_sound_ms"] = report.first_sound_ms
    if report.is_speechless and attempt.first_sound_ms is None:
        changes["reason"] = NOBODY_SPOKE
    answered_by = _answerer(attempt.answered_by, report.answered_by)
    if report.answered_by is not None:
        changes["answered_by"] = answered_by
        await _handle_machine(connection, attempt, report.answered_by, now)
    state = reached(AttemptState(attempt.state), report.status)
    if state is S.ANSWERED:
        changes["answered_at"] = now
    if state is not None and state is not S.ENDED:
        changes["state"] = state.value
    if state is not None and AttemptState(attempt.state) in NOT_ASKED:
        await _take_back(connection, attempt)
        changes |= {"outcome": None, "ended_at": None}
        if attempt.committed_at is None:
            changes["committed_at"] = now  # it was rung after all
    if state in GOES_ON and await _is_stopped(connection, attempt):
        await leave_job(connection, JobKind.END_CALL, attempt.attempt_id, now)
    await connection.execute(
        update(attempts).where(attempts.c.attempt_id == attempt.attempt_id).values(**changes)
    )
    if state is S.ENDED:
        outcome = outcome_of(report.status, answered_by)
        is_unheard = attempt.reason == NOBODY_SPOKE and attempt.first_sound_ms is None
        if outcome is Outcome.ANSWERED and is_unheard:
            outcome = Outcome.FAILED
        duration_ms = None if report.duration_s is None else 1000 * report.duration_s
        await _end(connection, attempt, outcome, now, duration_ms=duration_ms)
    elif _is_completed(attempt):
        await _correct(connection, attempt, outcome_of("completed", answered_by))


def _is_completed(attempt: Row[Any]) -> bool:
    """Whether an attempt has ended as a call that somebody or something answered."""
    return attempt.outcome == Outcome.ANSWERED.value or _is_speechless(attempt)


def _is_speechless(attempt: Row[Any]) -> bool:
    """Whether it counts as failed, for nobody spoke in it."""
    return (attempt.outcome, attempt.reason) == (Outcome.FAILED.value, NOBODY_SPOKE)


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


async def _is_stopped(connection: AsyncConnection, attempt: Row[Any]) -> bool:
    """Whether whoever is rung had stopped before, or has since, but not in this very call."""
    if attempt.number is None or attempt.reason == SAID_STOP:
        return False
    return await is_stopped(connection, attempt.number)


async def _has_rules(connection: AsyncConnection, attempt: Row[Any]) -> bool:
    return bool(by_rules((await _plan(connection, attempt)).outcome_fields))


async def _plan(connection: AsyncConnection, attempt: Row[Any]) -> Campaign:
    query = select(campaigns.c.plan).where(campaigns.c.campaign_id == attempt.campaign_id)
    return plan_of((await connection.execute(query)).scalar_one())


async def _take_back(connection: AsyncConnection, attempt: Row[Any]) -> None:
    """What was planned in place of a call goes: it was made after all, or has not failed."""
    later = delete(attempts).where(
        attempts.c.contact_id == attempt.contact_id,
        attempts.c.n > attempt.n,
        attempts.c.state.in_(NEVER_MADE),
        attempts.c.committed_at.is_(None),
    )
    await connection.execute(later)
    newest = (
        select(attempts.c.n, attempts.c.outcome)
        .where(attempts.c.contact_id == attempt.contact_id)
        .order_by(attempts.c.n.desc())
        .limit(1)
    )
    n, outcome = (await connection.execute(newest)).one()
    # whom a later attempt or a refusal has closed, this one's end does not close again
    standing: dict[str, Any] = (
        {"outcome": None, "is_refused": False}
        if n == attempt.n
        else {"outcome": func.coalesce(contacts.c.outcome, outcome)}
    )
    await connection.execute(
        update(contacts)
        .where(contacts.c.contact_id == attempt.contact_id)
        .values(n_attempts=n, **standing)
    )


async def _paid_minutes(
    connection: AsyncConnection, attempt: Row[Any], outcome: Outcome, duration_ms: int | None
) -> int:
    """Begun minutes of a call; the most it may have lasted where nobody says how long it did."""
    if duration_ms is not None:
        return -(-duration_ms // MINUTE_MS)
    may_cost = outcome in (Outcome.ANSWERED, Outcome.VOICEMAIL, Outcome.FAX, Outcome.LOST)
    return (await _plan(connection, attempt)).longest_minutes if may_cost else 0


async def _end(
    connection: AsyncConnection,
    attempt: Row[Any],
    outcome: Outcome,
    now: datetime,
    *,
    duration_ms: int | None,
) -> None:
    minutes = await _paid_minutes(connection, attempt, outcome, duration_ms)
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
    if outcome is Outcome.ANSWERED and await _has_rules(connection, attempt):
        await leave_job(connection, JobKind.FILL_FIELDS, attempt.attempt_id, now)
    await settle(connection, attempt, outcome, now)


async def _correct(connection: AsyncConnection, attempt: Row[Any], outcome: Outcome) -> None:
    """Who answered is told after the end: all is as if it had been told before."""
    if outcome is Outcome.ANSWERED:
        return
    minutes = await _paid_minutes(connection, attempt, outcome, attempt.duration_ms)
    await connection.execute(
        update(attempts)
        .where(attempts.c.attempt_id == attempt.attempt_id)
        .values(outcome=outcome.value, paid_minutes=minutes)
    )
    await _unfill(connection, attempt)
    if _is_speechless(attempt):
        await _take_back(connection, attempt)
    await settle(connection, attempt, outcome, attempt.ended_at)


async def _unfill(connection: AsyncConnection, attempt: Row[Any]) -> None:
    """Take back what rules have found, or are to find, in the words of a machine."""
    fields = by_rules((await _plan(connection, attempt)).outcome_fields)
    await connection.execute(
        delete(outbox).where(
            outbox.c.attempt_id == attempt.attempt_id,
            outbox.c.kind == JobKind.FILL_FIELDS.value,
        )
    )
    await connection.execute(
        delete(findings).where(
            findings.c.attempt_id == attempt.attempt_id, findings.c.name.in_(fields)
        )
    )
