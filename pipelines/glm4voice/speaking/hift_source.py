"""What the vocoder filters: the pitch of each mel frame, and a buzz and hiss made from it.

Phases and noise are handed in; nothing here draws a number. All of it is float32 at least: the
phase of a long block is a sum over many thousand samples.
"""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.glm4voice.speaking.config import HiftDims

_N_CONVOLUTIONS = 5
_F0_SIZE = 3
_UNVOICED = 3  # hiss is this much softer than the buzz


class NormedConv1d(nn.Conv1d):
    """A convolution whose file holds weight_g and weight_v instead of weight."""


class NormedConvTranspose1d(nn.ConvTranspose1d):
    """A transposed convolution whose file holds weight_g and weight_v instead of weight."""


class F0Predictor(nn.Module):
    """The pitch of each mel frame in Hz."""

    n_frames_seen = _N_CONVOLUTIONS * (_F0_SIZE // 2)  # to each side

    def __init__(self, dims: HiftDims) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = dims.in_channels
        for _ in range(_N_CONVOLUTIONS):
            layers.extend(
                (NormedConv1d(n_in, dims.f0_channels, _F0_SIZE, padding=_F0_SIZE // 2), nn.ELU())
            )
            n_in = dims.f0_channels
        self.condnet = nn.Sequential(*layers)
        self.classifier = nn.Linear(dims.f0_channels, 1)

    def forward(self, mel: Tensor) -> Tensor:
        """[B, M, T] to [B, T]."""
        return self.classifier(self.condnet(mel).transpose(1, 2)).squeeze(-1).abs()


@dataclass(frozen=True, slots=True)
class Chance:
    """The numbers an excitation depends on besides the pitch.

    `phases` [H] in radians, one for the base and each harmonic, the base's being 0; `noise` [H, S],
    standard normal, one for each of S samples, or [1, S]: what they all add up to is normal as
    well, and one row of it costs a tenth. Both may have a leading batch axis.
    """

    phases: Tensor
    noise: Tensor

    @classmethod
    def none(cls, n_rows: int, n_samples: int) -> "Chance":
        """Harmonics in phase and no noise."""
        return cls(torch.zeros(n_rows), torch.zeros(n_rows, n_samples))

    @classmethod
    def drawn(cls, n_rows: int, n_samples: int, generator: torch.Generator) -> "Chance":
        """Drawn in the order of the original, so that its seed gives its numbers."""
        phases = torch.rand(1, n_rows, 1, generator=generator).reshape(-1) * (2 * pi) - pi
        phases[0] = 0
        noise = torch.randn(1, n_rows, n_samples, generator=generator)[0]
        return cls(phases, noise)


class SourceModule(nn.Module):
    """Sines at the multiples of the pitch where there is one, noise everywhere, mixed to one."""

    def __init__(self, dims: HiftDims) -> None:
        super().__init__()
        self._dims = dims
        self.l_linear = nn.Linear(dims.nb_harmonics + 1, 1)

    @property
    def n_rows(self) -> int:
        """The base and its harmonics."""
        return self._dims.nb_harmonics + 1

    def forward(self, f0: Tensor, chance: Chance) -> Tensor:
        """Pitch [1, T] in Hz to the excitation [1, 1, S], S = T * samples_per_frame."""
        dims = self._dims
        pitch = f0.repeat_interleave(dims.samples_per_frame, dim=-1)[:, None]
        cycles = torch.cumsum(pitch * self._multiples(f0) / dims.sampling_rate, dim=-1) % 1
        return self._mixed(pitch, cycles, chance)

    def carried_on(self, f0: Tensor, chance: Chance, cycles: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, from anywhere in a reply: the base has made `cycles` [B] float64 so far.

        Pitch [B, T] to the excitation [B, 1, S] and the cycles [B, T + 1], below 1, at which each
        frame begins and the last one ends; they are summed up by frames, in float64.
        """
        n_samples, rate = self._dims.samples_per_frame, self._dims.sampling_rate
        step = f0.double() / rate
        begins = functional.pad(torch.cumsum(step * n_samples, dim=-1), (1, 0)) + cycles[:, None]
        within = torch.arange(1, n_samples + 1, device=f0.device)
        base = (begins[:, :-1, None] + step[:, :, None] * within).flatten(1) % 1
        pitch = f0.repeat_interleave(n_samples, dim=-1)[:, None]
        multiples = base[:, None].to(f0.dtype) * self._multiples(f0) % 1
        return self._mixed(pitch, multiples, chance), begins % 1

    def _multiples(self, f0: Tensor) -> Tensor:
        """The base and its harmonics, [H, 1]."""
        return torch.arange(1, self.n_rows + 1, device=f0.device, dtype=f0.dtype)[:, None]

    def _mixed(self, pitch: Tensor, cycles: Tensor, chance: Chance) -> Tensor:
        """Pitch [B, 1, S] and cycles [B, H, S] to the excitation [B, 1, S]."""
        dims = self._dims
        phases = chance.phases.to(pitch.device)[..., None]
        sines = dims.nsf_alpha * torch.sin(2 * pi * cycles + phases)

        voiced = pitch > dims.nsf_voiced_threshold
        noise_level = torch.where(voiced, dims.nsf_sigma, dims.nsf_alpha / _UNVOICED)
        noise = noise_level * chance.noise.to(pitch.device)
        if chance.noise.shape[-2] == self.n_rows:
            return torch.tanh(self._sum(sines * voiced + noise))
        # independent normal numbers: the weights' squares add up to the square of the sum's width
        return torch.tanh(self._sum(sines * voiced) + self.l_linear.weight.norm() * noise)

    def _sum(self, rows: Tensor) -> Tensor:
        """[B, H, S] to [B, 1, S]."""
        return functional.conv1d(rows, self.l_linear.weight[:, :, None], self.l_linear.bias)
