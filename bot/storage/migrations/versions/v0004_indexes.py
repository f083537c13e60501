"""Indexes that hold attempts and jobs in the order in which they are asked for."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make them, one in place of a shorter one."""
    op.drop_index("ix_attempts_campaign_id_state_due_at", "attempts")
    op.create_index(
        "ix_attempts_campaign_id_state_due_at_attempt_id",
        "attempts",
        ["campaign_id", "state", "due_at", "attempt_id"],
    )
    op.create_index(
        "ix_attempts_campaign_id_outcome_ended_at",
        "attempts",
        ["campaign_id", "outcome", "ended_at"],
    )
    op.create_index("ix_outbox_done_at_due_at", "outbox", ["done_at", "due_at"])


def downgrade() -> None:
    """Take them away, and make the shorter one again."""
    op.drop_index("ix_outbox_done_at_due_at", "outbox")
    op.drop_index("ix_attempts_campaign_id_outcome_ended_at", "attempts")
    op.drop_index("ix_attempts_campaign_id_state_due_at_attempt_id", "attempts")
    op.create_index(
        "ix_attempts_campaign_id_state_due_at", "attempts", ["campaign_id", "state", "due_at"]
    )
