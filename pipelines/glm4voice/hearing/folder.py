"""Writes a speech tokenizer in the files of a released one: two configurations and the weights."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pipelines.glm4voice.checkpoint import WEIGHTS_NAME
from pipelines.glm4voice.hearing.config import PIECE_S, SpeechTokenizerConfig
from pipelines.glm4voice.weights_file import write_safetensors

CONFIG_NAME = "config.json"
PREPROCESSOR_NAME = "preprocessor_config.json"


def write_tokenizer_config(folder: Path, config: SpeechTokenizerConfig) -> None:
    """Write both configurations, creating `folder`; `read_config` gives `config` back."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / CONFIG_NAME, _config(config))
    _write_json(folder / PREPROCESSOR_NAME, _preprocessor_config(config))


def write_tokenizer_weights(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the state of a `SpeechEncoder`, in the types it has."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_safetensors(folder / WEIGHTS_NAME, whole)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")


def _config(config: SpeechTokenizerConfig) -> dict[str, object]:
    """As released: the layers behind the quantiser are counted, but not in the file."""
    return {
        **_RELEASED,
        "d_model": config.d_model,
        "decoder_attention_heads": config.n_heads,
        "decoder_ffn_dim": config.d_ffn,
        "decoder_layers": 2 * config.n_layers,
        "encoder_attention_heads": config.n_heads,
        "encoder_ffn_dim": config.d_ffn,
        "encoder_layers": 2 * config.n_layers,
        "max_source_positions": config.n_positions,
        "num_hidden_layers": 2 * config.n_layers,
        "num_mel_bins": config.n_mels,
        "pooling_kernel_size": config.pool,
        "pooling_position": config.n_layers,
        "quantize_causal_block_size": config.block,
        "quantize_position": config.n_layers,
        "quantize_vocab_size": config.n_codes,
    }


def _preprocessor_config(config: SpeechTokenizerConfig) -> dict[str, object]:
    return {
        "chunk_length": PIECE_S,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": config.n_mels,
        "hop_length": config.hop,
        "n_fft": config.n_fft,
        "n_samples": config.samples_per_piece,
        "nb_max_frames": config.samples_per_piece // config.hop,
        "padding_side": "right",
        "padding_value": 0.0,
        "processor_class": "WhisperProcessor",
        "return_attention_mask": False,
        "sampling_rate": config.sample_rate,
    }


_RELEASED: dict[str, object] = {
    "_name_or_path": "THUDM/glm-4-voice-tokenizer",
    "activation_dropout": 0.0,
    "activation_function": "gelu",
    "apply_spec_augment": False,
    "architectures": ["WhisperVQEncoder"],
    "attention_dropout": 0.0,
    "begin_suppress_tokens": [220, 50257],
    "bos_token_id": 50257,
    "classifier_proj_size": 256,
    "decoder_layerdrop": 0.0,
    "decoder_start_token_id": 50258,
    "dropout": 0.0,
    "encoder_causal_attention": False,
    "encoder_causal_convolution": True,
    "encoder_layerdrop": 0.0,
    "eos_token_id": 50257,
    "init_std": 0.02,
    "is_encoder_decoder": True,
    "mask_feature_length": 10,
    "mask_feature_min_masks": 0,
    "mask_feature_prob": 0.0,
    "mask_time_length": 10,
    "mask_time_min_masks": 2,
    "mask_time_prob": 0.05,
    "max_length": 448,
    "max_target_positions": 448,
    "median_filter_width": 7,
    "model_type": "whisper",
    "pad_token_id": 50256,
    "pooling_type": "avg",
    "quantize_causal_encoder": False,
    "quantize_commit_coefficient": 0.25,
    "quantize_ema_decay": 0.99,
    "quantize_encoder_only": True,
    "quantize_loss_scale": 10.0,
    "quantize_restart_interval": 100,
    "scale_embedding": False,
    "skip_language_detection": True,
    "torch_dtype": "float32",
    "transformers_version": "4.44.1",
    "use_cache": True,
    "use_weighted_layer_sum": False,
    "vocab_size": 51866,
}
