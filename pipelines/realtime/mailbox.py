"""The two bounded queues between one client's socket and the engine thread.

Inward, the socket's reader waits while the queue is full, so that a client that talks faster than
it is served is slowed down by TCP. Outward, the engine stops advancing the client's reply while the
queue is full, and stops serving the client at all when twice that waits.

The socket's side runs on the event loop, the engine's side on its thread; neither polls.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_IN_MESSAGES: Final = 256  # 5 s of frames of 20 ms
MAX_IN_SIZE: Final = 4 * 1024 * 1024  # characters
MAX_OUT_SIZE: Final = 256 * 1024  # characters: 4 s of speech at 24 kHz


@dataclass(frozen=True, slots=True)
class Ending:
    """How a session ends: what the client is told first, if anything, and how the socket closes."""

    reason: str  # for the log: one word
    close_code: int
    code: str | None = None
    message: str = ""


class Mailbox:
    """Messages of one client on their way to the engine and back. Create it on the event loop."""

    def __init__(self, wake_engine: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake_engine = wake_engine
        self._lock = threading.Lock()
        self._incoming: deque[tuple[str | bytes, float]] = deque()
        self._in_size = 0
        self._outgoing: deque[str] = deque()
        self._out_size = 0
        self._room = asyncio.Event()  # for the reader: there is room again, or the session is over
        self._news = asyncio.Event()  # for the sender: there is something to send, or it is over
        self._is_over = asyncio.Event()
        self._ending_wanted: Ending | None = None
        self.ending: Ending | None = None  # set by the engine, once, after its last message

    # ---- on the event loop

    async def put(self, message: str | bytes) -> None:
        """Hand a message to the engine; waits for room. Cancelling drops the message."""
        while not self._has_room() and self.ending is None:
            self._room.clear()
            if not self._has_room():
                await self._room.wait()
        with self._lock:
            self._incoming.append((message, time.monotonic()))
            self._in_size += len(message)
        self._wake_engine()

    async def get(self) -> str | None:
        """The next message for the client, or None when the session is over. Call `sent` next."""
        while not self._outgoing:
            if self.ending is not None:
                return None
            self._news.clear()
            if not self._outgoing and self.ending is None:
                await self._news.wait()
        return self._outgoing[0]

    def sent(self) -> None:
        """The message last got is on its way: it makes room now."""
        with self._lock:
            was_full = self._out_size > MAX_OUT_SIZE
            self._out_size -= len(self._outgoing.popleft())
        if was_full:
            self._wake_engine()

    async def over(self) -> None:
        """Wait until the engine has freed the session."""
        await self._is_over.wait()

    def want_end(self, ending: Ending) -> None:
        """Ask the engine to end the session; the first wish counts."""
        self._ending_wanted = self._ending_wanted or ending
        self._wake_engine()

    # ---- on the engine thread

    @property
    def ending_wanted(self) -> Ending | None:
        """Set when the event loop wants the session ended."""
        return self._ending_wanted

    @property
    def is_full(self) -> bool:
        """Whether the client is too slow for more of its reply."""
        return self._out_size > MAX_OUT_SIZE

    @property
    def is_overfull(self) -> bool:
        """Whether the client is too slow for anything."""
        return self._out_size > 2 * MAX_OUT_SIZE

    def take(self) -> tuple[str | bytes, float] | None:
        """The client's next message, if there is one, and when it came: monotonic seconds."""
        with self._lock:
            if not self._incoming:
                return None
            was_full = not self._has_room()
            message, came_s = self._incoming.popleft()
            self._in_size -= len(message)
        if was_full:
            self._loop.call_soon_threadsafe(self._room.set)
        return message, came_s

    def emit(self, message: str) -> None:
        """Queue a message for the client. Never waits: `is_full` asks to do less."""
        with self._lock:
            was_empty = not self._outgoing
            self._outgoing.append(message)
            self._out_size += len(message)
        if was_empty:
            self._loop.call_soon_threadsafe(self._news.set)

    def finish(self, ending: Ending) -> None:
        """Nothing more will come: what is queued is sent, then the socket closes."""
        self.ending = ending
        self._loop.call_soon_threadsafe(self._over)

    def _over(self) -> None:
        for event in (self._room, self._news, self._is_over):
            event.set()

    def _has_room(self) -> bool:
        return len(self._incoming) < MAX_IN_MESSAGES and self._in_size < MAX_IN_SIZE
