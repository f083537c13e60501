"""Who can be called, and what a number does when it rings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from telephony.emulator.line import Caller, Line


class Fate(Enum):
    """What becomes of a call to a number."""

    ANSWERS = "answers"
    BUSY = "busy"
    RINGS = "no-answer"  # until whoever calls gives up
    UNREACHABLE = "failed"


async def silent(line: Line) -> None:
    """Somebody who answers, says nothing, and stays until the other side hangs up."""
    await line.wait_until(lambda: False)


@dataclass(frozen=True, slots=True)
class Detection:
    """What answering-machine detection finds, in Twilio's words, after so much of the call."""

    answered_by: str
    after_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Callee:
    """One number. `answer` speaks and listens once it is answered; returning is hanging up.

    `rings_ms` is how long it rings before it is answered, or how long it takes to be refused.
    `detection` is what is found of it, `message_end` what is found if its greeting is waited out.
    """

    fate: Fate = Fate.ANSWERS
    answer: Caller = silent
    rings_ms: int = 2000
    detection: Detection = Detection("human", 2500)
    message_end: Detection | None = None  # None: the same


Directory = Callable[[str], Callee]
UNKNOWN = Callee(fate=Fate.UNREACHABLE, rings_ms=0)


def listed(callees: Mapping[str, Callee]) -> Directory:
    """A directory of these numbers; others cannot be reached."""
    return lambda number: callees.get(number, UNKNOWN)
