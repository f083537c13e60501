"""What a reply has cost."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.audio import NO_SOUND
from pipelines.glm4voice.training.evaluation.caller import Said
from pipelines.realtime.model import StopReason, ToolCall

CALL = Said(
    text="",
    pcm=NO_SOUND,
    tool_call=ToolCall(name="look_up", arguments="{}"),
    stop_reason=StopReason.TOOL_CALL,
    cpu_s=0.5,
    first_sound_s=0.0,
)
WORDS = Said(
    text="It is on its way.",
    pcm=np.zeros(8, dtype=np.float32),
    tool_call=None,
    stop_reason=StopReason.END,
    cpu_s=1.0,
    first_sound_s=0.25,
)


def test_whoever_waits_for_a_tool_waits_for_its_call_to_be_written() -> None:
    """It counts in what the reply has cost, and until its first sound, if there is any."""
    answered, silent = WORDS.after(CALL), replace(CALL, cpu_s=0.25).after(CALL)

    assert (answered.text, answered.tool_call) == (WORDS.text, None)
    assert answered.cpu_s == pytest.approx(1.5)
    assert answered.first_sound_s == pytest.approx(0.75)
    assert (silent.cpu_s, silent.first_sound_s) == (0.75, 0.0)
