"""A campaign and people whom nothing keeps from being rung, and what changes that."""

from datetime import UTC, datetime
from typing import Any

from bot.campaigns.gate import CampaignState, Facts, LineLimits
from bot.campaigns.records import Consent, NewContact
from config.campaigns import Campaign

OURS = "+12125550100"
PURPOSE = "appointment reminders"
AGREED = Consent(
    purpose=PURPOSE, method="web form", source="form 7", given_at=datetime(2026, 1, 2, tzinfo=UTC)
)
NOON = datetime(2026, 11, 18, 17, tzinfo=UTC)  # in New York, on a Wednesday
LIMITS = LineLimits(caller_ids=frozenset({OURS}), model_slots=10, inbound_reserve=2)


def number(n: int) -> str:
    """A number of New York."""
    return f"+1212556{n:04}"


def people(n: int, **changes: Any) -> list[NewContact]:
    """Contacts number 1 to n, who agreed to be rung."""
    common = {"consent": AGREED, **changes}
    return [NewContact(number=number(i), row=i, **common) for i in range(1, n + 1)]


NEW_YORKER = number(1)


def plan(**changes: Any) -> Campaign:
    return Campaign.model_validate(
        {
            "name": "reminders",
            "persona": "support-en",
            "caller_id": OURS,
            "purpose": PURPOSE,
            **changes,
        }
    )


def facts(**changes: Any) -> Facts:
    known: dict[str, Any] = {
        "campaign": plan(),
        "state": CampaignState.RUNNING,
        "number": NEW_YORKER,
        "zone": None,
        "is_stopped": False,
        "has_consent": True,
        "rung_at": (),
        "has_other_call": False,
        "n_live_of_campaign": 0,
        "n_live": 0,
        "n_inbound": 0,
        "n_coming": 0,
        "n_places": 50,
        "minutes_today": 0,
        "turn_at": NOON,
    }
    return Facts(**(known | changes))
