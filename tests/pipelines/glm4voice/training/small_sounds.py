"""The smallest work folder from which the acoustic stages learn something in seconds."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipelines.glm4voice.training.config import TrainingConfig
from pipelines.glm4voice.training.corpus import make
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.settings.corpus import (
    AnswerSettings,
    CallerSettings,
    CorpusSettings,
)
from pipelines.glm4voice.training.settings.flow import FlowSettings
from pipelines.glm4voice.training.settings.tokenizer import TokenizerSettings
from pipelines.glm4voice.training.settings.vocoder import VocoderSettings

Step = Callable[[int, np.random.Generator], dict[str, float]]

CONFIG = TrainingConfig(
    seed=3,
    corpus=CorpusSettings(
        max_intents=1,
        max_questions=2,
        callers={
            "en": CallerSettings(
                voices=["en-us+m1"],
                held_voices=["en-us+f3"],
                takes_per_question=1,
                held_takes_per_question=1,
            )
        },
        answers={
            "en": AnswerSettings(
                voice="en-us+klatt2",
                takes_per_sentence=1,
                rates_wpm={"slow": 105, "normal": 140, "fast": 185},
                pitches={"plain": 45, "excited": 75, "calm": 25},
            )
        },
    ),
    tokenizer=TokenizerSettings(
        d_model=32,
        n_heads=1,
        d_ffn=32,
        n_layers=1,
        n_codes=16,
        n_head_layers=1,
        n_steps=30,
        seconds_per_step=3.0,
        learning_rate=5e-3,
        quantise_from=0.5,
        answer_share=0.3,
        restart_every=2,
        n_tested=2,
    ),
    vocoder=VocoderSettings(
        base_channels=8,
        f0_channels=8,
        n_steps=24,
        rows_per_step=2,
        frames_per_row=16,
        learning_rate=5e-3,
        n_tested=2,
    ),
    flow=FlowSettings(
        width=16,
        n_heads=1,
        d_ffn=16,
        n_layers=1,
        n_regulator_layers=1,
        channels=[16, 16],
        n_transformers=1,
        n_mid_blocks=1,
        n_unet_heads=1,
        head_dim=8,
        n_steps=30,
        tokens_per_step=40,
        learning_rate=5e-3,
        n_tested=2,
    ),
)


def small_run(stage: str, work: Path) -> Run:
    """A run of a stage in `work`, whose corpus is made if it is not there."""
    run = Run(stage=stage, config=CONFIG, work=work)
    if not (work / "corpus/meta.json").exists():
        make(run)
    return run


def logged(run: Run) -> list[dict[str, float]]:
    """The number and the losses of each step, without how long it took."""
    rows = [json.loads(line) for line in (run.folder / "losses.jsonl").read_text().splitlines()]
    return [{name: row[name] for name in row if name != "took_s"} for row in rows]


def losses_of(run: Run, name: str) -> list[float]:
    """One loss at each step that has it."""
    return [row[name] for row in logged(run) if name in row]


def falls(losses: list[float]) -> bool:
    """Whether the last third is lower than the first."""
    third = len(losses) // 3
    return float(np.mean(losses[-third:])) < float(np.mean(losses[:third]))
