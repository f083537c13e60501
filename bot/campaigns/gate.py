"""The last look before a telephone rings: may this person be rung now, and if not, why and when.

Decided on facts that were read in the same transaction that writes the decision down. What is not
known counts against ringing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum

from bot.campaigns.windows import CallingWindow, is_same_hour, may_ring, next_hour, zones_of
from config.campaigns import Campaign

__all__ = [
    "AFTER_MENDING",
    "HOLDS_UP_CAMPAIGN",
    "LONGEST_PAUSE",
    "CampaignState",
    "Decision",
    "Dial",
    "Facts",
    "Later",
    "LineLimits",
    "Never",
    "Reason",
    "calling_window",
    "decide",
]

DAY = timedelta(days=1)
WEEK = timedelta(days=7)
SOON = timedelta(seconds=2)  # until a place is free, say
LONGEST_PAUSE = timedelta(minutes=2)  # of the line's pace
AFTER_A_CALL = timedelta(minutes=1)  # that is under way now
# 47 CFR 64.1200(a)(7) allows 3 % of answered calls to wait longer than two seconds for a voice.
MAX_ABANDONED_SHARE = 0.03
FEWEST_ANSWERED = 30  # that tell a share
AFTER_MENDING = timedelta(minutes=10)  # an operator has to do something first
# How long after the decision a telephone may begin to ring: an order is good for a minute, Twilio
# is waited for, and its queue may hold the call for ten seconds.
RINGS_WITHIN = timedelta(seconds=90)


class CampaignState(Enum):
    """Whether a campaign dials."""

    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class Reason(Enum):
    """Why somebody is not rung, now or at all. A word for decisions and counters."""

    CAMPAIGN_CANCELLED = "campaign_cancelled"
    CAMPAIGN_PAUSED = "campaign_paused"
    STOPPED = "stopped"  # the person said so, or the operator did
    NO_CONSENT = "no_consent"
    FORGOTTEN = "forgotten"  # the number was removed
    ZONE_UNKNOWN = "zone_unknown"
    OUTSIDE_WINDOW = "outside_window"
    HOLIDAY = "holiday"
    DAY_CAP = "day_cap"
    WEEK_CAP = "week_cap"
    SAME_HOUR = "same_hour"  # of the day as the attempt before, which failed
    OTHER_CALL = "other_call"  # to the same number
    PLAN_UNREADABLE = "plan_unreadable"  # that of the campaign, by this program
    CALLER_ID = "caller_id"  # not one of the line's
    BUDGET = "budget"
    ABANDONMENT = "abandonment"  # answers wait too long for a voice: one call at a time
    CAMPAIGN_FULL = "campaign_full"
    TRUNK_FULL = "trunk_full"
    NOBODY_ANSWERS = "nobody_answers"  # no `web` that takes calls was heard of lately
    NO_SLOT = "no_slot"  # the model is busy, or kept free for those who call
    PACE = "pace"


# What holds up all people of a campaign alike.
HOLDS_UP_CAMPAIGN = frozenset({Reason.CALLER_ID, Reason.BUDGET, Reason.ABANDONMENT})


@dataclass(frozen=True, slots=True)
class Dial:
    """Ring, now."""


@dataclass(frozen=True, slots=True)
class Later:
    """Not now; look again at `at`."""

    reason: Reason
    at: datetime


@dataclass(frozen=True, slots=True)
class Never:
    """Not in this campaign."""

    reason: Reason


Decision = Dial | Later | Never


@dataclass(frozen=True, slots=True, kw_only=True)
class LineLimits:
    """What the line bears, whatever the campaigns ask for.

    Twilio lets an account begin one call a second and queues the others, up to a day: so
    `calls_per_second` stays below what the account has.
    """

    caller_ids: frozenset[str]
    calls_per_second: float = 0.9
    trunk_calls: int = 100  # outbound, at once
    model_slots: int = 32  # conversations that the model host bears, of both directions
    inbound_reserve: int = 4  # of them that stay free for those who call

    @property
    def gap(self) -> timedelta:
        """The time between the beginnings of two calls."""
        return timedelta(seconds=1 / self.calls_per_second)

    def n_free(self, *, n_live: int, n_inbound: int, n_coming: int, n_places: int) -> int:
        """How many calls may be begun now.

        Besides `n_live` that are made and `n_inbound` that came in; `n_coming` of the former will
        yet take one of the `n_places` that the model host has now, by its own measure.
        """
        n_slots = self.model_slots - self.inbound_reserve - n_inbound - n_live
        n_places = n_places - self.inbound_reserve - n_coming
        return max(0, min(self.trunk_calls - n_live, n_slots, n_places))


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of one attempt at the moment of its transaction."""

    campaign: Campaign
    state: CampaignState
    number: str | None  # E.164; None if it was removed
    zone: str | None  # that the contact's row names
    is_stopped: bool
    has_consent: bool
    rung_at: Sequence[datetime]  # in the last week, for all campaigns, oldest first
    failed_at: datetime | None = None  # when the attempt before this one was made
    has_other_call: bool
    n_live_of_campaign: int
    n_live: int
    n_inbound: int
    n_coming: int  # of the live ones: those that have no place at the model host yet
    n_places: int | None  # that the model host has free; None if nobody answers calls
    minutes_today: int  # that this campaign pays for
    n_answered: int = 0  # by people, of the last calls of this campaign
    n_abandoned: int = 0  # of them, those that heard nothing for two seconds
    turn_at: datetime  # when the next call may be begun at the line's pace


def calling_window(campaign: Campaign) -> CallingWindow:
    """When calls of a campaign may be begun: whose telephones ring in its window, then.

    Raises ValueError if nothing is known of its country.
    """
    window = campaign.window
    closes = datetime.combine(date.min, window.closes)
    return CallingWindow(
        begins=window.opens,
        ends=(closes - RINGS_WITHIN).time(),
        weekdays=frozenset(window.weekdays),
        holidays_of=window.holidays_of,
    )


def decide(facts: Facts, limits: LineLimits, now: datetime) -> Decision:
    """Whether to ring. The reasons that last come first; places and pace come last."""
    number = facts.number
    if number is None:
        return Never(Reason.FORGOTTEN)
    return (
        _by_permission(facts)
        or _by_clock(facts, number, now)
        or _by_caps(facts, now)
        or _by_hour(facts, number, now)
        or _by_places(facts, limits, now)
        or Dial()
    )


def _by_permission(facts: Facts) -> Never | None:
    if facts.state is CampaignState.CANCELLED:
        return Never(Reason.CAMPAIGN_CANCELLED)
    if facts.is_stopped:
        return Never(Reason.STOPPED)
    if facts.campaign.consent == "required" and not facts.has_consent:
        return Never(Reason.NO_CONSENT)
    return None


def _by_clock(facts: Facts, number: str, now: datetime) -> Decision | None:
    if facts.state is not CampaignState.RUNNING:
        return Later(Reason.CAMPAIGN_PAUSED, now)
    window, zones = calling_window(facts.campaign), zones_of(number, row_zone=facts.zone)
    verdict = may_ring(window, zones, now)
    if verdict.closed is None:
        return None
    reason = Reason(verdict.closed.value)
    return Never(reason) if verdict.next_at is None else Later(reason, verdict.next_at)


def _by_caps(facts: Facts, now: datetime) -> Later | None:
    if facts.has_other_call:
        return Later(Reason.OTHER_CALL, now + AFTER_A_CALL)
    caps = facts.campaign.caps
    for reason, span, most in (
        (Reason.WEEK_CAP, WEEK, caps.per_week),
        (Reason.DAY_CAP, DAY, caps.per_day),
    ):
        within = [at for at in facts.rung_at if at > now - span]
        if len(within) >= most:
            return Later(reason, within[-most] + span)
    return None


def _by_hour(facts: Facts, number: str, now: datetime) -> Later | None:
    """Whoever could not be reached is tried at another hour, if there is one."""
    failed_at = facts.failed_at
    if failed_at is None or not facts.campaign.retries.another_hour:
        return None
    zones = zones_of(number, row_zone=facts.zone)
    if not is_same_hour(now, failed_at, zones):
        return None
    at = may_ring(calling_window(facts.campaign), zones, next_hour(now, zones)).next_at
    return None if at is None or is_same_hour(at, failed_at, zones) else Later(Reason.SAME_HOUR, at)


def _by_places(facts: Facts, limits: LineLimits, now: datetime) -> Later | None:
    campaign = facts.campaign
    if campaign.caller_id not in limits.caller_ids:
        return Later(Reason.CALLER_ID, now + AFTER_MENDING)
    if (affordable_at := _affordable_at(facts, now)) > now:
        return Later(Reason.BUDGET, affordable_at)
    if _abandons(facts) and facts.n_live_of_campaign > 0:
        return Later(Reason.ABANDONMENT, now + SOON)
    if facts.n_live_of_campaign >= campaign.max_concurrent:
        return Later(Reason.CAMPAIGN_FULL, now + SOON)
    if facts.n_live >= limits.trunk_calls:
        return Later(Reason.TRUNK_FULL, now + SOON)
    if facts.n_places is None:
        return Later(Reason.NOBODY_ANSWERS, now + SOON)
    if not _n_free(facts, limits, facts.n_places):
        return Later(Reason.NO_SLOT, now + SOON)
    # further ahead than anybody waits, the turn was set by a clock that has been put back since
    waits = now < facts.turn_at <= now + max(LONGEST_PAUSE, limits.gap)
    return Later(Reason.PACE, facts.turn_at) if waits else None


def _n_free(facts: Facts, limits: LineLimits, n_places: int) -> int:
    return limits.n_free(
        n_live=facts.n_live,
        n_inbound=facts.n_inbound,
        n_coming=facts.n_coming,
        n_places=n_places,
    )


def _affordable_at(facts: Facts, now: datetime) -> datetime:
    """When the call can be paid for, however long it and those that are made may last."""
    campaign, budget = facts.campaign, facts.campaign.budget
    if budget is None:
        return now
    most_minutes = budget.minutes_per_day
    alone = facts.minutes_today + campaign.longest_minutes
    if alone > most_minutes:
        return (now + DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    reserved = facts.n_live_of_campaign * campaign.longest_minutes
    return now if alone + reserved <= most_minutes else now + AFTER_A_CALL


def _abandons(facts: Facts) -> bool:
    """Whether people wait too long for a voice: nobody is to, while others are rung."""
    return (
        facts.n_answered >= FEWEST_ANSWERED
        and facts.n_abandoned > MAX_ABANDONED_SHARE * facts.n_answered
    )
