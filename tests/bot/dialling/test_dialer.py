"""Campaigns from the first claim to the last count.

Who was rung is read from the network's own list.
"""

import asyncio
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

from sqlalchemy import text
from structlog.testing import capture_logs

from bot.campaigns.gate import CampaignState, Later, Reason
from bot.campaigns.urls import CallbackUrls
from bot.dialling.asking import Dialling, Timings
from bot.storage.dialling import DialStore, Held
from telephony.clock import FastClock
from telephony.emulator import Callee, Fate
from telephony.rest import twilio_calls
from tests.bot.campaigns.facts import NOON, number, people
from tests.bot.dialling.campaigns import (
    BUSY,
    EVERY_LIMIT,
    MORNING,
    QUICK,
    CampaignLine,
    campaign_line,
    plan,
)
from tests.bot.line.line import TOKEN
from tests.bot.storage.desk import FAST, desk
from tests.conftest import MS
from tests.waiting import eventually, eventually_so


async def test_everybody_is_rung_once(database_url: str) -> None:
    """Each contact is rung once, and how it went is counted; the counts add up to the contacts."""
    busy = {number(3), number(7)}

    async with campaign_line(
        database_url, directory=lambda number: BUSY if number in busy else QUICK
    ) as ours:
        await ours.campaign(people(10), plan())
        async with ours.dialling():
            counts = await ours.finished()

    assert ours.times_rung == {number(n): 1 for n in range(1, 11)}
    assert counts.done == {"answered": 8, "busy": 2}
    assert counts.n_contacts == 10


async def test_the_busy_are_tried_again_at_another_hour(sqlite_url: str) -> None:
    """Who was busy is rung again after the time the campaign says, as often as it says."""
    retries = {"max_attempts": 3, "busy": {"times": 1, "after_ms": 600_000}}
    async with campaign_line(sqlite_url, directory=lambda number: BUSY, speed=2_000) as ours:
        await ours.campaign(people(1), plan(retries=retries, caps={"per_day": 9, "per_week": 9}))
        async with ours.dialling():
            counts = await ours.finished()
        began, again = [row.at for row in await ours.dialled()]

    assert counts.done == {"busy": 1}
    assert ours.times_rung == {number(1): 2}
    assert again - began >= timedelta(minutes=10)
    assert again.hour != began.hour


async def test_a_pause_stops_within_one_call(sqlite_url: str) -> None:
    """After a pause is written down nobody is rung but who was being asked for already."""
    slowly = replace(EVERY_LIMIT, calls_per_second=1)
    async with campaign_line(sqlite_url, limits=slowly) as ours:
        record = await ours.campaign(people(20), plan())
        async with ours.dialling():
            await eventually(lambda: len(ours.rung) >= 3)
            await ours.store.move(record.campaign_id, CampaignState.PAUSED, now=ours.clock.now())
            dialled = await ours.dialled()
            await asyncio.sleep(0.5)
            dialled_later, n_rung_later = await ours.dialled(), len(ours.rung)
            await ours.store.move(record.campaign_id, CampaignState.RUNNING, now=ours.clock.now())
            counts = await ours.finished()

    assert dialled_later == dialled
    assert n_rung_later <= len(dialled)
    assert counts.done == {"answered": 20}
    assert max(ours.times_rung.values()) == 1


async def test_an_order_that_is_too_old_is_not_asked_for(sqlite_url: str) -> None:
    """A dialer that stood still after writing an attempt down rings nobody when it goes on."""
    async with campaign_line(sqlite_url) as ours, desk(sqlite_url) as other:
        order = replace(await other.order(), expires_at=ours.clock.now())
        async with ours.rest_calls() as calls:
            dialling = Dialling(
                store=other.dials,
                reports=other.reports,
                calls=calls,
                urls=CallbackUrls(ours.line.url),
                limits=ours.limits,
                clock=ours.clock,
                owner="late",
            )
            await dialling.ask(order)
        states = await other.states()

    assert ours.rung == []
    assert states == ["committed"]  # whoever looks after leases finds out


async def test_calls_are_begun_at_the_pace_of_the_line(sqlite_url: str) -> None:
    """No call is begun sooner after another than the line allows."""
    slowly = replace(EVERY_LIMIT, calls_per_second=0.5)
    async with campaign_line(sqlite_url, limits=slowly, speed=10) as ours:
        await ours.campaign(people(6), plan())
        async with ours.dialling():
            await ours.finished()
        began = [row.at for row in await ours.dialled()]

    assert len(began) == len(ours.rung) == 6
    assert all(b - a >= timedelta(seconds=2) for a, b in pairwise(began))


async def test_no_more_are_rung_at_once_than_the_model_bears(sqlite_url: str) -> None:
    """Calls of a campaign leave the slots free that are kept for those who call."""
    few = replace(EVERY_LIMIT, model_slots=5, inbound_reserve=2)
    most = 0
    async with campaign_line(sqlite_url, limits=few) as ours:
        await ours.campaign(people(12), plan())
        async with ours.dialling():
            while (counts := await ours.counts()).n_open:
                most = max(most, sum(not call.is_over for call in ours.rung))
                await asyncio.sleep(0.005)

    assert counts.done == {"answered": 12}
    assert most <= 3


async def test_a_call_that_waits_in_twilios_queue_is_taken_back(sqlite_url: str) -> None:
    """What Twilio would ring ten minutes later is not left to ring, and the line slows down."""
    # so long a queue that even a slow machine takes the call back before it rings
    async with campaign_line(sqlite_url, calls_per_second=1 / 600) as ours:
        await ours.campaign(people(2), plan())
        async with ours.dialling():
            counts = await ours.finished()
        rung, queued = sorted(ours.rung, key=lambda call: call.queue_ms)
        await ours.campaign(people(3)[2:], plan("later"))
        dials = DialStore(ours.database, lease=ours.lease, believed=ours.believed)
        (claim,) = await dials.claim(owner="test", n=1, now=ours.clock.now())
        held = await dials.commit(claim, ours.limits, ours.clock.now)

    assert counts.done == {"answered": 1, "withdrawn": 1}
    assert (rung.n_rings, queued.n_rings) == (1, 0)
    assert isinstance(held, Held)
    assert isinstance(held.decision, Later)
    assert held.decision.reason is Reason.PACE
    assert held.decision.at - rung.times.created > timedelta(seconds=60)


async def test_a_dialer_ends_while_its_database_is_away(sqlite_url: str) -> None:
    """It has asked Twilio for nothing that would have to be written down."""
    async with campaign_line(sqlite_url) as ours:
        await ours.campaign(people(1), plan(), starts=False)
        with capture_logs() as logs:
            async with asyncio.timeout(5), ours.dialling():
                async with ours.database.writing() as connection:
                    await connection.execute(text("ALTER TABLE attempts RENAME TO away"))
                await eventually(lambda: {"database_away"} & {one["event"] for one in logs})

    assert ours.rung == []


async def _somebody_waits(ours: CampaignLine) -> None:
    """Return once a transaction of PostgreSQL waits for another's lock."""

    async def is_waiting() -> bool:
        held_up = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        async with ours.database.reading() as looking:
            return bool((await looking.execute(held_up)).scalar_one())

    await eventually_so(is_waiting)


async def test_a_dialer_ends_while_its_database_hangs(postgresql_url: str) -> None:
    """It waits for an answer a little longer, and no more: somebody else holds a lock for ever."""
    async with campaign_line(postgresql_url) as ours:
        await ours.campaign(people(1), plan(), starts=False)
        async with ours.database.writing() as connection:
            await connection.execute(text("LOCK TABLE attempts"))
            async with asyncio.timeout(5_000 * MS), ours.dialling(last_answer=200):
                await _somebody_waits(ours)

    assert ours.rung == []


async def test_all_that_a_dialer_has_claimed_waits_for_a_database_once(postgresql_url: str) -> None:
    """Twenty that cannot be given back cost no more time than one; their leases run out."""
    async with campaign_line(postgresql_url) as ours:
        await ours.campaign(people(20), plan())
        async with (
            ours.database.writing_alone() as connection,  # so nothing is decided on
            asyncio.timeout(6_000 * MS),
            ours.dialling(last_answer=1_000),
        ):
            await _somebody_waits(ours)
            await connection.execute(text("LOCK TABLE attempts"))
        dials = DialStore(ours.database, lease=ours.lease)
        expired = await dials.expire_leases(ours.clock.now() + 2 * ours.lease)

    assert ours.rung == []
    assert expired == (20, 0)


async def test_an_answer_that_cannot_be_written_down_is_left_to_its_lease(
    postgresql_url: str,
) -> None:
    """A dialer that is to end while its database hangs says whose it was; others find it out."""
    stop = asyncio.Event()
    async with desk(postgresql_url) as ours, AsyncExitStack() as hanging:

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with closing(writer):
                await reader.readuntil(b"\r\n\r\n")
                connection = await hanging.enter_async_context(ours.database.writing())
                await connection.execute(text("LOCK TABLE attempts"))
                writer.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                stop.set()

        async with (
            await asyncio.start_server(answer, "127.0.0.1", 0) as server,
            twilio_calls(
                "AC1", TOKEN, base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ) as calls,
        ):
            dialling = Dialling(
                store=ours.dials,
                reports=ours.reports,
                calls=calls,
                urls=CallbackUrls("http://127.0.0.1:9"),
                limits=FAST,
                clock=FastClock(NOON, 1),
                owner="ends",
                timings=Timings(last_answer=500),
            )
            with capture_logs() as logs:
                async with asyncio.timeout(10_000 * MS):
                    await dialling.run(stop)
        await hanging.aclose()
        states = await ours.states()
        expired = await ours.dials.expire_leases(NOON + timedelta(minutes=5))

    assert [one["error"] for one in logs if one["event"] == "attempt_not_noted"] == ["TimeoutError"]
    assert (states, expired) == (["committed"], (0, 1))


async def test_a_stop_cancels_what_is_planned(database_url: str) -> None:
    """Who says stop is rung by no campaign any more, and a telephone that rings falls silent."""
    ringing = Callee(fate=Fate.RINGS)
    async with campaign_line(database_url, directory=lambda number: ringing) as ours:
        await ours.campaign(people(1), plan())
        other = await ours.campaign(people(2), plan("other"), starts=False)
        async with ours.dialling():
            await eventually(lambda: len(ours.rung) == 1 and ours.rung[0].n_rings == 1)
            n_closed = await ours.store.stop(number(1), source="api", now=ours.clock.now())
            counts = await ours.finished()
            others = await ours.store.counts(other.campaign_id)

    assert n_closed == 1
    assert (counts.done, others.refused) == ({"stopped": 1}, {"stopped": 1})
    assert others.planned == 1
    assert ours.rung[0].status == "canceled"


async def test_a_stop_from_elsewhere_ends_a_conversation(sqlite_url: str) -> None:
    """Who is talking to the bot as an operator writes the stop down is not talked to any longer."""
    async with campaign_line(sqlite_url, directory=lambda number: Callee(rings_ms=500)) as ours:
        await ours.campaign(people(1), plan())
        async with ours.dialling():
            await eventually(lambda: len(ours.line.call.plans) == 1)
            await ours.store.stop(number(1), source="api", now=ours.clock.now())
            counts = await ours.finished()

    assert counts.done == {"stopped": 1}


async def test_nobody_is_rung_outside_the_window(sqlite_url: str) -> None:
    """A campaign that is started too early rings when it is time by the clock of the callee."""
    nine = MORNING.replace(hour=14)  # in New York
    half_past_eight = nine - timedelta(minutes=30)
    async with campaign_line(sqlite_url, begins=half_past_eight, speed=1_000) as ours:
        await ours.campaign(people(2), plan(window={"begins": "09:00", "ends": "20:00"}))
        async with ours.dialling():
            counts = await ours.finished()

    assert counts.done == {"answered": 2}
    assert all(call.times.created >= nine for call in ours.rung)


async def test_a_decision_is_kept_for_every_dial_and_every_refusal(database_url: str) -> None:
    """Who was rung and who was not, and why, can be read afterwards."""
    async with campaign_line(database_url) as ours:
        agreed, silent = people(2)[0], replace(people(2)[1], consent=None)
        record = await ours.campaign([agreed, silent], plan())
        async with ours.dialling():
            counts = await ours.finished()
        made = [row async for row in ours.store.decisions(record.campaign_id)]

    assert {(row.number, row.is_dialled, row.reason) for row in made} == {
        (number(1), True, ""),
        (number(2), False, "no_consent"),
    }
    assert (counts.done, counts.refused) == ({"answered": 1}, {"no_consent": 1})


async def test_a_campaign_whose_calls_fail_stops_itself(sqlite_url: str) -> None:
    """When too many of the last calls failed, nobody else is rung until an operator has looked."""
    dead = Callee(fate=Fate.UNREACHABLE, rings_ms=0)
    one_by_one = replace(EVERY_LIMIT, trunk_calls=1)
    async with campaign_line(sqlite_url, directory=lambda number: dead, limits=one_by_one) as ours:
        record = await ours.campaign(people(12), plan(breaker={"calls": 5}))

        async def is_paused() -> bool:
            found = await ours.store.find(record.plan.name)
            return found is not None and found.state is CampaignState.PAUSED

        async with ours.dialling():
            await eventually_so(is_paused)
        [found] = await ours.store.all()

    assert found.why == "many_failed"
    assert 5 <= len(ours.rung) <= 6
