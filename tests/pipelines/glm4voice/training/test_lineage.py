"""A run goes on with what it began with, or not at all."""

from pathlib import Path

import pytest
import torch

from pipelines.glm4voice.hearing.folder import write_tokenizer_config, write_tokenizer_weights
from pipelines.glm4voice.training.lineage import digest_of, hold_to, hold_to_origin, origin_of
from pipelines.glm4voice.training.loop import train
from pipelines.glm4voice.training.recogniser import Recogniser
from pipelines.glm4voice.training.run import Run, TrainingError
from pipelines.glm4voice.training.tokenizer import tokenizer_config
from pipelines.glm4voice.training.utterances import Corpus
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


def test_a_run_that_was_begun_otherwise_does_not_go_on(run: Run) -> None:
    """The error tells each fact as it was and as it is; what was begun so goes on."""
    hold_to_origin(run, {"--start": None, "corpus": "a"})
    hold_to_origin(run, {"channels": (8, 16)})
    train(run, 1, Idle(), {})

    with pytest.raises(
        TrainingError, match=r'runs/flow was begun otherwise: --start was left out and is "b"; go'
    ):
        hold_to_origin(run, {"--start": "b", "corpus": "a"})
    with pytest.raises(
        TrainingError, match=r"channels was \[8, 16\] and is \[8\]; go .* move it away"
    ):
        hold_to_origin(run, {"channels": (8,)})
    hold_to_origin(run, {"--start": None, "corpus": "a", "channels": (8, 16)})
    run.folder.rename(run.work / "away")
    hold_to_origin(run, {"--start": "b", "corpus": "a"})


def test_a_run_that_has_learned_nothing_may_be_begun_otherwise(run: Run) -> None:
    """And then it is held to that."""
    hold_to_origin(run, {"--start": None})
    hold_to_origin(run, {"--start": "b"})
    train(run, 1, Idle(), {})

    with pytest.raises(TrainingError, match='--start was "b" and is left out'):
        hold_to_origin(run, {"--start": None})


def test_a_run_that_does_not_say_how_it_was_begun_goes_on(run: Run) -> None:
    """From then on it says so."""
    train(run, 1, Idle(), {})
    hold_to_origin(run, {"--start": None})

    with pytest.raises(TrainingError, match="was begun otherwise"):
        hold_to_origin(run, {"--start": "b"})


def test_a_folder_to_start_from_is_known_by_what_it_holds(tmp_path: Path) -> None:
    """Moved it is the same, trained on it is another; the folder that is written changes anyway."""
    corpus = Corpus(tmp_path, [], [])
    start, written = tokenizer_in(tmp_path / "one", 1), tmp_path / "written"

    def origin(folder: Path | None) -> object:
        return origin_of(corpus, folder, weights="*.safetensors", written=written)["--start"]

    first = origin(start)
    start.rename(tmp_path / "moved")
    assert origin(tmp_path / "moved") == first
    assert origin(tokenizer_in(start, 2)) not in (first, None)
    assert origin(None) is None
    assert origin(tokenizer_in(written, 1)) == origin(tokenizer_in(written, 2))
    assert digest_of([start / "config.json"]) == digest_of([tmp_path / "moved/config.json"])
