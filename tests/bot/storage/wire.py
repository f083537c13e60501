"""A wire to a database, over which nothing may come any more: no close, no reset, only silence."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from urllib.parse import parse_qs, urlsplit

__all__ = ["Wire", "wire"]


class Wire:
    """Carries connections to a PostgreSQL that listens on a socket in a folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._passing: list[asyncio.Event] = []  # of each connection, whether it carries anything

    def fall_silent(self) -> None:
        """Carry nothing more of the connections that there are; new ones are carried."""
        for passing in self._passing:
            passing.clear()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side closes it."""
        passing = asyncio.Event()
        passing.set()
        self._passing.append(passing)
        theirs, ours = await asyncio.open_unix_connection(f"{self._folder}/.s.PGSQL.5432")
        with closing(writer), closing(ours):
            ways = {
                asyncio.create_task(_one_way(passing, reader, ours)),
                asyncio.create_task(_one_way(passing, theirs, writer)),
            }
            _, left = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in left:
                way.cancel()


async def _one_way(
    passing: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while piece := await reader.read(65_536):
        if passing.is_set():
            writer.write(piece)


@asynccontextmanager
async def wire(postgresql_url: str) -> AsyncIterator[tuple[Wire, str]]:
    """A wire to a database of the tests, and the URL at its near end."""
    there = urlsplit(postgresql_url)
    [folder] = parse_qs(there.query)["host"]
    ours = Wire(folder)
    async with AsyncExitStack() as stack:
        near = await stack.enter_async_context(
            await asyncio.start_server(ours.carry, "127.0.0.1", 0)
        )
        port = near.sockets[0].getsockname()[1]
        yield ours, f"postgresql://postgres@127.0.0.1:{port}{there.path}"
