"""Signatures of webhooks, made by the official SDK."""

import hashlib
import json
from urllib.parse import urlencode

import pytest
from twilio.request_validator import RequestValidator
from websockets.exceptions import InvalidStatus

from tests.bot.line.line import (
    FIELDS,
    TOKEN,
    TestLine,
    begin,
    redirect_of,
    running_line,
    stream_token,
    verbs,
)
from tests.waiting import eventually


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
            await eventually(lambda: bool(line.call.plans))
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
            await eventually(lambda: bool(line.call.plans))

    assert answer.status_code == 200
