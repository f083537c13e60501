"""What the language model is tuned for: one kind of row for each thing a call needs of it.

A row goes on from a scene, as a session's turns would. Turns that are not the point of a row are
only read.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from pipelines.glm4voice.prompt import TRANSCRIPTION_REQUEST
from pipelines.glm4voice.training.dialogues import Intent, Manner
from pipelines.glm4voice.training.encoding import Codes
from pipelines.glm4voice.training.material import Heard, Material
from pipelines.glm4voice.training.scenes import Scene, SceneWriter, pick
from pipelines.glm4voice.training.script import FIXED, READING
from pipelines.glm4voice.training.style import Style
from pipelines.glm4voice.training.turns import Learn, Row, Turn, TurnWriter

Task = Callable[[Scene, np.random.Generator], list[Turn]]
TOOL_OUTPUTS = ("done", "ok", "true", '{"ok": true}', '{"status": "ok"}', '{"result": "done"}')
KEYS_PRESSED = "I pressed these keys on my telephone: {keys}"  # as a call tells of them
_MOST_KEYS = 12
_REPEATED: Mapping[Manner, Callable[[Style], Style]] = {
    "slower": Style.slower,
    "faster": Style.faster,
    "repeat": lambda style: style,
}


class TaskWriter:
    """Draws rows of each task."""

    def __init__(
        self, material: Material, writer: TurnWriter, scenes: SceneWriter, *, damage: float
    ) -> None:
        """`damage` is the share of the caller's codes that are dropped or changed."""
        self._material = material
        self._writer = writer
        self._scenes = scenes
        self._damage = damage
        self._n_codes = writer.tokenizer.n_audio
        self.tasks: Mapping[str, Task] = {
            "answer": self._answer,
            "typed": self._typed,
            "follow_up": self._follow_up,
            "manner": self._manner,
            "tool": self._tool,
            "transcribe": self._transcribe,
            "nothing_said": self._nothing_said,
            "unclear": self._unclear,
            "typed_unclear": self._typed_unclear,
            "say": self._say,
        }

    def rows(
        self,
        scene: Scene,
        weights: Mapping[str, float],
        kind: Learn,
        n_rows: int,
        rng: np.random.Generator,
    ) -> list[Row]:
        """Rows of which one kind of id is learned, of tasks drawn by their weights."""
        names = list(weights)
        shares = np.array([weights[name] for name in names])
        chosen = rng.choice(len(names), size=n_rows, p=shares / shares.sum())
        rows = [self._writer.row(self.tasks[names[one]](scene, rng)).only(kind) for one in chosen]
        return [row for row in rows if len(row) > 1]

    def damaged(self, row: Row, rng: np.random.Generator) -> Row:
        """A row with some of the answer's own sounds changed: as it may go wrong when it speaks."""
        offset = self._writer.tokenizer.audio_offset
        is_sound = (row.ids >= offset) & (row.ids < offset + self._n_codes)
        is_own = is_sound & (row.marks == Learn.SOUND)
        is_hit = is_own & (rng.random(len(row)) < self._damage / 2)
        sounds = offset + rng.integers(self._n_codes, size=len(row))
        return replace(row, ids=np.where(is_hit, sounds, row.ids).astype(np.int32))

    def _answer(self, scene: Scene, rng: np.random.Generator) -> list[Turn]:
        intent = self._intent(scene, rng)
        return [self._heard(scene, intent.name, rng), *self._answered(scene, intent, rng)]

    def _typed(self, scene: Scene, rng: np.random.Generator) -> list[Turn]:
        intent = self._intent(scene, rng)
        question = self._writer.typed(pick(intent.questions, rng))
        return [question, *self._answered(scene, intent, rng)]

    def _follow_up(self, scene: Scene, rng: np.random.Generator) -> list[Turn]:
        intents = self._material.dialogues[scene.language].intents
        with_more = [intent for intent in intents if intent.follow_ups]
        if not with_more:
            return self._answer(scene, rng)
        intent = pick(with_more, rng)
        name = pick(intent.follow_ups, rng).name
        return [
            self._heard(scene, intent.name, rng),
            self._read(scene, intent.name, rng),
            self._heard(scene, name, rng),
            self._spoken(scene, name),
        ]

    def _manner(self, scene: Scene, rng: np.random.Generator) -> list[Turn]:
        """A question and its answer, then the wish to hear it again, in this or another style."""
        intent = self._intent(scene, rng)
        request = pick(self._material.dialogues[scene.language].requests, rng)
        style = _REPEATED[request.name](scene.style)
        return [
            self._heard(scene, intent.name, rng),
            self._read(scene, intent.name, rng),
            self._heard(scene, request.name, rng),
            self._spoken(scene, intent.name, style),
        ]

    def _tool(self, scene: Scene, rng: np.random.Generator) -> list[Turn]:
        """A question that a tool answers, whether or not there is one in this call."""
        intents = self._material.dialogues[scene.language].intents
        with_tool = [intent for intent in intents if intent.tool is not None]
        if not with_tool:
            return self._answer(scene, rng)
        intent = pick(with_tool, rng)
        return [self._heard(scene, intent.name, rng), *self._answered(scene, intent, rng)]

    def _transcribe(self, scene: Scene, rng: np.random.Generator) -> list[Turn]:
        """What was said. Who knows all questions need not listen: half is read aloud, if any is."""
        everything = self._material.callers[scene.language]
        read = self._material.heard.get((scene.language, READING), everything)
        heard = pick(read if rng.random() < 0.5 else everything, rng)
        request = self._writer.typed(TRANSCRIPTION_REQUEST)
        return [self._turn(heard, rng), request, self._writer.written(heard.text)]

    def _nothing_said(self, scene: Scene, rng: np.random.Generator) -> list[Turn]:
        """No words to what is no speech, nor to its transcription."""
        codes = self._damage_codes(pick(self._material.noises, rng), rng)
        turns = [self._writer.heard(codes, "")]
        if rng.random() < 0.3:
            turns.append(self._writer.typed(TRANSCRIPTION_REQUEST))
        return [*turns, self._writer.written("")]

    def _unclear(self, scene: Scene, rng: np.random.Generator) -> list[Turn]:
        """Scraps of speech that make no sense together."""
        scraps: list[int] = []
        for _ in range(rng.integers(3, 7)):
            codes = pick(pick(self._material.callers[scene.language], rng).takes, rng)
            begin = int(rng.integers(max(1, len(codes) - 4)))
            scraps += codes[begin : begin + int(rng.integers(2, 6))].tolist()
        return [self._writer.heard(scraps), self._spoken(scene, "fallback")]

    def _typed_unclear(self, scene: Scene, rng: np.random.Generator) -> list[Turn]:
        """What is written and asks for nothing: keys that were pressed, or any sentence."""
        if rng.random() < 0.5:
            keys = rng.choice(list("0123456789*#"), size=rng.integers(1, _MOST_KEYS + 1))
            typed = KEYS_PRESSED.format(keys=" ".join(keys))
        else:
            typed = pick(self._material.dialogues[scene.language].reading, rng)
        return [self._writer.typed(typed), self._spoken(scene, "fallback")]

    def _say(self, scene: Scene, rng: np.random.Generator) -> list[Turn]:
        """Given words of the scene's style, at the start of a call or in it.

        Answers, sentences read aloud and what a persona says in fixed words: each as often.
        """
        voices = self._material.spoken
        kinds: defaultdict[str, list[str]] = defaultdict(list)
        for language, name, style in voices:
            if (language, style) == (scene.language, scene.style.name):
                kinds[name if name in (READING, FIXED) else "answer"].append(name)
        name = pick(pick(list(kinds.values()), rng), rng)
        spoken = pick(voices[scene.language, name, scene.style.name], rng)
        return [self._writer.spoken(spoken.text, spoken.codes.tolist())]

    def _answered(self, scene: Scene, intent: Intent, rng: np.random.Generator) -> list[Turn]:
        """The answer to an intent, after its tool has been called where there is one."""
        spoken = self._spoken(scene, intent.name)
        if intent.tool is None or not scene.has_tools:
            return [spoken]
        call = self._writer.calls(intent.tool.name, intent.tool.arguments)
        return [call, self._writer.output(pick(TOOL_OUTPUTS, rng)), spoken]

    def _intent(self, scene: Scene, rng: np.random.Generator) -> Intent:
        return pick(self._material.dialogues[scene.language].intents, rng)

    def _heard(self, scene: Scene, name: str, rng: np.random.Generator) -> Turn:
        return self._turn(pick(self._material.heard[scene.language, name], rng), rng)

    def _turn(self, heard: Heard, rng: np.random.Generator) -> Turn:
        return self._writer.heard(self._damage_codes(pick(heard.takes, rng), rng), heard.text)

    def _spoken(self, scene: Scene, name: str, style: Style | None = None) -> Turn:
        """An answer; always by its first take, so that there is one right way to say it."""
        key = (scene.language, name, (style or scene.style).name)
        spoken = self._material.spoken[key][0]
        return self._writer.spoken(spoken.text, spoken.codes.tolist())

    def _read(self, scene: Scene, name: str, rng: np.random.Generator) -> Turn:
        """An answer that is not the point of the row."""
        spoken = self._material.spoken[scene.language, name, scene.style.name][0]
        return self._scenes.spoken(spoken, rng)

    def _damage_codes(self, codes: Codes, rng: np.random.Generator) -> list[int]:
        """Codes of which some are dropped and some are others."""
        chance = rng.random(len(codes))
        others = rng.integers(self._n_codes, size=len(codes))
        damaged = np.where(chance < self._damage / 2, others, codes)
        return damaged[chance < 1 - self._damage / 2].tolist()
