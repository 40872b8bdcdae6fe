"""The run folder: what `grade` leaves behind, and what `render`, `report` and everything later read.

    RUN/predictions.csv, .parquet   one line a graded slide (`Grading`)
    RUN/worklist.csv                the order in which to look at them (`workflows.worklist`)
    RUN/sources.csv                 where each slide was (`workflows.run_sources`)
    RUN/quarantine.csv              slides without a grade, and why (`Quarantined`)
    RUN/model.json                  the model in words and numbers (`ModelSummary`)
    RUN/run.json                    the record of the run
    RUN/log.jsonl                   how it went (`workflows.run_log`)
    RUN/slides/<slide_id>/          slide.json, scores.npz, thumbnail.jpg, tile_01.png ... (`GradedSlide`)

A slide's folder is complete when `slide.json` is there: it is written last. Everything below is enough to draw
heatmaps and report again without the slides or the model.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from shapely import MultiPolygon, Polygon
from shapely.geometry import mapping, shape

from mil.map_names import MAP_TITLES
from mil.outliers import OutlierCheck
from mil.prediction import ClassSet
from mil.slide_view import measured
from workflows.gradings import (
    INPUTS,
    Grading,
    ModelSummary,
    Quarantined,
    Task,
    class_labels,
    load_model,
    load_predictions,
    load_quarantine,
    read_part,
)
from wsi.errors import UsageError
from wsi.files import write_atomic, write_json
from wsi.heatmap import Channel, SlideMaps
from wsi.pictures import decode_picture, encode_picture
from wsi.scales import EvidenceKind, attention_scale, evidence_scale
from wsi.slide import SlideInfo
from wsi.tiles import BadTile, TileGrid, TileSpec

SLIDE_FORMAT = "histograde-graded-slide"
SLIDE_VERSION = 1
AGAIN = "run `histograde grade` again on this slide"


@dataclass(frozen=True, slots=True)
class TopTile:
    """One of the most-attended tiles.

    Attributes
    ----------
    row : int
        In the grid.
    pixels : ndarray (h, w, 3) uint8
        At full resolution.
    inside : ndarray (a, b) float32, optional
        Where in it the evidence for the predicted class lies, 0 to 1, on the encoder's own grid.
    """

    row: int
    pixels: np.ndarray
    inside: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class GradedSlide:
    """All that is kept of one graded slide.

    Attributes
    ----------
    info : SlideInfo
        With the pixel size that was used.
    patient_id : str
    task, classes, predicted, calibrated, model_id, seconds, class_set, outlier
        As in `Grading`.
    probabilities : ndarray (C,) float
    grid : TileGrid
        All tiles, good and bad.
    rows : ndarray (n,) int64
        Rows of the grid that took part.
    attention : ndarray (n,) float
        Sums to 1.
    evidence : ndarray (n, C) float
        What the model says of each tile alone; signed where `ModelSummary.evidence` says so and `shown` is None.
    bad : tuple of BadTile
    tissue : MultiPolygon
        Level-0 px: `MultiPolygon(mask.polygons())`.
    tissue_area_um2 : float
    thumbnail : ndarray (H, W, 3) uint8
        The scanned bounds: `wsi.slide.thumbnail(slide, 1600)`.
    top_tiles : tuple of TopTile
        Most attended first; choose them with `top_tile_rows`.
    qc : mapping of str to number or str
        Quality counts, as they are to be shown.
    shown : ndarray (n, C) float, optional
        The map that the model is best explained by, where that is another than attention and evidence.
    shown_name : str
        Its name; empty where there is none.
    """

    info: SlideInfo
    patient_id: str
    task: Task
    classes: tuple[str, ...]
    probabilities: np.ndarray
    predicted: str
    calibrated: bool
    model_id: str
    seconds: float
    grid: TileGrid
    rows: np.ndarray
    attention: np.ndarray
    evidence: np.ndarray
    bad: tuple[BadTile, ...]
    tissue: MultiPolygon
    tissue_area_um2: float
    thumbnail: np.ndarray
    top_tiles: tuple[TopTile, ...] = ()
    qc: Mapping[str, Any] = field(default_factory=dict)
    class_set: ClassSet | None = None
    shown: np.ndarray | None = None
    shown_name: str = ""
    outlier: OutlierCheck | None = None

    def __post_init__(self) -> None:
        n = len(self.rows)
        if bool(self.shown_name) != (self.shown is not None):
            raise UsageError(f"slide {self.info.slide_id}: a map and its name come together, found {self.shown_name!r}")
        if self.shown is not None and self.shown.shape != (n, len(self.classes)):
            raise UsageError(
                f"slide {self.info.slide_id}: expected a map ({n}, {len(self.classes)}), found {self.shown.shape}"
            )
        if n and not 0 <= self.rows.min() <= self.rows.max() < len(self.grid):
            raise UsageError(f"slide {self.info.slide_id}: a scored tile is not in the grid of {len(self.grid)}")
        if self.attention.shape != (n,) or self.evidence.shape != (n, len(self.classes)):
            raise UsageError(
                f"slide {self.info.slide_id}: expected attention ({n},) and evidence ({n}, {len(self.classes)}), "
                f"found {self.attention.shape} and {self.evidence.shape}"
            )
        if n and not abs(float(self.attention.sum()) - 1) < 1e-3:
            raise UsageError(f"slide {self.info.slide_id}: attention sums to {self.attention.sum():.4g}, expected 1")

    @property
    def grading(self) -> Grading:
        """The slide's line in the predictions."""
        return Grading(
            self.info.slide_id,
            self.patient_id,
            self.task,
            self.classes,
            tuple(round(float(value), 6) for value in self.probabilities),
            self.predicted,
            self.calibrated,
            len(self.rows),
            len(self.bad),
            round(self.tissue_area_um2 / 1e6, 4),
            self.model_id,
            round(self.seconds, 3),
            self.class_set,
            self.outlier,
            {name: value for name, value in measured(self.qc).items() if name in INPUTS},
        )

    def maps(self, model: ModelSummary, wanted: str | None = None) -> SlideMaps:
        """The slide's heatmaps on the scales of the model.

        Parameters
        ----------
        wanted : str, optional
            The map to show first: `attention`, `evidence` or the model's own; the one that was measured to be the best
            if left out, and attention where none was.

        Raises
        ------
        UsageError
            If the run does not hold that map.
        """
        name = wanted if wanted is not None else model.shown_map
        own = self.shown is not None and name == self.shown_name
        if not own and name not in ("", "attention", "evidence"):
            kept = ", ".join(filter(None, ("attention", "evidence", self.shown_name)))
            raise UsageError(f"slide {self.info.slide_id}: the run holds no map {name!r}; it holds: {kept}")
        labels, predicted = class_labels(self.task, self.classes), self.classes.index(self.predicted)
        values = self.shown if own and self.shown is not None else self.evidence
        kind: EvidenceKind = "probability" if self.shown is not None and not own else model.evidence
        method = MAP_TITLES.get(name, "") if own else ""  # type: ignore[call-overload]
        evidence = tuple(
            Channel(one, values[:, k], evidence_scale(labels[k], kind, model.evidence_limit, method))
            for k, one in enumerate(self.classes)
        )
        return SlideMaps(
            self.info,
            self.grid,
            self.rows,
            Channel("attention", self.attention * len(self.rows), attention_scale()),
            evidence,
            labels,
            predicted,
            self.tissue,
            self.thumbnail,
            0 if name in ("", "attention") else 1 + predicted,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder, read; the slides themselves are read one at a time with `load_slide`."""

    folder: Path
    model: ModelSummary
    gradings: tuple[Grading, ...]
    quarantined: tuple[Quarantined, ...]
    record: Mapping[str, Any]


def top_tile_rows(grid: TileGrid, rows: np.ndarray, attention: np.ndarray, count: int = 8) -> np.ndarray:
    """Rows (of the grid) of the most-attended tiles that do not overlap each other, most attended first, (k,) int64."""
    chosen: list[int] = []
    for row in rows[np.lexsort((rows, -attention))]:
        apart = np.abs(grid.coords[chosen].astype(np.int64) - grid.coords[row]) >= np.array(grid.side_px0) - 1
        if apart.any(axis=1).all():
            chosen.append(int(row))
        if len(chosen) == count:
            break
    return np.array(chosen, dtype=np.int64)


def slide_folder(run: Path, slide_id: str, part: str = "slides") -> Path:
    """Where a slide's files lie in a part of the run; refuses names that are not one plain file name."""
    if not slide_id or slide_id != Path(slide_id).name or slide_id.startswith(".") or "\0" in slide_id:
        raise UsageError(f"slide_id {slide_id!r} cannot be a file name: use letters, digits, '-', '_' and '.'")
    return run / part / slide_id


def save_slide(run: str | Path, graded: GradedSlide) -> Path:
    """Write all that is kept of a slide; its folder is complete when this returns, and not before."""
    folder = slide_folder(Path(run), graded.info.slide_id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "slide.json").unlink(missing_ok=True)
    scores = io.BytesIO()
    own_map = {} if graded.shown is None else {"shown": graded.shown}
    insides = [tile.inside for tile in graded.top_tiles if tile.inside is not None]
    if insides and len(insides) == len(graded.top_tiles):
        own_map["inside"] = np.stack(insides)
    np.savez_compressed(
        scores,
        coords=graded.grid.coords,
        tissue_fraction=graded.grid.tissue_fraction,
        side_px0=np.array(graded.grid.side_px0),
        rows=graded.rows.astype(np.int64),
        attention=graded.attention,
        evidence=graded.evidence,
        probabilities=np.asarray(graded.probabilities, np.float64),
        allow_pickle=False,
        **own_map,
    )
    write_atomic(folder / "scores.npz", scores.getvalue())
    write_atomic(folder / "thumbnail.jpg", encode_picture(graded.thumbnail, "JPEG"))
    for old in folder.glob("tile_*.png"):
        old.unlink()
    for number, tile in enumerate(graded.top_tiles, start=1):
        write_atomic(folder / f"tile_{number:02d}.png", encode_picture(tile.pixels, "PNG"))
    write_json(folder / "slide.json", _describe(graded))
    return folder


def _describe(graded: GradedSlide) -> dict[str, Any]:
    attention = dict(zip(graded.rows.tolist(), graded.attention.tolist(), strict=True))
    coords = graded.grid.coords.tolist()
    return {
        "format": SLIDE_FORMAT,
        "version": SLIDE_VERSION,
        "slide": asdict(graded.info),
        "patient_id": graded.patient_id,
        "task": graded.task,
        "classes": list(graded.classes),
        "predicted": graded.predicted,
        "calibrated": graded.calibrated,
        "set": None if graded.class_set is None else asdict(graded.class_set),
        "shown": graded.shown_name,
        "outlier": None if graded.outlier is None else asdict(graded.outlier),
        "model_id": graded.model_id,
        "seconds": graded.seconds,
        "tile_spec": graded.grid.spec.to_dict(),
        "tiles": len(graded.rows),
        "bad_tiles": [{"row": bad.row, "place_px0": coords[bad.row], "reason": bad.reason} for bad in graded.bad],
        "tissue_area_um2": graded.tissue_area_um2,
        "tissue": mapping(graded.tissue),
        "top_tiles": [
            {
                "file": f"tile_{number:02d}.png",
                "row": tile.row,
                "place_px0": coords[tile.row],
                "attention": attention[tile.row],
            }
            for number, tile in enumerate(graded.top_tiles, start=1)
        ],
        "qc": dict(graded.qc),
    }


def load_slide(run: str | Path, slide_id: str) -> GradedSlide:
    """Read a slide's folder.

    Raises
    ------
    UsageError
        If a part of it is missing or damaged; the message names the part.
    """
    folder = slide_folder(Path(run), slide_id)
    said = read_part(folder / "slide.json", lambda data: _known(json.loads(data)), AGAIN)
    scores = read_part(folder / "scores.npz", _load_scores, AGAIN)
    tops = [read_part(folder / top["file"], decode_picture, AGAIN) for top in said["top_tiles"]]
    try:
        spec = TileSpec(**said["tile_spec"])
        side_w, side_h = (float(side) for side in scores["side_px0"])
        return GradedSlide(
            SlideInfo(**{key: _tuples(value) for key, value in said["slide"].items()}),
            said["patient_id"],
            said["task"],
            tuple(said["classes"]),
            scores["probabilities"],
            said["predicted"],
            said["calibrated"],
            said["model_id"],
            said["seconds"],
            TileGrid(spec, scores["coords"], scores["tissue_fraction"], (side_w, side_h)),
            scores["rows"],
            scores["attention"],
            scores["evidence"],
            tuple(BadTile(bad["row"], bad["reason"]) for bad in said["bad_tiles"]),
            as_multipolygon(shape(said["tissue"])),
            said["tissue_area_um2"],
            read_part(folder / "thumbnail.jpg", decode_picture, AGAIN),
            tuple(
                TopTile(top["row"], pixels, inside)
                for top, pixels, inside in zip(
                    said["top_tiles"], tops, scores.get("inside", [None] * len(tops)), strict=True
                )
            ),
            said["qc"],
            _class_set(said.get("set")),
            scores.get("shown"),
            said.get("shown", ""),
            _outlier(said.get("outlier")),
        )
    except (KeyError, TypeError, IndexError) as error:
        raise UsageError(f"{slide_id}: slide.json and scores.npz do not fit together ({error}); {AGAIN}") from error


def _class_set(said: dict[str, Any] | None) -> ClassSet | None:
    return None if said is None else ClassSet(tuple(said["held"]), float(said["coverage"]))


def _outlier(said: dict[str, Any] | None) -> OutlierCheck | None:
    if said is None:
        return None
    reasons, oddness = tuple(said["reasons"]), {name: float(value) for name, value in said["oddness"].items()}
    return OutlierCheck(float(said["p_value"]), float(said["false_alarms"]), int(said["patients"]), reasons, oddness)


def _known(said: dict[str, Any]) -> dict[str, Any]:
    if said["format"] != SLIDE_FORMAT or said["version"] != SLIDE_VERSION:
        raise ValueError(f"{said['format']} version {said['version']}; this program reads version {SLIDE_VERSION}")
    return said


def _load_scores(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def as_multipolygon(geometry: Any) -> MultiPolygon:
    """A polygon or several as one type."""
    return MultiPolygon([geometry]) if isinstance(geometry, Polygon) else MultiPolygon(geometry)


def load_run(run: str | Path) -> Run:
    """Read a run's tables, model and record.

    Raises
    ------
    UsageError
        If the folder is no run, or a part of it is missing or damaged.
    """
    run = Path(run)
    if not run.is_dir():
        raise UsageError(f"{run}: no such folder; give the --out folder of `histograde grade`")
    record = read_part(run / "run.json", lambda data: dict(json.loads(data))) if (run / "run.json").exists() else {}
    return Run(run, load_model(run), load_predictions(run), load_quarantine(run), record)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
