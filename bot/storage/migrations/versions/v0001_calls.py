"""Calls and their turns."""

import sqlalchemy as sa
from alembic import op

from bot.storage.tables import UtcTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "calls",
        sa.Column("record_id", sa.String(32), nullable=False),
        sa.Column("call_sid", sa.String(64), nullable=False),
        sa.Column("retry", sa.Integer, nullable=False),
        sa.Column("direction", sa.String(8), nullable=False),
        sa.Column("person", sa.String(16)),
        sa.Column("line", sa.String(16)),
        sa.Column("persona", sa.String(200), nullable=False),
        sa.Column("began_at", UtcTime, nullable=False),
        sa.Column("ended_at", UtcTime),
        sa.Column("reason", sa.String(32)),
        sa.Column("detail", sa.String(200), nullable=False),
        sa.Column("duration_ms", sa.Integer),
        sa.Column("n_turns", sa.Integer),
        sa.Column("n_interruptions", sa.Integer),
        sa.Column("heard_ms", sa.Integer),
        sa.Column("recording", sa.Text),
        sa.Column("forgotten_at", UtcTime),
        sa.PrimaryKeyConstraint("record_id", name="pk_calls"),
        sa.UniqueConstraint("call_sid", "retry", name="uq_calls_call_sid_retry"),
    )
    op.create_index("ix_calls_person", "calls", ["person"])
    op.create_index("ix_calls_began_at", "calls", ["began_at"])
    op.create_table(
        "turns",
        sa.Column("record_id", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("caller_text", sa.Text, nullable=False),
        sa.Column("bot_text", sa.Text, nullable=False),
        sa.Column("interrupted", sa.Boolean, nullable=False),
        sa.Column("reply_latency_ms", sa.Integer),
        sa.Column("heard_ms", sa.Integer, nullable=False),
        sa.Column("reply_ms", sa.Integer, nullable=False),
        sa.Column("host_ms", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("record_id", "number", name="pk_turns"),
        sa.ForeignKeyConstraint(["record_id"], ["calls.record_id"], name="fk_turns_record_id"),
    )


def downgrade() -> None:
    """Take them away, with all they hold."""
    op.drop_table("turns")
    op.drop_table("calls")
