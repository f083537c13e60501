"""Until when a campaign waits as a whole, and for what."""

import sqlalchemy as sa
from alembic import op

from bot.storage.tables import UtcTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; no campaign waits."""
    op.add_column("campaigns", sa.Column("held_until", UtcTime))
    op.add_column(
        "campaigns", sa.Column("held_for", sa.String(32), nullable=False, server_default="")
    )


def downgrade() -> None:
    """Take them away: what holds a campaign is found out again."""
    op.drop_column("campaigns", "held_for")
    op.drop_column("campaigns", "held_until")
