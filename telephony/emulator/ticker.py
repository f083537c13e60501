"""One 20 ms clock for every call of the network, driven from one monotonic start.

Calls are spread over four slots of 5 ms, so that twenty of them do not all work in the same
millisecond. A late tick is made up for, never skipped: tick `n` of a call is always due
`n` * 20 ms after its first.
"""

import asyncio
from collections.abc import Callable

from telephony.g711 import FRAME_MS

SLOTS = 4
_SLOT_S = FRAME_MS / 1000 / SLOTS

Tick = Callable[[], None]


class Ticker:
    """Calls each joined function every 20 ms while `run` runs."""

    def __init__(self) -> None:
        self._slots: list[list[Tick]] = [[] for _ in range(SLOTS)]
        self.worst_late_ms = 0.0  # how far the whole process once fell behind

    def join(self, tick: Tick) -> None:
        """Call `tick` every 20 ms from now on; it must not raise."""
        min(self._slots, key=len).append(tick)

    def leave(self, tick: Tick) -> None:
        """Stop calling `tick`; no effect if it never joined."""
        for slot in self._slots:
            if tick in slot:
                slot.remove(tick)

    async def run(self) -> None:
        """Tick until cancelled."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        n = 0
        while True:
            n += 1
            ahead_s = started_s + n * _SLOT_S - loop.time()
            await asyncio.sleep(max(0.0, ahead_s))
            if ahead_s < -_SLOT_S:
                # After a stall, what arrived meanwhile is read before time moves on: a reply
                # that lies in the socket must not be counted as missing.
                self.worst_late_ms = max(self.worst_late_ms, -1000 * ahead_s)
                await asyncio.sleep(0)
            for tick in tuple(self._slots[n % SLOTS]):
                tick()
