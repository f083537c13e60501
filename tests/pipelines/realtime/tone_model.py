"""A `SpeechModel` that answers with a tone: where a test must know every token, or break one."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.realtime.model import (
    FirstSoundPart,
    Role,
    Sampling,
    Step,
    StopReason,
    Tool,
    ToolCall,
)

RATE = 22_050
TOKEN_SAMPLES = RATE * 80 // 1000
WORK_MS: dict[FirstSoundPart, float] = {
    "tokenise": 0.125,
    "prefill": 0.25,
    "decode": 0.5,
    "flow": 0.0,
    "vocoder": 0.0,
}
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


class ModelBroken(Exception):
    """What a test makes the model raise."""


@dataclass
class ToneReply:
    """A word, then 80 ms of tone, in turn, `n_words` times; `gate` can hold each step back."""

    session: "ToneSession"
    item_id: str
    n_words: int
    tool_call_due: ToolCall | None = None
    stop_reason: StopReason | None = None
    tool_call: ToolCall | None = None
    n_prompt_tokens: int = 7
    is_repeat: bool = False
    sounds_no_more: bool = False
    n_steps: int = 0
    is_waiting: bool = False
    first_sound_ms: dict[FirstSoundPart, float] = field(default_factory=lambda: dict(WORK_MS))

    def step(self) -> Step:
        assert self.stop_reason is None
        model = self.session.model
        model.threads.add(threading.current_thread().name)
        model.on_step(self)
        self.n_steps += 1
        if self.tool_call_due is not None and self.n_steps > 2 * model.n_words_before_call:
            self.stop_reason, self.tool_call = StopReason.TOOL_CALL, self.tool_call_due
            return Step(n_text_tokens=3)
        n_done = (self.n_steps + 1) // 2
        if self.n_steps % 2:
            return Step(text=f"{WORDS[(n_done - 1) % len(WORDS)]} ", n_text_tokens=1)
        kept = self.session.replies[self.item_id] = n_done
        if kept == self.n_words and self.tool_call_due is None:
            self.stop_reason = self.session.model.stop_reason
        return Step(pcm=tone(kept), n_audio_tokens=1)

    def cancel(self) -> None:
        if self.stop_reason is None:
            self.stop_reason = StopReason.CANCELLED


def says_nothing(reply: ToneReply) -> None:
    """As a model's `on_step`: replies bring no sound, but calls of tools are made."""
    if reply.tool_call_due is None:
        reply.stop_reason = StopReason.END


def tone(n_th: int) -> NDArray[np.float32]:
    """The n-th 80 ms of a tone of 440 Hz, [T]."""
    samples = np.arange((n_th - 1) * TOKEN_SAMPLES, n_th * TOKEN_SAMPLES)
    return (0.3 * np.sin(2 * np.pi * 440 / RATE * samples)).astype(np.float32)


@dataclass
class ToneSession:
    """Writes down what it is told."""

    model: "ToneModel"
    journal: list[tuple[object, ...]] = field(default_factory=list)
    heard: list[NDArray[np.float32]] = field(default_factory=list)
    replies: dict[str, int] = field(default_factory=dict)
    tools: Sequence[Tool] = ()
    sampling: Sampling | None = None
    deleted: set[str] = field(default_factory=set)
    transcripts: list["ToneTranscript"] = field(default_factory=list)
    is_closed: bool = False

    def configure(self, *, instructions: str, tools: Sequence[Tool]) -> None:
        self.tools = tools
        self.journal.append(("configure", instructions, [tool.name for tool in tools]))

    def append_audio(self, pcm: NDArray[np.float32]) -> None:
        self.model.threads.add(threading.current_thread().name)
        self.heard.append(pcm)

    def clear_audio(self) -> None:
        self.heard.clear()
        self.journal.append(("clear",))

    def commit_audio(self, item_id: str) -> int:
        n_tokens = sum(map(len, self.heard)) // 1280
        self.journal.append(("commit", n_tokens))
        self.heard.clear()
        return n_tokens

    def work(self) -> bool:
        return False

    def add_text(self, item_id: str, role: Role, text: str) -> None:
        if text == "break":
            raise ModelBroken
        self.journal.append(("text", role, text))

    def add_tool_output(self, item_id: str, output: str) -> None:
        self.tools = self.tools if self.model.calls_again else ()
        self.journal.append(("tool_output", output))

    def start_reply(
        self,
        item_id: str,
        sampling: Sampling,
        *,
        instructions: str | None = None,
        say: str | None = None,
    ) -> ToneReply:
        self.sampling = sampling
        self.journal.append(("reply", instructions) if say is None else ("say", say))
        self.replies[item_id] = 0
        arguments = self.model.arguments
        calls = bool(self.tools) and say is None
        call = ToolCall(name=self.tools[0].name, arguments=arguments) if calls else None
        return ToneReply(self, item_id, self.model.n_words, tool_call_due=call)

    def transcribe(self, item_id: str) -> "ToneTranscript":
        if item_id in self.deleted:
            raise KeyError(item_id)
        self.journal.append(("transcribe",))
        self.transcripts.append(ToneTranscript(self.model.written))
        return self.transcripts[-1]

    def truncate(self, item_id: str, audio_end_ms: int) -> int:
        self.replies[item_id] = min(self.replies[item_id], audio_end_ms // 80)
        self.journal.append(("truncate", audio_end_ms))
        return self.replies[item_id]

    def delete(self, item_id: str) -> None:
        self.deleted.add(item_id)
        self.replies.pop(item_id, None)
        self.journal.append(("delete",))

    def close(self) -> None:
        self.is_closed = True


@dataclass
class ToneTranscript:
    """Some words, one a step."""

    words: Sequence[str]
    text: str = ""
    n_prompt_tokens: int = 9
    n_text_tokens: int = 0
    has_failed: bool = False
    is_closed: bool = False

    @property
    def is_done(self) -> bool:
        return self.n_text_tokens == len(self.words)

    def step(self) -> bool:
        self.text += f"{self.words[self.n_text_tokens]} "
        self.n_text_tokens += 1
        return True

    def close(self) -> None:
        self.is_closed = True


class ToneModel:
    """Opens `ToneSession`s and keeps them for the test to look at."""

    input_sample_rate = 16_000
    output_sample_rate = RATE
    max_context_tokens = 10_000
    can_transcribe = True
    is_alive = True
    aside_s = 0.0

    def __init__(
        self,
        n_words: int = 10,
        stop_reason: StopReason = StopReason.END,
        arguments: str = '{"city": "Oslo"}',
    ) -> None:
        self.speaks_aside = False
        self.written = WORDS[:3]  # of everything that is said to it
        self.arguments = arguments  # of every tool that is called
        self.n_words = n_words
        self.n_words_before_call = 0  # of a reply that calls a tool
        self.calls_again = False  # a tool, when it knows the output of one
        self.stop_reason = stop_reason
        self.sessions: list[ToneSession] = []
        self.n_broken_opens = 0
        self.threads: set[str] = set()  # that called the model
        self.on_step: Callable[[ToneReply], None] = lambda reply: None

    def listen(self, wake: Callable[[], None]) -> None:
        self.wake = wake

    def open_session(self) -> ToneSession:
        if self.n_broken_opens:
            self.n_broken_opens -= 1
            raise ModelBroken
        self.sessions.append(ToneSession(self))
        return self.sessions[-1]
