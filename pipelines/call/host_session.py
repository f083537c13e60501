"""One session with the GPU host: a bounded queue of events out, events in, an error at its end.

Knows the Realtime client and nothing of Pipecat.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from openai.types.realtime import RealtimeServerEvent

from pipelines.realtime.client import RealtimeConnection, connect
from pipelines.realtime.errors import HostLost, RealtimeError

MAX_WAITING_EVENTS: Final = 512  # some 30 s of a caller's sound; a host so far behind is lost

Event = dict[str, Any]


class HostSession:
    """Connects in `run`; events may be sent before that and go out once the session is open.

    A queue that fills up counts as a lost host: what would be dropped is the caller's words.
    """

    def __init__(self, url: str, *, token: str | None, open_timeout_ms: int) -> None:
        self._url = url
        self._token = token
        self._open_timeout_ms = open_timeout_ms
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING_EVENTS)
        self._full = False

    def send(self, event: Event) -> None:
        """Queue an event. Never blocks."""
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            self._full = True

    async def run(self, on_event: Callable[[RealtimeServerEvent], Awaitable[None]]) -> None:
        """Hold the session until it is lost; hand over each event of the host, one at a time.

        Raises RealtimeError, and nothing else of the wire. Cancelling closes the session.
        """
        async with connect(
            self._url, token=self._token, open_timeout_ms=self._open_timeout_ms
        ) as connection:
            error: RealtimeError = HostLost("the session ended")
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._send_all(connection), name="host-sender")
                    tasks.create_task(_receive_all(connection, on_event), name="host-receiver")
            except* RealtimeError as group:
                error = _first(group)
            raise error

    async def _send_all(self, connection: RealtimeConnection) -> None:
        while not self._full:
            await connection.send(await self._waiting.get())
        raise HostLost("the host is too far behind")


async def _receive_all(
    connection: RealtimeConnection, on_event: Callable[[RealtimeServerEvent], Awaitable[None]]
) -> None:
    async for event in connection:
        await on_event(event)
        await asyncio.sleep(0)  # many may have come at once: other calls have their turn
    raise HostLost("the session ended")


def _first(group: ExceptionGroup[RealtimeError]) -> RealtimeError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


def error_word(error: RealtimeError) -> str:
    """The error's class as a static word: HostLost is `host_lost`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
