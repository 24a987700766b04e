"""Tokens have a store of their own; the table here was never written."""

from alembic import op

revision = "control_0002_tokens_moved"
down_revision = "control_0001_first"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("token")
