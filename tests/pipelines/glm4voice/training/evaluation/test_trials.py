"""How replies are judged."""

import numpy as np
import pytest

from pipelines.audio import NO_SOUND, Pcm
from pipelines.glm4voice.training.evaluation.caller import Said
from pipelines.glm4voice.training.evaluation.trials import is_false_answer
from pipelines.realtime.model import StopReason, ToolCall

SOUND = np.zeros(8, dtype=np.float32)
TOOL = ToolCall(name="look_up", arguments="{}")


@pytest.mark.parametrize(
    ("text", "pcm", "tool_call", "is_false"),
    [
        ("", NO_SOUND, None, False),
        ("Pardon?", SOUND, None, False),
        ("Your order is on its way.", SOUND, None, True),
        ("", SOUND, None, True),
        ("", NO_SOUND, TOOL, True),
    ],
)
def test_noise_is_answered_by_nothing_or_by_a_question(
    text: str, pcm: Pcm, tool_call: ToolCall | None, is_false: bool
) -> None:
    """Words, a tool, and sound without words are false answers."""
    said = Said(text, pcm, tool_call, StopReason.END, cpu_s=1.0, first_sound_s=0.0)

    assert is_false_answer(said, {"pardon"}) is is_false
