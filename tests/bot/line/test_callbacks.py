"""What Twilio tells of a placed call, and what becomes of its attempt."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select, text
from structlog.testing import capture_logs

from bot.campaigns.records import Order
from bot.campaigns.urls import DETECTED_PATH, STATUS_PATH
from bot.line.callbacks import OutboundCallbacks
from bot.line.requests import TwilioRequests
from bot.storage import tables
from telephony.clock import RealClock
from tests.bot.campaigns.facts import NOON
from tests.bot.dialling.campaigns import campaign_line
from tests.bot.line.line import TestLine
from tests.bot.storage.desk import Desk, desk
from tests.conftest import MS


@dataclass
class PlacedCall:
    """A call of an attempt, and the webhooks it is told about."""

    desk: Desk
    line: TestLine
    order: Order

    async def told(self, path: str, **fields: str) -> int:
        """The status with which a callback about the call is answered."""
        call = {"CallSid": "CA" + self.order.attempt_id, "AccountSid": "AC1"}
        answer = await self.line.post(f"{path}?attempt={self.order.attempt_id}", {**call, **fields})
        return answer.status_code

    async def is_known(self) -> tuple[str, str | None]:
        """The state of the attempt, and who answered."""
        attempts = tables.attempts
        its_own = attempts.c.attempt_id == self.order.attempt_id  # another may be planned by now
        async with self.desk.database.reading() as connection:
            query = select(attempts.c.state, attempts.c.answered_by).where(its_own)
            state, answered_by = (await connection.execute(query)).one()
        return state, answered_by


@asynccontextmanager
async def placed_call(database_url: str, *statuses: str) -> AsyncIterator[PlacedCall]:
    """A call of which these statuses were told."""
    async with campaign_line(database_url) as ours, desk(database_url) as other:
        order = await other.order()
        for status in statuses:
            await other.heard(order, status, at=NOON)
        yield PlacedCall(other, ours.line, order)


@pytest.mark.parametrize(
    ("statuses", "state"),
    [
        (["queued", "ringing"], "answered"),
        (["ringing", "in-progress"], "answered"),
        (["in-progress", "completed"], "ended"),
        ([], "answered"),
    ],
)
async def test_who_answered_is_told_without_a_status(
    sqlite_url: str, statuses: list[str], state: str
) -> None:
    """Where it is known who answers, somebody has; what is over stays over."""
    found = {"AnsweredBy": "machine_start", "MachineDetectionDuration": "3200"}
    async with placed_call(sqlite_url, *statuses) as call:
        assert await call.told(DETECTED_PATH, **found) == 204
        assert await call.is_known() == (state, "machine_start")


async def test_detection_ends_no_call(sqlite_url: str) -> None:
    """Should it name a status after all, the status callbacks have the last word on that."""
    async with placed_call(sqlite_url, "ringing") as call:
        found = {"AnsweredBy": "human", "CallStatus": "completed"}
        assert await call.told(DETECTED_PATH, **found) == 204
        assert await call.is_known() == ("answered", "human")


async def test_callbacks_that_tell_nothing_are_refused(sqlite_url: str) -> None:
    """A status callback has a status, and detection a finding; both are words."""
    async with placed_call(sqlite_url, "ringing") as call:
        assert await call.told(STATUS_PATH, AnsweredBy="human") == 400
        assert await call.told(DETECTED_PATH, MachineDetectionDuration="3200") == 400
        assert await call.told(DETECTED_PATH, AnsweredBy="a person") == 400
        assert await call.is_known() == ("ringing", None)


async def test_a_callback_is_answered_while_the_database_hangs(postgresql_url: str) -> None:
    """In time for Twilio, which is told that nothing was written down."""
    async with desk(postgresql_url) as ours:
        order = await ours.order()
        callbacks = OutboundCallbacks(
            requests=TwilioRequests("https://bot.example", ()),
            reports=ours.reports,
            clock=RealClock(),
            write_timeout_ms=200,
        )
        app = FastAPI()
        app.add_api_route(STATUS_PATH, callbacks.status, methods=["POST"])
        transport = httpx.ASGITransport(app)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://bot") as http,
            asyncio.timeout(5_000 * MS),
            ours.database.writing() as connection,
        ):
            await connection.execute(text("LOCK TABLE attempts"))
            path = f"{STATUS_PATH}?attempt={order.attempt_id}"
            answer = await http.post(path, data={"CallSid": "CA1", "CallStatus": "ringing"})

    assert answer.status_code == 503


async def test_an_end_that_needs_a_broken_plan_is_told_again(sqlite_url: str) -> None:
    """The callback is refused, not answered as a fault; the call's end is asked for later on."""
    async with placed_call(sqlite_url, "in-progress") as call:
        await call.desk.rewrite_plan("{}")
        with capture_logs() as logs:
            status = await call.told(STATUS_PATH, CallStatus="completed", CallDuration="5")
        known = await call.is_known()

    assert (status, known) == (503, ("answered", None))
    [told] = logs
    assert told["event"] == "campaign_unreadable"
    assert "mend its plan" in told["what_to_do"]


@pytest.mark.parametrize("duration", ["99999999", "86401", "-5", "5.5", "", "\u0665"])
async def test_a_duration_that_no_call_has_is_none(postgresql_url: str, duration: str) -> None:
    """The call is over all the same, and costs what the campaign's longest one does."""
    async with placed_call(postgresql_url, "in-progress") as call:
        status = await call.told(STATUS_PATH, CallStatus="completed", CallDuration=duration)
        known = await call.is_known()
        [row] = await call.desk.rows()

    assert (status, known) == (204, ("ended", None))
    assert row.duration_ms is None
