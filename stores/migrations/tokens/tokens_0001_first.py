"""Credentials that are replaced when they are used, and whether a replacement is under way."""

import sqlalchemy as sa
from alembic import op

revision = "tokens_0001_first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "token",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("configured_fingerprint", sa.Text),
        sa.Column("put_fingerprint", sa.Text),
        sa.Column("refreshing_since", sa.Text),
        sa.Column("refreshed_at", sa.Text),
        sa.Column("changed_at", sa.Text, nullable=False),
    )
