"""What is known of an attempt at the moment at which it is decided on, read in one transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import FromClause, Row, func, literal, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.calls.records import Direction
from bot.campaigns.attempts import LIVE, AttemptState, Outcome
from bot.campaigns.gate import CampaignState, Facts, LineLimits
from bot.storage import tables
from bot.storage.answering import answering
from bot.storage.settling import hash_of, plan_of, waited_long
from config.campaigns import Campaign

__all__ = ["LINE", "LIVE_STATES", "facts_of", "free_places"]

attempts, calls, consents = tables.attempts, tables.calls, tables.consents
do_not_call, paces = tables.do_not_call, tables.paces
S = AttemptState
WEEK = timedelta(days=7)
LONGEST_INBOUND = timedelta(hours=2)  # a call that is older was lost with its process
LAST_ANSWERED = 200
LINE = "line"  # the name of its pace
LIVE_STATES = tuple(state.value for state in LIVE)


async def facts_of(
    connection: AsyncConnection, found: Row[Any], now: datetime, *, believed: timedelta
) -> Facts:
    """All that is known of an attempt that is claimed (`found`), in two questions.

    What answering processes said of themselves counts for as long as it is `believed`.
    """
    plan, number = plan_of(found.plan), found.number
    known = (await connection.execute(_known(found, plan, now, now - believed))).one()
    return Facts(
        campaign=plan,
        state=CampaignState(found.state),
        number=number,
        zone=found.zone,
        is_stopped=known.is_stopped,
        has_consent=known.has_consent,
        rung_at=await _rung_at(connection, number, now),
        failed_at=known.failed_at,
        has_other_call=known.n_to_number > 0,
        n_live_of_campaign=known.n_of_campaign,
        n_live=known.n_live,
        n_inbound=known.n_inbound,
        n_coming=known.n_coming,
        n_places=known.n_places,
        minutes_today=known.minutes_today,
        n_answered=known.n_answered,
        n_abandoned=known.n_abandoned,
        turn_at=known.turn_at,
    )


async def free_places(
    connection: AsyncConnection, limits: LineLimits, now: datetime, *, believed: timedelta
) -> int:
    """How many calls the line could bear besides those that run; each is looked at again."""
    who = answering(now - believed).subquery()
    live = (
        select(func.count().label("n_live"), _n_coming(who))
        .where(attempts.c.state.in_(LIVE_STATES))
        .subquery()
    )
    n_inbound = _n_inbound(now).scalar_subquery().label("n_inbound")
    query = select(live, who.c.n_places, n_inbound).select_from(live.join(who, true()))
    known = (await connection.execute(query)).one()
    if known.n_places is None:
        return 0
    return limits.n_free(
        n_live=known.n_live,
        n_inbound=known.n_inbound,
        n_coming=known.n_coming,
        n_places=known.n_places,
    )


def _known(found: Row[Any], plan: Campaign, now: datetime, since: datetime) -> Any:
    """`since` is from when on answering processes are believed."""
    who = answering(since).subquery()
    live, waits = _live(found, who), _waits(found.campaign_id)
    minutes = _minutes_today(found.campaign_id, now) if plan.budget else literal(0)
    return select(
        live,
        waits,
        who.c.n_places,
        minutes.label("minutes_today"),
        _n_inbound(now).scalar_subquery().label("n_inbound"),
        _made_before(found).scalar_subquery().label("failed_at"),
        _stopped(found.number).exists().label("is_stopped"),
        consented(found.number, plan.purpose, now).exists().label("has_consent"),
        select(paces.c.next_at).where(paces.c.name == LINE).scalar_subquery().label("turn_at"),
    ).select_from(live.join(waits, true()).join(who, true()))


def _n_coming(who: FromClause) -> Any:
    """How many live calls have no place yet among those that were counted."""
    answered_at, as_of = attempts.c.answered_at, select(who.c.as_of).scalar_subquery()
    is_coming = or_(answered_at.is_(None), answered_at > as_of)
    return func.count().filter(is_coming).label("n_coming")


def _live(found: Row[Any], who: FromClause) -> Any:
    """Calls that are being placed or go on: all, of the campaign, and to the number."""
    return (
        select(
            func.count().label("n_live"),
            _n_coming(who),
            func.count().filter(attempts.c.campaign_id == found.campaign_id).label("n_of_campaign"),
            func.count().filter(attempts.c.number == found.number).label("n_to_number"),
        )
        .where(attempts.c.state.in_(LIVE_STATES))
        .subquery()
    )


def _made_before(found: Row[Any]) -> Any:
    """When the last attempt was made before this one; one that was refused was never made."""
    return select(func.max(attempts.c.committed_at)).where(
        attempts.c.contact_id == found.contact_id, attempts.c.n < found.n
    )


def _waits(campaign_id: str) -> Any:
    """Of the last calls, how many people answered, and how many of them had to wait for a voice."""
    last = (
        select(attempts.c.first_sound_ms, attempts.c.duration_ms)
        .where(
            attempts.c.campaign_id == campaign_id,
            attempts.c.ended_at.is_not(None),
            attempts.c.outcome == Outcome.ANSWERED.value,
        )
        .order_by(attempts.c.ended_at.desc())
        .limit(LAST_ANSWERED)
        .subquery()
    )
    return (
        select(
            func.count().label("n_answered"),
            func.count().filter(waited_long(last)).label("n_abandoned"),
        )
        .select_from(last)
        .subquery()
    )


def _n_inbound(now: datetime) -> Any:
    return (
        select(func.count())
        .select_from(calls)
        .where(
            calls.c.ended_at.is_(None),
            calls.c.direction == Direction.INBOUND.value,
            calls.c.began_at > now - LONGEST_INBOUND,
        )
    )


def _stopped(number: str | None) -> Any:
    return select(do_not_call.c.at).where(do_not_call.c.number_hash == hash_of(number or ""))


def consented(number: Any, purpose: str, now: datetime) -> Any:
    """The consents of a number, or of a column's numbers, that hold for a purpose."""
    return select(consents.c.consent_id).where(
        consents.c.number == number,
        consents.c.purpose == purpose,
        consents.c.given_at <= now,
        or_(consents.c.expires_at.is_(None), consents.c.expires_at > now),
        consents.c.revoked_at.is_(None),
    )


def _minutes_today(campaign_id: str, now: datetime) -> Any:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return (
        select(func.coalesce(func.sum(attempts.c.paid_minutes), 0))
        .where(attempts.c.campaign_id == campaign_id, attempts.c.ended_at >= midnight)
        .scalar_subquery()
    )


async def _rung_at(
    connection: AsyncConnection, number: str | None, now: datetime
) -> Sequence[datetime]:
    """When the number was rung in the last week, or may have been."""
    query = (
        select(attempts.c.committed_at)
        .where(
            attempts.c.number == number,
            attempts.c.committed_at > now - WEEK,
            attempts.c.state != S.NOT_PLACED.value,
        )
        .order_by(attempts.c.committed_at)
    )
    return (await connection.execute(query)).scalars().all()
