"""Calls that an account places, through Twilio's own SDK and real HTTP."""

import asyncio
import errno
import socket
import wave
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import aiohttp
import numpy as np
import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from telephony.emulator import CallbackFaults, EndedBy, Line, PhoneNetwork, Voicemail
from telephony.emulator.callee import Callee, Detection, Fate
from telephony.emulator.hearing import Ear, Heard
from telephony.emulator.rest import CreateFault, Faults, Rest, no_faults, serve_rest
from telephony.g711 import FRAME_BYTES
from tests.conftest import MS
from tests.telephony.emulator.tiny_bot import (
    CALLED,
    CALLER,
    LOUD,
    TOKEN,
    Socket,
    TinyBot,
    Webhook,
    call,
    stay,
)
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

OURS, ANN, BUSY, RINGS, GONE = "+15550100", "+15550201", "+15550202", "+15550203", "+15550204"
HASTY, SLOW, MACHINE = "+15550205", "+15550206", "+15550207"
ACCOUNT = "AC" + 32 * "0"
HANG_UP = "<Response><Hangup/></Response>"
TALK = "<Response><Pause length='30'/></Response>"
RECORDING = {"RecordingSid", "RecordingUrl", "RecordingDuration"}  # told at the call's end, too
MORE_OF_RECORDING = {
    "RecordingStatus",
    "RecordingChannels",
    "RecordingSource",
    "RecordingStartTime",
    "RecordingTrack",
}
ALL_EVENTS = ["initiated", "ringing", "answered", "completed"]


async def two_words(line: Line) -> None:
    await line.say(LOUD * 20)
    await line.wait_until(lambda: False)


async def one_word(line: Line) -> None:
    await line.say(LOUD * 20)


async def listen(stream: Socket) -> None:
    await stream.receive_all()


def directory(number: str) -> Callee:
    return {
        ANN: Callee(answer=two_words, rings_ms=100, detection=Detection("human", 100)),
        HASTY: Callee(answer=one_word, rings_ms=50),
        SLOW: Callee(rings_ms=50, detection=Detection("human", 20_000)),
        BUSY: Callee(fate=Fate.BUSY, rings_ms=50),
        RINGS: Callee(fate=Fate.RINGS),
    }.get(number, Callee(fate=Fate.UNREACHABLE, rings_ms=0))


class Account:
    """Everything a test needs: the network, its REST interface, and the SDK pointed at it."""

    def __init__(self, network: PhoneNetwork, rest: Rest, client: Client) -> None:
        self.network = network
        self.rest = rest
        self.client = client

    async def dial(self, bot: TinyBot, to: str = ANN, **options: Any) -> Any:
        options.setdefault("url", bot.url + "/voice")
        return await self.client.calls.create_async(to=to, from_=OURS, **options)

    async def becomes(self, sid: str, status: str) -> Any:
        call = self.network.outbound[sid]
        await eventually(lambda: call.status == status)
        return await self.client.calls(sid).fetch_async()


@asynccontextmanager
async def account(
    *,
    faults: Faults = no_faults,
    callees: Mapping[str, Callee] = {},
    callback_faults: CallbackFaults | None = None,
    calls_per_second: float = 100,
    answer_delay_ms: int = 0,
    ring_slack_ms: int = 5000,
) -> AsyncIterator[Account]:
    network = PhoneNetwork(
        auth_token=TOKEN,
        directory=lambda number: callees.get(number) or directory(number),
        calls_per_second=calls_per_second,
        callback_faults=callback_faults or CallbackFaults(),
        ring_slack_ms=ring_slack_ms,
    )
    async with (
        network,
        serve_rest(network, faults=faults, answer_delay_ms=answer_delay_ms) as rest,
        AsyncTwilioHttpClient() as http,
    ):
        client = Client(ACCOUNT, TOKEN, http_client=http)
        client.api.base_url = rest.url
        yield Account(network, rest, client)


def frames(mulaw: bytes) -> list[bytes]:
    return [mulaw[at : at + FRAME_BYTES] for at in range(0, len(mulaw), FRAME_BYTES)]


def always(fault: CreateFault) -> Faults:
    return lambda request: fault


async def told(bot: TinyBot, n: int, path: str = "/status") -> list[Webhook]:
    await eventually(lambda: len(bot.requests(path)) >= n)
    return bot.requests(path)


async def test_a_call_goes_from_the_queue_to_its_end(bot: TinyBot) -> None:
    """The SDK places a call; each step is told, and the document is asked for at the answer."""
    bot.twiml = HANG_UP
    async with account() as ours:
        call = await ours.dial(
            bot, status_callback=bot.url + "/status", status_callback_event=ALL_EVENTS
        )
        over = await ours.becomes(call.sid, "completed")
        callbacks = await told(bot, 4)

    assert (call.status, call.direction, call.queue_time) == ("queued", "outbound-api", "0")
    assert (over.to, over._from, over.duration) == (ANN, OURS, "0")
    assert over.start_time <= over.end_time
    steps = sorted(callbacks, key=lambda one: int(one.field("SequenceNumber")))
    statuses = [one.field("CallStatus") for one in steps]
    assert statuses == ["initiated", "ringing", "in-progress", "completed"]
    assert {one.field("CallSid") for one in callbacks} == {call.sid}
    assert (steps[-1].field("CallDuration"), steps[-1].field("Duration")) == ("0", "0")
    (asked,) = bot.requests("/voice")
    assert (asked.field("CallStatus"), asked.field("Direction")) == ("in-progress", "outbound-api")


async def test_only_the_end_is_told_unless_more_is_asked_for(bot: TinyBot) -> None:
    """Without StatusCallbackEvent one callback comes."""
    bot.twiml = HANG_UP
    async with account() as ours:
        call = await ours.dial(bot, status_callback=bot.url + "/status")
        await ours.becomes(call.sid, "completed")
        await asyncio.sleep(0.05)

    assert [one.field("CallStatus") for one in bot.requests("/status")] == ["completed"]


async def test_callbacks_come_by_the_method_that_was_asked_for(bot: TinyBot) -> None:
    """Of the call, of detection, of the recording; what is signed is the URL with its query."""
    bot.twiml, bot.statuses["/voice"] = HANG_UP, 500
    bot.pages["/fallback"] = TALK
    async with account() as ours:
        call = await ours.dial(
            bot,
            fallback_url=bot.url + "/fallback",
            fallback_method="GET",
            status_callback=bot.url + "/status",
            status_callback_method="GET",
            machine_detection="Enable",
            async_amd="true",
            async_amd_status_callback=bot.url + "/amd",
            async_amd_status_callback_method="GET",
            record=True,
            recording_status_callback=bot.url + "/recorded",
            recording_status_callback_method="GET",
        )
        await told(bot, 1, "/amd")
        await ours.client.calls(call.sid).update_async(status="completed")
        await ours.network.outbound[call.sid].ended()

    asked = [one for one in bot.webhooks if one.path != "/voice"]
    validator = RequestValidator(TOKEN)
    assert {one.path for one in asked} == {"/fallback", "/amd", "/status", "/recorded"}
    assert {one.method for one in asked} == {"GET"}
    for one in asked:
        assert f"CallSid={call.sid}" in one.url
        assert validator.validate(one.url, {}, one.headers["X-Twilio-Signature"])


@pytest.mark.parametrize(
    ("to", "status", "code"), [(BUSY, "busy", "486"), (RINGS, "no-answer", "487")]
)
async def test_why_nobody_took_a_call_is_told(
    bot: TinyBot, to: str, status: str, code: str
) -> None:
    """In the words of SIP, with the callback of its end."""
    async with account(ring_slack_ms=100) as ours:
        call = await ours.dial(bot, to, timeout=0, status_callback=bot.url + "/status")
        await ours.network.outbound[call.sid].ended()
        (callback,) = await told(bot, 1)

    assert (callback.field("CallStatus"), callback.field("SipResponseCode")) == (status, code)


@pytest.mark.parametrize(
    ("to", "status", "n_rings"), [(BUSY, "busy", 0), (RINGS, "no-answer", 1), (GONE, "failed", 0)]
)
async def test_a_call_that_nobody_takes(bot: TinyBot, to: str, status: str, n_rings: int) -> None:
    """Busy, ringing out and unreachable end the call without a document."""
    async with account(ring_slack_ms=200) as ours:
        call = await ours.dial(bot, to, timeout=0)
        over = await ours.becomes(call.sid, status)

        assert ours.network.outbound[call.sid].n_rings == n_rings
    assert over.start_time is None
    assert bot.requests("/voice") == []


async def test_calls_beyond_the_rate_wait_and_say_how_long(bot: TinyBot) -> None:
    """At one a second the third call waits two, and may be taken back meanwhile."""
    async with account(calls_per_second=1) as ours:
        calls = [await ours.dial(bot, GONE) for _ in range(3)]
        await ours.client.calls(calls[2].sid).update_async(status="canceled")
        taken_back = await ours.becomes(calls[2].sid, "canceled")

        assert ours.network.outbound[calls[2].sid].n_rings == 0
    waits = [int(call.queue_time) for call in calls]
    assert waits[0] == 0
    assert 0 < waits[1] <= 1000 < waits[2] <= 2000
    assert taken_back.duration == "0"


async def test_a_live_call_is_ended_or_led_elsewhere(bot: TinyBot) -> None:
    """Update with a document goes on with it; with `completed` it hangs up; then it is too late."""
    bot.twiml = TALK
    async with account() as ours:
        call = await ours.dial(bot)
        await ours.becomes(call.sid, "in-progress")
        await ours.client.calls(call.sid).update_async(twiml=HANG_UP)
        await ours.becomes(call.sid, "completed")
        elsewhere = ours.network.outbound[call.sid].record

        ended = await ours.dial(bot)
        await ours.becomes(ended.sid, "in-progress")
        await ours.client.calls(ended.sid).update_async(status="completed")
        await ours.becomes(ended.sid, "completed")
        with pytest.raises(TwilioRestException) as too_late:
            await ours.client.calls(ended.sid).update_async(status="completed")

        record = ours.network.outbound[ended.sid].record
    assert elsewhere is not None
    assert elsewhere.twiml_path[-1] == "Hangup"
    assert record is not None
    assert record.end.reason == "completed_by_request"
    assert too_late.value.code == 21220


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 20001),
        ({"status": "busy"}, 20001),
        ({"url": "/next"}, 21205),
        ({"url": "http://127.0.0.1/next", "method": "PUT"}, 20001),
        ({"twiml": "x" * 4001}, 20001),
    ],
)
async def test_a_wrong_update_is_refused(bot: TinyBot, changes: dict[str, str], code: int) -> None:
    """The call goes on as it was."""
    bot.twiml = TALK
    async with account() as ours:
        call = await ours.dial(bot)
        await ours.becomes(call.sid, "in-progress")
        with pytest.raises(TwilioRestException) as refused:
            await ours.client.calls(call.sid).update_async(**changes)

        assert (await ours.client.calls(call.sid).fetch_async()).status == "in-progress"
    assert (refused.value.status, refused.value.code) == (400, code)


async def test_a_call_in_progress_is_not_taken_back(bot: TinyBot) -> None:
    """`canceled` is answered and changes nothing, until the call is over; then it is refused."""
    bot.twiml = TALK
    async with account() as ours:
        call = await ours.dial(bot)
        await ours.becomes(call.sid, "in-progress")
        answer = await ours.client.calls(call.sid).update_async(status="canceled")
        await ours.client.calls(call.sid).update_async(status="completed")
        await ours.becomes(call.sid, "completed")
        with pytest.raises(TwilioRestException) as too_late:
            await ours.client.calls(call.sid).update_async(status="canceled")

        record = ours.network.outbound[call.sid].record
    assert answer.status == "in-progress"
    assert record is not None
    assert record.end.reason == "completed_by_request"
    assert too_late.value.code == 21220


async def test_a_media_stream_is_stopped_by_an_update(bot: TinyBot) -> None:
    """A call that is ended by request sends `stop` to the bot's socket."""
    bot.twiml, bot.on_stream = bot.connect(), listen
    async with account() as ours:
        call = await ours.dial(bot)
        await eventually(lambda: bot.sockets)
        await ours.client.calls(call.sid).update_async(status="completed")
        await ours.becomes(call.sid, "completed")

    assert bot.sockets[0].received[-1]["event"] == "stop"
    assert bot.sockets[0].start["callSid"] == call.sid


async def test_a_document_is_asked_for_beside_the_update(bot: TinyBot) -> None:
    """A bot that answers nothing else while it asks for the update gets its answer all the same."""
    bot.twiml = TALK
    async with account() as ours:
        call = await ours.dial(bot)
        await ours.becomes(call.sid, "in-progress")
        with socket.create_server(("127.0.0.1", 0)) as busy:
            url = f"http://127.0.0.1:{busy.getsockname()[1]}/next"
            async with asyncio.timeout(5000 * MS):
                answer = await ours.client.calls(call.sid).update_async(url=url)
                await ours.client.calls(call.sid).update_async(twiml=HANG_UP)
                record = await ours.network.outbound[call.sid].ended()

    assert answer.status == "in-progress"
    assert record is not None
    assert record.twiml_path[-1] == "Hangup"


async def test_a_call_that_came_in_is_led_elsewhere(bot: TinyBot) -> None:
    """The account sees it, puts another document in place of its stream, and then it is over."""
    bot.twiml, bot.on_stream = bot.connect(), listen
    async with account() as ours:
        calling = asyncio.create_task(call(ours.network, bot, stay))
        await eventually(lambda: bot.sockets)
        sid = bot.sockets[0].start["callSid"]
        (listed,) = await ours.client.calls.list_async(to=CALLED, status="in-progress")
        led = await ours.client.calls(sid).update_async(twiml=HANG_UP)
        record = await calling
        over = await ours.client.calls(sid).fetch_async()
        with pytest.raises(TwilioRestException) as too_late:
            await ours.client.calls(sid).update_async(status="completed")

    assert (listed.sid, listed.direction, listed._from) == (sid, "inbound", CALLER)
    assert led.status == "in-progress"
    assert bot.sockets[0].received[-1]["event"] == "stop"
    assert record.twiml_path == ("Connect", "Hangup")
    assert (over.status, over.duration) == ("completed", "0")
    assert over.date_created <= over.start_time <= over.end_time
    assert too_late.value.code == 21220


async def test_a_call_that_came_in_is_ended(bot: TinyBot) -> None:
    """As one that was placed."""
    bot.twiml, bot.on_stream = bot.connect(), listen
    async with account() as ours:
        calling = asyncio.create_task(call(ours.network, bot, stay))
        await eventually(lambda: bot.sockets)
        sid = bot.sockets[0].start["callSid"]
        await ours.client.calls(sid).update_async(status="completed")
        record = await calling

    assert (record.end.by, record.end.reason) == (EndedBy.BOT, "completed_by_request")


@pytest.mark.parametrize("status", ["completed", "canceled"])
async def test_a_call_that_came_in_is_ended_while_it_rings(bot: TinyBot, status: str) -> None:
    """At once, though its webhook has no answer yet: nobody has talked."""
    async with account() as ours:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            calling = asyncio.create_task(
                ours.network.place_call(
                    f"http://127.0.0.1:{busy.getsockname()[1]}/voice",
                    from_number=CALLER,
                    to_number=CALLED,
                    caller=stay,
                    status_callback_url=bot.url + "/status",
                )
            )
            await eventually(lambda: ours.network.calls)
            (sid,) = ours.network.calls
            async with asyncio.timeout(5000 * MS):
                await ours.client.calls(sid).update_async(status=status)
                record = await calling
        over = await ours.client.calls(sid).fetch_async()
        (callback,) = await told(bot, 1)

    assert [event.name for event in record.events] == ["call_placed", "call_ended"]
    assert (record.end.by, record.end.reason) == (EndedBy.BOT, "completed_by_request")
    assert over.status == callback.field("CallStatus") == "canceled"
    assert over.start_time is None


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ("<Response><Reject/></Response>", "no-answer"),
        ("<Response><Reject reason='rejected'/></Response>", "no-answer"),
        ("<Response><Reject reason='busy'/></Response>", "busy"),
        ("", "failed"),
    ],
)
async def test_a_call_that_is_not_answered_says_why(
    bot: TinyBot, document: str, status: str
) -> None:
    """To whom it was told by a callback, and to whom asks."""
    bot.twiml = document
    async with account() as ours:
        record = await call(ours.network, bot, stay, status_callback_url=bot.url + "/status")
        over = await ours.client.calls(record.call_sid).fetch_async()
        (callback,) = await told(bot, 1)

    assert over.status == callback.field("CallStatus") == status
    assert over.start_time is None
    assert (callback.field("CallDuration"), callback.field("Duration")) == ("0", "0")


async def test_a_machine_is_found_out_beside_the_call(bot: TinyBot) -> None:
    """With AsyncAmd the bot speaks at once and is told later who answered, and nothing else."""
    bot.twiml = TALK
    async with account() as ours:
        call = await ours.dial(
            bot,
            machine_detection="DetectMessageEnd",
            async_amd="true",
            async_amd_status_callback=bot.url + "/amd",
        )
        (found,) = await told(bot, 1, "/amd")
        shown = await ours.client.calls(call.sid).fetch_async()

    assert found.method == "POST"
    assert found.field("AnsweredBy") == shown.answered_by == "human"
    assert set(found.form) == {"AccountSid", "CallSid", "AnsweredBy", "MachineDetectionDuration"}
    assert "AnsweredBy" not in bot.requests("/voice")[0].form


async def test_a_machine_is_found_out_before_the_document(bot: TinyBot) -> None:
    """Without AsyncAmd the document is asked for once it is known who answered."""
    bot.twiml = HANG_UP
    async with account() as ours:
        call = await ours.dial(bot, machine_detection="Enable")
        await ours.becomes(call.sid, "completed")

    assert bot.requests("/voice")[0].field("AnsweredBy") == "human"


async def test_the_callee_speaks_while_it_is_found_out_who_answered(bot: TinyBot) -> None:
    """Without AsyncAmd the document comes late, but the call has begun: the callee speaks into it.

    Who hangs up meanwhile was never put through.
    """
    bot.twiml = TALK
    async with account() as ours:
        call = await ours.dial(bot, to=HASTY, machine_detection="Enable")
        await ours.becomes(call.sid, "completed")
        record = ours.network.outbound[call.sid].record

    assert record is not None
    assert record.end.by is EndedBy.CALLER
    assert [s.end_ms - s.start_ms > 300 for s in record.caller_stretches] == [True]
    assert bot.requests("/voice") == []


async def test_who_takes_too_long_to_be_found_out_is_unknown(bot: TinyBot) -> None:
    """MachineDetectionTimeout bounds how long the callee hears nothing."""
    bot.twiml = HANG_UP
    async with account() as ours:
        call = await ours.dial(
            bot, to=SLOW, machine_detection="Enable", machine_detection_timeout=3
        )
        await ours.becomes(call.sid, "completed")

    assert bot.requests("/voice")[0].field("AnsweredBy") == "unknown"


@pytest.mark.parametrize(
    ("mode", "answered_by"), [("Enable", "machine_start"), ("DetectMessageEnd", "machine_end_beep")]
)
async def test_a_message_is_left_after_the_beep(bot: TinyBot, mode: str, answered_by: str) -> None:
    """A machine is told apart, is waited out where that is asked for, and keeps what is said."""
    bot.twiml = "<Response><Say>Hi</Say></Response>"
    machine = Voicemail(LOUD * 150, rings_ms=50)
    async with account(callees={MACHINE: machine.callee}) as ours:
        call = await ours.dial(bot, to=MACHINE, machine_detection=mode)
        await ours.becomes(call.sid, "completed")
        record = ours.network.outbound[call.sid].record

    assert bot.requests("/voice")[0].field("AnsweredBy") == answered_by
    assert record is not None
    tape = frames(b"".join(machine.messages))
    is_kept = any(Ear().hear(frame, 0) is Heard.STARTED for frame in tape)
    assert is_kept is (mode == "DetectMessageEnd")
    assert (record.bot_stretches[0].start_ms >= 4000) is is_kept


async def test_a_machine_hangs_up_when_nothing_is_said(bot: TinyBot) -> None:
    """It takes no more than its patience of silence, and beeps before it goes."""
    bot.twiml = TALK
    machine = Voicemail(LOUD * 5, rings_ms=50, patience_ms=800)
    async with account(callees={MACHINE: machine.callee}) as ours:
        call = await ours.dial(bot, to=MACHINE)
        await ours.becomes(call.sid, "completed")
        record = ours.network.outbound[call.sid].record

    assert record is not None
    assert record.end.by is EndedBy.CALLER
    assert len(record.caller_stretches) == 3  # greeting, beep, beep


@pytest.mark.parametrize(("channels", "n_channels"), [("mono", 1), ("dual", 2)])
async def test_a_recording_is_kept_and_can_be_fetched(
    bot: TinyBot, channels: str, n_channels: int
) -> None:
    """A call that asks for it leaves a file of both sides, which is told of, listed and served."""
    bot.twiml = "<Response><Pause/></Response>"
    async with account() as ours:
        await (await ours.dial(bot)).fetch_async()
        call = await ours.dial(
            bot,
            record=True,
            recording_channels=channels,
            recording_status_callback=bot.url + "/recorded",
            status_callback=bot.url + "/status",
        )
        await ours.becomes(call.sid, "completed")
        (told_of,), (end,) = await told(bot, 1, "/recorded"), await told(bot, 1)
        (of_call,) = await ours.client.calls(call.sid).recordings.list_async()
        (of_all,) = await ours.client.recordings.list_async()
        fetched = await ours.client.recordings(of_all.sid).fetch_async()
        async with aiohttp.ClientSession(auth=aiohttp.BasicAuth(ACCOUNT, TOKEN)) as http:
            async with http.get(told_of.field("RecordingUrl")) as answer:
                sound = await answer.read()
            async with http.get(fetched.media_url + ".wav") as answer:
                assert await answer.read() == sound
        with pytest.raises(TwilioRestException) as unknown:
            await ours.client.recordings("RE" + 32 * "0").fetch_async()

    assert of_call.sid == of_all.sid == fetched.sid == told_of.field("RecordingSid")
    assert set(told_of.form) == {"AccountSid", "CallSid"} | RECORDING | MORE_OF_RECORDING
    assert {name: end.field(name) for name in RECORDING} == {
        name: told_of.field(name) for name in RECORDING
    }
    assert (fetched.call_sid, fetched.channels, fetched.duration) == (call.sid, n_channels, "1")
    with wave.open(BytesIO(sound)) as reader:
        assert (reader.getnchannels(), reader.getframerate()) == (n_channels, 8000)
        assert reader.getnframes() >= 8000
        loudest = np.abs(np.frombuffer(reader.readframes(2000), "<i2").reshape(-1, n_channels))
    assert (loudest.max(axis=0) > 10_000).tolist() == [True, False][:n_channels]
    assert unknown.value.code == 20404


async def test_a_message_is_listed_and_can_be_fetched(bot: TinyBot) -> None:
    """What `<Record>` took of a call that came in is a recording like others."""
    bot.twiml = '<Response><Record action="/kept" playBeep="false" timeout="0.2"/></Response>'
    bot.pages["/kept"] = HANG_UP
    async with account() as ours:
        record = await call(ours.network, bot, two_words)
        (listed,) = await ours.client.calls(record.call_sid).recordings.list_async()
        async with (
            aiohttp.ClientSession(auth=aiohttp.BasicAuth(ACCOUNT, TOKEN)) as http,
            http.get(bot.requests("/kept")[0].field("RecordingUrl")) as answer,
        ):
            sound = await answer.read()

    assert (listed.sid, listed.channels) == (bot.requests("/kept")[0].field("RecordingSid"), 1)
    assert listed.source == "RecordVerb"
    with wave.open(BytesIO(sound)) as reader:
        assert reader.getnframes() >= 20 * FRAME_BYTES


async def test_calls_are_listed_newest_first_by_what_is_asked(bot: TinyBot) -> None:
    """By number, status and time, page by page; recordings are listed, too."""
    async with account() as ours:
        first, second = await ours.dial(bot, BUSY), await ours.dial(bot, GONE)
        third = await ours.dial(bot, GONE)
        for call, status in ((first, "busy"), (second, "failed"), (third, "failed")):
            await ours.becomes(call.sid, status)
        calls = ours.client.calls
        now = datetime.now(UTC)

        async def sids(**asked: Any) -> list[str]:
            return [one.sid for one in await calls.list_async(**asked)]

        assert await sids(page_size=1) == [third.sid, second.sid, first.sid]
        assert await sids(to=GONE) == [third.sid, second.sid]
        assert await sids(status="busy", from_=OURS) == [first.sid]
        assert await sids(start_time_after=now - timedelta(minutes=1)) == await sids()
        assert await sids(start_time_before=now - timedelta(minutes=1)) == []
        assert await sids(start_time=first.date_created.date()) != []
        assert await sids(start_time=now.date() - timedelta(days=2)) == []
        assert await sids(end_time_after=now - timedelta(minutes=1)) == await sids()
        assert await sids(end_time_before=now - timedelta(minutes=1)) == []
        assert await sids(parent_call_sid=first.sid) == []
        assert await calls(first.sid).recordings.list_async() == []


@pytest.mark.parametrize(
    ("fault", "status", "n_placed"),
    [
        (CreateFault.TOO_MANY, 429, 0),
        (CreateFault.ERROR, 500, 0),
        (CreateFault.ERROR_BUT_PLACED, 500, 1),
    ],
)
async def test_a_create_request_that_fails(
    bot: TinyBot, fault: CreateFault, status: int, n_placed: int
) -> None:
    """Some failures mean that nobody is called, one does not; the SDK asks once in every case."""
    async with account(faults=always(fault)) as ours:
        with pytest.raises(TwilioRestException) as failed:
            await ours.dial(bot, GONE)

        assert ours.rest.n_requests == 1
        assert len(ours.network.outbound) == n_placed
    assert failed.value.status == status


@pytest.mark.parametrize(
    ("fault", "n_placed"), [(CreateFault.LOST_REQUEST, 0), (CreateFault.LOST_ANSWER, 1)]
)
async def test_a_create_request_whose_connection_breaks(
    bot: TinyBot, fault: CreateFault, n_placed: int
) -> None:
    """Whoever asked sees a broken connection, whether the call rings or not."""
    async with account(faults=always(fault)) as ours:
        with pytest.raises(aiohttp.ClientError):
            await ours.dial(bot, GONE)

        assert len(ours.network.outbound) == n_placed


async def test_an_answer_may_take_longer_than_one_waits(bot: TinyBot) -> None:
    """A slow answer is a time-out, and the call rings."""
    async with account(answer_delay_ms=5000) as ours:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):  # the SDK's own has no effect
                await ours.dial(bot, GONE)

        assert len(ours.network.outbound) == 1


async def test_callbacks_come_late_twice_or_never(bot: TinyBot) -> None:
    """`ringing` comes after the end, everything twice, `initiated` not at all."""
    faults = CallbackFaults(
        extra_copies=1, lost=frozenset({"initiated"}), late_by_status_ms={"ringing": 400}
    )
    bot.twiml = HANG_UP
    async with account(callback_faults=faults) as ours:
        await ours.dial(bot, status_callback=bot.url + "/status", status_callback_event=ALL_EVENTS)
        callbacks = await told(bot, 6)

    statuses = [one.field("CallStatus") for one in callbacks]
    assert sorted(statuses[:4]) == ["completed", "completed", "in-progress", "in-progress"]
    assert statuses[4:] == ["ringing", "ringing"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"to": "5550100"}, 21211),
        ({"url": None}, 21205),
        ({"url": "ftp://example.com/"}, 21205),
        ({"url": "http://[oops/"}, 21205),
        ({"url": None, "twiml": "x" * 4001}, 20001),
        ({"timeout": 601}, 20001),
        ({"status_callback": "/status"}, 21609),
        ({"status_callback_method": "PUT"}, 20001),
        ({"status_callback_event": ["picked-up"]}, 21626),
        ({"machine_detection": "Enable", "async_amd": "true"}, 21262),
    ],
)
async def test_a_wrong_request_is_refused_with_twilios_code(
    bot: TinyBot, options: dict[str, Any], code: int
) -> None:
    """Nothing is placed, and the SDK raises the error that Twilio's documentation names."""
    async with account() as ours:
        with pytest.raises(TwilioRestException) as refused:
            await ours.dial(bot, **options)

        assert not ours.network.outbound
    assert (refused.value.status, refused.value.code) == (400, code)


@pytest.mark.parametrize(
    "ask",
    [
        lambda calls: calls("CA" + 32 * "f").fetch_async(),
        lambda calls: calls("CA" + 32 * "f").update_async(status="completed"),
    ],
)
async def test_an_unknown_call_is_not_found(ask: Callable[[Any], Any]) -> None:
    """20404, for looking and for changing."""
    async with account() as ours:
        with pytest.raises(TwilioRestException) as missing:
            await ask(ours.client.calls)

    assert missing.value.code == 20404


async def test_a_wrong_token_is_refused(bot: TinyBot) -> None:
    """20003, and nobody is called."""
    async with account() as ours, AsyncTwilioHttpClient() as http:
        stranger = Client(ACCOUNT, "wrong", http_client=http)
        stranger.api.base_url = ours.rest.url
        with pytest.raises(TwilioRestException) as refused:
            await stranger.calls.create_async(to=ANN, from_=OURS, twiml=HANG_UP)

        assert not ours.network.outbound
    assert refused.value.code == 20003


async def test_the_interface_can_have_a_port_of_its_own() -> None:
    """A bot that is configured beforehand finds it; who finds it taken is told which it was."""
    async with PhoneNetwork(auth_token=TOKEN) as network:
        async with serve_rest(network) as first:
            port = int(first.url.rpartition(":")[2])
            with pytest.raises(OSError, match=f"port {port} of 127.0.0.1, for the REST") as taken:
                async with serve_rest(network, port=port):
                    pass

        async with serve_rest(network, port=port) as second:
            assert second.url == first.url
    assert taken.value.errno == errno.EADDRINUSE


async def test_what_is_not_emulated_is_not_found() -> None:
    """A message, a recording that is begun, a call that is deleted: with Twilio's code each."""
    async with account() as ours:
        a_call = ours.client.calls("CA" + 32 * "f")
        with pytest.raises(TwilioRestException) as message:
            await ours.client.messages.create_async(to=ANN, from_=OURS, body="Hi")
        with pytest.raises(TwilioRestException) as recording:
            await a_call.recordings.create_async()
        with pytest.raises(TwilioRestException) as deleted:
            await a_call.delete_async()

    assert (message.value.status, message.value.code) == (404, 20404)
    assert f"/Accounts/{ACCOUNT}/Messages.json was not found" in message.value.msg
    assert (recording.value.status, recording.value.code) == (405, 20004)
    assert (deleted.value.status, deleted.value.code) == (405, 20004)


async def test_who_is_not_in_the_list_cannot_be_reached(bot: TinyBot) -> None:
    """A directory may be a list of numbers."""
    network = PhoneNetwork(auth_token=TOKEN, directory={ANN: Callee(fate=Fate.BUSY, rings_ms=0)})
    async with network, serve_rest(network) as rest, AsyncTwilioHttpClient() as http:
        client = Client(ACCOUNT, TOKEN, http_client=http)
        client.api.base_url = rest.url
        for number in (ANN, GONE):
            await client.calls.create_async(to=number, from_=OURS, twiml=HANG_UP)
        for call in network.outbound.values():
            assert await call.ended() is None

    assert [call.status for call in network.outbound.values()] == ["busy", "failed"]


async def test_a_callback_that_is_not_taken_is_told(bot: TinyBot) -> None:
    """What it was about, where it went, and what was wrong, after the network is down."""
    bot.twiml, bot.statuses["/status"] = HANG_UP, 403
    async with account() as ours:
        call = await ours.dial(bot, status_callback=bot.url + "/status")
        record = await ours.network.outbound[call.sid].ended()

    assert record is not None
    assert record.twiml_path == ("Hangup",)
    assert ours.network.failed_callbacks == (f"completed: {bot.url}/status answered 403 (11200)",)
