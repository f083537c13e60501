"""The last look before a telephone rings."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from bot.campaigns.gate import CampaignState, Decision, Dial, Later, Never, Reason, decide
from tests.bot.campaigns.facts import LIMITS, NOON, OURS, facts, plan

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def test_whom_nothing_keeps_from_it_is_rung() -> None:
    """With all permissions, at a lawful hour and with places free, the decision is to dial."""
    assert decide(facts(), LIMITS, NOON) == Dial()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"number": None}, Reason.FORGOTTEN),
        ({"state": CampaignState.CANCELLED}, Reason.CAMPAIGN_CANCELLED),
        ({"is_stopped": True}, Reason.STOPPED),
        ({"has_consent": False}, Reason.NO_CONSENT),
        ({"zone": "Mars/Olympus"}, Reason.ZONE_UNKNOWN),
        ({"number": "+80012345678"}, Reason.ZONE_UNKNOWN),
    ],
)
def test_some_are_not_rung_at_all(changes: dict[str, Any], reason: Reason) -> None:
    """What will not change closes the contact."""
    assert decide(facts(**changes), LIMITS, NOON) == Never(reason)


@pytest.mark.parametrize(
    ("changes", "reason", "at"),
    [
        ({"state": CampaignState.PAUSED}, Reason.CAMPAIGN_PAUSED, NOON),
        ({"state": CampaignState.DRAFT}, Reason.CAMPAIGN_PAUSED, NOON),
        ({"zone": "Asia/Tokyo"}, Reason.OUTSIDE_WINDOW, NOON.replace(day=19, hour=0)),
        ({"rung_at": [NOON - 2 * HOUR]}, Reason.DAY_CAP, NOON - 2 * HOUR + DAY),
        (
            {"rung_at": [NOON - 6 * DAY, NOON - 5 * DAY, NOON - 2 * DAY]},
            Reason.WEEK_CAP,
            NOON + DAY,
        ),
        ({"has_other_call": True}, Reason.OTHER_CALL, NOON + timedelta(minutes=1)),
        ({"turn_at": NOON + timedelta(seconds=1)}, Reason.PACE, NOON + timedelta(seconds=1)),
        ({"n_live_of_campaign": 5}, Reason.CAMPAIGN_FULL, NOON + timedelta(seconds=2)),
        (
            {"n_answered": 100, "n_abandoned": 4, "n_live_of_campaign": 1},
            Reason.ABANDONMENT,
            NOON + timedelta(seconds=2),
        ),
        ({"n_live": 100}, Reason.TRUNK_FULL, NOON + timedelta(seconds=2)),
        ({"n_live": 8}, Reason.NO_SLOT, NOON + timedelta(seconds=2)),
        ({"n_places": None}, Reason.NOBODY_ANSWERS, NOON + timedelta(seconds=2)),
        ({"n_places": 0}, Reason.NO_SLOT, NOON + timedelta(seconds=2)),
        ({"n_places": 2}, Reason.NO_SLOT, NOON + timedelta(seconds=2)),
        ({"n_places": 5, "n_live": 3, "n_coming": 3}, Reason.NO_SLOT, NOON + timedelta(seconds=2)),
        ({"n_live": 3, "n_inbound": 5}, Reason.NO_SLOT, NOON + timedelta(seconds=2)),
    ],
)
def test_others_are_rung_later(changes: dict[str, Any], reason: Reason, at: datetime) -> None:
    """What passes by itself names the moment of the next look."""
    assert decide(facts(**changes), LIMITS, NOON) == Later(reason, at)


def test_a_clock_that_was_put_back_stops_nobody() -> None:
    """A turn that is hours ahead was written by a clock that ran ahead."""
    assert decide(facts(turn_at=NOON + 3 * HOUR), LIMITS, NOON) == Dial()


def test_a_slow_pace_is_kept() -> None:
    """A line that begins a call each five minutes waits that long, and no longer."""
    slow = replace(LIMITS, calls_per_second=1 / 300)
    due, ahead = NOON + 5 * MINUTE, NOON + 6 * MINUTE

    assert decide(facts(turn_at=due), slow, NOON) == Later(Reason.PACE, due)
    assert decide(facts(turn_at=ahead), slow, NOON) == Dial()


def test_a_reserve_stays_free_for_those_who_call() -> None:
    """Of ten slots with a reserve of two, callers who talk take none of the two."""
    assert decide(facts(n_live=5, n_inbound=2), LIMITS, NOON) == Dial()
    full = decide(facts(n_live=6, n_inbound=2), LIMITS, NOON)

    assert full == Later(Reason.NO_SLOT, NOON + timedelta(seconds=2))


def test_the_hosts_own_measure_counts_too() -> None:
    """Of five places it has, two are the reserve, and two are for telephones that ring."""
    assert decide(facts(n_places=5, n_live=4, n_coming=2), LIMITS, NOON) == Dial()


def test_consent_is_asked_for_where_the_campaign_needs_it() -> None:
    """A campaign that needs none rings those without."""
    needs_none = facts(campaign=plan(consent="not_required"), has_consent=False)

    assert decide(needs_none, LIMITS, NOON) == Dial()


def test_a_public_holiday_is_kept_where_asked() -> None:
    """On Thanksgiving nobody is rung by a campaign that keeps the holidays of the US."""
    thanksgiving = NOON.replace(day=26)
    keeps = facts(campaign=plan(window={"holidays_of": "US"}), turn_at=thanksgiving)
    decision = decide(keeps, LIMITS, thanksgiving)

    assert decision == Later(Reason.HOLIDAY, NOON.replace(day=27, hour=14))
    assert decide(replace(keeps, campaign=plan()), LIMITS, thanksgiving) == Dial()


@pytest.mark.parametrize(
    ("now", "is_open"),
    [
        ("2026-03-07T13:59:00Z", False),  # the day before clocks go forward: 8:59
        ("2026-03-07T14:00:00Z", True),
        ("2026-03-08T12:59:00Z", False),  # the day they do: 8:59
        ("2026-03-08T13:00:00Z", True),
        ("2026-10-31T12:59:00Z", False),  # the day before they go back
        ("2026-10-31T13:00:00Z", True),
        ("2026-11-01T13:59:00Z", False),  # the day they do
        ("2026-11-01T14:00:00Z", True),
    ],
)
def test_the_window_is_that_of_the_wall_clock(now: str, is_open: bool) -> None:
    """Nine in New York is another moment of the day in UTC once clocks have changed."""
    at = datetime.fromisoformat(now)
    decision = decide(facts(turn_at=at), LIMITS, at)

    assert (decision == Dial()) is is_open


def test_nothing_is_begun_that_could_ring_after_the_window() -> None:
    """The last minute and a half is kept: Twilio may take that long to make a telephone ring."""
    closing = NOON.replace(day=19, hour=1)  # eight in the evening
    late, too_late = closing - timedelta(seconds=91), closing - timedelta(seconds=90)

    assert decide(facts(turn_at=late), LIMITS, late) == Dial()
    assert decide(facts(turn_at=too_late), LIMITS, too_late) == Later(
        Reason.OUTSIDE_WINDOW, NOON.replace(day=19, hour=14)
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"n_answered": 100, "n_abandoned": 3, "n_live_of_campaign": 1},  # 3 % are allowed
        {"n_answered": 29, "n_abandoned": 29, "n_live_of_campaign": 1},  # too few to tell
        {"n_answered": 100, "n_abandoned": 100, "n_live_of_campaign": 0},  # one at a time
    ],
)
def test_answers_that_waited_slow_a_campaign_down(changes: dict[str, Any]) -> None:
    """Of the people who answered, a few may wait for a voice; if more do, they are rung singly."""
    assert decide(facts(**changes), LIMITS, NOON) == Dial()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"minutes_today": 8}, Dial()),
        ({"minutes_today": 9}, Later(Reason.BUDGET, NOON.replace(day=19, hour=0))),
        ({"minutes_today": 6, "n_live_of_campaign": 1}, Dial()),
        # the one that goes on may end early
        ({"n_live_of_campaign": 4}, Dial()),
        ({"minutes_today": 2, "n_live_of_campaign": 4}, Later(Reason.BUDGET, NOON + MINUTE)),
    ],
)
def test_a_budget_is_never_exceeded(changes: dict[str, Any], expected: Decision) -> None:
    """Ten minutes are paid for; this call and those that are made may last two each."""
    campaign = plan(budget={"per_day": 1.0, "per_minute": 0.1}, max_call_ms=90_000)

    assert decide(facts(campaign=campaign, **changes), LIMITS, NOON) == expected


@pytest.mark.parametrize(
    ("per_day", "per_minute", "n_minutes"), [(0.3, 0.1, 3), (4.68, 0.39, 12), (8.25, 0.55, 15)]
)
def test_a_budget_of_one_call_pays_for_it(
    per_day: float, per_minute: float, n_minutes: int
) -> None:
    """Prices are decimals, though floats are not."""
    budget = {"per_day": per_day, "per_minute": per_minute}
    campaign = plan(budget=budget, max_call_ms=n_minutes * 60_000)

    assert decide(facts(campaign=campaign), LIMITS, NOON) == Dial()
    with pytest.raises(ValueError, match="pay for one call"):
        plan(budget=budget, max_call_ms=n_minutes * 60_000 + 1)


@pytest.mark.parametrize(
    ("window", "now", "failed_at", "later"),
    [
        ({}, "2026-11-18T17:30Z", "2026-11-17T17:05Z", "2026-11-18T18:00Z"),
        ({}, "2026-11-18T17:30Z", "2026-11-17T18:05Z", None),
        # the last hour of a window: the first one of the next day
        ({}, "2026-11-19T00:30Z", "2026-11-18T00:05Z", "2026-11-19T14:00Z"),
        # there is no other
        ({"begins": "12:00", "ends": "13:00"}, "2026-11-18T17:30Z", "2026-11-17T17:05Z", None),
    ],
)
def test_who_was_not_reached_is_tried_at_another_hour(
    window: dict[str, Any], now: str, failed_at: str, later: str | None
) -> None:
    """Whatever made the attempt wait till now: its own time, a cap, or the window."""
    at = datetime.fromisoformat(now)
    known = facts(
        campaign=plan(window=window), failed_at=datetime.fromisoformat(failed_at), turn_at=at
    )
    other = replace(known, campaign=plan(window=window, retries={"another_hour": False}))

    expected = Later(Reason.SAME_HOUR, datetime.fromisoformat(later)) if later else Dial()
    assert decide(known, LIMITS, at) == expected
    assert decide(other, LIMITS, at) == Dial()


def test_a_number_that_is_not_the_lines_is_not_shown() -> None:
    """A campaign with a caller id that the line does not have rings nobody."""
    foreign = replace(LIMITS, caller_ids=frozenset({OURS + "9"}))
    decision = decide(facts(), foreign, NOON)

    assert isinstance(decision, Later)
    assert decision.reason is Reason.CALLER_ID
