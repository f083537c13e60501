"""How long a training takes, told from a little of it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.glm4voice.training.config import FULL, read_config
from pipelines.glm4voice.training.corpus import script_of
from pipelines.glm4voice.training.hours import (
    Part,
    figures_of,
    main,
    measured,
    shortened,
    table_of,
)
from pipelines.glm4voice.training.run import Run
from tests.pipelines.glm4voice.training.small_corpus import SMALL
from tests.pipelines.glm4voice.training.small_sounds import CONFIG


@pytest.fixture(scope="module")
def whole() -> Run:
    """A run of all stages of the smallest training, in which questions are asked three times."""
    often = CONFIG.corpus.callers["en"].model_copy(update={"takes_per_question": 3})
    corpus = CONFIG.corpus.model_copy(update={"callers": {"en": often}})
    config = CONFIG.model_copy(update={"corpus": corpus, "language_model": SMALL.language_model})
    return Run("hours", config, Path("unused"))


@pytest.fixture(scope="module")
def parts(whole: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Part]:
    """All parts of it, measured in three steps of each stage."""
    run = replace(whole, work=tmp_path_factory.mktemp("work"))
    return {part.name: part for part in measured(run, 3, Console(quiet=True))}


def test_every_stage_is_counted_by_the_training_file(parts: dict[str, Part], whole: Run) -> None:
    """Not by the few steps and takes that were timed."""
    config, kinds = whole.config, Counter(line.kind for line in script_of(whole))
    learned = [
        line for line in script_of(whole) if line.kind == "caller" and not line.is_held_voice
    ]

    assert {name: part.n_units for name, part in parts.items()} == {
        "corpus": kinds.total(),
        "tokenizer": config.tokenizer.n_steps,
        "vocoder": config.vocoder.n_steps,
        "flow": config.flow.n_steps,
        "hearing": sum(not line.is_held_phrasing for line in learned)
        + kinds["answer"]
        + config.language_model.n_noises,
        "language_model": 4,
    }
    assert all(part.unit_s > 0 for part in parts.values())


def test_what_is_done_once_is_added(parts: dict[str, Part]) -> None:
    """A part takes its units and what is beside them; all hours are those of the parts."""
    figures = figures_of(list(parts.values()))

    assert Part("flow", "steps", 600, unit_s=0.5, beside_s=60.0).minutes == 6
    assert figures.pop("all_hours") == pytest.approx(sum(figures.values()), rel=1e-3)
    assert figures.keys() == {f"{name}_hours" for name in parts}
    assert table_of(list(parts.values())).row_count == len(parts) + 1


def test_a_short_run_is_of_full_size() -> None:
    """Of the twin's training only steps and takes are fewer, and pre-training keeps its share."""
    full = read_config(FULL)

    short = shortened(full, 16)

    assert short.tokenizer == full.tokenizer.model_copy(update={"n_steps": 16})
    before, after = full.language_model, short.language_model
    n_steps = before.n_pretraining_steps + before.n_tuning_steps
    assert after.n_pretraining_steps + after.n_tuning_steps == 16
    assert after.n_pretraining_steps == pytest.approx(
        16 * before.n_pretraining_steps / n_steps, abs=0.5
    )
    assert short.corpus.answers == full.corpus.answers
    assert short.corpus.callers["en"].voices == full.corpus.callers["en"].voices


def test_one_step_tells_too_little(capsys: pytest.CaptureFixture[str]) -> None:
    """The first is slower than the others."""
    with pytest.raises(SystemExit) as ended:
        main(["--steps", "1"])

    assert ended.value.code == 2
    assert "2 or more" in capsys.readouterr().err
