"""The support line that the twin learns: what callers ask, what is answered, what it is told.

prompts/training/dialogues-<language>.yaml holds one language each, tools.yaml what the line can do.
Both are read strictly (config.strict_yaml). Held questions are for evaluation alone.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from config.strict_yaml import KeyPath, fault, read_model
from pipelines.glm4voice.training.config import ROOT
from pipelines.glm4voice.training.settings.base import StrictSettings
from pipelines.glm4voice.training.settings.corpus import Language
from pipelines.glm4voice.training.style import Emotion
from pipelines.realtime.model import Tool, ToolCall

FOLDER = ROOT / "prompts/training"

Manner = Literal["slower", "faster", "repeat"]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40)]
_Sentence = Annotated[str, Field(min_length=1, max_length=200)]
_Sentences = Annotated[list[_Sentence], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Asking:
    """Ways to ask one thing; the held ones are never trained on."""

    questions: tuple[str, ...]
    held_questions: tuple[str, ...]

    @property
    def phrasings(self) -> tuple[tuple[str, bool], ...]:
        """Every question with whether it is held, in the order that `Utterance.phrasing` counts."""
        trained = tuple((question, False) for question in self.questions)
        return trained + tuple((question, True) for question in self.held_questions)


@dataclass(frozen=True, slots=True)
class FollowUp(Asking):
    """What a caller asks on: the words alone do not say about what."""

    name: str  # "intent/follow-up"
    answer: str


@dataclass(frozen=True, slots=True)
class Intent(Asking):
    """Something a caller may want, and the one sentence that answers it.

    With a `tool` the line calls it first, without a word, and says `answer` once it has its result.
    """

    name: str
    language: Language
    answer: str
    tool: ToolCall | None = None
    follow_ups: tuple[FollowUp, ...] = ()


@dataclass(frozen=True, slots=True)
class Request(Asking):
    """A wish about the last answer: it is said again, in the same or in another style."""

    name: Manner


@dataclass(frozen=True, slots=True)
class Dialogues:
    """All of one language."""

    language: Language
    intents: tuple[Intent, ...]
    requests: tuple[Request, ...]
    fallback: str  # the answer to what was not understood
    instructions: tuple[str, ...]  # who the line is, in other words each: before the manner
    emotions: Mapping[Emotion, tuple[str, ...]]  # the words that ask for each
    reading: tuple[str, ...]  # sentences nobody asks for, read to learn the voice

    @property
    def answers(self) -> dict[str, str]:
        """What is said, by "intent", "intent/follow-up" and "fallback"."""
        said = {one.name: one.answer for intent in self.intents for one in _with_follow_ups(intent)}
        return {**said, "fallback": self.fallback}

    @property
    def asking(self) -> dict[str, Asking]:
        """Everything a caller may say, by the same names, and by those of the requests."""
        asked: dict[str, Asking] = {r.name: r for r in self.requests}
        return {one.name: one for i in self.intents for one in _with_follow_ups(i)} | asked

    def cut(self, max_intents: int | None, max_questions: int | None) -> "Dialogues":
        """A smaller line of the same kind: the first intents, fewer questions of each."""
        return Dialogues(
            language=self.language,
            intents=tuple(_cut_intent(i, max_questions) for i in self.intents[:max_intents]),
            requests=tuple(Request(*_cut(r, max_questions), name=r.name) for r in self.requests),
            fallback=self.fallback,
            instructions=self.instructions,
            emotions=self.emotions,
            reading=self.reading[:max_intents],
        )


def read_dialogues(language: Language, folder: Path = FOLDER) -> Dialogues:
    """Read the file of one language. Raises PromptFileError, also for a question asked twice."""
    path = folder / f"dialogues-{language}.yaml"
    file = read_model(path, _DialoguesFile)
    _refuse_ambiguity(path, file)
    return Dialogues(
        language=language,
        intents=tuple(_intent(language, *item) for item in file.intents.items()),
        requests=tuple(Request(*one.asked(), name=name) for name, one in file.requests.items()),
        fallback=file.fallback,
        instructions=tuple(file.instructions),
        emotions={emotion: tuple(words) for emotion, words in file.emotions.items()},
        reading=tuple(file.reading),
    )


def read_tools(folder: Path = FOLDER) -> tuple[Tool, ...]:
    """What the line can do besides speaking. Raises PromptFileError."""
    file = read_model(folder / "tools.yaml", _ToolsFile)
    return tuple(
        Tool(name=name, description=tool.description, parameters=json.dumps(tool.parameters))
        for name, tool in file.tools.items()
    )


class _Questions(StrictSettings):
    questions: _Sentences
    held_questions: list[_Sentence]

    def asked(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return tuple(self.questions), tuple(self.held_questions)


class _FollowUp(_Questions):
    answer: _Sentence


class _ToolCall(StrictSettings):
    name: str
    arguments: dict[str, str]

    def call(self) -> ToolCall:
        return ToolCall(name=self.name, arguments=json.dumps(self.arguments, ensure_ascii=False))


class _Intent(_FollowUp):
    tool: _ToolCall | None = None
    follow_ups: dict[_Name, _FollowUp] = Field(default_factory=dict)


class _DialoguesFile(StrictSettings):
    instructions: _Sentences
    emotions: dict[Emotion, _Sentences]
    fallback: _Sentence
    requests: dict[Manner, _Questions]
    intents: dict[_Name, _Intent]
    reading: list[_Sentence] = Field(default_factory=list)


class _Tool(StrictSettings):
    description: str
    parameters: dict[str, Any]


class _ToolsFile(StrictSettings):
    tools: dict[str, _Tool]


def _intent(language: Language, name: str, one: _Intent) -> Intent:
    follow_ups = tuple(
        FollowUp(*follow_up.asked(), name=f"{name}/{key}", answer=follow_up.answer)
        for key, follow_up in one.follow_ups.items()
    )
    return Intent(
        *one.asked(),
        name=name,
        language=language,
        answer=one.answer,
        tool=one.tool.call() if one.tool else None,
        follow_ups=follow_ups,
    )


def _with_follow_ups(intent: Intent) -> tuple[Intent | FollowUp, ...]:
    return (intent, *intent.follow_ups)


def _cut(asking: Asking, n: int | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return asking.questions[:n], asking.held_questions[: n and -(-n // 2)]


def _cut_intent(intent: Intent, n: int | None) -> Intent:
    return Intent(
        *_cut(intent, n),
        name=intent.name,
        language=intent.language,
        answer=intent.answer,
        tool=intent.tool,
        follow_ups=tuple(
            FollowUp(*_cut(f, n), name=f.name, answer=f.answer) for f in intent.follow_ups
        ),
    )


def _refuse_ambiguity(path: Path, file: _DialoguesFile) -> None:
    """A first turn must mean one thing; what follows up must mean one thing after its intent."""
    openings: list[tuple[KeyPath, _Questions]] = [
        *((("requests", name), one) for name, one in file.requests.items()),
        *((("intents", name), one) for name, one in file.intents.items()),
    ]
    _refuse_twice(path, openings)
    for name, intent in file.intents.items():
        key: KeyPath = ("intents", name, "follow_ups")
        _refuse_twice(path, [((*key, n), one) for n, one in intent.follow_ups.items()])
    missing = [m for m in get_args(Manner) if m not in file.requests]
    if missing:
        raise fault(path, ("requests",), f"lacks {', '.join(missing)}")


def _refuse_twice(path: Path, askings: Sequence[tuple[KeyPath, _Questions]]) -> None:
    seen: set[str] = set()
    for key, sentence in _sentences(askings):
        plain = "".join(c for c in sentence.casefold() if c.isalnum())
        if plain in seen:
            raise fault(path, key, f"{sentence!r} is asked twice")
        seen.add(plain)


def _sentences(askings: Sequence[tuple[KeyPath, _Questions]]) -> Iterator[tuple[KeyPath, str]]:
    for key, asking in askings:
        for kind, sentences in (
            ("questions", asking.questions),
            ("held_questions", asking.held_questions),
        ):
            for i, sentence in enumerate(sentences):
                yield (*key, kind, i), sentence
