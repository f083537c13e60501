"""The tables, as they are after the newest migration."""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

__all__ = [
    "METADATA",
    "UtcTime",
    "attempts",
    "call_events",
    "calls",
    "campaigns",
    "consents",
    "contacts",
    "decisions",
    "do_not_call",
    "findings",
    "outbox",
    "paces",
    "turns",
]


class UtcTime(TypeDecorator[datetime]):
    """A point in time. SQLite keeps no time zones: everything is UTC there and comes back as such.

    A time without a zone is refused (ValueError): it would mean something else on each machine.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

calls = Table(
    "calls",
    METADATA,
    Column("record_id", String(32), primary_key=True),
    Column("call_sid", String(64), nullable=False),
    Column("retry", Integer, nullable=False),
    Column("direction", String(8), nullable=False),
    Column("person", String(16)),
    Column("line", String(16)),
    Column("persona", String(200), nullable=False),
    Column("began_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("reason", String(32)),
    Column("detail", String(200), nullable=False),
    Column("duration_ms", Integer),
    Column("n_turns", Integer),
    Column("n_interruptions", Integer),
    Column("heard_ms", Integer),
    Column("recording", Text),
    Column("forgotten_at", UtcTime),
    UniqueConstraint("call_sid", "retry"),
    Index(None, "person"),
    Index(None, "began_at"),
)

turns = Table(
    "turns",
    METADATA,
    Column("record_id", String(32), ForeignKey(calls.c.record_id), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("caller_text", Text, nullable=False),
    Column("bot_text", Text, nullable=False),
    Column("interrupted", Boolean, nullable=False),
    Column("reply_latency_ms", Integer),
    Column("heard_ms", Integer, nullable=False),
    Column("reply_ms", Integer, nullable=False),
    Column("host_ms", JSON, nullable=False),
)

campaigns = Table(
    "campaigns",
    METADATA,
    Column("campaign_id", String(32), primary_key=True),
    Column("name", String(60), nullable=False),
    Column("state", String(16), nullable=False),
    Column("why", String(32), nullable=False),  # it is paused; "" if an operator paused it
    Column("plan", Text, nullable=False),  # config.campaigns.Campaign as JSON
    Column("created_at", UtcTime, nullable=False),
    Column("resumed_at", UtcTime),
    Column("held_until", UtcTime),  # for a reason that holds for all its people alike
    Column("held_for", String(32), nullable=False, server_default=""),
    UniqueConstraint("name"),
)

contacts = Table(
    "contacts",
    METADATA,
    Column("contact_id", String(32), primary_key=True),
    Column("campaign_id", String(32), ForeignKey(campaigns.c.campaign_id), nullable=False),
    Column("number", String(16)),
    Column("zone", String(64)),
    Column("variables", JSON, nullable=False),
    Column("row", Integer, nullable=False),
    Column("n_attempts", Integer, nullable=False),  # the number of the newest one
    Column("outcome", String(32)),  # of the last attempt, or the reason of a refusal: it is over
    Column("is_refused", Boolean, nullable=False),
    Column("forgotten_at", UtcTime),
    UniqueConstraint("campaign_id", "number"),
    Index(None, "number"),
)

attempts = Table(
    "attempts",
    METADATA,
    Column("attempt_id", String(32), primary_key=True),
    Column("contact_id", String(32), ForeignKey(contacts.c.contact_id), nullable=False),
    Column("campaign_id", String(32), ForeignKey(campaigns.c.campaign_id), nullable=False),
    Column("number", String(16)),
    Column("n", Integer, nullable=False),  # from 1
    Column("state", String(16), nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("owner", String(64)),
    Column("lease_until", UtcTime),
    Column("fence", Integer, nullable=False),
    Column("committed_at", UtcTime),
    Column("unknown_at", UtcTime),
    Column("heard_at", UtcTime),  # of it, by Twilio; or asked for in vain
    Column("answered_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("call_sid", String(64)),
    Column("answered_by", String(32)),
    Column("outcome", String(16)),
    Column("reason", String(32), nullable=False),
    Column("queue_ms", Integer),
    Column("first_sound_ms", Integer),
    Column("duration_ms", Integer),
    Column("paid_minutes", Integer),
    UniqueConstraint("contact_id", "n"),
    UniqueConstraint("call_sid"),
    Index(None, "campaign_id", "state", "due_at", "attempt_id"),
    Index(None, "state"),
    Index(None, "number"),
    Index(None, "campaign_id", "ended_at"),
    Index(None, "campaign_id", "outcome", "ended_at"),
)

do_not_call = Table(
    "do_not_call",
    METADATA,
    Column("number_hash", String(64), primary_key=True),  # outlives the number
    Column("source", String(16), nullable=False),
    Column("at", UtcTime, nullable=False),
)

consents = Table(
    "consents",
    METADATA,
    Column("consent_id", String(32), primary_key=True),
    Column("number", String(16)),
    Column("purpose", String(200), nullable=False),
    Column("method", String(60), nullable=False),
    Column("source", String(200), nullable=False),
    Column("wording", Text, nullable=False),
    Column("given_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    UniqueConstraint("number", "purpose", "given_at"),
)

decisions = Table(
    "decisions",
    METADATA,
    Column("decision_id", Integer, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("campaign_id", String(32), ForeignKey(campaigns.c.campaign_id), nullable=False),
    Column("contact_id", String(32), nullable=False),
    Column("attempt_id", String(32), nullable=False),
    Column("n", Integer, nullable=False),
    Column("is_dialled", Boolean, nullable=False),
    Column("reason", String(32), nullable=False),
    Column("next_at", UtcTime),
    Index(None, "campaign_id", "decision_id"),
)

call_events = Table(
    "call_events",
    METADATA,
    Column("attempt_id", String(32), primary_key=True),
    Column("call_sid", String(64), primary_key=True),
    Column("status", String(32), primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("facts", JSON, nullable=False),
)

outbox = Table(
    "outbox",
    METADATA,
    Column("job_id", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("attempt_id", String(32), nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("n_tries", Integer, nullable=False),
    Column("done_at", UtcTime),
    UniqueConstraint("attempt_id", "kind"),
    Index(None, "done_at", "due_at"),
)

# What calls have told: the campaign's outcome fields.
findings = Table(
    "findings",
    METADATA,
    Column("attempt_id", String(32), primary_key=True),
    Column("name", String(40), primary_key=True),
    Column("value", String(60), nullable=False),
    Column("turn", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
)

# A row for each process that answers calls.
answerers = Table(
    "answerers",
    METADATA,
    Column("process", String(64), primary_key=True),
    Column("n_places", Integer, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
)

# One row for the line: when its next call may be begun.
paces = Table(
    "paces",
    METADATA,
    Column("name", String(16), primary_key=True),
    Column("next_at", UtcTime, nullable=False),
)
