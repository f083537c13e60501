"""What a list of people does to a campaign: who joins it, and what it corrects of who is there."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import bindparam, case, insert, or_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.campaigns.gate import Reason
from bot.campaigns.records import Consent, NewContact
from bot.storage import tables
from bot.storage.database import upsert
from bot.storage.gate_facts import consented
from bot.storage.settling import new_attempt

__all__ = ["join"]

contacts, attempts, consents = tables.contacts, tables.attempts, tables.consents


async def join(
    connection: AsyncConnection, campaign_id: str, people: Sequence[NewContact], now: datetime
) -> int:
    """Add people, each with a first attempt that is due; how many were new to the campaign.

    Of those who are there and not done with, the list has the last word. Whoever was not rung for
    want of a consent or a zone, and has one now, is due again.
    """
    rows = [_contact(campaign_id, person) for person in people]
    new = upsert(connection)(contacts).on_conflict_do_nothing().returning(contacts.c.contact_id)
    added = set((await connection.execute(new, rows)).scalars()) if rows else set()
    firsts = [
        new_attempt(row["contact_id"], campaign_id, row["number"], n=1, due_at=now)
        for row in rows
        if row["contact_id"] in added
    ]
    if firsts:
        await connection.execute(insert(attempts), firsts)
    await _keep_consents(connection, people)
    known = [p for p, row in zip(people, rows, strict=True) if row["contact_id"] not in added]
    if known:
        await _correct(connection, campaign_id, known)
        await _reopen(connection, campaign_id, known, now)
    return len(added)


async def _keep_consents(connection: AsyncConnection, people: Sequence[NewContact]) -> None:
    """Of one that is kept already, the earlier end counts; that it was revoked stays."""
    agreed = [_consent(p.number, p.consent) for p in people if p.consent is not None]
    if not agreed:
        return
    row = upsert(connection)(consents)
    kept, told = consents.c.expires_at, row.excluded.expires_at
    ends = case((kept.is_(None), told), (told.is_(None), kept), (told < kept, told), else_=kept)
    key = [consents.c.number, consents.c.purpose, consents.c.given_at]
    await connection.execute(
        row.on_conflict_do_update(index_elements=key, set_={"expires_at": ends}), agreed
    )


async def _correct(
    connection: AsyncConnection, campaign_id: str, known: Sequence[NewContact]
) -> None:
    """Variables of those whose turn is not over, and the zone where the list names one."""
    outcome = contacts.c.outcome
    mendable = [outcome == reason.value for reason in (Reason.NO_CONSENT, Reason.ZONE_UNKNOWN)]
    mended = (
        update(contacts)
        .where(
            contacts.c.campaign_id == campaign_id,
            contacts.c.number == bindparam("of_number"),
            or_(outcome.is_(None), *mendable),
        )
        .values(
            variables=bindparam("new_variables", type_=contacts.c.variables.type),
            zone=case(
                (bindparam("new_zone", type_=contacts.c.zone.type).is_(None), contacts.c.zone),
                else_=bindparam("new_zone", type_=contacts.c.zone.type),
            ),
        )
    )
    values = [
        {"of_number": p.number, "new_variables": dict(p.variables), "new_zone": p.zone}
        for p in known
    ]
    await connection.execute(mended, values)


async def _reopen(
    connection: AsyncConnection, campaign_id: str, known: Sequence[NewContact], now: datetime
) -> None:
    placed = [p.number for p in known if p.zone is not None]
    is_mended = [(contacts.c.outcome == Reason.ZONE_UNKNOWN.value) & contacts.c.number.in_(placed)]
    for purpose in {p.consent.purpose for p in known if p.consent is not None}:
        agreed = [p.number for p in known if p.consent and p.consent.purpose == purpose]
        is_mended.append(
            (contacts.c.outcome == Reason.NO_CONSENT.value)
            & contacts.c.number.in_(agreed)
            & consented(contacts.c.number, purpose, now).exists()
        )
    reopened = await connection.execute(
        update(contacts)
        .where(
            contacts.c.campaign_id == campaign_id,
            contacts.c.number.in_([p.number for p in known]),
            contacts.c.is_refused,
            or_(*is_mended),
        )
        .values(outcome=None, is_refused=False, n_attempts=contacts.c.n_attempts + 1)
        .returning(contacts.c.contact_id, contacts.c.number, contacts.c.n_attempts)
    )
    again = [
        new_attempt(row.contact_id, campaign_id, row.number, n=row.n_attempts, due_at=now)
        for row in reopened
    ]
    if again:
        await connection.execute(insert(attempts), again)


def _contact(campaign_id: str, person: NewContact) -> dict[str, Any]:
    return {
        "contact_id": uuid4().hex,
        "campaign_id": campaign_id,
        "number": person.number,
        "zone": person.zone,
        "variables": dict(person.variables),
        "row": person.row,
        "n_attempts": 1,
        "is_refused": False,
    }


def _consent(number: str, consent: Consent) -> dict[str, Any]:
    return {
        "consent_id": uuid4().hex,
        "number": number,
        "purpose": consent.purpose,
        "method": consent.method,
        "source": consent.source,
        "wording": consent.wording,
        "given_at": consent.given_at,
        "expires_at": consent.expires_at,
    }
