"""What people decided about who is who, handles that changed hands, who wrote last; times of evidence as numbers."""

import sqlalchemy as sa
from alembic import op

revision = "graph_0002_decisions"
down_revision = "graph_0001_first"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "decision",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.Text, nullable=False),  # same | different | shared | private | recycled
        sa.Column("a", sa.Integer, sa.ForeignKey("handle.id"), nullable=False),
        sa.Column("b", sa.Integer, sa.ForeignKey("handle.id")),
        sa.Column("since", sa.BigInteger),  # recycled: from when on somebody else has the handle
        sa.Column("actor", sa.LargeBinary, nullable=False),
        sa.Column("reason", sa.LargeBinary),
        sa.Column("decided_at", sa.Text, nullable=False),
        sa.Column("revoked_at", sa.Text),
        sa.Column("revoked_by", sa.LargeBinary),
    )
    op.create_index("decision_a", "decision", ["a"])
    op.create_index("decision_b", "decision", ["b"])
    # A handle that changed hands: what was seen of `handle_id` before `since`, and after the cut before, is `old_id`'s.
    op.create_table(
        "cut",
        sa.Column("handle_id", sa.Integer, sa.ForeignKey("handle.id"), primary_key=True, autoincrement=False),
        sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("old_id", sa.Integer, sa.ForeignKey("handle.id"), nullable=False, unique=True),
        sqlite_with_rowid=False,
    )
    # Read whether another process wrote since: what is remembered of the graph is then looked up again.
    op.execute("INSERT INTO counter (name, value) VALUES ('generation', 0)")
    # Microseconds since 1970: a sixth of the time that text takes to make, and a third of its size.
    for table, columns in (
        ("evidence", ("first_at", "last_at")),
        ("contact", ("first_at",)),
        ("observation", ("observed_at",)),
    ):
        for column in columns:
            op.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO {column}_text")
            op.execute(f"ALTER TABLE {table} ADD COLUMN {column} BIGINT NOT NULL DEFAULT 0")
            op.execute(f"UPDATE {table} SET {column} = {_microseconds(column + '_text')}")  # noqa: S608 (our names)
            op.execute(f"ALTER TABLE {table} DROP COLUMN {column}_text")


def _microseconds(column: str) -> str:
    if op.get_bind().dialect.name == "sqlite":
        seconds = f"CAST(strftime('%s', {column}) AS INTEGER)"
        return f"{seconds} * 1000000 + CAST(substr({column}, 21, 6) AS INTEGER)"
    return f"CAST(extract(epoch from CAST({column} AS timestamptz)) * 1000000 AS BIGINT)"
