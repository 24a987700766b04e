"""Whose messages moved when a handle changed hands; what was erased, and what must not come back."""

import sqlalchemy as sa
from alembic import op

revision = "graph_0004_erasure"
down_revision = "graph_0003_review"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # JSON: [handle, since, until] for each handle of the change that changed hands.
    op.add_column("person_change", sa.Column("spans", sa.Text))
    # Fingerprints of what was erased: handles (between two moments), messages, conversations, replies, persons.
    op.create_table(
        "tombstone",
        sa.Column("fingerprint", sa.Text, primary_key=True),
        sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("erased_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("tombstone_erased_at", "tombstone", ["erased_at"])
    # One row per erasure. `plan` (encrypted) says what is still to do, and is emptied with the last step of ours.
    op.create_table(
        "erasure",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("person_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),  # planned | told | done
        sa.Column("asked_at", sa.Text, nullable=False),
        sa.Column("due_at", sa.Text, nullable=False),
        sa.Column("done_at", sa.Text),
        sa.Column("sequence", sa.BigInteger),  # of the change that tells it
        sa.Column("destinations", sa.Text, nullable=False),  # JSON: [crm, account] of each that wrote something
        sa.Column("counts", sa.Text, nullable=False),  # JSON: what was removed, how many
        sa.Column("plan", sa.LargeBinary),
    )
