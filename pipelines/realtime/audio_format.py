"""Sound on the wire: base64 of a session's format to the model's samples, and back."""

import base64
import binascii

from pipelines.audio import (
    LINE_RATE,
    PCM16_BYTES,
    Pcm,
    StreamingResampler,
    float_to_pcm16,
    mulaw_to_pcm16,
    pcm16_to_float,
    pcm16_to_mulaw,
)
from pipelines.realtime.protocol import ClientMistake
from pipelines.realtime.session_config import WireFormat
from pipelines.realtime.wire_types import MulawFormat


def rate_of(wire_format: WireFormat) -> int:
    """Samples a second of a format."""
    return LINE_RATE if isinstance(wire_format, MulawFormat) else wire_format.rate


class SoundDecoder:
    """The caller's stream: pieces of base64 to float32 at `to_rate`, as one continuous signal."""

    def __init__(self, wire_format: WireFormat, to_rate: int) -> None:
        self._is_mulaw = isinstance(wire_format, MulawFormat)
        self._resampler = StreamingResampler(rate_of(wire_format), to_rate)

    def decode(self, text: str) -> Pcm:
        """One `input_audio_buffer.append`. Raises ClientMistake; the stream is then unharmed."""
        try:
            sound = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):  # ValueError: letters outside ASCII
            raise ClientMistake("'audio' is not valid base64", param="audio") from None
        if not self._is_mulaw and len(sound) % PCM16_BYTES:
            raise ClientMistake("'audio' ends within a 16-bit sample", param="audio")
        pcm16 = mulaw_to_pcm16(sound) if self._is_mulaw else sound
        return self._resampler.process(pcm16_to_float(pcm16))

    def reset(self) -> None:
        """The next piece begins a new signal."""
        self._resampler.reset()


class SoundEncoder:
    """One reply's stream: float32 at `from_rate` to base64 of a format."""

    def __init__(self, from_rate: int, wire_format: WireFormat) -> None:
        self._is_mulaw = isinstance(wire_format, MulawFormat)
        self._resampler = StreamingResampler(from_rate, rate_of(wire_format))

    def encode(self, pcm: Pcm) -> tuple[str, int]:
        """The sound that is due, and its number of samples on the wire; may be none."""
        return self._wire(self._resampler.process(pcm))

    def flush(self) -> tuple[str, int]:
        """The few milliseconds held back."""
        return self._wire(self._resampler.flush())

    def _wire(self, pcm: Pcm) -> tuple[str, int]:
        pcm16 = float_to_pcm16(pcm)
        sound = pcm16_to_mulaw(pcm16) if self._is_mulaw else pcm16
        return base64.b64encode(sound).decode("ascii"), len(pcm)
