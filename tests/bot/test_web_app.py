"""The web application over real sockets, with signatures by the official SDK."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from twilio.request_validator import RequestValidator
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pipelines.call.plan import EndReason
from telephony.media_stream import MAX_MESSAGE_BYTES
from tests.bot.line import (
    CALL_SID,
    FIELDS,
    ROUTES,
    TOKEN,
    TestLine,
    begin,
    health_page,
    redirect_of,
    running_line,
    stream_token,
    until,
    verbs,
)


@pytest.fixture
async def line() -> AsyncIterator[TestLine]:
    async with running_line() as running:
        yield running


async def test_voice(line: TestLine) -> None:
    """An inbound call gets a stream with a token, then a redirect to the stream-ended webhook."""
    answer = await line.post("/twilio/voice")
    stream = ElementTree.fromstring(answer.text).find("Connect/Stream")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/xml")
    assert verbs(answer.text) == ["Connect", "Redirect"]
    assert stream is not None
    assert stream.attrib["url"] == line.media_url
    assert redirect_of(answer.text) == line.url + "/twilio/stream-ended"


async def test_a_call(line: TestLine) -> None:
    """A signed socket with its call's token becomes a call with the persona's plan."""
    async with line.running_call():
        plan = line.call.plans[0]
        persona = ROUTES.persona_for("+15550100")
        assert line.metric("calls_running") == 1
    await until(lambda: line.metric("calls_total", reason="caller_hung_up") == 1)

    assert (plan.call_sid, plan.stream_sid) == (CALL_SID, "MZ1")
    assert plan.greeting == persona.greeting
    assert plan.max_call_ms == persona.limits.max_call_ms
    assert line.metric("calls_running") == 0
    assert line.metric("call_events_total", event="stand_in") == 1


async def test_persona_by_the_number_called(line: TestLine) -> None:
    """The number called decides who answers."""
    answer = await line.post("/twilio/voice", {**FIELDS, "To": "+15550101"})
    async with line.socket() as websocket:
        await begin(websocket, stream_token(answer.text))
        await until(lambda: bool(line.call.plans))

    assert line.call.plans[0].language == "zh"


# --- signatures of webhooks


async def test_webhooks_without_a_good_signature(line: TestLine) -> None:
    """No, a foreign, or an unknown kind of signature: 403 without a word, counted."""
    unknown = {"X-Twilio-Webhooks-Signature-Settings": "key=1,algorithm=HMAC_MD5"}
    answers = []
    for path in ("/twilio/voice", "/twilio/stream-ended"):
        answers += [
            await line.http.post(line.url + path, data=FIELDS),
            await line.post(path, token="another"),
            await line.post(path, headers=unknown),
            await line.post(path, headers={"X-Twilio-Signature": "é".encode("latin-1")}),
        ]

    assert [(answer.status_code, answer.content) for answer in answers] == [(403, b"")] * 8
    assert line.metric("webhooks_refused_total", reason="no_signature") == 2
    assert line.metric("webhooks_refused_total", reason="signature") == 4
    assert line.metric("webhooks_refused_total", reason="algorithm") == 2


async def test_sha256_signature(line: TestLine) -> None:
    """The newer header with HMAC-SHA256 is accepted, and not with the older digest."""
    header = {"X-Twilio-Webhooks-Signature-Settings": "key=k,algorithm=HMAC_SHA256"}
    good = await line.post("/twilio/voice", algorithm="HMAC_SHA256", headers=header)
    bad = await line.post("/twilio/voice", headers=header)

    assert (good.status_code, bad.status_code) == (200, 403)


async def test_json_webhook(line: TestLine) -> None:
    """A JSON body is checked by the hash in the signed URL, and read like a form."""
    body = json.dumps(FIELDS).encode()
    query = urlencode({"bodySHA256": hashlib.sha256(body).hexdigest()})
    url = f"{line.url}/twilio/voice?{query}"
    headers = {
        "X-Twilio-Signature": RequestValidator(TOKEN).compute_signature(url, {}),
        "Content-Type": "application/json",
    }
    good = await line.http.post(url, content=body, headers=headers)
    bad = await line.http.post(url, content=body + b" ", headers=headers)

    assert (good.status_code, bad.status_code) == (200, 403)
    assert verbs(good.text) == ["Connect", "Redirect"]
    assert RequestValidator(TOKEN).validate(url, body.decode(), headers["X-Twilio-Signature"])


async def test_two_tokens() -> None:
    """While the account's token is exchanged, both are accepted."""
    async with running_line(twilio_auth_token_secondary="next") as line:
        for token in (TOKEN, "next"):
            assert (await line.post("/twilio/voice", token=token)).status_code == 200
            async with line.socket(token=token):
                pass


async def test_behind_a_proxy() -> None:
    """The signed URL is the public one with the raw path and query, whatever the Host says."""
    async with running_line(public_url="https://voice.example.com") as line:
        raw = "/twilio/voice?a=%7E+b&a=%C3%A9&c"
        answer = await line.post(raw, headers={"Host": "10.0.0.1"})
        token = stream_token(answer.text)
        async with line.socket(url="wss://voice.example.com/twilio/media") as websocket:
            await begin(websocket, token)
            await until(lambda: bool(line.call.plans))
        with pytest.raises(InvalidStatus):
            await line.socket().__aenter__()

    assert "wss://voice.example.com/twilio/media" in answer.text
    assert redirect_of(answer.text).startswith("https://voice.example.com/")


async def test_odd_requests(line: TestLine) -> None:
    """Other methods, huge bodies, foreign content and missing fields are refused by status."""
    signed = {"X-Twilio-Signature": "x"}
    url = line.url + "/twilio/voice"
    get = await line.http.get(url, headers=signed)
    huge = await line.http.post(url, content=bytes(100_000), headers=signed)
    unsigned = await line.http.post(url, content=bytes(100_000))
    binary = await line.http.post(url, content=b"\xff\x00=1", headers=signed)
    no_sid = await line.post("/twilio/voice", {"From": "+1"})
    bad_sid = await line.post("/twilio/voice", {**FIELDS, "CallSid": "../../etc"})

    statuses = [a.status_code for a in (get, huge, unsigned, binary, no_sid, bad_sid)]
    assert statuses == [405, 413, 403, 403, 400, 400]


async def test_insecure() -> None:
    """Without secrets, which only a loopback bind may choose, unsigned requests pass."""
    async with running_line(twilio_auth_token=None, insecure=True) as line:
        answer = await line.http.post(line.url + "/twilio/voice", data=FIELDS)
        async with line.socket(token="whatever") as websocket:
            await begin(websocket, stream_token(answer.text))
            await until(lambda: bool(line.call.plans))

    assert answer.status_code == 200


# --- the media socket's door


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
            await asyncio.wait_for(websocket.recv(), 5)
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
        await until(lambda: bool(line.call.plans))
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
    await until(lambda: line.metric("protocol_errors_total", word="bad_text") == 1)

    assert not [record for record in caplog.records if record.exc_info]


async def test_unknown_messages_before_start(line: TestLine) -> None:
    """Events we do not know are ignored, though not for ever."""
    token = await line.announce()
    async with line.socket() as websocket:
        await websocket.send('{"event": "news"}')
        await begin(websocket, token)
        await until(lambda: bool(line.call.plans))

    assert await closed(line, *['{"event": "news"}'] * 20) == 1007


async def test_cap_on_pending_sockets() -> None:
    """Beyond the cap, sockets are refused until one has shown its token or gone."""
    async with (
        running_line(max_pending_sockets=2) as line,
        line.socket(),
        line.socket() as second,
    ):
        await until(lambda: line.web.calls.n_pending_sockets == 2)
        assert await refused(line) == 503
        await begin(second, await line.announce())
        await until(lambda: bool(line.call.plans))
        async with line.socket():
            pass


async def test_a_message_too_large_in_a_call(line: TestLine) -> None:
    """Over 64 KiB the call ends as a protocol error, not as a hang-up."""
    async with line.running_call() as websocket:
        await websocket.send("x" * (MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        assert websocket.close_code == 1009
    await until(lambda: line.metric("calls_total", reason="protocol_error") == 1)

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
    await until(lambda: line.metric("calls_total", reason="failed") == 1)

    assert (await line.http.get(line.url + "/healthz")).status_code == 200


# --- what follows a stream


async def end_a_call(line: TestLine, reason: EndReason, attempt: int = 0) -> str:
    """Run a call that ends for a reason; return what Twilio is then told."""
    line.call.reason = reason
    query = f"?attempt={attempt}" if attempt else ""
    token = await line.announce(path="/twilio/voice" + query)
    async with line.socket() as websocket:
        await begin(websocket, token)
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
    fields = {**FIELDS, "CallStatus": "in-progress"}
    answer = await line.post("/twilio/stream-ended" + query, fields)
    assert answer.status_code == 200
    return answer.text


FOLLOWS = {
    EndReason.GOODBYE: (["Hangup"], ["Hangup"]),
    EndReason.CALLER_SILENT: (["Hangup"], ["Hangup"]),
    EndReason.TIME_LIMIT: (["Hangup"], ["Hangup"]),
    EndReason.DRAINED: (["Hangup"], ["Hangup"]),
    EndReason.HOST_LOST: (["Hangup"], ["Hangup"]),
    EndReason.FAILED: (["Say", "Redirect"], ["Say", "Hangup"]),
    EndReason.PROTOCOL_ERROR: (["Say", "Hangup"], ["Say", "Hangup"]),
}


async def test_stream_ended(line: TestLine) -> None:
    """A call that ended well is hung up; one that failed is apologised for and tried once more."""
    for reason, (first, second) in FOLLOWS.items():
        assert verbs(await end_a_call(line, reason)) == first
        assert verbs(await end_a_call(line, reason, attempt=1)) == second


async def test_host_lost_and_found() -> None:
    """A call that lost its GPU host is tried once more if the host is there again."""
    async with health_page() as (gpu_url, _), running_line(gpu_url=gpu_url) as line:
        assert verbs(await end_a_call(line, EndReason.HOST_LOST)) == ["Redirect"]
        assert verbs(await end_a_call(line, EndReason.HOST_LOST, attempt=1)) == ["Hangup"]


async def test_stream_that_never_began(line: TestLine) -> None:
    """A call whose socket never came is apologised for in its language, and tried once more."""
    fields = {**FIELDS, "To": "+15550101", "CallStatus": "in-progress"}
    answer = await line.post("/twilio/stream-ended", fields)
    say = ElementTree.fromstring(answer.text).find("Say")
    again = redirect_of(answer.text).removeprefix(line.url)
    retry = await line.post(again, fields)
    last = await line.post(redirect_of(retry.text).removeprefix(line.url), fields)

    assert say is not None
    assert say.attrib["language"] == "zh-CN"
    assert again == "/twilio/voice?attempt=1"
    assert verbs(retry.text) == ["Connect", "Redirect"]
    assert verbs(last.text) == ["Say", "Hangup"]


async def test_odd_attempts_are_not_retried(line: TestLine) -> None:
    """Whatever stands in the query, no call is tried without end."""
    for attempt in ("-1", "99", "x", "", "1e1", "٣", "0" * 5000):
        path = "/twilio/stream-ended?" + urlencode({"attempt": attempt})

        assert "Redirect" not in verbs((await line.post(path)).text)


async def test_after_the_caller_hung_up(line: TestLine) -> None:
    """A webhook about a completed call gets a hang-up, not an apology."""
    answer = await line.post("/twilio/stream-ended", {**FIELDS, "CallStatus": "completed"})

    assert verbs(answer.text) == ["Hangup"]


async def test_repeated_webhook(line: TestLine) -> None:
    """A webhook that Twilio repeats gets the same answer."""
    first = await end_a_call(line, EndReason.GOODBYE)
    again = await line.post("/twilio/stream-ended", {**FIELDS, "CallStatus": "in-progress"})

    assert again.text == first


async def test_full() -> None:
    """Beyond the limit of calls, announced ones included, callers hear a busy tone."""
    async with running_line(max_calls=1) as line:
        await line.announce("CA1")
        repeated = await line.post("/twilio/voice", {**FIELDS, "CallSid": "CA1"})
        busy = await line.post("/twilio/voice", {**FIELDS, "CallSid": "CA2"})
        answered = await line.post("/twilio/voice?attempt=1", {**FIELDS, "CallSid": "CA2"})

    assert verbs(repeated.text) == ["Connect", "Redirect"]
    assert verbs(busy.text) == ["Reject"]
    assert verbs(answered.text) == ["Say", "Hangup"]
    assert line.metric("calls_turned_away_total", reason="full") == 2


# --- health, metrics, drain


async def test_ready_follows_the_gpu_host() -> None:
    """Ready only while the GPU host's health page answers; alive in any case."""
    async with health_page() as (gpu_url, host), running_line(gpu_url=gpu_url) as line:

        async def status(path: str) -> int:
            return (await line.http.get(line.url + path)).status_code

        await until(lambda: line.web.probe.is_reachable)
        assert await status("/readyz") == 200
        host.close()
        await host.wait_closed()
        await until(lambda: not line.web.probe.is_reachable)
        assert await status("/readyz") == 503
        assert await status("/healthz") == 200


async def test_metrics(line: TestLine) -> None:
    """The metrics page is what Prometheus reads, with what happened on it."""
    await line.http.post(line.url + "/twilio/voice")
    page = (await line.http.get(line.url + "/metrics")).text

    assert 'voicebot_webhooks_refused_total{reason="no_signature"} 1.0' in page
    assert "voicebot_loop_lag_seconds_bucket" in page
    assert "voicebot_reply_latency_seconds_bucket" in page


async def test_drain() -> None:
    """A drain takes no new calls, lets a running one finish, then ends the process's work."""
    async with running_line() as line:
        async with line.running_call():
            line.asked_to_end.set()
            await until(lambda: line.web.calls.is_draining)
            ready = await line.http.get(line.url + "/readyz")
            busy = await line.post("/twilio/voice", {**FIELDS, "CallSid": "CA2"})
            answered = await line.post("/twilio/voice?attempt=1", {**FIELDS, "CallSid": "CA2"})
            assert not line.web.calls.drain.is_set()
        await until(lambda: line.metric("calls_total", reason="caller_hung_up") == 1)

    assert (ready.status_code, ready.json()["draining"]) == (503, True)
    assert verbs(busy.text) == ["Reject"]
    assert verbs(answered.text) == ["Say", "Hangup"]


async def test_drain_limit() -> None:
    """After the limit running calls are asked to end, and Twilio still gets its answer."""
    async with running_line(drain_limit_ms=50) as line:
        async with line.running_call() as websocket:
            line.asked_to_end.set()
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(websocket.recv(), 5)
            assert websocket.close_code == 1000
        fields = {**FIELDS, "CallStatus": "in-progress"}
        answer = await line.post("/twilio/stream-ended", fields)

    assert verbs(answer.text) == ["Hangup"]
    assert line.metric("calls_total", reason="drained") == 1
