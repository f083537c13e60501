"""Sample rates, sample formats and the streaming resampler: what all rooms with sound share."""

import warnings
from dataclasses import dataclass, field
from functools import cache
from math import gcd
from typing import Final

import numpy as np
from numpy.typing import NDArray

with warnings.catch_warnings():
    # Below Python 3.13 the standard library's module warns of its own removal; from 3.13 on the
    # same name comes from audioop-lts and is silent.
    warnings.filterwarnings(
        "ignore", message="'audioop' is deprecated", category=DeprecationWarning
    )
    import audioop

Pcm = NDArray[np.float32]  # mono, in [-1, 1], shape [T]


def exact_div(a: int, b: int) -> int:
    """Divide where a remainder would be a mistake in the arithmetic of rates."""
    quotient, remainder = divmod(a, b)
    if remainder:
        raise ValueError(f"{a} is not a multiple of {b}")
    return quotient


LINE_RATE: Final = 8000  # the telephone line, mu-law
MODEL_INPUT_RATE: Final = 16_000  # what the speech tokenizer hears
MODEL_OUTPUT_RATE: Final = 22_050  # what the vocoder makes
REALTIME_RATE: Final = 24_000  # what stock Realtime clients expect
SUPPORTED_RATES: Final = (LINE_RATE, MODEL_INPUT_RATE, MODEL_OUTPUT_RATE, REALTIME_RATE)

FRAME_MS: Final = 20
LINE_FRAME_SAMPLES: Final = exact_div(LINE_RATE * FRAME_MS, 1000)  # 160
MODEL_INPUT_FRAME_SAMPLES: Final = exact_div(MODEL_INPUT_RATE * FRAME_MS, 1000)  # 320
MODEL_OUTPUT_FRAME_SAMPLES: Final = exact_div(MODEL_OUTPUT_RATE * FRAME_MS, 1000)  # 441

SPEECH_TOKEN_MS: Final = 80  # 12.5 tokens a second
MODEL_INPUT_SAMPLES_PER_TOKEN: Final = exact_div(MODEL_INPUT_RATE * SPEECH_TOKEN_MS, 1000)  # 1280
MODEL_OUTPUT_SAMPLES_PER_TOKEN: Final = exact_div(MODEL_OUTPUT_RATE * SPEECH_TOKEN_MS, 1000)  # 1764

PCM16_SCALE: Final = 32_768
PCM16_BYTES: Final = 2  # per sample
NO_SOUND: Final[Pcm] = np.zeros(0, dtype=np.float32)


def pcm16_to_float(pcm16: bytes) -> Pcm:
    """Mono little-endian s16 to float32 [T] in [-1, 1). Raises ValueError on half a sample."""
    return np.frombuffer(pcm16, dtype="<i2").astype(np.float32) / np.float32(PCM16_SCALE)


def float_to_pcm16(pcm: Pcm) -> bytes:
    """Float32 [T] to mono little-endian s16, rounded to nearest; louder than full scale clips."""
    scaled = np.rint(pcm * np.float32(PCM16_SCALE))
    np.minimum(np.maximum(scaled, -PCM16_SCALE, out=scaled), PCM16_SCALE - 1, out=scaled)
    pcm16: bytes = scaled.astype("<i2").tobytes()
    return pcm16


def mulaw_to_pcm16(mulaw: bytes) -> bytes:
    """Expand G.711 mu-law to little-endian s16, two bytes for each one."""
    return audioop.ulaw2lin(mulaw, PCM16_BYTES)


def pcm16_to_mulaw(pcm16: bytes) -> bytes:
    """Compress little-endian s16 to G.711 mu-law. Raises ValueError on half a sample."""
    if len(pcm16) % PCM16_BYTES:
        raise ValueError(f"pcm16 has {len(pcm16)} bytes: not a whole number of samples")
    return audioop.lin2ulaw(pcm16, PCM16_BYTES)


# The anti-image and anti-alias filter is placed relative to the lower of the two Nyquist
# frequencies: flat (within 0.01 dB) to 0.85 of it, below -75 dB from 1.0 of it on, transition
# between the two. At 8 kHz that is flat to 3.4 kHz and silent from 4.0 kHz. Nothing from the stop
# band can fold or mirror into any band, so the figures hold for every tone, not only for a few.
_PASS_EDGE: Final = 0.85
_ATTENUATION_DB: Final = 80.0
_DELAY_SAMPLES: Final = 36  # half the filter, in samples of the slower side: 4.5 ms at 8 kHz
_KEPT_FRAMES: Final = 8
_KEPT_OUTPUTS: Final = 480  # 20 ms at the highest rate
_PIECE_SAMPLES: Final = 4096  # a long input is worked through in pieces: bounded memory


@dataclass(frozen=True, slots=True)
class _Polyphase:
    """The filter of one pair of rates, cut into phases in the order in which outputs use them."""

    up: int  # L: outputs per period
    down: int  # M: inputs per period
    delay: int  # group delay in output samples
    slack: int  # an output falls due with the last input of its share: it may lie so far back
    taps: Pcm  # [L, n_taps]; row k % L makes output k
    ends: NDArray[np.intp]  # [L]; output k's newest input sample, within its period
    frames: dict[tuple[int, int, int], tuple[NDArray[np.intp], Pcm]] = field(default_factory=dict)

    def dots(self, n_in: int, first: int, last: int) -> tuple[NDArray[np.intp], Pcm]:
        """For the outputs `first` to `last` of a period of which `n_in` inputs are history.

        Returns where each one's window starts [N], and its taps [N, n_taps]. Calls with frames of
        one size ask for the same again and again: a few answers are kept.
        """
        known = self.frames.get((n_in, first, last))
        if known is not None:
            return known
        periods, rows = np.divmod(np.arange(first, last), self.up)
        starts = self.ends[rows] + periods * self.down - n_in + self.slack
        answer = starts, self.taps[rows]
        if len(self.frames) < _KEPT_FRAMES and last - first <= _KEPT_OUTPUTS:
            self.frames[(n_in, first, last)] = answer
        return answer


def _low_pass(n_taps: int, edge: float) -> NDArray[np.float64]:
    """A windowed sinc, float64 [n_taps], whose edge is a share of the Nyquist frequency.

    The window is Kaiser's (1974), whose formula tells its shape from the attenuation. It is what
    scipy.signal.firwin makes, without half a second of imports in each process.
    """
    shape = 0.1102 * (_ATTENUATION_DB - 8.7)
    places = np.arange(n_taps) - (n_taps - 1) / 2
    taps: NDArray[np.float64] = np.sinc(edge * places) * np.kaiser(n_taps, shape)
    taps /= taps.sum()
    return taps


@cache
def _polyphase(from_rate: int, to_rate: int) -> _Polyphase:
    divisor = gcd(from_rate, to_rate)
    up, down = to_rate // divisor, from_rate // divisor
    slower = min(from_rate, to_rate)
    delay = _DELAY_SAMPLES * to_rate // slower  # a whole number of outputs, so none is fractional
    n_prototype = 2 * delay * down + 1
    edge_hz = slower / 2 * (1 + _PASS_EDGE) / 2
    prototype = up * _low_pass(n_prototype, 2 * edge_hz / (from_rate * up))
    n_taps = -(-n_prototype // up)
    padded = np.zeros(n_taps * up)
    padded[:n_prototype] = prototype
    phases = padded.reshape(n_taps, up).T[:, ::-1]  # [L, n_taps], oldest input first
    order = np.arange(up) * down
    return _Polyphase(
        up=up,
        down=down,
        delay=delay,
        slack=down // up + 1,
        taps=np.ascontiguousarray(phases[order % up], dtype=np.float32),
        ends=(order // up).astype(np.intp),
    )


class StreamingResampler:
    """Converts one mono stream between two of `SUPPORTED_RATES`, piece by piece.

    After `n` input samples exactly `n * to_rate // from_rate` outputs have been given, so 20 ms in
    is 20 ms out, without drift at any ratio. Output lags the input by the group delay of a
    linear-phase filter, `delay_samples` outputs (4.5 ms with a rate of 8 kHz on either side, less
    between faster rates); the lag is kept, not compensated. Each output is one dot product of
    fixed length, so any cutting of the input gives the same floats.

    The filter is shared by all streams of the process; a stream holds a few hundred samples.
    Equal rates pass through unchanged with no delay.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        for rate in (from_rate, to_rate):
            if rate not in SUPPORTED_RATES:
                raise ValueError(f"sample rate {rate} is not one of {SUPPORTED_RATES}")
        self.from_rate = from_rate
        self.to_rate = to_rate
        self._filter = _polyphase(from_rate, to_rate) if from_rate != to_rate else None
        self.reset()

    @property
    def delay_samples(self) -> int:
        """Group delay in output samples."""
        return self._filter.delay if self._filter else 0

    @property
    def delay_ms(self) -> float:
        """Group delay in milliseconds, at most 5."""
        return 1000 * self.delay_samples / self.to_rate

    def reset(self) -> None:
        """Forget the stream: the next sample is the first."""
        if self._filter is None:
            return
        self._n_in = 0  # inputs and outputs since the period began; both start over with it
        self._n_out = 0
        n_history = self._filter.taps.shape[1] - 1 + self._filter.slack
        self._history = np.zeros(n_history, dtype=np.float32)

    def process(self, pcm: Pcm) -> Pcm:
        """Take samples [T] of any number, none included; return those that are due."""
        if self._filter is None:
            return pcm
        if len(pcm) <= _PIECE_SAMPLES:
            return self._step(pcm, self._filter)
        pieces = range(0, len(pcm), _PIECE_SAMPLES)
        return np.concatenate(
            [self._step(pcm[start : start + _PIECE_SAMPLES], self._filter) for start in pieces]
        )

    def _step(self, pcm: Pcm, polyphase: _Polyphase) -> Pcm:
        heard = np.concatenate((self._history, pcm), dtype=np.float32)
        n_in = self._n_in + len(pcm)
        n_out = n_in * polyphase.up // polyphase.down
        resampled = NO_SOUND
        if n_out > self._n_out:
            starts, taps = polyphase.dots(self._n_in, self._n_out, n_out)
            n_taps, step = taps.shape[1], heard.itemsize
            shape = (len(heard) - n_taps + 1, n_taps)
            windows: Pcm = np.ndarray(shape, np.float32, heard.data, strides=(step, step))
            resampled = np.vecdot(windows[starts], taps)
        self._history = heard[len(pcm) :]
        periods_done = n_in // polyphase.down
        self._n_in = n_in - periods_done * polyphase.down
        self._n_out = n_out - periods_done * polyphase.up
        return resampled

    def flush(self) -> Pcm:
        """Return the `delay_samples` held back, as if silence followed, and reset."""
        if self._filter is None:
            return NO_SOUND
        n_zeros = -(-self.delay_samples * self._filter.down // self._filter.up)
        tail = self.process(np.zeros(n_zeros, dtype=np.float32))[: self.delay_samples]
        self.reset()
        return tail


def resample(pcm: Pcm, from_rate: int, to_rate: int) -> Pcm:
    """Convert a whole signal [T], aligned with its source: the group delay is trimmed."""
    resampler = StreamingResampler(from_rate, to_rate)
    resampled = np.concatenate((resampler.process(pcm), resampler.flush()))
    return resampled[resampler.delay_samples :]
