"""G.711 mu-law as the phone line carries it: 8 kHz, mono, one byte a sample, 20 ms a frame."""

from pipelines.audio import mulaw_to_pcm16, pcm16_to_mulaw

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


def pad_to_frames(mulaw: bytes) -> bytes:
    """Fill up with silence to a whole number of 160-byte frames."""
    return mulaw + bytes([SILENCE]) * (-len(mulaw) % FRAME_BYTES)
