"""What fails in a dialer is told with the way there, and without what its database quotes."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from bot.campaigns.urls import CallbackUrls
from bot.dialling.dialer import Dialer
from bot.storage.dialling import LEASE
from telephony.clock import FastClock
from telephony.emulator import PhoneNetwork, serve_rest
from telephony.emulator.dial_request import DialRequest
from telephony.emulator.rest import CreateFault
from telephony.rest import twilio_calls
from tests.bot.campaigns.facts import NOON, people
from tests.bot.line.line import TOKEN
from tests.bot.storage.desk import FAST, Desk, desk
from tests.waiting import eventually

SECRET = "+14155550123"


def _breaks(_request: DialRequest) -> CreateFault:
    return CreateFault.ERROR


@pytest.mark.parametrize(
    ("event", "state"),
    [
        ("attempt_not_decided", "committed"),
        ("attempt_not_noted", "unknown"),
        ("look_failed", "unknown"),
    ],
)
async def test_a_fault_is_told_without_what_it_quotes(
    sqlite_url: str, event: str, state: str
) -> None:
    """Of whoever is claimed, was asked for, or was left by a dialer that died."""
    async with desk(sqlite_url, people(2)) as ours:
        await ours.order()
        await _refuse(ours, state)
        with capture_logs() as logs:
            await _dial_until_told(ours, event, logs)
    told = next(one for one in logs if one["event"] == event)

    assert told["error"] == "IntegrityError"
    assert any("dialling.py" in way for way in told["at"])
    assert "exc_info" not in told
    assert SECRET not in str({key: value for key, value in told.items() if key != "pii_trace"})


async def _refuse(ours: Desk, state: str) -> None:
    async with ours.database.writing() as connection:
        refusal = f"WHEN NEW.state = '{state}' BEGIN SELECT RAISE(ABORT, '{SECRET}'); END"
        await connection.execute(
            text(f"CREATE TRIGGER refusing BEFORE UPDATE ON attempts {refusal}")
        )


async def _dial_until_told(ours: Desk, event: str, logs: list[Mapping[str, Any]]) -> None:
    stop = asyncio.Event()
    async with (
        PhoneNetwork(auth_token=TOKEN) as network,
        serve_rest(network, faults=_breaks) as rest,
        twilio_calls(network.account_sid, TOKEN, base_url=rest.url) as calls,
        asyncio.TaskGroup() as tasks,
    ):
        dialer = Dialer(
            owner="two",
            database=ours.database,
            calls=calls,
            urls=CallbackUrls("http://127.0.0.1:9"),
            limits=FAST,
            clock=FastClock(NOON + LEASE + timedelta(seconds=1), 1),
        )
        tasks.create_task(dialer.run(stop))
        await eventually(lambda: event in [one["event"] for one in logs])
        stop.set()
