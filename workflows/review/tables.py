"""The tables of the desk's database. Times are UTC, as ISO text that sorts; lists and objects are JSON text.

`entries` is the trail and the truth about decisions. What `cases`, `readings` and `regions` say of them follows from
it, and is kept so that a page of the worklist is one look at an index.
"""

from sqlalchemy import Boolean, Column, Double, ForeignKey, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

cases = Table(
    "cases",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("slide_id", String(255), nullable=False, unique=True),
    Column("patient_id", String(255), nullable=False),
    Column("task", String(16), nullable=False),
    Column("classes", Text, nullable=False),
    Column("probabilities", Text, nullable=False),
    Column("predicted", String(255), nullable=False),
    Column("predicted_index", Integer, nullable=False),
    Column("label", String(255), nullable=False),
    Column("confidence", Double, nullable=False),
    Column("calibrated", Boolean, nullable=False),
    Column("held", Text),
    Column("coverage", Double),
    Column("set_text", String(255), nullable=False),
    Column("urgency", Double, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("uncertainty", Double, nullable=False),
    Column("reason", Text, nullable=False),
    Column("flags", String(255), nullable=False),
    Column("tiles", Integer, nullable=False),
    Column("bad_tiles", Integer, nullable=False),
    Column("tissue_mm2", Double, nullable=False),
    Column("model_id", String(255), nullable=False),
    Column("present", Boolean, nullable=False),
    Column("proposed", Integer),
    Column("state", String(16), nullable=False),
    Column("decided_at", String(32)),
    Column("disagreement", Boolean, nullable=False),
    Index("cases_by_rank", "rank", "slide_id"),
    Index("cases_by_patient", "patient_id", "slide_id"),
    Index("cases_by_predicted", "predicted_index", "slide_id"),
    Index("cases_by_uncertainty", "uncertainty", "slide_id"),
    Index("cases_by_tissue", "tissue_mm2", "slide_id"),
    Index("cases_by_state", "state", "slide_id"),
    Index("cases_by_decision", "decided_at", "slide_id"),
)
"""One row a graded slide. `flags` are words with a space before and after each; `present` is false for a slide that
the run does not list any more; `rank` is the place by urgency and `proposed` that of `histograde select`."""

claims = Table(
    "claims",
    metadata,
    Column("case_id", Integer, ForeignKey("cases.id"), primary_key=True, autoincrement=False),
    Column("user_id", Integer, nullable=False),
    Column("full_name", String(200), nullable=False),
    Column("until", String(32), nullable=False),
)
"""Who has a case in hand, and until when that holds."""

entries = Table(
    "entries",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("case_id", Integer, ForeignKey("cases.id"), nullable=False),
    Column("slide_id", String(255), nullable=False),
    Column("user_id", Integer, nullable=False),
    Column("name", String(64), nullable=False),
    Column("full_name", String(200), nullable=False),
    Column("at", String(32), nullable=False),
    Column("action", String(16), nullable=False),
    Column("payload", Text, nullable=False),
    Column("shown", Text, nullable=False),
    Column("request_id", String(64), nullable=False, unique=True),
    Column("request_hash", String(64), nullable=False),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("entries_by_case", "case_id", "seq"),
)
"""The trail: numbered from 1 without gaps, appended to and never changed. It names slide and reader itself, so that it
stays readable alone."""

readings = Table(
    "readings",
    metadata,
    Column("case_id", Integer, ForeignKey("cases.id"), primary_key=True, autoincrement=False),
    Column("user_id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(64), nullable=False),
    Column("full_name", String(200), nullable=False),
    Column("entry", Integer, nullable=False),
    Column("action", String(16), nullable=False),
    Column("grade", String(255)),
    Column("model_id", String(255), nullable=False),
    Column("at", String(32), nullable=False),
    Index("readings_by_reader", "name", "case_id"),
)
"""The standing decision of each reader on each case."""

regions = Table(
    "regions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("case_id", Integer, ForeignKey("cases.id"), nullable=False),
    Column("user_id", Integer, nullable=False),
    Column("full_name", String(200), nullable=False),
    Column("entry", Integer, nullable=False, unique=True),
    Column("removed_by", Integer),
    Column("kind", String(16), nullable=False),
    Column("class_name", String(100), nullable=False),
    Column("geometry", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("at", String(32), nullable=False),
    Index("regions_by_case", "case_id", "id"),
)
"""What readers marked on slides; `removed_by` is the entry that took a region away again."""
