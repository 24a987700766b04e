"""When messages were sent, so that those of a former owner stay; and what each CRM says of what it carried out."""

import sqlalchemy as sa
from alembic import op

revision = "ledger_0002_receipts"
down_revision = "ledger_0001_first"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("message", sa.Column("sent_at", sa.Text))  # NULL: written before this was noted
    op.add_column("person_change", sa.Column("carried_out_at", sa.Text))
    op.add_column("person_change", sa.Column("counts", sa.Text))  # JSON: what was removed, how many
