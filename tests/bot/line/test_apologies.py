"""Ready-made apologies."""

from bot.line.apologies import Apologies, render_apology
from config.personas import Persona
from pipelines.audio import pcm16_to_float
from telephony.g711 import FRAME_BYTES, SAMPLE_RATE, mulaw_to_pcm16
from tests.bot.line.line import ROUTES


def test_every_persona_can_apologise() -> None:
    """Each persona has an audible clip of a few seconds in whole frames."""
    apologies = [render_apology(persona) for persona in ROUTES.personas]

    assert apologies
    for mulaw in apologies:
        pcm = pcm16_to_float(mulaw_to_pcm16(mulaw))
        assert len(mulaw) % FRAME_BYTES == 0
        assert SAMPLE_RATE < len(mulaw) < 10 * SAMPLE_RATE
        assert 0.02 < float((pcm**2).mean()) ** 0.5 < 0.5


async def test_an_apology_follows_its_words() -> None:
    """It is made once, and again when the persona's apology is another."""
    made: list[str] = []

    def render(persona: Persona) -> bytes:
        made.append(persona.apology)
        return persona.apology.encode()

    apologies = Apologies(render)
    before = ROUTES.default
    after = before.model_copy(update={"apology": "So sorry."})
    apologies.prepare([before])
    heard = [await apologies.of(persona) for persona in (before, after, after)]

    assert heard == [before.apology.encode(), b"So sorry.", b"So sorry."]
    assert made == [before.apology, "So sorry."]
