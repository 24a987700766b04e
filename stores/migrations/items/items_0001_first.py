"""Which events were seen, where first, and by what: the memory that tells a repeat from something new."""

import sqlalchemy as sa
from alembic import op

revision = "items_0001_first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "item",
        sa.Column("fingerprint", sa.Text, primary_key=True),
        sa.Column("platform", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("first_ref", sa.Text, nullable=False),
        sa.Column("first_seen_by", sa.Text, nullable=False),
        sa.Column("platform_time", sa.Text),
        sa.Column("delivery_id", sa.BigInteger),
        sa.Column("poll_pass", sa.BigInteger),
        sa.Column("recorded_at", sa.Text, nullable=False),
    )
    op.create_index("item_recorded", "item", ["recorded_at"])
    op.create_index("item_kind", "item", ["platform", "kind"])
    op.create_index(
        "item_missed", "item", ["platform"], sqlite_where=sa.text("delivery_id IS NULL"),
        postgresql_where=sa.text("delivery_id IS NULL"),
    )  # fmt: skip
