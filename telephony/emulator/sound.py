"""Sound for the line: speech, sound files, noise and silence as whole mu-law frames.

Speech and files take milliseconds of CPU: make them in a thread, before the call.
"""

import wave
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.audio import PCM16_BYTES, SUPPORTED_RATES, float_to_pcm16, pcm16_to_float, resample
from pipelines.espeak import DEFAULT_PITCH, DEFAULT_RATE_WPM, speak
from telephony.g711 import (
    FRAME_BYTES,
    FRAME_MS,
    SAMPLE_RATE,
    SILENCE,
    pad_to_frames,
    pcm16_to_mulaw,
)

SPEECH_LEVEL_DBFS = -20.0
_LONGEST_FILE_S = 300


class SoundFileError(Exception):
    """A sound file that cannot be used; the text names it and says why."""


@lru_cache(maxsize=256)
def spoken(
    text: str,
    voice: str = "en-us",
    rate_wpm: int = DEFAULT_RATE_WPM,
    pitch: int = DEFAULT_PITCH,
    level_dbfs: float = SPEECH_LEVEL_DBFS,
) -> bytes:
    """Speak `text` into the line at a given RMS level; silence around it is cut off.

    Raises pipelines.espeak.SpeechSynthesisError.
    """
    pcm, sample_rate = speak(text, voice, rate_wpm, pitch)
    return _to_line(_levelled(_trimmed(pcm), level_dbfs), sample_rate)


def from_file(path: Path) -> bytes:
    """A WAV file of at most five minutes as it would come through a telephone.

    Several channels are mixed to one. Raises SoundFileError.
    """
    try:
        return from_wav(path.read_bytes(), name=str(path))
    except OSError as exc:
        raise SoundFileError(f"{path}: cannot be read: {exc.strerror}") from exc


def from_wav(wav: bytes, *, name: str) -> bytes:
    """The same for the bytes of a WAV file; `name` is what an error calls it."""
    try:
        with wave.open(BytesIO(wav)) as reader:
            sample_rate, n_channels = reader.getframerate(), reader.getnchannels()
            if reader.getsampwidth() != PCM16_BYTES or sample_rate not in SUPPORTED_RATES:
                raise SoundFileError(f"{name}: is not 16 bit at one of {SUPPORTED_RATES} Hz")
            n_frames = reader.getnframes()
            if n_frames > _LONGEST_FILE_S * sample_rate:
                raise SoundFileError(f"{name}: is longer than {_LONGEST_FILE_S} s")
            pcm16 = reader.readframes(n_frames)
            if len(pcm16) < n_frames * n_channels * PCM16_BYTES:
                raise SoundFileError(f"{name}: is not a whole WAV file: its end is missing")
    except (wave.Error, EOFError) as exc:
        raise SoundFileError(f"{name}: is not a WAV file: {exc}") from exc
    samples = pcm16_to_float(pcm16).reshape(-1, n_channels)
    return _to_line(samples.mean(axis=1), sample_rate)


def noise(duration_ms: int, level_dbfs: float, seed: int = 0) -> bytes:
    """Gaussian noise through a low pass, as from a street or a fan; the same for the same seed."""
    n_samples = duration_ms * SAMPLE_RATE // 1000
    white = np.random.default_rng(seed).standard_normal(n_samples + 8)
    pcm = np.convolve(white, np.ones(9) / 9, mode="valid").astype(np.float32)
    return _to_line(_levelled(pcm, level_dbfs), SAMPLE_RATE)


def tone(frequency_hz: float, *, duration_ms: int, level_dbfs: float) -> bytes:
    """A sine, such as the beep of an answering machine."""
    times = np.arange(duration_ms * SAMPLE_RATE // 1000) / SAMPLE_RATE
    pcm = np.sin(2 * np.pi * frequency_hz * times).astype(np.float32)
    return _to_line(_levelled(pcm, level_dbfs), SAMPLE_RATE)


def silence(duration_ms: int) -> bytes:
    """Digital silence."""
    return bytes([SILENCE]) * (duration_ms // FRAME_MS * FRAME_BYTES)


def _to_line(pcm: NDArray[np.float32], sample_rate: int) -> bytes:
    narrow = pcm if sample_rate == SAMPLE_RATE else resample(pcm, sample_rate, SAMPLE_RATE)
    return pad_to_frames(pcm16_to_mulaw(float_to_pcm16(narrow)))


def _trimmed(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    loud = np.flatnonzero(np.abs(pcm) > 0.003)
    return pcm[loud[0] : loud[-1] + 1] if len(loud) else pcm[:0]


def _levelled(pcm: NDArray[np.float32], level_dbfs: float) -> NDArray[np.float32]:
    rms = float(np.sqrt(np.mean(np.square(pcm)))) if len(pcm) else 0.0
    gain = 10 ** (level_dbfs / 20) / rms if rms else 0.0
    levelled: NDArray[np.float32] = np.clip(pcm * np.float32(gain), -1.0, 1.0)
    return levelled
