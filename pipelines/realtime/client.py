"""The client of a GPU host: one websocket, typed events in, plain or typed events out.

    async with connect(url, token=token, open_timeout_ms=2000) as host:
        await host.send({"type": "response.create"})
        async for event in host:
            ...

A host that dies is noticed without its help: pings go out twice a second, and one that is not
answered in time, or a message that cannot be handed over in time, is `HostLost` within about two
seconds. So keep iterating: messages wait in a queue, but a consumer that lets it fill stops reading
the answers to pings as well.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast, get_args

from openai import BaseModel
from openai.types.realtime import (
    RealtimeServerEvent,
    ResponseAudioDeltaEvent,
    ResponseAudioTranscriptDeltaEvent,
)
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedOK,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
)

from pipelines.realtime.errors import (
    AtCapacity,
    HostLost,
    HostUnreachable,
    RealtimeError,
    Unauthorized,
)

PING_INTERVAL_MS: Final = 500
PING_TIMEOUT_MS: Final = 1300
SEND_TIMEOUT_MS: Final = 1500
CLOSE_TIMEOUT_MS: Final = 200
_QUEUE_MESSAGES: Final = 1024  # about one long reply
_MAX_MESSAGE_BYTES: Final = 1024 * 1024

# class of each event, by its type
_CLASSES: Final[dict[str, type[BaseModel]]] = {
    get_args(cls.model_fields["type"].annotation)[0]: cls
    for cls in get_args(get_args(RealtimeServerEvent)[0])
}
# an address that cannot be one: its port, its host's name, or all of it
_BAD_ADDRESS: Final = (InvalidURI, ValueError, OverflowError)
_NO_EVENT: Final = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
_FREQUENT: Final = (ResponseAudioDeltaEvent, ResponseAudioTranscriptDeltaEvent)


@asynccontextmanager
async def connect(
    url: str, *, token: str | None, open_timeout_ms: int
) -> AsyncIterator["RealtimeConnection"]:
    """Open a session; leaving the block closes it.

    Entering waits for the host's first event, which is still the first one to be iterated. Raises
    HostUnreachable, Unauthorized or AtCapacity. Cancelling closes the socket.
    """
    try:
        async with asyncio.timeout(open_timeout_ms / 1000):
            connection = await _open(url, token)
    except TimeoutError:
        raise HostUnreachable(f"no session within {open_timeout_ms} ms") from None
    try:
        yield connection
    finally:
        await connection.close()


async def _open(url: str, token: str | None) -> "RealtimeConnection":
    try:
        websocket = await connect_websocket(
            url,
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            compression=None,
            proxy=None,
            open_timeout=None,
            ping_interval=PING_INTERVAL_MS / 1000,
            ping_timeout=PING_TIMEOUT_MS / 1000,
            close_timeout=CLOSE_TIMEOUT_MS / 1000,
            max_size=_MAX_MESSAGE_BYTES,
            max_queue=_QUEUE_MESSAGES,
        )
    except InvalidStatus as exc:
        raise _refused(exc.response.status_code) from exc
    except (OSError, *_BAD_ADDRESS, InvalidHandshake, ConnectionClosed) as exc:
        raise HostUnreachable(f"cannot connect: {type(exc).__name__}") from exc
    try:
        return RealtimeConnection(websocket, first=await websocket.recv())
    except ConnectionClosed as exc:
        raise HostUnreachable("the host closed the session before it began") from exc
    except BaseException:
        websocket.transport.abort()
        raise


def _refused(status: int) -> RealtimeError:
    if status in (401, 403):
        return Unauthorized("the host refused the token")
    if status == 503:
        return AtCapacity("the host has no free seat")
    return HostUnreachable(f"the host answered with status {status}")


class RealtimeConnection:
    """An open session. One task may send while another iterates."""

    def __init__(self, websocket: ClientConnection, *, first: str | bytes) -> None:
        self._websocket = websocket
        self._first: str | bytes | None = first

    async def send(self, event: Mapping[str, Any] | BaseModel) -> None:
        """Send an event: a mapping, or one of the client events of `openai.types.realtime`.

        Raises HostLost. Cancelling may leave the event sent or not.
        """
        if isinstance(event, BaseModel):
            text = event.model_dump_json(exclude_unset=True)
        else:
            text = json.dumps(event)
        try:
            async with asyncio.timeout(SEND_TIMEOUT_MS / 1000):
                await self._websocket.send(text)
        except TimeoutError:
            self._websocket.transport.abort()
            raise HostLost("the host takes no messages") from None
        except ConnectionClosed as exc:
            raise _lost(exc) from exc

    def __aiter__(self) -> AsyncIterator[RealtimeServerEvent]:
        """Iterate over the host's events; ends when this side closes, else raises HostLost."""
        return self._events()

    async def _events(self) -> AsyncIterator[RealtimeServerEvent]:
        if self._first is not None:
            first, self._first = self._first, None
            yield parse_event(first)
        try:
            while True:
                yield parse_event(await self._websocket.recv())
        except ConnectionClosed as exc:
            if _closed_by_us(exc):
                return
            raise _lost(exc) from exc

    async def close(self) -> None:
        """Close the session; waits for the host at most `CLOSE_TIMEOUT_MS`. Idempotent."""
        await self._websocket.close()


def parse_event(message: str | bytes) -> RealtimeServerEvent:
    """One event of the host; cheap for the frequent ones. Raises HostLost if it is no event.

    Values that the protocol's types do not know, such as a rate of 16,000, are kept as they are.
    """
    try:
        body = json.loads(message)
        cls = _CLASSES.get(body["type"], BaseModel)
        event = cls.model_validate(body) if cls in _FREQUENT else cls.construct(**body)
    except _NO_EVENT:  # what pydantic says of a value quotes it
        raise HostLost("the host does not speak the Realtime protocol") from None
    return cast(RealtimeServerEvent, event)


def _closed_by_us(exc: ConnectionClosed) -> bool:
    return isinstance(exc, ConnectionClosedOK) and exc.rcvd_then_sent is False


def _lost(exc: ConnectionClosed) -> HostLost:
    close = exc.rcvd or exc.sent
    return HostLost(f"the session broke off (close code {close.code if close else 'missing'})")
