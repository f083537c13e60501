"""Dialling: attempts that are due are claimed, looked at once more, written down and asked for.

Twilio is asked once for each attempt, and what it answers is written down before anything else is
done with it. A database that is away stops all this: what cannot be written is not dialled.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import structlog

from bot.campaigns.attempts import Outcome
from bot.campaigns.gate import AFTER_MENDING, LONGEST_PAUSE, Later, LineLimits, Reason
from bot.campaigns.records import CallReport, Claim, Order
from bot.campaigns.urls import CallbackUrls
from bot.faults import told_of
from bot.storage.call_reports import CallReports
from bot.storage.dialling import DialStore, Granted, Held
from bot.storage.patience import Ending, with_last_patience, with_patience_until
from telephony.clock import Clock
from telephony.rest import CallOrder, NotSent, Placed, Refused, TwilioCalls, Unknown

__all__ = ["Dialling", "Timings"]

log = structlog.get_logger()

T = TypeVar("T")

# Reasons that do not pass by themselves.
FOR_OPERATORS = frozenset({Reason.CALLER_ID, Reason.ZONE_UNKNOWN})
MOST_ASKING = 20  # requests to Twilio under way at once
# Errors of the account or the line, not of the number that was dialled: no attempt is to blame.
WHAT_TO_DO = {
    20003: "check VOICEBOT_TWILIO_ACCOUNT_SID and VOICEBOT_TWILIO_AUTH_TOKEN",
    21210: "the campaign's caller_id is not verified in this account",
    21212: "the campaign's caller_id is no number of this account",
    21213: "the campaign's caller_id is missing",
}
LINE_ERRORS = frozenset({20003, 20005, 20008, 10001, 10002, 10004})
CAMPAIGN_ERRORS = frozenset({21210, 21212, 21213})  # of its caller id: other campaigns go on


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long things are waited for, in milliseconds of the dialer's clock."""

    idle: int = 1_000  # between two looks for attempts that are due
    after_refusal: int = 2_000  # by a busy Twilio; doubles with each, up to a minute
    after_line_error: int = 60_000
    last_answer: int = 10_000  # of the database, really, once the dialer is to end
    most_queued: int = 10_000  # in Twilio's queue; a call that waits longer is taken back


class Dialling:
    """One dialer's way from what is due to what Twilio was asked for."""

    def __init__(
        self,
        *,
        store: DialStore,
        reports: CallReports,
        calls: TwilioCalls,
        urls: CallbackUrls,
        limits: LineLimits,
        clock: Clock,
        owner: str,
        timings: Timings | None = None,
    ) -> None:
        """`owner` names this dialer among others."""
        self._store = store
        self._reports = reports
        self._calls = calls
        self._urls = urls
        self._limits = limits
        self._clock = clock
        self._owner = owner
        self._timings = timings or Timings()
        self._asking = asyncio.Semaphore(MOST_ASKING)
        self._stop = asyncio.Event()
        self._ending = self._ending_of(self._stop)
        self._n_refusals = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Dial until `stop` is set; returns when the last answer is written down.

        Should the database be away or hang then, all that Twilio was not asked for yet has ten
        seconds, and so has each answer of Twilio's: leases run out, and what was asked for is found
        out by another dialer, or by this one when it is started again.
        Cancelling leaves it unknown in the same way whether those are rung whom Twilio is being
        asked for.
        """
        self._stop, self._ending = stop, self._ending_of(stop)
        async with asyncio.TaskGroup() as asking:
            while not stop.is_set():
                claims = await self._until(self._claim) or []
                await self._take(claims, asking)
                if not claims:
                    await self._rest(stop)

    async def _take(self, claims: Sequence[Claim], asking: asyncio.TaskGroup) -> None:
        """Have them asked for, one after another; what is left of them at the end is given back."""
        for claim in claims:
            await self._asking.acquire()
            order = await self._permitted_or_none(claim)
            if order is None:
                self._asking.release()
            else:
                asking.create_task(self._ask(order))
        if claims and self._stop.is_set():
            await self._until(lambda: self._store.give_back(claims))

    async def _claim(self) -> list[Claim]:
        now = self._clock.now()
        n_free = await self._store.n_free(self._limits, now)
        a_second = max(1, round(self._limits.calls_per_second))
        n = min(n_free, a_second, MOST_ASKING)
        return await self._store.claim(owner=self._owner, n=n, now=now) if n else []

    async def _rest(self, stop: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._clock.real_s(self._timings.idle / 1000)):
                await stop.wait()
        except TimeoutError:
            return

    async def _permitted_or_none(self, claim: Claim) -> Order | None:
        try:
            return await self._permitted(claim)
        except Exception as exc:
            # one attempt that cannot be decided on is not to stop all others
            log.error("attempt_not_decided", attempt=claim.attempt_id, **told_of(exc))
            return None

    async def _permitted(self, claim: Claim) -> Order | None:
        """Wait for the line's pace and look once more; None if nobody is to be rung for it now."""
        while not self._stop.is_set():
            result = await self._until(
                lambda: self._store.commit(claim, self._limits, self._clock.now)
            )
            match result:
                case Granted(order):
                    return order
                case Held(Later(Reason.PACE, at)):
                    ahead_s = (at - self._clock.now()).total_seconds()
                    await self._clock.sleep(max(0.0, min(ahead_s, 1.0)))
                case Held(decision) if decision.reason in FOR_OPERATORS:
                    log.warning(
                        "attempt_held", attempt=claim.attempt_id, reason=decision.reason.value
                    )
                    return None
                case _:
                    return None
        return None

    async def _ask(self, order: Order) -> None:
        try:
            await self.ask(order)
        except Exception as exc:
            # it stays as it was written down: whoever looks after leases finds out
            log.error("attempt_not_noted", attempt=order.attempt_id, **told_of(exc))
        finally:
            self._asking.release()

    async def ask(self, order: Order) -> None:
        """Ask Twilio for a call, once, and write down what it answers.

        An order that is too old is left alone: others have taken its attempt for lost by now.
        """
        if self._clock.now() >= order.expires_at:
            log.error("order_expired", attempt=order.attempt_id)
            return
        outcome = await self._calls.place(self._call_order(order))
        log.info("attempt_asked", attempt=order.attempt_id, outcome=type(outcome).__name__)
        match outcome:
            case Placed():
                await self._placed(order, outcome)
            case NotSent(reason):
                await self._not_sent(order, reason)
            case Refused(code) if code in LINE_ERRORS:
                await self._line_error(order, code)
            case Refused(code) if code in CAMPAIGN_ERRORS:
                await self._campaign_error(order, code)
            case Refused(code):
                await self._rejected(order, code)
            case Unknown(reason):
                await self._unknown(order, reason)

    def _call_order(self, order: Order) -> CallOrder:
        plan = order.plan
        return CallOrder(
            to_number=order.number,
            from_number=plan.caller_id,
            answer_url=self._urls.answer(order.attempt_id),
            status_url=self._urls.status(order.attempt_id),
            detection_url=self._urls.detected(order.attempt_id),
            ring_timeout_s=plan.ring_ms // 1000,
            time_limit_s=plan.max_call_ms // 1000,
        )

    async def _placed(self, order: Order, placed: Placed) -> None:
        self._n_refusals = 0
        report = CallReport(call_sid=placed.call_sid, status="queued", queue_ms=placed.queue_ms)
        await self._write(
            lambda: self._reports.note(order.attempt_id, report, now=self._clock.now())
        )
        if placed.queue_ms > self._timings.most_queued:
            # it would ring when the window is closed
            log.warning("call_queued_too_long", attempt=order.attempt_id, queue_ms=placed.queue_ms)
            await self._write(
                lambda: self._reports.ask_to_end(order.attempt_id, now=self._clock.now())
            )
            await self._slow_down(placed.queue_ms)

    async def _not_sent(self, order: Order, reason: str) -> None:
        self._n_refusals += 1
        wait_ms = min(60_000, self._timings.after_refusal << min(self._n_refusals - 1, 10))
        log.warning("twilio_not_asked", reason=reason, wait_ms=wait_ms)
        await self._plan_again(order, reason, wait_ms)

    async def _line_error(self, order: Order, code: int) -> None:
        log.error("line_refused", code=code, what_to_do=WHAT_TO_DO.get(code, "see Twilio's error"))
        await self._plan_again(order, f"twilio_{code}", self._timings.after_line_error)

    async def _campaign_error(self, order: Order, code: int) -> None:
        log.error(
            "campaign_refused",
            campaign=order.plan.name,
            code=code,
            what_to_do=f"{WHAT_TO_DO[code]}; pause and resume the campaign when that is mended",
        )
        now = self._clock.now()
        await self._write(
            lambda: self._store.not_sent(
                order,
                reason=f"twilio_{code}",
                now=now,
                due_at=now + AFTER_MENDING,
                holds_campaign=True,
            )
        )

    async def _plan_again(self, order: Order, reason: str, wait_ms: int) -> None:
        now = self._clock.now()
        due_at = now + timedelta(milliseconds=wait_ms)
        await self._write(
            lambda: self._store.not_sent(order, reason=reason, now=now, due_at=due_at)
        )
        await self._slow_down(wait_ms)

    async def _rejected(self, order: Order, code: int) -> None:
        await self._write(
            lambda: self._store.not_placed(
                order.attempt_id,
                outcome=Outcome.REJECTED,
                reason=f"twilio_{code}",
                now=self._clock.now(),
            )
        )

    async def _unknown(self, order: Order, reason: str) -> None:
        log.warning("attempt_unknown", attempt=order.attempt_id, reason=reason)
        await self._write(lambda: self._store.unknown(order, reason=reason, now=self._clock.now()))

    async def _slow_down(self, wait_ms: int) -> None:
        until = self._clock.now() + min(timedelta(milliseconds=wait_ms), LONGEST_PAUSE)
        await self._write(lambda: self._store.slow_down(until))

    def _ending_of(self, stop: asyncio.Event) -> Ending:
        return Ending(stop, last_s=self._timings.last_answer / 1000)

    async def _until(self, step: Callable[[], Awaitable[T]]) -> T | None:
        return await with_patience_until(self._ending, step, self._clock)

    async def _write(self, step: Callable[[], Awaitable[object]]) -> None:
        """Write down what Twilio has answered. Raises TimeoutError if the end comes before."""
        await with_last_patience(self._ending_of(self._stop), step, self._clock)
