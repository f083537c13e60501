"""Scenario files: what they may say, and what is told about the rest."""

from pathlib import Path

import pytest

from bot.simulation.scenarios import read_scenario, read_sentences
from config.strict_yaml import PromptFileError

SHIPPED = Path(__file__).resolve().parents[3] / "prompts" / "scenarios"
WANTED = {
    "barge-in",
    "caller-hangs-up-mid-reply",
    "dtmf",
    "gpu-host-lost",
    "greeting",
    "load",
    "long-call",
    "malformed-frames",
    "brisk-line",
    "cheerful-line",
    "question-and-answer",
    "question-and-answer-zh",
    "silence",
    "transfer",
}
GOOD = """\
name: short
title: A short call
caller: "+15550199"
called: "+15550100"
steps:
  - wait_for_reply: {}
  - say: {text: Hello.}
    as: hello
  - hang_up: {}
expect:
  heard: [{after: hello, within_ms: 500}]
  ends: {by: caller}
"""


def written(folder: Path, text: str, name: str = "short.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_scenarios_are_read() -> None:
    """Each file is valid; only gpu-host-lost takes the host away."""
    scenarios = [read_scenario(path) for path in sorted(SHIPPED.glob("*.yaml"))]

    assert {scenario.name for scenario in scenarios} == WANTED
    assert [s.name for s in scenarios if s.kills_host] == ["gpu-host-lost"]


def test_steps_and_labels(tmp_path: Path) -> None:
    """A step knows its action and its label."""
    scenario = read_scenario(written(tmp_path, GOOD))

    assert [step.action for step in scenario.steps] == ["wait_for_reply", "say", "hang_up"]
    assert scenario.steps[1].label == "hello"


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        ("text: Hello.", "txt: Hello.", 7, "steps.1.say.txt"),
        ("wait_for_reply: {}", "wait_for_reply: {timeout_ms: soon}", 6, "timeout_ms"),
        ("  - hang_up: {}", "  - hang_up: {}\n    silence: {duration_ms: 5}", 9, "exactly one"),
        ("say: {text: Hello.}", "say: {voice: cmn}", 7, "either text or wav"),
        (
            "say: {text: Hello.}",
            "say: {wav: sounds/none.wav}",
            7,
            "steps.1.say.wav: there is no file",
        ),
        (
            "after: hello",
            "after: goodbye",
            11,
            "expect.heard.0.after: no step has the label 'goodbye'",
        ),
        ("by: caller", "by: caller, after: x, within_ms: 5", 12, "expect.ends.after: no step"),
        ("title: A", "sentences: none.yaml\ntitle: A", 2, "sentences: there is no file"),
        ("wait_for_reply: {}", "wait_for_reply", 6, "steps.0: should be keys and values"),
        ("hang_up: {}", "hang_up:", 9, "as in hang_up: {}"),
        ('"+15550100"', "+15550100", 4, "called: should be text: put it in quotes"),
        ('"+15550199"', '"5550199"', 3, "caller"),
        ("by: caller", "by: nobody", 12, "ends.by"),
        ("by: caller", "by: caller, after: hello", 12, "after and within_ms together"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, before: str, after: str, line: int, words: str
) -> None:
    """The message has file, line and key."""
    path = written(tmp_path, GOOD.replace(before, after))

    with pytest.raises(PromptFileError) as caught:
        read_scenario(path)

    assert f"{path}:{line}: " in str(caught.value)
    assert words in str(caught.value)


def test_file_and_scenario_have_one_name(tmp_path: Path) -> None:
    """Reports are named after the scenario: it must be found under that name."""
    with pytest.raises(PromptFileError, match=r"other\.yaml:1: key name: .* is called 'other'"):
        read_scenario(written(tmp_path, GOOD, "other.yaml"))


SPOKEN = """\
sentences: all.yaml
steps:"""
EXPECTED = """\
expect:
  spoken: [{after: hello, within_ms: 9000, sentence: "Good day."}]"""


def test_a_sentence_to_be_heard_is_one_of_those_the_bot_may_say(tmp_path: Path) -> None:
    """It is told apart from the others of the file beside the scenario."""
    text = GOOD.replace("steps:", SPOKEN).replace("expect:", EXPECTED)
    written(tmp_path, "- Good day.\n- Good night.\n", "all.yaml")
    scenario = read_scenario(written(tmp_path, text))
    assert read_sentences(scenario, tmp_path) == ("Good day.", "Good night.")

    written(tmp_path, "- Good evening.\n- Good night.\n", "all.yaml")
    with pytest.raises(
        PromptFileError, match=r"short.yaml:12: key expect.spoken.0.sentence: is not"
    ):
        read_scenario(tmp_path / "short.yaml")


def test_without_a_list_of_sentences_none_can_be_heard(tmp_path: Path) -> None:
    """The error says which key is missing."""
    path = written(tmp_path, GOOD.replace("expect:", EXPECTED))

    with pytest.raises(PromptFileError, match="the key sentences"):
        read_scenario(path)


def test_a_list_of_one_sentence_tells_nothing(tmp_path: Path) -> None:
    """Whatever is said, it would be that one."""
    written(tmp_path, "- Good day.\n", "all.yaml")

    with pytest.raises(PromptFileError, match=r"all.yaml:1: .*at least 2"):
        read_scenario(written(tmp_path, GOOD.replace("steps:", SPOKEN)))
