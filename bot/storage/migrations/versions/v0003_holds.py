"""Until when a campaign waits as a whole, and for what; who answers its calls."""

import sqlalchemy as sa
from alembic import op

from bot.storage.tables import UtcTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add columns and table; no campaign waits."""
    op.add_column("campaigns", sa.Column("held_until", UtcTime))
    op.add_column(
        "campaigns", sa.Column("held_for", sa.String(32), nullable=False, server_default="")
    )
    op.create_table(
        "answerers",
        sa.Column("process", sa.String(64), nullable=False),
        sa.Column("n_places", sa.Integer, nullable=False),
        sa.Column("seen_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("process", name="pk_answerers"),
    )


def downgrade() -> None:
    """Take them away: what holds a campaign is found out again."""
    op.drop_table("answerers")
    op.drop_column("campaigns", "held_for")
    op.drop_column("campaigns", "held_until")
