"""The training's own command tells the bench how long it takes."""

import json
from pathlib import Path

import pytest

from bot.bench_training import TrainingNotMeasured, measure, measured_of
from pipelines.glm4voice.training.hours import Part, told_of


def test_its_table_adds_up() -> None:
    """A row for each stage and one for all, from what the command prints."""
    stages = [
        Part("corpus", "utterances", 600, unit_s=0.1),
        Part("flow", "steps", 1200, unit_s=0.5, beside_s=60.0),
    ]

    found = measured_of(json.loads(json.dumps(told_of(stages, dtype="bfloat16"))))

    assert found.tables[0].rows == [
        ("corpus", "600 utterances", 100.0, 0.0, 1.0),
        ("flow", "1,200 steps", 500.0, 60.0, 11.0),
        ("all", "", "", "", 12.0),
    ]
    assert found.figures["all_hours"] == 0.2
    assert "in bfloat16, on" in found.tables[0].note


def test_its_error_is_told(tmp_path: Path) -> None:
    """Such as a training file that is not there."""
    with pytest.raises(TrainingNotMeasured, match=r"nowhere\.yaml"):
        measure(["--config", str(tmp_path / "nowhere.yaml")])
