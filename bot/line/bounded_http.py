"""HTTP for a port that anybody may reach: a request's head has to come soon, and be short.

Whoever sends none, or one that does not end, is hung up on; h11 takes no head above 64 KiB. Bodies
are bounded by who reads them.
"""

import asyncio
from typing import ClassVar, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["BoundedHttp"]


class BoundedHttp(H11Protocol):
    """uvicorn's own protocol, with a limit to how long a head may take."""

    head_timeout_s: ClassVar[float] = 10.0
    _hang_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first head."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take a piece of a request; wait on if its head is not whole yet."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        """Have a limit while a head is waited for, counted from where that began."""
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._forget()
        elif self._hang_up is None:
            self._hang_up = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _forget(self) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None
