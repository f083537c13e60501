"""CSV that is sent while it is read: by turns, and to clients that read it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import structlog
from starlette.types import Message, Scope

from bot.api.exports import CsvAnswer
from tests.waiting import eventually

SCOPE: Scope = {"type": "http", "asgi": {"spec_version": "2.3"}}


class Table:
    """Rows that are read from somewhere that has to be closed."""

    def __init__(self, n: int = 1) -> None:
        self.n = n
        self.is_open = False

    async def rows(self) -> AsyncIterator[Sequence[object]]:
        self.is_open = True
        try:
            for row in range(self.n):
                yield (row, "x" * 1000)
        finally:
            self.is_open = False


async def stays() -> Message:
    """A client that does not leave."""
    await asyncio.Event().wait()
    return {"type": "http.disconnect"}


def reader(sent: list[Message], until: asyncio.Event) -> Callable[[Message], Any]:
    """A client that reads nothing of the body until something happens."""

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await until.wait()
        sent.append(message)

    return send


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    """Its answer stays without an end, its rows are closed, and the log tells it."""
    table, sent = Table(500), list[Message]()
    answer = CsvAnswer(("n", "text"), table.rows(), asyncio.Semaphore(1), send_timeout_ms=20)
    with structlog.testing.capture_logs() as lines:
        await answer(SCOPE, stays, reader(sent, asyncio.Event()))
    del answer
    await eventually(lambda: not table.is_open)

    assert [message["type"] for message in sent] == ["http.response.start"]
    assert [(line["event"], line["error"]) for line in lines] == [("export_cut", "TimeoutError")]


async def test_rows_that_cannot_be_read_any_more() -> None:
    """A database that goes away cuts the answer off, too: half a table is not the whole."""
    sent: list[Message] = []

    async def rows() -> AsyncIterator[Sequence[object]]:
        for n in range(100):
            yield (n, "x" * 1000)
        raise ConnectionResetError

    goes_on = asyncio.Event()
    goes_on.set()
    with structlog.testing.capture_logs() as lines:
        await CsvAnswer(("n",), rows(), asyncio.Semaphore(1))(SCOPE, stays, reader(sent, goes_on))

    assert sent[-1]["more_body"]
    assert [line["event"] for line in lines] == ["export_cut"]


async def test_answers_take_turns() -> None:
    """Nothing is read of the second one's rows before the first one is through."""
    turns, goes_on = asyncio.Semaphore(1), asyncio.Event()
    first, second = Table(), Table()
    sent: list[Message] = []
    async with asyncio.TaskGroup() as tasks:
        for table in (first, second):
            answer = CsvAnswer(("n",), table.rows(), turns)
            tasks.create_task(answer(SCOPE, stays, reader(sent, goes_on)))
        await eventually(lambda: len(sent) == 1)
        n_before = len(sent)
        goes_on.set()

    assert n_before == 1
    assert [message["type"] for message in sent].count("http.response.start") == 2
    assert not turns.locked()
