"""What a call has told: the campaign's outcome fields, as rules fill them from what was said.

Each value names the turn it was said in. Who says two things means the last one.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from config.campaigns import OutcomeField, Rule

__all__ = ["Said", "Told", "by_rules", "told_by"]

NUMBER = re.compile(r"(?<![\w.,])\d{1,9}(?:\.\d{1,3})?(?![\w]|[.,]\d)")
NOT_WORDS = re.compile(r"[^\w']+")
# Writing that puts no spaces between words: a phrase is looked for as it stands.
UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


@dataclass(frozen=True, slots=True)
class Said:
    """What the person said in one turn."""

    turn: int
    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """A field's value, and where it was said."""

    name: str
    value: str
    turn: int
    at: datetime


def by_rules(fields: Mapping[str, OutcomeField]) -> dict[str, OutcomeField]:
    """Those that are filled after the call, from what was said."""
    return {name: field for name, field in fields.items() if field.filled_by == "rules"}


def told_by(fields: Mapping[str, OutcomeField], said: Sequence[Said]) -> list[Told]:
    """Those of the fields `by_rules` that what was said fills."""
    found = []
    for name, field in fields.items():
        values = [(value, turn) for turn in said if (value := _value(field, turn.text))]
        if values:
            value, turn = values[-1]
            found.append(Told(name, value, turn.turn, turn.at))
    return found


def _value(field: OutcomeField, text: str) -> str | None:
    if field.type == "number":
        numbers = NUMBER.findall(text)
        return numbers[-1] if numbers else None
    places = [(place, rule.value) for rule in field.rules if (place := _last(rule, text)) >= 0]
    return max(places)[1] if places else None


def _last(rule: Rule, text: str) -> int:
    """Where the text has a phrase of a rule for the last time; -1 for nowhere."""
    words = _words(text)
    return max(
        (words + " ").rfind(_words(phrase) if UNSPACED.search(phrase) else _words(phrase) + " ")
        for phrase in rule.phrases
    )


def _words(text: str) -> str:
    """In one case, one width and one kind of apostrophe, with a space before each word."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    if UNSPACED.search(plain):
        return NOT_WORDS.sub("", plain)
    return " " + " ".join(NOT_WORDS.sub(" ", plain).split())
