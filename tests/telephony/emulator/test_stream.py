"""Play-out, marks, clears, wrong messages and faults of a media stream, over real sockets."""

import asyncio
import base64
from itertools import pairwise

import pytest

from telephony.emulator import EndedBy, Line, PhoneNetwork
from tests.telephony.emulator.tiny_bot import (
    FRAME,
    LOUD,
    TOKEN,
    Socket,
    TinyBot,
    call,
    codes,
    names,
    stay,
    staying,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_mark_comes_back_when_the_audio_before_it_was_heard(
    bot: TinyBot, network: PhoneNetwork
) -> None:
    """A mark behind 200 ms of audio takes 200 ms, one on an empty line comes back at once."""
    times_ms: list[int] = []

    async def on_stream(socket: Socket) -> None:
        loop = asyncio.get_running_loop()
        await socket.play(LOUD * 10)
        for name in ("after", "idle"):
            sent_s = loop.time()
            await socket.mark(name)
            await socket.receive_until("mark")
            times_ms.append(round(1000 * (loop.time() - sent_s)))
            await asyncio.sleep(0.06)

    bot.on_stream = on_stream
    bot.twiml = bot.connect()

    record = await call(network, bot, stay)

    assert 180 <= times_ms[0] < 700
    assert times_ms[1] < 150
    assert bot.sockets[0].marks() == ["after", "idle"]
    assert LOUD * 10 in record.recording.heard_mulaw


async def test_a_clear_drops_the_audio_and_returns_every_mark_at_once(
    bot: TinyBot, network: PhoneNetwork
) -> None:
    """Of five seconds the caller hears only what came before the clear."""
    took_ms: list[float] = []

    async def on_stream(socket: Socket) -> None:
        for name in "abcde":
            await socket.play(LOUD * 50)
            await socket.mark(name)
        await asyncio.sleep(0.3)
        sent_s = asyncio.get_running_loop().time()
        await socket.send("clear")
        while len(socket.marks()) < 5:
            await socket.receive()
        took_ms.append(1000 * (asyncio.get_running_loop().time() - sent_s))
        await asyncio.sleep(0.1)

    bot.on_stream = on_stream
    bot.twiml = bot.connect()

    record = await call(network, bot, stay)

    (heard,) = record.bot_stretches
    assert bot.sockets[0].marks() == list("abcde")
    assert took_ms[0] < 250
    assert 240 <= heard.end_ms - heard.start_ms <= 900
    assert record.streams[0].clears == 1
    assert record.underruns == 0


async def test_ragged_audio_is_played_without_gaps(bot: TinyBot, network: PhoneNetwork) -> None:
    """Pieces of any size join: Twilio queues bytes, not frames."""
    track = bytes(range(256)) * 8

    async def on_stream(socket: Socket) -> None:
        for start in range(0, len(track), 100):
            await socket.play(track[start : start + 100])
        await socket.mark("end")
        await socket.receive_until("mark")

    bot.on_stream = on_stream
    bot.twiml = bot.connect()

    record = await call(network, bot, stay)

    assert track in record.recording.heard_mulaw


async def test_one_message_may_hold_much_audio(bot: TinyBot, network: PhoneNetwork) -> None:
    """Ten seconds at once are all heard, and the mark behind them comes back."""

    async def on_stream(socket: Socket) -> None:
        await socket.play(LOUD * 500)
        await socket.mark("end")
        await socket.receive_until("mark")

    bot.on_stream = on_stream
    bot.twiml = bot.connect()

    record = await call(network, bot, stay)

    assert LOUD * 500 in record.recording.heard_mulaw
    assert bot.sockets[0].marks() == ["end"]
    assert codes(record) == []


async def test_a_reply_that_stalls_is_an_underrun(bot: TinyBot, network: PhoneNetwork) -> None:
    """A bot that pauses for 200 ms in mid reply is charged with one gap of about that length."""

    async def on_stream(socket: Socket) -> None:
        await socket.play(LOUD * 5)
        await asyncio.sleep(0.3)
        await socket.play(LOUD * 5)
        await asyncio.sleep(0.2)

    bot.on_stream = on_stream
    bot.twiml = bot.connect()

    record = await call(network, bot, stay)

    assert record.underruns == 1
    assert 100 <= record.underrun_ms <= 600
    gaps = [event for event in record.events if event.name == "underrun"]
    assert [event.facts["gap_ms"] for event in gaps] == [record.underrun_ms]


async def test_a_reply_sent_ahead_has_no_underrun(bot: TinyBot, network: PhoneNetwork) -> None:
    """Paced audio with a small lead plays through, and the lead is measured."""

    async def on_stream(socket: Socket) -> None:
        await socket.play(LOUD * 10)
        for _ in range(10):
            await asyncio.sleep(0.02)
            await socket.play(LOUD)
        await asyncio.sleep(0.3)

    bot.on_stream = on_stream
    bot.twiml = bot.connect()

    record = await call(network, bot, stay)

    assert record.underruns == 0
    assert 60 < record.streams[0].mean_lead_ms < 220


@pytest.mark.parametrize(
    "message",
    ["no json", '["media"]', '{"event":"play"}', '{"event":"media","streamSid":"MZ","media":{}}'],
)
async def test_a_message_twilio_does_not_know_ends_the_stream(
    bot: TinyBot, network: PhoneNetwork, message: str
) -> None:
    """31924 is logged, the socket is closed and TwiML goes on."""

    async def on_stream(socket: Socket) -> None:
        await socket.websocket.send_text(message)
        await socket.receive_all()

    bot.on_stream = on_stream
    bot.twiml = bot.connect(after="<Hangup/>")

    record = await call(network, bot, stay)

    assert codes(record) == [31924]
    assert record.twiml_path == ("Connect", "Hangup")
    assert "stop" not in [m["event"] for m in bot.sockets[0].received]


async def test_undecodable_messages_are_reported_once(bot: TinyBot, network: PhoneNetwork) -> None:
    """Binary frames and bad base64 are warned about once (31950); the stream lives on."""

    async def on_stream(socket: Socket) -> None:
        await socket.websocket.send_bytes(LOUD)
        await socket.websocket.send_bytes(LOUD)
        await socket.send("media", media={"payload": "%%%"})
        await socket.play(LOUD * 5)
        await asyncio.sleep(0.15)

    bot.on_stream = on_stream
    bot.twiml = bot.connect()

    record = await call(network, bot, stay)

    assert codes(record) == [31950]
    assert len(record.bot_stretches) == 1


@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_bot_that_breaks_off_without_a_close_frame(bot: TinyBot, goes_on: bool) -> None:
    """Whether TwiML goes on after a broken pipe is not known of Twilio: both can be had."""

    async def on_stream(socket: Socket) -> None:
        bot.abort()
        await socket.receive_all()

    bot.on_stream = on_stream
    bot.twiml = bot.connect(after="<Hangup/>")
    async with PhoneNetwork(auth_token=TOKEN, continue_after_broken_pipe=goes_on) as network:
        record = await call(network, bot, stay)

    ended = [e.facts for e in record.events if e.name == "stream_ended"]
    assert ended == [{"reason": "broken_pipe", "code": 31903}]
    assert record.end.by is (EndedBy.BOT if goes_on else EndedBy.NETWORK)


async def test_the_network_can_cut_the_socket(bot: TinyBot, network: PhoneNetwork) -> None:
    """A cut gives the bot neither `stop` nor a close frame; TwiML goes on."""
    bot.on_stream = Socket.receive_all
    bot.twiml = bot.connect(after="<Pause length='0.1'/>")

    async def caller(line: Line) -> None:
        await line.sleep(100)
        assert line.stream is not None
        line.stream.cut()
        await line.sleep(5000)

    record = await call(network, bot, caller)

    assert bot.sockets[0].received[-1]["event"] == "media"
    assert record.twiml_path == ("Connect", "Pause")
    assert "fault_socket_cut" in names(record)


async def test_the_network_can_close_the_socket(bot: TinyBot, network: PhoneNetwork) -> None:
    """A close from the network's side comes without `stop`; TwiML goes on."""
    bot.on_stream = Socket.receive_all
    bot.twiml = bot.connect(after="<Pause length='0.1'/>")

    async def caller(line: Line) -> None:
        await line.sleep(100)
        assert line.stream is not None
        line.stream.close()
        await line.sleep(5000)

    record = await call(network, bot, caller)

    assert bot.sockets[0].received[-1]["event"] == "media"
    assert record.twiml_path == ("Connect", "Pause")


async def test_frames_can_get_lost(bot: TinyBot, network: PhoneNetwork) -> None:
    """Lost frames leave a gap in the timestamps and none in the numbering."""
    bot.on_stream = Socket.receive_all
    bot.twiml = bot.connect()

    async def caller(line: Line) -> None:
        await line.sleep(100)
        assert line.stream is not None
        line.stream.lose_frames(4)
        await line.sleep(200)

    record = await call(network, bot, caller)

    media = [m["media"] for m in bot.sockets[0].received if m["event"] == "media"]
    times_ms = [int(m["timestamp"]) for m in media]
    steps = [after - before for before, after in pairwise(times_ms)]
    assert sorted(set(steps)) == [20, 100]
    assert [int(m["chunk"]) for m in media] == list(range(1, len(media) + 1))
    assert record.streams[0].media_lost == 4


async def test_nonsense_can_be_sent(bot: TinyBot, network: PhoneNetwork) -> None:
    """Raw text and binary messages reach the bot as they are."""
    raw: list[object] = []

    async def on_stream(socket: Socket) -> None:
        while len(raw) < 2:
            message = await socket.websocket.receive()
            text = message.get("text") or ""
            if not text.startswith("{"):
                raw.append(text or message.get("bytes"))
        await socket.receive_all()

    bot.on_stream = on_stream
    bot.twiml = bot.connect()

    async def caller(line: Line) -> None:
        await line.sleep(100)
        assert line.stream is not None
        line.stream.send_raw("nonsense")
        line.stream.send_raw(b"\x00\xff")
        await line.sleep(100)

    await call(network, bot, caller)

    assert raw == ["nonsense", b"\x00\xff"]


async def test_a_slow_reader_stalls_the_bot_and_loses_nothing(
    bot: TinyBot, network: PhoneNetwork
) -> None:
    """While reading is paused nothing is heard; afterwards everything is."""

    async def on_stream(socket: Socket) -> None:
        await asyncio.sleep(0.2)
        await socket.play(LOUD * 5)
        await socket.receive_all()

    bot.on_stream = on_stream
    bot.twiml = bot.connect()

    async def caller(line: Line) -> None:
        await line.sleep(100)
        assert line.stream is not None
        line.stream.pause_reading()
        await line.sleep(400)
        line.stream.resume_reading()
        await line.sleep(250)

    record = await call(network, bot, caller)

    (heard,) = record.bot_stretches
    assert heard.start_ms >= 500
    assert heard.end_ms - heard.start_ms == 100


async def test_more_than_ten_minutes_of_audio_are_discarded(
    bot: TinyBot, network: PhoneNetwork
) -> None:
    """31931 is reported once; what fits is kept."""
    minute = base64.b64encode(LOUD * 50 * 6).decode()  # six seconds: a message of 64 KiB

    async def on_stream(socket: Socket) -> None:
        for _ in range(102):
            await socket.send("media", media={"payload": minute})
        await socket.send("clear")
        await socket.mark("end")
        await socket.receive_until("mark")

    bot.on_stream = on_stream
    bot.twiml = bot.connect()

    record = await call(network, bot, stay)

    assert codes(record) == [31931]
    assert record.streams[0].most_lead_ms == 600_000


async def test_a_bot_that_does_not_read_loses_caller_audio(
    bot: TinyBot, network: PhoneNetwork
) -> None:
    """When unread messages pile up, frames are dropped and 31930 is reported once."""

    async def on_stream(socket: Socket) -> None:
        await asyncio.sleep(0.5)

    bot.on_stream = on_stream
    bot.twiml = bot.connect()

    async def caller(line: Line) -> None:
        await line.sleep(100)
        assert line.stream is not None
        for _ in range(20):
            line.stream.send_raw("x" * 1_000_000)
        await line.sleep(5000)

    record = await call(network, bot, caller)

    assert codes(record) == [31930]
    assert record.streams[0].media_lost > 5


async def test_hanging_up_in_mid_reply_sends_stop(bot: TinyBot, network: PhoneNetwork) -> None:
    """The bot gets `stop` as its last message although audio is still waiting."""

    async def on_stream(socket: Socket) -> None:
        await socket.play(LOUD * 100)
        await socket.receive_all()

    bot.on_stream = on_stream
    bot.twiml = bot.connect()

    record = await call(network, bot, staying(300))

    assert record.end.by is EndedBy.CALLER
    assert bot.sockets[0].received[-1]["event"] == "stop"
    assert len(record.recording.heard_mulaw) == record.duration_ms * FRAME // 20
