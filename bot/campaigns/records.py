"""What is kept of a campaign and of its attempts: values alone, which know no database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from bot.campaigns.gate import CampaignState
from bot.campaigns.outcome_fields import Told
from config.campaigns import Campaign

__all__ = [
    "CallReport",
    "CampaignRecord",
    "Claim",
    "Consent",
    "ContactRow",
    "Counts",
    "DecisionRow",
    "Job",
    "JobKind",
    "NewContact",
    "Order",
    "Script",
    "SilentCall",
    "UnknownAttempt",
    "Waits",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a campaign stands, whatever its plan is."""

    campaign_id: str
    state: CampaignState


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignRecord:
    """A campaign as it is kept."""

    campaign_id: str
    plan: Campaign
    state: CampaignState
    why: str  # it paused itself; "" otherwise
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """That somebody agreed to be rung for a purpose."""

    purpose: str
    method: str  # "web form", say
    source: str  # where it can be looked up
    given_at: datetime
    wording: str = ""
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewContact:
    """Somebody to be rung."""

    number: str  # E.164
    row: int  # of the file
    zone: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    consent: Consent | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """What a call is about, and what is known of the person."""

    plan: Campaign
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt that one dialer looks at. A later claim of it has a higher fence."""

    attempt_id: str
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a granted attempt asks Twilio for."""

    attempt_id: str
    fence: int
    number: str
    plan: Campaign
    expires_at: datetime  # after that it is not to be asked for any more


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReport:
    """What Twilio says of a call. `status` and `answered_by` are its words."""

    call_sid: str
    status: str
    answered_by: str | None = None
    duration_s: int | None = None
    queue_ms: int | None = None
    first_sound_ms: int | None = None  # after answering, as our side of the call has it
    is_speechless: bool = False  # our side had nobody to speak in it
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownAttempt:
    """An attempt of which it is not known whether Twilio has it."""

    attempt_id: str
    number: str | None
    caller_id: str
    committed_at: datetime
    unknown_at: datetime


@dataclass(frozen=True, slots=True)
class SilentCall:
    """A call that goes on, and of which nothing was heard for a while."""

    attempt_id: str
    call_sid: str


class JobKind(Enum):
    """What is still to be done about a call."""

    END_CALL = "end_call"
    LEAVE_MESSAGE = "leave_message"
    FILL_FIELDS = "fill_fields"  # of the database: from what was said


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something that is still to be done about a call: kept until it is."""

    job_id: int
    kind: JobKind
    attempt_id: str
    call_sid: str | None  # None: not known yet
    is_over: bool  # the attempt, so that nothing is left to be done
    plan: Campaign | None  # None: it cannot be read; a call can be ended without it
    n_tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Where the contacts of a campaign stand. Each is counted once."""

    n_contacts: int
    planned: int  # not rung yet, or waiting for another attempt
    dialling: int  # Twilio is asked, or has not rung yet
    ringing: int
    talking: int
    done: Mapping[str, int]  # by outcome
    refused: Mapping[str, int]  # by reason

    @property
    def n_open(self) -> int:
        """Those of whom something may still come."""
        return self.planned + self.dialling + self.ringing + self.talking


@dataclass(frozen=True, slots=True)
class Waits:
    """How many people answered, and how many of them heard nothing for two seconds."""

    n_answered: int
    n_abandoned: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """One decision of the gate."""

    at: datetime
    contact_row: int
    number: str | None
    n: int
    is_dialled: bool
    reason: str
    next_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactRow:
    """A contact and its newest attempt."""

    row: int
    number: str | None
    state: str
    outcome: str | None
    n_attempts: int
    committed_at: datetime | None
    duration_ms: int | None
    told: Mapping[str, Told] = field(default_factory=dict)  # the campaign's outcome fields
