"""Decisions as labels: what stands of the trail, one row a slide, ready for `histograde train --labels`.

The trail alone is read, not what the worklist says of it, and it has to be whole. Accepted and corrected slides have
a label; rejected ones, those on which readers differ or that wait for a second look, and undecided ones have none.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from sqlalchemy import Connection, Engine, select

from workflows.review.rows import Row, all_rows
from workflows.review.signing import act_of
from workflows.review.standing import Standing, standing_of
from workflows.review.tables import cases, entries
from workflows.review.trail import check
from workflows.review.trail_head import head_file
from wsi.errors import UsageError

COLUMNS = (
    "slide_id", "label", "patient_id", "decision", "predicted", "reader", "decided_at", "gleason", "model_id",
    "slide_sha256", "trail_entry", "trail_hash",
)  # fmt: skip
LABELLED = ("accepted", "corrected")


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Rows of a label CSV, sorted by slide_id; what was drawn on each; and how many slides were left out, by why."""

    rows: tuple[Mapping[str, Any], ...]
    drawn: tuple[tuple[Row, ...], ...]
    left_out: Mapping[str, int]


def label_table(engine: Engine, run: Path) -> LabelTable:
    """All labels that stand.

    Raises
    ------
    UsageError
        If the trail is not whole: labels from it could be anybody's.
    """
    found = check(engine, head_file(run))
    if not found.sound:
        raise UsageError(f"the trail is broken ({found.problem}): no labels are taken from it")
    with engine.connect() as connection:
        known = all_rows(connection, select(cases.c.id, cases.c.slide_id, cases.c.patient_id))
        trail = _by_case(connection)
    rows, drawn, left_out = [], [], Counter[str]()
    for case in sorted(known, key=lambda row: row["slide_id"]):
        said = trail.get(case["id"], [])
        stands = standing_of([act_of(row) for row in said])
        if stands.state in LABELLED and stands.counts is not None:
            rows.append(_label(case, stands))
            drawn.append(_drawn(said))
        else:
            left_out[_why(stands)] += 1
    return LabelTable(tuple(rows), tuple(drawn), left_out)


def _by_case(connection: Connection) -> dict[int, list[Row]]:
    rows = all_rows(connection, select(entries).order_by(entries.c.case_id, entries.c.seq))
    return {case_id: list(said) for case_id, said in groupby(rows, key=lambda row: row["case_id"])}


def _why(stands: Standing) -> str:
    if stands.state == "open":
        return "undecided"
    if stands.disagreement:
        return "disagreeing"
    return "waiting for a second look" if stands.state == "second_look" else stands.state


def _label(case: Row, stands: Standing) -> dict[str, Any]:
    assert stands.counts is not None
    entry = stands.counts.row
    said = json.loads(entry["payload"])
    readers = [act.row["full_name"] for act in stands.readings if act.grade == stands.counts.grade]
    known_patient = case["patient_id"] != case["slide_id"]  # else the run has made it up, and training should know
    return {
        "slide_id": case["slide_id"],
        "label": stands.counts.grade,
        "patient_id": case["patient_id"] if known_patient else "",
        "decision": stands.state,
        "predicted": said["predicted"],
        "reader": "; ".join(readers if stands.counts.double else [entry["full_name"]]),
        "decided_at": entry["at"],
        "gleason": "+".join(str(value) for value in said.get("gleason", {}).values()),
        "model_id": said["model_id"],
        "slide_sha256": said["slide_sha256"] or "",
        "trail_entry": entry["seq"],
        "trail_hash": entry["hash"],
    }


def region_files(table: LabelTable) -> dict[str, dict[str, Any]]:
    """GeoJSON by slide_id of the regions on labelled slides, as `evaluate --annotations` and QuPath take them."""
    return {
        row["slide_id"]: {"type": "FeatureCollection", "features": [_feature(row["slide_id"], one) for one in drawn]}
        for row, drawn in zip(table.rows, table.drawn, strict=True)
        if drawn
    }


def regions_drawn(slide_id: str, rows: Sequence[Row]) -> dict[str, Any]:
    """GeoJSON of the regions that stand after some entries of one case."""
    return {"type": "FeatureCollection", "features": [_feature(slide_id, one) for one in _drawn(rows)]}


def _drawn(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The entries of one case by which regions were drawn that nobody has taken away."""
    removed = {json.loads(row["payload"])["removes"] for row in rows if row["action"] == "remove_region"}
    return tuple(row for row in rows if row["action"] == "region" and row["seq"] not in removed)


def _feature(slide_id: str, entry: Row) -> dict[str, Any]:
    said = json.loads(entry["payload"])
    return {
        "type": "Feature",
        "id": str(uuid5(NAMESPACE_URL, f"histograde:region:{slide_id}:{entry['hash']}")),
        "geometry": said["geometry"],
        "properties": {
            "objectType": "annotation",
            "classification": {"name": said["class"]},
            **({"name": said["note"]} if said["note"] else {}),
            "metadata": {"reader": entry["full_name"], "at": entry["at"], "trail_entry": str(entry["seq"])},
        },
    }
