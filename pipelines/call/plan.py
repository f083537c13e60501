"""What a call is to be, how it went, and who is told: the values at the door of this room."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

# Writes down that the person wants no more calls, which came by "key" or "speech"; True once it is.
# Cancelling gives up waiting, not writing.
WriteStop = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopPlan:
    """How a person who was called can ask for no more calls, and what is said to that."""

    digit: str | None  # a key
    asks: Callable[[str], bool] | None  # whether words of the person, written down, ask for it
    confirmation: str  # one sentence, after which the call ends
    by_tool: bool = False  # the model is told of a tool for it: where words are not written down


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """Something that the model is to write down when the person says it."""

    name: str
    values: tuple[str, ...] = ()  # one of them; a number if there are none


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """Everything one call needs to know, decided before it is answered.

    Texts are spoken by the model in its own voice; the two apologies are ready-made sound, since
    they are needed when the model is not there.
    """

    call_sid: str
    stream_sid: str
    host_url: str  # ws:// or wss://, the Realtime endpoint of the GPU host
    host_token: str | None = None
    instructions: str
    language: str
    voice: str
    language_lock: bool = False  # nothing is said in letters of another language's script
    temperature: float
    max_reply_tokens: int
    greeting: str  # "" for none
    silence_after_ms: int  # caller silent since the bot was last heard; 0 for never
    silence_prompts: tuple[str, ...]
    goodbye: str
    max_call_ms: int
    departments: tuple[str, ...] = ()  # to which the model may put the caller through
    transfer_limit_ms: int = 10_000  # for the model to announce it, and the caller to hear that
    apology_mulaw: bytes  # the model is gone
    drain_apology_mulaw: bytes  # we are going
    recording_path: Path | None = None
    transcription: bool = False  # what the caller says is written down, where the model can
    stop: StopPlan | None = None  # of a call that we placed
    fields: tuple[FieldPlan, ...] = ()  # that the model writes down
    # whether words that are written down are those of an assistant that screens calls: the next
    # turn is then answered with the greeting, since it may be somebody else who hears it first
    screens: Callable[[str], bool] | None = None
    # whether words that are written down are those of a machine that takes messages, which is left
    # alone then: the observer is told when its announcement is over
    takes_messages: Callable[[str], bool] | None = None
    log_turns: bool = True  # a `turn_done` line each; the observer is told in any case


class EndReason(Enum):
    """Why a call ended. A word for logs, counters and the webhook that follows the stream."""

    CALLER_HUNG_UP = "caller_hung_up"
    GOODBYE = "goodbye"  # the conversation was over: a tool ended it
    CALLER_SILENT = "caller_silent"
    TRANSFERRED = "transferred"  # to a person; the detail names the department
    HOST_LOST = "host_lost"
    PROTOCOL_ERROR = "protocol_error"
    DRAINED = "drained"
    TIME_LIMIT = "time_limit"
    STOPPED = "stopped"  # the person wants no more calls; the detail says how that was told
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """One thing the bot said, and what it answered. Times count in whole milliseconds.

    `reply_latency_ms` runs from the end of the caller's speech to the first sound on the wire; None
    where the bot spoke unasked or was cut off before a sound. `host_ms` is how long the GPU host
    took for that sound, by part (and "total"); empty if it did not say.
    """

    turn: int  # from 1
    reply_latency_ms: int | None
    heard_ms: int  # of the reply, by the caller
    reply_ms: int  # of the reply, as far as it had been made
    interrupted: bool
    caller_text: (
        str  # keys pressed, what else the caller put in writing, or what was said, if known
    )
    bot_text: str
    host_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """How a call went."""

    reason: EndReason
    n_turns: int
    duration_ms: int
    heard_ms: int = 0  # of all the bot said
    n_interruptions: int = 0
    n_underruns: int = 0  # gaps in our speech of our own making
    n_starved: int = 0  # gaps because the model was late
    n_media_late: int = 0  # caller frames that came twice or too late, dropped
    concealed_ms: int = 0  # caller sound that never came, patched
    detail: str = ""  # a static word more on the reason


class CallObserver(Protocol):
    """Told of a call while it runs. Called on the event loop: must not block."""

    def on_turn(self, turn: TurnRecord) -> None: ...

    def on_first_sound(self) -> None:
        """The first sound of the call is on its way to the caller."""
        ...

    def on_transcript(self, turn: int, text: str) -> None:
        """What the caller said in a turn that was told already, written down by the model since."""
        ...

    def on_told(self, turn: int, name: str, value: str) -> None:
        """The model has written down a field: what the person said before that turn."""
        ...

    def on_mailbox_ready(self) -> None:
        """A machine has answered, by its words, and has spoken: a message can be left."""
        ...

    def count(self, name: str) -> None:
        """One more of something; `name` is a static snake_case word."""
        ...
