"""The phone line's encoding."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telephony.g711 import (
    FRAME_BYTES,
    FRAME_MS,
    SAMPLE_RATE,
    SILENCE,
    mulaw_to_pcm16,
    pad_to_frames,
    pcm16_to_mulaw,
)

ALL_BYTES = bytes(range(256))


def test_every_mulaw_byte_survives_expansion() -> None:
    """Expanding and compressing again gives the same sound for all 256 bytes."""
    expanded = mulaw_to_pcm16(ALL_BYTES)

    assert mulaw_to_pcm16(pcm16_to_mulaw(expanded)) == expanded


def test_known_values() -> None:
    """The extremes and the zero of G.711 are where the standard puts them."""
    assert struct.unpack("<3h", mulaw_to_pcm16(bytes([0x00, 0x80, SILENCE]))) == (-32124, 32124, 0)


@given(st.lists(st.integers(-32768, 32767), max_size=400))
def test_compression_error_is_small(samples: list[int]) -> None:
    """Mu-law errs by at most an eighth of the sample, or by the clipping at the top."""
    pcm16 = struct.pack(f"<{len(samples)}h", *samples)
    back = struct.unpack(f"<{len(samples)}h", mulaw_to_pcm16(pcm16_to_mulaw(pcm16)))

    assert all(
        abs(a - b) <= max(abs(a) / 8, 8, abs(a) - 32124) for a, b in zip(samples, back, strict=True)
    )


def test_half_a_sample_is_refused() -> None:
    """An odd number of pcm16 bytes is our mistake and is named."""
    with pytest.raises(ValueError, match="3 bytes"):
        pcm16_to_mulaw(b"abc")


@given(st.binary(max_size=1000))
def test_padding_gives_whole_frames(mulaw: bytes) -> None:
    """Padding adds less than a frame of silence and changes nothing before it."""
    padded = pad_to_frames(mulaw)

    assert len(padded) % FRAME_BYTES == 0
    assert padded[: len(mulaw)] == mulaw
    assert set(padded[len(mulaw) :]) <= {SILENCE}
    assert len(padded) - len(mulaw) < FRAME_BYTES


def test_a_second_is_fifty_frames() -> None:
    """Frames, bytes and time agree."""
    assert SAMPLE_RATE // FRAME_BYTES * FRAME_MS == 1000
