"""Campaigns, their contacts and attempts, and what is decided about them."""

import sqlalchemy as sa
from alembic import op

from bot.storage.tables import UtcTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "campaigns",
        sa.Column("campaign_id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("why", sa.String(32), nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("resumed_at", UtcTime),
        sa.PrimaryKeyConstraint("campaign_id", name="pk_campaigns"),
        sa.UniqueConstraint("name", name="uq_campaigns_name"),
    )
    op.create_table(
        "contacts",
        sa.Column("contact_id", sa.String(32), nullable=False),
        sa.Column("campaign_id", sa.String(32), nullable=False),
        sa.Column("number", sa.String(16)),
        sa.Column("zone", sa.String(64)),
        sa.Column("variables", sa.JSON, nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("n_attempts", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String(32)),
        sa.Column("is_refused", sa.Boolean, nullable=False),
        sa.Column("forgotten_at", UtcTime),
        sa.PrimaryKeyConstraint("contact_id", name="pk_contacts"),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.campaign_id"], name="fk_contacts_campaign_id"
        ),
        sa.UniqueConstraint("campaign_id", "number", name="uq_contacts_campaign_id_number"),
    )
    op.create_index("ix_contacts_number", "contacts", ["number"])
    op.create_table(
        "attempts",
        sa.Column("attempt_id", sa.String(32), nullable=False),
        sa.Column("contact_id", sa.String(32), nullable=False),
        sa.Column("campaign_id", sa.String(32), nullable=False),
        sa.Column("number", sa.String(16)),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("due_at", UtcTime, nullable=False),
        sa.Column("owner", sa.String(64)),
        sa.Column("lease_until", UtcTime),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("committed_at", UtcTime),
        sa.Column("unknown_at", UtcTime),
        sa.Column("heard_at", UtcTime),
        sa.Column("answered_at", UtcTime),
        sa.Column("ended_at", UtcTime),
        sa.Column("call_sid", sa.String(64)),
        sa.Column("answered_by", sa.String(32)),
        sa.Column("outcome", sa.String(16)),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("queue_ms", sa.Integer),
        sa.Column("first_sound_ms", sa.Integer),
        sa.Column("duration_ms", sa.Integer),
        sa.Column("paid_minutes", sa.Integer),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_attempts"),
        sa.ForeignKeyConstraint(
            ["contact_id"], ["contacts.contact_id"], name="fk_attempts_contact_id"
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.campaign_id"], name="fk_attempts_campaign_id"
        ),
        sa.UniqueConstraint("contact_id", "n", name="uq_attempts_contact_id_n"),
        sa.UniqueConstraint("call_sid", name="uq_attempts_call_sid"),
    )
    op.create_index(
        "ix_attempts_campaign_id_state_due_at", "attempts", ["campaign_id", "state", "due_at"]
    )
    op.create_index("ix_attempts_state", "attempts", ["state"])
    op.create_index("ix_attempts_number", "attempts", ["number"])
    op.create_index("ix_attempts_campaign_id_ended_at", "attempts", ["campaign_id", "ended_at"])
    op.create_table(
        "do_not_call",
        sa.Column("number_hash", sa.String(64), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("number_hash", name="pk_do_not_call"),
    )
    op.create_table(
        "consents",
        sa.Column("consent_id", sa.String(32), nullable=False),
        sa.Column("number", sa.String(16)),
        sa.Column("purpose", sa.String(200), nullable=False),
        sa.Column("method", sa.String(60), nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("wording", sa.Text, nullable=False),
        sa.Column("given_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime),
        sa.Column("revoked_at", UtcTime),
        sa.PrimaryKeyConstraint("consent_id", name="pk_consents"),
        sa.UniqueConstraint(
            "number", "purpose", "given_at", name="uq_consents_number_purpose_given_at"
        ),
    )
    op.create_table(
        "decisions",
        sa.Column("decision_id", sa.Integer, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("campaign_id", sa.String(32), nullable=False),
        sa.Column("contact_id", sa.String(32), nullable=False),
        sa.Column("attempt_id", sa.String(32), nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("is_dialled", sa.Boolean, nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("next_at", UtcTime),
        sa.PrimaryKeyConstraint("decision_id", name="pk_decisions"),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.campaign_id"], name="fk_decisions_campaign_id"
        ),
    )
    op.create_index(
        "ix_decisions_campaign_id_decision_id", "decisions", ["campaign_id", "decision_id"]
    )
    op.create_table(
        "call_events",
        sa.Column("attempt_id", sa.String(32), nullable=False),
        sa.Column("call_sid", sa.String(64), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "call_sid", "status", name="pk_call_events"),
    )
    op.create_table(
        "outbox",
        sa.Column("job_id", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("attempt_id", sa.String(32), nullable=False),
        sa.Column("due_at", UtcTime, nullable=False),
        sa.Column("n_tries", sa.Integer, nullable=False),
        sa.Column("done_at", UtcTime),
        sa.PrimaryKeyConstraint("job_id", name="pk_outbox"),
        sa.UniqueConstraint("attempt_id", "kind", name="uq_outbox_attempt_id_kind"),
    )
    op.create_table(
        "findings",
        sa.Column("attempt_id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("value", sa.String(60), nullable=False),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "name", name="pk_findings"),
    )
    op.create_table(
        "paces",
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("next_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_paces"),
    )
    op.execute("INSERT INTO paces (name, next_at) VALUES ('line', '1970-01-01 00:00:00')")


def downgrade() -> None:
    """Take them away, with all they hold."""
    for name in (
        "paces",
        "findings",
        "outbox",
        "call_events",
        "decisions",
        "consents",
        "do_not_call",
        "attempts",
        "contacts",
        "campaigns",
    ):
        op.drop_table(name)
