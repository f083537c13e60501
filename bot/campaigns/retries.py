"""What follows an attempt: another one, at another hour, or the end."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from bot.campaigns.attempts import Outcome
from bot.campaigns.windows import is_same_hour, zones_of
from config.campaigns import Campaign, Retry

__all__ = ["next_attempt_at"]

HOUR = timedelta(hours=1)


def next_attempt_at(
    campaign: Campaign,
    outcomes: Sequence[Outcome],
    ended_at: datetime,
    *,
    number: str,
    zone: str | None = None,
) -> datetime | None:
    """When the person is tried again after attempts with these `outcomes`; None for not at all.

    Whether that moment is a lawful one is the gate's to say (bot.campaigns.gate).
    """
    retries, last = campaign.retries, outcomes[-1]
    rule = _rule(campaign, last)
    if rule is None or len(outcomes) >= retries.max_attempts:
        return None
    n_alike = sum(outcome is last for outcome in outcomes)
    if n_alike > rule.times:
        return None
    at = ended_at + timedelta(milliseconds=rule.wait_ms(n_alike))
    if retries.another_hour and is_same_hour(at, ended_at, zones_of(number, row_zone=zone)):
        at += HOUR
    return at


def _rule(campaign: Campaign, outcome: Outcome) -> Retry | None:
    """None where another attempt cannot help, or could ring somebody who has been rung."""
    retries = campaign.retries
    return {
        Outcome.BUSY: retries.busy,
        Outcome.NO_ANSWER: retries.no_answer,
        Outcome.VOICEMAIL: retries.voicemail,
        Outcome.FAILED: retries.failed,
        Outcome.NOT_PLACED: retries.failed,
        Outcome.WITHDRAWN: retries.failed,
    }.get(outcome)
