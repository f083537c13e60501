"""G.711 mu-law as the phone line carries it: 8 kHz, mono, one byte a sample, 20 ms a frame."""

import warnings

with warnings.catch_warnings():
    # Below Python 3.13 the standard library's module warns of its own removal; from 3.13 on the
    # same name comes from audioop-lts and is silent.
    warnings.filterwarnings(
        "ignore", message="'audioop' is deprecated", category=DeprecationWarning
    )
    import audioop

__all__ = [
    "FRAME_BYTES",
    "FRAME_MS",
    "SAMPLE_RATE",
    "SILENCE",
    "mulaw_to_pcm16",
    "pad_to_frames",
    "pcm16_to_mulaw",
]

SAMPLE_RATE = 8_000  # Hz
FRAME_MS = 20
FRAME_BYTES = SAMPLE_RATE * FRAME_MS // 1_000  # 160: one byte a sample
SILENCE = 0xFF  # the mu-law byte of sample value 0

_PCM16_WIDTH = 2  # bytes a sample


def mulaw_to_pcm16(mulaw: bytes) -> bytes:
    """Expand mu-law to little-endian signed 16 bit, two bytes for each one."""
    return audioop.ulaw2lin(mulaw, _PCM16_WIDTH)


def pcm16_to_mulaw(pcm16: bytes) -> bytes:
    """Compress little-endian signed 16 bit to mu-law. Raises ValueError on half a sample."""
    if len(pcm16) % _PCM16_WIDTH:
        raise ValueError(f"pcm16 has {len(pcm16)} bytes: not a whole number of samples")
    return audioop.lin2ulaw(pcm16, _PCM16_WIDTH)


def pad_to_frames(mulaw: bytes) -> bytes:
    """Fill up with silence to a whole number of 160-byte frames."""
    return mulaw + bytes([SILENCE]) * (-len(mulaw) % FRAME_BYTES)
