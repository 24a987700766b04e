"""What waits for somebody to look at it: suggested pairs, and pairs that were put off."""

import sqlalchemy as sa
from alembic import op

revision = "graph_0003_review"
down_revision = "graph_0002_decisions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # One row per pair of handles that stand for two persons. What is decided is told by `decision`, not here.
    op.create_table(
        "review",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("a", sa.Integer, sa.ForeignKey("handle.id"), nullable=False),
        sa.Column("b", sa.Integer, sa.ForeignKey("handle.id"), nullable=False),
        sa.Column("score", sa.Float),  # a suggestion's probability; NULL: only put off
        sa.Column("model", sa.Text),  # which model gave it
        sa.Column("details", sa.LargeBinary),  # encrypted: what agrees, what does not, and their weights
        sa.Column("suggested_at", sa.Text),
        sa.Column("later_at", sa.Text),  # put off; comes last from then on
        sa.Column("later_by", sa.LargeBinary),
        sa.CheckConstraint("a < b"),
        sa.UniqueConstraint("a", "b"),
    )
    op.create_index("review_b", "review", ["b"])
