"""A call that Twilio has told of: who speaks in it, and for whom."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bot.calls.records import Direction
from config.campaigns import Campaign
from config.personas import Persona

__all__ = ["Announced", "Attempt", "FindSpeaker", "NoSpeaker", "Speaker", "now_ms"]


def now_ms() -> float:
    """The moment, by the monotonic clock."""
    return time.monotonic() * 1000


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a campaign's call is about."""

    attempt_id: str
    plan: Campaign


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks in a campaign's call."""

    persona: Persona
    plan: Campaign


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """Which call a webhook is about, and who speaks in it."""

    call_sid: str
    persona: Persona
    retry: int
    direction: Direction
    person: str  # as Twilio writes it: a number, or a word
    line: str
    attempt: Attempt | None = None  # of a campaign
    at_ms: float = field(default_factory=lambda: now_ms())  # monotonic

    def age_ms(self) -> float:
        """How long ago Twilio first asked about it: a call that we placed was answered then."""
        return now_ms() - self.at_ms


class NoSpeaker(Exception):
    """Nobody is there to speak in a campaign's call; the text is a static word why."""

    def __init__(self, reason: str, persona: Persona | None = None) -> None:
        """`persona` is the one that cannot speak, but may apologise."""
        super().__init__(reason)
        self.persona = persona


# Who speaks in an attempt to ring somebody, filled in for that person; None if there is no such
# attempt. Raises NoSpeaker, and OSError where that cannot be found out within a few seconds.
FindSpeaker = Callable[[str], Awaitable[Speaker | None]]
