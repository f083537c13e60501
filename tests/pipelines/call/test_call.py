import asyncio
import gc
import time
import wave
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.call.call import CallPlan, EndReason, warm_up
from pipelines.call.line import Line
from pipelines.realtime.server import RealtimeServer
from tests.pipelines.call.phone import CLIP, TOKEN, Witness, calling, plan, serving, spoken
from tests.pipelines.realtime.tone_model import ToneModel, says_nothing
from tests.waiting import eventually


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm_up()


def journal(model: ToneModel) -> list[tuple[Any, ...]]:
    """What the model was told in the first session."""
    return model.sessions[0].journal


def on(host: RealtimeServer, call_plan: CallPlan) -> CallPlan:
    return replace(call_plan, host_url=plan(host).host_url)


async def test_greeting_is_spoken_at_pick_up() -> None:
    """The caller who says nothing hears the greeting to its end; the model was asked to say it."""
    model = ToneModel(n_words=5)
    async with serving(model) as host, calling(plan(host, greeting="Hi!")) as call:
        picked_up = time.monotonic()
        await call.phone.until(lambda: len(call.witness.turns) == 1)
        first_sound_ms = (call.phone.heard_at[0] - picked_up) * 1000

    assert first_sound_ms < 600
    assert call.witness.turns[0].heard_ms == call.witness.turns[0].reply_ms == 400
    assert 400 <= call.phone.heard_ms <= 420
    assert ("say", "Hi!") in model.sessions[0].journal


async def test_question_is_answered() -> None:
    """Speech is heard by the model, with its onset, and answered; the turn is measured."""
    model = ToneModel(n_words=10)
    question = spoken("What time is it?")
    async with serving(model) as host, calling(plan(host)) as call:
        call.phone.say(bytes(b"\xff" * 1600) + question)
        ended = await call.phone.said()
        await call.phone.until(lambda: len(call.witness.turns) == 1)
        first_sound_ms = (call.phone.heard_at[0] - ended) * 1000

    turn = call.witness.turns[0]
    tokens = [entry[1] for entry in model.sessions[0].journal if entry[0] == "commit"]
    assert turn.bot_text.split() == [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
    ]
    assert (turn.heard_ms, turn.interrupted) == (800, False)
    assert turn.reply_latency_ms is not None
    assert abs(turn.reply_latency_ms - first_sound_ms) < 250
    assert tokens[0] >= len(question) / 8 / 80  # all of it


async def test_caller_hangs_up() -> None:
    """A hang-up in mid-reply ends the call at once, and the model's session with it."""
    model = ToneModel(n_words=100)
    async with serving(model) as host, calling(plan(host, greeting="Hi!")) as call:
        await call.phone.until(lambda: call.phone.heard_ms > 300)
        await call.phone.hang_up()
        result = await call.result(2000)
        await call.phone.until(lambda: model.sessions[0].is_closed, 2000)

    assert result.reason is EndReason.CALLER_HUNG_UP
    assert result.n_turns == 1
    assert call.witness.turns[0].interrupted


async def test_barge_in() -> None:
    """A caller who speaks over the bot hears it stop; the conversation keeps what he heard."""
    model = ToneModel(n_words=100)
    stop = spoken("Stop! Wait a moment please, I have another question.")
    async with serving(model) as host, calling(plan(host, greeting="Hi!")) as call:
        await call.phone.until(lambda: call.phone.heard_ms > 500)
        call.phone.say(stop)
        began = time.monotonic()
        await call.phone.until(lambda: bool(call.phone.events("clear")))
        clear_ms = (call.phone.events("clear")[0] - began) * 1000
        heard_ms = call.phone.heard_ms
        await call.phone.until(lambda: len(call.witness.turns) == 1)
        await call.phone.until(lambda: any(e[0] == "truncate" for e in journal(model)))

    turn = call.witness.turns[0]
    truncated_ms = next(entry[1] for entry in journal(model) if entry[0] == "truncate")
    assert clear_ms < 200 + 40 + 60  # start_secs, our share, and the test's own sockets
    assert turn.interrupted
    assert abs(turn.heard_ms - heard_ms) <= 60
    assert truncated_ms == turn.heard_ms


async def test_reply_that_was_made_but_not_heard_is_cut_too() -> None:
    """A reply that the model finished long ago is cut to what was heard when it is interrupted."""
    model = ToneModel(n_words=60)
    async with serving(model) as host, calling(plan(host, greeting="Hi!")) as call:
        await call.phone.until(lambda: call.phone.heard_ms > 500)
        await call.phone.press("1")
        await call.phone.until(lambda: any(e[0] == "truncate" for e in journal(model)))
        await call.phone.until(lambda: bool(call.phone.events("clear")))

    truncated_ms = next(entry[1] for entry in journal(model) if entry[0] == "truncate")
    assert 440 <= truncated_ms <= 900
    assert call.witness.turns[0].interrupted
    assert call.witness.turns[0].reply_ms == 4800


async def test_keys_are_a_turn() -> None:
    """Keys pressed one after the other reach the model as one entry and are answered."""
    model = ToneModel(n_words=3)
    async with serving(model) as host, calling(plan(host)) as call:
        for digit in "42#":
            await call.phone.press(digit)
        await call.phone.until(lambda: len(call.witness.turns) == 1)

    texts = [entry[2] for entry in journal(model) if entry[0] == "text"]
    assert texts == ["I pressed these keys on my telephone: 4 2 #"]
    assert call.witness.turns[0].caller_text == texts[0]


KEY_AND_WORDS = "I pressed these keys on my telephone: 1 one two three"


async def test_keys_and_speech_of_one_turn_are_answered_together() -> None:
    """Who presses a key and speaks on hears nothing before he is done, and is answered once."""
    model = ToneModel(n_words=5)
    words = spoken("I would like to ask about the invoice that you have sent to me last week.")
    async with serving(model) as host, calling(plan(host, transcription=True)) as call:
        await call.phone.press("1")
        call.phone.say(words)
        ended = await call.phone.said()
        await call.phone.until(lambda: KEY_AND_WORDS in _written(call.witness))

    kinds = [entry[0] for entry in journal(model) if entry[0] in ("text", "commit", "reply")]
    assert kinds == ["text", "commit", "reply"]
    assert call.phone.heard_at[0] > ended
    assert call.witness.turns[0].reply_latency_ms is not None


async def test_silent_caller_is_asked_then_left() -> None:
    """Silence brings the prompts in turn, then the goodbye, which is heard before we hang up."""
    model = ToneModel(n_words=1)
    silent = plan(
        None,
        greeting="Hi!",
        silence_after_ms=150,
        silence_prompts=("Are you there?", "Hello?"),
    )
    async with serving(model) as host, calling(on(host, silent)) as call:
        result = await call.result()
        await call.phone.closed.wait()

    said = [entry[1] for entry in journal(model) if entry[0] == "say"]
    assert said == ["Hi!", "Are you there?", "Hello?", "Goodbye."]
    assert result.reason is EndReason.CALLER_SILENT
    assert result.heard_ms == 4 * 80
    assert call.phone.heard_ms >= 4 * 80


async def test_a_caller_who_presses_keys_is_asked_again_before_he_is_left() -> None:
    """A key is as good as a word: after it the prompts begin anew."""
    model = ToneModel(n_words=1)
    silent = plan(None, greeting="Hi!", silence_after_ms=300, silence_prompts=("Hello?",))
    async with serving(model) as host, calling(on(host, silent)) as call:
        await call.phone.until(lambda: len(call.witness.turns) == 2)
        await call.phone.press("#")
        await call.phone.until(lambda: len(call.witness.turns) == 4)

    said = [entry[1] for entry in journal(model) if entry[0] in ("say", "reply")]
    assert said[:4] == ["Hi!", "Hello?", None, "Hello?"]


async def test_a_caller_who_keys_in_a_long_number_is_not_asked_whether_he_is_there() -> None:
    """Each key starts the wait for him anew."""
    model = ToneModel(n_words=1)
    silent = plan(None, greeting="Hi!", silence_after_ms=1_200, silence_prompts=("Hello?",))
    async with serving(model) as host, calling(on(host, silent)) as call:
        await call.phone.until(lambda: len(call.witness.turns) == 1)
        for digit in "123#":
            await asyncio.sleep(0.6)
            await call.phone.press(digit)
        await call.phone.until(lambda: len(call.witness.turns) == 2)

    assert call.witness.turns[1].caller_text.endswith("1 2 3 #")
    assert "caller_silent" not in call.witness.counts


async def test_a_caller_whose_keys_are_being_answered_is_not_asked_whether_he_is_there() -> None:
    """Neither while more keys may come, nor while the model is slow to answer."""
    model = ToneModel(n_words=1)
    silent = plan(None, greeting="Hi!", silence_after_ms=400, silence_prompts=("Hello?",))
    async with serving(model) as host, calling(on(host, silent)) as call:
        await call.phone.until(lambda: len(call.witness.turns) == 1)
        model.on_step = lambda reply: time.sleep(0.6)
        await call.phone.press("1")
        await call.phone.until(lambda: len(call.witness.turns) == 2)
        counts = call.witness.counts[:]
        model.on_step = lambda reply: None
        await call.phone.until(lambda: len(call.witness.turns) == 3)

    said = [entry[1] for entry in journal(model) if entry[0] in ("say", "reply")]
    assert "caller_silent" not in counts
    assert said[:3] == ["Hi!", None, "Hello?"]


async def test_who_is_answered_without_a_sound_is_asked_whether_he_is_there() -> None:
    """A reply that brings no sound leaves nobody waiting for ever."""
    model = ToneModel(n_words=1)
    silent = plan(None, greeting="Hi!", silence_after_ms=2_000, silence_prompts=("Hello?",))

    async with serving(model) as host, calling(on(host, silent)) as call:
        await call.phone.until(lambda: len(call.witness.turns) == 1)
        model.on_step = says_nothing
        call.phone.say(spoken("When do you open?"))
        await call.phone.until(lambda: len(call.witness.turns) == 2)
        model.on_step = lambda reply: None
        await call.phone.until(lambda: len(call.witness.turns) == 3)

    said = [entry[1] for entry in journal(model) if entry[0] in ("say", "reply")]
    assert said[:3] == ["Hi!", None, "Hello?"]
    assert call.witness.turns[1].reply_ms == 0


async def test_time_limit() -> None:
    """At the limit the bot says goodbye over whatever goes on, and hangs up when it was heard."""
    model = ToneModel(n_words=50)
    async with (
        serving(model) as host,
        calling(plan(host, greeting="Hi!", max_call_ms=400)) as call,
    ):
        await call.phone.until(lambda: bool(model.sessions) and ("say", "Hi!") in journal(model))
        model.n_words = 5
        result = await call.result()

    assert result.reason is EndReason.TIME_LIMIT
    assert [turn.interrupted for turn in call.witness.turns] == [True, False]
    assert call.witness.turns[1].heard_ms == 400


async def test_keys_do_not_cut_off_the_goodbye() -> None:
    """Neither one that is pressed into it, nor one from before it that waited to be entered."""
    model = ToneModel(n_words=50)
    async with (
        serving(model) as host,
        calling(plan(host, greeting="Hi!", max_call_ms=1_000)) as call,
    ):
        await call.phone.until(lambda: call.phone.heard_ms > 200)
        await call.phone.press("1")
        await call.phone.until(lambda: ("say", "Goodbye.") in journal(model))
        said_ms = call.phone.heard_ms
        await call.phone.until(lambda: call.phone.heard_ms > said_ms + 400)
        await call.phone.press("2")
        result = await call.result()

    assert result.reason is EndReason.TIME_LIMIT
    assert [turn.interrupted for turn in call.witness.turns] == [True, False]
    assert call.witness.turns[1].heard_ms == 4_000
    assert not [entry for entry in journal(model) if entry[0] == "text"]


async def test_host_that_is_not_there() -> None:
    """Where no model answers, the caller hears the apology within 3 s, to its end.

    An apology is not what he has waited for: it is no first sound.
    """
    async with calling(plan(None)) as call:
        picked_up = time.monotonic()
        result = await call.result()

    assert (result.reason, result.detail) == (EndReason.HOST_LOST, "host_unreachable")
    assert call.phone.heard_at[0] - picked_up < 3
    assert bytes(call.phone.heard) == CLIP
    assert "first_sound" not in call.witness.counts


async def test_host_lost_in_mid_reply() -> None:
    """A host that dies in mid-reply: the sound stops, the apology is heard within 3 s."""
    model = ToneModel(n_words=100)
    host = RealtimeServer(model, host="127.0.0.1", port=0, token=TOKEN)
    await host.__aenter__()
    try:
        async with calling(plan(host, greeting="Hi!")) as call:
            await call.phone.until(lambda: call.phone.heard_ms > 300)
            lost = time.monotonic()
            await host.__aexit__(None, None, None)
            result = await call.result()
    finally:
        pass

    assert result.reason is EndReason.HOST_LOST
    assert bytes(call.phone.heard[-len(CLIP) :]) == CLIP
    began = call.phone.heard_at[-len(CLIP) // 160]
    assert began - lost < 3


async def test_host_that_is_full() -> None:
    """A host without a free seat is as good as none: apology, and the reason is told."""
    model = ToneModel()
    server = RealtimeServer(model, host="127.0.0.1", port=0, token=TOKEN, max_sessions=0)
    async with server as host, calling(plan(host)) as call:
        result = await call.result()

    assert (result.reason, result.detail) == (EndReason.HOST_LOST, "at_capacity")
    assert bytes(call.phone.heard) == CLIP


async def test_drain() -> None:
    """When the process goes, the caller hears the apology for that, and the call ends cleanly."""
    model = ToneModel(n_words=100)
    async with serving(model) as host, calling(plan(host, greeting="Hi!")) as call:
        await call.phone.until(lambda: call.phone.heard_ms > 300)
        call.drain.set()
        result = await call.result()
        await call.phone.closed.wait()

    assert result.reason is EndReason.DRAINED
    assert bytes(call.phone.heard[-len(CLIP) :]) == CLIP


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ("no json", "not_json"),
        (b"\x00\x01", "binary"),
        ('{"event":"media","streamSid":"MZ1"}', "missing_key"),
        ('{"event":"mark","sequenceNumber":"x","streamSid":"MZ1","mark":{"name":""}}', None),
    ],
)
async def test_malformed_message_ends_the_call(message: str | bytes, word: str | None) -> None:
    """A message that breaks the protocol ends the call cleanly, with a word for it."""
    model = ToneModel(n_words=100)
    async with serving(model) as host, calling(plan(host, greeting="Hi!")) as call:
        await call.phone.until(lambda: call.phone.heard_ms > 100)
        await call.phone.socket.send(message)
        result = await call.result(3000)
        await call.phone.closed.wait()

    assert result.reason is EndReason.PROTOCOL_ERROR
    assert word is None or result.detail == word


async def test_marks_that_never_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that echoes no mark costs a moment, not the call: the goodbye still ends it."""
    monkeypatch.setattr("pipelines.call.transport.MARK_GRACE_MS", 200)
    model = ToneModel(n_words=3)
    silent = plan(None, greeting="Hi!", silence_after_ms=200)
    async with serving(model) as host, calling(on(host, silent)) as call:
        call.phone.drop_marks = True
        result = await call.result()

    assert result.reason is EndReason.CALLER_SILENT
    assert call.witness.counts.count("mark_lost") == 2


async def test_line_that_goes_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line on which no media comes any more is given up."""
    monkeypatch.setattr("pipelines.call.call.NO_MEDIA_MS", 300)
    model = ToneModel(n_words=3)
    async with serving(model) as host, calling(plan(host)) as call:
        await call.phone.until(lambda: bool(model.sessions))
        call.phone.mute()
        result = await call.result(3000)

    assert (result.reason, result.detail) == (EndReason.FAILED, "no_media")


async def test_recording_is_what_was_heard(tmp_path: Path) -> None:
    """The file has the caller left and the bot right, without what the barge-in cleared."""
    model = ToneModel(n_words=100)
    path = tmp_path / "call.wav"
    async with (
        serving(model) as host,
        calling(plan(host, greeting="Hi!", recording_path=path)) as call,
    ):
        await call.phone.until(lambda: call.phone.heard_ms > 600)
        await call.phone.press("1")
        await call.phone.until(lambda: bool(call.witness.turns))
        heard_ms = call.phone.heard_ms
        await call.phone.hang_up()
        await call.result()

    with wave.open(str(path)) as recording:
        sound = np.frombuffer(recording.readframes(recording.getnframes()), "<i2").reshape(-1, 2)
    bot = np.flatnonzero(np.abs(sound[:, 1]) > 100)
    gap = np.flatnonzero(np.diff(bot) > 800)
    first_run_ms = (bot[gap[0]] if len(gap) else bot[-1]) - bot[0]
    assert abs(first_run_ms / 8 - heard_ms) <= 100


async def test_nothing_is_left_of_a_call() -> None:
    """After a call its tasks are gone and the model's session is closed, however it ended."""
    model = ToneModel(n_words=20)
    async with serving(model) as host:
        counts = []
        for heard_ms in (0, 100, 300):
            async with calling(plan(host, greeting="Hi!")) as call:
                await call.phone.until(partial(call.phone.has_heard, heard_ms))
                await call.phone.hang_up()
                await call.result()
            await eventually(lambda: all(s.is_closed for s in model.sessions))
            gc.collect()
            names = sorted(task.get_name() for task in asyncio.all_tasks())
            counts.append((len(names), sum(type(thing) is Line for thing in gc.get_objects())))

    assert len(set(counts)) == 1, (counts, names)
    assert counts[0][1] == 0


async def test_who_comes_behind_an_assistant_is_greeted() -> None:
    """After words of an assistant that screens calls the next turn is answered by the greeting."""
    model = ToneModel(n_words=2)
    speakers = iter([True, False, False])
    async with (
        serving(model) as host,
        calling(
            plan(host, greeting="Hi!", transcription=True, screens=lambda text: next(speakers))
        ) as call,
    ):
        await call.phone.until(lambda: len(call.witness.turns) == 1)
        for n_turns, words in ((2, "Please state your name."), (3, "Hello?"), (4, "Who is it?")):
            call.phone.say(spoken(words))
            await call.phone.until(lambda n=n_turns: len(call.witness.turns) == n)
            await call.phone.until(lambda n=n_turns: len(_written(call.witness)) == n - 1)

    said = [entry for entry in journal(model) if entry[0] in ("say", "reply")]
    assert said == [("say", "Hi!"), ("reply", None), ("say", "Hi!"), ("reply", None)]


def _written(witness: Witness) -> list[str]:
    """What the caller said, as far as it has been written down."""
    told = [turn.caller_text for turn in witness.turns if turn.caller_text]
    return told + [text for _, text in witness.transcripts]
