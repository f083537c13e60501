"""The HiFT vocoder: mel frames to sound, by way of a short Fourier transform turned back.

Module names are those of the released hift.pt. Weight norm is folded into plain weights at load.
"""

from fractions import Fraction
from itertools import pairwise
from math import ceil, prod
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.glm4voice.checkpoint import CheckpointError, load_strict, read_torch
from pipelines.glm4voice.speaking.config import HiftDims
from pipelines.glm4voice.speaking.hift_source import (
    Chance,
    F0Predictor,
    NormedConv1d,
    NormedConvTranspose1d,
    SourceModule,
)

_PRE_SIZE = 7  # of the convolutions before the first and after the last stage
_POST_SIZE = 7
_LOUDEST = 100.0  # bound of a magnitude before turning it back into sound
_LAST_SLOPE = 0.01  # of the last leaky ReLU; the others take theirs from the file
_TINY = 1e-9


class HiftVocoder(nn.Module):
    """Mel to sound; always float32, since it is cheap and its phases are not forgiving."""

    def __init__(self, dims: HiftDims) -> None:
        super().__init__()
        self.dims = dims
        n_bins = dims.n_fft + 2  # real and imaginary parts, or magnitudes and phases
        widths = [dims.base_channels >> i for i in range(len(dims.upsample_rates) + 1)]
        self.m_source = SourceModule(dims)
        self.conv_pre = NormedConv1d(dims.in_channels, widths[0], _PRE_SIZE, padding=_PRE_SIZE // 2)
        self.ups = nn.ModuleList(
            NormedConvTranspose1d(n_in, n_out, size, rate, padding=(size - rate) // 2)
            for (n_in, n_out), rate, size in zip(
                pairwise(widths), dims.upsample_rates, dims.upsample_kernel_sizes, strict=True
            )
        )
        self.source_downs = nn.ModuleList(
            _source_down(n_bins, width, prod(dims.upsample_rates[i + 1 :]))
            for i, width in enumerate(widths[1:])
        )
        self.source_resblocks = nn.ModuleList(
            _ResBlock(width, size, dilations)
            for width, size, dilations in zip(
                widths[1:],
                dims.source_resblock_kernel_sizes,
                dims.source_resblock_dilation_sizes,
                strict=True,
            )
        )
        kernels = list(zip(dims.resblock_kernel_sizes, dims.resblock_dilation_sizes, strict=True))
        self.resblocks = nn.ModuleList(
            _ResBlock(width, size, dilations) for width in widths[1:] for size, dilations in kernels
        )
        self.conv_post = NormedConv1d(widths[-1], n_bins, _POST_SIZE, padding=_POST_SIZE // 2)
        self.f0_predictor = F0Predictor(dims)

    @classmethod
    def load(cls, path: Path, dims: HiftDims, *, device: str | torch.device) -> Self:
        """The weights of hift.pt, read-only. Raises CheckpointError if they are not `dims`'."""
        with torch.device("meta"):
            hift = cls(dims)
        load_strict(hift, _fold_weight_norm(hift, read_torch(path), path), path=path)
        return hift.requires_grad_(False).eval().to(device=device, dtype=torch.float32)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.m_source.l_linear.weight.device

    @property
    def n_frames_seen(self) -> int:
        """How many frames to each side a sample depends on at most, of mel and of excitation."""
        return _n_frames_seen(self.dims)

    def excitation(self, mel: Tensor, chance: Chance) -> Tensor:
        """The source [1, 1, S] for the pitch of `mel` [1, M, T], S = T * samples_per_frame."""
        return self.m_source(self.f0_predictor(mel), chance)

    def forward(self, mel: Tensor, source: Tensor) -> Tensor:
        """`mel` [B, M, T] and excitation [B, 1, S] to sound [B, S] within audio_limit."""
        dims = self.dims
        window = torch.hann_window(dims.n_fft, device=mel.device)
        spectrum = torch.stft(
            source[:, 0], dims.n_fft, dims.hop_len, window=window, return_complex=True
        )
        bins = self._filter(mel, torch.cat([spectrum.real, spectrum.imag], dim=1))
        n_rows = dims.n_fft // 2 + 1
        magnitudes = torch.exp(bins[:, :n_rows]).clamp(max=_LOUDEST)
        phases = torch.sin(bins[:, n_rows:])
        turned = torch.istft(
            torch.polar(magnitudes, phases), dims.n_fft, dims.hop_len, window=window
        )
        return turned.clamp(-dims.audio_limit, dims.audio_limit)

    def _filter(self, mel: Tensor, spectrum: Tensor) -> Tensor:
        """Log magnitudes and phases, [B, n_fft + 2, S / hop_len + 1]."""
        n_kernels = len(self.dims.resblock_kernel_sizes)
        hidden = self.conv_pre(mel)
        for i, up in enumerate(self.ups):
            hidden = up(functional.leaky_relu(hidden, self.dims.lrelu_slope))
            if i == len(self.ups) - 1:
                hidden = functional.pad(hidden, (1, 0), mode="reflect")
            hidden = hidden + self.source_resblocks[i](self.source_downs[i](spectrum))
            blocks = self.resblocks[i * n_kernels : (i + 1) * n_kernels]
            hidden = sum(block(hidden) for block in blocks) / n_kernels
        return self.conv_post(functional.leaky_relu(hidden, _LAST_SLOPE))


def _n_frames_seen(dims: HiftDims) -> int:
    """The reach of all filters on the longest way from a sample, each in its own resolution."""
    sources = zip(
        dims.source_resblock_kernel_sizes, dims.source_resblock_dilation_sizes, strict=True
    )
    kernels = zip(dims.resblock_kernel_sizes, dims.resblock_dilation_sizes, strict=True)
    reach_of_kernels = max(_reach(size, dilations) for size, dilations in kernels)
    rate, reach = 1, Fraction(_PRE_SIZE // 2)
    for factor, size, source in zip(
        dims.upsample_rates, dims.upsample_kernel_sizes, sources, strict=True
    ):
        reach += Fraction(size, 2 * factor * rate)
        rate *= factor
        reach_of_source = Fraction(_reach(*source) + 1, rate)  # 1 for getting to this resolution
        reach = max(reach, reach_of_source) + Fraction(reach_of_kernels, rate)
    reach += Fraction(_POST_SIZE // 2, rate)
    return ceil(reach + Fraction(2 * dims.n_fft, dims.samples_per_frame))  # there and back


def _reach(size: int, dilations: tuple[int, ...]) -> int:
    """Of a residual block, to each side: a plain convolution follows each dilated one."""
    return size // 2 * (sum(dilations) + len(dilations))


def _source_down(n_bins: int, width: int, rate: int) -> nn.Conv1d:
    """From the resolution of the spectrum to one that is `rate` times coarser."""
    if rate == 1:
        return nn.Conv1d(n_bins, width, 1)
    return nn.Conv1d(n_bins, width, rate * 2, rate, padding=rate // 2)


class _Snake(nn.Module):
    """x + sin(a x)^2 / a, with one a for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, hidden: Tensor) -> Tensor:
        alpha = self.alpha[:, None]
        sine = torch.sin(hidden * alpha)  # of large tensors, each pass over them counts
        return torch.addcmul(hidden, sine, sine * (alpha + _TINY).reciprocal())


class _ResBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, Snakes before both, each around a shortcut."""

    def __init__(self, channels: int, size: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_same_conv(channels, size, d) for d in dilations)
        self.convs2 = nn.ModuleList(_same_conv(channels, size, 1) for _ in dilations)
        self.activations1 = nn.ModuleList(_Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(_Snake(channels) for _ in dilations)

    def forward(self, hidden: Tensor) -> Tensor:
        steps = (self.activations1, self.convs1, self.activations2, self.convs2)
        for snake1, conv1, snake2, conv2 in zip(*steps, strict=True):
            hidden = hidden + conv2(snake2(conv1(snake1(hidden))))
        return hidden


def _same_conv(channels: int, size: int, dilation: int) -> NormedConv1d:
    return NormedConv1d(
        channels, channels, size, dilation=dilation, padding=(size - 1) * dilation // 2
    )


def _fold_weight_norm(
    module: nn.Module, tensors: dict[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """`tensors` with each weight_g and weight_v made into the weight they stand for.

    The norm runs over all but the first axis, also in transposed convolutions. Raises
    CheckpointError if a pair is incomplete or its shapes do not fit each other.
    """
    folded = dict(tensors)
    for name, part in module.named_modules():
        if not isinstance(part, (NormedConv1d, NormedConvTranspose1d)):
            continue
        if f"{name}.weight" in tensors:
            raise CheckpointError(f"{path}: unexpected key {name}.weight (not weight_g, weight_v)")
        for key in (f"{name}.weight_g", f"{name}.weight_v"):
            if key not in tensors:
                raise CheckpointError(f"{path}: missing key {key}")
        length, direction = folded.pop(f"{name}.weight_g"), folded.pop(f"{name}.weight_v")
        if direction.shape != part.weight.shape:
            shapes = f"expected {list(part.weight.shape)}, found {list(direction.shape)}"
            raise CheckpointError(f"{path}: {name}.weight_v: {shapes}")
        if length.shape != (expected := (direction.shape[0], 1, 1)):
            shapes = f"expected {list(expected)}, found {list(length.shape)}"
            raise CheckpointError(f"{path}: {name}.weight_g: {shapes}")
        # torch's own operator: another rounding of the weights is a pitch off by 1e-6, which adds
        # up over a block to phases that no longer match the reference numbers
        folded[f"{name}.weight"] = torch._weight_norm(direction.float(), length.float(), 0)
    return folded
