"""A session's behaviour as clients see it, over real sockets."""

import asyncio
import base64
import json
import threading
from typing import Any, get_args

import numpy as np
import pytest
from openai.types.realtime import RealtimeServerEvent
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket

from pipelines.audio import mulaw_to_pcm16, pcm16_to_float
from pipelines.realtime.client import RealtimeConnection
from pipelines.realtime.conversation import MAX_APPEND
from pipelines.realtime.model import Role, SpeechModel, StopReason
from tests.conftest import MS
from tests.pipelines.realtime.conftest import (
    TOKEN,
    append,
    babble,
    configure,
    one,
    pcm16_of,
    serving,
    session,
    until,
    url_of,
    waiting,
)
from tests.pipelines.realtime.tone_model import ToneModel, ToneReply
from tests.waiting import eventually

CITY_TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def text_item(text: str, **item: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "user", "content": content, **item},
    }


async def error(host: RealtimeConnection, event: dict[str, Any]) -> Any:
    """What the host finds wrong with an event."""
    await host.send(event)
    return (await one(host, "error")).error


async def test_a_turn_of_speech_is_answered_event_by_event() -> None:
    """A committed turn becomes an item, and its answer comes in the protocol's order."""
    model = ToneModel(n_words=2)
    async with serving(model) as server, session(server) as host:
        await configure(host)
        await host.send(append(babble(800)))
        await host.send({"type": "input_audio_buffer.commit"})
        await host.send({"type": "response.create"})
        events = await until(host, "response.done")

    assert [event.type for event in events] == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    done = events[-1].response
    assert done.status == "completed"
    assert done.output[0].content[0].transcript == "one two "
    assert done.usage.output_token_details.audio_tokens == 2
    assert done.usage.input_token_details.audio_tokens == 7  # of the prompt's seven at most
    assert len(pcm16_of(events)) == pytest.approx(2 * 0.08 * 24_000, abs=0.005 * 24_000)
    assert model.sessions[0].journal == [("commit", 10), ("reply", None)]
    assert model.threads == {"engine"}


async def test_every_event_is_one_of_the_protocols() -> None:
    """All that the server says is valid by the openai package's own types."""
    classes = {
        get_args(cls.model_fields["type"].annotation)[0]: cls
        for cls in get_args(get_args(RealtimeServerEvent)[0])
    }
    model = ToneModel()
    said = [
        {"type": "session.update", "session": {"type": "realtime", "tools": [CITY_TOOL]}},
        text_item("Rain?", id="first"),
        {"type": "response.create"},
        {"type": "conversation.item.retrieve", "item_id": "first"},
        {"type": "conversation.item.delete", "item_id": "first"},
        {"type": "session.update", "session": {"type": "realtime", "tools": []}},
        {"type": "response.create", "response": {"metadata": {"turn": "2"}}},
        {"type": "nonsense"},
    ]
    quiet = np.zeros(24_000, dtype=np.float32)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    kinds = [""]
    async with (
        serving(model) as server,
        connect_websocket(url_of(server), additional_headers=headers) as socket,
    ):
        for event in [*said, append(quiet), append(babble(900)), append(quiet)]:
            await socket.send(json.dumps(event))
            n_due = kinds.count("response.done") + (event["type"] == "response.create")
            while kinds.count("response.done") < n_due:
                kinds.append(await _valid(socket, classes))
        while kinds.count("response.done") < 3:
            kinds.append(await _valid(socket, classes))

    assert len(set(kinds)) >= 22


async def _valid(socket: ClientConnection, classes: dict[str, Any]) -> str:
    """The type of the next event, which is valid."""
    body = json.loads(await asyncio.wait_for(socket.recv(), 5000 * MS))
    classes[body["type"]].model_validate(body)
    return str(body["type"])


async def test_sound_comes_and_goes_in_mulaw() -> None:
    """A telephone line's format needs no conversion by the client, in or out."""
    model = ToneModel(n_words=5)
    mulaw = {"format": {"type": "audio/pcmu"}}
    async with serving(model) as server, session(server) as host:
        shown = await configure(host, audio={"input": mulaw, "output": mulaw})
        sound = base64.b64encode(b"\x10\x90" * 4000).decode()
        await host.send({"type": "input_audio_buffer.append", "audio": sound})
        await host.send({"type": "input_audio_buffer.commit"})
        await host.send({"type": "response.create"})
        events = await until(host, "response.done")

    deltas = [e.delta for e in events if e.type == "response.output_audio.delta"]
    heard = pcm16_to_float(mulaw_to_pcm16(b"".join(map(base64.b64decode, deltas))))
    assert shown.audio.output.format.type == "audio/pcmu"
    assert model.sessions[0].journal[0] == ("commit", 12)  # one second
    assert np.abs(heard).max() == pytest.approx(0.3, rel=0.05)
    assert len(heard) == pytest.approx(5 * 640, abs=40)


async def test_long_sound_is_cut_into_pieces_of_at_most_200_ms() -> None:
    """No single event holds more of a reply than a client can use at once."""
    model = ToneModel(n_words=2)
    long_block = np.zeros(22_050 * 3, dtype=np.float32)
    async with serving(model) as server, session(server) as host:
        await configure(host, audio={"output": {"format": {"type": "audio/pcm", "rate": 8000}}})
        model.on_step = lambda reply: None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.pipelines.realtime.tone_model.tone", lambda _: long_block)
            await host.send({"type": "response.create"})
            events = await until(host, "response.done")

    sizes = [len(pcm16_of([e])) for e in events if e.type == "response.output_audio.delta"]
    assert max(sizes) <= 1600
    assert sum(sizes) == pytest.approx(6 * 8000, abs=80)


async def test_a_cancel_takes_effect_within_one_step() -> None:
    """A cancelled reply stops at the next step, says so, and the next one can begin."""
    model = ToneModel(n_words=1000)
    held, go_on = threading.Event(), threading.Event()

    def hold(reply: ToneReply) -> None:
        if reply.n_steps == 5:
            held.set()
            assert go_on.wait(5000 * MS)

    model.on_step = hold
    async with serving(model) as server, session(server) as host:
        await configure(host)
        await host.send({"type": "response.create"})
        await eventually(held.is_set)
        await host.send({"type": "response.cancel"})
        await eventually(lambda: waiting(server))
        go_on.set()
        cancelled = await until(host, "response.done")
        model.n_words = 1
        await host.send({"type": "response.create"})
        again = await one(host, "response.done")
        refused = await error(host, {"type": "response.cancel", "event_id": "late"})

    done = cancelled[-1].response
    assert (done.status, done.status_details.reason) == ("cancelled", "client_cancelled")
    assert done.output[0].status == "incomplete"
    assert done.usage.output_tokens == 6
    assert again.response.status == "completed"
    assert (refused.code, refused.event_id) == ("response_cancel_not_active", "late")


async def test_truncating_keeps_what_was_heard() -> None:
    """A reply is cut to what its listener heard; a reply still running is stopped for it."""
    model = ToneModel(n_words=1000)
    async with serving(model) as server, session(server) as host:
        await configure(host)
        await host.send({"type": "response.create"})
        delta = await one(host, "response.output_audio.delta")
        truncate = {
            "type": "conversation.item.truncate",
            "item_id": delta.item_id,
            "content_index": 0,
            "audio_end_ms": 50,
        }
        await host.send(truncate)
        events = await until(host, "conversation.item.truncated")
        await host.send({"type": "conversation.item.retrieve", "item_id": delta.item_id})
        item = (await one(host, "conversation.item.retrieved")).item
        too_long = await error(host, {**truncate, "audio_end_ms": 5000})
        negative = await error(host, {**truncate, "audio_end_ms": -1})
        unknown = await error(host, {**truncate, "item_id": "nobody"})
        second_part = await error(host, {**truncate, "content_index": 1})
        await host.send(text_item("Hello", id="text"))
        not_spoken = await error(host, {**truncate, "item_id": "text"})

    assert "response.done" in [event.type for event in events]
    assert item.content[0].transcript == ""
    assert ("truncate", 50) in model.sessions[0].journal
    assert [e.param for e in (too_long, negative, second_part, not_spoken)] == [
        "audio_end_ms",
        "audio_end_ms",
        "content_index",
        "item_id",
    ]
    assert unknown.code == "item_truncate_invalid_item_id"


async def test_a_wrong_cut_leaves_the_reply_under_way() -> None:
    """More than was made of it cannot have been heard: refused, and the reply goes on."""
    model, held, go_on = held_model()
    async with serving(model) as server, session(server) as host:
        await configure(host)
        await host.send({"type": "response.create"})
        delta = await one(host, "response.output_audio.delta")
        await eventually(held.is_set)
        await host.send(truncate(delta.item_id, 100_000))
        await eventually(lambda: waiting(server))
        go_on.set()
        refused = (await one(host, "error")).error
        done = (await one(host, "response.done")).response

    assert refused.param == "audio_end_ms"
    assert done.status == "completed"


@pytest.mark.parametrize("kind", ["truncate", "delete"])
async def test_an_item_that_is_cut_is_not_forgotten_before(kind: str) -> None:
    """Room is made when a reply ends, also where the client ends it to cut it: after the cut."""
    model, held, go_on = held_model()
    async with serving(model) as server, session(server) as host:
        await configure(host)
        await host.send({"type": "response.create"})
        delta = await one(host, "response.output_audio.delta")
        await eventually(held.is_set)
        for place in range(3):
            await host.send(text_item("a" * 8_000, id=f"text_{place}"))
        await host.send({**truncate(delta.item_id, 80), "type": f"conversation.item.{kind}"})
        await eventually(lambda: waiting(server) == 4)
        go_on.set()
        events = await until(host, f"conversation.item.{kind}d")
        forgotten = await one(host, "conversation.item.deleted")
        await host.send({"type": "response.create"})
        again = (await one(host, "response.done")).response

    assert events[-1].item_id == delta.item_id
    assert forgotten.item_id == (delta.item_id if kind == "truncate" else "text_0")
    assert again.status == "completed"


def held_model() -> tuple[ToneModel, threading.Event, threading.Event]:
    """One whose replies stop in their midst until told to go on, and whether one has."""
    model = ToneModel(n_words=20)
    held, go_on = threading.Event(), threading.Event()

    def hold(reply: ToneReply) -> None:
        if reply.n_steps == 5:
            held.set()
            assert go_on.wait(5000 * MS)

    model.on_step = hold
    return model, held, go_on


def truncate(item_id: str, audio_end_ms: int) -> dict[str, Any]:
    return {
        "type": "conversation.item.truncate",
        "item_id": item_id,
        "content_index": 0,
        "audio_end_ms": audio_end_ms,
    }


async def test_text_turns_and_the_settings_of_one_response() -> None:
    """Texts of every role reach the model, and one response can be asked for differently."""
    model = ToneModel()
    async with serving(model) as server, session(server) as host:
        await configure(host, instructions="Be kind.", temperature=0.7, seed=5)
        for role, kind in (("system", "input_text"), ("assistant", "output_text")):
            content = [{"type": kind, "text": role}]
            await host.send(text_item("", role=role, content=content))
        await host.send(text_item("Is it open?", id="asked"))
        added = await until(host, "conversation.item.done")
        await host.send(
            {
                "type": "response.create",
                "response": {
                    "instructions": "Greet.",
                    "max_output_tokens": 50,
                    "temperature": 0.1,
                    "audio": {"output": {"format": {"type": "audio/pcm", "rate": 8000}}},
                },
            }
        )
        events = await until(host, "response.done")

    sampling = model.sessions[0].sampling
    assert sampling is not None
    assert (sampling.temperature, sampling.seed, sampling.max_tokens) == (0.1, 5, 50)
    assert model.sessions[0].journal == [
        ("text", Role.SYSTEM, "system"),
        ("text", Role.ASSISTANT, "assistant"),
        ("text", Role.USER, "Is it open?"),
        ("configure", "Be kind.", []),
        ("reply", "Greet."),
    ]
    assert added[0].previous_item_id is None
    assert len(pcm16_of(events)) == pytest.approx(0.8 * 8000, abs=40)


async def test_a_tool_call_is_an_item_and_its_result_goes_back() -> None:
    """The model's call arrives whole; its result is taken, an unasked one is not."""
    model = ToneModel()
    async with serving(model) as server, session(server) as host:
        await configure(host, tools=[CITY_TOOL])
        await host.send({"type": "response.create"})
        events = await until(host, "response.done")
        call = events[-1].response.output[0]
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
        await host.send({"type": "conversation.item.create", "item": result})
        await one(host, "conversation.item.done")
        stray = await error(
            host,
            {"type": "conversation.item.create", "item": {**result, "call_id": "call_0"}},
        )
        await host.send({"type": "response.create", "response": {"tool_choice": "none"}})
        spoken = await one(host, "response.done")

    arguments = next(e for e in events if e.type == "response.function_call_arguments.done")
    assert (call.type, call.name, json.loads(call.arguments)) == (
        "function_call",
        "get_weather",
        {"city": "Oslo"},
    )
    assert (arguments.call_id, arguments.arguments) == (call.call_id, call.arguments)
    assert stray.param == "item.call_id"
    assert spoken.response.output[0].type == "message"
    assert ("tool_output", "rain") in model.sessions[0].journal


@pytest.mark.parametrize("stop", [StopReason.MAX_TOKENS, StopReason.CONTEXT_FULL])
async def test_a_reply_cut_short_is_incomplete(stop: StopReason) -> None:
    """Running into a limit is told, and a full context apart from a short allowance."""
    async with serving(ToneModel(stop_reason=stop)) as server, session(server) as host:
        await configure(host)
        await host.send({"type": "response.create"})
        done = (await one(host, "response.done")).response

    assert (done.status, done.status_details.reason) == ("incomplete", "max_output_tokens")
    assert (done.status_details.error is not None) == (stop is StopReason.CONTEXT_FULL)


async def test_given_words_and_a_language_lock() -> None:
    """`say` is the wording of one response, to its end; the lock holds until it is changed."""
    model = ToneModel(n_words=1)
    seen = []
    async with serving(model) as server, session(server) as host:
        await configure(host, language_lock="en", max_output_tokens=40)
        for response in ({"say": "Good day."}, {}, {"language_lock": None}):
            await host.send({"type": "response.create", "response": response})
            await until(host, "response.done")
            sampling = model.sessions[0].sampling
            assert sampling is not None
            seen.append((sampling.language_lock, sampling.max_tokens))
        both = await error(
            host, {"type": "response.create", "response": {"say": "A", "instructions": "B"}}
        )
        empty = await error(host, {"type": "response.create", "response": {"say": " "}})
        unknown = await error(
            host,
            {"type": "session.update", "session": {"type": "realtime", "language_lock": "xx"}},
        )

    assert seen == [("en", 4096), ("en", 40), (None, 40)]
    assert [entry for entry in model.sessions[0].journal if entry[0] in ("say", "reply")] == [
        ("say", "Good day."),
        ("reply", None),
        ("reply", None),
    ]
    assert [one.param for one in (both, empty, unknown)] == [
        "response.instructions",
        "response.say",
        "session.language_lock",
    ]


async def test_mistakes_leave_the_session_alive() -> None:
    """Each mistake has its code and the client's event id; the next reply comes all the same."""
    model = ToneModel(n_words=1)
    async with serving(model) as server, session(server) as host:
        await configure(host)
        commit = await error(host, {"type": "input_audio_buffer.commit", "event_id": "e1"})
        bad_base64 = await error(host, {"type": "input_audio_buffer.append", "audio": "%"})
        huge = {"type": "input_audio_buffer.append", "audio": "A" * (MAX_APPEND + 4)}
        too_long = await error(host, huge)
        retrieve = await error(host, {"type": "conversation.item.retrieve", "item_id": "x"})
        delete = await error(host, {"type": "conversation.item.delete", "item_id": "x"})
        await host.send(text_item("a", id="twice"))
        twice = await error(host, text_item("a", id="twice"))
        nowhere = await error(host, text_item("a") | {"previous_item_id": "root"})
        image = await error(host, text_item("", content=[{"type": "input_image"}]))
        release = threading.Event()
        model.on_step = lambda reply: (release.wait(5000 * MS), None)[1]
        await host.send({"type": "response.create"})
        await host.send({"type": "response.create"})
        release.set()
        events = await until(host, "response.done")

    assert (commit.code, commit.event_id) == ("input_audio_buffer_commit_empty", "e1")
    assert commit.type == "invalid_request_error"
    assert (bad_base64.param, too_long.code) == ("audio", "audio_too_long")
    assert retrieve.code == "item_retrieve_invalid_item_id"
    assert delete.code == "item_delete_invalid_item_id"
    assert (twice.param, nowhere.param) == ("item.id", "previous_item_id")
    assert image.param == "item.content.0"
    active = [e.error.code for e in events if e.type == "error"]
    assert active == ["conversation_already_has_active_response"]
    assert events[-1].response.status == "completed"


async def test_clearing_forgets_the_open_turn() -> None:
    """After a clear there is nothing to commit."""
    model = ToneModel()
    async with serving(model) as server, session(server) as host:
        await configure(host)
        await host.send(append(babble(500)))
        await host.send({"type": "input_audio_buffer.clear"})
        await one(host, "input_audio_buffer.cleared")
        empty = await error(host, {"type": "input_audio_buffer.commit"})

    assert empty.code == "input_audio_buffer_commit_empty"
    assert model.sessions[0].journal == [("clear",)]


async def test_the_server_takes_turns_by_itself(chain: SpeechModel) -> None:
    """With server_vad a caller is answered when he falls silent, and interrupts by speaking."""
    quiet = np.zeros(16_000, dtype=np.float32)
    line = {
        "format": {"type": "audio/pcm", "rate": 16_000},
        "turn_detection": {"type": "server_vad"},
    }
    async with serving(chain) as server, session(server) as host:
        await configure(host, audio={"input": line})
        for sound in (quiet, babble(1000, 16_000), quiet):
            await host.send(append(sound))
        first = await until(host, "response.output_audio.delta")
        await host.send(append(babble(600, 16_000)))
        second = await until(host, "response.done")

    kinds = [event.type for event in first]
    started = next(e for e in first if e.type == "input_audio_buffer.speech_started")
    committed = next(e for e in first if e.type == "input_audio_buffer.committed")
    assert kinds.index("input_audio_buffer.speech_stopped") < kinds.index("response.created")
    assert started.item_id == committed.item_id
    assert started.audio_start_ms == pytest.approx(700, abs=150)
    details = second[-1].response.status_details
    assert (details.type, details.reason) in [
        ("cancelled", "turn_detected"),
        ("completed", None),  # a short reply may be over before the interruption
    ]


async def test_a_client_may_end_a_turn_that_the_server_watches() -> None:
    """A commit under server_vad takes what was heard so far, as the item that was announced.

    Who was told that speech has begun is told that it is over.
    """
    model = ToneModel()
    async with serving(model) as server, session(server) as host:
        await host.send(append(babble(400)))
        await host.send({"type": "input_audio_buffer.commit"})
        started = await one(host, "input_audio_buffer.speech_started")
        stopped, committed = await until(host, "input_audio_buffer.committed")

    assert model.sessions[0].journal == [("commit", pytest.approx(5, abs=1))]
    assert started.item_id == stopped.item_id == committed.item_id
    assert (stopped.type, stopped.audio_end_ms) == ("input_audio_buffer.speech_stopped", 400)


async def test_a_commit_that_is_refused_leaves_the_turn_as_it_was() -> None:
    """Where hardly anything was heard yet, the caller speaks on in the turn that was announced."""
    hasty = {"type": "server_vad", "prefix_padding_ms": 0}
    noise = 0.3 * np.random.default_rng(0).standard_normal(24_000).astype(np.float32)
    commit = {"type": "input_audio_buffer.commit"}
    async with serving(ToneModel()) as server, session(server) as host:
        await host.send(
            {
                "type": "session.update",
                "session": {"type": "realtime", "audio": {"input": {"turn_detection": hasty}}},
            }
        )
        await host.send(append(noise[:1920]))
        await one(host, "input_audio_buffer.speech_started")
        refused = await error(host, commit)
        await host.send(append(noise))
        await host.send(commit)
        events = await until(host, "input_audio_buffer.committed")

    assert refused.code == "input_audio_buffer_commit_empty"
    assert [event.type.rpartition(".")[2] for event in events] == ["speech_stopped", "committed"]


async def test_what_finds_turns_can_be_changed_in_a_turn() -> None:
    """The turn that was found goes on, and is over by the new settings; the clock goes on, too."""
    quiet = np.zeros(24_000, dtype=np.float32)
    async with serving(ToneModel()) as server, session(server) as host:
        await configure(host)
        for sound in (quiet, quiet):
            await host.send(append(sound))
        await configure(host, audio={"input": {"turn_detection": {"type": "server_vad"}}})
        for sound in (quiet, babble(1000)):
            await host.send(append(sound))
        started = await one(host, "input_audio_buffer.speech_started")
        patient = {"type": "server_vad", "silence_duration_ms": 800}
        await configure(host, audio={"input": {"turn_detection": patient}})
        for sound in (babble(1000, seed=1), quiet):
            await host.send(append(sound))
        events = await until(host, "input_audio_buffer.committed")

    stopped = next(e for e in events if e.type == "input_audio_buffer.speech_stopped")
    assert "input_audio_buffer.speech_started" not in [event.type for event in events]
    assert started.audio_start_ms == pytest.approx(3000 - 300, abs=150)
    assert stopped.audio_end_ms == pytest.approx(5000 + 800, abs=150)
    assert started.item_id == stopped.item_id == events[-1].item_id


async def test_a_turn_that_is_cleared_is_not_the_next_one() -> None:
    """The item that was announced for it is never made."""
    async with serving(ToneModel()) as server, session(server) as host:
        starts = []
        for _ in range(2):
            await host.send(append(babble(400)))
            starts.append(await one(host, "input_audio_buffer.speech_started"))
            await host.send({"type": "input_audio_buffer.clear"})

    assert starts[0].item_id != starts[1].item_id
