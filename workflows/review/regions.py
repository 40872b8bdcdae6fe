"""Regions that readers mark on a slide: checked, signed, and taken away by a new entry, never erased.

A geometry is GeoJSON in level-0 pixels, inside of the slide. What crosses itself is refused and not mended: the
reader sees the outline and can draw it again, and the trail holds what was drawn.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import shapely
from sqlalchemy import Connection, Engine, insert, select, update

from workflows.review.cases import slide_of
from workflows.review.claims import need_claim
from workflows.review.desk import Reader
from workflows.review.errors import DeskError
from workflows.review.provenance import evidence_of, slide_facts
from workflows.review.rows import Row, all_rows, one_row
from workflows.review.signing import Request, Signed, sign
from workflows.review.standing import Act
from workflows.review.tables import regions

Kind = Literal["polygon", "rectangle", "point"]
MOST_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class Mark:
    """What a reader drew: GeoJSON geometry in level-0 px, its kind, its class and a note."""

    geometry: Mapping[str, Any]
    kind: Kind
    class_name: str
    note: str = ""


def add_region(engine: Engine, run: Path, case_id: int, reader: Reader, request_id: str, mark: Mark) -> Signed:
    """Sign a region.

    Raises
    ------
    DeskError
        404 for no such case, 409 where it is not in the reader's hand, 422 for a geometry that cannot be.
    """
    slide_id = slide_of(engine, case_id, run).slide_id
    geometry = checked_geometry(mark, slide_size(run, slide_id))
    evidence = evidence_of(run, slide_id)
    said = {"geometry": geometry, "kind": mark.kind, "class": mark.class_name, "note": mark.note}

    def settle(connection: Connection, case: Row, acts: list[Act]) -> dict[str, Any]:
        need_claim(connection, case_id, reader)
        return {**said, "model_id": case["model_id"], **evidence}

    def follow(connection: Connection, entry: Row) -> None:
        row = {name: entry[name] for name in ("case_id", "user_id", "full_name", "at")}
        drawn = {"kind": mark.kind, "class_name": mark.class_name, "geometry": json.dumps(geometry), "note": mark.note}
        connection.execute(insert(regions).values(**row, **drawn, entry=entry["seq"]))

    return sign(engine, run, Request(case_id, reader, "region", request_id, said, {}), settle, follow)


def remove_region(engine: Engine, run: Path, case_id: int, reader: Reader, region_id: int) -> Signed:
    """Take a region away by a new entry: one's own, or with the role of a reviewer another's.

    Asked again by the same reader it gives the same entry.

    Raises
    ------
    DeskError
        403 for another reader's region, 404 for none, 409 where the case is not in the reader's hand.
    """
    with engine.connect() as connection:
        found = one_row(connection, select(regions).where(regions.c.id == region_id))
    if found is None or found["case_id"] != case_id:
        raise DeskError(404, f"case {case_id} has no region {region_id}")
    if found["user_id"] != reader.user_id and not reader.may("reviewer"):
        raise DeskError(403, "only a reviewer takes away what another reader drew")

    def settle(connection: Connection, case: Row, acts: list[Act]) -> dict[str, Any]:
        need_claim(connection, case_id, reader)
        taken = connection.execute(select(regions.c.removed_by).where(regions.c.id == region_id)).scalar()
        if taken is not None:
            raise DeskError(409, f"the region was taken away already, by entry {taken}")
        return {"removes": found["entry"]}

    def follow(connection: Connection, entry: Row) -> None:
        this = regions.c.id == region_id
        connection.execute(update(regions).where(this).values(removed_by=entry["seq"]))

    request = Request(case_id, reader, "remove_region", f"remove-region-{region_id}", {"removes": found["entry"]}, {})
    return sign(engine, run, request, settle, follow)


def regions_of(connection: Connection, case_id: int) -> list[dict[str, Any]]:
    """The regions of a case that were not taken away, in the order in which they were drawn."""
    standing = (regions.c.case_id == case_id) & regions.c.removed_by.is_(None)
    found = all_rows(connection, select(regions).where(standing).order_by(regions.c.id))
    return [
        {
            "region_id": row["id"],
            "reader": row["full_name"],
            "user_id": row["user_id"],
            "geometry": json.loads(row["geometry"]),
            "class": row["class_name"],
            **{name: row[name] for name in ("entry", "kind", "note", "at")},
        }
        for row in found
    ]


def region_of_entry(engine: Engine, seq: int) -> int:
    """The number of the region that an entry made."""
    with engine.connect() as connection:
        return int(connection.execute(select(regions.c.id).where(regions.c.entry == seq)).scalar_one())


def slide_size(run: Path, slide_id: str) -> tuple[int, int]:
    """Width and height of a slide in level-0 px, as the run knows them."""
    try:
        width, height = slide_facts(run, slide_id)["level_sizes_px"][0]
        return int(width), int(height)
    except (KeyError, IndexError, TypeError, ValueError):
        raise DeskError(409, "the run does not hold this slide's size any more; grade the slide again") from None


def checked_geometry(mark: Mark, size: tuple[int, int]) -> dict[str, Any]:
    """The geometry as plain numbers; raises `DeskError` 422 in one line if it cannot be."""
    kind = mark.geometry.get("type")
    if kind != ("Point" if mark.kind == "point" else "Polygon"):
        raise DeskError(
            422, f"a {mark.kind} is a GeoJSON {'Point' if mark.kind == 'point' else 'Polygon'}, not {kind!r}"
        )
    coordinates = mark.geometry.get("coordinates")
    rings: Any = [[coordinates]] if kind == "Point" else coordinates
    points = list(_points(rings))
    width, height = size
    for x, y in points:
        if not (0 <= x <= width and 0 <= y <= height):
            raise DeskError(422, f"({x:g}, {y:g}) is not on the slide of {width} x {height} px")
    if kind == "Polygon":
        _check_polygon(rings, mark.kind)
    return {"type": kind, "coordinates": coordinates}


def _points(rings: Any) -> Iterator[tuple[float, float]]:
    """The points of rings, if these are lists of finite pairs and not too many."""
    if not isinstance(rings, list) or not rings or not all(isinstance(ring, list) for ring in rings):
        raise DeskError(422, "a geometry has `coordinates`: [x, y], or rings of such")
    if sum(map(len, rings)) > MOST_POINTS:
        raise DeskError(422, f"a region has at most {MOST_POINTS} points; this has {sum(map(len, rings))}")
    for point in (point for ring in rings for point in ring):
        if not isinstance(point, list) or len(point) != 2 or not all(map(_is_number, point)):
            raise DeskError(422, "each point is [x, y], two finite numbers of level-0 pixels")
        yield float(point[0]), float(point[1])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12 and isfinite(value)


def _check_polygon(rings: list[list[list[float]]], kind: Kind) -> None:
    if any(len(ring) < 4 or ring[0] != ring[-1] for ring in rings):
        raise DeskError(422, "a ring has at least four points and ends where it begins")
    polygon = shapely.Polygon(rings[0], rings[1:])
    if not polygon.is_valid:
        raise DeskError(422, f"the outline cannot be an area ({shapely.is_valid_reason(polygon)}); draw it again")
    if polygon.area == 0:
        raise DeskError(422, "the outline has no area")
    if kind == "rectangle" and not polygon.equals(polygon.envelope):
        raise DeskError(422, "a rectangle has four corners and sides along the slide's; use the kind polygon")
