"""Messages for machines that only we have recognised, by their words: calls with real sound."""

from dataclasses import replace

import pytest

from pipelines.call.call import run_call, warm_up
from telephony.emulator.callee import Detection
from telephony.emulator.voicemail import Voicemail
from tests.bot.campaigns.facts import people
from tests.bot.dialling.campaigns import campaign_line, plan
from tests.pipelines.call.phone import TOKEN, serving, spoken
from tests.pipelines.realtime.tone_model import ToneModel

ANNOUNCEMENT = "Please leave a message after the tone."


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm_up()


@pytest.mark.parametrize(
    "found",
    [
        Detection("human", 1_000),
        Detection("unknown", 1_000),
        Detection("human", 1_000_000),  # nothing is found in time
        Detection("machine_end_beep", 2_000),  # found before we have, ...
        Detection("machine_end_beep", 25_000),  # ... and after
    ],
)
async def test_a_mailbox_gets_one_message(sqlite_url: str, found: Detection) -> None:
    """Whatever the network's detection finds, and when."""
    mailbox = Voicemail(spoken(ANNOUNCEMENT), rings_ms=500)
    callee = replace(mailbox.callee, detection=found, message_end=None)
    model = ToneModel(n_words=200)
    model.written = ANNOUNCEMENT.split()
    async with (
        serving(model) as host,
        campaign_line(
            sqlite_url,
            directory=lambda number: callee,
            run_call=run_call,
            gpu_url=f"ws://127.0.0.1:{host.port}/v1/realtime",
            gpu_token=TOKEN,
            speed=5,
        ) as ours,
    ):
        leave = {"then": "leave_message", "message": "Please call."}
        await ours.campaign(people(1), plan(voicemail=leave))
        async with ours.dialling():
            counts = await ours.finished()
        [call] = ours.rung

    assert counts.done == {"voicemail": 1}
    assert call.record is not None
    assert call.record.twiml_path == ("Connect", "Say", "Hangup")
