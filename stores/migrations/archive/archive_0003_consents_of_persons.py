"""Persons say where advertising is wanted: their consents are found by the handles that made them."""

from alembic import op

revision = "archive_0003_consents_of_persons"
down_revision = "archive_0002_former_owners"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("consent_head", "consent", ["head_mark"])
