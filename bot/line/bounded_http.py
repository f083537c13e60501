"""HTTP for a port that anybody may reach: what a peer has begun has to come soon, or it is hung up.

A request's head is waited for, and what is left of a body once the request is answered: nobody
reads that any more. h11 takes no head above 64 KiB. Bodies of requests that are not answered yet
are bounded by who reads them.
"""

import asyncio
from typing import ClassVar, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

__all__ = ["BoundedHttp"]


class BoundedHttp(H11Protocol):
    """uvicorn's own protocol, with a limit to how long a head or an unread body may take."""

    patience_s: ClassVar[float] = 10.0
    _hang_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first head."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take a piece of a request; wait on if what is waited for is not whole yet."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._forget()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over; hang up on a head that is not even refused, as with a body."""
        super().handle_websocket_upgrade(event)
        taker = self.transport.get_protocol()
        if isinstance(taker, WebSocketsSansIOProtocol) and not taker.handshake_initiated:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Hang up on what is no HTTP; say so unless the request has an answer already."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # an answer that is still to come would be a second one
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _watch(self) -> None:
        """Have a limit while something is waited for, counted from where that began.

        A body that nobody reads may end: to hang up right after the answer might lose that. One of
        which nothing more comes is uvicorn's affair, as all silence after an answer is.
        """
        theirs, ours = self.conn.their_state, self.conn.our_state
        is_unread = theirs is h11.SEND_BODY and ours is h11.DONE
        is_waiting = theirs is h11.IDLE or is_unread
        if not is_waiting or self.transport.is_closing():
            self._forget()
        elif self._hang_up is None:
            self._hang_up = self.loop.call_later(self.patience_s, self.transport.close)

    def _forget(self) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None
