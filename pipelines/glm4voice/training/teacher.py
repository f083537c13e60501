"""What a language model is taught, step by step: passages first, then calls.

It is the same for a model that begins anew and for adapters on a released one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from transformers import GlmForCausalLM

from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.training.loop import autocast, set_learning_rate, warm_cosine
from pipelines.glm4voice.training.material import Material
from pipelines.glm4voice.training.objective import batch_of, losses
from pipelines.glm4voice.training.passages import PassageWriter
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.scenes import SceneWriter
from pipelines.glm4voice.training.tasks import TaskWriter
from pipelines.glm4voice.training.turns import Learn, Row, TurnWriter

_N_LENGTHS = 2  # batches that rows are sorted into, so that less is filled up
_KINDS = (("text", Learn.TEXT), ("sound", Learn.SOUND))


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
    ) -> None:
        """Teach `learning`, the parameters of `model` or of what was put into it."""
        self._run = run
        self._lessons = lessons
        self._model = model
        self._learning = learning
        settings, writer = run.config.language_model, TurnWriter(tokenizer)
        self._settings = settings
        self._passages = PassageWriter(material, writer)
        self._scenes = SceneWriter(material, writer, settings)
        self._tasks = TaskWriter(material, writer, self._scenes, damage=settings.damage)
        self.optimizer = torch.optim.AdamW(
            learning,
            lr=lessons.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=lessons.weight_decay,
        )
        self.n_steps = lessons.n_pretraining_steps + lessons.n_tuning_steps

    def step(self, n: int, rng: np.random.Generator) -> dict[str, float]:
        """Learn from one batch of passages, or one of words and one of sounds."""
        rate = self._lessons.learning_rate * warm_cosine(n, self.n_steps)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        teach = self._pretrain if n < self._lessons.n_pretraining_steps else self._tune
        found = teach(rng)
        torch.nn.utils.clip_grad_norm_(self._learning, 1.0)
        self.optimizer.step()
        return found

    def _pretrain(self, rng: np.random.Generator) -> dict[str, float]:
        rows = [self._passages.draw(rng) for _ in range(self._lessons.n_sound_rows)]
        found = self._learn(self._passages.start, rows, rng)
        return {f"pretraining_{name}": loss for name, loss in found.items()}

    def _tune(self, rng: np.random.Generator) -> dict[str, float]:
        """The words of some calls, and the sound of others, that go on from one scene."""
        lessons, scene = self._lessons, self._scenes.draw(rng)
        tasks = self._settings.text_tasks.model_dump()
        words = self._tasks.rows(scene, tasks, Learn.TEXT, lessons.n_text_rows, rng)
        tasks = self._settings.sound_tasks.model_dump()
        sounds = self._tasks.rows(scene, tasks, Learn.SOUND, lessons.n_sound_rows, rng)
        return self._learn(scene.start, words, rng) | self._learn(scene.start, sounds, rng)

    def _learn(
        self, start: Sequence[int], rows: Sequence[Row], rng: np.random.Generator
    ) -> dict[str, float]:
        """Add the gradients of some rows; return their losses, each a mean over its ids."""
        n_of = {name: sum(_count(row.marks[1:], kind) for row in rows) for name, kind in _KINDS}
        summed: dict[str, float] = {}
        for some in _by_length(rows):
            batch = batch_of(start, some, [self._tasks.damaged(row, rng) for row in some])
            with autocast(self._run):
                found = losses(self._model, batch)
            shares: dict[str, Tensor] = {
                name: found[name] * (_count(batch.marks.numpy(), kind) / n_of[name])
                for name, kind in _KINDS
                if name in found
            }
            if shares:
                torch.stack(list(shares.values())).sum().backward()
            for name, share in shares.items():
                summed[name] = summed.get(name, 0.0) + float(share.detach())
        return summed


def _count(marks: np.ndarray, kind: Learn) -> int:
    return int((marks == kind).sum())


def _by_length(rows: Sequence[Row]) -> Iterable[list[Row]]:
    """The rows in batches of about the same length each."""
    ordered = sorted(rows, key=len)
    size = max(1, -(-len(ordered) // _N_LENGTHS))
    return (ordered[start : start + size] for start in range(0, len(ordered), size))
