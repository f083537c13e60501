"""Stage `language_model`: pre-training on interleaved passages, then tuning on calls.

    python -m pipelines.glm4voice.training.language_model [--config FILE] [--work DIR]

Tuning learns words and sound in separate copies of the calls, each with the other masked
(2412.02612, 3.2), so that each kind gets the share of the work it needs. Writes a released folder
to WORK/lm, also when it is stopped.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import GlmForCausalLM

from pipelines.glm4voice.embedded_vocabulary import Vocabulary
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from pipelines.glm4voice.language_model_files import LanguageModelSizes
from pipelines.glm4voice.prompt import TRANSCRIPTION_REQUEST, system_text
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.training.corpus import Corpus
from pipelines.glm4voice.training.dialogues import read_tools
from pipelines.glm4voice.training.hearings import hear_corpus
from pipelines.glm4voice.training.language_model_folder import (
    begin_folder,
    fresh_model,
    save_weights,
)
from pipelines.glm4voice.training.loop import autocast, set_learning_rate, train, warm_cosine
from pipelines.glm4voice.training.material import Material, dialogues_of, material_of
from pipelines.glm4voice.training.objective import batch_of, losses
from pipelines.glm4voice.training.passages import PassageWriter
from pipelines.glm4voice.training.run import Run, begin
from pipelines.glm4voice.training.scenes import SceneWriter, personas
from pipelines.glm4voice.training.settings.corpus import CorpusSettings
from pipelines.glm4voice.training.settings.language_model import LanguageModelSettings
from pipelines.glm4voice.training.tasks import TaskWriter
from pipelines.glm4voice.training.text_pieces import learn_pieces
from pipelines.glm4voice.training.turns import Learn, Row, TurnWriter

STAGE = "language_model"
_PROMPT_COUNT = 50  # as often as prompts count where pieces of text are learned
_N_LENGTHS = 2  # batches that rows are sorted into, so that less is filled up


def train_language_model(run: Run) -> None:
    """Train, or go on training, and write WORK/lm.

    Raises TrainingError if an earlier stage has not finished, CheckpointError for a broken folder,
    and SystemExit when it is asked to stop.
    """
    settings = run.config.language_model
    corpus = Corpus.load(run.work / "corpus")
    hearings = hear_corpus(run, corpus, run.work / "tokenizer")
    codebook = SpeechTokenizer.load(run.work / "tokenizer").encoder.codebook.weight
    folder = run.work / "lm"
    begin_folder(folder, _sizes(settings), _vocabulary(run, n_audio=len(codebook)))
    model = fresh_model(folder, seed=run.config.seed, codebook=codebook).to(run.device)
    material = material_of(run, corpus, hearings)
    teacher = Teacher(run, model, TextTokenizer.load(folder), material)
    try:
        train(run, teacher.n_steps, teacher.step, teacher.parts)
    except SystemExit:
        save_weights(folder, model)
        raise
    save_weights(folder, model)


class Teacher:
    """One step after another of pre-training, then of tuning."""

    def __init__(
        self, run: Run, model: GlmForCausalLM, tokenizer: TextTokenizer, material: Material
    ) -> None:
        self._run = run
        self._settings = settings = run.config.language_model
        self._model = model
        writer = TurnWriter(tokenizer)
        self._passages = PassageWriter(material, writer)
        self._scenes = SceneWriter(material, writer, settings)
        self._tasks = TaskWriter(material, writer, self._scenes, damage=settings.damage)
        self._optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=settings.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=settings.weight_decay,
        )
        self.n_steps = settings.n_pretraining_steps + settings.n_tuning_steps
        self.parts = {"model": model, "optimizer": self._optimizer}

    def step(self, n: int, rng: np.random.Generator) -> dict[str, float]:
        """Learn from one batch of passages, or one of words and one of sounds."""
        settings = self._settings
        rate = settings.learning_rate * warm_cosine(n, self.n_steps)
        set_learning_rate(self._optimizer, rate)
        self._optimizer.zero_grad(set_to_none=True)
        if n < settings.n_pretraining_steps:
            found = self._pretrain(rng)
        else:
            found = self._tune(rng)
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        return found

    def _pretrain(self, rng: np.random.Generator) -> dict[str, float]:
        rows = [self._passages.draw(rng) for _ in range(self._settings.n_sound_rows)]
        found = self._learn(self._passages.start, rows, rng)
        return {f"pretraining_{name}": loss for name, loss in found.items()}

    def _tune(self, rng: np.random.Generator) -> dict[str, float]:
        """The words of some calls, and the sound of others, that go on from one scene."""
        settings, scene = self._settings, self._scenes.draw(rng)
        words = self._tasks.rows(
            scene, settings.text_tasks.model_dump(), Learn.TEXT, settings.n_text_rows, rng
        )
        sounds = self._tasks.rows(
            scene, settings.sound_tasks.model_dump(), Learn.SOUND, settings.n_sound_rows, rng
        )
        return self._learn(scene.start, words, rng) | self._learn(scene.start, sounds, rng)

    def _learn(
        self, start: Sequence[int], rows: Sequence[Row], rng: np.random.Generator
    ) -> dict[str, float]:
        """Add the gradients of some rows; return their losses, each a mean over its ids."""
        n_of = {
            name: max(1, sum(int((row.marks[1:] == kind).sum()) for row in rows))
            for name, kind in (("text", Learn.TEXT), ("sound", Learn.SOUND))
        }
        summed = dict.fromkeys(n_of, 0.0)
        for some in _by_length(rows):
            batch = batch_of(start, some, [self._tasks.damaged(row, rng) for row in some])
            with autocast(self._run):
                found = losses(self._model, batch)
            n_here = {
                "text": int((batch.marks == Learn.TEXT).sum()),
                "sound": int((batch.marks == Learn.SOUND).sum()),
            }
            shares: list[Tensor] = [found[name] * (n_here[name] / n_of[name]) for name in found]
            if shares:
                torch.stack(shares).sum().backward()
            for name, share in zip(found, shares, strict=True):
                summed[name] += float(share.detach())
        return {name: loss for name, loss in summed.items() if loss}


def _by_length(rows: Sequence[Row]) -> Iterable[list[Row]]:
    """The rows in batches of about the same length each."""
    ordered = sorted(rows, key=len)
    size = -(-len(ordered) // _N_LENGTHS)
    return (ordered[start : start + size] for start in range(0, len(ordered), size))


def _sizes(settings: LanguageModelSettings) -> LanguageModelSizes:
    return LanguageModelSizes(
        width=settings.width,
        n_layers=settings.n_layers,
        n_heads=settings.n_heads,
        n_groups=settings.n_groups,
        head_dim=settings.head_dim,
        ffn_width=settings.ffn_width,
        n_positions=settings.n_positions,
    )


def _vocabulary(run: Run, *, n_audio: int) -> Vocabulary:
    """Pieces of what is said and of what prompts are made of."""
    texts = list(texts_of(run.config.corpus))
    pieces = learn_pieces(texts, n_pieces=run.config.language_model.n_pieces, least_count=4)
    return Vocabulary(pieces, n_audio)


def texts_of(settings: CorpusSettings) -> Iterable[str]:
    """Everything the model reads and writes, prompts many times; held questions are not in it."""
    for language, dialogues in dialogues_of(settings).items():
        for asking in dialogues.asking.values():
            yield from asking.questions
        said = (*dialogues.answers.values(), *dialogues.reading)
        yield from (text for text in said for _ in range(4))
        prompts = [system_text(), TRANSCRIPTION_REQUEST, *dialogues.instructions]
        prompts += [word for words in dialogues.emotions.values() for word in words]
        for persona in personas(language):
            prompts += [persona.instructions, persona.greeting, persona.goodbye, persona.apology]
            prompts += [*persona.silence.prompts, system_text(tools=read_tools())]
        yield from (text for text in prompts for _ in range(_PROMPT_COUNT))


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    train_language_model(begin(STAGE, __doc__, argv))


if __name__ == "__main__":
    main()
