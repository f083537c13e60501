"""The U-Net that estimates the flow of mel frames at one moment of the ODE.

Module names are those of the released flow.pt. All rows of a batch must be equally long: group
norms and attention look at every frame, and nothing here knows of padding.
"""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.glm4voice.speaking.config import EstimatorDims

_GROUPS = 8
_TIME_SCALE = 1000
_WIDEN = 4  # of the feed forward, and of the time features against the first width

Shifts = tuple[Tensor, ...]  # what one moment adds in each residual block, [1, C, 1] each
Prepared = tuple[Tensor, Tensor]  # shares of the first block's two convolutions, [kB, C, T] each


class ConditionalDecoder(nn.Module):
    """Residual blocks and full attention over frames at several resolutions."""

    def __init__(self, dims: EstimatorDims) -> None:
        super().__init__()
        self.in_channels = dims.in_channels
        widths = dims.channels
        self.time_mlp = _TimeFeatures(dims.in_channels, widths[0] * _WIDEN)
        last = len(widths) - 1

        self.down_blocks = nn.ModuleList(
            _Level(dims, n_in, n_out, _Downsample(n_out) if i < last else _conv(n_out, n_out))
            for i, (n_in, n_out) in enumerate(pairwise((dims.in_channels, *widths)))
        )
        self.mid_blocks = nn.ModuleList(
            _Level(dims, widths[-1], widths[-1]) for _ in range(dims.num_mid_blocks)
        )
        self.up_blocks = nn.ModuleList(
            _Level(dims, 2 * n_in, n_out, _Upsample(n_out) if i < last else _conv(n_out, n_out))
            for i, (n_in, n_out) in enumerate(pairwise((*reversed(widths), widths[0])))
        )
        self.final_block = _ConvBlock(widths[0], widths[0])
        self.final_proj = nn.Conv1d(widths[0], dims.out_channels, 1)

    def round_as_official(self) -> None:
        """Add to the attention logits the constant that the original's mask amounts to.

        It changes nothing but the rounding, and it costs memory and speed.
        """
        for module in self.modules():
            if isinstance(module, _Attention):
                module.constant_bias = True

    def join_projections(self) -> None:
        """Make one product of three in each attention: fewer launches, another rounding."""
        for module in self.modules():
            if isinstance(module, _Attention):
                module.join()

    def shifts(self, moments: Tensor) -> list[Shifts]:
        """What each of `moments` ([K] float32, from 0 to 1) adds in the residual blocks."""
        dtype = self.final_proj.weight.dtype
        features = self.time_mlp(_sinusoids(moments, self.in_channels).to(dtype))
        levels = (*self.down_blocks, *self.mid_blocks, *self.up_blocks)
        by_level = [cast(_Level, level).shift(features) for level in levels]
        return [tuple(shift[k : k + 1] for shift in by_level) for k in range(len(moments))]

    def prepare(self, conditions: Tensor) -> Prepared:
        """What all moments share of the first block: `conditions` [B, in_channels - M, T]."""
        return self._first.resnet.prepare(conditions)

    def forward(self, x: Tensor, prepared: Prepared, shifts: Shifts) -> Tensor:
        """The flow [kB, M, T] of states [B, M, T] under each of k prepared conditions."""
        return self._beyond(self._first.resnet.enter(x, prepared, shifts[0]), shifts[1:])

    def forward_whole(self, inputs: Tensor, shifts: Shifts) -> Tensor:
        """As `forward`, of state and conditions side by side, [B, in_channels, T]."""
        return self._beyond(self._first.resnet(inputs, shifts[0]), shifts[1:])

    @property
    def _first(self) -> "_Level":
        return cast(_Level, self.down_blocks[0])

    def _beyond(self, frames: Tensor, shifts: Shifts) -> Tensor:
        """From what the first residual block makes, [B, C, T], to the flow [B, M, T]."""
        remaining = iter(shifts)
        skips = []
        for i, level in enumerate(cast(Iterable[_Level], self.down_blocks)):
            frames = level(frames, next(remaining)) if i else level.transformed(frames)
            skips.append(frames)
            frames = level.resampled(frames)
        for level in cast(Iterable[_Level], self.mid_blocks):
            frames = level(frames, next(remaining))
        for level in cast(Iterable[_Level], self.up_blocks):
            skip = skips.pop()
            joined = torch.cat([frames[:, :, : skip.shape[-1]], skip], dim=1)
            frames = level.resampled(level(joined, next(remaining)))
        return self.final_proj(self.final_block(frames))


class _Level(nn.ModuleList):
    """A residual block, its transformers, and what leads to the next resolution, in this order."""

    def __init__(
        self, dims: EstimatorDims, n_in: int, n_out: int, resample: nn.Module | None = None
    ) -> None:
        transformers = nn.ModuleList(_Transformer(dims, n_out) for _ in range(dims.n_blocks))
        parts = [_ResnetBlock(n_in, n_out, dims.channels[0] * _WIDEN), transformers]
        super().__init__(parts if resample is None else [*parts, resample])

    def forward(self, frames: Tensor, shift: Tensor) -> Tensor:
        """[B, n_in, T] to [B, n_out, T]."""
        return self.transformed(self.resnet(frames, shift))

    @property
    def resnet(self) -> "_ResnetBlock":
        return cast(_ResnetBlock, self[0])

    def transformed(self, frames: Tensor) -> Tensor:
        """The part behind the residual block, [B, n_out, T] to [B, n_out, T]."""
        frames = frames.transpose(1, 2)
        for transformer in self[1].children():
            frames = transformer(frames)
        return frames.transpose(1, 2)

    def shift(self, features: Tensor) -> Tensor:
        """Time features [K, D] to what the residual block adds, [K, n_out, 1]."""
        return self.resnet.mlp(features)[:, :, None]

    def resampled(self, frames: Tensor) -> Tensor:
        return self[2](frames)


def _conv(n_in: int, n_out: int) -> nn.Conv1d:
    return nn.Conv1d(n_in, n_out, 3, padding=1)


class _TimeFeatures(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(n_in, n_out)
        self.linear_2 = nn.Linear(n_out, n_out)

    def forward(self, sinusoids: Tensor) -> Tensor:
        return self.linear_2(functional.silu(self.linear_1(sinusoids)))


class _ConvBlock(nn.Module):
    """Convolution, group norm, Mish."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.block = nn.Sequential(_conv(n_in, n_out), nn.GroupNorm(_GROUPS, n_out), nn.Mish())

    @property
    def conv(self) -> nn.Conv1d:
        return cast(nn.Conv1d, self.block[0])

    def normed(self, frames: Tensor) -> Tensor:
        """The part behind the convolution."""
        return self.block[2](self.block[1](frames))

    def forward(self, frames: Tensor) -> Tensor:
        return self.block(frames)


class _ResnetBlock(nn.Module):
    """Two convolution blocks with the moment's shift between them, around a 1x1 shortcut."""

    def __init__(self, n_in: int, n_out: int, n_time: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Mish(), nn.Linear(n_time, n_out))
        self.block1 = _ConvBlock(n_in, n_out)
        self.block2 = _ConvBlock(n_out, n_out)
        self.res_conv = nn.Conv1d(n_in, n_out, 1)

    def forward(self, frames: Tensor, shift: Tensor) -> Tensor:
        return self.block2(self.block1(frames) + shift) + self.res_conv(frames)

    def prepare(self, conditions: Tensor) -> Prepared:
        """The share of the last input channels in both convolutions, biases included."""
        n_given = conditions.shape[1]
        conv, shortcut = self.block1.conv, self.res_conv
        return (
            functional.conv1d(conditions, conv.weight[:, -n_given:], conv.bias, padding=1),
            functional.conv1d(conditions, shortcut.weight[:, -n_given:], shortcut.bias),
        )

    def enter(self, x: Tensor, prepared: Prepared, shift: Tensor) -> Tensor:
        """As `forward`, of the first input channels and what `prepare` made of the others."""
        n_new = x.shape[1]
        convolved = functional.conv1d(x, self.block1.conv.weight[:, :n_new], padding=1)
        shortcut = functional.conv1d(x, self.res_conv.weight[:, :n_new])
        hidden = self.block1.normed(_under_each(convolved, prepared[0]))
        return self.block2(hidden + shift) + _under_each(shortcut, prepared[1])


def _under_each(states: Tensor, prepared: Tensor) -> Tensor:
    """The sums of [B, C, T] and each B rows of [kB, C, T], [kB, C, T]."""
    return (states + prepared.unflatten(0, (-1, len(states)))).flatten(0, 1)


class _Transformer(nn.Module):
    """Full attention over all frames, then a GELU feed forward, both pre-norm."""

    def __init__(self, dims: EstimatorDims, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = _Attention(width, dims.num_heads, dims.attention_head_dim)
        self.norm3 = nn.LayerNorm(width)
        self.ff = _FeedForward(width)

    def forward(self, frames: Tensor) -> Tensor:
        frames = frames + self.attn1(self.norm1(frames))
        return frames + self.ff(self.norm3(frames))


class _Attention(nn.Module):
    def __init__(self, width: int, n_heads: int, head_dim: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.constant_bias = False
        self._joined: Tensor | None = None  # the weights of all three, if they are one product
        self.to_q = nn.Linear(width, n_heads * head_dim, bias=False)
        self.to_k = nn.Linear(width, n_heads * head_dim, bias=False)
        self.to_v = nn.Linear(width, n_heads * head_dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(n_heads * head_dim, width))

    def join(self) -> None:
        """From now on, queries, keys and values are one product."""
        self._joined = torch.cat([self.to_q.weight, self.to_k.weight, self.to_v.weight])

    def forward(self, frames: Tensor) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        if self._joined is None:
            parts: Iterable[Tensor] = (f(frames) for f in (self.to_q, self.to_k, self.to_v))
        else:
            parts = functional.linear(frames, self._joined).chunk(3, dim=-1)
        query, key, value = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in parts
        )
        n_frames = frames.shape[1]
        bias = frames.new_ones(n_frames, n_frames) if self.constant_bias else None
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class _Gelu(nn.Module):
    """A projection followed by GELU; a module of its own because the file names it so."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(n_in, n_out)

    def forward(self, frames: Tensor) -> Tensor:
        return functional.gelu(self.proj(frames))


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        wide = width * _WIDEN
        # the second place was the dropout of training; its number stays taken
        self.net = nn.Sequential(_Gelu(width, wide), nn.Identity(), nn.Linear(wide, width))

    def forward(self, frames: Tensor) -> Tensor:
        return self.net(frames)


class _Downsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, stride=2, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        return self.conv(frames)


class _Upsample(nn.Module):
    """Twice as many frames; one too many where the length was odd, which the caller crops."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(width, width, 4, stride=2, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        return self.conv(frames)


def _sinusoids(moments: Tensor, width: int) -> Tensor:
    """[K] to [K, width]: all sines, then all cosines."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=moments.device)
    rates = torch.exp(steps * -(math.log(10000) / (half - 1)))
    angles = _TIME_SCALE * moments[:, None] * rates
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)
