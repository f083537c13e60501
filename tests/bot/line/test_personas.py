"""Personas of campaigns that are written or changed while `web` runs, and missing ones."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocket
from structlog.testing import capture_logs

from pipelines.call.plan import CallPlan, CallResult, EndReason
from telephony.emulator import Callee
from telephony.emulator.outbound import OutboundCall
from tests.bot.api.service import running_api
from tests.bot.campaigns.facts import people
from tests.bot.dialling.campaigns import CampaignLine, campaign_line, plan, stays
from tests.bot.line.line import FIELDS, PERSONAS, StandInCall, persona_folder, verbs
from tests.config.test_personas import GOOD
from tests.waiting import eventually


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the shipped personas."""
    return Path(shutil.copytree(PERSONAS, tmp_path / "personas"))


def write(folder: Path, text: str = GOOD) -> Path:
    path = folder / "mia.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def hears(number: str) -> Callee:
    """Who hears out what is said before and after a stream."""
    return Callee(rings_ms=500)


def talks(number: str) -> Callee:
    """Who is there until the bot has begun."""
    return Callee(answer=stays, rings_ms=500)


async def ring_one(ours: CampaignLine, **variables: str) -> OutboundCall:
    """Ring one person for mia, or with variables for another persona that names the person."""
    persona = "reminder-en" if variables else "mia"
    contacts = [replace(one, variables=variables) for one in people(1)]
    await ours.campaign(contacts, plan(persona=persona, variables=list(variables)))
    async with ours.dialling():
        await ours.finished()
    [call] = ours.rung
    return call


async def test_a_persona_is_read_when_it_is_new_or_changed(folder: Path) -> None:
    """A look finds a new file, and one that says something else; others are not read again."""
    personas = persona_folder(folder)
    before = await personas.now()
    path = write(folder)
    new = (await personas.now())["mia"]
    write(folder, GOOD.replace("Hello.", "Good day."))
    changed = (await personas.now())["mia"]
    written = path.stat()
    path.write_text(GOOD.replace("Hello.", "Good bye."), encoding="utf-8")
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))  # as if nobody had written
    same = (await personas.now())["mia"]

    assert "mia" not in before
    assert (new.greeting, changed.greeting, same.greeting) == ("Hello.", "Good day.", "Good day.")


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_text("name: mia"),
        lambda path: path.write_text("name: mia\vmore"),
        lambda path: path.write_text("name: 2026-02-30"),
        Path.unlink,
    ],
)
async def test_a_good_persona_is_not_lost(folder: Path, harm: Callable[[Path], object]) -> None:
    """While its file is broken or gone, a persona stays as it was."""
    path = write(folder)
    personas = persona_folder(folder)
    before = await personas.now()
    harm(path)
    after = await personas.now()

    assert after["mia"] == before["mia"]


async def test_a_broken_persona_is_told_by_name_once(folder: Path) -> None:
    """And without its words, unless private things may be logged; other files are read."""
    personas = persona_folder(folder)
    (folder / "bad.yaml").write_text("name: bad\nlanguage: klingon", encoding="utf-8")
    write(folder)
    with capture_logs() as told:
        known = await personas.now()
        await personas.now()
    [error] = [entry for entry in told if entry["log_level"] == "error"]

    assert "mia" in known
    assert (error["event"], error["persona"]) == ("persona_unusable", "bad")
    assert not any("klingon" in str(v) for k, v in error.items() if not k.startswith("pii_"))


async def test_a_persona_that_is_new_speaks(sqlite_url: str, folder: Path) -> None:
    """A campaign's calls are held by a persona that was written after the line was started."""
    async with campaign_line(sqlite_url, directory=talks, personas_dir=folder) as ours:
        write(folder)
        await ring_one(ours)
        [held] = ours.line.call.plans

    assert held.greeting == "Hello."


async def test_a_persona_that_was_edited_speaks_as_it_is_now(sqlite_url: str, folder: Path) -> None:
    """Without starting anything again."""
    path = write(folder, GOOD)
    async with campaign_line(sqlite_url, directory=talks, personas_dir=folder) as ours:
        await ours.campaign(people(2), plan(persona="mia", max_concurrent=1))
        async with ours.dialling():
            await ours.finished()
        path.write_text(GOOD.replace("Hello.", "Good day."), encoding="utf-8")
        await ours.campaign(people(3)[2:], plan("later", persona="mia"))
        async with ours.dialling():
            await eventually(lambda: len(ours.line.call.plans) == 3)
        greetings = [held.greeting for held in ours.line.call.plans]

    assert greetings == ["Hello.", "Hello.", "Good day."]


async def test_a_missing_persona_is_apologised_for(sqlite_url: str) -> None:
    """Who answers hears an apology, the operator what to do, and the call counts as failed."""
    with capture_logs() as told:
        async with campaign_line(sqlite_url, directory=hears) as ours:
            call = await ring_one(ours)
            counts = await ours.counts()
    [error] = [entry for entry in told if entry["event"] == "persona_missing"]

    assert call.record is not None
    assert call.record.twiml_path == ("Say", "Hangup")
    assert counts.done == {"failed": 1}
    assert (error["log_level"], error["persona"]) == ("error", "mia")
    assert "mia.yaml" in error["what_to_do"]


async def test_a_missing_variable_is_apologised_for(sqlite_url: str) -> None:
    """As a missing persona is, in the words of the persona that wants it."""
    with capture_logs() as told:
        async with campaign_line(sqlite_url, directory=hears) as ours:
            call = await ring_one(ours, first_name="Ada")  # the persona also needs a day
            counts = await ours.counts()
    [error] = [entry for entry in told if entry["event"] == "variable_missing"]

    assert call.record is not None
    assert call.record.twiml_path == ("Say", "Hangup")
    assert counts.done == {"failed": 1}
    assert (error["log_level"], error["variables"]) == ("error", ["day"])


async def test_a_fault_of_ours_is_apologised_for(sqlite_url: str) -> None:
    """Whatever it is, such as a plan that an older version wrote: it is told with its attempt.

    And without its trace, which would quote the plan.
    """
    async with campaign_line(sqlite_url) as ours:
        call = await ring_one(ours, first_name="Ada", day="Monday")
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as database:
            database.execute("""UPDATE campaigns SET plan = '{"name": ["Ring Ada back"]}'""")
            database.commit()
        path = (call.request.url or "").removeprefix(ours.line.url)
        with capture_logs() as told:
            answer = await ours.line.post(path, {**FIELDS, "CallSid": "CA2"})
    [error] = [entry for entry in told if entry["event"] == "speaker_not_found"]

    assert verbs(answer.text) == ["Say", "Hangup"]
    assert (error["log_level"], error["attempt"]) == ("error", path.partition("=")[2])
    assert "exc_info" not in error
    assert "Ada" not in str(told)


async def test_the_api_knows_personas_that_are_new(sqlite_url: str, folder: Path) -> None:
    """A campaign can be made with one as soon as its file is there."""
    async with running_api(sqlite_url, personas_dir=folder) as service:
        before = await service.create(persona="mia")
        write(folder)
        after = await service.create(persona="mia")

    assert (before.status_code, after.status_code) == (422, 201)


async def test_what_follows_a_call_is_what_it_was_begun_with(sqlite_url: str, folder: Path) -> None:
    """A persona that changes in the midst of a call takes nobody's department away."""
    transfer = "transfer: {numbers: {sales: '+15550192'}, ring_ms: 5000, unavailable: Busy.}\n"
    path = write(folder, GOOD + transfer)
    held = StandInCall(reason=EndReason.TRANSFERRED, detail="sales")

    async def edited_meanwhile(websocket: WebSocket, plan: CallPlan, **told: Any) -> CallResult:
        path.write_text(GOOD, encoding="utf-8")
        return await held(websocket, plan, **told)

    async with campaign_line(
        sqlite_url, directory=hears, personas_dir=folder, run_call=edited_meanwhile
    ) as ours:
        call = await ring_one(ours)

    assert call.record is not None
    assert call.record.twiml_path == ("Connect", "Redirect", "Dial", "Say", "Hangup")
