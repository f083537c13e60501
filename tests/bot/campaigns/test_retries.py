"""What follows an attempt."""

from datetime import timedelta

import pytest

from bot.campaigns.attempts import Outcome
from bot.campaigns.retries import next_attempt_at
from tests.bot.campaigns.facts import NEW_YORKER, NOON, plan

PLAN = plan(
    retries={
        "max_attempts": 4,
        "busy": {"times": 2, "after_ms": 900_000},
        "no_answer": {"times": 2, "after_ms": 7_200_000},
        "voicemail": {"times": 1, "after_ms": 86_400_000},
        "failed": {"times": 1, "after_ms": 3_600_000},
    }
)
MINUTES = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("outcomes", "minutes"),
    [
        ([Outcome.BUSY], 15 + 60),  # another hour of the day
        ([Outcome.BUSY, Outcome.BUSY], 30 + 60),  # twice as long, and another hour
        ([Outcome.BUSY, Outcome.BUSY, Outcome.BUSY], None),
        ([Outcome.NO_ANSWER], 120),
        ([Outcome.BUSY, Outcome.NO_ANSWER], 120),
        ([Outcome.VOICEMAIL], 24 * 60 + 60),
        ([Outcome.VOICEMAIL, Outcome.VOICEMAIL], None),
        ([Outcome.FAILED], 60),
        ([Outcome.NOT_PLACED], 60),
        ([Outcome.WITHDRAWN], 60),
        (
            [Outcome.BUSY, Outcome.BUSY, Outcome.NO_ANSWER, Outcome.NO_ANSWER],
            None,
        ),  # enough attempts
        ([Outcome.ANSWERED], None),
        ([Outcome.FAX], None),
        ([Outcome.REJECTED], None),
        ([Outcome.LOST], None),
    ],
)
def test_an_outcome_decides_on_the_next_attempt(
    outcomes: list[Outcome], minutes: int | None
) -> None:
    """Each outcome has its patience; who was reached, or may have been, is not rung again."""
    at = next_attempt_at(PLAN, outcomes, NOON, number=NEW_YORKER)

    assert at == (None if minutes is None else NOON + minutes * MINUTES)


def test_waits_grow_as_the_campaign_says() -> None:
    """From one wait to the next by its factor, up to a week."""
    rule = {"times": 5, "after_ms": 3_600_000, "backoff": 6}
    growing = plan(retries={"max_attempts": 9, "another_hour": False, "busy": rule})
    waits = [
        next_attempt_at(growing, [Outcome.BUSY] * n, NOON, number=NEW_YORKER) for n in range(1, 5)
    ]

    assert waits == [NOON + hours * 60 * MINUTES for hours in (1, 6, 36, 7 * 24)]


def test_the_hour_is_that_of_the_person() -> None:
    """In a zone with half hours another hour begins at another minute."""
    half_past = NOON + 30 * MINUTES  # 23:00 in Kolkata
    at = next_attempt_at(PLAN, [Outcome.BUSY], half_past, number=NEW_YORKER, zone="Asia/Kolkata")

    assert at == half_past + 75 * MINUTES


def test_the_same_hour_is_kept_where_the_campaign_does_not_mind() -> None:
    """Without `another_hour` the wait is just what the outcome says."""
    same = plan(retries={"another_hour": False, "busy": {"times": 1, "after_ms": 60_000}})

    assert next_attempt_at(same, [Outcome.BUSY], NOON, number=NEW_YORKER) == NOON + MINUTES
