"""What a watch asks of Twilio, and when, against the emulator's REST interface."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from bot.campaigns.records import CallReport, Order
from bot.dialling.watching import A_FEW, Watching, WatchTimings
from telephony.emulator import PhoneNetwork, serve_rest
from telephony.emulator.rest import Rest
from telephony.rest import CallOrder, Placed, TwilioCalls, twilio_calls
from tests.bot.campaigns.facts import NOON, OURS, number, people
from tests.bot.line.line import TOKEN
from tests.bot.storage.desk import Desk, desk

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
REFUSED = timedelta(milliseconds=WatchTimings().job_refused)


@dataclass
class HandClock:
    """A clock that is put forward by hand."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    async def sleep(self, duration_s: float) -> None:
        self.at += duration_s * SECOND

    def real_s(self, duration_s: float) -> float:
        return duration_s


@dataclass(frozen=True)
class Watch:
    """A watch, its clock, and the interface it asks, on a line with no calls."""

    watching: Watching
    clock: HandClock
    rest: Rest
    calls: TwilioCalls


@asynccontextmanager
async def watch(
    ours: Desk, at: datetime, token: str = TOKEN, **network_options: Any
) -> AsyncIterator[Watch]:
    clock = HandClock(at)
    async with (
        PhoneNetwork(auth_token=TOKEN, **network_options) as network,
        serve_rest(network) as rest,
        twilio_calls(network.account_sid, token, base_url=rest.url) as calls,
    ):
        watching = Watching(
            store=ours.dials,
            reports=ours.reports,
            findings=ours.findings,
            calls=calls,
            clock=clock,
        )
        yield Watch(watching, clock, rest, calls)


async def ringing(ours: Desk) -> Order:
    """An attempt that rings, and whose call is to be ended."""
    order = await ours.order()
    await ours.heard(order, "ringing", at=NOON)
    await ours.reports.ask_to_end(order.attempt_id, now=NOON)
    return order


async def test_a_call_that_is_gone_needs_no_ending(sqlite_url: str) -> None:
    """Where Twilio knows of no such call the job is done."""
    async with desk(sqlite_url) as ours:
        await ringing(ours)
        async with watch(ours, NOON) as its:
            await its.watching.do_jobs()

        assert await ours.reports.jobs(n=9, now=NOON + timedelta(hours=1)) == []


async def test_a_call_that_stays_in_the_queue_is_taken_back(sqlite_url: str) -> None:
    """Whoever placed it died before it could; after a minute of nothing a watch sees to it."""
    elsewhere = CallOrder(
        to_number=number(9),
        from_number=OURS,
        answer_url="http://127.0.0.1:9/voice",
        status_url="http://127.0.0.1:9/status",
        ring_timeout_s=30,
        time_limit_s=600,
    )
    async with desk(sqlite_url) as ours:
        order = await ours.order()
        async with watch(ours, NOON + 2 * MINUTE, calls_per_second=0.001) as its:
            await its.calls.place(elsewhere)  # leaves at once
            placed = await its.calls.place(replace(elsewhere, to_number=order.number))
            assert isinstance(placed, Placed)
            report = CallReport(call_sid=placed.call_sid, status="queued")
            await ours.reports.note(order.attempt_id, report, now=NOON)
            with capture_logs() as logs:
                await its.watching.ask_silent()
            await its.watching.do_jobs()
            found = await its.calls.fetch(placed.call_sid)

    assert [one["event"] for one in logs] == ["call_queued_too_long"]
    assert found is not None
    assert found.status == "canceled"


async def test_a_job_that_twilio_refuses_is_not_forgotten(sqlite_url: str) -> None:
    """With a wrong token it waits, and an operator is told; with the right one it is done."""
    async with desk(sqlite_url) as ours:
        order = await ringing(ours)
        with capture_logs() as lines:
            async with watch(ours, NOON, token="wrong") as its:
                await its.watching.do_jobs()
        early = await ours.reports.jobs(n=9, now=NOON + REFUSED - SECOND)
        again = await ours.reports.jobs(n=9, now=NOON + REFUSED + SECOND)
        async with watch(ours, NOON + timedelta(hours=1)) as its:
            await its.watching.do_jobs()
        late = await ours.reports.jobs(n=9, now=NOON + timedelta(hours=2))

    [refusal] = [line for line in lines if line["event"] == "job_refused"]
    assert (refusal["log_level"], refusal["attempt"]) == ("error", order.attempt_id)
    assert "401" in refusal["reason"]
    assert (len(early), len(again), len(late)) == (0, 1, 0)


@pytest.mark.parametrize("token", ["wrong", TOKEN])
async def test_a_job_of_a_call_that_is_over_is_done(sqlite_url: str, token: str) -> None:
    """Twilio is not asked for it."""
    async with desk(sqlite_url) as ours:
        order = await ringing(ours)
        await ours.heard(order, "no-answer", at=NOON)
        async with watch(ours, NOON, token) as its:
            await its.watching.do_jobs()

        assert await ours.reports.jobs(n=9, now=NOON + timedelta(hours=1)) == []


async def test_a_lost_attempt_is_looked_for_ever_less_often(sqlite_url: str) -> None:
    """From 5 s on each time at twice the age; at 120 s it is looked for again, and given up."""
    n_unknown: dict[int, int] = {}  # after a look at an age
    async with desk(sqlite_url) as ours, watch(ours, NOON) as its:
        await ours.dials.unknown(await ours.order(), reason="no_answer", now=NOON)
        for age_s in range(130):
            n_before = its.rest.n_requests
            await its.watching.find_unknown()
            if its.rest.n_requests > n_before:
                n_unknown[age_s] = len(await ours.dials.unknown_attempts(n=9))
            await its.clock.sleep(1)

    assert n_unknown == {5: 1, 10: 1, 20: 1, 40: 1, 80: 1, 120: 0}


async def test_a_look_asks_for_a_few(sqlite_url: str) -> None:
    """Of many lost attempts those that are due are looked for in turn."""
    lost_at = NOON + timedelta(minutes=1)
    async with (
        desk(sqlite_url, people(A_FEW + 1)) as ours,
        watch(ours, lost_at + 5 * SECOND) as its,
    ):
        for n in range(A_FEW + 1):
            order = await ours.order(NOON + n * SECOND)
            await ours.dials.unknown(order, reason="no_answer", now=lost_at)
        n_asked = []
        for _ in range(3):
            await its.watching.find_unknown()
            n_asked.append(its.rest.n_requests)

    assert n_asked == [A_FEW, A_FEW + 1, A_FEW + 1]
