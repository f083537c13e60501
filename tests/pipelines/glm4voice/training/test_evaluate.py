"""The evaluation: real calls with whatever chain there is, figures for people and programs."""

import json
import math
from pathlib import Path

import pytest

from pipelines.glm4voice import twin
from pipelines.glm4voice.embedded import write_embedded_checkpoint
from pipelines.glm4voice.training import evaluate
from pipelines.glm4voice.training.evaluate import (
    BARS,
    Bar,
    bars_of,
    main,
    missed,
    model_of,
    numbers,
    size_mb,
)
from pipelines.glm4voice.training.no_speech import KINDS
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.settings.evaluate import (
    LESS_IS_BETTER,
    MORE_IS_BETTER,
    EvaluateSettings,
)
from tests.pipelines.glm4voice.training.small_corpus import SMALL, write_small_corpus


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Figures of a chain that has learned nothing."""
    work = tmp_path_factory.mktemp("work")
    write_embedded_checkpoint(work)
    write_small_corpus(work / "corpus")
    return evaluate.run_stage(Run("evaluate", SMALL, work))


def test_every_bar_has_its_figure(figures: dict[str, float]) -> None:
    """What the chain should reach is measured, each by the name of its bar."""
    assert figures.keys() >= BARS.keys()


def test_a_chain_that_learned_nothing_reaches_nothing(figures: dict[str, float]) -> None:
    """Its words are wrong, and noise is answered."""
    assert figures["intent_accuracy"] == 0
    assert figures["typed_accuracy"] == 0
    assert figures["transcription_error"] > 0.5
    assert figures["whole_answers"] == 0
    assert figures["false_answers"] == 1


def test_the_original_voice_is_the_ceiling(figures: dict[str, float]) -> None:
    """The judge understands the synthesizer over the telephone."""
    assert figures["original_heard_accuracy"] == 1


def test_a_bar_is_met_from_the_right_side() -> None:
    """More is better for shares, less for errors; what could not be measured is no success."""
    assert Bar(0.9).passes(0.95)
    assert not Bar(0.9).passes(0.85)
    assert Bar(0.1, is_most=True).passes(0.05)
    assert not Bar(0.1, is_most=True).passes(0.15)
    assert not Bar(0.1, is_most=True).passes(math.nan)


def test_a_training_file_may_ask_for_less() -> None:
    """Its bars stand in the place of the twin's; a bar without a figure is missed."""
    bars = bars_of(EvaluateSettings(bars={"typed_accuracy": 0.5, "size_mb": 5}))

    assert bars == {"typed_accuracy": Bar(0.5), "size_mb": Bar(5, is_most=True)}
    assert bars_of(EvaluateSettings()) == BARS
    assert missed({"typed_accuracy": 0.6, "size_mb": 6}, bars) == ["size_mb"]
    assert missed({"size_mb": 5}, bars) == ["typed_accuracy"]


def test_a_bar_stands_on_the_side_of_its_figure() -> None:
    """Errors, false answers and times are to be low, of whatever language, kind or share."""
    limits = {"transcription_error_en": 0.1, "false_answers_noise": 0.02, "first_sound_worst_ms": 9}
    bars = bars_of(EvaluateSettings(bars=limits))

    assert missed({"transcription_error_en": 0.9, "false_answers_noise": 1}, bars) == [*limits]
    assert missed(dict.fromkeys(limits, 0.01), bars) == []


def test_every_figure_has_a_side(figures: dict[str, float]) -> None:
    """What is measured can have a bar, and is the better the more or the less it is."""
    assert figures.keys() <= MORE_IS_BETTER | LESS_IS_BETTER
    assert not MORE_IS_BETTER & LESS_IS_BETTER
    assert {f"false_answers_{kind}" for kind in KINDS} <= LESS_IS_BETTER


def test_numbers_are_json() -> None:
    """Figures are rounded, and null where there was nothing to measure."""
    found = numbers({"one": 1 / 3, "none": math.nan})

    assert json.loads(json.dumps(found)) == {"one": 0.3333, "none": None}


def test_a_broken_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with status 2 and names the file."""
    write_small_corpus(tmp_path / "corpus")

    status = main(["--work", str(tmp_path), "--model", str(tmp_path / "nothing")])

    assert status == 2
    assert "nothing/tokenizer" in capsys.readouterr().err


def test_without_a_model_of_its_own_a_run_judges_the_shipped_one(tmp_path: Path) -> None:
    """As soon as a stage has left something, it is that which is judged."""
    run = Run("evaluate", SMALL, tmp_path)

    assert model_of(run) == twin.FOLDER
    (tmp_path / "tokenizer").mkdir()
    assert model_of(run) == tmp_path


def test_size_counts_what_is_shipped(tmp_path: Path) -> None:
    """The three folders count, the runs do not."""
    for folder in ("tokenizer", "lm", "runs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_bytes(bytes(500_000))

    assert size_mb(tmp_path) == 1.0
