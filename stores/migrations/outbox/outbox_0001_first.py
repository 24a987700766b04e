"""Replies on their way to customers."""

import sqlalchemy as sa
from alembic import op

revision = "outbox_0001_first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reply",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("token", sa.Text, nullable=False, unique=True),
        sa.Column("moment", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("person_id", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("channel", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before_epoch", sa.Float, nullable=False),
        sa.Column("outcome", sa.LargeBinary),
        sa.Column("code", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("queued_at", sa.Text, nullable=False),
        sa.Column("changed_at", sa.Text, nullable=False),
        sa.Column("told", sa.Integer, nullable=False),
    )
    op.create_index("reply_state", "reply", ["state", "not_before_epoch"])
    op.create_index("reply_moment", "reply", ["moment"])
    op.create_index("reply_told", "reply", ["told"])
