"""The emulator's end of a media socket, against a server that answers when the test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.http11 import Request
from websockets.server import ServerProtocol

from telephony.emulator.media_socket import MediaSocket
from tests.waiting import eventually

N_SOCKETS = 8


class LateServer:
    """A websocket server whose answers to all, each with a first message, go out at once."""

    def __init__(self) -> None:
        self.n_ended = 0
        self._asked: list[tuple[ServerProtocol, asyncio.StreamWriter]] = []
        self._all_asked = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1")
        async with server:
            port = server.sockets[0].getsockname()[1]
            yield f"ws://127.0.0.1:{port}/"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        websocket = ServerProtocol()
        while data := await reader.read(4096):
            websocket.receive_data(data)
            for event in websocket.events_received():
                if isinstance(event, Request):
                    websocket.send_response(websocket.accept(event))
                    websocket.send_text(b"hello")
                    self._asked.append((websocket, writer))
                    if len(self._asked) == N_SOCKETS:
                        self._all_asked.set()
        self.n_ended += 1
        writer.close()

    async def answer(self) -> None:
        await self._all_asked.wait()
        for websocket, writer in self._asked:
            for piece in websocket.data_to_send():
                writer.write(piece)


async def test_who_is_cancelled_as_the_answer_comes_leaves_nothing_open() -> None:
    """Neither a socket nor an error in the loop, whether the answer was read before or not."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
    opening: list[asyncio.Task[MediaSocket]] = []

    def cancel_all(message: str | bytes) -> None:
        for task in opening:
            task.cancel()

    server = LateServer()
    async with server.running() as url:
        opening += [
            asyncio.create_task(MediaSocket.open(url, {}, cancel_all)) for _ in range(N_SOCKETS)
        ]
        await server.answer()
        results = await asyncio.gather(*opening, return_exceptions=True)
        await eventually(lambda: server.n_ended == N_SOCKETS)

    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert errors == []
