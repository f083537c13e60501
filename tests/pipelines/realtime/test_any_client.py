"""Whatever a client says, in whatever order: its session answers, and the model never fails."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.realtime.conversation import Conversation
from pipelines.realtime.model import SpeechModel
from tests.pipelines.realtime.conftest import append, babble

IDS = st.sampled_from(["one", "two", "reply", ""])
TEXT = st.sampled_from(["hello", "<|user|>", "你好", "", "\x00"])


def message(role: str, kind: str, item_id: str, text: str) -> dict[str, Any]:
    content = [{"type": kind, "text": text}]
    item = {"type": "message", "role": role, "id": item_id, "content": content}
    return {"type": "conversation.item.create", "item": item}


def truncate(item_id: str, audio_end_ms: int) -> dict[str, Any]:
    place = {"item_id": item_id, "content_index": 0, "audio_end_ms": audio_end_ms}
    return {"type": "conversation.item.truncate", **place}


def detection(vad: Any, rate: int) -> dict[str, Any]:
    line = {"turn_detection": vad, "format": {"type": "audio/pcm", "rate": rate}}
    return {"type": "session.update", "session": {"type": "realtime", "audio": {"input": line}}}


def about(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda item_id: {"type": kind, "item_id": item_id}, IDS)


RATES = st.sampled_from([8000, 16_000, 22_050, 24_000])
SPEECH, SILENCE = append(babble(600)), append(0 * babble(900))
SAYINGS = st.one_of(
    st.sampled_from([SPEECH, SILENCE]),
    st.sampled_from(
        [
            {"type": "input_audio_buffer.commit"},
            {"type": "input_audio_buffer.clear"},
            {"type": "response.create", "response": {"max_output_tokens": 30, "seed": 1}},
            {"type": "response.cancel"},
        ]
    ),
    st.builds(message, st.sampled_from(["user", "system"]), st.just("input_text"), IDS, TEXT),
    st.builds(message, st.just("assistant"), st.just("output_text"), IDS, TEXT),
    st.builds(detection, st.sampled_from([None, {"type": "server_vad"}]), RATES),
    st.builds(truncate, IDS, st.integers(-1, 3000)),
    about("conversation.item.delete"),
    about("conversation.item.retrieve"),
)
MOVES = st.lists(st.one_of(SAYINGS, st.integers(1, 40)), min_size=5, max_size=25)


@settings(max_examples=40)
@given(MOVES)
def test_a_session_stands_anything_a_client_can_say(
    chain: SpeechModel, moves: list[dict[str, Any] | int]
) -> None:
    """Any order of events and steps ends without an exception, each response with one done."""
    said: list[dict[str, Any]] = []
    conversation = Conversation(chain, lambda text: said.append(json.loads(text)))
    for move in moves:
        if isinstance(move, dict):
            reply = [e["item"]["id"] for e in said if e["type"] == "response.output_item.added"]
            if move.get("item_id") == "reply" and reply:
                move = {**move, "item_id": reply[-1]}
            conversation.handle(json.dumps(move))
            continue
        for _ in range(move):
            if conversation.is_replying:
                conversation.step()
    while conversation.is_replying:
        conversation.step()
    conversation.close()

    kinds = [event["type"] for event in said]
    assert kinds.count("response.created") == kinds.count("response.done")
    assert kinds.count("conversation.item.added") == kinds.count("conversation.item.done")
