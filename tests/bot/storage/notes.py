"""A call as it is noted while it runs."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from bot.calls.records import CallBegun, CallEnded, Direction, TurnEnded
from pipelines.call.plan import CallResult, EndReason, TurnRecord

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
CALLER = "+14155550123"
LINE = "+15550100"


def begun(
    call_sid: str = "CA1",
    *,
    person: str | None = CALLER,
    at: datetime = NOON,
    recording: str | None = None,
) -> CallBegun:
    return CallBegun(
        record_id=uuid4().hex,
        call_sid=call_sid,
        retry=0,
        direction=Direction.INBOUND,
        person=person,
        line=LINE,
        persona="support-en",
        began_at=at,
        recording=recording,
    )


def turn(begun: CallBegun, number: int = 1, *, caller_text: str = "Where is it?") -> TurnEnded:
    record = TurnRecord(
        turn=number,
        reply_latency_ms=320,
        heard_ms=900,
        reply_ms=1_400,
        interrupted=True,
        caller_text=caller_text,
        bot_text="It is on its way.",
        host_ms={"total": 280.5},
    )
    return TurnEnded(begun.record_id, record, begun.began_at + timedelta(seconds=number))


def ended(begun: CallBegun) -> CallEnded:
    result = CallResult(
        reason=EndReason.GOODBYE, n_turns=1, duration_ms=8_000, heard_ms=900, n_interruptions=1
    )
    return CallEnded(begun.record_id, result, begun.began_at + timedelta(seconds=8))
