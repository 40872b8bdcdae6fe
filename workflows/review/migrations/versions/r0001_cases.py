"""Cases, claims, and the trail with what follows from it."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of cases, and forbid changes to the trail."""
    _make_cases()
    op.create_table(
        "claims",
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), primary_key=True, autoincrement=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("full_name", sa.String(200), nullable=False),
        sa.Column("until", sa.String(32), nullable=False),
    )
    _make_trail()
    _make_readings_and_regions()
    for statement in {"sqlite": SQLITE_GUARD, "postgresql": POSTGRESQL_GUARD}.get(op.get_bind().dialect.name, ()):
        op.execute(statement)


def _make_cases() -> None:
    op.create_table(
        "cases",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("slide_id", sa.String(255), nullable=False, unique=True),
        sa.Column("patient_id", sa.String(255), nullable=False),
        sa.Column("predicted", sa.String(255), nullable=False),
        sa.Column("predicted_index", sa.Integer, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("uncertainty", sa.Double, nullable=False),
        sa.Column("tissue_mm2", sa.Double, nullable=False),
        sa.Column("flags", sa.String(255), nullable=False),
        sa.Column("model_id", sa.String(255), nullable=False),
        sa.Column("present", sa.Boolean, nullable=False),
        sa.Column("proposed", sa.Integer),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("decided_at", sa.String(32)),
        sa.Column("disagreement", sa.Boolean, nullable=False),
    )
    for name, columns in INDEXES.items():
        op.create_index(f"cases_by_{name}", "cases", ["present", *columns])
    op.create_table(
        "gradings",
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), primary_key=True, autoincrement=False),
        sa.Column("graded", sa.Text, nullable=False),
    )
    op.create_table(
        "facts", sa.Column("name", sa.String(64), primary_key=True), sa.Column("value", sa.Text, nullable=False)
    )


INDEXES = {
    "rank": ("rank", "slide_id"),
    "slide": ("slide_id",),
    "patient": ("patient_id", "slide_id"),
    "predicted": ("predicted_index", "slide_id"),
    "uncertainty": ("uncertainty", "slide_id"),
    "tissue": ("tissue_mm2", "slide_id"),
    "state": ("state", "rank"),
}


def _make_trail() -> None:
    op.create_table(
        "entries",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("slide_id", sa.String(255), nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("full_name", sa.String(200), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False, unique=True),
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("entries_by_case", "entries", ["case_id", "seq"])


def _make_readings_and_regions() -> None:
    op.create_table(
        "readings",
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), primary_key=True, autoincrement=False),
        sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("full_name", sa.String(200), nullable=False),
        sa.Column("entry", sa.Integer, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("grade", sa.String(255)),
        sa.Column("model_id", sa.String(255), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_index("readings_by_reader", "readings", ["name", "case_id"])
    op.create_table(
        "regions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("full_name", sa.String(200), nullable=False),
        sa.Column("entry", sa.Integer, nullable=False, unique=True),
        sa.Column("removed_by", sa.Integer),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("class_name", sa.String(100), nullable=False),
        sa.Column("geometry", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_index("regions_by_case", "regions", ["case_id", "id"])


REFUSAL = "the trail is append-only"
SQLITE_GUARD = (
    f"CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END",
    f"CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END",
    # Also what INSERT OR REPLACE would take away: it fires no trigger of DELETE.
    "CREATE TRIGGER entries_append BEFORE INSERT ON entries "
    "WHEN NEW.seq <> (SELECT COALESCE(MAX(seq), 0) + 1 FROM entries) "
    "OR EXISTS (SELECT 1 FROM entries WHERE request_id = NEW.request_id) "
    f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END",
)
POSTGRESQL_GUARD = (
    "CREATE FUNCTION entries_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$",
    "CREATE TRIGGER entries_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON entries "
    "FOR EACH STATEMENT EXECUTE FUNCTION entries_refuse()",
    "CREATE FUNCTION entries_append() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF NEW.seq <> (SELECT COALESCE(MAX(seq), 0) + 1 FROM entries) THEN "
    f"RAISE EXCEPTION '{REFUSAL}'; END IF; RETURN NEW; END $$",
    "CREATE TRIGGER entries_append BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION entries_append()",
)
