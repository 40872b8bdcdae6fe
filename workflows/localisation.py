"""Whether a model looks at the right place: tiles' scores on held-out slides against regions that somebody drew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mil.metrics import auroc
from wsi.annotations import read_regions, tile_coverage
from wsi.errors import UsageError
from wsi.store import FeatureStore

FINDING_SHARE = 0.5
"""A tile is a finding when at least this share of it lies in one; tiles with less, but some, are left out."""


@dataclass(frozen=True, slots=True)
class Localisation:
    """Tile AUROC over the slides that have both finding and other tiles.

    Attributes
    ----------
    attention, evidence : (value, low, high)
        Mean over slides of the tile AUROC, with its 95 % percentile bootstrap interval by slide.
    attention_pooled, evidence_pooled : float
        AUROC over all tiles of all slides at once; attention times the number of tiles, so that slides compare.
    slides, tiles : int
        How many entered.
    """

    attention: tuple[float, float, float]
    evidence: tuple[float, float, float]
    attention_pooled: float
    evidence_pooled: float
    slides: int
    tiles: int

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"  {name:<11}{value:.3f} ({low:.3f} to {high:.3f}); all tiles pooled {pooled:.3f}"
            for name, (value, low, high), pooled in (
                ("attention", self.attention, self.attention_pooled),
                ("evidence", self.evidence, self.evidence_pooled),
            )
        ]


def finding_score(evidence: np.ndarray) -> np.ndarray:
    """One number a tile out of its class probabilities (N, C): the expected class, 0 to C - 1.

    For two classes it is the probability of the second; for grades the expected grade.
    """
    return evidence @ np.arange(evidence.shape[1])


def localise(
    stores: Mapping[str, FeatureStore], scores: Mapping[str, Mapping[str, np.ndarray]], truth: Path, *, seed: int = 0
) -> Localisation:
    """Compare tile scores with drawn regions.

    Parameters
    ----------
    stores : mapping of slide_id to FeatureStore
        For the places of the tiles.
    scores : mapping of slide_id to mapping
        `rows`, `attention` (n,) and `tile_evidence` (n, C) of each slide.
    truth : Path
        Folder of `<slide_id>.geojson`.

    Raises
    ------
    UsageError
        If no slide has both kinds of tiles.
    """
    per_slide: list[tuple[float, float]] = []
    pooled: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for slide_id in sorted(scores):
        one = scores[slide_id]
        cover = tile_coverage(stores[slide_id].grid, read_regions(truth / f"{slide_id}.geojson"))[one["rows"]]
        clear = (cover >= FINDING_SHARE) | (cover == 0)
        positive = cover[clear] >= FINDING_SHARE
        attention, evidence = one["attention"][clear], finding_score(one["tile_evidence"][clear])
        pooled.append((positive, attention * len(cover), evidence))
        if positive.any() and not positive.all():
            per_slide.append((auroc(positive, attention), auroc(positive, evidence)))
    if not per_slide:
        raise UsageError(f"{truth}: no slide has tiles inside and outside of findings")
    positive, attention, evidence = (np.concatenate(part) for part in zip(*pooled, strict=True))
    table = np.array(per_slide)
    return Localisation(
        _with_interval(table[:, 0], seed),
        _with_interval(table[:, 1], seed),
        auroc(positive, attention),
        auroc(positive, evidence),
        len(per_slide),
        len(positive),
    )


def held_out_scores(model: Path) -> dict[str, dict[str, Any]]:
    """Tile scores of the training slides by the networks that had not seen them, out of a model folder."""
    files: Sequence[Path] = sorted((model / "out_of_fold").glob("*.npz"))
    return {path.stem: dict(np.load(path, allow_pickle=False)) for path in files}


def _with_interval(values: np.ndarray, seed: int, resamples: int = 2000) -> tuple[float, float, float]:
    draws = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)
