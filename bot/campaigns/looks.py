"""When to look for attempts of which it is not known what became of them.

Each look costs a question to Twilio, and a callback may explain an attempt at any moment without
one: so they are looked for ever less often, and at the age at which they are given up.
"""

from collections.abc import Mapping
from datetime import timedelta

__all__ = ["Looks", "next_look"]


def next_look(age: timedelta, *, first: timedelta, last: timedelta) -> timedelta:
    """The age at which to look again after a look at `age`.

    Each time twice as old, until `last`; a look that fails there is repeated each `first`.
    """
    return min(2 * age, last) if age < last else age + first


class Looks:
    """Which attempts it is time to look for. What one process remembers; another begins anew."""

    def __init__(self, *, first: timedelta, last: timedelta) -> None:
        """Nobody looks before the age `first`; at `last` everybody does."""
        self._first = first
        self._last = last
        self._next: dict[str, timedelta] = {}  # ages, by attempt

    def due(self, ages: Mapping[str, timedelta]) -> list[str]:
        """Those to be looked for, of all there are; those that are not there are forgotten."""
        self._next = {attempt_id: self._next.get(attempt_id, self._first) for attempt_id in ages}
        return [attempt_id for attempt_id, age in ages.items() if age >= self._next[attempt_id]]

    def looked(self, attempt_id: str, age: timedelta) -> None:
        """An attempt was looked for at this age."""
        self._next[attempt_id] = next_look(age, first=self._first, last=self._last)
