"""How much memory tuning with adapters takes, computed from the sizes of a model.

It counts what grows with the model and the batch: frozen weights, adapters with their gradients and
AdamW's two moments, what the forward pass keeps for the backward pass, and logits. A CUDA context
and the allocator's rounding come on top; a tenth more is a fair allowance.
"""

from collections.abc import Mapping

from transformers import GlmConfig

from pipelines.glm4voice.training.adapter import matrix_sizes

N_TOKENS = 1024  # of one batch: its common beginning and its rows, filled up
N_LEARNED = 256  # of them are learned, and have logits
_HALF, _WIDE = 2, 4  # bytes of a number in bfloat16 and float32


def memory_of(
    config: GlmConfig,
    *,
    rank: int,
    n_tokens: int = N_TOKENS,
    n_learned: int = N_LEARNED,
    weight_bytes: float = _HALF,
) -> Mapping[str, int]:
    """Bytes by part. `weight_bytes` is of a frozen number: 1 in 8 bits, about 0.53 in 4 bits."""
    matrices = matrix_sizes(config)
    n_weights = sum(n_in * n_out for n_in, n_out in matrices.values())
    n_embedded = 2 * config.vocab_size * config.hidden_size  # never in fewer bits
    n_adapter = sum(rank * (n_in + n_out) for n_in, n_out in matrices.values())
    return {
        "frozen weights": int(n_weights * weight_bytes) + n_embedded * _HALF,
        "adapter": n_adapter * _WIDE,
        "its gradients": n_adapter * _WIDE,
        "its moments": 2 * n_adapter * _WIDE,
        f"kept for {n_tokens} tokens": n_tokens * kept_per_token(config, rank=rank),
        f"logits of {n_learned} tokens": 3 * n_learned * config.vocab_size * _WIDE,
    }


def kept_per_token(config: GlmConfig, *, rank: int) -> int:
    """Bytes that the layers keep of a token until the backward pass, half precision."""
    width, ffn = config.hidden_size, config.intermediate_size
    head_dim = int(config.head_dim or 0)
    query = config.num_attention_heads * head_dim
    key = int(config.num_key_value_heads or 0) * head_dim
    norms = 2 * (2 * _WIDE * width)  # each keeps its input and its normalised input
    # rotated queries and keys, values, and what attention makes, with cosine and sine products
    attention = _HALF * (3 * query + 6 * key)
    feed_forward = _HALF * 4 * ffn  # gate and up, the activated gate, their product
    # what enters each adapter, in float32, and what its A makes
    adapters = _WIDE * (width + query + width + ffn) + 4 * _WIDE * rank
    return int(config.num_hidden_layers) * (norms + attention + feed_forward + adapters)
