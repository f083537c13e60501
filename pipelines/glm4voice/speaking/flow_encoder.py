"""The block conformer that turns token vectors into hidden states, 12.5 a second.

Attention is causal by blocks: a token sees all earlier blocks and the whole of its own. Module
names are those of the released flow.pt.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.glm4voice.speaking.config import EncoderDims

_CACHED_LENGTHS = 8  # masks and tables kept for the lengths met last


class BlockConformerEncoder(nn.Module):
    """Hidden states of a token sequence; deterministic, the dropout of training is not here."""

    def __init__(self, dims: EncoderDims) -> None:
        super().__init__()
        self.block_size = dims.block_size
        self.embed = _Embed(dims.input_size, dims.output_size)
        self.encoders = nn.ModuleList(_Layer(dims) for _ in range(dims.num_blocks))
        self.after_norm = nn.LayerNorm(dims.output_size)

    def forward(self, vectors: Tensor) -> Tensor:
        """Token vectors [B, N, input_size] to hidden states [B, N, output_size]."""
        hidden = self.embed(vectors)
        n_tokens, width = hidden.shape[1:]
        distances = _distance_table(n_tokens, width, hidden.device).to(hidden.dtype)
        hidden_from = _block_mask(n_tokens, self.block_size, hidden.device)
        for layer in self.encoders:
            hidden = layer(hidden, distances, hidden_from)
        return self.after_norm(hidden)


class _Embed(nn.Module):
    """The input layer, scaled as the positional encoding of the original wants it."""

    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(input_size, output_size), nn.LayerNorm(output_size))

    def forward(self, vectors: Tensor) -> Tensor:
        scaled: Tensor = self.out(vectors)
        return scaled * math.sqrt(scaled.shape[-1])


class _Layer(nn.Module):
    """One pre-norm layer: relative attention, then a SiLU feed forward."""

    def __init__(self, dims: EncoderDims) -> None:
        super().__init__()
        self.self_attn = _RelativeAttention(dims.output_size, dims.attention_heads)
        self.feed_forward = _FeedForward(dims.output_size, dims.linear_units)
        self.norm_mha = nn.LayerNorm(dims.output_size)
        self.norm_ff = nn.LayerNorm(dims.output_size)

    def forward(self, hidden: Tensor, distances: Tensor, hidden_from: Tensor) -> Tensor:
        hidden = hidden + self.self_attn(self.norm_mha(hidden), distances, hidden_from)
        return hidden + self.feed_forward(self.norm_ff(hidden))


class _FeedForward(nn.Module):
    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, units)
        self.w_2 = nn.Linear(units, width)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.w_2(functional.silu(self.w_1(hidden)))


class _RelativeAttention(nn.Module):
    """Attention over content and over distance, each with a learned bias on the query."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(n_heads, width // n_heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(n_heads, width // n_heads))

    def forward(self, hidden: Tensor, distances: Tensor, hidden_from: Tensor) -> Tensor:
        """`hidden` [B, N, D]; `distances` [2N-1, D]; `hidden_from` [N, N], True: not to be seen."""
        query = self._heads(self.linear_q(hidden))
        key = self._heads(self.linear_k(hidden))
        value = self._heads(self.linear_v(hidden))
        position = self._heads(self.linear_pos(distances)[None])

        # in the original's order of operations: a fused attention rounds otherwise
        by_content = (query + self.pos_bias_u[:, None]) @ key.transpose(-2, -1)
        by_distance = _shift((query + self.pos_bias_v[:, None]) @ position.transpose(-2, -1))
        scores = (by_content + by_distance) / math.sqrt(query.shape[-1])
        weights = torch.softmax(scores.masked_fill(hidden_from, -math.inf), dim=-1)
        return self.linear_out((weights @ value).transpose(1, 2).flatten(2))

    def _heads(self, vectors: Tensor) -> Tensor:
        """[B, N, D] to [B, heads, N, D / heads]."""
        return vectors.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


def _shift(scores: Tensor) -> Tensor:
    """From columns by distance to columns by key: [B, H, N, 2N-1] to [B, H, N, N].

    Row i holds distances N-1 .. -(N-1); key j is at distance i - j, so its column is N-1-i+j:
    read row by row with one element less than the padded width, each row starts one further left.
    """
    n_tokens = scores.shape[-2]
    padded = functional.pad(scores, (1, 0)).flatten(-2)[..., n_tokens:]
    return padded.unflatten(-1, (n_tokens, 2 * n_tokens - 1))[..., :n_tokens]


@lru_cache(maxsize=_CACHED_LENGTHS)
@torch.inference_mode(False)  # whoever trains may meet it in the cache
def _block_mask(n_tokens: int, block_size: int, device: torch.device) -> Tensor:
    """[N, N], True where a row's token must not see a column's: it is in a later block."""
    block = torch.arange(n_tokens, device=device) // block_size
    return block[None, :] > block[:, None]


@lru_cache(maxsize=_CACHED_LENGTHS)
@torch.inference_mode(False)  # whoever trains may meet it in the cache
def _distance_table(n_tokens: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines, interleaved, of the distances N-1 .. -(N-1): [2N-1, width]."""
    distances = torch.arange(n_tokens - 1, -n_tokens, -1, dtype=torch.float32, device=device)
    exponents = torch.arange(0, width, 2, dtype=torch.float32, device=device)
    rates = torch.exp(exponents * -(math.log(10000.0) / width))
    angles = distances[:, None] * rates
    return torch.stack([torch.sin(angles), torch.cos(angles)], dim=-1).flatten(1)
