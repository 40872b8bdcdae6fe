"""Whether a model looks at the right place: tiles' scores on held-out slides against regions that somebody drew."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mil.bootstrap import SHARE, Interval, bootstrap
from mil.froc import FALSE_POSITIVES, Detections, froc_score, froc_sensitivities, peaks
from mil.metrics import auroc
from mil.overlap import held_out_iou, iou
from workflows.tile_maps import MAPS, TileMap, held_out_scores, store_maps
from wsi.annotations import Region, lesions, read_regions, tile_coverage, tile_lesions
from wsi.errors import UsageError
from wsi.store import FeatureStore

FINDING_SHARE = 0.5
"""A tile is a finding when at least this share of it lies in one; tiles with less, but some, are left out."""

PEAK_RADIUS_TILES = 1.5
"""Of two peaks nearer than so many sides of a tile the lower is dropped: eight neighbours, and none beyond."""

THRESHOLDS = 101
"""Quantiles of all scores among which the threshold of a map is chosen."""


@dataclass(frozen=True, slots=True)
class MapScore:
    """How well one kind of map agrees with what was drawn; intervals are 95 %, by patient.

    Attributes
    ----------
    auroc : Interval
        Mean over slides of the AUROC of finding against other tiles.
    pooled : float
        AUROC over all tiles of all slides at once.
    froc : Interval
        Mean sensitivity for lesions at 1/4 to 8 false positives a slide (`mil.froc`).
    sensitivities : tuple of float
        At each of these.
    iou : Interval
        Mean over slides with findings of the intersection over union, at a threshold from other patients.
    """

    auroc: Interval
    pooled: float
    froc: Interval
    sensitivities: tuple[float, ...]
    iou: Interval

    def __str__(self) -> str:
        return f"{self.auroc}; all tiles pooled {self.pooled:.3f}; FROC {self.froc}; IoU {self.iou}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        at = {f"{rate:g}": value for rate, value in zip(FALSE_POSITIVES, self.sensitivities, strict=True)}
        intervals = {"auroc": self.auroc.to_dict(), "froc": self.froc.to_dict(), "iou": self.iou.to_dict()}
        return intervals | {"auroc_pooled": self.pooled, "sensitivity_at_false_positives_per_slide": at}


@dataclass(frozen=True, slots=True)
class Localisation:
    """Maps against drawn regions.

    Attributes
    ----------
    attention, evidence : MapScore
    slides, tiles : int
        Slides that have both finding and other tiles, and tiles of all slides.
    all_slides, lesions : int
        Behind FROC.
    """

    attention: MapScore
    evidence: MapScore
    slides: int
    tiles: int
    all_slides: int
    lesions: int

    def lines(self) -> list[str]:
        """For people."""
        return [f"  {name:<11}{getattr(self, name)}" for name in MAPS]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        counts = {name: getattr(self, name) for name in ("slides", "tiles", "all_slides", "lesions")}
        return counts | {name: getattr(self, name).to_dict() for name in MAPS}


def localise(
    stores: Mapping[str, FeatureStore],
    scores: Mapping[str, Mapping[str, np.ndarray]],
    truth: Path,
    *,
    patients: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Localisation:
    """Compare tile scores with drawn regions, each slide having its file.

    Parameters
    ----------
    stores : mapping of slide_id to FeatureStore
        For the places of the tiles.
    scores : mapping of slide_id to mapping
        `rows`, `attention` (n,) and `tile_evidence` (n, C) of each slide.
    truth, patients, seed
        As for `localise_maps`.
    """
    return localise_maps(store_maps(stores, scores), truth, patients=patients, seed=seed)


def localise_maps(
    maps: Iterable[TileMap],
    truth: Path,
    *,
    patients: Mapping[str, str] | None = None,
    bare: Collection[str] = (),
    findings: Collection[str] | None = None,
    n: int = 1000,
    seed: int = 0,
) -> Localisation:
    """Compare maps with drawn regions.

    Parameters
    ----------
    maps : iterable of TileMap
    truth : Path
        Folder of `<slide_id>.geojson`.
    patients : mapping of slide_id to str, optional
        Every slide is a patient of its own if left out.
    bare : collection of slide_id
        Slides without a finding, which may be without a file.
    findings : collection of str, optional
        Classes of regions that count; all but those of `wsi.annotations.BENIGN` if left out.
    n, seed : int
        Of the resampling.

    Raises
    ------
    UsageError
        If a file is missing or damaged, or no slide has both kinds of tiles.
    """
    judged = [_judge(one, slide_regions(truth, one.slide_id, bare, findings)) for one in maps]
    both = [one for one in judged if one.positive.any() and not one.positive[one.clear].all()]
    if not both:
        raise UsageError(f"{truth}: no slide has tiles inside and outside of findings")
    people = patients or {}
    groups = [people.get(one.slide_id, one.slide_id) for one in judged]
    found = {name: _score(judged, name, groups, n, seed) for name in MAPS}
    tiles, drawn = sum(int(one.clear.sum()) for one in judged), sum(one.lesions for one in judged)
    return Localisation(found["attention"], found["evidence"], len(both), tiles, len(judged), drawn)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A slide's scores beside what was drawn: cover (n,), which tiles are findings and which are clear; peaks."""

    slide_id: str
    scores: dict[str, np.ndarray]
    cover: np.ndarray
    lesion: np.ndarray
    lesions: int
    peaks: dict[str, np.ndarray]

    @property
    def positive(self) -> np.ndarray:
        return self.cover >= FINDING_SHARE

    @property
    def clear(self) -> np.ndarray:
        return self.positive | (self.cover == 0)


def slide_regions(truth: Path, slide_id: str, bare: Collection[str], findings: Collection[str] | None) -> list[Region]:
    """What was drawn on a slide and counts; parameters as for `localise_maps`."""
    path = truth / f"{slide_id}.geojson"
    if slide_id in bare and not path.exists():
        return []
    wanted = None if findings is None else {name.lower() for name in findings}
    return [one for one in read_regions(path) if wanted is None or one.name.lower() in wanted]


def _judge(one: TileMap, regions: list[Region]) -> _Judged:
    drawn = lesions(regions, one.mpp)
    places_um = one.grid.coords[one.rows] * np.array(one.mpp)
    radius_um = PEAK_RADIUS_TILES * max(side * mpp for side, mpp in zip(one.grid.side_px0, one.mpp, strict=True))
    scores = one.scores()
    return _Judged(
        one.slide_id,
        scores,
        tile_coverage(one.grid, regions)[one.rows],
        tile_lesions(one.grid, drawn)[one.rows],
        len(drawn),
        {name: peaks(places_um, values, radius_um) for name, values in scores.items()},
    )


def _score(judged: Sequence[_Judged], name: str, groups: Sequence[str], n: int, seed: int) -> MapScore:
    each = np.array([auroc(one.positive[one.clear], one.scores[name][one.clear]) for one in judged])
    positive = np.concatenate([one.positive[one.clear] for one in judged])
    scores = np.concatenate([one.scores[name][one.clear] for one in judged])
    patients = np.array(groups)
    found = _detections(judged, name)
    hurt = found.lesions > 0
    froc = bootstrap(
        lambda rows: froc_score(found, rows), np.arange(len(judged)),
        groups=patients, n=n, seed=seed, bounds=SHARE, units=len(set(patients[hurt])),
    )  # fmt: skip
    return MapScore(
        _mean_interval(each, patients, n, seed),
        auroc(positive, scores),
        froc,
        tuple(froc_sensitivities(found).tolist()),
        _mean_interval(_ious(judged, name, patients), patients, n, seed),
    )


def _detections(judged: Sequence[_Judged], name: str) -> Detections:
    slide = np.concatenate([np.full(len(one.peaks[name]), number) for number, one in enumerate(judged)])
    lesion = np.concatenate([one.lesion[one.peaks[name]] for one in judged])
    score = np.concatenate([one.scores[name][one.peaks[name]] for one in judged])
    return Detections.of(slide, lesion, score, np.array([one.lesions for one in judged]))


def _ious(judged: Sequence[_Judged], name: str, patients: np.ndarray) -> np.ndarray:
    """IoU of each slide (slides,) at a threshold from other patients; NaN for slides without a finding."""
    values = np.full(len(judged), np.nan)
    drawn = np.array([one.cover.sum() > 0 for one in judged])
    chosen = [one for one, has in zip(judged, drawn, strict=True) if has]
    thresholds = np.unique(
        np.quantile(np.concatenate([one.scores[name] for one in chosen]), np.linspace(0, 1, THRESHOLDS))
    )
    table = np.stack([iou(one.cover, one.scores[name], thresholds) for one in chosen])
    values[drawn] = held_out_iou(table, patients[drawn])[0]
    return values


def _mean_interval(values: np.ndarray, patients: np.ndarray, n: int, seed: int) -> Interval:
    """Mean over the slides for which it is defined."""
    known = np.isfinite(values)
    if not known.any():
        return Interval(float("nan"), float("nan"), float("nan"), 0.95, 0, "undefined")
    return bootstrap(np.mean, values[known], groups=patients[known], n=n, seed=seed, bounds=SHARE)


__all__ = [
    "FINDING_SHARE", "Localisation", "MapScore", "held_out_scores", "localise", "localise_maps", "slide_regions",
]  # fmt: skip
