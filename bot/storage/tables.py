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

__all__ = ["METADATA", "UtcTime", "calls", "turns"]


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
