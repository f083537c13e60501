"""Stage `language_model`: pre-training on interleaved passages, then tuning on calls.

    python -m pipelines.glm4voice.training.language_model [--config FILE] [--work DIR] [--start DIR]

With `--start` it goes on from the model of a released folder, whose text tokenizer and sizes it
keeps; where it has fewer layers than the training file says, it goes on with as many (`depth`). The
speech codes must be those that the model knows, or those and a raised register of them
(`registers`).

Tuning learns words and sound in separate copies of the calls, each with the other masked
(2412.02612, 3.2), so that each kind gets the share of the work it needs. Writes a released folder
to WORK/lm, also when it is stopped.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import GlmForCausalLM

from pipelines.glm4voice.embedded_vocabulary import Vocabulary
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from pipelines.glm4voice.language_model_files import LanguageModelSizes
from pipelines.glm4voice.prompt import TRANSCRIPTION_REQUEST, system_text
from pipelines.glm4voice.text_tokenizer import RANKS_NAME, TextTokenizer
from pipelines.glm4voice.training.command import command
from pipelines.glm4voice.training.corpus import corpus_of
from pipelines.glm4voice.training.dialogues import read_tools
from pipelines.glm4voice.training.hearings import hear_corpus
from pipelines.glm4voice.training.language_model_folder import (
    begin_folder,
    fresh_model,
    known_model,
    save_weights,
)
from pipelines.glm4voice.training.lineage import digest_of, hold_to_origin, origin_of
from pipelines.glm4voice.training.listener import Listener
from pipelines.glm4voice.training.loop import Stateful, has_begun, train
from pipelines.glm4voice.training.material import dialogues_of, material_of
from pipelines.glm4voice.training.personas import fixed_sentences, personas
from pipelines.glm4voice.training.run import Run, begin_from
from pipelines.glm4voice.training.settings.corpus import CorpusSettings
from pipelines.glm4voice.training.settings.language_model import LanguageModelSettings
from pipelines.glm4voice.training.teacher import Lessons, Teacher
from pipelines.glm4voice.training.text_pieces import learn_pieces

STAGE = "language_model"
_PROMPT_COUNT = 50  # as often as prompts count where pieces of text are learned


def run_stage(run: Run, *, start: Path | None = None) -> None:
    """Train, or go on training, and write WORK/lm; `start` is the folder of a model to begin with.

    Raises TrainingError if an earlier stage has not finished or there is state of another
    beginning, CheckpointError for a broken folder, and SystemExit when it is asked to stop.
    """
    model, teacher = prepare(run, start=start)
    parts: dict[str, Stateful] = {"model": model, **teacher.parts}
    try:
        train(run, teacher.n_steps, teacher, parts)
    except SystemExit:
        save_weights(run.work / "lm", model)
        raise
    save_weights(run.work / "lm", model)


def prepare(run: Run, *, start: Path | None = None) -> tuple[GlmForCausalLM, Teacher]:
    """Write what WORK/lm holds besides weights; return the model as it begins, and its teacher.

    A run with state keeps the text tokenizer that is there: pieces learned anew might be others.
    Raises TrainingError and CheckpointError as `run_stage` does.
    """
    settings = run.config.language_model
    corpus, folder = corpus_of(run), run.work / "lm"
    hold_to_origin(run, origin_of(corpus, start, weights="*.safetensors", written=folder))
    hold_to_origin(run, _sizes_asked(settings, is_new=start is None))
    hearings = hear_corpus(run, corpus, run.work / "tokenizer")
    codebook = SpeechTokenizer.load(run.work / "tokenizer").encoder.codebook.weight
    if start is None:
        if not (has_begun(run) and (folder / RANKS_NAME).exists()):
            begin_folder(folder, _sizes(settings), _vocabulary(run, n_audio=len(codebook)))
        model = fresh_model(folder, seed=run.config.seed, codebook=codebook)
    else:
        model = known_model(folder, start, n_audio=len(codebook), n_layers=settings.n_layers)
    hold_to_origin(run, {"text pieces": digest_of([folder / RANKS_NAME])})
    model.to(torch.device(run.device))  # type: ignore[arg-type]  # its decorator hides the types
    if (run.device, run.dtype) == ("cpu", "bfloat16"):
        model.set_attn_implementation("eager")  # the fused one takes twice as long there
    material = material_of(run, corpus, hearings)
    tokenizer = TextTokenizer.load(folder)
    torch.manual_seed(run.config.seed)
    listener = Listener(model.config.hidden_size, tokenizer.n_ranks).to(run.device)
    teacher = Teacher(
        run,
        model,
        tokenizer,
        material,
        lessons_of(settings),
        learning=list(model.parameters()),
        listener=listener,
    )
    return model, teacher


def lessons_of(settings: LanguageModelSettings) -> Lessons:
    """What a training file says of the lessons."""
    return Lessons(
        n_pretraining_steps=settings.n_pretraining_steps,
        n_tuning_steps=settings.n_tuning_steps,
        n_text_rows=settings.n_text_rows,
        n_sound_rows=settings.n_sound_rows,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )


def _sizes_asked(settings: LanguageModelSettings, *, is_new: bool) -> dict[str, int]:
    """The sizes that a training file decides: of one to go on from only the depth."""
    sizes = asdict(_sizes(settings)) | {"n_pieces": settings.n_pieces}
    return sizes if is_new else {"n_layers": settings.n_layers}


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
    pieces = learn_pieces(texts, n_pieces=run.config.language_model.n_pieces, least_count=3)
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
            prompts += [persona.instructions, system_text(tools=read_tools())]
        prompts += fixed_sentences(language)
        yield from (text for text in prompts for _ in range(_PROMPT_COUNT))


@command
def main(argv: Sequence[str] | None) -> None:
    """The command."""
    run, start = begin_from(STAGE, __doc__, argv)
    run_stage(run, start=start)


if __name__ == "__main__":
    sys.exit(main())
