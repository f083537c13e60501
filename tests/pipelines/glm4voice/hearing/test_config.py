"""Folders that ask for something the speech tokenizer does not do are refused by name."""

import json
from pathlib import Path

import pytest

from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.hearing.config import read_config

MODEL, PREPROCESSOR = "config.json", "preprocessor_config.json"


def changed(golden: Path, folder: Path, file: str, changes: dict[str, object]) -> Path:
    """The two files of the reference set, with some values of one of them changed.

    A value of ... removes the key.
    """
    for name in (MODEL, PREPROCESSOR):
        content = json.loads((golden / "tokenizer" / name).read_text())
        if name == file:
            content |= changes
        kept = {key: value for key, value in content.items() if value is not ...}
        (folder / name).write_text(json.dumps(kept))
    return folder


def test_sizes_are_read(golden: Path) -> None:
    """Sizes come from the files; a token stands for 80 ms."""
    config = read_config(golden / "tokenizer")
    dims = json.loads((golden / "manifest.json").read_text())["dims"]["tok"]

    assert (config.d_model, config.n_heads) == (dims["d_model"], dims["heads"])
    assert (config.n_layers, config.block) == (dims["qpos"], dims["block"])
    assert config.samples_per_token == config.sample_rate * 80 // 1000


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        (MODEL, "activation_function", "relu"),
        (MODEL, "encoder_causal_attention", True),
        (MODEL, "encoder_causal_convolution", False),
        (MODEL, "pooling_position", 2),
        (MODEL, "pooling_type", "max"),
        (MODEL, "quantize_causal_block_size", None),
        (MODEL, "quantize_causal_encoder", True),
        (MODEL, "quantize_encoder_only", False),
        (MODEL, "quantize_position", 0),
        (MODEL, "quantize_position", ...),
        (MODEL, "quantize_vocab_size", "512"),
        (MODEL, "d_model", -64),
        (MODEL, "max_source_positions", 1499),
        (PREPROCESSOR, "feature_size", 80),
        (PREPROCESSOR, "hop_length", 0),
        (PREPROCESSOR, "n_fft", ...),
        (PREPROCESSOR, "sampling_rate", 24000),
        (PREPROCESSOR, "chunk_length", 10),
        (PREPROCESSOR, "padding_side", "left"),
    ],
)
def test_refused(golden: Path, tmp_path: Path, file: str, key: str, value: object) -> None:
    """A value that is missing, wrong or not implemented is told by file and key."""
    folder = changed(golden, tmp_path, file, {key: value})

    with pytest.raises(CheckpointError, match=rf"{file}: .*{key}"):
        read_config(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder_attention_heads": 5}, "d_model 64 is not a multiple"),
        ({"quantize_position": 7, "pooling_position": 7}, "beyond encoder_layers 6"),
    ],
)
def test_sizes_at_odds(
    golden: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    """Sizes that contradict each other are told together."""
    with pytest.raises(CheckpointError, match=words):
        read_config(changed(golden, tmp_path, MODEL, changes))
