"""Apologies as ready-made sound: what a caller hears when the model is not there to speak."""

from collections.abc import Iterable

from config.personas import Persona
from pipelines.audio import LINE_RATE, float_to_pcm16, resample
from pipelines.espeak import speak
from telephony.g711 import pad_to_frames, pcm16_to_mulaw

__all__ = ["render_apologies"]

_VOICES = {"en": "en-us", "zh": "cmn"}


def render_apologies(personas: Iterable[Persona]) -> dict[str, bytes]:
    """Each persona's apology as mu-law, by the persona's name. Blocking: call it in a thread."""
    return {persona.name: _render(persona.apology, persona.language) for persona in personas}


def _render(text: str, language: str) -> bytes:
    pcm, sample_rate = speak(text, _VOICES[language])
    return pad_to_frames(pcm16_to_mulaw(float_to_pcm16(resample(pcm, sample_rate, LINE_RATE))))
