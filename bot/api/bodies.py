"""Bodies of requests, none of which is longer or later than it may be."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
from fastapi import Request
from starlette.types import Message, Receive

from bot.api.models import Problem
from bot.api.problems import Refused
from pipelines.private_files import make_private_file

__all__ = ["CSV", "XLSX", "Bounds", "bounded", "kept_file"]

log = structlog.get_logger()

CSV = "text/csv"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
SUFFIXES = {CSV: ".csv", XLSX: ".xlsx"}
DISK_RETRY_S = 60


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a body: how long it may be, and how long it may take."""

    max_bytes: int
    timeout_ms: int


def bounded(request: Request, bounds: Bounds) -> Request:
    """The same request. Reading its body raises Refused if that goes on for too long."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > bounds.max_bytes:
        raise _too_long(bounds)
    return Request(request.scope, _BoundedBody(request.receive, bounds).receive)


class _BoundedBody:
    def __init__(self, receive: Receive, bounds: Bounds) -> None:
        self._receive = receive
        self._bounds = bounds
        self._deadline_s = asyncio.get_running_loop().time() + bounds.timeout_ms / 1000
        self._n_bytes = 0

    async def receive(self) -> Message:
        try:
            async with asyncio.timeout_at(self._deadline_s):
                message = await self._receive()
        except TimeoutError:
            sentence = f"expected the whole body within {self._bounds.timeout_ms} ms"
            raise Refused(408, Problem(detail=sentence), {"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise Refused(400, Problem(detail="the body broke off"))
        self._n_bytes += len(message.get("body", b""))
        if self._n_bytes > self._bounds.max_bytes:
            raise _too_long(self._bounds)
        return message


def _too_long(bounds: Bounds) -> Refused:
    return Refused(413, Problem(detail=f"expected at most {bounds.max_bytes:,} bytes"))


@asynccontextmanager
async def kept_file(request: Request, bounds: Bounds) -> AsyncIterator[Path]:
    """The body as a file of its type, CSV or XLSX, deleted at the end. Raises Refused."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in SUFFIXES:
        raise Refused(415, Problem(detail=f"expected a Content-Type of {' or '.join(SUFFIXES)}"))
    body = bounded(request, bounds)
    with TemporaryDirectory(prefix="voicebot-") as folder:
        path = Path(folder) / f"file{SUFFIXES[media_type]}"
        try:
            await _write(body, path)
        except OSError as exc:
            log.error("upload_not_kept", error=exc.strerror)
            raise Refused(
                503, Problem(detail="the file cannot be kept"), {"Retry-After": str(DISK_RETRY_S)}
            ) from None
        yield path


async def _write(body: Request, path: Path) -> None:
    await asyncio.to_thread(make_private_file, path)
    with await asyncio.to_thread(path.open, "wb") as file:
        async for piece in body.stream():
            await asyncio.to_thread(file.write, piece)
