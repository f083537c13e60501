"""A training run in a temporary folder, by the smallest of files; a tiny language model."""

from pathlib import Path

import pytest

from pipelines.glm4voice.embedded_vocabulary import Vocabulary
from pipelines.glm4voice.language_model_files import LanguageModelSizes
from pipelines.glm4voice.prompt import TRANSCRIPTION_REQUEST, system_text
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.training.config import TrainingConfig
from pipelines.glm4voice.training.language_model_folder import (
    begin_folder,
    fresh_model,
    save_weights,
)
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.settings.corpus import CorpusSettings
from pipelines.glm4voice.training.text_pieces import learn_pieces

N_CODES = 512  # as many as the embedded checkpoint has
TINY = LanguageModelSizes(
    width=64,
    n_layers=2,
    n_heads=2,
    n_groups=1,
    head_dim=32,
    ffn_width=96,
    n_positions=1024,
)
TEXTS = [
    "When will my order come?",
    "Your order will be with you on Monday.",
    "How much is my bill?",
    "Your bill is twenty pounds, and it is due on Friday.",
    *[system_text(), TRANSCRIPTION_REQUEST] * 2,
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of a stage called `stage`."""
    config = TrainingConfig(seed=7, corpus=CorpusSettings(callers={}, answers={}))
    return Run(stage="stage", config=config, work=tmp_path)


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """A tiny language model with random weights, as it is before training."""
    folder = tmp_path / "lm"
    vocabulary = Vocabulary(learn_pieces(TEXTS, n_pieces=480), n_audio=N_CODES)
    begin_folder(folder, TINY, vocabulary)
    save_weights(folder, fresh_model(folder, seed=0))
    return folder


@pytest.fixture
def tiny_tokenizer(tiny_folder: Path) -> TextTokenizer:
    """The text tokenizer of the tiny model."""
    return TextTokenizer.load(tiny_folder)
