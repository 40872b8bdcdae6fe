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
    Column("predicted", String(255), nullable=False),
    Column("predicted_index", Integer, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("uncertainty", Double, nullable=False),
    Column("tissue_mm2", Double, nullable=False),
    Column("flags", String(255), nullable=False),
    Column("model_id", String(255), nullable=False),
    Column("present", Boolean, nullable=False),
    Column("proposed", Integer),
    Column("state", String(16), nullable=False),
    Column("decided_at", String(32)),
    Column("disagreement", Boolean, nullable=False),
    Index("cases_by_rank", "present", "rank", "slide_id"),
    Index("cases_by_slide", "present", "slide_id"),
    Index("cases_by_patient", "present", "patient_id", "slide_id"),
    Index("cases_by_predicted", "present", "predicted_index", "slide_id"),
    Index("cases_by_uncertainty", "present", "uncertainty", "slide_id"),
    Index("cases_by_tissue", "present", "tissue_mm2", "slide_id"),
    Index("cases_by_state", "present", "state", "rank"),
)
"""One row a graded slide, with what the worklist is filtered and sorted by. `flags` are words with a space before and
after each; `present` is false for a slide that the run does not list any more; `rank` is the place by urgency,
`proposed` that by `histograde select`."""

gradings = Table(
    "gradings",
    metadata,
    Column("case_id", Integer, ForeignKey("cases.id"), primary_key=True, autoincrement=False),
    Column("graded", Text, nullable=False),
)
"""All else that the model says of a case, as JSON. Apart from `cases`, so that a search has little to read."""

facts = Table(
    "facts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
"""What there is one of in a database: which table of the run the cases follow."""

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
