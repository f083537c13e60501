"""The media socket's door, over real sockets."""

import asyncio
import logging

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from telephony.media_stream import MAX_MESSAGE_BYTES
from tests.bot.line.line import (
    CALL_SID,
    TestLine,
    begin,
    running_line,
)
from tests.conftest import MS
from tests.waiting import eventually


async def refused(line: TestLine, **options: str) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with line.socket(**options):
            pass
    return caught.value.response.status_code


async def closed(line: TestLine, *messages: str | bytes) -> int:
    """What a socket is closed with after these messages."""
    async with line.socket() as websocket:
        for message in messages:
            await websocket.send(message)
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(websocket.recv(), 5_000 * MS)
        return caught.value.rcvd.code if caught.value.rcvd else 1006


async def test_upgrade_without_a_good_signature(line: TestLine) -> None:
    """A socket with a foreign signature, or one of another URL, is refused before it opens."""
    assert await refused(line, token="another") == 403
    assert await refused(line, url="ws://evil.example.com/twilio/media") == 403
    assert line.metric("sockets_refused_total", reason="signature") == 2


async def test_media_signature_setting() -> None:
    """Relaxed takes the URL with a slash or without; strict exactly as given; off anything."""
    async with running_line(media_signature="relaxed") as line:
        for url in (line.media_url, line.media_url + "/"):
            async with line.socket(url=url):
                pass
    async with running_line(media_signature="strict") as line, line.socket():
        assert await refused(line, url=line.media_url + "/") == 403
    async with running_line(media_signature="off") as line, line.socket(token="another"):
        pass


async def test_token_is_needed(line: TestLine) -> None:
    """A wrong token, another call's token, or a used one closes the socket with 1008."""
    token = await line.announce()
    for given, call_sid in (("", CALL_SID), ("x" * 43, CALL_SID), (token, "CA2")):
        async with line.socket() as websocket:
            await begin(websocket, given, call_sid)
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
            assert websocket.close_code == 1008
    async with line.socket() as first, line.socket() as second:
        await begin(first, token)
        await eventually(lambda: bool(line.call.plans))
        await begin(second, token)
        with pytest.raises(ConnectionClosed):
            await second.recv()
        assert second.close_code == 1008

    assert line.metric("sockets_refused_total", reason="token") == 4


async def test_start_must_come_in_time() -> None:
    """A socket that says nothing is closed with 1008."""
    async with running_line(start_timeout_ms=50) as line:
        assert await closed(line) == 1008
        assert line.metric("sockets_refused_total", reason="start_timeout") == 1


MALFORMED: list[tuple[str | bytes, int, str]] = [
    (b"\x00\x01", 1003, "binary"),
    ("{", 1007, "not_json"),
    ("[]", 1007, "not_object"),
    ('{"event": "start"}', 1007, "missing_key"),
    ('{"event": "media", "media": {"payload": "%"}}', 1007, "bad_base64"),
    ("x" * (MAX_MESSAGE_BYTES + 1), 1009, "too_large"),
]


async def test_malformed_before_start(line: TestLine) -> None:
    """Nonsense ends the socket with a fitting code, is counted by its word, and hurts no other."""
    async with line.running_call("CA2") as other:
        for message, code, word in MALFORMED:
            assert await closed(line, message) == code
            assert line.metric("protocol_errors_total", word=word) == 1
        await other.ping()

        assert line.metric("calls_running") == 1


async def test_wrong_media_format(line: TestLine) -> None:
    """A stream that is not 8 kHz mu-law is refused."""
    token = await line.announce()
    async with line.socket() as websocket:
        await begin(websocket, token, mediaFormat={"encoding": "audio/l16"})
        with pytest.raises(ConnectionClosed):
            await websocket.recv()

    assert line.metric("protocol_errors_total", word="media_format") == 1


async def test_invalid_utf8(line: TestLine, caplog: pytest.LogCaptureFixture) -> None:
    """Text that is not UTF-8 closes the socket without a traceback in the log."""
    async with line.socket() as websocket:
        await websocket.send(b"\xff\xfe", text=True)
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        assert websocket.close_code == 1007
    await eventually(lambda: line.metric("protocol_errors_total", word="bad_text") == 1)

    assert not [record for record in caplog.records if record.exc_info]


async def test_unknown_messages_before_start(line: TestLine) -> None:
    """Events we do not know are ignored, though not for ever."""
    token = await line.announce()
    async with line.socket() as websocket:
        await websocket.send('{"event": "news"}')
        await begin(websocket, token)
        await eventually(lambda: bool(line.call.plans))

    assert await closed(line, *['{"event": "news"}'] * 20) == 1007


async def test_cap_on_pending_sockets(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the cap, sockets are refused until one has shown its token or gone. No error."""
    async with (
        running_line(max_pending_sockets=2) as line,
        line.socket(),
        line.socket() as second,
    ):
        await eventually(lambda: line.web.calls.n_pending_sockets == 2)
        assert await refused(line) == 503
        await begin(second, await line.announce())
        await eventually(lambda: bool(line.call.plans))
        async with line.socket():
            pass

    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_message_too_large_in_a_call(line: TestLine) -> None:
    """Over 64 KiB the call ends as a protocol error, not as a hang-up."""
    async with line.running_call() as websocket:
        await websocket.send("x" * (MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        assert websocket.close_code == 1009
    await eventually(lambda: line.metric("calls_total", reason="protocol_error") == 1)

    assert line.metric("protocol_errors_total", word="too_large") == 1


async def test_a_failing_call(line: TestLine) -> None:
    """Whatever breaks inside a call closes its socket, is counted as failed, and stays there."""
    line.call.error = LookupError("a mistake of ours")
    token = await line.announce()
    async with line.socket() as websocket:
        await begin(websocket, token)
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        assert websocket.close_code == 1011
    await eventually(lambda: line.metric("calls_total", reason="failed") == 1)

    assert (await line.http.get(line.url + "/healthz")).status_code == 200
