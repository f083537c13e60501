"""The network towards a bot: webhooks, signatures, stream messages, hang-ups, many calls."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest
from twilio.request_validator import RequestValidator

from telephony.emulator import CallbackFaults, Callee, CallEnded, EndedBy, Line, PhoneNetwork
from telephony.emulator.dial_request import DialRequest
from telephony.emulator.sound import spoken
from telephony.signature import Algorithm
from tests.conftest import MS
from tests.telephony.emulator.tiny_bot import (
    CALLED,
    CALLER,
    FRAME,
    LOUD,
    QUIET,
    TOKEN,
    Socket,
    TinyBot,
    call,
    codes,
    stay,
    staying,
)
from tests.waiting import eventually, stand_still

pytestmark = pytest.mark.asyncio(loop_scope="module")
NO_URLS = ("http://[oops/", "http://127.0.0.1:99999/", "http://xn--/")


async def echo(socket: Socket) -> None:
    while True:
        message = await socket.receive()
        if message["event"] == "media":
            await socket.play(base64.b64decode(message["media"]["payload"]))


async def listen(socket: Socket) -> None:
    await socket.receive_all()


def rung(bot: TinyBot) -> DialRequest:
    return DialRequest.parse({"To": CALLER, "From": CALLED, "Url": bot.url + "/voice"})


async def test_the_webhook_is_signed_and_filled_in_as_twilio_does(
    bot: TinyBot, network: PhoneNetwork
) -> None:
    """The SDK's own validator accepts the webhook, which names the call and both numbers."""
    bot.twiml = "<Response><Hangup/></Response>"

    record = await call(network, bot, stay)

    (webhook,) = bot.requests("/voice")
    signature = webhook.headers["X-Twilio-Signature"]
    assert RequestValidator(TOKEN).validate(webhook.url, webhook.form, signature)
    assert webhook.method == "POST"
    assert webhook.field("CallSid") == record.call_sid
    assert (webhook.field("From"), webhook.field("To")) == (CALLER, CALLED)
    assert webhook.field("CallStatus") == "ringing"
    assert webhook.field("Direction") == "inbound"
    assert record.end.by is EndedBy.BOT
    assert record.twiml_path == ("Hangup",)


async def test_a_cookie_comes_back_in_its_own_call(bot: TinyBot, network: PhoneNetwork) -> None:
    """A session begins with the first webhook of a call, and is no other call's."""
    bot.twiml, bot.cookies["/voice"] = "<Response><Redirect>/next</Redirect></Response>", "one"
    bot.pages["/next"] = "<Response><Hangup/></Response>"

    await call(network, bot, stay)
    await call(network, bot, stay)

    cookies = [(asked.path, asked.headers.get("Cookie")) for asked in bot.webhooks]
    assert cookies == 2 * [("/voice", None), ("/next", "session=one")]


async def test_the_newer_signature_can_be_chosen(bot: TinyBot) -> None:
    """With HMAC-SHA256 the settings header names it and the SDK's validator accepts it."""
    bot.twiml = "<Response><Hangup/></Response>"
    async with PhoneNetwork(auth_token=TOKEN, algorithm=Algorithm.HMAC_SHA256) as network:
        await call(network, bot, stay)

    (webhook,) = bot.requests("/voice")
    settings = webhook.headers["X-Twilio-Webhooks-Signature-Settings"]
    validator = RequestValidator(TOKEN)
    signature = webhook.headers["X-Twilio-Signature"]
    assert "algorithm=HMAC_SHA256" in settings
    assert not validator.validate(webhook.url, webhook.form, signature)
    assert validator.validate(webhook.url, webhook.form, signature, "HMAC_SHA256")


async def test_a_stream_begins_runs_and_ends_as_documented(
    bot: TinyBot, network: PhoneNetwork
) -> None:
    """connected, start, numbered media, dtmf, stop; the query of the URL is gone."""
    bot.on_stream = listen
    parameter = '<Parameter name="token" value="t &amp; 1"/>'
    bot.twiml = bot.connect(parameters=parameter).replace("/media", "/media?lost=1")

    async def caller(line: Line) -> None:
        await line.sleep(200)
        await line.say(LOUD * 5)
        line.press("7")
        await line.sleep(100)

    record = await call(network, bot, caller)

    (socket,) = bot.sockets
    received = socket.received
    media = [m["media"] for m in received if m["event"] == "media"]
    assert socket.connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert socket.start["callSid"] == record.call_sid
    assert socket.start["customParameters"] == {"token": "t & 1"}
    assert socket.start["mediaFormat"] == {
        "encoding": "audio/x-mulaw",
        "sampleRate": 8000,
        "channels": 1,
    }
    assert [m["sequenceNumber"] for m in received] == [str(n) for n in range(1, len(received) + 1)]
    assert [m["chunk"] for m in media] == [str(n) for n in range(1, len(media) + 1)]
    assert [m["timestamp"] for m in media] == [str(20 * n) for n in range(len(media))]
    payloads = [base64.b64decode(m["payload"]) for m in media]
    assert b"".join(payloads).strip(QUIET[:1]) == LOUD * 5
    assert all(len(payload) == FRAME for payload in payloads)
    assert [m["dtmf"] for m in received if m["event"] == "dtmf"] == [
        {"track": "inbound_track", "digit": "7"}
    ]
    assert received[-1]["event"] == "stop"
    assert received[-1]["stop"]["callSid"] == record.call_sid
    assert "stream_query_stripped" in [event.name for event in record.events]
    assert record.end.by is EndedBy.CALLER


async def test_the_upgrade_is_signed(bot: TinyBot, network: PhoneNetwork) -> None:
    """The signature of the upgrade is that of the stream's URL without parameters."""
    bot.on_stream = listen
    bot.twiml = bot.connect()

    await call(network, bot, staying(40))

    signature = bot.upgrades[0]["X-Twilio-Signature"]
    assert signature == RequestValidator(TOKEN).compute_signature(bot.stream_url, {})


async def test_both_tracks_are_recorded_on_one_clock(bot: TinyBot, network: PhoneNetwork) -> None:
    """A bot that answers the first sound at once is heard a few frames after the caller."""
    words, answer = spoken("Hello there."), spoken("Yes.", "en-gb")

    async def on_stream(socket: Socket) -> None:
        while base64.b64decode((await socket.receive_until("media"))["media"]["payload"]) == QUIET:
            pass
        await socket.play(answer)
        await socket.receive_all()

    bot.on_stream = on_stream
    bot.twiml = bot.connect()

    async def caller(line: Line) -> None:
        await line.sleep(100)
        await line.say(words)
        await line.sleep(200)

    record = await call(network, bot, caller)

    said, heard = record.recording.said_mulaw, record.recording.heard_mulaw
    assert len(said) == len(heard) == record.duration_ms * 8
    assert words in said
    assert answer in heard
    assert 0 < heard.index(answer) - said.index(words) <= 10 * FRAME


async def test_time_passes_at_the_speed_of_the_clock(bot: TinyBot, network: PhoneNetwork) -> None:
    """Twenty calls of 600 ms at once last 600 ms, and none of them loses a frame."""
    bot.on_stream = echo
    bot.twiml = bot.connect()
    started_s = asyncio.get_running_loop().time()

    records = await asyncio.gather(*(call(network, bot, staying(600)) for _ in range(20)))

    took_s = asyncio.get_running_loop().time() - started_s
    media = [[m["media"] for m in s.received if m["event"] == "media"] for s in bot.sockets]
    assert 0.6 <= took_s < 3000 * MS
    assert all(600 <= record.duration_ms <= 700 for record in records)
    for frames in media:
        assert 15 <= len(frames) <= 35
        assert [m["timestamp"] for m in frames] == [str(20 * n) for n in range(len(frames))]
    assert len({record.call_sid for record in records}) == 20


async def test_what_follows_the_hang_up_is_not_part_of_the_call(
    bot: TinyBot, network: PhoneNetwork
) -> None:
    """Neither what a network that is late does then, nor how long a caller takes to notice."""
    bot.on_stream, bot.twiml = listen, bot.connect()

    async def hangs_up(line: Line) -> None:
        await line.sleep(100)
        stand_still(500)

    async def lingers(line: Line) -> None:
        try:
            await line.sleep(5000)
        except CallEnded:
            await asyncio.sleep(0.5)

    left = await call(network, bot, hangs_up)
    bot.twiml = "<Response><Pause length='0.1'/><Hangup/></Response>"
    lingered = await call(network, bot, lingers)

    assert 100 <= left.duration_ms <= 200
    assert 100 <= lingered.duration_ms <= 400


async def test_when_the_bot_closes_the_stream_the_next_verb_follows(
    bot: TinyBot, network: PhoneNetwork
) -> None:
    """A closed socket leads to <Redirect>, asked while the call is in progress."""

    async def play_and_close(socket: Socket) -> None:
        await socket.play(LOUD * 5)

    bot.on_stream = play_and_close
    bot.twiml = bot.connect(after="<Redirect>/next?attempt=1</Redirect>")
    bot.pages["/next"] = "<Response><Pause length='0.1'/><Hangup/></Response>"

    record = await call(network, bot, stay)

    (webhook,) = bot.requests("/next")
    signature = webhook.headers["X-Twilio-Signature"]
    assert webhook.field("CallStatus") == "in-progress"
    assert webhook.url.endswith("/next?attempt=1")
    assert RequestValidator(TOKEN).validate(webhook.url, webhook.form, signature)
    assert record.twiml_path == ("Connect", "Redirect", "Pause", "Hangup")
    assert record.end.reason == "hangup"


async def test_a_call_whose_twiml_ends_is_hung_up(bot: TinyBot, network: PhoneNetwork) -> None:
    """Without a verb after the stream, closing the socket ends the call."""

    async def close_at_once(_: Socket) -> None:
        return

    bot.on_stream = close_at_once
    bot.twiml = bot.connect()

    record = await call(network, bot, stay)

    assert (record.end.by, record.end.reason) == (EndedBy.BOT, "twiml_ended")


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [(500, "", 11200), (200, "no xml", 12100), (200, "<Antwort/>", 12100)],
)
async def test_a_failing_webhook_is_replaced_by_the_fallback(
    bot: TinyBot, network: PhoneNetwork, status: int, body: str, code: int
) -> None:
    """The fallback is told what went wrong and where; its document is carried out."""
    bot.statuses["/voice"], bot.twiml = status, body
    bot.pages["/fallback"] = "<Response><Hangup/></Response>"

    record = await call(network, bot, stay, fallback_url=bot.url + "/fallback")

    (webhook,) = bot.requests("/fallback")
    assert webhook.field("ErrorCode") == str(code)
    assert webhook.field("ErrorUrl") == bot.url + "/voice"
    assert codes(record) == [code]
    assert record.end.by is EndedBy.BOT


async def test_without_an_answer_the_network_ends_the_call(network: PhoneNetwork) -> None:
    """A bot that is not there: the call fails with Twilio's code, not with a traceback."""
    record = await call(network, TinyBot(port=1), stay)

    assert (record.end.by, record.end.reason) == (EndedBy.NETWORK, "webhook_failed")
    assert codes(record) == [11205]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1:{port}/media", 31922),
        ("ws://example.com/media", 31922),
        ("wss:///media", 31923),
        ("wss://host:port/m", 31923),
        ("wss://127.0.0.1:99999/m", 31923),
        ("wss://[::1/m", 31923),
        ("wss://a..b/m", 31923),
        ("wss://user@host/m", 31923),
        ("wss://%ff:word@host/m", 31923),
        ("ws://127.0.0.1:1/media", 31902),
        ("ws://127.0.0.1:{port}/voice", 31920),
    ],
)
async def test_a_stream_that_cannot_be_opened_is_skipped(
    bot: TinyBot, network: PhoneNetwork, url: str, code: int
) -> None:
    """Twilio's error code is logged and TwiML goes on."""
    stream = f'<Connect><Stream url="{url.format(port=bot.port)}"/></Connect>'
    bot.twiml = f"<Response>{stream}<Hangup/></Response>"

    record = await call(network, bot, stay)

    assert codes(record) == [code]
    assert record.twiml_path == ("Connect", "Hangup")


@pytest.mark.parametrize("url", NO_URLS)
async def test_a_webhook_without_a_url_has_failed(
    bot: TinyBot, network: PhoneNetwork, url: str
) -> None:
    """A document that leads to what is no URL leads to the fallback, as one that breaks off."""
    bot.twiml = f"<Response><Redirect>{url}</Redirect></Response>"
    bot.pages["/fallback"] = "<Response><Hangup/></Response>"

    record = await call(network, bot, stay, fallback_url=bot.url + "/fallback")

    (webhook,) = bot.requests("/fallback")
    assert (webhook.field("ErrorCode"), webhook.field("ErrorUrl")) == ("11200", url)
    assert codes(record) == [11200]
    assert record.twiml_path == ("Redirect", "Hangup")


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://xn--/", "http://a..b/"])
async def test_a_webhook_that_is_sent_to_no_url_has_failed(
    bot: TinyBot, network: PhoneNetwork, url: str
) -> None:
    """What HTTP redirects to is checked as what TwiML leads to."""
    bot.locations["/voice"] = url
    bot.pages["/fallback"] = "<Response><Hangup/></Response>"

    record = await call(network, bot, stay, fallback_url=bot.url + "/fallback")

    assert codes(record) == [11200]
    assert record.twiml_path == ("Hangup",)


@pytest.mark.parametrize("url", NO_URLS)
async def test_a_callback_without_a_url_is_lost(bot: TinyBot, url: str) -> None:
    """It harms neither its call nor the network that others are on."""
    bot.twiml = bot.connect(after="<Hangup/>", statusCallback=url)
    async with PhoneNetwork(auth_token=TOKEN) as network:
        record = await call(network, bot, stay)

    assert record.twiml_path == ("Connect", "Hangup")


async def test_a_stream_that_was_never_opened_never_started(bot: TinyBot) -> None:
    """Its callback tells of the error alone; one that opened has started, and then stops."""
    refused = '<Stream url="ws://127.0.0.1:1/media" statusCallback="/refused"/>'
    bot.twiml = f"<Response><Connect>{refused}</Connect><Redirect>/opened</Redirect></Response>"
    bot.pages["/opened"] = bot.connect(statusCallback="/opened-status")
    async with PhoneNetwork(auth_token=TOKEN) as network:
        await call(network, bot, stay)

    refusals = [webhook.field("StreamEvent") for webhook in bot.requests("/refused")]
    events = [webhook.field("StreamEvent") for webhook in bot.requests("/opened-status")]
    assert refusals == ["stream-error"]
    assert sorted(events) == ["stream-started", "stream-stopped"]


async def test_a_stream_tells_of_itself_alone(bot: TinyBot) -> None:
    """Its callback has the fields of a stream, by the method it names, and when it was."""
    bot.on_stream = listen
    attributes = {"name": "talk", "statusCallback": "/told", "statusCallbackMethod": "GET"}
    bot.twiml = bot.connect(**attributes)
    async with PhoneNetwork(auth_token=TOKEN) as network:
        await call(network, bot, staying(100))

    for webhook in bot.requests("/told"):
        fields = dict(parse_qsl(urlsplit(webhook.url).query))
        assert webhook.method == "GET"
        assert set(fields) == {
            "AccountSid",
            "CallSid",
            "StreamSid",
            "StreamName",
            "StreamEvent",
            "Timestamp",
        }
        assert fields["StreamName"] == "talk"
        assert datetime.now(UTC) - datetime.fromisoformat(fields["Timestamp"]) < timedelta(
            minutes=1
        )
    assert len(bot.requests("/told")) == 2


async def test_status_callbacks_can_be_late_and_double(bot: TinyBot) -> None:
    """With faults each callback comes twice, after its delay, even when the call is long over."""
    bot.on_stream = listen
    bot.twiml = bot.connect(statusCallback="/stream-status")
    faults = CallbackFaults(late_ms=80, extra_copies=1)
    async with PhoneNetwork(auth_token=TOKEN, callback_faults=faults) as network:
        record = await call(network, bot, staying(100), status_callback_url=bot.url + "/status")
        early = len(bot.requests("/status"))

    statuses = [webhook.field("CallStatus") for webhook in bot.requests("/status")]
    events = [webhook.field("StreamEvent") for webhook in bot.requests("/stream-status")]
    assert early == 0
    assert statuses == ["completed", "completed"]
    assert bot.requests("/status")[0].field("CallSid") == record.call_sid
    assert sorted(events) == 2 * ["stream-started"] + 2 * ["stream-stopped"]


async def test_a_call_can_last_too_long(bot: TinyBot, network: PhoneNetwork) -> None:
    """At its time limit the network ends the call and the bot gets `stop`."""
    bot.on_stream = listen
    bot.twiml = bot.connect()

    record = await call(network, bot, stay, time_limit_ms=150)

    assert (record.end.by, record.end.reason) == (EndedBy.NETWORK, "time_limit")
    assert bot.sockets[0].received[-1]["event"] == "stop"


async def test_a_caller_is_told_when_the_bot_hangs_up(bot: TinyBot, network: PhoneNetwork) -> None:
    """Whatever the caller waits for raises CallEnded, and so does all that comes after."""
    bot.twiml = "<Response><Pause length='0.1'/><Hangup/></Response>"
    told: list[str] = []

    async def caller(line: Line) -> None:
        try:
            await line.sleep(5000)
        except CallEnded:
            told.append("while waiting")
        with pytest.raises(CallEnded):
            await line.say(QUIET)
        told.append("afterwards")

    await call(network, bot, caller)

    assert told == ["while waiting", "afterwards"]


async def test_a_caller_that_fails_fails_the_test(bot: TinyBot, network: PhoneNetwork) -> None:
    """An exception of the caller's script comes out of place_call, after the hang-up."""
    bot.on_stream = listen
    bot.twiml = bot.connect()

    async def caller(line: Line) -> None:
        await line.sleep(60)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await call(network, bot, caller)


async def test_what_fails_beside_the_calls_comes_out_as_it_is(bot: TinyBot) -> None:
    """Not as a group of one: a test that expects an error names it. Calls are hung up."""
    bot.on_stream, bot.twiml = listen, bot.connect()
    network = PhoneNetwork(auth_token=TOKEN, directory={CALLER: Callee(rings_ms=0)})

    async def ring_and_fail() -> None:
        async with network:
            network.dial(rung(bot))
            await eventually(lambda: bot.sockets)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ring_and_fail()

    assert [placed.status for placed in network.outbound.values()] == ["completed"]


async def test_a_callee_who_fails_fails_the_test(bot: TinyBot) -> None:
    """Nobody waits for his call any longer."""
    bot.on_stream, bot.twiml = listen, bot.connect()

    async def fails(line: Line) -> None:
        raise ZeroDivisionError

    network = PhoneNetwork(auth_token=TOKEN, directory={CALLER: Callee(answer=fails, rings_ms=0)})

    async def ring() -> None:
        async with network:
            await network.dial(rung(bot)).ended()
            await asyncio.sleep(60)

    with pytest.raises(ExceptionGroup) as failed:
        await ring()

    assert failed.group_contains(ZeroDivisionError, depth=1)


async def test_events_are_told_as_they_happen(bot: TinyBot, network: PhoneNetwork) -> None:
    """A listener sees each event of the record, in order, and each can be dumped as JSON."""
    bot.on_stream = echo
    bot.twiml = bot.connect()
    seen: list[str] = []

    async def caller(line: Line) -> None:
        await line.say(LOUD * 5)
        await line.sleep(800)

    record = await call(network, bot, caller, on_event=lambda event: seen.append(event.name))

    assert seen == [event.name for event in record.events]
    assert seen[0] == "call_placed"
    assert {"caller_speech_started", "caller_speech_ended", "bot_sound_started"} <= set(seen)
    assert all(json.loads(event.dump())["event"] == event.name for event in record.events)


async def test_what_sounds_at_the_end_is_told_before_it(
    bot: TinyBot, network: PhoneNetwork
) -> None:
    """A caller who hangs up over the bot, and over himself: both stretches have an end."""

    async def speak(socket: Socket) -> None:
        await socket.play(LOUD * 500)
        await socket.receive_all()

    bot.on_stream = speak
    bot.twiml = bot.connect()

    async def caller(line: Line) -> None:
        await line.wait_for_sound(since_ms=0, timeout_ms=5000)
        line.start_saying(LOUD * 500)
        await line.sleep(200)

    record = await call(network, bot, caller)

    *_, speech, sound, end = record.events
    assert [speech.name, sound.name] == ["caller_speech_ended", "bot_sound_ended"]
    assert speech.facts["end_ms"] == record.caller_stretches[-1].end_ms
    assert sound.facts["end_ms"] == record.bot_stretches[-1].end_ms
    assert end.name == "call_ended"
