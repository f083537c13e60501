"""While a campaign's call rings, its greeting is made for that person."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from bot.line.announced import Speaker
from bot.line.callbacks import SpeakerFinder
from bot.line.greetings import MOST_KNOWN, GreetingsAhead
from pipelines.call.greeting import prepare_greeting
from pipelines.call.plan import CallPlan
from pipelines.realtime.server import RealtimeServer
from telephony.emulator import CallbackFaults, Callee, Fate
from tests.bot.campaigns.facts import people
from tests.bot.dialling.campaigns import campaign_line, plan
from tests.bot.line.line import persona_folder
from tests.bot.storage.desk import desk
from tests.conftest import MS
from tests.pipelines.realtime.tone_model import ToneModel
from tests.waiting import eventually

HOST_TOKEN = "fedcba9876543210fedcba9876543210"


async def test_a_greeting_is_made_while_it_rings(sqlite_url: str) -> None:
    """By the persona of the campaign, filled in for whoever is rung; nobody has to answer.

    Callbacks come twice; the greeting is made once.
    """
    model = ToneModel(n_words=1)
    invited = zip(people(2), [("Ada", "Monday"), ("Bob", "Friday")], strict=True)
    contacts = [replace(one, variables=_variables(*said)) for one, said in invited]
    never = Callee(fate=Fate.RINGS)
    async with (
        RealtimeServer(model, host="127.0.0.1", port=0, token=HOST_TOKEN) as host,
        campaign_line(
            sqlite_url,
            directory=lambda number: never,
            callback_faults=CallbackFaults(extra_copies=1),
            prepare_greeting=prepare_greeting,
            gpu_url=f"ws://127.0.0.1:{host.port}/v1/realtime",
            gpu_token=HOST_TOKEN,
        ) as ours,
    ):
        reminders = plan(persona="reminder-en", variables=["first_name", "day"])
        await ours.campaign(contacts, reminders)
        async with ours.dialling():
            await eventually(lambda: len(_said(model)) >= 2)
            assert not ours.line.call.plans  # nobody has answered
            await ours.finished()

    assert len([words for words in _said(model) if "Ada" in words and "Monday" in words]) == 1
    assert len([words for words in _said(model) if "Bob" in words and "Friday" in words]) == 1


def _variables(first_name: str, day: str) -> dict[str, str]:
    return {"first_name": first_name, "day": day}


def _said(model: ToneModel) -> list[str]:
    return [
        str(entry[1])
        for session in model.sessions
        for entry in session.journal
        if entry[0] == "say"
    ]


async def test_what_is_known_of_old_attempts_is_forgotten() -> None:
    """A greeting is made once, and only the newest attempts are remembered for that."""
    asked: list[str] = []

    async def nobody(attempt_id: str) -> None:
        asked.append(attempt_id)

    async def rings(greetings: GreetingsAhead, attempt_id: str) -> None:
        greetings.rings(attempt_id, "CA1")
        await asyncio.sleep(0)  # it is begun
        await asyncio.sleep(0)  # and over

    greetings = GreetingsAhead(find_speaker=nobody, plan_of=_no_plan, prepare=prepare_greeting)
    async with greetings.running():
        for n in range(MOST_KNOWN + 1):
            await rings(greetings, str(n))
        await rings(greetings, "1")
        assert asked == [str(n) for n in range(MOST_KNOWN + 1)]

        await rings(greetings, "0")
        assert asked[-1] == "0"


def _no_plan(speaker: Speaker, attempt_id: str, call_sid: str) -> CallPlan:
    raise AssertionError("nobody is to be greeted")


async def test_a_host_that_is_away_costs_no_call(sqlite_url: str) -> None:
    """The callbacks are answered, and the calls go on."""
    contacts = [replace(one, variables=_variables("Ada", "Monday")) for one in people(1)]
    async with campaign_line(sqlite_url, prepare_greeting=prepare_greeting) as ours:
        await ours.campaign(contacts, plan(persona="reminder-en", variables=["first_name", "day"]))
        async with ours.dialling():
            counts = await ours.finished()

    assert counts.done == {"answered": 1}


async def test_a_database_that_hangs_keeps_no_greeting_waiting(postgresql_url: str) -> None:
    """Whoever speaks is found out in time or not at all: those that wait make room for others."""
    async with desk(postgresql_url) as ours, ours.database.writing() as connection:
        await connection.execute(text("LOCK TABLE contacts"))
        find_speaker = SpeakerFinder(ours.store, persona_folder().now, find_timeout_ms=200)
        async with asyncio.timeout(5_000 * MS):
            with pytest.raises(OSError, match="away"):
                await find_speaker(32 * "a")
