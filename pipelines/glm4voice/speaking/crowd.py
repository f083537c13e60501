"""All replies that are under way at one decoder: how fast they come, and who is short of sound."""

import math
import weakref
from typing import Final

from pipelines.glm4voice.speaking.schedule import Pace, Rush, SoundAhead

URGENT_MS: Final = 250.0  # of sound in hand: with less, a first block would come in the way
_STUCK_S: Final = 1.0  # silent for so long: it does not wait for the decoder, but for its listener


class Crowd:
    """Of the thread that serves the replies. A reply that is dropped has left."""

    def __init__(self) -> None:
        self.pace = Pace()  # measured on all of them, so that a new one need not begin with nothing
        self._members: weakref.WeakSet[SoundAhead] = weakref.WeakSet()

    def join(self, ahead: SoundAhead) -> None:
        """A reply begins, whose sound this counts."""
        self._members.add(ahead)

    def leave(self, ahead: SoundAhead) -> None:
        """All of its sound is made, or nobody wants it. Idempotent."""
        self._members.discard(ahead)

    @property
    def is_one(self) -> bool:
        """Whether there is no more than one reply."""
        return len(self._members) <= 1

    def rush(self, ahead: SoundAhead, *, reserve_ms: float, now_s: float) -> Rush:
        """The others' need; `reserve_ms` is enough for them to have."""
        dry_in_ms = [
            (member.dry_at_s - now_s) * 1000
            for member in self._members
            if member is not ahead and not -math.inf < member.dry_at_s < now_s - _STUCK_S
        ]
        speaking_ms = [left for left in dry_in_ms if left > -math.inf]
        return Rush(
            n_between=sum(left < reserve_ms for left in dry_in_ms),
            is_urgent=any(left < URGENT_MS for left in speaking_ms),
            spare_ms=max(0.0, min(speaking_ms, default=math.inf) - URGENT_MS),
        )
