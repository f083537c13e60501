"""Ready-made apologies."""

from bot.inbound.apologies import render_apologies
from pipelines.audio import pcm16_to_float
from telephony.g711 import FRAME_BYTES, SAMPLE_RATE, mulaw_to_pcm16
from tests.bot.inbound.line import ROUTES


def test_every_persona_can_apologise() -> None:
    """Each persona has an audible clip of a few seconds in whole frames."""
    apologies = render_apologies(ROUTES.personas)

    assert set(apologies) == {persona.name for persona in ROUTES.personas}
    for mulaw in apologies.values():
        pcm = pcm16_to_float(mulaw_to_pcm16(mulaw))
        assert len(mulaw) % FRAME_BYTES == 0
        assert SAMPLE_RATE < len(mulaw) < 10 * SAMPLE_RATE
        assert 0.02 < float((pcm**2).mean()) ** 0.5 < 0.5
