"""What the end of an attempt means for its contact and its campaign, in the transaction of its end.

Also the words of do-not-call: a number is kept there as a hash, which outlives the number.
"""

import json
import re
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import uuid4

import structlog
from pydantic import ValidationError
from sqlalchemy import Column, ColumnElement, FromClause, Row, and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.visitors import ExternallyTraversible, replacement_traverse

from bot.campaigns.attempts import AttemptState, Outcome
from bot.campaigns.breaker import Ended, why_stop
from bot.campaigns.gate import CampaignState, Reason
from bot.campaigns.retries import next_attempt_at
from bot.storage import tables
from config.campaigns import Campaign

__all__ = [
    "MEND",
    "PlanUnreadable",
    "close_contacts",
    "hash_of",
    "is_stopped",
    "new_attempt",
    "plan_of",
    "settle",
    "tell_unreadable",
]

log = structlog.get_logger()

campaigns, contacts, attempts = tables.campaigns, tables.contacts, tables.attempts
do_not_call = tables.do_not_call
MAX_WAIT_MS = 2_000
MEND = "mend its plan in the database, or use the program that wrote it"
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # not in patterns.TEXT
NOT_MADE = (AttemptState.PLANNED.value, AttemptState.CLAIMED.value)


class PlanUnreadable(Exception):
    """A campaign's plan as it is kept is none, for this program; the text names its bad fields."""


def tell_unreadable(exc: PlanUnreadable, **which: str) -> None:
    """Have an operator know of a plan, and what to do about it; `which` says whose it is."""
    log.error("campaign_unreadable", **which, reason=str(exc), what_to_do=f"{MEND}; others go on")


def hash_of(number: str) -> str:
    """What is kept of a number (E.164) that is not to be rung."""
    return sha256(number.encode()).hexdigest()


async def is_stopped(connection: AsyncConnection, number: str) -> bool:
    """Whether a number is not to be rung any more."""
    query = select(do_not_call.c.at).where(do_not_call.c.number_hash == hash_of(number))
    return (await connection.execute(query)).first() is not None


def waited_long(attempt: FromClause) -> ColumnElement[bool]:
    """Whether somebody who answered heard nothing for two seconds, and stayed as long."""
    heard_ms, duration_ms = attempt.c.first_sound_ms, attempt.c.duration_ms
    return or_(heard_ms > MAX_WAIT_MS, and_(heard_ms.is_(None), duration_ms > MAX_WAIT_MS))


@lru_cache(maxsize=64)
def plan_of(text: str) -> Campaign:
    """A campaign's plan as it is kept, by this program or by one that took more characters.

    Raises PlanUnreadable for one that was edited by hand, say.
    """
    try:
        return Campaign.model_validate_json(text)
    except ValidationError as exc:
        fields = [".".join(map(str, error["loc"])) or "all of it" for error in exc.errors()]
    try:
        return Campaign.model_validate_json(_brought_up_to_date(text))
    except (ValueError, LookupError, TypeError):
        raise PlanUnreadable(f"its plan cannot be read: {', '.join(fields)}") from None


def _brought_up_to_date(text: str) -> str:
    """Raises ValueError, LookupError or TypeError where it is not even the JSON of a plan."""
    kept = _without_controls(json.loads(text))
    kept["caller_id"] = re.sub(r"\d", lambda digit: str(int(digit[0])), kept["caller_id"])
    return json.dumps(kept)


def _without_controls(kept: Any) -> Any:
    """The same with a space for each character that no text may have any more."""
    match kept:
        case dict():
            return {key: _without_controls(value) for key, value in kept.items()}
        case list():
            return [_without_controls(value) for value in kept]
        case str():
            return CONTROLS.sub(" ", kept)
    return kept


def new_attempt(
    contact_id: str, campaign_id: str, number: str | None, *, n: int, due_at: datetime
) -> dict[str, Any]:
    """The row of an attempt that is planned."""
    return {
        "attempt_id": uuid4().hex,
        "contact_id": contact_id,
        "campaign_id": campaign_id,
        "number": number,
        "n": n,
        "state": AttemptState.PLANNED.value,
        "due_at": due_at,
        "fence": 0,
        "reason": "",
    }


async def settle(
    connection: AsyncConnection, attempt: Row[Any], outcome: Outcome, now: datetime
) -> None:
    """Plan another attempt after one that is over, or close its contact; perhaps stop its campaign.

    The attempt's own row holds its end already. One that is not the newest closes no contact.
    """
    contact = (
        await connection.execute(
            select(contacts).where(contacts.c.contact_id == attempt.contact_id).with_for_update()
        )
    ).one()
    campaign = (
        await connection.execute(
            select(campaigns).where(campaigns.c.campaign_id == attempt.campaign_id)
        )
    ).one()
    plan = plan_of(campaign.plan)
    if contact.n_attempts == attempt.n:
        await _follow(connection, contact, campaign.state, plan, outcome, now)
    await _break(connection, campaign, plan)


async def close_contacts(
    connection: AsyncConnection, which: ColumnElement[bool], reason: Reason
) -> int:
    """Cancel what is planned for contacts and close them, but for those that are being rung.

    `which` says who, by campaign or by number. How many attempts that cancels.
    """
    theirs = select(contacts.c.contact_id).where(which, contacts.c.outcome.is_(None))
    cancelled = await connection.execute(
        update(attempts)
        .where(attempts.c.contact_id.in_(theirs), attempts.c.state.in_(NOT_MADE))
        # without this, SQLite reads all that is planned, of whomever
        .where(_of_attempts(which))
        .values(state=AttemptState.CANCELLED.value, reason=reason.value)
    )
    newest = (
        select(attempts.c.contact_id)
        .where(attempts.c.contact_id == contacts.c.contact_id)
        .where(
            attempts.c.n == contacts.c.n_attempts, attempts.c.state == AttemptState.CANCELLED.value
        )
    )
    await connection.execute(
        update(contacts)
        .where(which, contacts.c.outcome.is_(None), newest.exists())
        .values(outcome=reason.value, is_refused=True)
    )
    return cancelled.rowcount


def _of_attempts(which: ColumnElement[bool]) -> ColumnElement[bool]:
    """The same said of attempts: they have the campaign and the number of their contact."""

    def of_attempts(element: ExternallyTraversible, **_: Any) -> ExternallyTraversible | None:
        if isinstance(element, Column) and element.table is contacts:
            return attempts.c[element.name]
        return None

    return replacement_traverse(which, {}, of_attempts)


async def _follow(
    connection: AsyncConnection,
    contact: Row[Any],
    state: str,
    plan: Campaign,
    outcome: Outcome,
    now: datetime,
) -> None:
    word, next_at = await _what_follows(connection, contact, state, plan, outcome, now)
    if next_at is None:
        closing = update(contacts).where(contacts.c.contact_id == contact.contact_id)
        await connection.execute(closing.values(outcome=word, is_refused=False))
    else:
        n = contact.n_attempts + 1
        planned = new_attempt(
            contact.contact_id, contact.campaign_id, contact.number, n=n, due_at=next_at
        )
        await connection.execute(insert(attempts).values(**planned))
        await connection.execute(
            update(contacts)
            .where(contacts.c.contact_id == contact.contact_id)
            .values(n_attempts=n, outcome=None)
        )


async def _what_follows(
    connection: AsyncConnection,
    contact: Row[Any],
    state: str,
    plan: Campaign,
    outcome: Outcome,
    now: datetime,
) -> tuple[str, datetime | None]:
    """The word for a contact that is closed, and when it is tried again instead."""
    if contact.number is None:
        return outcome.value, None
    if await is_stopped(connection, contact.number):
        return Reason.STOPPED.value, None
    if state == CampaignState.CANCELLED.value:
        return outcome.value, None
    query = (
        select(attempts.c.outcome)
        .where(attempts.c.contact_id == contact.contact_id, attempts.c.outcome.is_not(None))
        .order_by(attempts.c.n)
    )
    outcomes = [Outcome(word) for word in (await connection.execute(query)).scalars()]
    next_at = next_attempt_at(plan, outcomes, now, number=contact.number, zone=contact.zone)
    return outcome.value, next_at


async def _break(connection: AsyncConnection, campaign: Row[Any], plan: Campaign) -> None:
    """Pause a campaign whose last calls, since it was started, went wrong."""
    if campaign.state != CampaignState.RUNNING.value:
        return
    query = (
        select(attempts.c.outcome, attempts.c.duration_ms)
        .where(
            attempts.c.campaign_id == campaign.campaign_id,
            attempts.c.outcome.is_not(None),
            attempts.c.ended_at >= campaign.resumed_at,
        )
        .order_by(attempts.c.ended_at.desc(), attempts.c.attempt_id)
        .limit(plan.breaker.calls)
    )
    last = [
        Ended(Outcome(outcome), duration_ms or 0)
        for outcome, duration_ms in await connection.execute(query)
    ]
    why = why_stop(plan.breaker, last)
    if why is not None:
        await connection.execute(
            update(campaigns)
            .where(
                campaigns.c.campaign_id == campaign.campaign_id,
                campaigns.c.state == CampaignState.RUNNING.value,
                campaigns.c.resumed_at == campaign.resumed_at,
            )
            .values(state=CampaignState.PAUSED.value, why=why)
        )
