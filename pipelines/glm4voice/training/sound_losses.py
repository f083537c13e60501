"""How far a vocoder's sound is from the true one: spectra at three resolutions, lines, the mel.

Yamamoto et al. 2020 (spectral convergence and log magnitudes), Kong et al. 2020 (mel).
"""

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.audio import MODEL_OUTPUT_RATE
from pipelines.glm4voice.training.answer_sounds import log_mel

_RESOLUTIONS = ((512, 128), (1024, 256), (2048, 512))  # FFT and hop, samples
# Of single harmonics: windows of several periods, at hops that are no multiple of a mel frame. A
# buzz at the rate of frames is the same in all other windows, and was not told from a pitch.
_LINE_RESOLUTIONS = ((2048, 331), (4096, 457))
_LINES_HZ = 1200.0  # above, harmonics of a moving pitch run into each other
_LEAST_LINE = 1e-2
_TINY = 1e-7
_LEAST_MAGNITUDE = 1e-4


def spectral_loss(made: Tensor, true: Tensor) -> Tensor:
    """Sound [B, S] against sound [B, S]: a mean over resolutions."""
    losses = [_at_resolution(made, true, n_fft, hop) for n_fft, hop in _RESOLUTIONS]
    return torch.stack(losses).mean()


def line_loss(made: Tensor, true: Tensor) -> Tensor:
    """Sound [B, S] against sound [B, S]: how far the harmonics of its lower part are, that is its
    pitch; a mean over resolutions."""
    losses = [_lines_at(made, true, n_fft, hop) for n_fft, hop in _LINE_RESOLUTIONS]
    return torch.stack(losses).mean()


def mel_loss(made: Tensor, true_mel: Tensor) -> Tensor:
    """Sound [B, T * HOP] against log-mel [B, M, T]."""
    return functional.l1_loss(log_mel(made), true_mel)


def _at_resolution(made: Tensor, true: Tensor, n_fft: int, hop: int) -> Tensor:
    window = torch.hann_window(n_fft, device=made.device)
    one, other = (_magnitudes(pcm, n_fft, hop, window) for pcm in (made, true))
    convergence = torch.linalg.norm(other - one) / torch.linalg.norm(other).clamp(min=_TINY)
    logs = (one.clamp(min=_LEAST_MAGNITUDE).log(), other.clamp(min=_LEAST_MAGNITUDE).log())
    return convergence + functional.l1_loss(*logs)


def _lines_at(made: Tensor, true: Tensor, n_fft: int, hop: int) -> Tensor:
    window = torch.hann_window(n_fft, device=made.device)
    n_bins = int(n_fft * _LINES_HZ / MODEL_OUTPUT_RATE)
    one, other = (_magnitudes(pcm, n_fft, hop, window)[:, :n_bins] for pcm in (made, true))
    convergence = (one - other).abs().sum() / other.abs().sum().clamp(min=_TINY)
    logs = (one.clamp(min=_LEAST_LINE).log(), other.clamp(min=_LEAST_LINE).log())
    return convergence + functional.l1_loss(*logs)


def _magnitudes(pcm: Tensor, n_fft: int, hop: int, window: Tensor) -> Tensor:
    spectrum = torch.stft(pcm, n_fft, hop, window=window, return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square() + _TINY).sqrt()
