"""What the Realtime server needs of a speech model, without knowing torch.

A `SpeechModel` holds weights and is read-only after loading. A `SpeechSession` is everything one
conversation owns; dropping it frees all of it. A `Reply` is one answer under way, advanced in
bounded steps so that several calls can share a device. All methods run on the one thread that owns
the device; none may be called from the event loop.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

FirstSoundPart = Literal["tokenise", "prefill", "decode", "flow", "vocoder"]
NO_SOUND: NDArray[np.float32] = np.zeros(0, dtype=np.float32)


class Role(Enum):
    """Who a text item speaks for."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class StopReason(Enum):
    """Why a reply ended."""

    END = "end"  # the model gave the turn back
    MAX_TOKENS = "max_tokens"
    CONTEXT_FULL = "context_full"
    TOOL_CALL = "tool_call"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn. A seed makes a reply reproducible, alone or beside other calls.

    A `language_lock` ("en", "zh") keeps letters of other languages' scripts from being drawn.
    """

    temperature: float = 0.2
    top_p: float = 0.8
    max_tokens: int = 2000
    seed: int | None = None
    language_lock: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function the model may call; `parameters` is a JSON schema, as the Realtime wire has it."""

    name: str
    description: str
    parameters: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call the model made; `arguments` is JSON text as the model wrote it, not yet checked."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step of a reply brought; all parts may be empty.

    `text` holds whole characters only. `pcm` is mono float32 in [-1, 1], shape [T], at the model's
    `output_sample_rate`. Token counts are those generated in this step.
    """

    text: str = ""
    pcm: NDArray[np.float32] = field(default_factory=lambda: NO_SOUND)
    n_text_tokens: int = 0
    n_audio_tokens: int = 0


class Reply(Protocol):
    """One answer under way."""

    stop_reason: StopReason | None  # None until the last step has been taken
    tool_call: ToolCall | None  # set when stop_reason is TOOL_CALL
    n_prompt_tokens: int
    is_repeat: bool  # it was made for another conversation: no step of it computes anything
    sounds_no_more: bool  # all of its sound is made, though a tool call is still being written
    # Work for its first sound, by part: hearing what was left of the turn, reading the prompt until
    # the first token, tokens after it, and the two halves of speaking. Complete with that sound.
    first_sound_ms: Mapping[FirstSoundPart, float]

    @property
    def is_waiting(self) -> bool:
        """Whether a step would bring nothing yet: something outside is computing.

        The model wakes its listener when that may have changed; a while later it may have, too.
        """
        ...

    def step(self) -> Step:
        """Do one bounded unit of work: one language-model token, or one block of sound.

        Must not be called once `stop_reason` is set.
        """
        ...

    def cancel(self) -> None:
        """Stop here: keep the tokens generated so far in the history, free everything else.

        Half a tool call is not kept. Idempotent; sets `stop_reason` to CANCELLED unless the reply
        had already ended.
        """
        ...


class Transcript(Protocol):
    """What a caller has said in one turn, being written down beside everything else."""

    text: str  # as much as is written
    n_prompt_tokens: int
    n_text_tokens: int
    has_failed: bool  # it is done, and `text` is not all

    @property
    def is_done(self) -> bool:
        """Whether no more will be written."""
        ...

    def step(self) -> bool:
        """Do one bounded unit of work; False if there was none to do now, also once it is done."""
        ...

    def close(self) -> None:
        """Free what it holds; no more will be written. Idempotent."""
        ...


class SpeechSession(Protocol):
    """One conversation: its history of items, its caches, its unfinished user audio."""

    def configure(self, *, instructions: str, tools: Sequence[Tool]) -> None:
        """Set the system text and tools; takes effect from the next reply."""
        ...

    def append_audio(self, pcm: NDArray[np.float32]) -> None:
        """Add caller audio, shape [T], at `input_sample_rate`, to the open user turn.

        A model bounds how long a turn can be: beyond that the oldest sound is dropped. Sound may
        come, and turns and texts be added, while a reply is under way: they stand after it.
        """
        ...

    def clear_audio(self) -> None:
        """Forget the open user turn."""
        ...

    def commit_audio(self, item_id: str) -> int:
        """Close the open user turn as a history item; return its number of speech tokens."""
        ...

    def work(self) -> bool:
        """Do one bounded unit of what will be needed later; False when there is none.

        Such as turning sound into tokens, or reading the history, while nobody waits for it. It
        need never be called: whatever was not done ahead is done when it is needed.
        """
        ...

    def add_text(self, item_id: str, role: Role, text: str) -> None:
        """Add a text item. `text` is data: nothing in it can become a control token."""
        ...

    def add_tool_output(self, item_id: str, output: str) -> None:
        """Add the result of a tool call. `output` is data, as in `add_text`."""
        ...

    def start_reply(
        self,
        item_id: str,
        sampling: Sampling,
        *,
        instructions: str | None = None,
        say: str | None = None,
    ) -> Reply:
        """Begin an answer to the history, kept as `item_id`.

        `say` is the exact wording of this reply; only how it sounds is up to the model then. Raises
        ValueError for settings or words the model cannot take; nothing has changed then.

        `instructions` is a request for this reply alone (a greeting, a reminder): it is put to the
        model as a text turn and does not stay in the history.
        """
        ...

    def transcribe(self, item_id: str) -> Transcript:
        """Begin to write down a turn of the caller's; nothing of the conversation changes.

        Only where the model `can_transcribe`. Raises KeyError for an unknown item and ValueError
        if it is not a caller's sound.
        """
        ...

    def truncate(self, item_id: str, audio_end_ms: int) -> int:
        """Cut a reply to what was heard of it; return the number of audio tokens kept.

        A tool call that it has made stays, since the call will have a result.
        Raises KeyError for an unknown item and ValueError if it is not a reply.
        """
        ...

    def delete(self, item_id: str) -> None:
        """Remove an item from the history. Raises KeyError for an unknown item."""
        ...

    def close(self) -> None:
        """Free all the session holds. Idempotent."""
        ...


class SpeechModel(Protocol):
    """A loaded model that can hold several conversations."""

    @property
    def input_sample_rate(self) -> int: ...

    @property
    def output_sample_rate(self) -> int: ...

    @property
    def max_context_tokens(self) -> int:
        """How many tokens a conversation can hold; a reply that would pass it is CONTEXT_FULL."""
        ...

    @property
    def can_transcribe(self) -> bool:
        """Whether it has learned to write down what callers say."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether new conversations can be served now. From any thread."""
        ...

    @property
    def aside_s(self) -> float:
        """Seconds that threads of the model's own have worked for replies so far."""
        ...

    @property
    def speaks_aside(self) -> bool:
        """Whether sound is made on such a thread: no step of a reply then takes long."""
        ...

    def listen(self, wake: Callable[[], None]) -> None:
        """`wake` is called, from any thread, whenever a waiting reply may go on."""
        ...

    def open_session(self) -> SpeechSession:
        """Begin a conversation."""
        ...
