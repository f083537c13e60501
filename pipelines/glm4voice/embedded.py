"""Writes the embedded checkpoint: three tiny folders in the released formats, with random weights.

    python -m pipelines.glm4voice.embedded DIR [--seed N] [--head-dim N]

Its replies have the form of speech and no sense: sentences of common words, sound that is noise, 13
text tokens followed by 26 audio tokens as the real model has them, an end after a few seconds. It
stands in for a trained model wherever a whole call must run on a small machine.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from pipelines.glm4voice.chain import GlmChain, load_chain
from pipelines.glm4voice.embedded_language_model import HEAD_DIM, Walk, write_walking_model
from pipelines.glm4voice.embedded_vocabulary import (
    SENTENCE_SLOTS,
    Vocabulary,
    embedded_vocabulary,
)
from pipelines.glm4voice.hearing.config import SpeechTokenizerConfig, read_config
from pipelines.glm4voice.hearing.encoder import SpeechEncoder
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from pipelines.glm4voice.speaking.random_decoder import write_random_decoder

TOKENIZER_NAME = "tokenizer"
LANGUAGE_MODEL_NAME = "lm"
DECODER_NAME = "decoder"

N_CODES = 512
N_POSITIONS = 8192
N_AUDIO_STEPS = 26  # audio tokens after each sentence of 13 text tokens
N_FLOW_STEPS = 2  # its sound is noise: there is nothing that more steps could make better
# After these tokens of a step the reply ends; with 512 codes a step has 19 or 20 tokens. The odds
# make a reply 120 tokens long on average, 80 of them sound: six seconds.
N_ENDING_MIDWAY = 1
N_ENDING_AT_END = 7


def write_embedded_checkpoint(folder: Path, seed: int = 0, *, head_dim: int = HEAD_DIM) -> None:
    """Write `tokenizer`, `lm` and `decoder` into `folder`; the same seed gives the same files.

    `head_dim` is the language model's; vLLM wants 32 at least.
    """
    generator = torch.Generator().manual_seed(seed)
    _write_speech_tokenizer(folder / TOKENIZER_NAME, generator)
    vocabulary = embedded_vocabulary(n_audio=N_CODES)
    write_walking_model(
        folder / LANGUAGE_MODEL_NAME,
        vocabulary,
        speech_like_walk(vocabulary),
        n_positions=N_POSITIONS,
        generator=generator,
        head_dim=head_dim,
    )
    write_random_decoder(folder / DECODER_NAME, n_codes=N_CODES, generator=generator)


def load_embedded_chain(
    *,
    seed: int = 0,
    n_threads: int | None = 1,
    max_sessions: int = 32,
    max_context_tokens: int | None = None,
) -> GlmChain:
    """The chain of an embedded checkpoint, written to a folder that is removed again.

    Tensors this small are computed fastest by one thread; `n_threads` None leaves torch's alone.
    `max_sessions` as in `load_chain`.
    """
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_embedded_checkpoint(folder, seed)
        return load_chain(
            tokenizer_dir=folder / TOKENIZER_NAME,
            language_model_dir=folder / LANGUAGE_MODEL_NAME,
            decoder_dir=folder / DECODER_NAME,
            n_flow_steps=N_FLOW_STEPS,
            max_sessions=max_sessions,
            max_context_tokens=max_context_tokens,
        )


def speech_like_walk(vocabulary: Vocabulary) -> Walk:
    """Sentences of 13 text tokens, each with 26 audio tokens, some of which end the reply."""
    slots = [[vocabulary.piece(word) for word in slot] for slot in SENTENCE_SLOTS]
    steps = [
        [vocabulary.audio(code) for code in range(step, vocabulary.n_audio, N_AUDIO_STEPS)]
        for step in range(N_AUDIO_STEPS)
    ]
    places = [*slots, *steps]
    ending, other = len(places), len(places) + 1
    class_of = [other] * vocabulary.n_tokens
    for place, tokens in enumerate(places):
        for token in tokens:
            class_of[token] = place
    for token in [*steps[-1][:N_ENDING_AT_END], *steps[12][:N_ENDING_MIDWAY]]:
        class_of[token] = ending
    followers = [*places[1:], places[0], [vocabulary.control("<|user|>")], places[0]]
    return Walk(class_of, followers)


def _write_speech_tokenizer(folder: Path, generator: torch.Generator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", _TOKENIZER_CONFIG)
    _write_json(folder / "preprocessor_config.json", _PREPROCESSOR_CONFIG)
    tokenizer = SpeechTokenizer(config := read_config(folder), SpeechEncoder(config).eval())
    weights = tokenizer.encoder.state_dict()
    for name, weight in weights.items():
        if not name.endswith("layer_norm.weight"):
            std = math.prod(weight.shape[1:]) ** -0.5 if weight.dim() > 1 else 0.1
            weight.normal_(std=std, generator=generator)
    # Codes where sound really lies: random ones would all be far off, and one the nearest always.
    weights["codebook.weight"].copy_(tokenizer.pre_vq(_babble(config, generator)))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _babble(config: SpeechTokenizerConfig, generator: torch.Generator) -> NDArray[np.float32]:
    """Another chord with another noise for each code there is: pcm [T]."""
    n_codes, n_samples = config.n_codes, config.samples_per_token
    pitch_hz = 80 * 40 ** torch.rand(n_codes, 3, 1, generator=generator)
    loudness = 10 ** (-2 * torch.rand(n_codes, 3, 1, generator=generator) - 0.5)
    times_s = torch.arange(n_samples) / config.sample_rate
    chords = (loudness * torch.sin(2 * torch.pi * pitch_hz * times_s)).sum(dim=1)
    noise = 10 ** (-3 * torch.rand(n_codes, 1, generator=generator) - 1)
    pcm = chords + noise * torch.randn(n_codes, n_samples, generator=generator)
    return pcm.flatten().clamp(-1, 1).numpy()


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True))


_TOKENIZER_CONFIG = {
    "_name_or_path": "THUDM/glm-4-voice-tokenizer",
    "activation_dropout": 0.0,
    "activation_function": "gelu",
    "apply_spec_augment": False,
    "architectures": ["WhisperVQEncoder"],
    "attention_dropout": 0.0,
    "begin_suppress_tokens": [220, 50257],
    "bos_token_id": 50257,
    "classifier_proj_size": 256,
    "d_model": 32,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 64,
    "decoder_layerdrop": 0.0,
    "decoder_layers": 2,
    "decoder_start_token_id": 50258,
    "dropout": 0.0,
    "encoder_attention_heads": 2,
    "encoder_causal_attention": False,
    "encoder_causal_convolution": True,
    "encoder_ffn_dim": 64,
    "encoder_layerdrop": 0.0,
    "encoder_layers": 2,
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
    "max_source_positions": 1500,
    "max_target_positions": 448,
    "median_filter_width": 7,
    "model_type": "whisper",
    "num_hidden_layers": 2,
    "num_mel_bins": 128,
    "pad_token_id": 50256,
    "pooling_kernel_size": 4,
    "pooling_position": 1,
    "pooling_type": "avg",
    "quantize_causal_block_size": 200,
    "quantize_causal_encoder": False,
    "quantize_commit_coefficient": 0.25,
    "quantize_ema_decay": 0.99,
    "quantize_encoder_only": True,
    "quantize_loss_scale": 10.0,
    "quantize_position": 1,
    "quantize_restart_interval": 100,
    "quantize_vocab_size": N_CODES,
    "scale_embedding": False,
    "skip_language_detection": True,
    "torch_dtype": "float32",
    "transformers_version": "4.44.1",
    "use_cache": True,
    "use_weighted_layer_sum": False,
    "vocab_size": 51866,
}

_PREPROCESSOR_CONFIG = {
    "chunk_length": 30,
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 128,
    "hop_length": 160,
    "n_fft": 400,
    "n_samples": 480000,
    "nb_max_frames": 3000,
    "padding_side": "right",
    "padding_value": 0.0,
    "processor_class": "WhisperProcessor",
    "return_attention_mask": False,
    "sampling_rate": 16000,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.glm4voice.embedded")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--head-dim", type=int, default=HEAD_DIM, help="vLLM wants 32 at least")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)  # more would only wait for each other
    write_embedded_checkpoint(chosen.folder, chosen.seed, head_dim=chosen.head_dim)


if __name__ == "__main__":
    main()
