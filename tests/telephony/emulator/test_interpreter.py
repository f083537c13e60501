"""TwiML verbs, carried out over real HTTP."""

import io
import wave

import numpy as np
import pytest

from telephony.emulator import EndedBy, Line, PhoneNetwork
from tests.telephony.emulator.tiny_bot import LOUD, TinyBot, call, codes, names, stay, staying
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_say_is_heard_and_pause_is_silence(bot: TinyBot, network: PhoneNetwork) -> None:
    """Two sentences in two languages with a pause between them are two stretches of sound."""
    bot.twiml = (
        '<Response><Say language="en-GB">Yes.</Say><Pause/>'
        '<Say language="zh-CN" voice="Polly.Zhiyu">你好</Say></Response>'
    )

    record = await call(network, bot, stay)

    first, second = record.bot_stretches
    assert 900 <= second.start_ms - first.end_ms <= 1500
    assert record.end.reason == "twiml_ended"


async def test_play_fetches_a_sound_file(bot: TinyBot, network: PhoneNetwork) -> None:
    """A WAV of the bot's server is heard; one that is missing is skipped with a warning."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16000)
        tone = 8000 * np.sin(np.arange(4800) * 0.3)
        writer.writeframes(tone.astype("<i2").tobytes())

    bot.sounds["/tone.wav"] = buffer.getvalue()
    bot.twiml = "<Response><Play>/tone.wav</Play><Play>/voice</Play></Response>"

    record = await call(network, bot, stay)

    (heard,) = record.bot_stretches
    assert 280 <= heard.end_ms - heard.start_ms <= 320
    assert codes(record) == [11200]


@pytest.mark.parametrize("url", ["http://[oops/", "http://127.0.0.1:99999/"])
async def test_play_skips_what_is_no_url(bot: TinyBot, network: PhoneNetwork, url: str) -> None:
    """A warning, and TwiML goes on."""
    bot.twiml = f"<Response><Play>{url}</Play><Hangup/></Response>"

    record = await call(network, bot, stay)

    assert codes(record) == [11200]
    assert record.twiml_path == ("Play", "Hangup")


async def test_gather_sends_the_digits(bot: TinyBot, network: PhoneNetwork) -> None:
    """A key stops the prompt; the finish key sends what was pressed to the action."""
    bot.twiml = (
        '<Response><Gather action="/digits" timeout="1"><Say>Please press four keys.</Say>'
        "</Gather></Response>"
    )
    bot.pages["/digits"] = "<Response><Hangup/></Response>"

    async def caller(line: Line) -> None:
        await line.sleep(200)
        for digit in "471#":
            line.press(digit)
            await line.sleep(40)
        await line.sleep(5000)

    record = await call(network, bot, caller)

    (webhook,) = bot.requests("/digits")
    assert webhook.field("Digits") == "471"
    assert record.duration_ms < 2500
    assert record.twiml_path == ("Gather", "Hangup")


async def test_gather_without_keys_goes_on(bot: TinyBot, network: PhoneNetwork) -> None:
    """After the time-out the next verb follows."""
    bot.twiml = '<Response><Gather action="/digits" timeout="0.2"/><Hangup/></Response>'

    record = await call(network, bot, stay)

    assert not bot.requests("/digits")
    assert record.twiml_path == ("Gather", "Hangup")
    assert 200 <= record.duration_ms <= 1000


@pytest.mark.parametrize(
    ("attributes", "path"),
    [
        ("", ("Gather", "Hangup")),
        (' actionOnEmptyResult="false"', ("Gather", "Hangup")),
        (' actionOnEmptyResult="true"', ("Gather", "Pause")),
    ],
)
async def test_the_finish_key_alone_gathers_nothing(
    bot: TinyBot, network: PhoneNetwork, attributes: str, path: tuple[str, ...]
) -> None:
    """The next verb follows, unless the action is to be asked all the same."""
    bot.twiml = f'<Response><Gather action="/digits"{attributes}/><Hangup/></Response>'
    bot.pages["/digits"] = "<Response><Pause length='0.1'/></Response>"

    async def caller(line: Line) -> None:
        await line.sleep(100)
        line.press("#")
        await line.sleep(4000)

    record = await call(network, bot, caller)

    assert record.twiml_path == path
    assert record.duration_ms < 2000
    assert [one.field("Digits") for one in bot.requests("/digits")] == [""] * (path[1] == "Pause")


async def test_keys_are_no_words(bot: TinyBot, network: PhoneNetwork) -> None:
    """Who is asked to speak presses in vain; that words are not understood is noted."""
    bot.twiml = '<Response><Gather input="speech" timeout="0.3"/><Hangup/></Response>'

    async def caller(line: Line) -> None:
        line.press("1")
        await line.sleep(4000)

    record = await call(network, bot, caller)

    assert record.twiml_path == ("Gather", "Hangup")
    assert "twiml_not_emulated" in names(record)


async def test_what_is_repeated_without_end_ends_with_the_call(
    bot: TinyBot, network: PhoneNetwork
) -> None:
    """`loop="0"` holds a caller for as long as he stays; a sound that is not there does not."""
    bot.twiml = '<Response><Play loop="0">/none.wav</Play><Say loop="0">Hold</Say></Response>'

    record = await call(network, bot, staying(3000))

    assert record.end.by is EndedBy.CALLER
    assert record.twiml_path == ("Play", "Say")
    assert record.bot_stretches[-1].end_ms > 2000


async def test_keys_that_are_played_are_noted(bot: TinyBot, network: PhoneNetwork) -> None:
    """Nothing is fetched for them."""
    bot.twiml = '<Response><Play digits="12"/><Hangup/></Response>'

    record = await call(network, bot, stay)

    assert codes(record) == []
    assert "twiml_not_emulated" in names(record)
    assert len(bot.requests("/voice")) == 1


async def test_a_message_begins_after_the_beep(bot: TinyBot, network: PhoneNetwork) -> None:
    """A key that finishes ends it, another does not; the action is told where it would be."""
    bot.twiml = '<Response><Record action="/message" finishOnKey="#"/></Response>'
    bot.pages["/message"] = "<Response><Hangup/></Response>"

    async def caller(line: Line) -> None:
        await line.wait_for_sound(since_ms=0, timeout_ms=2000)
        await line.wait_for_quiet(quiet_ms=100, timeout_ms=2000)
        await line.say(LOUD * 10)
        line.press("1")
        await line.sleep(1000)
        line.press("#")
        await line.sleep(5000)

    record = await call(network, bot, caller)

    (webhook,) = bot.requests("/message")
    (beep,) = record.bot_stretches
    assert 480 <= beep.end_ms - beep.start_ms <= 520
    assert (webhook.field("Digits"), webhook.field("RecordingDuration")) == ("#", "1")
    recording_sid = webhook.field("RecordingSid")
    assert webhook.field("RecordingUrl") == network.account.recording_url(recording_sid)
    assert record.duration_ms < 4000


async def test_a_message_is_kept_when_its_caller_hangs_up(
    bot: TinyBot, network: PhoneNetwork
) -> None:
    """Action and callback are told of it once the call is over; it has the caller alone."""
    told = 'recordingStatusCallback="/recorded" recordingStatusCallbackMethod="GET"'
    bot.twiml = f'<Response><Record action="/message" playBeep="false" {told}/></Response>'

    async def caller(line: Line) -> None:
        await line.sleep(200)
        await line.say(LOUD * 60)

    record = await call(network, bot, caller)
    await eventually(lambda: bot.requests("/message") and bot.requests("/recorded"))

    (webhook,), (callback,) = bot.requests("/message"), bot.requests("/recorded")
    message = network.account.recordings[webhook.field("RecordingSid")]
    assert (webhook.field("Digits"), webhook.field("CallStatus")) == ("hangup", "completed")
    assert f"RecordingSid={message.sid}" in callback.url
    assert "RecordingSource=RecordVerb" in callback.url
    assert (message.call_sid, message.n_channels) == (record.call_sid, 1)
    with wave.open(io.BytesIO(message.wav())) as reader:
        assert reader.getnchannels() == 1
        assert abs(reader.getnframes() - len(LOUD) * 60) <= 8000 * 0.4


async def test_a_message_is_not_told_of_when_the_account_ends_it(
    bot: TinyBot, network: PhoneNetwork
) -> None:
    """Who leads the call elsewhere asks for nothing more of what went before."""
    bot.twiml = '<Response><Record action="/message" playBeep="false"/></Response>'

    async def caller(line: Line) -> None:
        await line.say(LOUD * 10)
        (*_, ours) = network.calls.values()
        ours.redirect(url=None, method="POST", twiml="<Response><Hangup/></Response>")
        await line.sleep(5000)

    record = await call(network, bot, caller)

    assert record.twiml_path == ("Record", "Hangup")
    assert bot.requests("/message") == []


async def test_a_message_without_a_sound_is_none(bot: TinyBot, network: PhoneNetwork) -> None:
    """Nobody is told of it, and the next verb follows."""
    bot.twiml = '<Response><Record action="/message" timeout="0.3"/><Hangup/></Response>'

    record = await call(network, bot, stay)

    assert bot.requests("/message") == []
    assert record.twiml_path == ("Record", "Hangup")


async def test_record_ends_with_silence(bot: TinyBot, network: PhoneNetwork) -> None:
    """A message is over when the caller has been silent for the time-out."""
    bot.twiml = '<Response><Record action="/message" timeout="0.3" playBeep="false"/></Response>'
    bot.pages["/message"] = "<Response><Hangup/></Response>"

    async def caller(line: Line) -> None:
        await line.say(LOUD * 10)
        await line.sleep(5000)

    record = await call(network, bot, caller)

    (webhook,) = bot.requests("/message")
    assert webhook.field("RecordingSid").startswith("RE")
    assert 500 <= record.duration_ms <= 1500


async def test_dial_is_logged_and_not_answered(bot: TinyBot, network: PhoneNetwork) -> None:
    """The action of <Dial> learns that nobody answered."""
    bot.twiml = (
        '<Response><Dial action="/dialled" timeout="1"><Number>+15550111</Number></Dial></Response>'
    )
    bot.pages["/dialled"] = "<Response><Hangup/></Response>"

    record = await call(network, bot, stay)

    (webhook,) = bot.requests("/dialled")
    assert webhook.field("DialCallStatus") == "no-answer"
    assert webhook.field("DialCallSid").startswith("CA")
    assert "dialled" in names(record)


async def test_reject_is_never_answered(bot: TinyBot, network: PhoneNetwork) -> None:
    """A busy signal ends the call before the caller is asked."""
    bot.twiml = '<Response><Reject reason="busy"/></Response>'

    record = await call(network, bot, staying(5000), status_callback_url=bot.url + "/status")

    assert (record.end.by, record.end.reason) == (EndedBy.BOT, "busy")
    assert record.duration_ms == 0
    assert "call_answered" not in names(record)


async def test_unknown_verbs_are_warnings(bot: TinyBot, network: PhoneNetwork) -> None:
    """12200 for what TwiML does not have, a note for what this network does not do."""
    bot.twiml = (
        "<Response><Sing/><Enqueue>x</Enqueue><Connect><Room/></Connect><Hangup/></Response>"
    )

    record = await call(network, bot, stay)

    assert codes(record) == [12200, 12200, 12200]
    assert "twiml_not_emulated" in names(record)
    assert record.twiml_path == ("Enqueue", "Connect", "Hangup")


async def test_redirects_without_end_are_stopped(bot: TinyBot, network: PhoneNetwork) -> None:
    """A document that redirects to itself ends the call after a hundred rounds."""
    bot.twiml = '<Response><Redirect method="GET">/voice?x=1</Redirect></Response>'

    record = await call(network, bot, stay)

    assert (record.end.by, record.end.reason) == (EndedBy.NETWORK, "too_many_documents")
    last = bot.requests("/voice")[-1]
    assert last.method == "GET"
    assert "CallSid=" + record.call_sid in last.url
