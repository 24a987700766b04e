"""Rotating tokens, shared pauses of rate-limited accounts, and small facts that set-up found out."""

import sqlalchemy as sa
from alembic import op

revision = "control_0001_first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "token",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("changed_at", sa.Text, nullable=False),
    )
    op.create_table(
        "pause",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("until_epoch", sa.Float, nullable=False),
    )
    op.create_table(
        "fact",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("changed_at", sa.Text, nullable=False),
    )
