"""What a conversation is derived from stands in the index of its messages, so that none of them has to be read."""

from alembic import op

revision = "archive_0004_facts_in_index"
down_revision = "archive_0003_consents_of_persons"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("message_conversation", "message")
    op.create_index(
        "message_conversation",
        "message",
        ["conversation_mark", "sent_at", "role", "unsent", "request_folder", "has_subject", "handles_mark",
         "message_mark"],
    )  # fmt: skip
