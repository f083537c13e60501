"""What config.json and preprocessor_config.json of a speech tokenizer say, checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.audio import MODEL_INPUT_RATE
from pipelines.glm4voice.checkpoint import (
    CheckpointError,
    config_value,
    expect_value,
    read_json,
)

CONV_STRIDE = 2  # of the second convolution; the first has stride 1
PIECE_S = 30  # the model hears nothing longer at once

# values with another meaning for the maths, of which only the released ones are implemented
_SUPPORTED: dict[str, object] = {
    "activation_function": "gelu",
    "encoder_causal_attention": False,
    "encoder_causal_convolution": True,
    "pooling_type": "avg",
    "quantize_causal_encoder": False,
    "quantize_encoder_only": True,
}
_SUPPORTED_PREPROCESSOR: dict[str, object] = {
    "chunk_length": PIECE_S,
    "feature_extractor_type": "WhisperFeatureExtractor",
    "padding_side": "right",
    "padding_value": 0.0,
    "sampling_rate": MODEL_INPUT_RATE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechTokenizerConfig:
    """Sizes of a speech tokenizer. A frame is one step of the transformer, two mel frames."""

    sample_rate: int  # Hz
    n_fft: int  # samples
    hop: int  # samples per mel frame
    n_mels: int
    d_model: int
    n_heads: int
    d_ffn: int
    n_layers: int  # up to the quantiser; the file may hold more
    n_positions: int  # longest piece, in frames
    block: int  # frames that attend to each other in both directions
    pool: int  # frames averaged into one token
    n_codes: int

    @property
    def samples_per_token(self) -> int:
        """1280 in the released model: 80 ms, 12.5 tokens a second."""
        return self.hop * CONV_STRIDE * self.pool

    @property
    def samples_per_piece(self) -> int:
        """Samples after which positions, attention and mel floor start anew."""
        return PIECE_S * self.sample_rate


def read_config(folder: Path) -> SpeechTokenizerConfig:
    """Read both files of `folder`.

    Raises CheckpointError naming file and key where a value is missing, of the wrong type, or
    asks for something that is not implemented.
    """
    path, preprocessor_path = folder / "config.json", folder / "preprocessor_config.json"
    config, preprocessor = read_json(path), read_json(preprocessor_path)
    for key, supported in _SUPPORTED.items():
        expect_value(config, key, supported, path=path)
    for key, supported in _SUPPORTED_PREPROCESSOR.items():
        expect_value(preprocessor, key, supported, path=preprocessor_path)
    n_layers = _size(config, "quantize_position", path)
    expect_value(config, "pooling_position", n_layers, path=path)
    found = SpeechTokenizerConfig(
        sample_rate=_size(preprocessor, "sampling_rate", preprocessor_path),
        n_fft=_size(preprocessor, "n_fft", preprocessor_path),
        hop=_size(preprocessor, "hop_length", preprocessor_path),
        n_mels=_size(config, "num_mel_bins", path),
        d_model=_size(config, "d_model", path),
        n_heads=_size(config, "encoder_attention_heads", path),
        d_ffn=_size(config, "encoder_ffn_dim", path),
        n_layers=n_layers,
        n_positions=_size(config, "max_source_positions", path),
        block=_size(config, "quantize_causal_block_size", path),
        pool=_size(config, "pooling_kernel_size", path),
        n_codes=_size(config, "quantize_vocab_size", path),
    )
    expect_value(preprocessor, "feature_size", found.n_mels, path=preprocessor_path)
    _check_sizes(found, _size(config, "encoder_layers", path), path)
    return found


def _size(config: dict[str, Any], key: str, path: Path) -> int:
    value = config_value(config, key, int, path=path)
    if value < 1:
        raise CheckpointError(f"{path}: key {key!r}: expected a number above 0, found {value}")
    return value


def _check_sizes(config: SpeechTokenizerConfig, n_file_layers: int, path: Path) -> None:
    """Relations between sizes that the maths relies on."""
    if config.d_model % config.n_heads:
        raise CheckpointError(
            f"{path}: d_model {config.d_model} is not a multiple of"
            f" encoder_attention_heads {config.n_heads}"
        )
    if config.n_layers > n_file_layers:
        raise CheckpointError(
            f"{path}: quantize_position {config.n_layers} is beyond encoder_layers {n_file_layers}"
        )
    n_tokens = -(-config.samples_per_piece // config.samples_per_token)
    if n_tokens > config.n_positions // config.pool:
        raise CheckpointError(
            f"{path}: max_source_positions {config.n_positions} is too short for {PIECE_S} s"
            f" ({n_tokens * config.pool} frames)"
        )
