"""Apologies as ready-made sound: what a caller hears when the model is not there to speak."""

import asyncio
from collections.abc import Callable, Iterable

from config.personas import Persona
from pipelines.audio import LINE_RATE, float_to_pcm16, resample
from pipelines.espeak import speak
from telephony.g711 import pad_to_frames, pcm16_to_mulaw

__all__ = ["Apologies", "render_apology"]

_VOICES = {"en": "en-us", "zh": "cmn"}


def render_apology(persona: Persona) -> bytes:
    """A persona's apology as mu-law. Blocking: call it in a thread."""
    pcm, sample_rate = speak(persona.apology, _VOICES[persona.language])
    return pad_to_frames(pcm16_to_mulaw(float_to_pcm16(resample(pcm, sample_rate, LINE_RATE))))


class Apologies:
    """Each persona's apology, made once for its words."""

    def __init__(self, render: Callable[[Persona], bytes] = render_apology) -> None:
        self._render = render
        self._made: dict[str, tuple[tuple[str, str], bytes]] = {}

    def prepare(self, personas: Iterable[Persona]) -> None:
        """Make those of personas ahead. Blocking: call it in a thread."""
        for persona in personas:
            self._make(persona)

    async def of(self, persona: Persona) -> bytes:
        """A persona's apology as mu-law. Cancelling lets it be made for the next who asks."""
        words, mulaw = self._made.get(persona.name, (None, b""))
        return mulaw if words == _words(persona) else await asyncio.to_thread(self._make, persona)

    def _make(self, persona: Persona) -> bytes:
        mulaw = self._render(persona)
        self._made[persona.name] = _words(persona), mulaw
        return mulaw


def _words(persona: Persona) -> tuple[str, str]:
    return persona.apology, persona.language
