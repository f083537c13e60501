"""The whole chain in memory with random weights, of any size: for measuring what calls cost.

Its language model walks as the embedded one does, so replies have the rhythm of speech; all its
products are computed as those of real weights would be.
"""

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import GlmConfig, GlmForCausalLM

from pipelines.glm4voice.chain import GlmChain, assemble
from pipelines.glm4voice.embedded import speech_like_walk
from pipelines.glm4voice.embedded_language_model import FOLLOWER_LOGIT, VARIATION, Walk
from pipelines.glm4voice.embedded_vocabulary import (
    EOS_NAMES,
    Vocabulary,
    embedded_vocabulary,
    write_text_tokenizer,
)
from pipelines.glm4voice.hearing.config import SpeechTokenizerConfig
from pipelines.glm4voice.measuring import hearing
from pipelines.glm4voice.measuring.hearing import random_tokenizer
from pipelines.glm4voice.measuring.released_decoder import random_decoder
from pipelines.glm4voice.speaking import released
from pipelines.glm4voice.speaking.config import DecoderConfig
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.thinking.engines import DTYPES, local_engine
from pipelines.glm4voice.thinking.language_model import empty_language_model, ready


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModelSizes:
    """Of a GLM-4; `vocab_size` None is just what the vocabulary needs."""

    vocab_size: int | None
    width: int
    ffn_width: int
    n_layers: int
    n_heads: int
    n_groups: int
    head_dim: int
    n_positions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSizes:
    """Of the three models; the speech codes are those of the decoder."""

    tokenizer: SpeechTokenizerConfig
    language_model: LanguageModelSizes
    decoder: DecoderConfig


_RELEASED_MODEL = LanguageModelSizes(
    vocab_size=168_960,
    width=4096,
    ffn_width=13_696,
    n_layers=40,
    n_heads=32,
    n_groups=2,
    head_dim=128,
    n_positions=8192,
)
RELEASED = ChainSizes(
    tokenizer=hearing.RELEASED,
    language_model=_RELEASED_MODEL,
    decoder=released.RELEASED,
)
# The widths of the release, but only what fits where 19 GB of weights do not.
FEW_LAYERS = replace(RELEASED, language_model=replace(_RELEASED_MODEL, vocab_size=None, n_layers=2))


def _small_decoder() -> DecoderConfig:
    """Every layer of the released one, as narrow as can be."""
    flow, hift = released.RELEASED.flow, released.RELEASED.hift
    encoder = replace(
        flow.encoder,
        input_size=16,
        output_size=16,
        attention_heads=1,
        linear_units=16,
        num_blocks=1,
    )
    estimator = replace(
        flow.estimator,
        channels=(16, 16),
        attention_head_dim=16,
        n_blocks=1,
        num_mid_blocks=1,
        num_heads=1,
    )
    return replace(
        released.RELEASED,
        flow=replace(flow, vocab_size=512, input_size=16, encoder=encoder, estimator=estimator),
        hift=replace(hift, base_channels=16, f0_channels=16),
    )


SMALL = ChainSizes(
    tokenizer=replace(hearing.RELEASED, d_model=32, n_heads=2, d_ffn=32, n_layers=2, n_codes=512),
    language_model=LanguageModelSizes(
        vocab_size=None,
        width=64,
        ffn_width=64,
        n_layers=2,
        n_heads=2,
        n_groups=1,
        head_dim=32,
        n_positions=2048,
    ),
    decoder=_small_decoder(),
)


def random_chain(
    sizes: ChainSizes,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    max_sessions: int = 1,
    n_flow_steps: int = 10,
) -> GlmChain:
    """A chain of these sizes on `device`; `dtype` is the language model's.

    Its replies do not end by themselves before `max_tokens`. Raises KeyError for an unknown dtype.
    """
    vocabulary = embedded_vocabulary(n_audio=sizes.decoder.flow.vocab_size)
    model = random_language_model(sizes.language_model, vocabulary, device, DTYPES[dtype])
    return assemble(
        speech_tokenizer=random_tokenizer(sizes.tokenizer, device=device),
        text_tokenizer=_text_tokenizer(vocabulary),
        engine=local_engine(model, max_sessions=max_sessions),
        decoder=random_decoder(sizes.decoder, device=device, n_steps=n_flow_steps),
        end_ids=[vocabulary.control(name) for name in EOS_NAMES],
    )


def random_language_model(
    sizes: LanguageModelSizes, vocabulary: Vocabulary, device: str, dtype: torch.dtype
) -> GlmForCausalLM:
    """A model with random weights that says sentences and sound in turn, without an end."""
    n_tokens = -(-vocabulary.n_tokens // 64) * 64
    config = GlmConfig(
        vocab_size=sizes.vocab_size or n_tokens,
        hidden_size=sizes.width,
        intermediate_size=sizes.ffn_width,
        num_hidden_layers=sizes.n_layers,
        num_attention_heads=sizes.n_heads,
        num_key_value_heads=sizes.n_groups,
        head_dim=sizes.head_dim,
        max_position_embeddings=sizes.n_positions,
        attention_bias=True,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 0.5,
        },
        tie_word_embeddings=False,
        pad_token_id=None,
    )
    model: Any = empty_language_model(config)
    model.to(dtype).to_empty(device=device)
    _randomise(model, _endless(speech_like_walk(vocabulary)))
    return ready(model, device)


def _endless(walk: Walk) -> Walk:
    """Where a reply might end, it begins its next sentence."""
    *others, _ending, start = walk.followers
    return replace(walk, followers=[*others, start, start])


@torch.no_grad()
def _randomise(model: GlmForCausalLM, walk: Walk) -> None:
    """Part of the hidden state names the class of the last token, as in the embedded model."""
    generator = torch.Generator(model.device).manual_seed(0)
    n_classes, width = len(walk.followers), model.config.hidden_size
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            weight.fill_(1 if name.endswith("norm.weight") else 0)
            continue
        weight.normal_(std=weight.shape[1] ** -0.5, generator=generator)
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.mul_(model.config.num_hidden_layers**-0.5)  # the whole depth adds what one may
            weight[:n_classes] = 0  # only free dimensions change on the way through the layers
    embedding, output = model.model.embed_tokens.weight, model.lm_head.weight
    embedding.normal_(generator=generator)
    embedding[:, :n_classes] = 0
    tokens = torch.arange(len(walk.class_of), device=model.device)
    classes = torch.tensor(walk.class_of, device=model.device)
    embedding[tokens, classes] = math.sqrt(width)  # as large as all free ones together
    output.normal_(std=VARIATION, generator=generator)
    output[:, :n_classes] = 0
    for place, followers in enumerate(walk.followers):
        output[list(followers), place] = 2 * FOLLOWER_LOGIT / math.sqrt(width)


def _text_tokenizer(vocabulary: Vocabulary) -> TextTokenizer:
    with tempfile.TemporaryDirectory() as name:
        write_text_tokenizer(Path(name), vocabulary)
        return TextTokenizer.load(Path(name))
