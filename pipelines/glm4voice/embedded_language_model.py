"""Writes a tiny language model that walks through its vocabulary by given rules.

Its files are those of a released folder and its computation is that of the released model, with
random weights, but for this: a part of the hidden state names the class of the last token, and the
output layer favours the tokens that may follow this class. All followers are nearly equally likely,
so what it says depends on chance at any temperature; attention adds a little that depends on what
was said before.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipelines.glm4voice.embedded_vocabulary import Vocabulary, write_text_tokenizer
from pipelines.glm4voice.language_model_files import (
    LanguageModelSizes,
    write_configs,
    write_shards,
)
from pipelines.glm4voice.thinking.language_model import expected_shapes, read_config

N_FREE = 16  # dimensions of the hidden state that carry chance, not classes
HEAD_DIM = 16
N_HEADS = 2
FFN_WIDTH = 32
FOLLOWER_LOGIT = 32.0  # of a follower; all other tokens are near 0
VARIATION = 0.008  # spread of output weights over the free dimensions
LAYER_GAIN = 0.2  # of what layers add to the free dimensions, so that classes stay the larger part


@dataclass(frozen=True, slots=True)
class Walk:
    """Which tokens may follow which: the class of the last token alone decides."""

    class_of: Sequence[int]  # one entry for each token that has a meaning
    followers: Sequence[Sequence[int]]  # token ids, one entry for each class


def write_walking_model(
    folder: Path,
    vocabulary: Vocabulary,
    walk: Walk,
    *,
    n_positions: int,
    generator: torch.Generator,
    head_dim: int = HEAD_DIM,
) -> None:
    """Write a whole language-model folder: config, tokenizer, two shards and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = LanguageModelSizes(
        width=-(-(len(walk.followers) + N_FREE) // 16) * 16,
        n_layers=1,
        n_heads=N_HEADS,
        n_groups=1,
        head_dim=head_dim,
        ffn_width=FFN_WIDTH,
        n_positions=n_positions,
    )
    write_configs(folder, sizes, vocabulary)
    write_text_tokenizer(folder, vocabulary)
    write_shards(folder, _weights(folder, walk, generator))


def _weights(folder: Path, walk: Walk, generator: torch.Generator) -> dict[str, Tensor]:
    """Every tensor of the folder, random where the walk does not say otherwise."""
    weights = {
        name: torch.randn(shape, generator=generator) / math.sqrt(shape[-1])
        for name, shape in expected_shapes(read_config(folder / "config.json")).items()
    }
    n_classes = len(walk.followers)
    for name, tensor in weights.items():
        if name.endswith("layernorm.weight"):
            tensor.fill_(1.0)
        elif name.endswith(("self_attention.dense.weight", "mlp.dense_4h_to_h.weight")):
            tensor *= LAYER_GAIN
            tensor[:n_classes] = 0.0  # only free dimensions change on the way through the layers
    embedding = weights["transformer.embedding.word_embeddings.weight"]
    output = weights["transformer.output_layer.weight"]
    width = embedding.shape[1]
    embedding[:, :n_classes] = 0.0
    for token, place in enumerate(walk.class_of):
        embedding[token, place] = 1.0
    output.normal_(std=VARIATION, generator=generator)
    output[:, :n_classes] = 0.0
    for place, tokens in enumerate(walk.followers):
        output[list(tokens), place] = FOLLOWER_LOGIT / math.sqrt(width)
    return {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
