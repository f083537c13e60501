"""A conversation longer than the model's context."""

import json
from typing import Any

from pipelines.realtime.conversation import Conversation
from pipelines.realtime.model import SpeechModel


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
