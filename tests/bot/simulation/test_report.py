"""What a run leaves behind."""

import json
import wave
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from rich.console import Console

from bot.simulation.checks import Check
from bot.simulation.report import Outcome, summary, write_call, write_junit
from bot.simulation.scenarios import read_scenario
from telephony.emulator import CallEvent
from tests.bot.simulation.test_checks import RECORD, record_of

SCENARIO = Path(__file__).resolve().parents[3] / "prompts" / "scenarios" / "barge-in.yaml"


def outcome(name: str, *checks: Check) -> Outcome:
    return Outcome(name=name, scenario=read_scenario(SCENARIO), checks=checks, record=RECORD)


def test_a_call_leaves_sound_picture_and_events(tmp_path: Path) -> None:
    """The WAV has the caller left and the bot right, the PNG is one, the events are JSON lines."""
    write_call(tmp_path, outcome("barge-in", Check("steps", True, "")))

    with wave.open(str(tmp_path / "barge-in.wav")) as reader:
        assert (reader.getnchannels(), reader.getframerate()) == (2, 8000)
        pcm16 = np.frombuffer(reader.readframes(80_000), dtype="<i2").reshape(-1, 2)
    loud_s = [np.flatnonzero(np.abs(pcm16[:, side]) > 1000)[[0, -1]] / 8000 for side in (0, 1)]
    events = [json.loads(line) for line in (tmp_path / "barge-in.jsonl").read_text().splitlines()]
    assert np.allclose(loud_s, [[3.0, 4.0], [0.2, 6.0]], atol=0.01)
    assert (tmp_path / "barge-in.png").read_bytes().startswith(b"\x89PNG")
    assert events == [{"at_ms": 3300, "event": "clear_received"}]


def test_a_call_without_sound_can_be_drawn(tmp_path: Path) -> None:
    """Silence, keys, faults and errors are no reason to fail."""
    events = tuple(
        CallEvent(100 * n, name, {"code": 31924})
        for n, name in enumerate(["digit_pressed", "fault_socket_cut", "twilio_error"])
    )
    silent = Outcome(
        name="silent",
        scenario=read_scenario(SCENARIO),
        checks=(),
        record=record_of([], [], events=events),
    )

    write_call(tmp_path, silent)

    assert (tmp_path / "silent.png").stat().st_size > 5_000


def test_junit_has_a_suite_per_call_and_a_case_per_expectation(tmp_path: Path) -> None:
    """Failures carry their sentence, and the counts add up."""
    path = tmp_path / "junit.xml"
    write_junit(
        path,
        [
            outcome("one", Check("steps", True, "fine"), Check("clears", False, "3 clears")),
            outcome("two", Check("steps", True, "fine")),
        ],
    )

    root = ElementTree.parse(path).getroot()
    assert (root.get("tests"), root.get("failures")) == ("3", "1")
    assert [suite.get("name") for suite in root] == ["one", "two"]
    assert [failure.get("message") for failure in root.iter("failure")] == ["3 clears"]


def test_the_summary_names_calls_and_latencies() -> None:
    """One line per call, with its verdict and the reply latency."""
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(summary([outcome("barge-in", Check("steps", False, "no"))]))

    text = console.export_text()
    assert "barge-in" in text
    assert "failed" in text
    assert "500" in text
    assert "2 (40 ms)" in text
