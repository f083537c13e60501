"""What callers said comes as text, to clients that asked for it."""

from typing import Any

from pipelines.realtime.client import RealtimeConnection
from pipelines.realtime.history import History, Item, user_speech
from pipelines.realtime.transcripts import MAX_WAITING, Transcripts
from tests.pipelines.realtime.conftest import append, babble, configure, one, serving, session
from tests.pipelines.realtime.tone_model import ToneModel, ToneSession

COMPLETED = "conversation.item.input_audio_transcription.completed"
FAILED = "conversation.item.input_audio_transcription.failed"
ASKED = {"input": {"transcription": {"model": "whisper-1"}}}


async def say_something(host: RealtimeConnection) -> str:
    """One turn; returns its item's id."""
    await host.send(append(babble(800)))
    await host.send({"type": "input_audio_buffer.commit"})
    return str((await one(host, "conversation.item.done")).item.id)


async def test_a_turn_is_written_down_when_the_client_asks() -> None:
    """The text names the turn's item, which shows it from then on."""
    async with serving(ToneModel()) as server, session(server) as host:
        shown = await configure(host, audio=ASKED)
        item_id = await say_something(host)
        done = await one(host, COMPLETED)
        await host.send({"type": "conversation.item.retrieve", "item_id": item_id})
        item = (await one(host, "conversation.item.retrieved")).item

    assert shown.audio.input.transcription.model == "glm-4-voice"  # nobody else writes here
    assert (done.item_id, done.content_index, done.transcript) == (item_id, 0, "one two three")
    assert (done.usage.input_tokens, done.usage.output_tokens) == (9, 3)
    assert item.content[0].transcript == "one two three"


async def test_nothing_is_written_down_unasked() -> None:
    """Nor after the client has taken its wish back."""
    model = ToneModel()
    async with serving(model) as server, session(server) as host:
        await configure(host)
        await say_something(host)
        await configure(host, audio=ASKED)
        shown = await configure(host, audio={"input": {"transcription": None}})
        await say_something(host)
        await host.send({"type": "response.create"})
        await one(host, "response.done")

    assert shown.audio.input.transcription is None
    assert ("transcribe",) not in model.sessions[0].journal


async def test_a_model_that_cannot_says_so_in_the_session() -> None:
    """The wish is no mistake, but it is shown as not granted."""
    model = ToneModel()
    model.can_transcribe = False
    async with serving(model) as server, session(server) as host:
        shown = await configure(host, audio=ASKED)
        await say_something(host)
        await host.send({"type": "response.create"})
        await one(host, "response.done")

    assert shown.audio.input.transcription is None
    assert ("transcribe",) not in model.sessions[0].journal


class Wire:
    """A conversation's own part of it, without a server: what was emitted, and the history."""

    def __init__(self) -> None:
        self.session = ToneSession(ToneModel())
        self.history = History()
        self.said: list[Any] = []
        self.transcripts = Transcripts(self.session, self.history, self.said.append)

    def hear(self, item_id: str) -> None:
        self.history.add(item_id, Item(wire=user_speech(item_id)))
        self.transcripts.ask(item_id)

    def finish(self) -> None:
        while self.transcripts.work():
            pass


def test_turns_are_written_down_in_their_order_one_at_a_time() -> None:
    """Two turns of three words are six steps."""
    wire = Wire()
    wire.hear("a")
    wire.hear("b")

    n_steps = 0
    while wire.transcripts.work():
        n_steps += 1

    assert n_steps == 6
    assert [event.item_id for event in wire.said] == ["a", "b"]


def test_a_caller_who_is_far_ahead_loses_the_oldest() -> None:
    """Its failure is told."""
    wire = Wire()
    for n in range(MAX_WAITING + 1):
        wire.hear(f"item-{n}")
    wire.finish()

    kinds = [(event.type, event.item_id) for event in wire.said]
    assert kinds[0] == (FAILED, "item-0")
    assert kinds[1:] == [(COMPLETED, f"item-{n}") for n in range(1, MAX_WAITING + 1)]


def test_a_deleted_turn_is_told_to_have_failed() -> None:
    """The model does not know it any more; the next one is written down all the same."""
    wire = Wire()
    wire.session.deleted.add("gone")
    wire.hear("gone")
    wire.hear("there")
    wire.finish()

    assert [(event.type, event.item_id) for event in wire.said] == [
        (FAILED, "gone"),
        (COMPLETED, "there"),
    ]
    assert wire.said[0].error.code == "item_deleted"


def test_an_end_in_mid_word_frees_what_is_held() -> None:
    """The transcript under way is closed, and no more work is left."""
    wire = Wire()
    wire.hear("a")
    wire.transcripts.work()

    wire.transcripts.close()

    assert [one.is_closed for one in wire.session.transcripts] == [True]
    assert not wire.transcripts.work()
