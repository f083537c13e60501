"""G.711 for whole pieces, against the standard library's."""

import audioop

import numpy as np

from pipelines.realtime.mulaw import float_to_mulaw, mulaw_to_float


def test_every_code_is_decoded_as_audioop_decodes_it() -> None:
    """All 256 codes mean the same samples."""
    codes = bytes(range(256))

    expected = np.frombuffer(audioop.ulaw2lin(codes, 2), "<i2") / 32_768
    np.testing.assert_array_equal(mulaw_to_float(codes), expected.astype(np.float32))


def test_every_sample_is_encoded_as_audioop_encodes_it() -> None:
    """All 65,536 samples get the same codes."""
    samples = np.arange(-32_768, 32_768, dtype="<i2")

    assert float_to_mulaw(samples.astype(np.float32) / 32_768) == audioop.lin2ulaw(
        samples.tobytes(), 2
    )


def test_too_loud_sound_clips() -> None:
    """Beyond full scale the loudest codes are used."""
    assert float_to_mulaw(np.array([9, -9], dtype=np.float32)) == b"\x80\x00"
