"""Command `all`: every stage in its order, from nothing to an evaluated chain.

    python -m pipelines.glm4voice.training.all [--fast | --config FILE] [--work DIR]

A stage that is done only loads its state, so a run that was stopped goes on where it was.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rich.console import Console

from config.strict_yaml import PromptFileError
from pipelines.espeak import SpeechSynthesisError
from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.training import (
    corpus,
    evaluate,
    flow,
    language_model,
    tokenizer,
    vocoder,
)
from pipelines.glm4voice.training.run import Run, TrainingError, add_arguments, run_of

STAGES: Mapping[str, Callable[[Run], object]] = {
    "corpus": corpus.make,
    "tokenizer": tokenizer.run_stage,
    "vocoder": vocoder.run_stage,
    "flow": flow.run_stage,
    "language_model": language_model.run_stage,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run all stages; return the exit status."""
    parser = argparse.ArgumentParser(prog="all", description=__doc__)
    add_arguments(parser)
    chosen = parser.parse_args(argv)
    console = Console()
    try:
        run = run_of("all", chosen)
        for stage, work in STAGES.items():
            started_s = time.monotonic()
            work(replace(run, stage=stage))
            console.print(f"{stage}: {time.monotonic() - started_s:.0f} s")
        figures = evaluate.run_stage(replace(run, stage=evaluate.STAGE), console)
    except (
        TrainingError,
        CheckpointError,
        PromptFileError,
        SpeechSynthesisError,
    ) as exc:
        console.print(str(exc), style="red")
        return 2
    console.print(evaluate.table_of(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
