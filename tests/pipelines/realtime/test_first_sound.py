"""How long the first sound took, told with the response."""

import json

from pipelines.realtime.conversation import Conversation
from tests.pipelines.realtime.tone_model import WORK_MS, ToneModel

APPEND = {"type": "input_audio_buffer.append", "audio": "AAAA" * 2000}


def test_parts_add_up_to_the_time_since_the_end_of_the_turn() -> None:
    """Work as the model tells it, the rest as waiting; what the client waits before asking is not
    counted, nor is any of it in a reply without a turn before it."""
    sent: list[str] = []
    conversation = Conversation(ToneModel(n_words=2), sent.append)

    def respond() -> dict[str, float]:
        conversation.handle('{"type": "response.create"}')
        while conversation.is_replying:
            conversation.step()
        done = json.loads(sent[-1])
        split: dict[str, float] = done["response"]["first_sound_ms"]
        return split

    conversation.handle(
        '{"type": "session.update", "session": {"type": "realtime", "audio":'
        ' {"input": {"turn_detection": null}}}}'
    )
    conversation.handle(json.dumps(APPEND))
    conversation.handle('{"type": "input_audio_buffer.commit"}', 0.0)  # came very long ago
    after_turn = respond()
    again = respond()

    total_ms = after_turn.pop("total")
    assert abs(sum(after_turn.values()) - total_ms) < 0.05
    assert total_ms > 1000
    assert after_turn.keys() - {"queue"} == WORK_MS.keys()
    assert again["total"] < 1000
