"""CSV that is sent while it is read.

A connection of the database is taken for as long as that lasts, and calls need some too. So exports
take turns, and a client that does not read what it asked for is cut off.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

import structlog
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from bot.campaigns.csv_export import csv_row
from bot.storage.database import is_out_of_reach

__all__ = ["CsvAnswer"]

log = structlog.get_logger()

PIECE_ROWS = 100  # made within a few milliseconds: sound is not to wait for longer
SEND_TIMEOUT_MS = 30_000


class CsvAnswer(StreamingResponse):
    """Rows under their headings. Nothing is read of them before it is the answer's turn."""

    def __init__(
        self,
        headings: Sequence[str],
        rows: AsyncIterator[Sequence[object]],
        turns: asyncio.Semaphore,
        *,
        send_timeout_ms: int = SEND_TIMEOUT_MS,
    ) -> None:
        self._pieces = _pieces(headings, rows)
        self._turns = turns
        self._send_timeout_s = send_timeout_ms / 1000
        super().__init__(self._pieces, media_type="text/csv")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. Where it breaks off, the connection does too: the client is not misled."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._send_timeout_s):
                await send(message)

        async with self._turns, aclosing(self._pieces):
            try:
                await super().__call__(scope, receive, send_in_time)
            except Exception as exc:
                if not is_out_of_reach(exc):  # of which a time-out is one
                    raise
                log.warning("export_cut", error=type(exc).__name__)


async def _pieces(
    headings: Sequence[str], rows: AsyncIterator[Sequence[object]]
) -> AsyncGenerator[str, None]:
    lines = [csv_row(headings)]
    async for row in rows:
        lines.append(csv_row(row))
        if len(lines) >= PIECE_ROWS:
            yield "".join(lines)
            lines.clear()
            await asyncio.sleep(0)
    yield "".join(lines)
