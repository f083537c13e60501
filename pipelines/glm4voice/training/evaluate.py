"""Stage `evaluate`: what the trained chain can do, in calls over the telephone line.

    python -m pipelines.glm4voice.training.evaluate [--config FILE] [--work DIR] [--model DIR]
        [--json FILE]

The model is that of the work folder, or, where none was trained there, the one that the repository
brings. Callers come from the corpus of the work folder; it is spoken first if it is not there.
Held-out voices and phrasings are put through the real sessions, streamed, on one core. An
independent recogniser judges the sound of English answers, beside the synthesizer they were learned
from; Mandarin answers are judged by their words. With `--json -` the last line printed is one JSON
object, whose `figures` a program may read.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from pipelines.glm4voice import twin
from pipelines.glm4voice.chain import GlmChain, load_chain
from pipelines.glm4voice.training.command import command
from pipelines.glm4voice.training.corpus import Corpus
from pipelines.glm4voice.training.corpus import make as make_corpus
from pipelines.glm4voice.training.dialogues import read_tools
from pipelines.glm4voice.training.evaluation.cases import Cases
from pipelines.glm4voice.training.evaluation.trials import Figures, Trials, answers_to_judge
from pipelines.glm4voice.training.files import replace_text
from pipelines.glm4voice.training.material import dialogues_of
from pipelines.glm4voice.training.run import Run, add_arguments, log_warnings_only, run_of
from pipelines.glm4voice.training.settings.evaluate import LESS_IS_BETTER, EvaluateSettings
from pipelines.judge import Judge

STAGE = "evaluate"
FOLDERS = ("tokenizer", "lm", "decoder")


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure should reach."""

    limit: float
    is_most: bool = False  # the figure should be no more than the limit, else no less

    def passes(self, figure: float) -> bool:
        """Whether it does; NaN does not."""
        return figure <= self.limit if self.is_most else figure >= self.limit


def bars_at(limits: Mapping[str, float]) -> dict[str, Bar]:
    """The bars of figures at these limits."""
    return {name: Bar(limit, is_most=name in LESS_IS_BETTER) for name, limit in limits.items()}


BARS: Mapping[str, Bar] = bars_at(
    {
        "intent_accuracy": 0.97,
        "heard_accuracy": 0.97,
        "follow_up_accuracy": 0.9,
        "transcription_error": 0.10,
        "slow_rate_change": -0.20,
        "excited_pitch_change": 0.15,
        "false_answers": 0.02,
        "real_time_factor": 0.3,
        "first_sound_ms": 250,
        "size_mb": 40,
    }
)


def run_stage(run: Run, console: Console | None = None, *, model: Path | None = None) -> Figures:
    """Hold all calls; return the figures and keep them in WORK/runs/evaluate/figures.json.

    `model` holds the three released folders; left out, it is the work folder. Raises TrainingError,
    CheckpointError and PromptFileError if an earlier stage is not done.
    """
    torch.set_num_threads(1)
    model = model or run.work
    corpus = Corpus.load(run.work / "corpus")
    dialogues = dialogues_of(run.config.corpus)
    answers = answers_to_judge(dialogues.values())
    trials = Trials(
        run=run,
        chain=load(run, model),
        cases=Cases(run, corpus, dialogues),
        tools=read_tools(),
        judge=Judge(answers) if answers else None,
        console=console or Console(),
    )
    figures = trials.figures() | {"size_mb": size_mb(model)}
    run.folder.mkdir(parents=True, exist_ok=True)
    replace_text(run.folder / "figures.json", json.dumps(numbers(figures), indent=2) + "\n")
    return figures


def load(run: Run, model: Path) -> GlmChain:
    """The chain of the three folders in `model`. Raises CheckpointError."""
    tokenizer, language_model, decoder = (model / name for name in FOLDERS)
    return load_chain(
        tokenizer_dir=tokenizer,
        language_model_dir=language_model,
        decoder_dir=decoder,
        device=run.device,
        n_flow_steps=run.config.evaluate.n_flow_steps,
    )


def model_of(run: Run) -> Path:
    """The work folder, if something was trained there, else what the repository brings."""
    return run.work if any((run.work / name).exists() for name in FOLDERS) else twin.FOLDER


def size_mb(model: Path) -> float:
    """All files of the three folders, in millions of bytes."""
    paths = (path for name in FOLDERS for path in (model / name).rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in paths) / 1e6


def numbers(figures: Figures) -> dict[str, float | None]:
    """Figures as JSON has them: what could not be measured is null."""
    return {
        name: None if math.isnan(figure) else float(f"{figure:.4g}")
        for name, figure in figures.items()
    }


def bars_of(settings: EvaluateSettings) -> Mapping[str, Bar]:
    """What figures should reach by a training file; without a word of it, what the twin should."""
    return bars_at(settings.bars) if settings.bars else BARS


def missed(figures: Figures, bars: Mapping[str, Bar]) -> list[str]:
    """The names of bars that are not reached; a figure that is not there reaches none."""
    return [name for name, bar in bars.items() if not bar.passes(figures.get(name, math.nan))]


def table_of(figures: Figures, bars: Mapping[str, Bar] = BARS) -> Table:
    """All figures, those with a bar first, each with what it should reach."""
    table = Table("figure", title="Evaluation", title_justify="left")
    for heading in ("value", "should be"):
        table.add_column(heading, justify="right")
    for name in sorted(figures, key=lambda name: name not in bars):
        bar, figure = bars.get(name), figures[name]
        colour = "" if bar is None else "[green]" if bar.passes(figure) else "[red]"
        wanted = "" if bar is None else f"{'<=' if bar.is_most else '>='} {bar.limit:g}"
        table.add_row(
            name, f"{colour}{figure:.3f}" if figure < 10 else f"{colour}{figure:.0f}", wanted
        )
    return table


@command
def main(argv: Sequence[str] | None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog=STAGE, description=__doc__)
    add_arguments(parser)
    parser.add_argument("--model", type=Path, metavar="DIR", help="with tokenizer, lm and decoder")
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - for the output")
    chosen = parser.parse_args(argv)
    # what a program reads must not be wrapped, nor mixed with what people read
    console = Console(stderr=chosen.json == "-")
    run = run_of(STAGE, chosen)
    if not (run.work / "corpus" / "meta.json").exists():
        console.print("speaking the corpus, which takes some minutes")
        make_corpus(replace(run, stage="corpus"), console)
    figures = run_stage(run, console, model=chosen.model or model_of(run))
    console.print(table_of(figures, bars_of(run.config.evaluate)))
    if chosen.json:
        line = json.dumps({"figures": numbers(figures)})
        if chosen.json == "-":
            sys.stdout.write(line + "\n")
        else:
            Path(chosen.json).write_text(line + "\n")


if __name__ == "__main__":
    log_warnings_only()
    sys.exit(main())
