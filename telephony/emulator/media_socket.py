"""The network's end of one media socket: a websocket client that can also misbehave.

It drives the sans-I/O protocol of `websockets` from transport callbacks, without a task per
message: twenty calls with a hundred messages a second each stay cheap, and a cut without a close
frame or a reader that stops reading are one call on the transport.

    SocketError          base
        SocketRefused    no connection, no TLS, or no 101; `code` is Twilio's error code
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from telephony.media_stream import MAX_MESSAGE_BYTES_TO_TWILIO

OPEN_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0
MAX_UNREAD_BYTES = 64 * 1024  # four seconds of caller audio

OnMessage = Callable[[str | bytes], None]


class SocketError(Exception):
    """Base of this module's errors."""


class SocketRefused(SocketError):
    """The socket could not be opened; `code` is the error Twilio reports for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Closed:
    """How a socket ended: by a close frame of the bot's side (`clean`), or by a broken pipe."""

    clean: bool
    code: int


def can_be_opened(url: str) -> bool:
    """Whether a ws or wss URL that names a host is one for a socket: a user has a password."""
    try:
        parse_uri(url)
    except (InvalidURI, UnicodeError):
        return False
    return True


class MediaSocket(asyncio.Protocol):
    """An open websocket. Messages go to `on_message` in order; `closed` resolves at the end."""

    def __init__(self, url: str, headers: dict[str, str], on_message: OnMessage) -> None:
        uri = parse_uri(url)
        self._websocket = ClientProtocol(uri, max_size=MAX_MESSAGE_BYTES_TO_TWILIO)
        self._headers = headers
        self._on_message = on_message
        self._transport: asyncio.Transport | None = None
        self._fragments: list[bytes] = []
        self._fragments_are_text = True
        loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._lost: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[Closed] = loop.create_future()

    @classmethod
    async def open(cls, url: str, headers: dict[str, str], on_message: OnMessage) -> "MediaSocket":
        """Connect and shake hands. Raises SocketRefused; cancelling leaves nothing open."""
        socket = cls(url, headers, on_message)
        try:
            await socket._open()
        except BaseException:
            # the answer may come before the transport knows that nobody waits for it
            socket._opened.cancel()
            socket.cut()
            raise
        return socket

    async def _open(self) -> None:
        uri = self._websocket.uri
        context = ssl.create_default_context() if uri.secure else None
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: self, uri.host, uri.port, ssl=context
                )
                await self._opened
        except TimeoutError as exc:
            raise SocketRefused(31901, "the media socket did not open in 5 s") from exc
        except ssl.SSLError as exc:
            raise SocketRefused(31910, "the media socket has no valid TLS certificate") from exc
        except OSError as exc:
            raise SocketRefused(31902, "the media socket was refused") from exc

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._websocket.state is State.OPEN

    @property
    def is_congested(self) -> bool:
        """Whether the bot has not read for so long that messages pile up on this side."""
        transport = self._transport
        return transport is not None and transport.get_write_buffer_size() > MAX_UNREAD_BYTES

    def send(self, message: str | bytes) -> None:
        """Send one message; dropped silently once the socket is closing."""
        if self._websocket.state is not State.OPEN:
            return
        if isinstance(message, str):
            self._websocket.send_text(message.encode())
        else:
            self._websocket.send_binary(message)
        self._write()

    def pause_reading(self) -> None:
        """Stop taking what the bot sends: its socket fills up."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def cut(self) -> None:
        """Drop the connection without a close frame, as a broken network does."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self, code: int = 1000) -> None:
        """Close with a handshake, for two seconds at most; cancelling cuts the connection."""
        try:
            if self._websocket.state is State.OPEN:
                self._websocket.send_close(code)
                self._write()
            self.resume_reading()
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.shield(self._lost)
        except TimeoutError:
            pass
        finally:
            self.cut()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        request = self._websocket.connect()
        request.headers.update(self._headers)
        self._websocket.send_request(request)
        self._write()

    def data_received(self, data: bytes) -> None:
        self._websocket.receive_data(data)
        self._dispatch()
        self._write()

    def eof_received(self) -> bool:
        self._websocket.receive_eof()
        self._dispatch()
        self._write()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._websocket.receive_eof()
        if not self._opened.done():
            self._opened.set_exception(SocketRefused(31920, "the media socket was hung up on"))
        if not self._lost.done():
            self._lost.set_result(None)
        self._set_closed()

    def _set_closed(self) -> None:
        if not self.closed.done():
            received = self._websocket.close_rcvd
            self.closed.set_result(
                Closed(clean=received is not None, code=received.code if received else 1006)
            )

    def _write(self) -> None:
        assert self._transport is not None
        for piece in self._websocket.data_to_send():
            if self._transport.is_closing():
                return
            if piece:
                self._transport.write(piece)
            else:
                self._transport.close()

    def _dispatch(self) -> None:
        for event in self._websocket.events_received():
            if isinstance(event, Response):
                self._on_response()
            elif isinstance(event, Frame):
                self._on_frame(event)
        if self._websocket.handshake_exc is not None:
            self._on_response()

    def _on_response(self) -> None:
        if self._opened.done():
            return
        refusal = self._websocket.handshake_exc
        if refusal is None:
            self._opened.set_result(None)
            return
        status = getattr(getattr(refusal, "response", None), "status_code", None)
        detail = f"answered {status}" if status else "did not answer as a websocket does"
        known = isinstance(refusal, InvalidHandshake) or status
        code = 31920 if known else 31924
        self._opened.set_exception(SocketRefused(code, f"the media socket {detail}"))

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._fragments_are_text = frame.opcode is Opcode.TEXT
            if frame.fin:
                self._deliver(frame.data)
            else:
                self._fragments = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT:
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                fragments, self._fragments = self._fragments, []
                self._deliver(b"".join(fragments))
        elif frame.opcode is Opcode.CLOSE:
            self._set_closed()

    def _deliver(self, payload: bytes | bytearray | memoryview) -> None:
        if self._fragments_are_text:
            self._on_message(bytes(payload).decode(errors="replace"))
        else:
            self._on_message(bytes(payload))
