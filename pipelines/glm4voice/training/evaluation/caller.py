"""A call with the chain as the telephone brings it: sound in frames, replies step by step.

Times are of this process's CPU, so that other work on the machine does not count.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipelines.audio import (
    LINE_RATE,
    MODEL_INPUT_FRAME_SAMPLES,
    MODEL_INPUT_RATE,
    NO_SOUND,
    Pcm,
    float_to_pcm16,
    mulaw_to_pcm16,
    pcm16_to_float,
    pcm16_to_mulaw,
    resample,
)
from pipelines.glm4voice.chain import GlmChain
from pipelines.realtime.model import Role, Sampling, StopReason, Tool, ToolCall

SAMPLING = Sampling(temperature=0.2, top_p=0.8, max_tokens=400, seed=1)  # as personas have it
_LEAD_S, _TAIL_S = 0.3, 0.5  # what the turn detector leaves around speech


@dataclass(frozen=True, slots=True)
class Said:
    """One reply. `pcm` is float32 [T] at the chain's rate; `cpu_s` is all it has taken."""

    text: str
    pcm: Pcm
    tool_call: ToolCall | None
    stop_reason: StopReason
    cpu_s: float
    first_sound_s: float  # of CPU since the end of the caller's turn; 0 without sound

    def after(self, call: "Said") -> "Said":
        """This reply with what it has cost to write the tool call before it, without the tool."""
        waited_s = call.cpu_s if self.pcm.size else 0.0
        return replace(
            self, cpu_s=call.cpu_s + self.cpu_s, first_sound_s=waited_s + self.first_sound_s
        )


class Caller:
    """One conversation. What it costs to hear is counted in `hearing_s`."""

    def __init__(self, chain: GlmChain, *, instructions: str = "", tools: Sequence[Tool] = ()):
        self._rate = chain.output_sample_rate
        self._session = chain.open_session()
        self._session.configure(instructions=instructions, tools=tools)
        self._n_items = 0
        self._turn_id = ""
        self._turn_ended_s = 0.0
        self.hearing_s = 0.0

    def speak(self, pcm: Pcm) -> None:
        """Say something, float32 [T] at 16 kHz, and end the turn."""
        started_s = time.process_time()
        for start in range(0, len(pcm), MODEL_INPUT_FRAME_SAMPLES):
            self._session.append_audio(pcm[start : start + MODEL_INPUT_FRAME_SAMPLES])
            self._session.work()
        self._turn_ended_s = time.process_time()
        self._turn_id = self._next_id()
        self._session.commit_audio(self._turn_id)
        self.hearing_s += self._turn_ended_s - started_s

    def write(self, text: str) -> None:
        """Type something."""
        self._turn_ended_s = time.process_time()
        self._session.add_text(self._next_id(), Role.USER, text)

    def give_tool_output(self, output: str) -> None:
        """Answer the tool call of the last reply."""
        self._turn_ended_s = time.process_time()
        self._session.add_tool_output(self._next_id(), output)

    def hear(self, *, say: str | None = None) -> Said:
        """The reply, to its end; `say` has given words said."""
        reply = self._session.start_reply(self._next_id(), SAMPLING, say=say)
        text, sound, first_sound_s = "", [NO_SOUND], 0.0
        started_s = min(self._turn_ended_s, time.process_time())
        while reply.stop_reason is None:
            step = reply.step()
            text += step.text
            if step.pcm.size:
                sound.append(step.pcm)
                first_sound_s = first_sound_s or time.process_time() - started_s
        cpu_s = time.process_time() - started_s
        self._turn_ended_s = time.process_time()
        pcm = np.concatenate(sound)
        return Said(text, pcm, reply.tool_call, reply.stop_reason, cpu_s, first_sound_s)

    def transcript(self) -> str:
        """What the chain writes down of the last turn that was spoken, as it does beside calls."""
        written = self._session.transcribe(self._turn_id)
        while not written.is_done:
            written.step()
        written.close()
        return written.text

    def close(self) -> None:
        """Hang up."""
        self._session.close()

    def _next_id(self) -> str:
        self._n_items += 1
        return f"item-{self._n_items}"


def with_quiet(pcm: Pcm) -> Pcm:
    """A caller's sentence as a turn: float32 [T] at 16 kHz, quiet before and after."""
    quiet = (int(_LEAD_S * MODEL_INPUT_RATE), int(_TAIL_S * MODEL_INPUT_RATE))
    return np.pad(pcm, quiet)


def over_the_phone(pcm: Pcm, sample_rate: int) -> Pcm:
    """An answer as it comes out of the receiver: float32 [T] at 8 kHz, through mu-law."""
    line = resample(pcm, sample_rate, LINE_RATE)
    return pcm16_to_float(mulaw_to_pcm16(pcm16_to_mulaw(float_to_pcm16(line))))
