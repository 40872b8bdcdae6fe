"""The routes of cases: the worklist, a case, who has it in hand, decisions, regions, the trail.

No part of a request becomes a path: a case is asked for by its number, and the database knows its slide.
"""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from workflows.gradings import class_labels, load_model
from workflows.review import claims, regions, trail
from workflows.review.case_models import (
    CaseDetail,
    CaseList,
    Claimed,
    DecisionBody,
    NextCase,
    RegionBody,
    RunFacts,
    SignedEntry,
    SignedRegion,
    TrailCheck,
    TrailEntry,
)
from workflows.review.case_query import (
    MOST_ROWS,
    Order,
    Sort,
    State,
    count_states,
    find_cases,
    neighbours,
    next_case,
    siblings,
)
from workflows.review.case_query import Query as CaseQuery
from workflows.review.cases import case_row, describe, seen_by
from workflows.review.decisions import Decision, decide
from workflows.review.desk import Asking, Reader, address_of, desk_of, require
from workflows.review.errors import problems
from workflows.review.flags import Flag
from workflows.review.signature import check_signature
from workflows.review.signing import Signed
from workflows.review.trail_head import head_file

router = APIRouter(prefix="/api", tags=["cases"], responses=problems(401, 403, 422))

Case = Annotated[int, Path(ge=1, le=2**31 - 1, description="Number of a case.")]
Search = Annotated[str, Query(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$", description="Part of a name.")]
DISCLAIMER = "Research use only. Not a medical device."


@router.get("/run")
def run_facts(request: Request, reader: Asking) -> RunFacts:
    """The run that is on the desk: its model, and how many cases are in each state."""
    desk = desk_of(request)
    model = load_model(desk.run)
    with desk.engine.connect() as connection:
        states = count_states(connection)
    facts = {name: getattr(model, name) for name in ("name", "task", "classes", "calibrated", "calibration", "limits")}
    said = {**facts, "coverage": model.coverage, "sets": model.sets, "evidence": model.evidence}
    return RunFacts.model_validate(
        {
            "name": desk.run.name,
            "model": {"id": model.model_id, "labels": model.class_labels, **said},
            "states": states,
            "double_reading": desk.settings.double_reading,
            "disclaimer": DISCLAIMER,
        }
    )


@router.get("/cases")
def worklist(
    request: Request,
    reader: Asking,
    q: Search = "",
    state: State | None = None,
    predicted: Annotated[str | None, Query(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")] = None,
    flag: Flag | None = None,
    reader_name: Annotated[str | None, Query(alias="reader", max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")] = None,
    sort: Sort = "urgency",
    order: Order | None = None,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
) -> CaseList:
    """A page of the worklist. `counts` are of all states, whatever `state` is."""
    desk = desk_of(request)
    request.app.state.arrivals.look()
    query = CaseQuery(q, state, predicted, flag, reader_name, sort, order, offset, limit)
    with desk.engine.connect() as connection:
        page = find_cases(connection, query, reader)
        rows = describe(connection, page.rows, reader, desk.settings.double_reading)
    return CaseList.model_validate({"total": page.total, "offset": offset, "counts": page.counts, "cases": rows})


@router.get("/cases/next", responses={204: {"description": "No case waits."}}, response_model=NextCase)
def next_one(
    request: Request, reader: Asking, after: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None
) -> NextCase | Response:
    """The most urgent case that waits for this reader and that nobody has in hand, behind `after` first."""
    with desk_of(request).engine.connect() as connection:
        found = next_case(connection, reader, after)
    return Response(status_code=204) if found is None else NextCase(case_id=found)


@router.get("/cases/{case_id}", responses=problems(404))
def one_case(request: Request, reader: Asking, case_id: Case) -> CaseDetail:
    """One case with its regions, the other slides of its patient, and its neighbours by urgency."""
    desk = desk_of(request)
    with desk.engine.connect() as connection:
        row = case_row(connection, case_id)
        (shown,) = describe(connection, [row], reader, desk.settings.double_reading)
        others = seen_by(connection, case_id, reader, desk.settings.double_reading)
        previous, following = neighbours(connection, row)
        classes = tuple(row["graded"]["classes"])
        more = {
            "classes": classes,
            "labels": class_labels(row["graded"]["task"], classes),
            "regions": [
                one | {"class_name": one["class"], "mine": one["user_id"] == reader.user_id}
                for one in regions.regions_of(connection, case_id)
                if others or one["user_id"] == reader.user_id
            ],
            "siblings": [{"case_id": one["id"], "slide_id": one["slide_id"]} for one in siblings(connection, row)],
            "position": {"previous": previous, "next": following},
        }
    return CaseDetail.model_validate(shown | more)


@router.post("/cases/{case_id}/claim", responses=problems(404, 409))
def claim_case(request: Request, reader: Asking, case_id: Case) -> Claimed:
    """Take a case in hand, or keep it for another lease."""
    return Claimed(until=claims.claim(desk_of(request).engine, case_id, reader))


@router.delete("/cases/{case_id}/claim", status_code=204)
def release_case(request: Request, reader: Asking, case_id: Case) -> None:
    """Put a case back; another reader's claim stays."""
    claims.release(desk_of(request).engine, case_id, reader)


@router.post("/cases/{case_id}/decisions", status_code=201, responses=problems(404, 409, 429))
def decide_case(request: Request, reader: Asking, case_id: Case, body: DecisionBody) -> SignedEntry:
    """Sign a decision. The same request again gives the same entry; once answered it is on the disk."""
    desk = desk_of(request)
    check_signature(desk, reader, body.password, address_of(request))
    gleason = body.gleason.patterns if body.gleason else None
    decision = Decision(body.action, body.grade, gleason, body.reason, body.comment, body.undoes)
    shown = body.shown.model_dump(exclude_none=True)
    double = desk.settings.double_reading
    signed = decide(desk.engine, desk.run, case_id, reader, str(body.request_id), decision, shown, double)
    return SignedEntry.model_validate(_signed(signed))


@router.post("/cases/{case_id}/regions", status_code=201, responses=problems(404, 409))
def add_region(request: Request, reader: Asking, case_id: Case, body: RegionBody) -> SignedRegion:
    """Mark a region: GeoJSON in level-0 pixels."""
    desk = desk_of(request)
    mark = regions.Mark(body.geometry, body.kind, body.class_name, body.note)
    signed = regions.add_region(desk.engine, desk.run, case_id, reader, str(body.request_id), mark)
    region_id = regions.region_of_entry(desk.engine, signed.entry["seq"])
    return SignedRegion.model_validate(_signed(signed) | {"region_id": region_id})


@router.delete("/cases/{case_id}/regions/{region_id}", responses=problems(404, 409))
def remove_region(request: Request, reader: Asking, case_id: Case, region_id: Case) -> SignedEntry:
    """Take a region away: a new entry, nothing is erased."""
    desk = desk_of(request)
    return SignedEntry.model_validate(_signed(regions.remove_region(desk.engine, desk.run, case_id, reader, region_id)))


@router.get("/cases/{case_id}/trail", responses=problems(404))
def case_trail(request: Request, reader: Asking, case_id: Case) -> list[TrailEntry]:
    """What was done to a case. With double reading, only by the reader until the reader has decided."""
    desk = desk_of(request)
    with desk.engine.connect() as connection:
        case_row(connection, case_id)
        others = seen_by(connection, case_id, reader, desk.settings.double_reading)
        rows = [row for row in trail.of_case(connection, case_id) if others or row["user_id"] == reader.user_id]
    return [TrailEntry.model_validate(_entry(row)) for row in rows]


@router.get("/trail/check")
def check_trail(request: Request, reader: Annotated[Reader, Depends(require("reviewer"))]) -> TrailCheck:
    """Walk the whole trail and say whether it is whole, or which entry is the first that is not."""
    desk = desk_of(request)
    found = trail.check(desk.engine, head_file(desk.run))
    return TrailCheck(entries=found.entries, sound=found.sound, broken=found.first_broken, problem=found.problem)


def _signed(signed: Signed) -> dict[str, Any]:
    entry = signed.entry
    return {"entry": entry["seq"], "at": entry["at"], "hash": entry["hash"], "state": signed.state}


def _entry(row: Any) -> dict[str, Any]:
    same = {name: row[name] for name in ("at", "action", "hash", "previous_hash")}
    said = {name: json.loads(row[name]) for name in ("payload", "shown")}
    return {"entry": row["seq"], "reader": row["full_name"], **same, **said}
