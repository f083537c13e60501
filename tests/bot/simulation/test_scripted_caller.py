"""What a caller does who follows a script, on a line that has no network behind it."""

import asyncio
import wave
from pathlib import Path
from typing import Any

import pytest

from bot.simulation.scenarios import Scenario, read_scenario
from bot.simulation.scripted_caller import ScriptedCaller, make_sounds
from config.strict_yaml import PromptFileError
from telephony.emulator import CallEvent, Line
from telephony.emulator.events import OnEvent
from telephony.emulator.recording import Recording
from tests.telephony.emulator.tiny_bot import LOUD, QUIET

MOST_EVENTS = 1000


async def play(
    *steps: dict[str, Any], bot: tuple[int, int] = (0, 0), on_event: OnEvent | None = None
) -> tuple[ScriptedCaller, Line]:
    """Follow the steps, while the bot sounds from one millisecond to another."""
    scenario = Scenario.model_validate(
        {
            "name": "script",
            "title": "A script",
            "caller": "+15550199",
            "called": "+15550100",
            "steps": list(steps),
            "expect": {"ends": {"by": "caller"}},
        }
    )
    line = Line(recording=Recording(), on_event=on_event)
    caller = ScriptedCaller(scenario, make_sounds(scenario, Path()), lose_host=nothing)
    following = asyncio.create_task(caller(line))
    await asyncio.sleep(0)
    while not following.done():
        line.pass_frame(line.next_frame(), LOUD if bot[0] <= line.now_ms < bot[1] else QUIET)
        await asyncio.sleep(0)
    await following
    return caller, line


async def nothing() -> None:
    """A GPU host that is lost by being left alone."""


@pytest.mark.parametrize(
    "step",
    [
        {"say": {"text": "Hello there", "wait": False}},
        {"fault": {"kind": "host_lost"}},
        {"repeat": {"until_ms": 0, "steps": [{"silence": {"duration_ms": 100}}]}},
    ],
)
async def test_repeating_what_takes_no_time_takes_time(step: dict[str, Any]) -> None:
    """The line goes on for everybody, and each round takes a frame of it."""
    events: list[CallEvent] = []

    def count(event: CallEvent) -> None:
        events.append(event)
        assert len(events) < MOST_EVENTS, "the steps never let go of the loop"

    _, line = await play({"repeat": {"until_ms": 3000, "steps": [step]}}, on_event=count)

    rounds = [event for event in events if event.facts.get("action") in step]
    assert line.now_ms == 3000
    assert len(rounds) in (150, 151)  # the step itself may be a repeat


REPLY_MS = (1000, 6000)
STARTED = {"wait_for_reply": {"until": "start"}}


async def test_a_reply_whose_start_was_waited_for_can_be_broken_off() -> None:
    """It is the one to barge into, counted from its start."""
    stop = {"barge_in": {"after_ms": 1200, "timeout_ms": 2000, "text": "Stop."}, "as": "stop"}

    caller, _ = await play(STARTED, {"silence": {"duration_ms": 400}}, stop, bot=REPLY_MS)

    assert caller.failure is None
    assert caller.labels["stop"] == 2200


async def test_a_reply_whose_start_was_waited_for_can_be_heard_out() -> None:
    """Its end is that of the reply under way, not of another one."""
    caller, line = await play(STARTED, {"wait_for_reply": {"timeout_ms": 2000}}, bot=REPLY_MS)

    assert caller.failure is None
    assert line.now_ms == 7000


async def test_a_reply_that_does_not_begin_is_told_with_its_times() -> None:
    """When it was given up, and how long it was waited for."""
    silence = {"silence": {"duration_ms": 3000}}

    caller, _ = await play(silence, {"wait_for_reply": {"timeout_ms": 2000}})

    assert caller.failure == "no reply began by 5.0 s, in 2000 ms of waiting"


MUMBLED = """\
name: mumbled
title: Nobody can say this
caller: "+15550199"
called: "+15550100"
voice: en-us
steps:
  - say: {text: Hello.}
  - repeat:
      until_ms: 900
      steps:
        - silence: {duration_ms: 100}
        - barge_in: {after_ms: 60, text: Stop.}
expect:
  ends: {by: caller}
"""


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("voice: en-us", "voice: xx-yy", ':5: key voice: espeak-ng has no voice "xx-yy"'),
        ("Stop.", "Stop., voice: xx", ":12: key steps.1.repeat.steps.1.barge_in.voice: espeak"),
        ("text: Hello.", "wav: noise.wav", ":7: key steps.0.say.wav: {}/noise.wav: is not a WAV"),
        ("text: Hello.", "wav: short.wav", ":7: key steps.0.say.wav: {}/short.wav: is not a whole"),
    ],
)
def test_what_cannot_be_said_is_told_with_its_line(
    tmp_path: Path, before: str, after: str, words: str
) -> None:
    """A voice that there is not, a file that is no sound: scenario, line and key are named."""
    (tmp_path / "noise.wav").write_bytes(b"noise")
    with wave.open(str(tmp_path / "short.wav"), "wb") as writer:
        writer.setparams((2, 2, 8000, 0, "NONE", ""))
        writer.writeframes(b"\x01" * 400)
    whole = (tmp_path / "short.wav").read_bytes()
    (tmp_path / "short.wav").write_bytes(whole[:-3])  # a copy that broke off
    path = tmp_path / "mumbled.yaml"
    path.write_text(MUMBLED.replace(before, after), encoding="utf-8")
    scenario = read_scenario(path)

    with pytest.raises(PromptFileError) as told:
        make_sounds(scenario, path)

    assert str(path) + words.format(tmp_path) in str(told.value)
