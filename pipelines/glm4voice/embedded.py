"""Writes the embedded checkpoint: three tiny folders in the released formats, with random weights.

    python -m pipelines.glm4voice.embedded DIR [--seed N] [--head-dim N]

Its replies have the form of speech and no sense: sentences of common words, sound that is noise, 13
text tokens followed by 26 audio tokens as the real model has them, an end after a few seconds. It
stands in for a trained model wherever a whole call must run on a small machine.
"""

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.audio import MODEL_INPUT_RATE
from pipelines.glm4voice.chain import GlmChain, load_chain
from pipelines.glm4voice.embedded_language_model import HEAD_DIM, Walk, write_walking_model
from pipelines.glm4voice.embedded_vocabulary import (
    SENTENCE_SLOTS,
    Vocabulary,
    embedded_vocabulary,
)
from pipelines.glm4voice.hearing.config import SpeechTokenizerConfig
from pipelines.glm4voice.hearing.encoder import SpeechEncoder
from pipelines.glm4voice.hearing.folder import write_tokenizer_config, write_tokenizer_weights
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
    config = _TOKENIZER_CONFIG
    write_tokenizer_config(folder, config)
    tokenizer = SpeechTokenizer(config, SpeechEncoder(config).eval())
    weights = tokenizer.encoder.state_dict()
    for name, weight in weights.items():
        if not name.endswith("layer_norm.weight"):
            std = math.prod(weight.shape[1:]) ** -0.5 if weight.dim() > 1 else 0.1
            weight.normal_(std=std, generator=generator)
    # Codes where sound really lies: random ones would all be far off, and one the nearest always.
    weights["codebook.weight"].copy_(tokenizer.pre_vq(_babble(config, generator)))
    write_tokenizer_weights(folder, weights)


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


_TOKENIZER_CONFIG = SpeechTokenizerConfig(
    sample_rate=MODEL_INPUT_RATE,
    n_fft=400,
    hop=160,
    n_mels=128,
    d_model=32,
    n_heads=2,
    d_ffn=64,
    n_layers=1,
    n_positions=1500,
    block=200,
    pool=4,
    n_codes=N_CODES,
)


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
