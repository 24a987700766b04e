"""What we wrote in a CRM: contacts, messages, the fate of replies; and which changes of persons were carried out."""

import sqlalchemy as sa
from alembic import op

revision = "ledger_0001_first"
down_revision = None
branch_labels = None
depends_on = None


def _crm_account() -> list[sa.Column[str]]:
    return [sa.Column("crm", sa.Text, primary_key=True), sa.Column("account", sa.Text, primary_key=True)]


def upgrade() -> None:
    op.create_table(
        "contact",
        *_crm_account(),
        sa.Column("person_id", sa.Text, primary_key=True),
        sa.Column("record_id", sa.Text),
        sa.Column("projection", sa.Integer, nullable=False, server_default="0"),
        sa.Column("content_hash", sa.Text),
        sa.Column("written", sa.Text, nullable=False, server_default="{}"),
        sa.Column("merged_into", sa.Text),
        sa.Column("gone", sa.Integer, nullable=False, server_default="0"),
        sa.Column("changed_at", sa.Text, nullable=False),
    )
    op.create_index("contact_by_record", "contact", ["crm", "account", "record_id"])
    op.create_table(
        "alias",
        *_crm_account(),
        sa.Column("record_id", sa.Text, primary_key=True),
        sa.Column("survivor_id", sa.Text, nullable=False),
    )
    op.create_table(
        "message",
        *_crm_account(),
        sa.Column("message", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("record_id", sa.Text),
        sa.Column("contact_id", sa.Text),
        sa.Column("person_id", sa.Text),
        sa.Column("handle", sa.Text),
        sa.Column("conversation", sa.Text),
        sa.Column("content_hash", sa.Text),
        sa.Column("kept", sa.LargeBinary),
        sa.Column("changed_at", sa.Text, nullable=False),
    )
    op.create_index("message_by_person", "message", ["crm", "account", "person_id"])
    op.create_index("message_by_contact", "message", ["crm", "account", "contact_id"])
    op.create_index("message_by_state", "message", ["crm", "account", "state"])
    op.create_table(
        "message_change",
        *_crm_account(),
        sa.Column("message", sa.Text, primary_key=True),
        sa.Column("change", sa.Text, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table("person_change", *_crm_account(), sa.Column("sequence", sa.Integer, primary_key=True))
    op.create_table(
        "reply",
        *_crm_account(),
        sa.Column("reply", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
    )
