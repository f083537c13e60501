"""Campaigns and their contacts in the database, and who is not to be rung."""

from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.campaigns.attempts import LIVE, AttemptState, Outcome
from bot.campaigns.gate import CampaignState, Reason
from bot.campaigns.outcome_fields import Told
from bot.campaigns.records import (
    CampaignRecord,
    ContactRow,
    Counts,
    DecisionRow,
    JobKind,
    NewContact,
    Script,
    Standing,
    Waits,
)
from bot.storage import tables
from bot.storage.answering import BELIEVED, answering
from bot.storage.call_reports import SAID_STOP, leave_job, lock_attempts
from bot.storage.database import Database, upsert
from bot.storage.joining import join
from bot.storage.settling import (
    PlanUnreadable,
    close_contacts,
    hash_of,
    plan_of,
    tell_unreadable,
    waited_long,
)
from bot.storage.unattended import unattended
from config.campaigns import Campaign

__all__ = ["CampaignGone", "CampaignStore", "NameTaken"]

campaigns, contacts, attempts = tables.campaigns, tables.contacts, tables.attempts
consents, decisions, do_not_call = tables.consents, tables.decisions, tables.do_not_call
findings = tables.findings
S = AttemptState
_STATES = CampaignState
MOVES = {
    _STATES.RUNNING: (_STATES.DRAFT, _STATES.PAUSED),
    _STATES.PAUSED: (_STATES.RUNNING,),
    _STATES.CANCELLED: (_STATES.DRAFT, _STATES.RUNNING, _STATES.PAUSED),
}


class NameTaken(Exception):
    """There is a campaign of this name already."""


class CampaignGone(Exception):
    """There is no such campaign any more."""


class CampaignStore:
    """The campaigns of a database. Times have a time zone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, plan: Campaign, *, now: datetime) -> CampaignRecord:
        """Keep a new campaign, as a draft. Raises NameTaken."""
        record = CampaignRecord(
            campaign_id=uuid4().hex, plan=plan, state=CampaignState.DRAFT, why="", created_at=now
        )
        row = insert(campaigns).values(
            campaign_id=record.campaign_id,
            name=plan.name,
            state=record.state.value,
            why="",
            plan=plan.model_dump_json(),
            created_at=now,
        )
        try:
            async with self._database.writing() as connection:
                await connection.execute(row)
        except IntegrityError:
            raise NameTaken(plan.name) from None
        return record

    async def find(self, name: str) -> CampaignRecord | None:
        """The campaign of a name. Raises PlanUnreadable."""
        for row in await self._rows(campaigns.c.name == name):
            return _campaign(row)
        return None

    async def standing(self, name: str) -> Standing | None:
        """Where the campaign of a name stands, also one whose plan cannot be read."""
        for row in await self._rows(campaigns.c.name == name):
            return Standing(campaign_id=row.campaign_id, state=CampaignState(row.state))
        return None

    async def all(self) -> list[CampaignRecord]:
        """Every campaign whose plan can be read, newest first; others are told in the log."""
        found = []
        for row in await self._rows():
            try:
                found.append(_campaign(row))
            except PlanUnreadable as exc:
                tell_unreadable(exc, campaign=row.name)
        return found

    async def _rows(self, *where: Any) -> Sequence[Row[Any]]:
        query = select(campaigns).where(*where).order_by(campaigns.c.created_at.desc())
        async with self._database.reading() as connection:
            return (await connection.execute(query)).all()

    async def move(self, campaign_id: str, state: CampaignState, *, now: datetime) -> bool:
        """Start, resume, pause or cancel; False where that is not possible from its state.

        Nobody is rung any more once a pause is written down. Cancelling also closes the contacts
        that are not being rung at that moment.
        """
        sources = [source.value for source in MOVES[state]]
        changes: dict[str, Any] = {"state": state.value, "why": ""}
        if state is CampaignState.RUNNING:
            changes |= {"resumed_at": now, "held_until": None, "held_for": ""}
        async with self._database.writing_alone() as connection:
            moved = await connection.execute(
                update(campaigns)
                .where(campaigns.c.campaign_id == campaign_id, campaigns.c.state.in_(sources))
                .values(**changes)
            )
            if moved.rowcount and state is CampaignState.CANCELLED:
                of_campaign = contacts.c.campaign_id == campaign_id
                await close_contacts(connection, of_campaign, Reason.CAMPAIGN_CANCELLED)
            return moved.rowcount > 0

    async def delete(self, campaign_id: str) -> bool:
        """Delete a campaign that was never started, with its contacts; False if it was, once.

        Consents stay: they are the people's, and hold for other campaigns of the purpose.
        """
        never_started = select(campaigns.c.campaign_id).where(
            campaigns.c.campaign_id == campaign_id, campaigns.c.resumed_at.is_(None)
        )
        async with self._database.writing_alone() as connection:
            # whoever adds people just now is waited for, or finds no campaign
            if (await connection.execute(never_started.with_for_update())).first() is None:
                return False
            for table in (attempts, contacts, campaigns):
                await connection.execute(delete(table).where(table.c.campaign_id == campaign_id))
        await self._database.scrub()
        return True

    # --- contacts

    async def add(self, campaign_id: str, people: Sequence[NewContact], *, now: datetime) -> int:
        """Add people, each with a first attempt that is due; how many were new to the campaign.

        All of them or none. Of those who were there before, variables and zones are brought up to
        what is told now, unless their turn is over; a consent that is kept already ends at the
        earlier time of the two. Who was refused for want of a consent or a zone, and has one now,
        is due again. Raises CampaignGone.
        """
        try:
            # alone: no decision is to be made on what is just being corrected
            async with self._database.writing_alone() as connection:
                return await join(connection, campaign_id, people, now)
        except IntegrityError:
            raise CampaignGone(campaign_id) from None

    async def script_of(self, attempt_id: str) -> Script | None:
        """Who speaks in an attempt's call, and about what; None if there is no such attempt."""
        query = (
            select(campaigns.c.plan, contacts.c.variables)
            .select_from(attempts)
            .join(contacts, contacts.c.contact_id == attempts.c.contact_id)
            .join(campaigns, campaigns.c.campaign_id == attempts.c.campaign_id)
            .where(attempts.c.attempt_id == attempt_id)
        )
        async with self._database.reading() as connection:
            found = (await connection.execute(query)).first()
        return None if found is None else Script(plan_of(found.plan), found.variables)

    async def counts(self, campaign_id: str) -> Counts:
        """Where the contacts stand, at one moment."""
        query = (
            select(contacts.c.is_refused, contacts.c.outcome, attempts.c.state, func.count())
            .join(
                attempts,
                (attempts.c.contact_id == contacts.c.contact_id)
                & (attempts.c.n == contacts.c.n_attempts),
            )
            .where(contacts.c.campaign_id == campaign_id)
            .group_by(contacts.c.is_refused, contacts.c.outcome, attempts.c.state)
        )
        async with self._database.reading() as connection:
            return _counted((await connection.execute(query)).all())

    async def waits(self, campaign_id: str, *, since: datetime) -> Waits:
        """How long those who answered since then waited for a voice."""
        query = select(func.count(), func.count().filter(waited_long(attempts))).where(
            attempts.c.campaign_id == campaign_id,
            attempts.c.ended_at > since,
            attempts.c.outcome == Outcome.ANSWERED.value,
        )
        async with self._database.reading() as connection:
            return Waits(*(await connection.execute(query)).one())

    async def held(self, campaign_id: str, *, now: datetime) -> dict[str, int]:
        """How many people are not rung for the moment, by the reason of the last decision.

        What holds the campaign holds all of them, and so it is where nobody answers calls.
        """
        last = (
            select(func.max(decisions.c.decision_id))
            .where(decisions.c.campaign_id == campaign_id, decisions.c.next_at > now)
            .group_by(decisions.c.attempt_id)
        )
        query = (
            select(decisions.c.reason, func.count().label("n"))
            .where(decisions.c.decision_id.in_(last))
            .join(attempts, attempts.c.attempt_id == decisions.c.attempt_id)
            .where(attempts.c.state == S.PLANNED.value)
            .group_by(decisions.c.reason)
            .order_by(decisions.c.reason)
        )
        campaign = select(campaigns.c.state, campaigns.c.held_for, campaigns.c.held_until).where(
            campaigns.c.campaign_id == campaign_id
        )
        planned = select(func.count()).where(
            attempts.c.campaign_id == campaign_id, attempts.c.state == S.PLANNED.value
        )
        async with self._database.reading() as connection:
            state, reason, until = (await connection.execute(campaign)).one()
            if until is None or until <= now:
                who = (await connection.execute(answering(now - BELIEVED))).one()
                is_running = state == CampaignState.RUNNING.value
                nobody = is_running and who.n_places is None
                reason = Reason.NOBODY_ANSWERS.value if nobody else None
            if reason is not None:
                n_planned = (await connection.execute(planned)).scalar_one()
                return {reason: n_planned} if n_planned else {}
            return {row.reason: row.n for row in await connection.execute(query)}

    async def n_unattended(self, campaign_id: str, *, now: datetime) -> int:
        """How many people have been due for a minute while no dialer seems to be there."""
        async with self._database.reading() as connection:
            n: int = (await connection.execute(unattended(campaign_id, now))).scalar_one()
            return n

    async def contacts(self, campaign_id: str) -> AsyncIterator[ContactRow]:
        """Every contact with its newest attempt, in the order of the file, a few at a time."""
        query = (
            select(
                contacts,
                attempts.c.attempt_id,
                attempts.c.state,
                attempts.c.committed_at,
                attempts.c.duration_ms,
                findings.c.name,
                findings.c.value,
                findings.c.turn,
                findings.c.at,
            )
            .join(
                attempts,
                (attempts.c.contact_id == contacts.c.contact_id)
                & (attempts.c.n == contacts.c.n_attempts),
            )
            .outerjoin(findings, findings.c.attempt_id == attempts.c.attempt_id)
            .where(contacts.c.campaign_id == campaign_id)
            .order_by(contacts.c.row, contacts.c.contact_id)
        )
        async with self._database.reading() as connection:
            async for of_contact in _grouped(await connection.stream(query)):
                yield _contact_row(of_contact)

    async def decisions(self, campaign_id: str) -> AsyncIterator[DecisionRow]:
        """What was decided, in its order, a few at a time."""
        query = (
            select(decisions, contacts.c.row, contacts.c.number)
            .join(contacts, contacts.c.contact_id == decisions.c.contact_id)
            .where(decisions.c.campaign_id == campaign_id)
            .order_by(decisions.c.decision_id)
        )
        async with self._database.reading() as connection:
            async for row in await connection.stream(query):
                yield DecisionRow(
                    at=row.at,
                    contact_row=row.row,
                    number=row.number,
                    n=row.n,
                    is_dialled=row.is_dialled,
                    reason=row.reason,
                    next_at=row.next_at,
                )

    # --- do not call

    async def stop(self, *numbers: str, source: str, now: datetime) -> int:
        """Never ring these numbers (E.164) again; how many planned calls that cancels.

        In one transaction, and not while any dialer is deciding: their consents are revoked, what
        is planned for them is cancelled in every campaign, and every call to them is asked to end,
        conversations too.
        """
        async with self._database.writing_alone() as connection:
            return sum([await _stop(connection, n, source, now) for n in numbers])

    async def stop_person_of(self, attempt_id: str, *, source: str, now: datetime) -> bool:
        """As `stop`, for whoever an attempt rang; False if there is no such attempt or number.

        It was said in that attempt's call, which goes on: it is confirmed there and then ended.
        """
        query = select(attempts.c.number).where(attempts.c.attempt_id == attempt_id)
        async with self._database.reading() as connection:
            number = (await connection.execute(query)).scalar_one_or_none()
        if number is None:
            return False
        async with self._database.writing_alone() as connection:
            await _stop(connection, number, source, now, said_in=attempt_id)
        return True


async def _stop(
    connection: AsyncConnection,
    number: str,
    source: str,
    now: datetime,
    *,
    said_in: str | None = None,
) -> int:
    await lock_attempts(connection, number)  # a report may just now find nobody stopped
    row = upsert(connection)(do_not_call).values(number_hash=hash_of(number), source=source, at=now)
    await connection.execute(row.on_conflict_do_nothing())
    await connection.execute(
        update(consents)
        .where(consents.c.number == number, consents.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    n_cancelled = await close_contacts(connection, contacts.c.number == number, Reason.STOPPED)
    live = select(attempts.c.attempt_id).where(
        attempts.c.number == number, attempts.c.state.in_([state.value for state in LIVE])
    )
    for attempt_id in (await connection.execute(live)).scalars().all():
        if attempt_id != said_in:
            await leave_job(connection, JobKind.END_CALL, attempt_id, now)
    await connection.execute(
        update(attempts).where(attempts.c.attempt_id == said_in).values(reason=SAID_STOP)
    )
    return n_cancelled


def _campaign(row: Row[Any]) -> CampaignRecord:
    return CampaignRecord(
        campaign_id=row.campaign_id,
        plan=plan_of(row.plan),
        state=CampaignState(row.state),
        why=row.why,
        created_at=row.created_at,
    )


async def _grouped(rows: AsyncIterable[Any]) -> AsyncIterator[list[Any]]:
    """The rows of each contact, which follow one another."""
    group: list[Any] = []
    async for row in rows:
        if group and row.contact_id != group[0].contact_id:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _contact_row(rows: Sequence[Any]) -> ContactRow:
    """One contact out of a row for each of its findings, or one without any."""
    row = rows[0]
    return ContactRow(
        row=row.row,
        number=row.number,
        state=row.state,
        outcome=row.outcome,
        n_attempts=row.n_attempts,
        committed_at=row.committed_at,
        duration_ms=row.duration_ms,
        told={
            found.name: Told(found.name, found.value, found.turn, found.at)
            for found in rows
            if found.name is not None
        },
    )


def _counted(groups: Iterable[Any]) -> Counts:
    done: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    states: Counter[AttemptState] = Counter()
    for is_refused, outcome, state, n in groups:
        if outcome is None:
            states[AttemptState(state)] += n
        else:
            (refused if is_refused else done)[outcome] += n
    ringing, talking = states.pop(S.RINGING, 0), states.pop(S.ANSWERED, 0)
    planned = states.pop(S.PLANNED, 0) + states.pop(S.CLAIMED, 0)
    return Counts(
        n_contacts=planned + ringing + talking + (done + refused + states).total(),
        planned=planned,
        dialling=states.total(),
        ringing=ringing,
        talking=talking,
        done=dict(done),
        refused=dict(refused),
    )
