"""TwiML verbs, carried out over real HTTP."""

import io
import wave

import numpy as np
import pytest

from telephony.emulator import EndedBy, Line, PhoneNetwork
from tests.telephony.emulator.tiny_bot import LOUD, TinyBot, call, codes, names, stay, staying

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


async def test_record_ends_with_silence(bot: TinyBot, network: PhoneNetwork) -> None:
    """A message is over when the caller has been silent for the time-out."""
    bot.twiml = '<Response><Record action="/message" timeout="0.3"/></Response>'
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
