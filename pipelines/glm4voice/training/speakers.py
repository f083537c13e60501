"""More speakers than there are voices: the same sentence out of another throat.

`as_another` plays it a little faster or slower: rate, pitch and formants move together (speed
perturbation: Ko et al. 2015). `with_other_vowels` leaves rate and pitch alone and moves the
formants, each by itself: vocal tract length perturbation (Jaitly and Hinton 2013) with a bend at
every formant, since speakers differ in the shape of their throat as in its length.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

from pipelines.audio import MODEL_INPUT_RATE, Pcm

_STEPS = 40  # of the ratio: small numbers keep the resampling cheap
_FRAME, _HOP = 512, 128  # samples; Hann windows on the way in and out add up to _OVERLAP
_OVERLAP = 1.5
_ENVELOPE_S = 0.0018  # of the cepstrum: shorter than the period of a voice below 550 Hz
_QUIETEST = 1e-5  # magnitude
_FORMANTS_HZ = (500.0, 1600.0, 2700.0)  # where speakers have the first three, about
_FIRST_MOVES = 0.5  # as far as the others: children's and men's lie closer together
_CLOSEST_HZ = 250.0
_LARGEST_GAIN = 3.0  # nepers, 26 dB


def as_another(pcm: Pcm, rng: np.random.Generator, spread: float) -> Pcm:
    """`pcm`, float32 [T], at a speed that is drawn from 1 / (1 + spread) to 1 + spread.

    Fast and slow are drawn alike. Raises ValueError for a spread outside 0 to 0.5.
    """
    if not 0 <= spread <= 0.5:
        raise ValueError(f"spread must be 0 to 0.5, not {spread}")
    speed = math.exp(rng.uniform(-1, 1) * math.log1p(spread))
    n_in = round(speed * _STEPS)
    if n_in == _STEPS:
        return pcm
    played: Pcm = signal.resample_poly(pcm, _STEPS, n_in).astype(np.float32)
    return played


def with_other_vowels(pcm: Pcm, rng: np.random.Generator, spread: float) -> Pcm:
    """`pcm`, float32 [T] at 16 kHz, with its second and third formants at other frequencies.

    Each is moved by a factor that is drawn from 1 / (1 + spread) to 1 + spread, the first formant
    half as far, whatever lies between with them. Rate and pitch stay. Raises ValueError for a
    spread outside 0 to 0.5.
    """
    if not 0 <= spread <= 0.5:
        raise ValueError(f"spread must be 0 to 0.5, not {spread}")
    factors = np.exp(rng.uniform(-1, 1, len(_FORMANTS_HZ)) * math.log1p(spread))
    factors[0] **= _FIRST_MOVES
    if not spread:
        return pcm
    return _with_formants_moved(pcm, factors)


def _with_formants_moved(pcm: Pcm, factors: NDArray[np.float64]) -> Pcm:
    """`pcm` with its spectral envelope bent so that each formant lies at its factor of before."""
    window = signal.get_window("hann", _FRAME).astype(np.float32)
    n_frames = -(-len(pcm) // _HOP) + _FRAME // _HOP
    padded = np.pad(pcm, (_FRAME, n_frames * _HOP - len(pcm)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP][: n_frames + 1]
    spectra = fft.rfft(frames * window)
    envelopes = _envelopes(np.abs(spectra))
    below, weight = _bend(factors)
    bent = envelopes[:, below] * (1 - weight) + envelopes[:, below + 1] * weight
    gains = np.exp(np.clip(bent - envelopes, -_LARGEST_GAIN, _LARGEST_GAIN))
    moved = fft.irfft(spectra * gains, _FRAME) * (window / np.float32(_OVERLAP))
    sound = np.zeros((len(moved) + _FRAME // _HOP - 1) * _HOP, dtype=np.float32)
    for part in range(_FRAME // _HOP):
        piece = moved[:, part * _HOP : (part + 1) * _HOP].reshape(-1)
        sound[part * _HOP : part * _HOP + len(piece)] += piece
    return sound[_FRAME : _FRAME + len(pcm)]


def _envelopes(magnitudes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The natural logarithm of the spectral envelope of each frame, by its cepstrum."""
    cepstra = fft.irfft(np.log(np.maximum(magnitudes, np.float32(_QUIETEST))), _FRAME)
    n_kept = round(_ENVELOPE_S * MODEL_INPUT_RATE)
    cepstra[:, n_kept + 1 : -n_kept] = 0
    envelopes: NDArray[np.float32] = fft.rfft(cepstra).real
    return envelopes


def _bend(factors: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For each bin, between which bins its new envelope lay, and how far from the lower one."""
    nyquist_hz = MODEL_INPUT_RATE / 2
    old_hz = np.array([0.0, *_FORMANTS_HZ, nyquist_hz])
    new_hz = np.array([0.0, *(factors * _FORMANTS_HZ), nyquist_hz])
    for place in range(1, len(new_hz)):  # formants stay in their order
        new_hz[place] = max(new_hz[place], new_hz[place - 1] + _CLOSEST_HZ)
    bins = np.linspace(0, nyquist_hz, _FRAME // 2 + 1)
    came_from = np.interp(bins, new_hz, old_hz) / nyquist_hz * (_FRAME // 2)
    below = np.minimum(came_from.astype(np.intp), _FRAME // 2 - 1)
    return below, (came_from - below).astype(np.float32)
