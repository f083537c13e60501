"""A conversation longer than the model's context."""

import json
from typing import Any

import pytest

from pipelines.glm4voice.chain import GlmChain
from pipelines.glm4voice.embedded import load_embedded_chain
from pipelines.glm4voice.session import GlmSession
from pipelines.realtime.conversation import Conversation
from pipelines.realtime.model import SpeechModel
from tests.pipelines.realtime.conftest import append, babble

SMALL_CONTEXT = 1024
N_REPLY_TOKENS = 117
N_TURN_TOKENS = 50  # of 1.6 s of speech, and what stands around it
DELETED = "conversation.item.deleted"
UPDATE = {
    "type": "session.update",
    "session": {
        "type": "realtime",
        "instructions": "You answer the support line in one or two short sentences. " * 5,
        "max_output_tokens": N_REPLY_TOKENS,
        "seed": 3,
        "audio": {"input": {"turn_detection": None}},
    },
}


class Call:
    """A caller on one conversation with a real chain, faster than real time."""

    def __init__(self, chain: GlmChain) -> None:
        self.said: list[dict[str, Any]] = []
        self.n_unread: list[int] = []  # tokens of each prompt, read only after it was asked for
        self._sessions: list[GlmSession] = []
        model = _Noting(chain.parts, self._sessions)
        self.conversation = Conversation(model, lambda text: self.said.append(json.loads(text)))
        self._do(UPDATE)

    def turn(self, duration_ms: int, seed: int) -> None:
        """Speak, hear the whole answer; the host works ahead while one of the two is heard."""
        sound = babble(duration_ms, seed=seed)
        for start in range(0, len(sound), 24_000):
            self._do(append(sound[start : start + 24_000]))
            self._work()
        self._do({"type": "input_audio_buffer.commit"})
        self._do({"type": "response.create"})
        reply = self._sessions[0]._reply
        assert reply is not None
        self.n_unread.append(reply.n_prompt_tokens - reply.n_cached_tokens)
        while self.conversation.is_replying:
            self.conversation.step()
        self._work()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of one type."""
        return [event for event in self.said if event["type"] == kind]

    def _do(self, event: dict[str, Any]) -> None:
        self.conversation.handle(json.dumps(event))

    def _work(self) -> None:
        while self.conversation.work():
            pass


class _Noting(GlmChain):
    """A chain whose sessions a test can look at."""

    def __init__(self, parts: Any, sessions: list[GlmSession]) -> None:
        super().__init__(parts)
        self._sessions = sessions

    def open_session(self) -> GlmSession:
        self._sessions.append(super().open_session())
        return self._sessions[-1]


def message(role: str, text: str, **item: Any) -> str:
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": role, "content": content, **item}
    return json.dumps({"type": "conversation.item.create", "item": item})


def test_a_long_call_forgets_its_beginning(chain: SpeechModel) -> None:
    """It goes on without end: the oldest turns are forgotten, rules and the newest turn are not."""
    said: list[dict[str, Any]] = []
    conversation = Conversation(chain, lambda text: said.append(json.loads(text)))
    create = {"type": "response.create", "response": {"max_output_tokens": 40}}
    conversation.handle(message("system", "Be kind.", id="rule"))
    n_turns = 12
    for turn in range(n_turns):
        conversation.handle(message("user", "tell me more " * 60, id=f"turn_{turn}"))
        conversation.handle(json.dumps(create))
        while conversation.is_replying:
            conversation.step()
    conversation.handle('{"type": "conversation.item.retrieve", "item_id": "rule"}')
    conversation.close()

    done = [event["response"] for event in said if event["type"] == "response.done"]
    deleted = [e["item_id"] for e in said if e["type"] == "conversation.item.deleted"]
    assert len(done) == n_turns
    assert all(response["output"] for response in done)
    assert max(r["usage"]["input_tokens"] for r in done) <= chain.max_context_tokens
    assert deleted[0] == "turn_0"
    assert f"turn_{n_turns - 1}" not in deleted
    assert said[-1]["type"] == "conversation.item.retrieved"


def test_a_call_far_longer_than_the_context_is_answered_to_its_end() -> None:
    """No answer is cut short or late for want of room: oldest turns go, in order.

    What is remembered is bounded, and when an answer is asked for, the prompt without its oldest
    turns has been read already: nothing is left but the caller's last words.
    """
    call = Call(load_embedded_chain(max_context_tokens=SMALL_CONTEXT))
    n_turns = 18
    n_live: list[int] = []
    for turn in range(n_turns):
        call.turn(1600, seed=turn)
        n_live.append(len(call.of("conversation.item.added")) - len(call.of(DELETED)))
    call.conversation.close()

    done = [event["response"] for event in call.of("response.done")]
    added = [event["item"]["id"] for event in call.of("conversation.item.added")]
    deleted = [event["item_id"] for event in call.of(DELETED)]
    assert len(done) == n_turns
    assert all(one["output"] and not (one["status_details"] or {}).get("error") for one in done)
    assert max(one["usage"]["total_tokens"] for one in done) <= SMALL_CONTEXT
    assert sum(one["usage"]["output_tokens"] for one in done) > SMALL_CONTEXT
    assert deleted == added[: len(deleted)]
    assert len(deleted) > n_turns
    assert max(n_live) <= n_turns
    assert max(call.n_unread[1:]) <= N_TURN_TOKENS
    assert call.conversation.totals.n_forgotten == len(deleted)


def test_tools_take_room_too() -> None:
    """Before there is a reply to tell how long a prompt is, their letters are counted."""
    said: list[dict[str, Any]] = []
    chain = load_embedded_chain(max_context_tokens=SMALL_CONTEXT)
    conversation = Conversation(chain, lambda text: said.append(json.loads(text)))
    tool = {
        "type": "function",
        "name": "look_up",
        "description": "tell me more " * 20,
        "parameters": {"type": "object", "properties": {}},
    }
    update = json.loads(json.dumps(UPDATE))
    update["session"]["tools"] = [tool]
    conversation.handle(json.dumps(update))
    for _ in range(5):
        conversation.handle(message("user", "tell me more " * 20))
    conversation.handle('{"type": "response.create"}')
    while conversation.is_replying:
        conversation.step()
    conversation.close()

    [done] = [event["response"] for event in said if event["type"] == "response.done"]
    assert not (done["status_details"] or {}).get("error")
    assert done["usage"]["total_tokens"] <= SMALL_CONTEXT


def test_what_comes_while_the_bot_speaks_finds_room() -> None:
    """Texts added in the midst of replies make the oldest go, and no reply is cut short."""
    said: list[dict[str, Any]] = []
    chain = load_embedded_chain(max_context_tokens=SMALL_CONTEXT)
    conversation = Conversation(chain, lambda text: said.append(json.loads(text)))
    conversation.handle(json.dumps(UPDATE))
    for _ in range(8):
        conversation.handle('{"type": "response.create"}')
        conversation.step()
        for _ in range(4):
            conversation.handle(message("user", "tell me more " * 15))
        while conversation.is_replying:
            conversation.step()
    conversation.close()

    done = [event["response"] for event in said if event["type"] == "response.done"]
    assert not any((one["status_details"] or {}).get("error") for one in done)
    assert max(one["usage"]["total_tokens"] for one in done) <= SMALL_CONTEXT


@pytest.mark.parametrize("is_replying", [False, True])
def test_what_comes_without_end_is_not_kept_until_a_reply_is_asked_for(is_replying: bool) -> None:
    """More than twice what the model can read is never read; what is being said just then stays."""
    said: list[dict[str, Any]] = []
    chain = load_embedded_chain(max_context_tokens=SMALL_CONTEXT)
    conversation = Conversation(chain, lambda text: said.append(json.loads(text)))
    conversation.handle(message("system", "Be kind.", id="rule"))
    if is_replying:
        conversation.handle('{"type": "response.create"}')
        while not any(event["type"] == "response.output_audio.delta" for event in said):
            conversation.step()
    n_live = []
    for n in range(20):
        conversation.handle(message("user", "x" * SMALL_CONTEXT, id=f"text_{n}"))
        kinds = [event["type"] for event in said]
        n_live.append(kinds.count("conversation.item.added") - kinds.count(DELETED))
    forgotten = [event["item_id"] for event in said if event["type"] == DELETED]
    while conversation.is_replying:
        conversation.step()
    conversation.close()

    assert max(n_live) <= 6
    assert forgotten == [f"text_{n}" for n in range(len(forgotten))]
    assert said[-1]["type"] != "error"


def test_rules_that_the_model_could_never_read_are_refused() -> None:
    """System texts never go: without a limit they would fill the host's memory."""
    said: list[dict[str, Any]] = []
    chain = load_embedded_chain(max_context_tokens=SMALL_CONTEXT)
    conversation = Conversation(chain, lambda text: said.append(json.loads(text)))
    for _ in range(20):
        conversation.handle(message("system", "x" * SMALL_CONTEXT))
    conversation.close()

    kinds = [event["type"] for event in said]
    errors = [event["error"] for event in said if event["type"] == "error"]
    assert kinds.count("conversation.item.added") == 3
    assert {error["param"] for error in errors} == {"item.content"}


def test_a_turn_that_leaves_no_room_takes_that_of_older_ones() -> None:
    """However long the caller speaks, he is answered: his own turn is cut to half the context."""
    call = Call(load_embedded_chain(max_context_tokens=SMALL_CONTEXT))
    for turn, duration_ms in enumerate((1600, 45_000, 1600, 75_000, 1600)):
        call.turn(duration_ms, seed=turn)
    call.conversation.close()

    done = [event["response"] for event in call.of("response.done")]
    assert [bool(one["output"]) for one in done] == 5 * [True]
    assert not any((one["status_details"] or {}).get("error") for one in done)
    assert max(one["usage"]["total_tokens"] for one in done) <= SMALL_CONTEXT
