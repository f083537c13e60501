"""Turns of a simulated call: which sound of the bot answered which speech of the caller."""

from collections.abc import Sequence
from dataclasses import dataclass

from telephony.emulator import Stretch


@dataclass(frozen=True, slots=True)
class Turn:
    """One stretch of bot sound; `latency_ms` is None where it answered no speech."""

    start_ms: int
    end_ms: int
    latency_ms: int | None


def turns_of(caller: Sequence[Stretch], bot: Sequence[Stretch]) -> tuple[Turn, ...]:
    """Pair each stretch of bot sound with the caller speech that ended before it.

    The latency runs from the end of the last caller speech to the first sound after it. A bot that
    speaks again without the caller having spoken in between answered nothing.
    """
    turns = []
    before_ms = -1
    for stretch in bot:
        ended = [c.end_ms for c in caller if before_ms < c.end_ms <= stretch.start_ms]
        latency_ms = stretch.start_ms - max(ended) if ended else None
        turns.append(Turn(stretch.start_ms, stretch.end_ms, latency_ms))
        before_ms = stretch.start_ms
    return tuple(turns)
