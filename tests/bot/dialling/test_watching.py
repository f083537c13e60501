"""What a watch asks of Twilio, and when, against the emulator's REST interface."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from bot.campaigns.gate import CampaignState
from bot.campaigns.records import CallReport, JobKind, Order
from bot.dialling.watching import A_FEW, Watching, WatchTimings
from bot.storage.call_reports import CallReports, leave_job
from bot.storage.database import Database, open_database
from bot.storage.dialling import DialStore
from bot.storage.findings import FindingStore
from telephony.clock import FastClock
from telephony.emulator import PhoneNetwork, serve_rest
from telephony.emulator.rest import Rest
from telephony.rest import CallOrder, Placed, TwilioCalls, twilio_calls
from tests.bot.campaigns.facts import NOON, OURS, number, people, plan
from tests.bot.line.line import TOKEN
from tests.bot.storage.desk import Desk, desk
from tests.bot.storage.wire import wire
from tests.conftest import MS
from tests.waiting import eventually_so

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


async def ringing(ours: Desk, at: datetime = NOON) -> Order:
    """An attempt that rings, and whose call is to be ended."""
    order = await ours.order(at)
    await ours.heard(order, "ringing", at=at)
    await ours.reports.ask_to_end(order.attempt_id, now=at)
    return order


async def n_jobs(ours: Desk) -> int:
    """How many are left, without taking one."""
    async with ours.database.reading() as connection:
        left = text("SELECT count(*) FROM outbox WHERE done_at IS NULL")
        n: int = (await connection.execute(left)).scalar_one()
        return n


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


async def test_jobs_do_not_wait_for_one_another(sqlite_url: str) -> None:
    """A job is one dialer's for half a minute: so long a Twilio that is slow may take for each."""
    both = asyncio.Barrier(2)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            await both.wait()
            body = b'{"code": 20404, "message": "", "more_info": "", "status": 404}'
            head = f"HTTP/1.1 404 Not Found\r\nContent-Length: {len(body)}\r\nConnection: close"
            writer.write(head.encode() + b"\r\n\r\n" + body)
            await writer.drain()

    async with desk(sqlite_url, people(2)) as ours:
        for n in range(2):
            await ringing(ours, NOON + n * SECOND)
        async with (
            await asyncio.start_server(answer, "127.0.0.1", 0) as server,
            twilio_calls(
                "AC1",
                TOKEN,
                base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
                answer_timeout_ms=round(3_000 * MS * 1_000),
            ) as calls,
        ):
            watching = Watching(
                store=ours.dials,
                reports=ours.reports,
                findings=ours.findings,
                calls=calls,
                clock=HandClock(NOON + MINUTE),
            )
            await watching.do_jobs()
        left = await ours.reports.jobs(n=9, now=NOON + timedelta(hours=1))

    assert left == []


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


@asynccontextmanager
async def beside_a_broken_one(
    ours: Desk, n_broken: int = 1
) -> AsyncIterator[tuple[Order, Desk, Order]]:
    """Calls that ring of a campaign whose plan is broken since, and then one of another campaign.

    The first of each, and that campaign.
    """
    broken, *_ = [await ringing(ours, NOON + n * SECOND / n_broken) for n in range(n_broken)]
    await ours.rewrite_plan("{}")
    record = await ours.store.create(plan(name="other"), now=NOON)
    other = Desk(ours.database, record)
    await other.store.add(record.campaign_id, people(n_broken + 1)[n_broken:], now=NOON)
    await other.store.move(record.campaign_id, CampaignState.RUNNING, now=NOON)
    yield broken, other, await ringing(other, NOON + SECOND)


async def test_a_plan_that_cannot_be_read_keeps_no_call_from_being_ended(
    database_url: str,
) -> None:
    """Neither its own, which needs no plan, nor others; what does need it is taken again later."""
    async with desk(database_url) as ours, beside_a_broken_one(ours) as (broken, _, order):
        async with ours.database.writing() as connection:
            await leave_job(connection, JobKind.LEAVE_MESSAGE, broken.attempt_id, NOON)
        with capture_logs() as logs:
            jobs = await ours.reports.jobs(n=9, now=NOON + SECOND)
        await ours.rewrite_plan(ours.campaign.plan.model_dump_json())
        later = await ours.reports.jobs(n=9, now=NOON + MINUTE)

    ended = [(JobKind.END_CALL, broken.attempt_id), (JobKind.END_CALL, order.attempt_id)]
    assert [(job.kind, job.attempt_id) for job in jobs] == ended
    assert {one["campaign"] for one in logs} == {"reminders"}
    assert all("mend its plan" in one["what_to_do"] for one in logs)
    assert (JobKind.LEAVE_MESSAGE, broken.attempt_id) in [(j.kind, j.attempt_id) for j in later]


async def test_a_call_that_cannot_be_dealt_with_keeps_no_other_waiting(sqlite_url: str) -> None:
    """Of those of which nothing is heard the first belongs to a broken plan; all are asked for."""
    async with (
        desk(sqlite_url) as ours,
        beside_a_broken_one(ours) as (broken, other, _),
        watch(ours, NOON + 2 * MINUTE) as its,
    ):
        with capture_logs() as logs:
            await its.watching.ask_silent()
        states = [*await ours.states(), *await other.states()]

    [failed] = logs
    assert (failed["event"], failed["attempt"]) == ("look_failed", broken.attempt_id)
    assert states == ["ringing", "ended"]


async def test_calls_that_cannot_be_dealt_with_are_asked_for_again_later(sqlite_url: str) -> None:
    """As many as a look asks for come before another campaign's: it has its turn in the next look.

    They have theirs again a minute later, when their plan may be mended.
    """
    async with desk(sqlite_url, people(A_FEW)) as ours:
        async with (
            beside_a_broken_one(ours, A_FEW) as (_, other, _),
            watch(ours, NOON + 2 * MINUTE) as its,
        ):
            await its.watching.ask_silent()
            n_asked, first = its.rest.n_requests, await other.states()
            await its.watching.ask_silent()
            n_asked_again, second = its.rest.n_requests, await other.states()
            await ours.rewrite_plan(ours.campaign.plan.model_dump_json())
            await its.clock.sleep(61)
            await its.watching.ask_silent()
        states = await ours.states()

    assert (n_asked, n_asked_again) == (A_FEW, A_FEW + 1)
    assert (first, second) == (["ringing"], ["ended"])
    assert "ringing" not in states


async def test_a_call_of_which_twilio_does_not_tell_is_asked_for_a_minute_later(
    sqlite_url: str,
) -> None:
    """It goes on by what is known of it; another token may be the right one by then."""
    async with desk(sqlite_url) as ours:
        order = await ringing(ours)
        async with watch(ours, NOON + 2 * MINUTE, token="changed") as its:
            with capture_logs() as logs:
                await its.watching.ask_silent()
                await its.watching.ask_silent()
            n_asked, states = its.rest.n_requests, await ours.states()
            await its.clock.sleep(61)
            await its.watching.ask_silent()
            n_asked_later = its.rest.n_requests

    assert [(one["event"], one["attempt"]) for one in logs] == [
        ("call_not_asked_for", order.attempt_id)
    ]
    assert states == ["ringing"]
    assert (n_asked, n_asked_later) == (1, 2)


async def test_no_look_waits_for_a_database_that_says_nothing(postgresql_url: str) -> None:
    """Whatever each of them finds first or writes then, it is asked again on another connection."""
    late = NOON + 5 * MINUTE
    async with (
        desk(postgresql_url, people(3)) as ours,
        wire(postgresql_url) as (carrier, url),
        open_database(url) as database,
        watch(ours, late) as its,
    ):
        await ringing(ours)
        await ours.dials.unknown(await ours.order(NOON + SECOND), reason="x", now=NOON + SECOND)
        await ours.claim(now=NOON + 2 * SECOND)
        await connect(database, 4)
        watching = Watching(
            store=DialStore(database),
            reports=CallReports(database),
            findings=FindingStore(database),
            calls=its.calls,
            clock=FastClock(late, 1),
            timings=WatchTimings(answer=round(500_000 * MS)),
        )
        carrier.fall_silent()

        async def all_is_dealt_with() -> bool:
            unknown = await ours.dials.unknown_attempts(n=9)
            silent = await ours.reports.silent(since=late, n=9)
            is_claimed = "claimed" in await ours.states()
            return not (unknown or silent or is_claimed or await n_jobs(ours))

        async with asyncio.TaskGroup() as tasks:
            watch_on = tasks.create_task(watching.run())
            await eventually_so(all_is_dealt_with)
            watch_on.cancel()
        jobs = await ours.reports.jobs(n=9, now=late + timedelta(hours=1))

    assert jobs == []


async def connect(database: Database, n: int) -> None:
    """Have a database keep so many connections."""
    async with AsyncExitStack() as stack:
        for _ in range(n):
            connection = await stack.enter_async_context(database.reading())
            await connection.execute(text("SELECT 1"))
