"""What is kept of a call: values alone, which know no database and no socket."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from pipelines.call.plan import CallResult, TurnRecord

__all__ = [
    "CallBegun",
    "CallEnded",
    "CallRecord",
    "CallerTranscribed",
    "Direction",
    "Turn",
    "TurnEnded",
]


class Direction(Enum):
    """Who rang whom."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBegun:
    """A media stream was let in. One telephone call may have a second, where the first failed."""

    record_id: str  # ours, unique
    call_sid: str  # Twilio's
    retry: int  # 0 for the first stream of the call
    direction: Direction
    person: str | None  # E.164; None for a withheld number
    line: str | None  # E.164, our side
    persona: str
    began_at: datetime  # with a time zone
    recording: str | None = None  # a file


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The bot has said something, and the caller has heard what he has heard of it."""

    record_id: str
    turn: TurnRecord
    at: datetime


@dataclass(frozen=True, slots=True)
class CallerTranscribed:
    """What the caller said in a turn that was noted before, written down since."""

    record_id: str
    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The stream is over."""

    record_id: str
    result: CallResult
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A turn as it is kept. Texts are empty once the person has been forgotten."""

    number: int  # from 1
    at: datetime
    caller_text: str
    bot_text: str
    interrupted: bool
    reply_latency_ms: int | None
    heard_ms: int
    reply_ms: int
    host_ms: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """A call as it is kept.

    `reason` is a value of EndReason; "lost" if the process went down with it; None while it runs.
    """

    record_id: str
    call_sid: str
    retry: int
    direction: Direction
    person: str | None
    line: str | None
    persona: str
    began_at: datetime
    ended_at: datetime | None
    reason: str | None
    detail: str
    duration_ms: int | None
    n_turns: int | None
    n_interruptions: int | None
    heard_ms: int | None
    recording: str | None
    forgotten_at: datetime | None
