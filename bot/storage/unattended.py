"""Whether a dialer attends to who is due, as far as it can be told by what dialers leave behind.

They write no sign of life. But whoever is due is claimed within seconds and decided on, unless the
line bears no more calls: then some go on, or nobody answers any.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, or_, select

from bot.campaigns.attempts import AttemptState
from bot.campaigns.gate import CampaignState
from bot.storage import tables
from bot.storage.answering import BELIEVED, answering

__all__ = ["PATIENCE", "unattended"]

PATIENCE = timedelta(minutes=1)  # that a dialer is waited for
campaigns, attempts, decisions = tables.campaigns, tables.attempts, tables.decisions
S = AttemptState
CALLING = (S.PLACED.value, S.RINGING.value, S.ANSWERED.value)


def unattended(campaign_id: str, now: datetime) -> Any:
    """The question how many people of a campaign have been due for longer than PATIENCE.

    Its answer is 0 where a dialer did something meanwhile, or would have had no reason to.
    """
    since = now - PATIENCE
    runs = select(campaigns.c.campaign_id).where(
        campaigns.c.campaign_id == campaign_id,
        campaigns.c.state == CampaignState.RUNNING.value,
        campaigns.c.resumed_at <= since,
        or_(campaigns.c.held_until.is_(None), campaigns.c.held_until <= since),
    )
    busy = select(attempts.c.attempt_id).where(
        or_(
            attempts.c.state.in_(CALLING),
            and_(
                attempts.c.state.in_((S.CLAIMED.value, S.COMMITTED.value)),
                attempts.c.lease_until > now,
            ),
        )
    )
    last = select(decisions.c.at).order_by(decisions.c.decision_id.desc()).limit(1).subquery()
    decided = select(last.c.at).where(last.c.at > since)
    who = answering(now - BELIEVED).subquery()
    answered = select(who.c.n_places).where(who.c.n_places > 0)
    return select(func.count()).where(
        attempts.c.campaign_id == campaign_id,
        attempts.c.state == S.PLANNED.value,
        attempts.c.due_at <= since,
        runs.exists(),
        ~busy.exists(),
        ~decided.exists(),
        answered.exists(),
    )
