"""Bodies as files, which are gone afterwards."""

from collections.abc import Sequence

import pytest
from fastapi import Request
from starlette.types import Message

from bot.api.bodies import Bounds, kept_file
from bot.api.problems import Refused
from tests.conftest import mode_of

BOUNDS = Bounds(max_bytes=100, timeout_ms=10_000)


def request(messages: Sequence[Message]) -> Request:
    """A request whose body comes in pieces."""
    coming = iter(messages)

    async def receive() -> Message:
        return next(coming)

    headers = [(b"content-type", b"text/csv")]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.usefixtures("open_umask")
async def test_the_file_is_there_for_a_while() -> None:
    """It holds the whole body, only we can read it, and at the end it is gone with its folder."""
    coming = request([piece(b"number\n"), piece(b"+12125560001\n", more=False)])
    async with kept_file(coming, BOUNDS) as path:
        content = path.read_bytes()
        modes = mode_of(path), mode_of(path.parent)
    is_left = path.parent.exists()

    assert content == b"number\n+12125560001\n"
    assert modes == (0o600, 0o700)
    assert not is_left


async def test_a_body_that_breaks_off() -> None:
    """A client that leaves is no fault of ours, and nothing is done with what it sent."""
    coming = request([piece(b"number\n"), {"type": "http.disconnect"}])
    with pytest.raises(Refused, match="broke off"):
        async with kept_file(coming, BOUNDS):
            pass
