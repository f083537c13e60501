"""A speech tokenizer's folder is written as it is read."""

from pathlib import Path

import torch

from pipelines.glm4voice.hearing.config import read_config
from pipelines.glm4voice.hearing.folder import write_tokenizer_config, write_tokenizer_weights
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer


def test_configuration_and_weights_come_back(tmp_path: Path, golden: Path) -> None:
    """What is read from the reference tokenizer is written so that the same is read again."""
    config = read_config(golden / "tokenizer")
    state = SpeechTokenizer.load(golden / "tokenizer").encoder.state_dict()

    write_tokenizer_config(tmp_path, config)
    write_tokenizer_weights(tmp_path, state)

    again = SpeechTokenizer.load(tmp_path)
    assert again.config == config
    assert all(torch.equal(t, state[name]) for name, t in again.encoder.state_dict().items())
