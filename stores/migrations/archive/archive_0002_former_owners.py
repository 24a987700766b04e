"""Handles that changed hands, and the conversations that are therefore two."""

import sqlalchemy as sa
from alembic import op

revision = "archive_0002_former_owners"
down_revision = "archive_0001_first"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What was sent from a handle before `since`, and after the cut before, was its former owner's.
    op.create_table(
        "cut",
        sa.Column("handle_mark", sa.Text, primary_key=True),
        sa.Column("since", sa.Text, primary_key=True),
    )
    # The part of a conversation (`base_mark`) that a former owner had until `since`; `body` holds its key.
    op.create_table(
        "conversation_part",
        sa.Column("conversation_mark", sa.Text, primary_key=True),
        sa.Column("base_mark", sa.Text, nullable=False),
        sa.Column("since", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("conversation_part_base", "conversation_part", ["base_mark"])
