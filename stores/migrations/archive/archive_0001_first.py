"""The archive: what was said, what became of it, and what follows for conversations and persons.

Ids and addresses are fingerprints, records are encrypted; plain are only times, kinds and our own person ids.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "archive_0001_first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "counter",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "message",
        sa.Column("message_mark", sa.Text, primary_key=True),
        *_exported(),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("status", sa.Text),
        sa.Column("sent_at", sa.Text, nullable=False),
        sa.Column("unsent", sa.Integer, nullable=False),
        sa.Column("request_folder", sa.Integer, nullable=False),
        sa.Column("has_subject", sa.Integer, nullable=False),
        sa.Column("conversation_mark", sa.Text, nullable=False),
        sa.Column("head_mark", sa.Text),
        sa.Column("handles_mark", sa.Text, nullable=False),
        sa.Column("token_mark", sa.Text),
    )
    op.create_index("message_sequence", "message", ["sequence"])
    op.create_index("message_conversation", "message", ["conversation_mark", "sent_at"])
    op.create_index("message_token", "message", ["token_mark"])
    op.create_table(
        "message_change",
        sa.Column("change_mark", sa.Text, primary_key=True),
        *_exported(),
        sa.Column("message_mark", sa.Text, nullable=False),
        sa.Column("head_mark", sa.Text),
    )
    op.create_index("message_change_sequence", "message_change", ["sequence"])
    op.create_index("message_change_message", "message_change", ["message_mark"])
    op.create_table(
        "receipt",
        sa.Column("receipt_mark", sa.Text, primary_key=True),
        *_exported(),
        sa.Column("subject_mark", sa.Text, nullable=False),
        sa.Column("subject_kind", sa.Text, nullable=False),
        sa.Column("token_mark", sa.Text),
    )
    op.create_index("receipt_sequence", "receipt", ["sequence"])
    op.create_index("receipt_subject", "receipt", ["subject_mark"])
    op.create_index("receipt_token", "receipt", ["token_mark"])
    op.create_table(
        "watermark",
        sa.Column("conversation_mark", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, primary_key=True),
        sa.Column("up_to_at", sa.Text, primary_key=True),
        sa.Column("occurred_at", sa.Text, nullable=False),
    )
    op.create_table(
        "mail_node",
        sa.Column("node_mark", sa.Text, primary_key=True),
        sa.Column("set_mark", sa.Text, nullable=False),
        sa.Column("starts", sa.Integer, nullable=False),
        sa.Column("follows", sa.Integer, nullable=False),
        sa.Column("thread_id", sa.LargeBinary, nullable=False),
    )
    op.create_index("mail_node_set", "mail_node", ["set_mark"])
    op.create_table(
        "mail_thread",
        sa.Column("set_mark", sa.Text, primary_key=True),
        sa.Column("conversation_mark", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("mail_thread_conversation", "mail_thread", ["conversation_mark"])
    op.create_table(
        "conversation",
        sa.Column("conversation_mark", sa.Text, primary_key=True),
        *_exported(),
        sa.Column("first_sequence", sa.BigInteger, nullable=False),
        sa.Column("message_count", sa.Integer, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("person_id", sa.Text),
        sa.Column("head_mark", sa.Text),
        sa.Column("unanswered_since", sa.Text),
        sa.Column("last_at", sa.Text),
    )
    op.create_index("conversation_sequence", "conversation", ["sequence"])
    op.create_index("conversation_person", "conversation", ["person_id"])
    op.create_index("conversation_head", "conversation", ["head_mark"])
    op.create_index("conversation_unanswered", "conversation", ["unanswered_since"])
    op.create_table(
        "person",
        sa.Column("person_id", sa.Text, primary_key=True),
        *_exported(),
        sa.Column("in_graph", sa.Integer, nullable=False),
        sa.Column("unanswered_since", sa.Text),
        sa.Column("last_at", sa.Text),
    )
    op.create_index("person_sequence", "person", ["sequence"])
    op.create_index("person_unanswered", "person", ["unanswered_since"])
    op.create_table(
        "person_change",
        sa.Column("graph_sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        *_exported(),
    )
    op.create_index("person_change_sequence", "person_change", ["sequence"])
    op.create_table(
        "handle",
        sa.Column("handle_mark", sa.Text, primary_key=True),
        sa.Column("value_mark", sa.Text, nullable=False),
        sa.Column("person_id", sa.Text),
        sa.Column("stamp", sa.Text),
        sa.Column("graph_sequence", sa.BigInteger),
    )
    op.create_index("handle_value", "handle", ["value_mark"])
    op.create_index("handle_person", "handle", ["person_id"])
    op.create_table(
        "name_word",
        sa.Column("word_mark", sa.Text, primary_key=True),
        sa.Column("handle_mark", sa.Text, primary_key=True),
    )
    op.create_index("name_word_handle", "name_word", ["handle_mark"])
    op.create_table(
        "consent",
        sa.Column("consent_mark", sa.Text, primary_key=True),
        *_exported(),
        sa.Column("head_mark", sa.Text, nullable=False),
    )
    op.create_index("consent_sequence", "consent", ["sequence"])
    op.create_table(
        "consent_decision",
        sa.Column("decision_mark", sa.Text, primary_key=True),
        sa.Column("consent_mark", sa.Text, nullable=False),
        sa.Column("decided_at", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("consent_decision_consent", "consent_decision", ["consent_mark", "decided_at"])
    op.create_table(
        "contact",
        sa.Column("contact_mark", sa.Text, primary_key=True),
        *_exported(),
        sa.Column("merged", sa.Integer, nullable=False),
        sa.Column("head_mark", sa.Text),
    )
    op.create_index("contact_sequence", "contact", ["sequence"])
    op.create_index("contact_head", "contact", ["head_mark"])
    op.create_table(
        "contact_merge",
        sa.Column("contact_mark", sa.Text, primary_key=True),
        sa.Column("into_mark", sa.Text, primary_key=True),
    )


def _exported() -> tuple[sa.Column[Any], ...]:
    """What every exported row has: its place in the sequence, what it said last, and the encrypted record."""
    return (
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("content_mark", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
