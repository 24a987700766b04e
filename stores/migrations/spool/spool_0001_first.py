"""What was read from inboxes that delete what they hand out, in the order in which it was written down."""

import sqlalchemy as sa
from alembic import op

revision = "spool_0001_first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "spool",
        # AUTOINCREMENT: an id is a bookmark, so one that was forgotten must never come again.
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("platform", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("added_at", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("platform", "route", "fingerprint"),
        sqlite_autoincrement=True,
    )
    op.create_index("spool_route", "spool", ["platform", "route", "id"])
