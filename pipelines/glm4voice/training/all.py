"""Command `all`: every stage in its order, from nothing to an evaluated chain.

    python -m pipelines.glm4voice.training.all [--fast | --config FILE] [--work DIR]

A stage that is done only loads its state, so a run that was stopped goes on where it was. Exit
status: 0 if every loss has fallen and every figure reaches what the training file asks of it, 1 if
not, 2 if a stage could not run.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from pipelines.glm4voice.training import (
    corpus,
    evaluate,
    flow,
    language_model,
    tokenizer,
    vocoder,
)
from pipelines.glm4voice.training.command import command
from pipelines.glm4voice.training.losses import Trend, trends
from pipelines.glm4voice.training.run import Run, add_arguments, log_warnings_only, run_of

STAGES: Mapping[str, Callable[[Run], object]] = {
    "corpus": corpus.make,
    "tokenizer": tokenizer.run_stage,
    "vocoder": vocoder.run_stage,
    "flow": flow.run_stage,
    "language_model": language_model.run_stage,
}


@command
def main(argv: Sequence[str] | None) -> int:
    """Run all stages; return the exit status."""
    parser = argparse.ArgumentParser(prog="all", description=__doc__)
    add_arguments(parser)
    chosen = parser.parse_args(argv)
    console = Console()
    run = run_of("all", chosen)
    for stage, work in STAGES.items():
        started_s = time.monotonic()
        work(replace(run, stage=stage))
        console.print(f"{stage}: {time.monotonic() - started_s:.0f} s")
    figures = evaluate.run_stage(replace(run, stage=evaluate.STAGE), console)
    bars = evaluate.bars_of(run.config.evaluate)
    losses = dict(_trends(run))
    console.print(table_of(losses))
    console.print(evaluate.table_of(figures, bars))
    stuck = [name for name, trend in losses.items() if not trend.is_better]
    wrong = [*stuck, *evaluate.missed(figures, bars)]
    if wrong:
        console.print(f"not good enough: {', '.join(wrong)}", style="red")
    return 1 if wrong else 0


def table_of(losses: Mapping[str, Trend]) -> Table:
    """What every loss was at the beginning of its stage and at its end."""
    table = Table("loss", title="Learning", title_justify="left")
    for heading in ("first tenth", "last tenth"):
        table.add_column(heading, justify="right")
    for name, trend in losses.items():
        colour = "[green]" if trend.is_better else "[red]"
        table.add_row(name, f"{trend.first:.3g}", f"{colour}{trend.last:.3g}")
    return table


def _trends(run: Run) -> Iterator[tuple[str, Trend]]:
    for stage in STAGES:
        for name, trend in trends(replace(run, stage=stage).folder).items():
            yield f"{stage} {name}", trend


if __name__ == "__main__":
    log_warnings_only()
    sys.exit(main())
