"""How far the taps have read the deliveries, by the bookmarks that they were started with."""

import sqlalchemy as sa
from alembic import op

revision = "items_0002_positions"
down_revision = "items_0001_first"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "read_position",
        sa.Column("platform", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("reader", sa.Text, nullable=False),
        sa.Column("noted_on", sa.Text, nullable=False),
        sa.Column("delivery_id", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("platform", "route", "reader", "noted_on"),
    )
