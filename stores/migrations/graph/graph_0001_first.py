"""Who is who: handles, the evidence between them, the persons that follow from it, and what changed."""

import sqlalchemy as sa
from alembic import op

revision = "graph_0001_first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "handle",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("fingerprint", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("scope", sa.Text),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("link", sa.Text, nullable=False),  # links | shared | role | blocked | invalid
        sa.Column("person_id", sa.Text),  # NULL: no evidence speaks of it any more (or none that links yet)
    )
    op.create_index("handle_person", "handle", ["person_id"])
    # Seen together, by messages and evidence records; only ever grows. a = b says that a handle was seen alone.
    op.create_table(
        "evidence",
        sa.Column("a", sa.Integer, sa.ForeignKey("handle.id"), primary_key=True, autoincrement=False),
        sa.Column("b", sa.Integer, sa.ForeignKey("handle.id"), primary_key=True, autoincrement=False),
        sa.Column("method", sa.Text, primary_key=True),
        sa.Column("strength", sa.Text, primary_key=True),
        sa.Column("first_at", sa.Text, nullable=False),
        sa.Column("last_at", sa.Text, nullable=False),
        sa.CheckConstraint("a <= b"),
        sqlite_with_rowid=False,
    )
    op.create_index("evidence_b", "evidence", ["b"])
    # The newest version of each CRM contact; its evidence is replaced with it.
    op.create_table(
        "contact",
        sa.Column("record_id", sa.Integer, sa.ForeignKey("handle.id"), primary_key=True, autoincrement=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("first_at", sa.Text, nullable=False),
        sa.Column("modified_at", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),  # live | projection | deleted
        sa.Column("handle_ids", sa.Text, nullable=False),
        sa.Column("name", sa.LargeBinary),
        sa.Column("identity_key", sa.Text),
    )
    op.create_table(
        "contact_evidence",
        sa.Column("record_id", sa.Integer, sa.ForeignKey("contact.record_id"), primary_key=True, autoincrement=False),
        sa.Column("a", sa.Integer, sa.ForeignKey("handle.id"), primary_key=True, autoincrement=False),
        sa.Column("b", sa.Integer, sa.ForeignKey("handle.id"), primary_key=True, autoincrement=False),
        sa.Column("method", sa.Text, primary_key=True),
        sa.CheckConstraint("a <= b"),
        sqlite_with_rowid=False,
    )
    op.create_index("contact_evidence_a", "contact_evidence", ["a"])
    op.create_index("contact_evidence_b", "contact_evidence", ["b"])
    # Which CRM record was merged into which; a merge is never taken back.
    op.create_table(
        "contact_merge",
        sa.Column("old_id", sa.Integer, sa.ForeignKey("handle.id"), primary_key=True, autoincrement=False),
        sa.Column("record_id", sa.Integer, sa.ForeignKey("handle.id"), primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_index("contact_merge_record", "contact_merge", ["record_id"])
    op.create_table(
        "person",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("anchor_id", sa.Integer, sa.ForeignKey("handle.id"), nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("person_anchor", "person", ["anchor_id"])
    op.create_index("person_sequence", "person", ["sequence"])
    # Links that a rule refused: both persons stay apart and somebody may look.
    op.create_table(
        "conflict",
        sa.Column("a", sa.Integer, sa.ForeignKey("handle.id"), primary_key=True, autoincrement=False),
        sa.Column("b", sa.Integer, sa.ForeignKey("handle.id"), primary_key=True, autoincrement=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.CheckConstraint("a < b"),
        sqlite_with_rowid=False,
    )
    op.create_index("conflict_b", "conflict", ["b"])
    op.create_table(
        "person_change",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("change", sa.Text, nullable=False),  # merge | split
        sa.Column("from_ids", sa.Text, nullable=False),
        sa.Column("into_id", sa.Text),
        sa.Column("handle_ids", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("changed_at", sa.Text, nullable=False),
    )
    # What a platform said of a handle: the newest value of each field.
    op.create_table(
        "observation",
        sa.Column("handle_id", sa.Integer, sa.ForeignKey("handle.id"), primary_key=True, autoincrement=False),
        sa.Column("field", sa.Text, primary_key=True),  # name | locale
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("observed_at", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "counter",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO counter (name, value) VALUES ('sequence', 0)")
    op.create_table(
        "setting",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
