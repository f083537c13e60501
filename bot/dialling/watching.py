"""Watching over attempts that are on their way: what was lost is found, what is to be done is done.

Four looks, each at its own interval: leases of dialers that died; attempts of which it is not known
whether Twilio has them; calls of which nothing is heard; jobs left by other processes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from bot.campaigns.attempts import Outcome
from bot.campaigns.looks import Looks
from bot.campaigns.outcome_fields import by_rules, told_by
from bot.campaigns.records import CallReport, Job, JobKind, SilentCall, UnknownAttempt
from bot.faults import told_of
from bot.storage.call_reports import CallReports
from bot.storage.database import is_out_of_reach
from bot.storage.dialling import DialStore
from bot.storage.findings import FindingStore
from bot.storage.patience import ANSWER_S, with_patience
from config.campaigns import Campaign
from telephony import twiml
from telephony.clock import Clock
from telephony.rest import FoundCall, RestError, TwilioCalls, Unreachable

__all__ = ["WatchTimings", "Watching"]

log = structlog.get_logger()

T = TypeVar("T")

QUEUED = "queued"  # in a word of Twilio's
A_FEW = 50
MOST_UNKNOWN = 1_000
JOBS_AT_ONCE = 20
MOST_TRIES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchTimings:
    """How long things are waited for, in milliseconds of the dialer's clock."""

    look: int = 1_000
    # An unknown attempt may explain itself by a callback; after that it is looked for, see `Looks`.
    until_asked: int = 5_000
    # An unknown attempt that Twilio does not list by then was never placed. Longer than a call is
    # left in Twilio's queue.
    until_given_up: int = 120_000
    silence: int = 60_000  # of a call that goes on, until Twilio is asked
    clock_skew: int = 60_000  # between Twilio and us
    job_retry: int = 2_000
    job_refused: int = 30_000  # until Twilio is asked again for what it refused
    answer: int = round(1000 * ANSWER_S)  # of the database, really


class Watching:
    """One dialer's watch. Several may watch: reports bear repeating, and one takes each job."""

    def __init__(
        self,
        *,
        store: DialStore,
        reports: CallReports,
        findings: FindingStore,
        calls: TwilioCalls,
        clock: Clock,
        timings: WatchTimings | None = None,
    ) -> None:
        self._store = store
        self._reports = reports
        self._findings = findings
        self._calls = calls
        self._clock = clock
        self._timings = timings or WatchTimings()
        self._looks = Looks(
            first=_ms(self._timings.until_asked), last=_ms(self._timings.until_given_up)
        )

    async def run(self) -> None:
        """Watch until cancelled, which breaks off what is being looked at."""
        async with asyncio.TaskGroup() as looks:
            for look in (self.expire_leases, self.find_unknown, self.ask_silent, self.do_jobs):
                looks.create_task(self._again_and_again(look))

    async def _again_and_again(self, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                # each question of a look has a limit of its own, to Twilio and to the database
                await with_patience(look, self._clock, answer_s=None)
            except Exception as exc:
                # the others go on, and so does this one
                log.error("look_failed", **told_of(exc))
            await self._clock.sleep(self._timings.look / 1000)

    async def _one(self, attempt_id: str, look: Coroutine[Any, Any, None]) -> bool:
        """Look at one of many: one that cannot be dealt with (False) is not to stop the others."""
        try:
            await look
        except Exception as exc:
            if is_out_of_reach(exc):
                raise
            log.error("look_failed", attempt=attempt_id, **told_of(exc))
            return False
        return True

    async def _answer(self, step: Awaitable[T]) -> T:
        """What the database answers. Raises TimeoutError where it hangs, which is to be away."""
        async with asyncio.timeout(self._timings.answer / 1000):
            return await step

    async def expire_leases(self) -> None:
        """Take over what dead dialers have left, and close what cancelled campaigns have."""
        n_planned, n_unknown = await self._answer(self._store.expire_leases(self._clock.now()))
        await self._answer(self._store.close_cancelled())
        if n_planned or n_unknown:
            log.warning("leases_expired", planned=n_planned, unknown=n_unknown)

    async def find_unknown(self) -> None:
        """Look in Twilio's list for attempts that may be there: a few, the oldest first."""
        found = await self._answer(self._store.unknown_attempts(n=MOST_UNKNOWN))
        attempts = {attempt.attempt_id: attempt for attempt in found}
        now = self._clock.now()
        ages = {attempt.attempt_id: now - attempt.unknown_at for attempt in found}
        for attempt_id in self._looks.due(ages)[:A_FEW]:
            await self._one(attempt_id, self._find(attempts[attempt_id]))
            self._looks.looked(attempt_id, ages[attempt_id])

    async def _find(self, attempt: UnknownAttempt) -> None:
        try:
            is_found = attempt.number is not None and await self._adopt(attempt, attempt.number)
        except RestError as exc:
            log.warning("attempt_not_looked_for", attempt=attempt.attempt_id, reason=str(exc))
            return
        waited = self._clock.now() - attempt.unknown_at
        if not is_found and waited >= _ms(self._timings.until_given_up):
            await self._answer(
                self._store.not_placed(
                    attempt.attempt_id,
                    outcome=Outcome.NOT_PLACED,
                    reason="not_found",
                    now=self._clock.now(),
                )
            )

    async def _adopt(self, attempt: UnknownAttempt, number: str) -> bool:
        """Give an attempt the call that it placed, if Twilio lists one that is nobody else's."""
        since = attempt.committed_at - _ms(self._timings.clock_skew)
        found = await self._calls.find(to_number=number, from_number=attempt.caller_id, since=since)
        for call in reversed(found):
            if await self._note(attempt.attempt_id, call):
                log.info("attempt_found", attempt=attempt.attempt_id, call_id=call.call_sid)
                return True
        return False

    async def ask_silent(self) -> None:
        """Ask for calls that go on, and of which nothing was heard for a while."""
        since = self._clock.now() - _ms(self._timings.silence)
        for call in await self._answer(self._reports.silent(since=since, n=A_FEW)):
            if not await self._one(call.attempt_id, self._ask(call)):
                await self._answer(self._reports.put_off(call.attempt_id, now=self._clock.now()))

    async def _ask(self, silent: SilentCall) -> None:
        try:
            found = await self._calls.fetch(silent.call_sid)
        except RestError as exc:
            log.warning("call_not_asked_for", attempt=silent.attempt_id, reason=str(exc))
            await self._answer(self._reports.put_off(silent.attempt_id, now=self._clock.now()))
            return
        now = self._clock.now()
        if found is None:
            await self._answer(self._reports.lost(silent.attempt_id, now=now))
            return
        await self._note(silent.attempt_id, found)
        if found.status == QUEUED:
            # whoever asked for it could not see to that: it would ring at any hour of a day
            log.warning("call_queued_too_long", attempt=silent.attempt_id)
            await self._answer(self._reports.ask_to_end(silent.attempt_id, now=now))

    async def _note(self, attempt_id: str, call: FoundCall) -> bool:
        report = CallReport(
            call_sid=call.call_sid,
            status=call.status,
            answered_by=call.answered_by,
            duration_s=call.duration_s,
        )
        return await self._answer(self._reports.note(attempt_id, report, now=self._clock.now()))

    async def do_jobs(self) -> None:
        """Do what was left to be asked of Twilio, side by side: others may take it soon."""
        jobs = await self._answer(self._reports.jobs(n=JOBS_AT_ONCE, now=self._clock.now()))
        work = [self._one(job.attempt_id, self._see_to(job)) for job in jobs]
        for fault in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(fault, BaseException):
                raise fault

    async def _see_to(self, job: Job) -> None:
        wait_ms, now = await self._do(job), self._clock.now()
        if wait_ms is None:
            await self._answer(self._reports.job_done(job, now=now))
        else:
            await self._answer(self._reports.job_put_off(job.job_id, due_at=now + _ms(wait_ms)))

    async def _are_filled(self, job: Job) -> bool:
        """Fill the campaign's fields once the call is written down, if it is before long."""
        fields = by_rules(_plan_of(job).outcome_fields)
        if not fields or job.call_sid is None or job.n_tries > MOST_TRIES:
            return True
        said = await self._answer(self._findings.said(job.call_sid))
        if said is None:
            return False
        await self._answer(self._findings.keep(job.attempt_id, told_by(fields, said), names=fields))
        return True

    async def _do(self, job: Job) -> int | None:
        """Milliseconds until a job is to be tried again; None if nothing of it is left to be done.

        A call that is over or gone is no refusal; anything else that Twilio refuses (a token that
        was changed, say) is for an operator to mend, and is asked for until the call is over.
        """
        again_ms = self._timings.job_retry
        if job.kind is JobKind.FILL_FIELDS:
            return None if await self._are_filled(job) else again_ms
        if job.is_over:
            return None
        if job.call_sid is None:
            return again_ms  # not known yet: the attempt's first callback tells, or Twilio's list
        try:
            match job.kind:
                case JobKind.END_CALL:
                    await self._calls.end(job.call_sid)
                case JobKind.LEAVE_MESSAGE:
                    await self._calls.go_on(job.call_sid, _message(job))
        except Unreachable:
            return again_ms
        except RestError as exc:
            log.error("job_refused", job=job.kind.value, attempt=job.attempt_id, reason=str(exc))
            return self._timings.job_refused
        return None


def _message(job: Job) -> str:
    voicemail = _plan_of(job).voicemail
    assert voicemail.message is not None, "a campaign that leaves a message has one"
    return twiml.say_and_hang_up(voicemail.message, voicemail.language)


def _plan_of(job: Job) -> Campaign:
    assert job.plan is not None, "only calls are ended without a plan"
    return job.plan


def _ms(duration: int) -> timedelta:
    return timedelta(milliseconds=duration)
