"""The answering voice as the decoder's stages see it: sound, mel, pitch, and who is tested."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipelines.audio import MODEL_OUTPUT_RATE
from pipelines.glm4voice.hearing.mel import slaney_filters
from pipelines.glm4voice.training.corpus import Corpus, Utterance
from pipelines.pitch import track_pitch

N_MELS = 80
HOP = 256  # samples: a mel frame
_N_FFT = 1024
_TOP_HZ = 8000.0
_LEAST = 1e-5
_TESTED_ONE_IN = 10  # of the sentences that nobody asks for


def split_answers(corpus: Corpus, n_tested: int) -> tuple[list[Utterance], list[Utterance]]:
    """What is learned from, and sentences that are not, at most `n_tested`.

    A corpus without sentences to read has none to spare: then answers are tested that were learned.
    """
    spare = [u for u in corpus.answers if u.intent == "reading"][::_TESTED_ONE_IN][:n_tested]
    if not spare:
        step = max(1, len(corpus.answers) // n_tested)
        return list(corpus.answers), list(corpus.answers[::step][:n_tested])
    texts = {u.text for u in spare}  # in no take and no style
    return [u for u in corpus.answers if u.text not in texts], spare


def whole_frames(corpus: Corpus, utterance: Utterance, n_frames: int | None = None) -> Tensor:
    """The sound of an utterance [T * HOP], filled up with silence, or cut, to `n_frames`."""
    pcm = torch.from_numpy(corpus.pcm(utterance))
    n = -(-len(pcm) // HOP) if n_frames is None else n_frames
    return functional.pad(pcm[: n * HOP], (0, max(0, n * HOP - len(pcm))))


def pitch_of(pcm: Tensor) -> Tensor:
    """The pitch in Hz of the mel frames of sound [T * HOP], 0 where unvoiced: [T]."""
    n_frames = len(pcm) // HOP
    pitch = track_pitch(pcm.numpy(), sample_rate=MODEL_OUTPUT_RATE, hop=HOP, n_frames=n_frames)
    return torch.from_numpy(pitch)


def log_mel(pcm: Tensor) -> Tensor:
    """Natural logarithm of mel magnitudes, [B, T * HOP] to [B, N_MELS, T]: those of HiFi-GAN.

    Frame i is centred at (i + 0.5) * HOP. Gradients flow.
    """
    reach = (_N_FFT - HOP) // 2
    extended = functional.pad(pcm[:, None], (reach, reach), mode="reflect")[:, 0]
    window = _window().to(pcm.device)
    spectrum = torch.stft(extended, _N_FFT, HOP, window=window, center=False, return_complex=True)
    magnitudes = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
    return (_filters().to(pcm.device) @ magnitudes).clamp(min=_LEAST).log()


def mel_distance(one: Tensor, other: Tensor) -> float:
    """Mean absolute difference of log-mels [M, T] of equal length, in nepers."""
    return float((one - other).abs().mean())


def cepstral_distance_db(one: Tensor, other: Tensor, n_coefficients: int = 24) -> float:
    """Mel-cepstral distance of log-mels [M, T], frame by frame, without the loudness (Kubichek
    1993)."""
    table = _cosines(one.shape[0], n_coefficients).to(one)
    off = (table @ (one - other)).square().sum(dim=0)
    return float(10 / np.log(10) * (2 * off).sqrt().mean())


def mean(figures: Sequence[float]) -> float:
    """The mean, NaN of nothing."""
    return float(np.mean(figures)) if figures else float("nan")


@cache
def _window() -> Tensor:
    return torch.hann_window(_N_FFT)


@cache
def _filters() -> Tensor:
    filters = slaney_filters(
        sample_rate=MODEL_OUTPUT_RATE, n_fft=_N_FFT, n_mels=N_MELS, top_hz=_TOP_HZ
    )
    return filters.float()


@cache
def _cosines(n_mels: int, n_coefficients: int) -> Tensor:
    """Log magnitudes [M] to the cepstrum of the power spectrum, coefficients 1 and up."""
    bands = (torch.arange(n_mels) + 0.5) * (torch.pi / n_mels)
    orders = torch.arange(1, n_coefficients + 1)
    return torch.cos(orders[:, None] * bands) * (2 / n_mels)
