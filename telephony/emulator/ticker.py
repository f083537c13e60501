"""One 20 ms clock for every call of the network, driven from one monotonic start.

All calls work in the same moment: that costs the fewest wake-ups on both sides of the sockets, and
for the bot it is the hardest case. A late tick is made up for, never skipped: tick `n` of a call
is always due `n` * 20 ms after its first. What nobody was there to miss is not made up for.
"""

import asyncio
from collections.abc import Callable

from telephony.g711 import FRAME_MS

_TICK_S = FRAME_MS / 1000

Tick = Callable[[], None]


class Ticker:
    """Calls each joined function every 20 ms while `run` runs."""

    def __init__(self) -> None:
        self._ticks: list[Tick] = []
        self._due_s = 0.0  # the tick before the next one, by the loop's clock
        self.worst_late_ms = 0.0  # how far the whole process once fell behind

    def join(self, tick: Tick) -> None:
        """Call `tick` every 20 ms from now on; it must not raise."""
        if not self._ticks:
            self._due_s = asyncio.get_running_loop().time()
        self._ticks.append(tick)

    def leave(self, tick: Tick) -> None:
        """Stop calling `tick`; no effect if it never joined."""
        if tick in self._ticks:
            self._ticks.remove(tick)

    async def run(self) -> None:
        """Tick until cancelled."""
        loop = asyncio.get_running_loop()
        self._due_s = loop.time()
        while True:
            self._due_s += _TICK_S
            ahead_s = self._due_s - loop.time()
            await asyncio.sleep(max(0.0, ahead_s))
            if ahead_s < 0:
                # After a stall, what arrived meanwhile is read before time moves on: a reply
                # that lies in the socket must not be counted as missing.
                self.worst_late_ms = max(self.worst_late_ms, -1000 * ahead_s)
                await asyncio.sleep(0)
            for tick in tuple(self._ticks):
                tick()
