"""The calls of this process: how many run, how they ended, and whether new ones are taken."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipelines.call.plan import EndReason

__all__ = ["End", "LiveCalls", "Running"]

MAX_REMEMBERED = 2_000  # ends of calls, for the webhook that follows each


@dataclass(frozen=True, slots=True)
class End:
    """How a call's stream ended; `detail` is a static word more on the reason."""

    reason: EndReason
    detail: str = ""


class Running:
    """One call under way; whoever runs it writes its `end`."""

    def __init__(self) -> None:
        self.end = End(EndReason.FAILED)
        self.over = asyncio.Event()


class LiveCalls:
    """Counts and remembers calls; knows nothing of sockets.

    A socket counts as pending from its opening until its token has been checked. `drain` is handed
    to every call: once set, they say goodbye and end.
    """

    def __init__(self, *, max_calls: int, max_pending_sockets: int) -> None:
        self.max_calls = max_calls
        self.max_pending_sockets = max_pending_sockets
        self.is_draining = False
        self.drain = asyncio.Event()
        self.n_pending_sockets = 0
        self._running: dict[str, list[Running]] = {}
        self._ends: OrderedDict[str, End] = OrderedDict()
        self._unasked: set[str] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._all_asked = asyncio.Event()
        self._all_asked.set()

    @property
    def n_running(self) -> int:
        """Calls with a checked socket."""
        return sum(map(len, self._running.values()))

    def has_room(self, n_waiting: int) -> bool:
        """Whether one more call can be announced, when `n_waiting` have been already."""
        return self.n_running + n_waiting < self.max_calls

    @contextmanager
    def pending_socket(self) -> Iterator[None]:
        """Count a socket that has not shown its token yet."""
        self.n_pending_sockets += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.n_pending_sockets -= 1
            self._settle()

    @contextmanager
    def running(self, call_sid: str) -> Iterator[Running]:
        """Count a call, and remember the reason it ends with; FAILED unless it is written."""
        call = Running()
        self._running.setdefault(call_sid, []).append(call)
        self._idle.clear()
        try:
            yield call
        finally:
            self._remove(call_sid, call)
            self._remember(call_sid, call.end)
            call.over.set()
            self._settle()

    async def end_of(self, call_sid: str, *, timeout_ms: int) -> End | None:
        """How a call's last stream ended; waits for one that is about to end.

        None if no stream of this call was ever let in, or if it is still running after the timeout.
        Cancelling leaves everything as it is.
        """
        for call in self._running.get(call_sid, [])[:]:
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    await call.over.wait()
            except TimeoutError:
                return None
        self._unasked.discard(call_sid)
        self._settle()
        return self._ends.get(call_sid)

    async def wait_idle(self) -> None:
        """Return once no call runs and no socket is pending."""
        await self._idle.wait()

    async def wait_all_asked(self) -> None:
        """Return once Twilio has asked what follows for every stream that we ended."""
        await self._all_asked.wait()

    def _remove(self, call_sid: str, call: Running) -> None:
        self._running[call_sid].remove(call)
        if not self._running[call_sid]:
            del self._running[call_sid]

    def _remember(self, call_sid: str, end: End) -> None:
        self._ends[call_sid] = end
        self._ends.move_to_end(call_sid)
        if end.reason is not EndReason.CALLER_HUNG_UP:
            self._unasked.add(call_sid)
        while len(self._ends) > MAX_REMEMBERED:
            oldest, _ = self._ends.popitem(last=False)
            self._unasked.discard(oldest)

    def _settle(self) -> None:
        if not self._running and not self.n_pending_sockets:
            self._idle.set()
        if self._unasked:
            self._all_asked.clear()
        else:
            self._all_asked.set()
