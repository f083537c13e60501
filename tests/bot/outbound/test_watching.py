"""What a watch asks of Twilio, and when, against the emulator's REST interface."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from bot.campaigns.records import Order
from bot.outbound.watching import Watching, WatchTimings
from telephony.clock import FastClock
from telephony.emulator import PhoneNetwork, serve_rest
from telephony.rest import twilio_calls
from tests.bot.campaigns.facts import NOON
from tests.bot.inbound.line import TOKEN
from tests.bot.storage.desk import Desk, desk

SECOND = timedelta(seconds=1)
REFUSED = timedelta(milliseconds=WatchTimings().job_refused)


@asynccontextmanager
async def watch(ours: Desk, at: datetime, token: str = TOKEN) -> AsyncIterator[Watching]:
    """A watch whose clock all but stands still, on a line with no calls."""
    async with (
        PhoneNetwork(auth_token=TOKEN) as network,
        serve_rest(network) as rest,
        twilio_calls(network.account_sid, token, base_url=rest.url) as calls,
    ):
        yield Watching(
            store=ours.dials,
            reports=ours.reports,
            findings=ours.findings,
            calls=calls,
            clock=FastClock(at, speed=0.001),
        )


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
        async with watch(ours, NOON) as watching:
            await watching.do_jobs()

        assert await ours.reports.jobs(n=9, now=NOON + timedelta(hours=1)) == []


async def test_a_job_that_twilio_refuses_is_not_forgotten(sqlite_url: str) -> None:
    """With a wrong token it waits, and an operator is told; with the right one it is done."""
    async with desk(sqlite_url) as ours:
        order = await ringing(ours)
        with capture_logs() as lines:
            async with watch(ours, NOON, token="wrong") as watching:
                await watching.do_jobs()
        early = await ours.reports.jobs(n=9, now=NOON + REFUSED - SECOND)
        again = await ours.reports.jobs(n=9, now=NOON + REFUSED + SECOND)
        async with watch(ours, NOON + timedelta(hours=1)) as watching:
            await watching.do_jobs()
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
        async with watch(ours, NOON, token) as watching:
            await watching.do_jobs()

        assert await ours.reports.jobs(n=9, now=NOON + timedelta(hours=1)) == []
