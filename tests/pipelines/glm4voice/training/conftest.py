"""What the tests of the training room share: tiny language models in the released format."""

from pathlib import Path

import pytest
import torch

from pipelines.glm4voice.embedded_vocabulary import Vocabulary
from pipelines.glm4voice.language_model_files import LanguageModelSizes
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.training.language_model_folder import (
    begin_folder,
    fresh_model,
    save_weights,
)
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
]


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """A tiny language model with random weights, as it is before training."""
    torch.manual_seed(0)
    begin_folder(tmp_path, TINY, Vocabulary(learn_pieces(TEXTS, n_pieces=320), n_audio=N_CODES))
    save_weights(tmp_path, fresh_model(tmp_path, seed=0))
    return tmp_path


@pytest.fixture
def tiny_tokenizer(tiny_folder: Path) -> TextTokenizer:
    """The text tokenizer of the tiny model."""
    return TextTokenizer.load(tiny_folder)
