"""Sound on the wire in every format."""

import base64

import numpy as np
import pytest

from pipelines.realtime.audio_format import SoundDecoder, SoundEncoder, rate_of
from pipelines.realtime.protocol import ClientMistake
from pipelines.realtime.session_config import WireFormat
from pipelines.realtime.wire_types import MulawFormat, Pcm16Format

FORMATS = [
    MulawFormat(),
    *(Pcm16Format(type="audio/pcm", rate=rate) for rate in (8000, 16_000, 22_050, 24_000)),
]


@pytest.mark.parametrize("wire_format", FORMATS, ids=lambda f: f"{f.type}-{rate_of(f)}")
def test_a_tone_survives_the_way_out_and_back(wire_format: WireFormat) -> None:
    """A tone encoded for a client, piece by piece, and decoded from it is the same tone."""
    model_rate = 22_050
    tone = 0.5 * np.sin(2 * np.pi * 1000 / model_rate * np.arange(model_rate))
    encoder = SoundEncoder(model_rate, wire_format)
    decoder = SoundDecoder(wire_format, model_rate)
    pieces = [encoder.encode(piece.astype(np.float32)) for piece in np.split(tone, 50)]
    heard = np.concatenate([decoder.decode(text) for text, _ in [*pieces, encoder.flush()]])

    spectrum = np.abs(np.fft.rfft(heard[2000:20_000] * np.hanning(18_000)))
    assert np.argmax(spectrum) * model_rate / 18_000 == pytest.approx(1000, abs=2)
    assert np.abs(heard[2000:20_000]).max() == pytest.approx(0.5, rel=0.06)
    assert abs(len(heard) - len(tone)) < 0.01 * model_rate


@pytest.mark.parametrize("text", ["%%%", "YQ=", "é", "YQ=="])
def test_sound_that_is_not_whole_samples_of_base64_is_refused(text: str) -> None:
    """Bad base64 and half samples are mistakes of the client, and harm nothing."""
    decoder = SoundDecoder(Pcm16Format(), 24_000)

    with pytest.raises(ClientMistake) as caught:
        decoder.decode(text)

    assert caught.value.param == "audio"
    assert len(decoder.decode(base64.b64encode(bytes(4)).decode())) == 2
