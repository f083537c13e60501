"""What happened in a call, on its own clock, and how it ended."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

Fact = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One thing that happened `at_ms` after the call was answered (before that: 0)."""

    at_ms: int
    name: str
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def dump(self) -> str:
        """The event as one JSON line."""
        return json.dumps({"at_ms": self.at_ms, "event": self.name, **self.facts})


OnEvent = Callable[[CallEvent], None]


class EndedBy(Enum):
    """Who ended a call."""

    CALLER = "caller"
    BOT = "bot"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class CallEnd:
    """Who ended the call, and how: the verb or the failure that did it."""

    by: EndedBy
    reason: str
