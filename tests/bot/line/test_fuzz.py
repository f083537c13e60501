"""Anything at all at the two doors of the web application: webhooks and the media socket."""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator
from websockets.exceptions import ConnectionClosed

from telephony.media_stream import WORDS, Start
from tests.bot.line.line import FIELDS, TOKEN, TestLine, begin, running_line
from tests.conftest import MS
from tests.waiting import eventually

texts = st.text(max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
START = json.loads(Start(stream_sid="MZ1", call_sid="CA1", account_sid="AC1").dump())
damaged_starts = st.builds(
    lambda key, value: json.dumps({**START, "start": {**START["start"], key: value}}),
    st.sampled_from(sorted(START["start"])),
    json_values,
)
messages = st.one_of(
    st.binary(max_size=200),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    json_values.map(json.dumps),
    st.builds(lambda event, body: json.dumps({"event": event, event: body}), texts, json_values),
    damaged_starts,
)
fields = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
    | st.sampled_from(sorted(FIELDS)),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    max_size=6,
)


def on_a_line(scenario: Callable[[TestLine], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with running_line() as line:
            await scenario(line)
            # Whatever happened, a call can still be made.
            token = await line.announce("CA9")
            async with line.socket() as websocket:
                await begin(websocket, token, "CA9")
                await eventually(lambda: bool(line.call.plans))

    asyncio.run(run())


def no_tracebacks(caplog: pytest.LogCaptureFixture) -> bool:
    return not [r for r in caplog.records if r.exc_info or r.levelno >= logging.ERROR]


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    unsigned=st.lists(st.binary(max_size=300), max_size=8),
    forms=st.lists(fields, max_size=8),
    bodies=st.lists(json_values, max_size=8),
    first_messages=st.lists(messages, max_size=8),
)
def test_anything(
    unsigned: list[bytes],
    forms: list[dict[str, str]],
    bodies: list[Any],
    first_messages: list[str | bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each door answers as it should, nothing breaks, and a call can be made afterwards."""

    async def scenario(line: TestLine) -> None:
        await send_unsigned(line, unsigned)
        await send_forms(line, forms)
        await send_json(line, bodies)
        await open_sockets(line, first_messages)

    on_a_line(scenario)
    assert no_tracebacks(caplog)


async def send_unsigned(line: TestLine, bodies: list[bytes]) -> None:
    """What is not signed is refused."""
    for body in bodies:
        headers = {"X-Twilio-Signature": body[:40].hex() or "x"}
        answer = await line.http.post(line.url + "/twilio/voice", content=body, headers=headers)
        assert answer.status_code == 403


async def send_forms(line: TestLine, forms: list[dict[str, str]]) -> None:
    """Signed fields of any kind get an answer."""
    for path in ("/twilio/voice", "/twilio/stream-ended"):
        for form in forms:
            assert (await line.post(path, form)).status_code in (200, 400, 403)
            assert (await line.post(path, {**FIELDS, **form})).status_code in (200, 400)


async def send_json(line: TestLine, bodies: list[Any]) -> None:
    """A signed JSON body of any shape is read, or refused by status."""
    for value in bodies:
        body = json.dumps(value)
        digest = RequestValidator(TOKEN).compute_hash(body)
        url = f"{line.url}/twilio/voice?bodySHA256={digest}"
        headers = {
            "X-Twilio-Signature": RequestValidator(TOKEN).compute_signature(url, {}),
            "Content-Type": "application/json",
        }
        answer = await line.http.post(url, content=body.encode(), headers=headers)
        assert answer.status_code in (200, 400)


async def open_sockets(line: TestLine, first_messages: list[str | bytes]) -> None:
    """A socket that sends anything but a start with its token ends with a code of ours."""
    for message in first_messages:
        async with line.socket() as websocket:
            await websocket.send(message)
            await websocket.send(b"")  # in case the message was one to be ignored
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
            assert websocket.close_code in (1003, 1007, 1008)
    counted = {
        sample.labels["word"]
        for metric in line.web.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "voicebot_protocol_errors_total"
    }
    assert counted <= WORDS


UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
RAW = [
    b"GET /twilio/media\xff HTTP/1.1\r\nHost: [\r\n" + UPGRADE + b"\r\n",
    b"GET /twilio/media HTTP/1.1\r\nHost: a\r\n" + UPGRADE + b"\r\n",
    b"GET /twilio/media HTTP/1.1\r\nHost: a\r\n"
    + UPGRADE
    + b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 99\r\n\r\n",
    b"POST /twilio/voice HTTP/1.1\r\nHost: [\r\nX-Twilio-Signature: \xff\r\n"
    b"Content-Length: 1\r\n\r\n\xff",
    b"POST http://[/twilio/voice HTTP/1.1\r\nHost: [\r\nContent-Length: 0\r\n\r\n",
    b"POST /twilio/voice?retry=%ff%00 HTTP/1.1\r\nHost: \r\nContent-Length: -1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"POST /twilio/voice HTTP/1.1\r\nHost: a\r\nX-Twilio-Signature: a\r\n"
    b"Content-Length: 9\r\n\r\nshort",
]


def test_raw_bytes(caplog: pytest.LogCaptureFixture) -> None:
    """Requests that no client library would send are refused, and leave no traceback."""

    async def scenario(line: TestLine) -> None:
        for request in RAW:
            port = int(line.url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 10_000 * MS)
            assert not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 5", b"HTTP/1.1 101"))
            writer.close()

    on_a_line(scenario)
    assert no_tracebacks(caplog)
