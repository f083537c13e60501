"""How many sessions a host can serve, judged by what serving them has cost so far.

Pure: it is told the time, what the engine has done since its start (`Work`) and how many sessions
there are, and keeps a few decaying sums. It knows no sockets, threads or models, and ends nobody: a
host that proves slower than it seemed admits no more until it is good for them.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

FULL: Final = 0.9  # share of the engine's time that sessions may ask for at a bad moment
FREE: Final = 0.85  # below which there is room for one more: between the two nothing changes
MEMORY_S: Final = 30.0  # how long ago what is remembered happened, on average
LEAST_TALK: Final = 0.4  # share of a call in which its bot speaks, if less was seen
SPREAD: Final = 2.0  # standard deviations: nineteen of twenty moments are no worse
CALM_S: Final = 30.0  # without a listener running short, after which a seat comes back


@dataclass(frozen=True, slots=True)
class Work:
    """What an engine has done; counts from its start on, so that any two can be compared."""

    speaking_s: float = 0.0  # busy with replies, on whichever thread
    hearing_s: float = 0.0  # busy with all else: messages, callers' sound, reading ahead
    sound_s: float = 0.0  # of replies, as it sounds
    n_short: int = 0  # moments at which a listener had nothing left to hear


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one session is thought to cost, as shares of the engine's time."""

    hearing: float  # all the time
    speaking: float  # while its bot speaks
    talk: float  # the share of time in which it does

    def demand(self, n_sessions: int) -> float:
        """What so many sessions ask for when unusually many of their bots speak at once.

        That is the mean of a binomial distribution and SPREAD of its standard deviations. Where
        calls are computed together, one more costs less than this says: the error is on the safe
        side, and becomes less as calls come.
        """
        mean = n_sessions * self.talk
        deviation = math.sqrt(mean * (1 - self.talk))
        n_speaking = min(n_sessions, mean + SPREAD * deviation)
        return n_sessions * self.hearing + n_speaking * self.speaking


class Admission:
    """Counts the seats of one host. `observe` it twice a second or so; `n_seats` is the answer."""

    def __init__(self, max_sessions: int, *, sample: Work | None = None) -> None:
        """Never more than `max_sessions`. `sample` is what a reply has cost that was made to try:

        without one, all seats are there until the first replies say otherwise.
        """
        self._max_sessions = max_sessions
        self._sample = sample or Work()
        self._last: tuple[float, Work] | None = None
        self._speaking_s = self._hearing_s = self._sound_s = 0.0  # decaying
        self._session_s = self._elapsed_s = 0.0
        self._ceiling: int | None = None  # while listeners have run short
        self._calm_since_s = 0.0
        self._n_affordable = self._affordable(FULL)

    @property
    def n_seats(self) -> int:
        """How many sessions there may be; at least one."""
        ceiling = self._max_sessions if self._ceiling is None else self._ceiling
        return min(self._n_affordable, ceiling)

    @property
    def busy(self) -> float:
        """The share of its time the engine was busy when it last had sessions."""
        return (self._speaking_s + self._hearing_s) / max(self._elapsed_s, 1e-9)

    @property
    def estimate(self) -> Estimate:
        """What is thought of one session now."""
        sound_s = self._sound_s + self._sample.sound_s
        speaking_s = self._speaking_s + self._sample.speaking_s
        session_s = max(self._session_s, MEMORY_S)  # a first moment alone says little
        return Estimate(
            hearing=self._hearing_s / session_s,
            speaking=speaking_s / sound_s if sound_s else 0.0,
            talk=min(1.0, max(LEAST_TALK, self._sound_s / session_s)),
        )

    def observe(self, now_s: float, work: Work, n_sessions: int) -> None:
        """Take note of the work up to now, monotonic, and of the sessions it was done for."""
        before_s, before = self._last or (now_s, work)
        self._last = now_s, work
        if n_sessions or work.sound_s > before.sound_s:
            self._remember(now_s - before_s, before, work, n_sessions)
        self._note_shortage(now_s, work.n_short > before.n_short, n_sessions)
        self._settle()

    def _remember(self, elapsed_s: float, before: Work, work: Work, n_sessions: int) -> None:
        """Add what is new to the sums; what is old counts less. An empty host forgets nothing."""
        kept = math.exp(-elapsed_s / MEMORY_S)
        self._speaking_s = kept * self._speaking_s + work.speaking_s - before.speaking_s
        self._hearing_s = kept * self._hearing_s + work.hearing_s - before.hearing_s
        self._sound_s = kept * self._sound_s + work.sound_s - before.sound_s
        self._session_s = kept * self._session_s + elapsed_s * n_sessions
        self._elapsed_s = kept * self._elapsed_s + elapsed_s

    def _note_shortage(self, now_s: float, is_short: bool, n_sessions: int) -> None:
        """Whatever the estimate says: a listener who ran short says that there were too many.

        One alone says nothing of a crowd: whatever kept its sound, it was no other call.
        """
        if is_short:
            self._calm_since_s = now_s
            if n_sessions > 1:
                self._ceiling = min(n_sessions - 1, self._ceiling or n_sessions)
        elif self._ceiling is not None and now_s - self._calm_since_s >= CALM_S:
            self._calm_since_s = now_s
            self._ceiling += 1
            if self._ceiling >= self._n_affordable:
                self._ceiling = None

    def _settle(self) -> None:
        """Change the number of seats only where it is clearly wrong."""
        most, least = self._affordable(FULL), self._affordable(FREE)
        self._n_affordable = min(most, max(least, self._n_affordable))

    def _affordable(self, limit: float) -> int:
        """The most sessions whose demand is within a limit; at least one."""
        counts = range(1, self._max_sessions + 1)
        return max(1, bisect_right(counts, limit, key=self.estimate.demand))
