"""Command `hours`: how long each stage of a training file takes here, told from some of its steps.

    python -m pipelines.glm4voice.training.hours [--config FILE] [--steps N] [--json FILE]

Every stage runs as it is, at its full sizes, in a folder of its own that is deleted afterwards: in
so many steps, on a corpus with few takes of each sentence. What grows with the file's steps,
utterances and sounds is multiplied, the rest is added. With `--json -` the last line printed is one
JSON object, whose `figures` a program may read.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from pipelines.glm4voice.training import corpus as corpus_stage
from pipelines.glm4voice.training import flow, language_model, tokenizer, vocoder
from pipelines.glm4voice.training.command import command
from pipelines.glm4voice.training.config import TrainingConfig
from pipelines.glm4voice.training.corpus import Corpus
from pipelines.glm4voice.training.hearings import hear_corpus
from pipelines.glm4voice.training.losses import seconds
from pipelines.glm4voice.training.run import Run, add_arguments, log_warnings_only, run_of
from pipelines.glm4voice.training.script import Line

_FEWER_READ = 20  # sentences without sense that callers read: one in so many is enough here
_STEPS = 24


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a training: what it counts, how many, and what they take."""

    name: str
    unit: str  # what is counted
    n_units: int  # by the training file
    unit_s: float
    beside_s: float = 0.0  # reading, writing, reporting: once

    @property
    def minutes(self) -> float:
        """All of it."""
        return (self.n_units * self.unit_s + self.beside_s) / 60


def measured(run: Run, n_steps: int, console: Console) -> Iterator[Part]:
    """Run every stage in the empty folder `run.work`, in `n_steps` steps each, and time it.

    Raises PromptFileError and SpeechSynthesisError as the corpus does.
    """
    short = replace(run, config=shortened(run.config, n_steps))
    script = corpus_stage.script_of(replace(run, stage="corpus"))
    yield _speaking(short, script, console)
    yield _learning(short, tokenizer.run_stage, "tokenizer", run.config.tokenizer.n_steps)
    yield _learning(short, vocoder.run_stage, "vocoder", run.config.vocoder.n_steps)
    yield _learning(short, flow.run_stage, "flow", run.config.flow.n_steps)
    lessons = run.config.language_model
    yield _hearing(short, script, lessons.n_hearings)
    n_lessons = lessons.n_pretraining_steps + lessons.n_tuning_steps
    yield _learning(short, language_model.run_stage, language_model.STAGE, n_lessons)


def shortened(config: TrainingConfig, n_steps: int) -> TrainingConfig:
    """The same sizes and kinds of lines, few takes of each, and few steps of each stage.

    Of the language model's steps the same share is pre-training. `n_steps` is 2 or more.
    """
    callers = {
        language: settings.model_copy(
            update={
                "takes_per_question": 1,
                "takes_per_reading": min(1, settings.takes_per_reading),
                "n_mixed_read": settings.n_mixed_read // _FEWER_READ,
            }
        )
        for language, settings in config.corpus.callers.items()
    }
    lessons = config.language_model
    share = lessons.n_pretraining_steps / (lessons.n_pretraining_steps + lessons.n_tuning_steps)
    n_pretraining = min(n_steps - 1, max(1, round(share * n_steps)))
    few = {"n_steps": n_steps}
    return config.model_copy(
        update={
            "corpus": config.corpus.model_copy(update={"callers": callers}),
            "tokenizer": config.tokenizer.model_copy(update=few),
            "vocoder": config.vocoder.model_copy(update=few),
            "flow": config.flow.model_copy(update=few),
            "language_model": lessons.model_copy(
                update={
                    "n_pretraining_steps": n_pretraining,
                    "n_tuning_steps": n_steps - n_pretraining,
                    "n_hearings": 1,
                }
            ),
        }
    )


def _speaking(short: Run, script: Sequence[Line], console: Console) -> Part:
    started_s = time.perf_counter()
    spoken = corpus_stage.make(replace(short, stage="corpus"), console)
    took_s = time.perf_counter() - started_s
    n_spoken = len(spoken.callers) + len(spoken.answers)
    return Part("corpus", "utterances", len(script), took_s / n_spoken)


def _learning(short: Run, stage: Callable[[Run], None], name: str, n_steps: int) -> Part:
    """The first step is slower than all that follow, so it counts as what is done once."""
    run = replace(short, stage=name)
    started_s = time.perf_counter()
    stage(run)
    took_s = time.perf_counter() - started_s
    steps_s = seconds(run.folder)[1:]
    return Part(name, "steps", n_steps, mean(steps_s), max(0.0, took_s - sum(steps_s)))


def _hearing(short: Run, script: Sequence[Line], n_hearings: int) -> Part:
    """The codes that the language model learns from, kept for its stage."""
    run = replace(short, stage=language_model.STAGE)
    corpus = Corpus.load(run.work / "corpus")
    started_s = time.perf_counter()
    heard = hear_corpus(run, corpus, run.work / "tokenizer")
    took_s = time.perf_counter() - started_s
    n_heard = sum(len(takes) for takes in heard.callers) - sum(u.is_held for u in corpus.callers)
    n_more = len(heard.answers) + len(heard.noises)
    n_callers = sum(
        line.kind == "caller" and not (line.is_held_voice or line.is_held_phrasing)
        for line in script
    )
    return Part("hearing", "sounds", n_callers * n_hearings + n_more, took_s / (n_heard + n_more))


def table_of(parts: Sequence[Part]) -> Table:
    """Each part and their sum."""
    table = Table("part", title="How long a training takes here", title_justify="left")
    for heading in ("how many", "ms each", "beside (s)", "minutes"):
        table.add_column(heading, justify="right")
    for part in parts:
        counted = f"{part.n_units:,} {part.unit}"
        each_ms = f"{1000 * part.unit_s:.1f}"
        table.add_row(part.name, counted, each_ms, f"{part.beside_s:.0f}", f"{part.minutes:.1f}")
    table.add_row("all", "", "", "", f"{sum(part.minutes for part in parts):.1f}")
    return table


def figures_of(parts: Sequence[Part]) -> dict[str, float]:
    """Hours of each part and of all."""
    hours = {f"{part.name}_hours": part.minutes / 60 for part in parts}
    found = hours | {"all_hours": sum(hours.values())}
    return {name: float(f"{figure:.4g}") for name, figure in found.items()}


def told_of(parts: Sequence[Part], *, dtype: str) -> dict[str, Any]:
    """All of it, for programs, with what it was computed in."""
    return {
        "figures": figures_of(parts),
        "parts": [asdict(part) | {"minutes": part.minutes} for part in parts],
        "n_threads": torch.get_num_threads(),
        "dtype": dtype,
    }


@command
def main(argv: Sequence[str] | None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="hours", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--steps", type=_steps, default=_STEPS, metavar="N", help="of each stage")
    parser.add_argument("--json", metavar="FILE", help="write them there too; - for the output")
    chosen = parser.parse_args(argv)
    console = Console(stderr=chosen.json == "-")
    run = run_of("hours", chosen)
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        parts = list(measured(replace(run, work=Path(folder)), chosen.steps, console))
    console.print(table_of(parts))
    if chosen.json:
        line = json.dumps(told_of(parts, dtype=run.dtype)) + "\n"
        if chosen.json == "-":
            sys.stdout.write(line)
        else:
            Path(chosen.json).write_text(line)


def _steps(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError("a number of steps is expected, 2 or more")
    return int(text)


if __name__ == "__main__":
    log_warnings_only()
    sys.exit(main())
