"""What training sequences are made of: questions as heard, answers as spoken, by name.

Nothing that is held out for evaluation is in it.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipelines.glm4voice.training.corpus import Corpus
from pipelines.glm4voice.training.dialogues import Dialogues, read_dialogues, read_tools
from pipelines.glm4voice.training.encoding import Codes
from pipelines.glm4voice.training.hearings import Hearings
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.settings.corpus import CorpusSettings, Language
from pipelines.realtime.model import Tool


@dataclass(frozen=True, slots=True)
class Heard:
    """One caller's sentence, and its codes on several lines."""

    text: str
    takes: tuple[Codes, ...]


@dataclass(frozen=True, slots=True)
class Spoken:
    """A sentence of the answering voice and its codes."""

    text: str
    codes: Codes


@dataclass(frozen=True)
class Material:
    """All of it. Questions go by (language, name), answers by (language, name, style)."""

    dialogues: Mapping[Language, Dialogues]
    tools: tuple[Tool, ...]
    heard: Mapping[tuple[str, str], tuple[Heard, ...]]
    spoken: Mapping[tuple[str, str, str], tuple[Spoken, ...]]
    noises: tuple[Codes, ...]

    @cached_property
    def callers(self) -> dict[str, tuple[Heard, ...]]:
        """Everything callers say, by language."""
        return _joined(self.heard)

    @cached_property
    def voices(self) -> dict[str, tuple[Spoken, ...]]:
        """Everything the answering voice says, by language."""
        return _joined(self.spoken)


def dialogues_of(settings: CorpusSettings) -> dict[Language, Dialogues]:
    """The dialogues the corpus speaks. Raises PromptFileError."""
    return {
        language: read_dialogues(language).cut(settings.max_intents, settings.max_questions)
        for language in settings.callers
    }


def material_of(run: Run, corpus: Corpus, hearings: Hearings) -> Material:
    """Sort what was heard by its meaning."""
    heard: defaultdict[tuple[str, str], list[Heard]] = defaultdict(list)
    spoken: defaultdict[tuple[str, str, str], list[Spoken]] = defaultdict(list)
    for caller in corpus.callers:
        if not caller.is_held:
            takes = hearings.callers[caller.id]
            heard[caller.language, caller.intent].append(Heard(caller.text, takes))
    for answer in corpus.answers:
        key = (answer.language, answer.intent, answer.style)
        spoken[key].append(Spoken(answer.text, hearings.answers[answer.id]))
    return Material(
        dialogues=dialogues_of(run.config.corpus),
        tools=read_tools(),
        heard={key: tuple(found) for key, found in heard.items()},
        spoken={key: tuple(found) for key, found in spoken.items()},
        noises=hearings.noises,
    )


def _joined(sorted_out: Mapping[Any, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """All that is sorted by a key which begins with a language, by language alone."""
    joined: defaultdict[str, list[Any]] = defaultdict(list)
    for key, found in sorted_out.items():
        joined[key[0]] += found
    return {language: tuple(found) for language, found in joined.items()}
