"""The personas that the project brings: the twin learns to be them."""

from functools import cache

from config.personas import Persona, placeholders, read_persona
from pipelines.glm4voice.training.config import ROOT
from pipelines.glm4voice.training.settings.corpus import Language

PERSONAS = ROOT / "prompts/personas"


@cache
def personas(language: Language) -> tuple[Persona, ...]:
    """Those of one language that say the same to everybody."""
    found = (read_persona(path) for path in sorted(PERSONAS.glob("*.yaml")))
    return tuple(p for p in found if p.language == language and not placeholders(p))


@cache
def fixed_sentences(language: Language) -> tuple[str, ...]:
    """What they say in words that are given: greetings, goodbyes, apologies and the like."""
    found: list[str] = []
    for persona in personas(language):
        found += [persona.greeting, persona.goodbye, persona.apology, *persona.silence.prompts]
        if persona.transfer is not None:
            found.append(persona.transfer.unavailable)
    return tuple(dict.fromkeys(found))
