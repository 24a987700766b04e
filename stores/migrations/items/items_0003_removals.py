"""Raw deliveries that must go because they hold what was erased: asked of the receiver, which alone writes them."""

import sqlalchemy as sa
from alembic import op

revision = "items_0003_removals"
down_revision = "items_0002_positions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "removal",
        sa.Column("delivery_id", sa.BigInteger, primary_key=True, autoincrement=False),
        # 1: nothing else is in it, so it goes at once; 0: it goes when all taps have read it.
        sa.Column("alone", sa.Integer, nullable=False),
        sa.Column("asked_at", sa.Text, nullable=False),
    )
