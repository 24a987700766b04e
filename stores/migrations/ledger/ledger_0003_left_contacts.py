"""Contacts that we made and that are nobody's any more: an erasure has to reach them too."""

import sqlalchemy as sa
from alembic import op

revision = "ledger_0003_left_contacts"
down_revision = "ledger_0002_receipts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "left_contact",
        sa.Column("crm", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("person_id", sa.Text, primary_key=True),
        sa.Column("record_id", sa.Text, primary_key=True),
    )
