"""The calls of this process: how many run, how they ended, and whether new ones are taken."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipelines.call.plan import EndReason

__all__ = ["MAX_REMEMBERED", "End", "LiveCalls", "Running"]

MAX_REMEMBERED = 2_000  # ends of streams and beginnings of calls, for the webhooks that follow

_Stream = tuple[str, int]  # a call and which try of it


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

    Each of a call's streams has an end of its own: `retry` says which one is meant.

    A socket counts as pending from its opening until its token has been checked. `drain` is handed
    to every call: once set, they say goodbye and end.
    """

    def __init__(self, *, max_calls: int, max_pending_sockets: int) -> None:
        self.max_calls = max_calls
        self.max_pending_sockets = max_pending_sockets
        self.is_draining = False
        self.drain = asyncio.Event()
        self.n_pending_sockets = 0
        self._running: dict[_Stream, list[Running]] = {}
        self._ends: OrderedDict[_Stream, End] = OrderedDict()
        self._unasked: set[_Stream] = set()
        self._first_asked_ms: OrderedDict[str, float] = OrderedDict()
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

    def first_asked_ms(self, call_sid: str, now_ms: float) -> float:
        """When it was first asked what to do with a call: now, or before a stream that failed."""
        first_ms = self._first_asked_ms.setdefault(call_sid, now_ms)
        if len(self._first_asked_ms) > MAX_REMEMBERED:
            self._first_asked_ms.popitem(last=False)
        return first_ms

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
    def running(self, call_sid: str, retry: int) -> Iterator[Running]:
        """Count a call, and remember the reason it ends with; FAILED unless it is written."""
        stream, call = (call_sid, retry), Running()
        self._running.setdefault(stream, []).append(call)
        self._idle.clear()
        try:
            yield call
        finally:
            self._remove(stream, call)
            self._remember(stream, call.end)
            call.over.set()
            self._settle()

    async def end_of(self, call_sid: str, retry: int, *, timeout_ms: int) -> End | None:
        """How a call's stream ended; waits for one that is about to end.

        None if this stream was never let in, or if it is still running after the timeout.
        Cancelling leaves everything as it is.
        """
        stream = (call_sid, retry)
        for call in self._running.get(stream, [])[:]:
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    await call.over.wait()
            except TimeoutError:
                return None
        self._unasked.discard(stream)
        self._settle()
        return self._ends.get(stream)

    async def wait_idle(self) -> None:
        """Return once no call runs and no socket is pending."""
        await self._idle.wait()

    async def wait_all_asked(self) -> None:
        """Return once Twilio has asked what follows for every stream that we ended."""
        await self._all_asked.wait()

    def _remove(self, stream: _Stream, call: Running) -> None:
        self._running[stream].remove(call)
        if not self._running[stream]:
            del self._running[stream]

    def _remember(self, stream: _Stream, end: End) -> None:
        self._ends[stream] = end
        self._ends.move_to_end(stream)
        if end.reason is not EndReason.CALLER_HUNG_UP:
            self._unasked.add(stream)
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
