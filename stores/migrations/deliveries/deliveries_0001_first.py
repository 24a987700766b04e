"""Raw webhook deliveries, as they came; written by the receiver alone."""

import sqlalchemy as sa
from alembic import op

revision = "deliveries_0001_first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("platform", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("received_at", sa.Text, nullable=False),
        sa.Column("headers", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.UniqueConstraint("platform", "route", "fingerprint"),
        # An id is a tap's bookmark: without AUTOINCREMENT, SQLite reuses the highest one after its row was purged.
        sqlite_autoincrement=True,
    )
    op.create_index("delivery_route", "delivery", ["platform", "route", "id"])
