"""What a conversation is derived from stands in the index of its messages, so that none of them has to be read.

In SQLite only: PostgreSQL refuses an index entry above 2,704 bytes (version 15, observed 2026-11), which a message with
160 handles would have. There the messages are read, but not sent.
"""

from alembic import op

revision = "archive_0004_facts_in_index"
down_revision = "archive_0003_consents_of_persons"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    op.drop_index("message_conversation", "message")
    op.create_index(
        "message_conversation",
        "message",
        ["conversation_mark", "sent_at", "role", "unsent", "request_folder", "has_subject", "handles_mark",
         "message_mark"],
    )  # fmt: skip
