"""When a campaign had better stop itself: too many of its last calls failed or were very short."""

from collections.abc import Sequence
from dataclasses import dataclass

from bot.campaigns.attempts import Outcome
from config.campaigns import Breaker

__all__ = ["Ended", "why_stop"]

FAILURES = frozenset({Outcome.FAILED, Outcome.NOT_PLACED, Outcome.REJECTED, Outcome.LOST})


@dataclass(frozen=True, slots=True)
class Ended:
    """A call that is over."""

    outcome: Outcome
    duration_ms: int


def why_stop(breaker: Breaker, last: Sequence[Ended]) -> str | None:
    """A word why the campaign is to stop after these calls, or None; fewer calls prove nothing."""
    if len(last) < breaker.calls:
        return None
    if sum(call.outcome in FAILURES for call in last) > breaker.max_failed_share * len(last):
        return "many_failed"
    talks = [call for call in last if call.outcome is Outcome.ANSWERED]
    n_short = sum(call.duration_ms < breaker.short_ms for call in talks)
    return "many_short" if n_short > breaker.max_short_share * len(last) else None
