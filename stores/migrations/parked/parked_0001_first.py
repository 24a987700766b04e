"""What could not be understood or written, with the reason."""

import sqlalchemy as sa
from alembic import op

revision = "parked_0001_first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "parked",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("part", sa.Text, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("raw_ref", sa.Text),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("replay_sequence", sa.BigInteger),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("parked_at", sa.Text, nullable=False),
        sa.Column("changed_at", sa.Text, nullable=False),
        sa.UniqueConstraint("part", "stream", "fingerprint"),
    )
    op.create_index("parked_status", "parked", ["part", "status"])
