"""Personas: who answers a line, which number leads to whom, and the text the model is given.

YAML files in prompts/personas/ hold one persona each; a routes file maps the numbers called to
them. Both are read strictly (config.strict_yaml). `render_instructions` is the one place where a
persona becomes a prompt.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from config import patterns
from config.strict_yaml import KeyPath, Strict, fault, read_model

Sentence = Annotated[str, Field(min_length=1, max_length=500, pattern=patterns.TEXT)]
E164 = Annotated[str, Field(pattern=patterns.NUMBER)]
PersonaName = Annotated[str, Field(pattern=patterns.NAME, max_length=60)]


# What stands for something of the person who is rung, as in "Good day, {first_name}."
PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
FILLED_IN = ("greeting", "goodbye", "instructions")


class Limits(Strict):
    """Bounds of one call and of one reply."""

    max_call_ms: int = Field(default=15 * 60_000, ge=10_000, le=4 * 3_600_000)
    max_reply_tokens: int = Field(default=1_000, ge=39, le=4_000)


class Silence(Strict):
    """What is said to a caller who says nothing: each prompt in turn, then the goodbye."""

    after_ms: int = Field(default=8_000, ge=1_000, le=120_000)
    prompts: list[Sentence] = Field(min_length=1, max_length=5)


Department = Annotated[str, Field(pattern=patterns.DEPARTMENT, max_length=40)]


class Transfer(Strict):
    """Where the caller is put through to when he asks for a person, by department."""

    numbers: dict[Department, E164] = Field(min_length=1, max_length=20)
    ring_ms: int = Field(default=20_000, ge=5_000, le=600_000)
    unavailable: Sentence  # said by Twilio's voice when nobody answers


class Persona(Strict):
    """One voice of the line."""

    name: PersonaName
    language: Literal["en", "zh"]
    voice: Annotated[str, Field(pattern=patterns.VOICE)] = "default"
    greeting: Sentence
    goodbye: Sentence
    apology: Sentence
    instructions: Annotated[str, Field(min_length=1, max_length=4_000)]
    emotion: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    dialect: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    language_lock: bool = False  # letters of other scripts cannot be spoken at all
    speaking_rate: Literal["slow", "normal", "fast"] = "normal"
    temperature: float = Field(default=0.2, ge=0.0, le=2.0)
    silence: Silence
    transfer: Transfer | None = None
    limits: Limits = Limits()


class _RoutesFile(Strict):
    default: PersonaName
    numbers: dict[E164, PersonaName] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Routes:
    """Which persona answers which number."""

    default: Persona
    by_number: Mapping[str, Persona]
    by_name: Mapping[str, Persona]  # all there are: those of campaigns, too

    def persona_for(self, number_called: str) -> Persona:
        """The persona of a number in E.164, or the default one for any other string."""
        return self.by_number.get(number_called, self.default)

    @property
    def personas(self) -> tuple[Persona, ...]:
        """Every persona that may speak in a call, each once."""
        return tuple(self.by_name.values())


def read_persona(path: Path) -> Persona:
    """Read one persona file. Raises PromptFileError, also when file and persona name differ."""
    persona = read_model(path, Persona)
    if persona.name != path.stem:
        sentence = f"is {persona.name!r}, but the file is called {path.stem!r}"
        raise fault(path, ("name",), sentence)
    return persona


def read_personas(personas_dir: Path) -> dict[str, Persona]:
    """Read every persona of a folder, by name. Raises PromptFileError."""
    return {p.stem: read_persona(p) for p in sorted(personas_dir.glob("*.yaml"))}


def read_routes(routes_file: Path, personas_dir: Path) -> Routes:
    """Read the routes and every persona in `personas_dir`. Raises PromptFileError."""
    table = read_model(routes_file, _RoutesFile)
    personas = read_personas(personas_dir)
    wanted: dict[KeyPath, str] = {("default",): table.default}
    wanted |= {("numbers", number): name for number, name in table.numbers.items()}
    for key, name in wanted.items():
        if name not in personas:
            known = ", ".join(personas) or "none"
            sentence = f"there is no persona {name!r} in {personas_dir} (there are: {known})"
            raise fault(routes_file, key, sentence)
        if names := placeholders(personas[name]):
            sentence = (
                f"{name} is for campaigns: nothing is known of {{{min(names)}}} when one calls"
            )
            raise fault(routes_file, key, sentence)
    by_number = {number: personas[name] for number, name in table.numbers.items()}
    return Routes(default=personas[table.default], by_number=by_number, by_name=personas)


def placeholders(persona: Persona) -> frozenset[str]:
    """The names of what a persona says of the person who is rung."""
    texts = (str(getattr(persona, field)) for field in FILLED_IN)
    return frozenset(name for text in texts for name in PLACEHOLDER.findall(text))


def stray_braces(text: str) -> bool:
    """Whether braces are left that stand for nothing, such as those of {First name}."""
    return bool(re.search(r"[{}]", PLACEHOLDER.sub("", text)))


def fill_in(persona: Persona, variables: Mapping[str, str]) -> Persona:
    """A persona as it speaks to one person. Raises KeyError for a variable that is missing."""
    return persona.model_copy(
        update={
            field: PLACEHOLDER.sub(lambda found: variables[found[1]], str(getattr(persona, field)))
            for field in FILLED_IN
        }
    )


@dataclass(frozen=True, slots=True)
class _Words:
    """How one language asks for a manner of speaking."""

    language: str
    emotion: str
    dialect: str
    rate: Mapping[str, str]


_WORDS = {
    "en": _Words(
        language="Speak English.",
        emotion="Speak in a {} tone.",
        dialect="Speak with a {} accent.",
        rate={"slow": "Speak slowly.", "fast": "Speak fast."},
    ),
    "zh": _Words(
        language="请说中文。",
        emotion="请用{}的语气说话。",
        dialect="请用{}说话。",
        rate={"slow": "请说慢一点。", "fast": "请说快一点。"},
    ),
}


def render_instructions(persona: Persona) -> str:
    """The text a persona puts before the conversation: its instructions, then its manner.

    One sentence per trait, in the persona's language, in a fixed order: language, dialect,
    emotion, rate. Traits that are not set add nothing.
    """
    words = _WORDS[persona.language]
    manner = [words.language]
    if persona.dialect:
        manner.append(words.dialect.format(persona.dialect))
    if persona.emotion:
        manner.append(words.emotion.format(persona.emotion))
    if persona.speaking_rate in words.rate:
        manner.append(words.rate[persona.speaking_rate])
    joint = "" if persona.language == "zh" else " "
    return persona.instructions.strip() + "\n" + joint.join(manner)
