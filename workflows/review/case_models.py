"""What the routes of cases take and give, for the checks of requests and for the OpenAPI page."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from workflows.review.case_query import State
from workflows.review.decisions import Action
from workflows.review.regions import Kind

NO_CONTROLS = r"^[^\x00-\x08\x0b-\x1f\x7f]*$"
"""Tabs and line ends may be in a text, other control characters may not."""

Line = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
Words = Annotated[str, StringConstraints(max_length=10_000, pattern=NO_CONTROLS)]
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$")
]
Pattern = Annotated[int, Field(ge=3, le=5)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
RowId = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Asked(BaseModel):
    """A request's body: what is not known is refused, so that a misspelled word is not lost in silence."""

    model_config = ConfigDict(extra="forbid")


class Gleason(Asked):
    primary: Pattern
    secondary: Pattern
    tertiary: Pattern | None = None

    @property
    def patterns(self) -> tuple[int, ...]:
        """The patterns that were given, in their order."""
        return tuple(one for one in (self.primary, self.secondary, self.tertiary) if one is not None)


class Shown(Asked):
    """What was before the reader's eyes: the map, from which value on, how opaque, and the view."""

    map: Line | None = None
    threshold: Finite | None = None
    opacity: Finite | None = None
    view: dict[Line, Finite] | None = Field(default=None, max_length=16)


class DecisionBody(Asked):
    request_id: UUID
    action: Action
    grade: Line | None = None
    gleason: Gleason | None = None
    reason: Words = ""
    comment: Words = ""
    undoes: RowId | None = None
    shown: Shown = Shown()
    password: Annotated[str, StringConstraints(max_length=1024)] | None = None


class RegionBody(Asked):
    request_id: UUID
    geometry: dict[str, Any] = Field(max_length=8)
    kind: Kind
    class_name: Name = Field(alias="class")
    note: Words = ""


class SetOfClasses(BaseModel):
    held: list[str]
    coverage: float


class SignedDecision(BaseModel):
    reader: str
    entry: int
    action: str
    grade: str | None
    model_id: str
    at: str


class CaseRow(BaseModel):
    """A case in the worklist. `patient_id` is null for readers who may not see it."""

    case_id: int
    slide_id: str
    patient_id: str | None
    rank: int
    predicted: str
    label: str
    confidence: float
    probabilities: list[float]
    calibrated: bool
    set: SetOfClasses | None
    set_text: str
    urgency: float
    uncertainty: float
    reason: str
    flags: list[str]
    tiles: int
    bad_tiles: int
    tissue_mm2: float
    model_id: str
    state: State
    decided_at: str | None
    disagreement: bool
    proposed: int | None
    claimed_by: str | None
    claimed_by_me: bool
    decisions: list[SignedDecision]


class CaseList(BaseModel):
    total: int
    offset: int
    counts: dict[str, int]
    cases: list[CaseRow]


class MarkedRegion(BaseModel):
    region_id: int
    reader: str
    mine: bool
    geometry: dict[str, Any]
    kind: Kind
    class_name: str = Field(serialization_alias="class")
    note: str
    entry: int
    at: str


class Sibling(BaseModel):
    case_id: int
    slide_id: str


class Position(BaseModel):
    previous: int | None
    next: int | None


class CaseDetail(CaseRow):
    classes: list[str]
    labels: list[str]
    regions: list[MarkedRegion]
    siblings: list[Sibling]
    position: Position


class NextCase(BaseModel):
    case_id: int


class Claimed(BaseModel):
    until: str


class SignedEntry(BaseModel):
    """The number of the new entry in the trail, its time and hash, and the state of the case now."""

    entry: int
    at: str
    hash: str
    state: State


class SignedRegion(SignedEntry):
    region_id: int


class TrailEntry(BaseModel):
    entry: int
    at: str
    reader: str
    action: str
    payload: dict[str, Any]
    shown: dict[str, Any]
    hash: str
    previous_hash: str


class TrailCheck(BaseModel):
    """`entries` are sound from the first on; `broken` is the first that is not, and `problem` says why."""

    entries: int
    sound: bool
    broken: int | None = None
    problem: str = ""


class ModelFacts(BaseModel):
    id: str
    name: str
    task: Literal["grade", "class"]
    classes: list[str]
    labels: list[str]
    calibrated: bool
    calibration: str
    coverage: float | None
    sets: str
    evidence: str
    limits: list[str]


class RunFacts(BaseModel):
    name: str
    model: ModelFacts
    states: dict[str, int]
    double_reading: bool
    disclaimer: str
