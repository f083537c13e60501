"""Command `lora`: tunes a released language model's folder with low-rank adapters.

    python -m pipelines.glm4voice.training.lora [--start DIR] [--out DIR] [--merged DIR]
        [--speech-tokenizer DIR] [--config FILE] [--work DIR] [--device D] [--dtype T]
    python -m pipelines.glm4voice.training.lora --memory [--start DIR]

The released 9B folder is a start as good as the twin's own: its text tokenizer, prompt format and
speech codes are used as they are. `--out` gets a PEFT adapter that vLLM loads (`--enable-lora`);
`--merged` a folder with the adapter worked into the weights, for any engine. `--memory` only
computes what a run needs, from config.json alone.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table as ShownTable
from transformers import GlmForCausalLM

from pipelines.glm4voice.checkpoint import read_safetensors
from pipelines.glm4voice.language_model_files import write_shards
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.thinking.engines import DTYPES
from pipelines.glm4voice.thinking.language_model import load_language_model, read_config
from pipelines.glm4voice.training.adapter import Adapter, adapt, merged, save_adapter
from pipelines.glm4voice.training.command import command
from pipelines.glm4voice.training.corpus import corpus_of
from pipelines.glm4voice.training.hearings import hear_corpus
from pipelines.glm4voice.training.lineage import hold_to_origin, origin_of
from pipelines.glm4voice.training.loop import Stateful, train
from pipelines.glm4voice.training.lora_memory import memory_of
from pipelines.glm4voice.training.material import material_of
from pipelines.glm4voice.training.run import Run, add_arguments, run_of
from pipelines.glm4voice.training.teacher import Lessons, Teacher

STAGE = "lora"


def tune(run: Run, *, start: Path, speech_tokenizer: Path, out: Path) -> Adapter:
    """Tune the model in `start`, or go on tuning it, and write the adapter to `out`.

    Raises CheckpointError for a broken folder, TrainingError if there is no corpus or state of
    another beginning, and SystemExit when asked to stop; the adapter is then written as far as it
    came.
    """
    corpus, lora = corpus_of(run), run.config.lora
    hold_to_origin(run, origin_of(corpus, start, weights="*.safetensors", written=out))
    hold_to_origin(run, {"rank": lora.rank, "alpha": lora.alpha})
    hearings = hear_corpus(run, corpus, speech_tokenizer)
    model = load_language_model(start, device=run.device, dtype=DTYPES[run.dtype])
    adapter = new_adapter(run, model)
    teacher = Teacher(
        run,
        model,
        TextTokenizer.load(start),
        material_of(run, corpus, hearings),
        lessons_of(run),
        learning=list(adapter.parameters()),
    )
    parts: dict[str, Stateful] = {"adapter": adapter, **teacher.parts}
    try:
        train(run, teacher.n_steps, teacher, parts)
    except SystemExit:
        save_adapter(out, adapter, base=start)
        raise
    save_adapter(out, adapter, base=start)
    return adapter


def new_adapter(run: Run, model: GlmForCausalLM) -> Adapter:
    """An adapter that changes nothing yet, put into the model."""
    torch.manual_seed(run.config.seed)
    adapter = Adapter(model.config, run.config.lora).to(model.device)
    adapt(model, adapter)
    return adapter


def lessons_of(run: Run) -> Lessons:
    """The plan of the language model's stage, shorter and without pre-training."""
    settings, lora = run.config.language_model, run.config.lora
    return Lessons(
        n_pretraining_steps=0,
        n_tuning_steps=lora.n_steps,
        n_text_rows=lora.n_text_rows,
        n_sound_rows=lora.n_sound_rows,
        learning_rate=lora.learning_rate,
        weight_decay=settings.weight_decay,
    )


def write_merged(start: Path, adapter: Adapter, out: Path) -> None:
    """Write the folder `start` with the adapter worked into its weights. Raises CheckpointError."""
    out.mkdir(parents=True, exist_ok=True)
    for path in start.iterdir():
        if path.is_file() and ".safetensors" not in path.name:
            shutil.copy(path, out / path.name)
    write_shards(out, merged(read_safetensors(start), adapter))


def show_memory(start: Path, run: Run) -> None:
    """Print what tuning the model of a config needs."""
    lora = run.config.lora
    table = ShownTable(title=f"Tuning {start} at rank {lora.rank}", title_justify="left")
    table.add_column("part")
    table.add_column("GiB", justify="right")
    needed = memory_of(read_config(start / "config.json"), rank=lora.rank)
    for name, n_bytes in needed.items():
        table.add_row(name, f"{n_bytes / 2**30:.2f}")
    table.add_row("all together", f"{sum(needed.values()) / 2**30:.2f}")
    Console().print(table)


@command
def main(argv: Sequence[str] | None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog=STAGE, description=__doc__)
    add_arguments(parser)
    parser.add_argument("--start", type=Path, metavar="DIR", help="default WORK/lm")
    parser.add_argument("--speech-tokenizer", type=Path, metavar="DIR", help="WORK/tokenizer")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default WORK/lora")
    parser.add_argument("--merged", type=Path, metavar="DIR")
    parser.add_argument("--memory", action="store_true")
    chosen = parser.parse_args(argv)
    run = run_of(STAGE, chosen)
    start = chosen.start or run.work / "lm"
    if chosen.memory:
        show_memory(start, run)
        return
    out = chosen.out or run.work / "lora"
    tokenizer = chosen.speech_tokenizer or run.work / "tokenizer"
    adapter = tune(run, start=start, speech_tokenizer=tokenizer, out=out)
    if chosen.merged:
        write_merged(start, adapter, chosen.merged)


if __name__ == "__main__":
    sys.exit(main())
