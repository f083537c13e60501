"""Attempts on their way to Twilio: claimed, looked at once more, written down, and asked for.

What Twilio says of them afterwards is bot.storage.call_reports' to write.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.campaigns.attempts import AttemptState, Outcome, sources_of
from bot.campaigns.gate import (
    AFTER_MENDING,
    HOLDS_UP_CAMPAIGN,
    CampaignState,
    Decision,
    Dial,
    Later,
    LineLimits,
    Never,
    Reason,
    decide,
)
from bot.campaigns.records import Claim, Order, UnknownAttempt
from bot.storage import tables
from bot.storage.answering import BELIEVED
from bot.storage.database import Database
from bot.storage.gate_facts import LINE, LIVE_STATES, facts_of, free_places
from bot.storage.settling import PlanUnreadable, close_contacts, plan_of, settle, tell_unreadable

__all__ = ["LEASE", "DialStore", "Granted", "Held", "Missed"]

campaigns, contacts, attempts = tables.campaigns, tables.contacts, tables.attempts
decisions, paces = tables.decisions, tables.paces
S = AttemptState
LEASE = timedelta(minutes=1)  # longer than Twilio is waited for


@dataclass(frozen=True, slots=True)
class Granted:
    """Written down as being asked for: Twilio is to be asked now, once."""

    order: Order


@dataclass(frozen=True, slots=True)
class Held:
    """Not asked for. The attempt waits for its time again, or is over."""

    decision: Later | Never


@dataclass(frozen=True, slots=True)
class Missed:
    """The claim is not valid any more: somebody else has the attempt, or it is gone."""


class DialStore:
    """The attempts of a database, as a dialer needs them. Times have a time zone."""

    def __init__(
        self, database: Database, *, lease: timedelta = LEASE, believed: timedelta = BELIEVED
    ) -> None:
        """`lease` is how long an attempt is a dialer's alone, each time that it takes a step.

        What answering processes said of themselves counts for as long as it is `believed`.
        """
        self._database = database
        self._lease = lease
        self._believed = believed

    async def claim(self, *, owner: str, n: int, now: datetime) -> list[Claim]:
        """Take up to `n` attempts that are due, of campaigns that have room, for a minute.

        No two dialers get the same one. Campaigns share alike, in no order.
        """
        async with self._database.writing() as connection:
            claims: list[Claim] = []
            rooms = await _with_room(connection, now)
            for left, (campaign_id, room) in zip(range(len(rooms), 0, -1), rooms, strict=True):
                share = -(-(n - len(claims)) // left)
                due = await connection.execute(_due(campaign_id, now, min(room, share)))
                claims += [Claim(attempt_id, fence + 1) for attempt_id, fence in due]
            await connection.execute(
                update(attempts)
                .where(attempts.c.attempt_id.in_([claim.attempt_id for claim in claims]))
                .values(
                    state=S.CLAIMED.value,
                    owner=owner,
                    lease_until=now + self._lease,
                    fence=attempts.c.fence + 1,
                )
            )
        return claims

    async def n_free(self, limits: LineLimits, now: datetime) -> int:
        """How many calls the line could bear besides those that run; each is looked at again."""
        async with self._database.reading() as connection:
            return await free_places(connection, limits, now, believed=self._believed)

    async def commit(
        self, claim: Claim, limits: LineLimits, clock: Callable[[], datetime]
    ) -> Granted | Held | Missed:
        """Look once more whether the attempt may be made, and write down what was decided.

        In one transaction, and one at a time over all dialers: `clock` is read when it is this
        one's turn. `Granted` is on the disk before it is returned. A claim that only has to wait
        for the line's pace is kept. Cancelling leaves the attempt claimed until its lease is over.
        """
        async with self._database.writing_alone() as connection:
            found = (await connection.execute(_claimed(claim))).first()
            if found is None:
                return Missed()
            now = clock()
            plan = plan_of(found.plan)
            facts = await facts_of(connection, found, now, believed=self._believed)
            decision = decide(facts, limits, now)
            if isinstance(decision, Later) and decision.reason is Reason.PACE:
                return Held(decision)
            await _write_decision(connection, found, decision, now)
            match decision:
                case Dial():
                    await _grant(connection, found, limits, now, self._lease)
                    order = Order(
                        attempt_id=claim.attempt_id,
                        fence=claim.fence,
                        number=found.number,
                        plan=plan,
                        expires_at=now + self._lease,
                    )
                    return Granted(order)
                case Later(at=at, reason=reason):
                    if reason in HOLDS_UP_CAMPAIGN:
                        # the person stays due: whoever ends the hold has them rung at once
                        await _move(connection, claim, S.PLANNED)
                        await _hold(connection, found.campaign_id, reason.value, at)
                    else:
                        await _move(connection, claim, S.PLANNED, due_at=max(at, found.due_at))
                case Never(reason=reason):
                    await _move(connection, claim, S.CANCELLED, reason=reason.value)
                    await connection.execute(
                        update(contacts)
                        .where(contacts.c.contact_id == found.contact_id)
                        .values(outcome=reason.value, is_refused=True)
                    )
            return Held(decision)

    async def give_back(self, claims: Sequence[Claim]) -> None:
        """Leave attempts to whoever takes them next, as far as they are no more than claimed."""
        async with self._database.writing() as connection:
            for claim in claims:
                await connection.execute(
                    update(attempts)
                    .where(
                        attempts.c.attempt_id == claim.attempt_id,
                        attempts.c.fence == claim.fence,
                        attempts.c.state == S.CLAIMED.value,
                    )
                    .values(state=S.PLANNED.value)
                )

    async def not_sent(
        self,
        order: Order,
        *,
        reason: str,
        now: datetime,
        due_at: datetime,
        holds_campaign: bool = False,
    ) -> None:
        """Nobody was rung: the attempt is planned again, unless more is known of it by now.

        What keeps all people of its campaign from being rung holds the campaign as long, and this
        one no longer than that.
        """
        async with self._database.writing() as connection:
            claim = Claim(order.attempt_id, order.fence)
            of_attempt = now if holds_campaign else due_at
            moved = await _move(
                connection, claim, S.PLANNED, due_at=of_attempt, committed_at=None, unknown_at=None
            )
            if moved is not None:
                await _take_back_decision(connection, moved, reason, now, next_at=due_at)
                if holds_campaign:
                    await _hold(connection, moved.campaign_id, reason, due_at)

    async def unknown(self, order: Order, *, reason: str, now: datetime) -> None:
        """It is not known whether somebody is rung."""
        async with self._database.writing() as connection:
            claim = Claim(order.attempt_id, order.fence)
            await _move(connection, claim, S.UNKNOWN, reason=reason, unknown_at=now)

    async def not_placed(
        self, attempt_id: str, *, outcome: Outcome, reason: str, now: datetime
    ) -> None:
        """Nobody was rung, and will not be by this attempt."""
        async with self._database.writing() as connection:
            moved = await connection.execute(
                update(attempts)
                .where(
                    attempts.c.attempt_id == attempt_id,
                    attempts.c.state.in_(_values(sources_of(S.NOT_PLACED))),
                )
                .values(
                    state=S.NOT_PLACED.value, outcome=outcome.value, reason=reason, ended_at=now
                )
                .returning(attempts)
            )
            attempt = moved.first()
            if attempt is not None:
                await _take_back_decision(connection, attempt, reason, now)
                await settle(connection, attempt, outcome, now)

    async def expire_leases(self, now: datetime) -> tuple[int, int]:
        """What dialers that died have left: claimed becomes planned, committed becomes unknown."""
        expired = attempts.c.lease_until < now
        async with self._database.writing() as connection:
            planned = await connection.execute(
                update(attempts)
                .where(attempts.c.state == S.CLAIMED.value, expired)
                .values(state=S.PLANNED.value)
            )
            unknown = await connection.execute(
                update(attempts)
                .where(attempts.c.state == S.COMMITTED.value, expired)
                .values(state=S.UNKNOWN.value, reason="dialer_lost", unknown_at=now)
            )
            return planned.rowcount, unknown.rowcount

    async def close_cancelled(self) -> int:
        """Close who was planned for a campaign that was cancelled meanwhile."""
        cancelled = select(campaigns.c.campaign_id).where(
            campaigns.c.state == CampaignState.CANCELLED.value
        )
        left = select(attempts.c.contact_id).where(
            attempts.c.campaign_id.in_(cancelled),
            attempts.c.state.in_((S.PLANNED.value, S.CLAIMED.value)),
        )
        async with self._database.reading() as connection:
            if (await connection.execute(left.limit(1))).first() is None:
                return 0
        async with self._database.writing_alone() as connection:
            theirs = contacts.c.campaign_id.in_(cancelled)
            return await close_contacts(connection, theirs, Reason.CAMPAIGN_CANCELLED)

    async def unknown_attempts(self, *, n: int) -> list[UnknownAttempt]:
        """Attempts of which it is not known whether Twilio has them, oldest first.

        Those of a campaign whose plan cannot be read wait for it.
        """
        query = (
            select(attempts, campaigns.c.plan)
            .join(campaigns, campaigns.c.campaign_id == attempts.c.campaign_id)
            .where(attempts.c.state == S.UNKNOWN.value)
            .order_by(attempts.c.unknown_at)
            .limit(n)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        found = []
        for row in rows:
            with suppress(PlanUnreadable):
                found.append(
                    UnknownAttempt(
                        attempt_id=row.attempt_id,
                        number=row.number,
                        caller_id=plan_of(row.plan).caller_id,
                        committed_at=row.committed_at,
                        unknown_at=row.unknown_at,
                    )
                )
        return found

    async def slow_down(self, until: datetime) -> None:
        """Begin no call of the line before `until`."""
        async with self._database.writing() as connection:
            await connection.execute(
                update(paces)
                .where(paces.c.name == LINE, paces.c.next_at < until)
                .values(next_at=until)
            )


def _values(states: frozenset[AttemptState]) -> list[str]:
    return [state.value for state in states]


async def _with_room(connection: AsyncConnection, now: datetime) -> list[tuple[str, int]]:
    """Running campaigns that may begin calls, and how many; in no order.

    One whose plan cannot be read is held, and stops no other.
    """
    n_live = (
        select(attempts.c.campaign_id, func.count().label("n"))
        .where(attempts.c.state.in_(LIVE_STATES))
        .group_by(attempts.c.campaign_id)
        .subquery()
    )
    query = (
        select(
            campaigns.c.campaign_id,
            campaigns.c.name,
            campaigns.c.plan,
            func.coalesce(n_live.c.n, 0).label("n"),
        )
        .outerjoin(n_live, n_live.c.campaign_id == campaigns.c.campaign_id)
        .where(
            campaigns.c.state == CampaignState.RUNNING.value,
            or_(campaigns.c.held_until.is_(None), campaigns.c.held_until <= now),
        )
    )
    rooms: list[tuple[str, int]] = []
    for campaign in (await connection.execute(query)).all():
        try:
            room = plan_of(campaign.plan).max_concurrent - campaign.n
        except PlanUnreadable as exc:
            tell_unreadable(exc, campaign=campaign.name)
            until = now + AFTER_MENDING
            await _hold(connection, campaign.campaign_id, Reason.PLAN_UNREADABLE.value, until)
        else:
            rooms.append((campaign.campaign_id, room))
    random.shuffle(rooms)
    return [room for room in rooms if room[1] > 0]


def _due(campaign_id: str, now: datetime, n: int) -> Any:
    return (
        select(attempts.c.attempt_id, attempts.c.fence)
        .where(
            attempts.c.campaign_id == campaign_id,
            attempts.c.state == S.PLANNED.value,
            attempts.c.due_at <= now,
        )
        .order_by(attempts.c.due_at, attempts.c.attempt_id)
        .limit(n)
        .with_for_update(skip_locked=True)
    )


def _claimed(claim: Claim) -> Any:
    """The attempt that is claimed, with its contact and its campaign, if it still is."""
    return (
        select(
            attempts.c.attempt_id,
            attempts.c.contact_id,
            attempts.c.campaign_id,
            attempts.c.n,
            attempts.c.due_at,
            contacts.c.number,
            contacts.c.zone,
            campaigns.c.state,
            campaigns.c.plan,
        )
        .join(contacts, contacts.c.contact_id == attempts.c.contact_id)
        .join(campaigns, campaigns.c.campaign_id == attempts.c.campaign_id)
        .where(
            attempts.c.attempt_id == claim.attempt_id,
            attempts.c.fence == claim.fence,
            attempts.c.state == S.CLAIMED.value,
        )
        .with_for_update(of=attempts)
    )


async def _move(
    connection: AsyncConnection, claim: Claim, state: AttemptState, **values: Any
) -> Row[Any] | None:
    """Move an attempt, if its claim is the last one and the move a legal one; its row then."""
    moved = await connection.execute(
        update(attempts)
        .where(
            attempts.c.attempt_id == claim.attempt_id,
            attempts.c.fence == claim.fence,
            attempts.c.state.in_(_values(sources_of(state))),
        )
        .values(state=state.value, **values)
        .returning(attempts)
    )
    row: Row[Any] | None = moved.first()
    return row


async def _grant(
    connection: AsyncConnection,
    found: Row[Any],
    limits: LineLimits,
    now: datetime,
    lease: timedelta,
) -> None:
    await connection.execute(
        update(attempts)
        .where(attempts.c.attempt_id == found.attempt_id)
        .values(
            state=S.COMMITTED.value, number=found.number, committed_at=now, lease_until=now + lease
        )
    )
    next_at = now + limits.gap
    await connection.execute(update(paces).where(paces.c.name == LINE).values(next_at=next_at))


async def _hold(
    connection: AsyncConnection, campaign_id: str, reason: str, until: datetime
) -> None:
    """Claim nothing of a campaign before `until`: every decision would be the same."""
    await connection.execute(
        update(campaigns)
        .where(campaigns.c.campaign_id == campaign_id)
        .values(held_until=until, held_for=reason)
    )


async def _take_back_decision(
    connection: AsyncConnection,
    attempt: Row[Any],
    reason: str,
    now: datetime,
    *,
    next_at: datetime | None = None,
) -> None:
    """Write down that an attempt which was to be dialled was not: `reason` is a word."""
    await connection.execute(
        insert(decisions).values(
            at=now,
            campaign_id=attempt.campaign_id,
            contact_id=attempt.contact_id,
            attempt_id=attempt.attempt_id,
            n=attempt.n,
            is_dialled=False,
            reason=reason,
            next_at=next_at,
        )
    )


async def _write_decision(
    connection: AsyncConnection, found: Row[Any], decision: Decision, now: datetime
) -> None:
    await connection.execute(
        insert(decisions).values(
            at=now,
            campaign_id=found.campaign_id,
            contact_id=found.contact_id,
            attempt_id=found.attempt_id,
            n=found.n,
            is_dialled=isinstance(decision, Dial),
            reason="" if isinstance(decision, Dial) else decision.reason.value,
            next_at=decision.at if isinstance(decision, Later) else None,
        )
    )
