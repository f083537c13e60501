"""The states of an attempt and what moves it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.campaigns.attempts import (
    LIVE,
    MOVES,
    AttemptState,
    Outcome,
    outcome_of,
    reached,
    sources_of,
)

S = AttemptState
STATUSES = ["queued", "initiated", "ringing", "in-progress", "completed", "busy", "no-answer"]


@given(st.permutations(STATUSES))
def test_an_attempt_never_goes_back(statuses: list[str]) -> None:
    """In whatever order callbacks come, each moves the attempt legally or not at all."""
    state = S.COMMITTED
    for status in statuses:
        moved = reached(state, status)
        assert moved is None or moved in MOVES[state]
        state = moved or state

    assert state is S.ENDED


def test_what_rings_after_all_is_believed() -> None:
    """An attempt that was given up comes back if Twilio says that it rings."""
    assert reached(S.NOT_PLACED, "ringing") is S.RINGING
    assert reached(S.CANCELLED, "in-progress") is S.ANSWERED
    assert reached(S.ENDED, "ringing") is None


def test_words_that_twilio_does_not_have_move_nothing() -> None:
    """A status that is none is no news."""
    assert reached(S.PLACED, "answered") is None


def test_what_was_committed_is_never_claimed_again() -> None:
    """Only what is planned is claimed, and only nobody being rung leads back to planned."""
    assert sources_of(S.CLAIMED) == {S.PLANNED}
    assert sources_of(S.COMMITTED) == {S.CLAIMED}
    assert sources_of(S.PLANNED) == {S.CLAIMED, S.COMMITTED, S.UNKNOWN}
    assert not sources_of(S.CANCELLED) & LIVE


@pytest.mark.parametrize(
    ("status", "answered_by", "outcome"),
    [
        ("completed", None, Outcome.ANSWERED),
        ("completed", "human", Outcome.ANSWERED),
        ("completed", "unknown", Outcome.ANSWERED),
        ("completed", "machine_start", Outcome.VOICEMAIL),
        ("completed", "machine_end_beep", Outcome.VOICEMAIL),
        ("completed", "fax", Outcome.FAX),
        ("busy", None, Outcome.BUSY),
        ("no-answer", None, Outcome.NO_ANSWER),
        ("failed", None, Outcome.FAILED),
        ("canceled", "machine_start", Outcome.WITHDRAWN),
    ],
)
def test_the_outcome_is_told_by_the_end_and_by_who_answered(
    status: str, answered_by: str | None, outcome: Outcome
) -> None:
    """A machine that answered is no person, and a call nobody answered has no machine."""
    assert outcome_of(status, answered_by) is outcome
