"""Regions on a slide: which geometries can be, and how they come and go."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from tests.workflows.review.case_desks import ANNA, BEN, CLARA, open_cases
from workflows.review.claims import claim, release
from workflows.review.errors import DeskError
from workflows.review.regions import MOST_POINTS, Mark, add_region, checked_geometry, regions_of, remove_region
from workflows.review.trail import check

SIZE = (400, 300)
SQUARE = [[10, 10], [60, 10], [60, 40], [10, 40], [10, 10]]
HOLE = [[20, 20], [30, 20], [30, 30], [20, 30], [20, 20]]
BOW = [[0, 0], [50, 50], [50, 0], [0, 50], [0, 0]]
MANY = [[number % 200, number // 200] for number in range(MOST_POINTS)]


def polygon(*rings: Any) -> dict:
    return {"type": "Polygon", "coordinates": list(rings)}


@pytest.mark.parametrize(
    ("kind", "geometry"),
    [
        ("polygon", polygon(SQUARE)),
        ("polygon", polygon(SQUARE, HOLE)),
        ("polygon", polygon([[0, 0], [400, 0], [400.0, 300.0], [0, 0]])),
        ("rectangle", polygon(SQUARE)),
        ("point", {"type": "Point", "coordinates": [0.5, 299.5]}),
    ],
)
def test_what_can_be_drawn_comes_back_as_it_was_drawn(kind: Any, geometry: dict) -> None:
    assert checked_geometry(Mark(geometry, kind, "tumour"), SIZE) == geometry


@pytest.mark.parametrize(
    ("kind", "geometry", "problem"),
    [
        ("polygon", polygon([[0, 0], [401, 0], [9, 9], [0, 0]]), r"\(401, 0\) is not on the slide of 400 x 300 px"),
        ("polygon", polygon([[0, 0], [5, -1], [9, 9], [0, 0]]), "not on the slide"),
        ("polygon", polygon(BOW), "Self-intersection"),
        ("polygon", polygon(SQUARE, [[200, 200], [210, 200], [210, 210], [200, 200]]), "Hole lies outside"),
        ("polygon", polygon([[0, 0], [5, 5], [0, 0]]), "at least four points"),
        ("polygon", polygon([[0, 0], [5, 0], [5, 5], [0, 5]]), "ends where it begins"),
        ("polygon", polygon([[0, 0], [5, 5], [9, 9], [0, 0]]), "cannot be an area"),
        ("polygon", polygon([*MANY, MANY[0]]), "at most 10000 points"),
        ("polygon", polygon([[0, 0], [float("nan"), 0], [9, 9], [0, 0]]), "finite numbers"),
        ("polygon", polygon([[0, 0], [float("inf"), 0], [9, 9], [0, 0]]), "finite numbers"),
        ("polygon", polygon([[0, 0], [True, 0], [9, 9], [0, 0]]), "finite numbers"),
        ("polygon", polygon([[0, 0, 1], [5, 0, 1], [9, 9, 1], [0, 0, 1]]), "finite numbers"),
        ("polygon", polygon([[0, 0], ["5", 0], [9, 9], [0, 0]]), "finite numbers"),
        ("polygon", polygon("abc"), "coordinates"),
        ("polygon", {"type": "Polygon"}, "coordinates"),
        ("polygon", {"type": "Polygon", "coordinates": []}, "coordinates"),
        ("polygon", {"type": "LineString", "coordinates": SQUARE}, "not 'LineString'"),
        ("point", polygon(SQUARE), "GeoJSON Point"),
        ("point", {"type": "Point", "coordinates": [10**400, 1]}, "finite numbers"),
        ("point", {"type": "Point", "coordinates": None}, "finite numbers"),
        ("rectangle", polygon([[0, 0], [50, 10], [40, 60], [-0.0, 50], [0, 0]]), "four corners"),
    ],
)
def test_what_cannot_be_drawn(kind: Any, geometry: dict, problem: str) -> None:
    with pytest.raises(DeskError, match=problem) as refused:
        checked_geometry(Mark(geometry, kind, "tumour"), SIZE)
    assert refused.value.status == 422
    assert "\n" not in refused.value.message


@pytest.fixture
def engine(run: Path) -> Engine:
    return open_cases(run)


@pytest.fixture
def draw(engine: Engine, run: Path) -> Callable[..., int]:
    numbers = iter(range(1000))

    def drawn(class_name: str, **mark: Any) -> int:
        claim(engine, 1, ANNA)
        said = Mark(polygon(SQUARE), "polygon", class_name, **mark)
        return add_region(engine, run, 1, ANNA, str(UUID(int=next(numbers))), said).entry["seq"]

    return drawn


def names(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return [one["class"] for one in regions_of(connection, 1)]


def test_a_region_is_taken_away_and_nothing_is_erased(engine: Engine, run: Path, draw: Callable) -> None:
    draw("tumour")
    draw("benign")
    first = remove_region(engine, run, 1, ANNA, 1)
    assert names(engine) == ["benign"]
    assert remove_region(engine, run, 1, ANNA, 1).entry["seq"] == first.entry["seq"] == 3
    assert check(engine).entries == 3


def test_whose_region_it_is(engine: Engine, run: Path, draw: Callable) -> None:
    draw("tumour")
    release(engine, 1, ANNA)
    with pytest.raises(DeskError, match="claim the case first"):
        remove_region(engine, run, 1, ANNA, 1)
    claim(engine, 1, BEN)
    with pytest.raises(DeskError, match="only a reviewer"):
        remove_region(engine, run, 1, BEN, 1)
    with pytest.raises(DeskError, match="case 2 has no region 1"):
        remove_region(engine, run, 2, BEN, 1)
    release(engine, 1, BEN)
    claim(engine, 1, CLARA)
    remove_region(engine, run, 1, CLARA, 1)
    with pytest.raises(DeskError, match="taken away already|request_id"):
        remove_region(engine, run, 1, ANNA, 1)
    assert names(engine) == []


def test_a_region_needs_the_claim_and_the_slide(engine: Engine, run: Path) -> None:
    mark = Mark(polygon(SQUARE), "polygon", "tumour")
    with pytest.raises(DeskError, match="claim the case first"):
        add_region(engine, run, 1, ANNA, "1", mark)
    for path in (run / "slides").glob("*/slide.json"):
        path.unlink()
    with pytest.raises(DeskError, match="does not hold this slide's size"):
        add_region(engine, run, 1, ANNA, "1", mark)
