"""The report: a folder of HTML pages about a run, made from what the run folder holds.

    report/index.html, page-2.html ...  the worklist, the quarantine, the model
    report/slides/<slide_id>.html       one slide: map, probabilities, most-attended tiles, quality, provenance
    report/slides/<slide_id>/           its pictures
    report/previews/                    small pictures for the worklist
    report/style.css, report.js

All links are relative and nothing outside is asked for, so that the folder works from any place. It is made beside
its place and renamed. Nothing in it depends on the clock: the same run gives the same bytes.
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from workflows.figures import legend, probability_bars, slide_drawing
from workflows.gradings import ModelSummary, Quarantined, class_labels
from workflows.results import GradedSlide, Run, TopTile, load_run, load_slide, slide_folder
from workflows.worklist import RULE, Place, rank_slides
from wsi.errors import WsiError
from wsi.exports.png import layer, overlay
from wsi.heatmap import SlideMaps
from wsi.pictures import encode_picture
from wsi.scales import inside_scale
from wsi.threads import usable_cores

FOLDER = "report"
TEMPLATES = Path(__file__).parent / "templates"
SLIDES_PER_PAGE = 1000
PREVIEW_PX = (264, 176)
"""Largest size of a picture in the worklist; it is shown at half of it."""
MOST_BAD_LISTED = 100
LONGEST_UNBROKEN = 16
LEADING = ("Evidence", "Attention")
THIN_SPACE = "\u202f"

METRIC_NAMES = {
    "qwk": "Quadratic weighted kappa",
    "mae": "Mean absolute grade error",
    "auroc": "Slide AUROC",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "ece": "Expected calibration error",
    "brier": "Brier score",
    "log_loss": "Log loss",
}
"""How metrics are called on the page, in the order in which they stand; others follow under their own names."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was written: its first page, and the slides that have none of their own, with the reason."""

    index: Path
    failures: tuple[Quarantined, ...]


def write_report(run: str | Path) -> Report:
    """Write `RUN/report`, replacing an older one; it is made beside it and takes its place when it is whole.

    Raises
    ------
    UsageError
        If the folder is no run, or its tables are missing or damaged. A slide whose own results are is named in
        `Report.failures`; the others have their pages.
    """
    found = load_run(run)
    folder = found.folder / FOLDER
    partial = found.folder / f".{FOLDER}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    for part in ("slides", "previews"):
        (partial / part).mkdir(parents=True)
    for name in ("style.css", "report.js"):
        shutil.copyfile(TEMPLATES / name, partial / name)
    pages = environment()
    places, totals = rank_slides(found.gradings), _totals(found)
    previews: dict[str, tuple[int, int]] = {}
    failures = []

    def write(number: int) -> tuple[int, int] | Quarantined:
        neighbours = (places[number - 1] if number else None, places[number + 1] if number + 1 < len(places) else None)
        try:
            return _write_slide(partial, pages, found, totals, places[number], neighbours)
        except WsiError as error:
            return Quarantined.of(places[number].grading.slide_id, "report", error)

    with ThreadPoolExecutor(usable_cores(), thread_name_prefix="pages") as pool:
        for place, written in zip(places, pool.map(write, range(len(places))), strict=True):
            if isinstance(written, Quarantined):
                failures.append(written)
            else:
                previews[place.grading.slide_id] = written
    _write_index(partial, pages, found, totals, places, previews)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return Report(folder / "index.html", tuple(failures))


def environment() -> Environment:
    """The templates; everything that is put into them is escaped."""
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    pages.filters |= {
        "url": lambda name: quote(name, safe=""),
        "share": share_text,
        "thousands": _thousands,
        "unbroken": lambda text: text.replace(" ", "\u00a0") if len(text) <= LONGEST_UNBROKEN else text,
        "metric": lambda name: METRIC_NAMES.get(name, name.replace("_", " ")),
        "in_order": lambda metrics: sorted(metrics, key=lambda metric: _metric_rank(metric.name)),
        "listed": lambda value: ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value,
    }
    return pages


def _metric_rank(name: str) -> int:
    known = list(METRIC_NAMES)
    return known.index(name) if name in known else len(known)


def short_label(label: str) -> str:
    """A class where its kind has been said already: "3" for "Grade group 3"."""
    return label.removeprefix("Grade group ")


def share_text(share: float) -> str:
    """A share for people: `12 %`, `0.4 %`, `0 %`."""
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.2g} %"


def _write_index(
    folder: Path,
    pages: Environment,
    found: Run,
    totals: dict[str, Any],
    places: Sequence[Place],
    previews: dict[str, tuple[int, int]],
) -> None:
    chunks = [places[start : start + SLIDES_PER_PAGE] for start in range(0, len(places), SLIDES_PER_PAGE)] or [[]]
    names = ["index.html", *(f"page-{number}.html" for number in range(2, len(chunks) + 1))]
    for number, chunk in enumerate(chunks):
        text = pages.get_template("index.html").render(
            root="",
            run=found,
            model=found.model,
            leading=LEADING[found.model.shown_map in ("", "attention")],
            rows=[_row(place, previews) for place in chunk],
            chips=_chips(found.model, chunk),
            rule=RULE,
            page=number,
            page_names=names,
            totals=totals,
        )
        (folder / names[number]).write_bytes(text.encode())


def _row(place: Place, previews: dict[str, tuple[int, int]]) -> dict[str, Any]:
    grading = place.grading
    labels = class_labels(grading.task, grading.classes)
    said = ", ".join(f"{label} {p:.2f}" for label, p in zip(labels, grading.probabilities, strict=True))
    return {
        "place": place,
        "grading": grading,
        "bars": probability_bars(grading.classes, grading.probabilities, grading.predicted),
        "probabilities": said,
        "preview": previews.get(grading.slide_id),
        "order": grading.classes.index(grading.predicted),
    }


def _chips(model: ModelSummary, places: Sequence[Place]) -> list[dict[str, Any]]:
    """How many slides of a page have each class."""
    counts = {name: sum(place.grading.predicted == name for place in places) for name in model.classes}
    return [
        {"name": name, "label": label, "count": counts[name]}
        for name, label in zip(model.classes, model.class_labels, strict=True)
    ]


def _totals(found: Run) -> dict[str, Any]:
    tiles, bad = sum(one.tiles for one in found.gradings), sum(one.bad_tiles for one in found.gradings)
    return {
        "graded": len(found.gradings),
        "quarantined": len(found.quarantined),
        "tiles": tiles,
        "bad": bad,
        "flagged": sum(one.flag_text == "yes" for one in found.gradings),
        "bad_share": bad / max(1, tiles + bad),
        "tissue_mm2": sum(one.tissue_mm2 for one in found.gradings),
        "version": found.record.get("versions", {}).get("histograde", ""),
    }


def _write_slide(
    folder: Path,
    pages: Environment,
    found: Run,
    totals: dict[str, Any],
    place: Place,
    neighbours: tuple[Place | None, Place | None],
) -> tuple[int, int]:
    """Write one slide's page and pictures; gives the size of its preview."""
    graded = load_slide(found.folder, place.grading.slide_id)
    maps = graded.maps(found.model)
    own = slide_folder(folder, graded.info.slide_id)
    own.mkdir()
    shutil.copyfile(slide_folder(found.folder, graded.info.slide_id) / "thumbnail.jpg", own / "thumbnail.jpg")
    layers = _write_layers(own, maps)
    tops = _write_tops(own, graded, maps)
    text = pages.get_template("slide.html").render(
        root="../",
        run=found,
        model=found.model,
        totals=totals,
        place=place,
        before=neighbours[0],
        after=neighbours[1],
        graded=graded,
        grading=graded.grading,
        classes=_class_rows(graded),
        drawing=slide_drawing(graded),
        layers=layers,
        grade_groups=maps.class_labels[0].startswith("Grade group "),
        tops=tops,
        bad=_bad_rows(graded),
        tile_um=graded.grid.spec.tile_px * graded.grid.spec.mpp,
        size_px=(maps.thumbnail.shape[1], maps.thumbnail.shape[0]),
    )
    (folder / "slides" / f"{graded.info.slide_id}.html").write_bytes(text.encode())
    return _write_preview(folder, maps)


def _write_layers(own: Path, maps: SlideMaps) -> list[dict[str, Any]]:
    layers = []
    for number, channel in enumerate(maps.channels):
        name = "attention.png" if number == 0 else f"evidence_{number - 1}.png"
        (own / name).write_bytes(layer(maps, channel))
        label = "Attention" if number == 0 else short_label(maps.class_labels[number - 1])
        layers.append(
            {
                "file": name,
                "label": label,
                "legend": legend(channel.scale),
                "predicted": number - 1 == maps.predicted,
                "leading": number == maps.leading,
            }
        )
    return layers


def _write_tops(own: Path, graded: GradedSlide, maps: SlideMaps) -> list[dict[str, Any]]:
    position = {int(row): place for place, row in enumerate(graded.rows)}
    mpp = graded.info.require_mpp()
    evidence = maps.evidence[maps.predicted].scores
    tops = []
    for number, tile in enumerate(graded.top_tiles, start=1):
        name = f"tile_{number:02d}.jpg"
        (own / name).write_bytes(encode_picture(tile.pixels, "JPEG"))
        x, y = graded.grid.coords[tile.row].tolist()
        at = position[tile.row]
        tops.append(
            {
                "number": number,
                "file": name,
                "inside": _write_inside(own, number, tile),
                "size_px": (tile.pixels.shape[1], tile.pixels.shape[0]),
                "times": float(graded.attention[at]) * len(graded.rows),
                "evidence": float(evidence[at]),
                "place": _place_text(x * mpp[0], y * mpp[1]),
            }
        )
    return tops


def _write_inside(own: Path, number: int, tile: TopTile) -> str | None:
    """Write the tile under the map of its inside; gives the file's name, None where there is no map."""
    if tile.inside is None:
        return None
    height, width = tile.pixels.shape[:2]
    values = cv2.resize(tile.inside.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    name = f"tile_{number:02d}_inside.jpg"
    (own / name).write_bytes(encode_picture(inside_scale().over(values, tile.pixels), "JPEG"))
    return name


def _class_rows(graded: GradedSlide) -> list[dict[str, Any]]:
    labels = class_labels(graded.task, graded.classes)
    return [
        {"label": label, "p": float(p), "chosen": name == graded.predicted}
        for name, label, p in zip(graded.classes, labels, graded.probabilities, strict=True)
    ]


def _bad_rows(graded: GradedSlide) -> list[dict[str, Any]]:
    mpp = graded.info.require_mpp()
    rows = []
    for tile in graded.bad[:MOST_BAD_LISTED]:
        x, y = graded.grid.coords[tile.row].tolist()
        rows.append({"place": _place_text(x * mpp[0], y * mpp[1]), "reason": tile.reason})
    return rows


def _place_text(x_um: float, y_um: float) -> str:
    return f"x {_thousands(round(x_um))}\u00a0µm, y {_thousands(round(y_um))}\u00a0µm"


def _thousands(number: int) -> str:
    return f"{number:,}".replace(",", THIN_SPACE)


def _write_preview(folder: Path, maps: SlideMaps) -> tuple[int, int]:
    """A small picture of the map that is shown first; gives the size at which to show it."""
    pixels = overlay(maps, maps.first)
    factor = min(PREVIEW_PX[0] / pixels.shape[1], PREVIEW_PX[1] / pixels.shape[0], 1.0)
    size = (max(2, round(pixels.shape[1] * factor)), max(2, round(pixels.shape[0] * factor)))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    (folder / "previews" / f"{maps.info.slide_id}.jpg").write_bytes(encode_picture(small, "JPEG"))
    return size[0] // 2, size[1] // 2
