"""What a language model is taught, step by step: passages first, then calls.

It is the same for a model that begins anew and for adapters on a released one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from transformers import GlmForCausalLM

from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.training.learning import step_down
from pipelines.glm4voice.training.listener import Listener
from pipelines.glm4voice.training.loop import Stateful, autocast, set_learning_rate, warm_cosine
from pipelines.glm4voice.training.material import Material
from pipelines.glm4voice.training.objective import Batch, SharedPrefix, batch_of, losses
from pipelines.glm4voice.training.passages import PassageWriter
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.scenes import SceneWriter
from pipelines.glm4voice.training.tasks import TaskWriter
from pipelines.glm4voice.training.turns import Learn, Row, TurnWriter

# What a batch costs beside its ids, as so many of them; elsewhere more than rows are filled up by.
_BATCH_COST = {"cpu": 100}
_DEVICE_BATCH_COST = 1 << 30
_MOST_GRADIENT = 1.0
# Rows that are learned from together, in parts; beside each, its share of each kind's loss.
Lesson = list[tuple[Batch, Mapping[str, float]]]
_KINDS = (("text", Learn.TEXT), ("sound", Learn.SOUND))


@dataclass(frozen=True, slots=True)
class Step:
    """What is learned from at once: lessons of rows that all go on from the ids of `start`."""

    start: Sequence[int]
    lessons: Sequence[Lesson]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """How much of what, and how fast."""

    n_pretraining_steps: int
    n_tuning_steps: int
    n_text_rows: int
    n_sound_rows: int
    learning_rate: float
    weight_decay: float


class Teacher:
    """One step after another of pre-training, then of tuning."""

    def __init__(
        self,
        run: Run,
        model: GlmForCausalLM,
        tokenizer: TextTokenizer,
        material: Material,
        lessons: Lessons,
        *,
        learning: Sequence[Parameter],
        listener: Listener | None = None,
    ) -> None:
        """Teach `learning`, the parameters of `model` or of what was put into it.

        A `listener` learns beside it, and has it listen.
        """
        self._run = run
        self._lessons = lessons
        self._model = model
        self._listener = listener
        self._learning = [*learning, *(listener.parameters() if listener is not None else ())]
        settings, writer = run.config.language_model, TurnWriter(tokenizer)
        self._settings = settings
        self._passages = PassageWriter(material, writer)
        self._scenes = SceneWriter(material, writer, settings)
        self._tasks = TaskWriter(material, writer, self._scenes, damage=settings.damage)
        self.optimizer = torch.optim.AdamW(
            self._learning,
            lr=lessons.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=lessons.weight_decay,
            fused=True,
        )
        self.n_steps = lessons.n_pretraining_steps + lessons.n_tuning_steps

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a resumed run needs beside what is taught."""
        parts: dict[str, Stateful] = {"optimizer": self.optimizer}
        return parts if self._listener is None else {**parts, "listener": self._listener}

    def draw(self, n: int, rng: np.random.Generator) -> Step:
        """One lesson of passages, or one of words and one of sounds."""
        teach = self._passages_to_read if n < self._lessons.n_pretraining_steps else self._calls
        return teach(rng)

    def learn(self, n: int, batch: Step) -> dict[str, float]:
        """Learn from the lessons of a step; returns no losses where a gradient was no number."""
        rate = self._lessons.learning_rate * warm_cosine(n, self.n_steps)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        found: dict[str, Tensor] = {}
        with autocast(self._run):
            prefix = SharedPrefix(self._model, batch.start)
        for lesson in batch.lessons:
            found |= self._gradients(prefix, lesson)
        prefix.backward()
        if not step_down(self.optimizer, _MOST_GRADIENT):
            return {}
        part = "pretraining_" if n < self._lessons.n_pretraining_steps else ""
        return {f"{part}{name}": float(loss) for name, loss in found.items()}

    @property
    def _weights(self) -> Mapping[str, float]:
        return {"text": 1.0, "sound": 1.0, "heard": self._settings.listening_weight}

    def _passages_to_read(self, rng: np.random.Generator) -> Step:
        rows = [self._passages.draw(rng) for _ in range(self._lessons.n_sound_rows)]
        return Step(self._passages.start, [self._lesson(rows, rng)])

    def _calls(self, rng: np.random.Generator) -> Step:
        """The words of some calls, and the sound of others, that go on from one scene."""
        lessons, scene = self._lessons, self._scenes.draw(rng)
        tasks = self._settings.text_tasks.model_dump()
        words = self._tasks.rows(scene, tasks, Learn.TEXT, lessons.n_text_rows, rng)
        tasks = self._settings.sound_tasks.model_dump()
        sounds = self._tasks.rows(scene, tasks, Learn.SOUND, lessons.n_sound_rows, rng)
        return Step(scene.start, [self._lesson(rows, rng) for rows in (words, sounds)])

    def _lesson(self, rows: Sequence[Row], rng: np.random.Generator) -> Lesson:
        n_of = {name: sum(_count(row.marks[1:], kind) for row in rows) for name, kind in _KINDS}
        n_of["heard"] = sum(map(_n_heard, rows))
        lesson: Lesson = []
        device = torch.device(self._run.device).type
        for some in by_length(rows, _BATCH_COST.get(device, _DEVICE_BATCH_COST)):
            batch = batch_of(some, [self._tasks.damaged(row, rng) for row in some])
            counts = {name: _count(batch.marks.numpy(), kind) for name, kind in _KINDS}
            counts["heard"] = sum(map(_n_heard, some))
            lesson.append((batch, {name: n / n_of[name] for name, n in counts.items() if n}))
        return lesson

    def _gradients(self, prefix: SharedPrefix, lesson: Lesson) -> dict[str, Tensor]:
        """Add the gradients of some rows; return their losses, each a mean over its ids."""
        summed: dict[str, Tensor] = {}
        for batch, share_of in lesson:
            with autocast(self._run):
                found = losses(
                    self._model,
                    prefix,
                    batch,
                    opening_weight=self._settings.opening_weight,
                    listener=self._listener,
                )
            shares = {name: loss * share_of[name] for name, loss in found.items()}
            if shares:
                weighed = [self._weights[name] * share for name, share in shares.items()]
                torch.stack(weighed).sum().backward()
            for name, share in shares.items():
                summed[name] = summed.get(name, 0) + share.detach()
        return summed


def _count(marks: np.ndarray, kind: Learn) -> int:
    return int(((marks & kind) > 0).sum())


def _n_heard(row: Row) -> int:
    """The ids that callers say in it; silence counts as one, as in its loss."""
    return sum(max(1, len(one.words)) for one in row.speech)


def by_length(rows: Sequence[Row], batch_cost: int) -> list[list[Row]]:
    """The rows in batches that cost least: the ids of each, filled up, and `batch_cost` more.

    A few long rows are a batch of their own: the others would be filled up to their length.
    """
    ordered = sorted(rows, key=len)
    # of the first n rows: what they cost in the best batches, and where these begin
    best: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    for n, longest in enumerate(ordered, start=1):
        costs = [before + (n - begin) * len(longest) for begin, (before, _) in enumerate(best)]
        begin = min(range(n), key=costs.__getitem__)
        best.append((costs[begin] + batch_cost, (*best[begin][1], begin)))
    begins = best[-1][1]
    return [ordered[begin:end] for begin, end in pairwise((*begins, len(ordered)))]
