"""A run goes on with the speech tokenizer it began with, or not at all."""

from pathlib import Path

import pytest
import torch

from pipelines.glm4voice.hearing.folder import write_tokenizer_config, write_tokenizer_weights
from pipelines.glm4voice.training.lineage import hold_to
from pipelines.glm4voice.training.loop import train
from pipelines.glm4voice.training.recogniser import Recogniser
from pipelines.glm4voice.training.run import Run, TrainingError
from pipelines.glm4voice.training.tokenizer import tokenizer_config
from tests.pipelines.glm4voice.training.small_sounds import CONFIG


class Idle:
    """Learns nothing, but leaves its state."""

    def draw(self, n: int, rng: object) -> int:
        return n

    def learn(self, n: int, batch: int) -> dict[str, float]:
        return {"loss": 1.0}


def tokenizer_in(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    config = tokenizer_config(CONFIG.tokenizer)
    encoder = Recogniser(config, n_head_layers=1, n_letters=2, n_phones=2).encoder
    write_tokenizer_config(folder, config)
    write_tokenizer_weights(folder, encoder.state_dict())
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(stage="flow", config=CONFIG, work=tmp_path)


def test_a_run_goes_on_with_its_tokenizer(run: Run) -> None:
    """As often as one likes."""
    folder = tokenizer_in(run.work / "tokenizer", 1)
    first = hold_to(run, folder)
    train(run, 1, Idle(), {})

    assert hold_to(run, folder) == first


def test_what_was_learned_of_other_codes_is_not_gone_on_with(run: Run) -> None:
    """The error says which folder to move away; after that the run begins anew."""
    hold_to(run, tokenizer_in(run.work / "tokenizer", 1))
    train(run, 1, Idle(), {})
    anew = tokenizer_in(run.work / "tokenizer", 2)

    with pytest.raises(TrainingError, match="runs/flow was trained with another speech tokenizer"):
        hold_to(run, anew)
    run.folder.rename(run.work / "away")

    assert hold_to(run, anew)


def test_a_run_that_has_learned_nothing_takes_any_tokenizer(run: Run) -> None:
    """Codes made for it are made again."""
    first = hold_to(run, tokenizer_in(run.work / "tokenizer", 1))

    assert hold_to(run, tokenizer_in(run.work / "tokenizer", 2)) != first
