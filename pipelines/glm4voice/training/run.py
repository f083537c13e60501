"""One run of one stage: what its command line and its training file say, and where it writes.

TrainingError        a stage cannot begin or go on; the text says what to do
"""

import argparse
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import structlog
import torch

from pipelines.glm4voice.training.config import FAST, FULL, ROOT, TrainingConfig, read_config


class TrainingError(Exception):
    """A stage cannot begin or go on.

    Exception
    └── TrainingError
    """


@dataclass(frozen=True, slots=True)
class Run:
    """A stage under way. `device` and `dtype` are names, as torch knows them."""

    stage: str
    config: TrainingConfig
    work: Path
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    n_workers: int = 0  # processes that draw batches, beside the one that learns from them
    n_preprocessing_workers: int = 0  # processes that make what is kept, while nothing is learned

    @property
    def folder(self) -> Path:
        """Where the stage keeps its state and its losses."""
        return self.work / "runs" / self.stage

    def seed_of(self, *key: int) -> tuple[int, ...]:
        """Seeds of (file's seed, stage, key): equal for equal runs, different between stages."""
        return (self.config.seed, zlib.crc32(self.stage.encode()), *key)

    def rng(self, *key: int) -> np.random.Generator:
        """The random numbers of one step, one utterance: whatever `key` counts."""
        return np.random.default_rng(self.seed_of(*key))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that every stage takes."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--config", type=Path, default=FULL, metavar="FILE")
    which.add_argument("--fast", action="store_const", dest="config", const=FAST)
    parser.add_argument("--work", type=Path, default=ROOT / "training", metavar="DIR")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="processes that draw batches ahead, for a fast device or cores that torch leaves",
    )


def run_of(stage: str, arguments: argparse.Namespace) -> Run:
    """The run that parsed arguments ask for. Raises PromptFileError for a wrong training file.

    Where torch has several threads, as many processes preprocess: its threads are idle then.
    """
    n_threads = torch.get_num_threads()
    return Run(
        stage=stage,
        config=read_config(arguments.config),
        work=arguments.work,
        device=arguments.device,
        dtype=arguments.dtype,
        n_workers=arguments.workers,
        n_preprocessing_workers=max(arguments.workers, n_threads if n_threads > 1 else 0),
    )


def log_warnings_only() -> None:
    """For commands that speak to a terminal: what a reply did is in their figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))


def begin(stage: str, description: str | None, argv: Sequence[str] | None = None) -> Run:
    """Parse a stage's command line. Raises PromptFileError, SystemExit for wrong arguments."""
    parser = argparse.ArgumentParser(prog=stage, description=description)
    add_arguments(parser)
    return run_of(stage, parser.parse_args(argv))


def begin_from(
    stage: str, description: str | None, argv: Sequence[str] | None = None
) -> tuple[Run, Path | None]:
    """As `begin`, with the released folder that the stage goes on from, or None for a new model."""
    parser = argparse.ArgumentParser(prog=stage, description=description)
    add_arguments(parser)
    parser.add_argument("--start", type=Path, metavar="DIR", help="a released folder to go on from")
    chosen = parser.parse_args(argv)
    return run_of(stage, chosen), chosen.start
