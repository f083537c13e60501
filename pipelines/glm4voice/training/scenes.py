"""The beginnings of calls: a system text as a persona is rendered, and perhaps some turns.

All rows of a batch share one scene, as all turns of a call share their beginning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

import numpy as np

from config.personas import render_instructions
from pipelines.glm4voice.prompt import system_text
from pipelines.glm4voice.training.material import Material, Spoken
from pipelines.glm4voice.training.personas import personas
from pipelines.glm4voice.training.script import FIXED
from pipelines.glm4voice.training.settings.corpus import Language
from pipelines.glm4voice.training.settings.language_model import LanguageModelSettings
from pipelines.glm4voice.training.style import Emotion, SpeakingRate, Style
from pipelines.glm4voice.training.turns import Turn, TurnWriter

_BARE = 0.15  # of scenes that have the official sentence alone
_CUT = 0.2  # of answers in the history, of which the caller heard a part
_MOST_EXCHANGES = 4
_GREETED = 0.8  # of histories, that begin with the line's own words: as calls do
_GREETED_OTHERWISE = 0.2  # with any words there are

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scene:
    """What a call is about to go on from."""

    language: Language
    style: Style
    has_tools: bool
    start: tuple[int, ...]  # ids of the system text and of what has been said


class SceneWriter:
    """Draws scenes."""

    def __init__(
        self, material: Material, writer: TurnWriter, settings: LanguageModelSettings
    ) -> None:
        self._material = material
        self._writer = writer
        self._settings = settings

    def draw(self, rng: np.random.Generator) -> Scene:
        """A scene drawn from `rng`; languages as often as they have intents."""
        languages = list(self._material.dialogues)
        weights = np.array([len(one.intents) for one in self._material.dialogues.values()])
        language = languages[rng.choice(len(languages), p=weights / weights.sum())]
        style, has_tools = Style(), bool(rng.random() < self._settings.with_tools)
        if rng.random() < self._settings.with_manner:
            emotion: Emotion = get_args(Emotion)[rng.integers(len(get_args(Emotion)))]
            rate: SpeakingRate = get_args(SpeakingRate)[rng.integers(len(get_args(SpeakingRate)))]
            style = Style(emotion, rate)
        text = system_text(
            self._instructions(language, style, rng),
            self._material.tools if has_tools else (),
        )
        start = self._writer.system(text)
        for turn in self._history(language, style, rng):
            start += turn.ids
        return Scene(language, style, has_tools, tuple(start))

    def _instructions(self, language: Language, style: Style, rng: np.random.Generator) -> str:
        """Who the line is and how it speaks; an unasked style is the neutral one."""
        if style == Style() and rng.random() < _BARE:
            return ""
        dialogues = self._material.dialogues[language]
        persona = personas(language)[rng.integers(len(personas(language)))]
        known = (persona.instructions, *dialogues.instructions)
        words = dialogues.emotions.get(style.emotion, ())
        if style.emotion == "plain" and rng.random() < 0.5:
            words = ()
        return render_instructions(
            persona.model_copy(
                update={
                    "instructions": known[rng.integers(len(known))],
                    "emotion": words[rng.integers(len(words))] if words else None,
                    "dialect": persona.dialect if rng.random() < 0.5 else None,
                    "speaking_rate": style.rate,
                }
            )
        )

    def _history(self, language: Language, style: Style, rng: np.random.Generator) -> list[Turn]:
        """Some exchanges, of some of which the caller broke off the answer."""
        if rng.random() >= self._settings.with_history:
            return []
        turns: list[Turn] = []
        if (chance := rng.random()) < _GREETED:
            said = self._material.spoken[language, FIXED, style.name]
            anything = chance < _GREETED_OTHERWISE
            said = self._material.voices[language] if anything else said
            turns.append(self.spoken(pick(said, rng), rng))
        intents = self._material.dialogues[language].intents
        for _ in range(rng.integers(0, _MOST_EXCHANGES + 1)):
            name = intents[rng.integers(len(intents))].name
            heard = pick(self._material.heard[language, name], rng)
            turns.append(self._writer.heard(pick(heard.takes, rng).tolist()))
            turns.append(self.spoken(self._material.spoken[language, name, style.name][0], rng))
        return turns

    def spoken(self, spoken: Spoken, rng: np.random.Generator) -> Turn:
        """An answer of the past, only to be read, and perhaps not heard to its end."""
        turn = self._writer.spoken(spoken.text, spoken.codes.tolist())
        if rng.random() < _CUT and len(spoken.codes) > 1:
            return self._writer.cut(turn, int(rng.integers(1, len(spoken.codes))))
        return turn.unlearned()


def pick(among: Sequence[T], rng: np.random.Generator) -> T:
    """One of them, all equally likely."""
    return among[int(rng.integers(len(among)))]
