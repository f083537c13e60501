"""Where the time until the first sound of a reply goes."""

import time
from collections.abc import Callable

from pipelines.realtime.model import FirstSoundPart


class FirstSoundWatch:
    """Adds up work by part until there is sound. `begin` and `end` one stretch after another."""

    def __init__(
        self, *, tokenise_s: float = 0.0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.ms: dict[FirstSoundPart, float] = {
            "tokenise": tokenise_s * 1000,
            "prefill": 0.0,
            "decode": 0.0,
            "flow": 0.0,
            "vocoder": 0.0,
        }
        self.is_running = True  # there is no sound yet
        self._clock = clock
        self._since_s: float | None = None

    def begin(self) -> None:
        """Work begins, or goes on: of an engine elsewhere it does between two steps."""
        if self._since_s is None:
            self._since_s = self._clock()

    def end(self, part: FirstSoundPart) -> None:
        """The work begun was of this part."""
        if self._since_s is not None and self.is_running:
            self.ms[part] += (self._clock() - self._since_s) * 1000
        self._since_s = None

    def add(self, part: FirstSoundPart, ms: float) -> None:
        """Work of this part was done elsewhere."""
        if self.is_running:
            self.ms[part] += ms

    def sound(self) -> None:
        """There is sound: what follows does not count."""
        self.is_running = False
