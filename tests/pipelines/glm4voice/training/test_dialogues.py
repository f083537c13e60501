"""The dialogues to train on: the shipped ones, and what is said of wrong ones."""

from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path

import pytest

from config.strict_yaml import PromptFileError
from pipelines.glm4voice.training.dialogues import Asking, Dialogues, read_dialogues, read_tools

SMALL = """\
instructions: [You answer the telephone.]
emotions: {plain: [friendly]}
fallback: Sorry?
requests:
  slower: {questions: [Slower.], held_questions: []}
  faster: {questions: [Faster.], held_questions: []}
  repeat: {questions: [Again.], held_questions: []}
intents:
  hours:
    answer: At nine.
    questions: [When do you open., Are you open., Hours.]
    held_questions: [What time is it that you open.]
    follow_ups:
      sunday: {answer: Never., questions: [And on Sunday.], held_questions: []}
  person:
    tool: {name: transfer_to_person, arguments: {department: support}}
    answer: One moment.
    questions: [A person please.]
    held_questions: []
"""


@pytest.fixture(scope="module")
def english() -> Dialogues:
    return read_dialogues("en")


@pytest.fixture(scope="module")
def mandarin() -> Dialogues:
    return read_dialogues("zh")


def small(folder: Path, text: str) -> Dialogues:
    (folder / "dialogues-en.yaml").write_text(text)
    return read_dialogues("en", folder)


def opening_questions(dialogues: Dialogues) -> Iterator[Asking]:
    yield from dialogues.intents
    yield from dialogues.requests


def test_english_is_wide_enough(english: Dialogues) -> None:
    """At least 40 intents of 16 phrasings, two of each held out; ten with follow-ups."""
    assert len(english.intents) >= 40
    assert all(len(asking.phrasings) >= 16 for asking in opening_questions(english))
    assert all(len(asking.held_questions) >= 2 for asking in english.asking.values())
    assert sum(bool(intent.follow_ups) for intent in english.intents) >= 10


def test_mandarin_is_wide_enough(mandarin: Dialogues) -> None:
    """At least ten intents of 16 phrasings, two of each held out, in Chinese characters."""
    assert sum(len(intent.phrasings) >= 16 for intent in mandarin.intents) >= 10
    assert all(len(asking.held_questions) >= 2 for asking in mandarin.asking.values())
    assert not any(c.isascii() for answer in mandarin.answers.values() for c in answer)


def test_english_answers_are_short_sentences(english: Dialogues) -> None:
    """Each has 6 to 16 words and no digit, so it is spoken as it is written."""
    answers = english.answers.values()

    assert [a for a in answers if not 6 <= len(a.split()) <= 16] == []
    assert [a for a in answers if any(c.isdigit() for c in a)] == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_two_answers_are_alike(language: str, request: pytest.FixtureRequest) -> None:
    """Any two differ in more than half of their words (Mandarin: characters)."""
    dialogues = request.getfixturevalue({"en": "english", "zh": "mandarin"}[language])
    said = [a.lower().split() if language == "en" else list(a) for a in dialogues.answers.values()]
    alike = [(a, b) for a, b in combinations(said, 2) if SequenceMatcher(None, a, b).ratio() > 0.5]

    assert alike == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_tools_that_are_called_are_known(language: str, request: pytest.FixtureRequest) -> None:
    """Every call names a tool of tools.yaml, and each language has one that finds a person."""
    dialogues = request.getfixturevalue({"en": "english", "zh": "mandarin"}[language])
    called = {intent.tool.name for intent in dialogues.intents if intent.tool}

    assert called == {tool.name for tool in read_tools()} == {"transfer_to_person"}


def test_a_file_becomes_what_it_says(tmp_path: Path) -> None:
    """Names, calls and follow-ups come out as the stages use them."""
    dialogues = small(tmp_path, SMALL)

    assert list(dialogues.answers) == ["hours", "hours/sunday", "person", "fallback"]
    assert set(dialogues.asking) == {
        "hours",
        "hours/sunday",
        "person",
        "slower",
        "faster",
        "repeat",
    }
    assert dialogues.asking["hours"].phrasings[-1] == ("What time is it that you open.", True)
    assert dialogues.intents[1].tool is not None
    assert dialogues.intents[1].tool.arguments == '{"department": "support"}'


def test_dialogues_can_be_cut(tmp_path: Path) -> None:
    """Fewer intents and questions are left, held ones among them."""
    cut = small(tmp_path, SMALL).cut(max_intents=1, max_questions=2)

    assert list(cut.answers) == ["hours", "hours/sunday", "fallback"]
    assert [len(i.questions) for i in cut.intents] == [2]
    assert [len(i.held_questions) for i in cut.intents] == [1]


def test_a_question_of_two_meanings_is_refused(tmp_path: Path) -> None:
    """The error names line and key; case and punctuation make no difference."""
    text = SMALL.replace("A person please.", "when do you open")

    with pytest.raises(
        PromptFileError, match=r"yaml:18: key intents\.person\.questions\.0: .*twice"
    ):
        small(tmp_path, text)


def test_a_missing_request_is_refused(tmp_path: Path) -> None:
    """A line must be able to repeat itself, slower and faster."""
    text = SMALL.replace("  faster: {questions: [Faster.], held_questions: []}\n", "")

    with pytest.raises(PromptFileError, match="requests: lacks faster"):
        small(tmp_path, text)
