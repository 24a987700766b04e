"""All anchors that a person's id ever had, so that it goes back to where it was when that is possible again."""

import sqlalchemy as sa
from alembic import op

revision = "graph_0005_anchors"
down_revision = "graph_0004_erasure"
branch_labels = None
depends_on = None

_START = -(2**62)


def upgrade() -> None:
    # Numbers anchors in the order in which they came to be; of persons older than this column, 0.
    op.add_column("person", sa.Column("claimed", sa.BigInteger, nullable=False, server_default="0"))
    # From when on the handle was this person's, in microseconds; before that it was somebody else's.
    op.add_column("person", sa.Column("since", sa.BigInteger, nullable=False, server_default=str(_START)))
    # 1: the handle holds the id also as a line of its own, which links nothing.
    op.add_column("person", sa.Column("alone", sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE person SET alone = 1 WHERE anchor_id IN (SELECT id FROM handle WHERE link <> 'links')")
    op.execute(
        "UPDATE person SET since = (SELECT MAX(c.since) FROM cut c WHERE c.handle_id = person.anchor_id)"
        " WHERE anchor_id IN (SELECT handle_id FROM cut)"
    )
    op.execute(
        "UPDATE person SET since = COALESCE((SELECT MAX(c.since) FROM cut o JOIN cut c ON c.handle_id = o.handle_id"  # noqa: S608 (our number)
        f" AND c.since < o.since WHERE o.old_id = person.anchor_id), {_START})"
        " WHERE anchor_id IN (SELECT old_id FROM cut)"
    )
    # The anchors of a person beside that in `person`, which holds the id at present.
    op.create_table(
        "other_anchor",
        sa.Column("person_id", sa.Text, sa.ForeignKey("person.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("claimed", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("handle_id", sa.Integer, sa.ForeignKey("handle.id"), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("alone", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("other_anchor_handle", "other_anchor", ["handle_id"])
