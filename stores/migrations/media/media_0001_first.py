"""Which files of messages are stored, and which messages use them."""

import sqlalchemy as sa
from alembic import op

revision = "media_0001_first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "media",
        sa.Column("media_key", sa.Text, primary_key=True),
        sa.Column("facts", sa.LargeBinary, nullable=False),
        sa.Column("stored_at", sa.Text, nullable=False),
    )
    op.create_table(
        "media_use",
        sa.Column("message", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("media_key", sa.Text),
        sa.Column("used_at", sa.Text, nullable=False),
    )
    op.create_index("media_use_media_key", "media_use", ["media_key"])
    op.create_index("media_use_used_at", "media_use", ["used_at"])
