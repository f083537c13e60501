"""A training run in a temporary folder, by the smallest of files."""

from pathlib import Path

import pytest

from pipelines.glm4voice.training.config import TrainingConfig
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.settings.corpus import CorpusSettings


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of a stage called `stage`."""
    config = TrainingConfig(seed=7, corpus=CorpusSettings(callers={}, answers={}))
    return Run(stage="stage", config=config, work=tmp_path)
