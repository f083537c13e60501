"""Both sides of a call, frame by frame, on the call's clock."""

import wave
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from telephony.g711 import FRAME_BYTES, FRAME_MS, SAMPLE_RATE, mulaw_to_pcm16

DEFAULT_LIMIT_MS = 10 * 60_000


class Recording:
    """What the caller said and heard, as two tracks of equal length.

    Kept in memory, 16 kB a second, up to `limit_ms`; what comes later is not recorded and
    `complete` turns false.
    """

    def __init__(self, limit_ms: int = DEFAULT_LIMIT_MS) -> None:
        self._limit_bytes = limit_ms // FRAME_MS * FRAME_BYTES
        self._said = bytearray()
        self._heard = bytearray()
        self.complete = True

    def add(self, said_mulaw: bytes, heard_mulaw: bytes) -> None:
        """Add the same 20 ms of both tracks."""
        if len(self._said) >= self._limit_bytes:
            self.complete = False
            return
        self._said += said_mulaw
        self._heard += heard_mulaw

    @property
    def said_mulaw(self) -> bytes:
        """The caller's track."""
        return bytes(self._said)

    @property
    def heard_mulaw(self) -> bytes:
        """The bot's track, as the caller heard it."""
        return bytes(self._heard)

    def wav(self, n_channels: int) -> bytes:
        """A WAV file of 8 kHz: the caller's track and the bot's, or one that has both."""
        samples = np.stack([_samples(self.said_mulaw), _samples(self.heard_mulaw)], axis=1)
        if n_channels == 1:
            mixed = samples.sum(axis=1, dtype=np.int32)
            samples = np.clip(mixed, -32768, 32767).astype("<i2")
        return _wav(samples, n_channels)

    def said_wav(self, start_ms: int, end_ms: int) -> bytes:
        """A WAV file of 8 kHz of what the caller said between two moments of the call."""
        start, end = (ms // FRAME_MS * FRAME_BYTES for ms in (start_ms, end_ms))
        return _wav(_samples(self.said_mulaw[start:end]), n_channels=1)


def _samples(mulaw: bytes) -> NDArray[np.int16]:
    return np.frombuffer(mulaw_to_pcm16(mulaw), dtype="<i2")


def _wav(samples: NDArray[np.int16], n_channels: int) -> bytes:
    file = BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(n_channels)
        writer.setsampwidth(samples.itemsize)
        writer.setframerate(SAMPLE_RATE)
        writer.writeframes(samples.tobytes())
    return file.getvalue()
