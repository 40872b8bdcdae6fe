"""Scores of tiles on their places: out of a run, or out of a model folder for the slides that it was trained on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workflows.prediction_table import named
from wsi.cohort_index import open_cohort
from wsi.errors import UsageError
from wsi.store import FeatureStore
from wsi.store_url import StorePath, store_location
from wsi.tiles import TileGrid

MAPS = ("attention", "evidence")


@dataclass(frozen=True, slots=True)
class TileMap:
    """Scores of one slide's tiles.

    Attributes
    ----------
    slide_id : str
    grid : TileGrid
    mpp : (x, y)
        um per level-0 pixel.
    rows : ndarray (n,) int64
        Rows of the grid that have a score.
    attention : ndarray (n,)
        Sums to 1.
    evidence : ndarray (n, C)
        Class probabilities of each tile.
    """

    slide_id: str
    grid: TileGrid
    mpp: tuple[float, float]
    rows: np.ndarray
    attention: np.ndarray
    evidence: np.ndarray

    def scores(self) -> dict[str, np.ndarray]:
        """One number a tile (n,) for each of `MAPS`; attention times the number of tiles, so that slides compare."""
        return {"attention": self.attention * len(self.rows), "evidence": finding_score(self.evidence)}


def finding_score(evidence: np.ndarray) -> np.ndarray:
    """One number a tile out of its class probabilities (N, C): the expected class, 0 to C - 1.

    For two classes it is the probability of the second; for grades the expected grade.
    """
    return evidence @ np.arange(evidence.shape[1])


def kept_maps(folder: Path, slide_ids: Sequence[str], store: StorePath | None = None) -> Iterator[TileMap]:
    """Maps of some slides, out of a run or a model folder.

    Parameters
    ----------
    store : path, optional
        Feature stores of a model folder's slides, which know the places of the tiles; where it was trained from if
        left out.

    Raises
    ------
    UsageError
        If a slide has no scores there, or a model folder's stores are not known.
    """
    if (folder / "slides").is_dir():
        return run_maps(folder, slide_ids)
    scores = held_out_scores(folder)
    if missing := [slide_id for slide_id in slide_ids if slide_id not in scores]:
        raise UsageError(
            f"{folder}: holds no tile scores of {named(missing)}; give the predictions of a run or of a model folder"
        )
    stores = open_cohort(store or trained_on(folder))
    if missing := [slide_id for slide_id in slide_ids if slide_id not in stores]:
        raise UsageError(f"without feature store: {named(missing)}; say where the stores are with --store")
    return store_maps(stores, {slide_id: scores[slide_id] for slide_id in slide_ids})


def trained_on(model: Path) -> StorePath:
    """The folder of stores from which a model folder says it was trained."""
    try:
        return store_location(json.loads((model / "run.json").read_bytes())["config"]["store"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{model}: does not say where its feature stores are; give them with --store") from error


def store_maps(stores: Mapping[str, FeatureStore], scores: Mapping[str, Mapping[str, np.ndarray]]) -> Iterator[TileMap]:
    """Scores of slides on the places that their stores know, by slide_id."""
    for slide_id in sorted(scores):
        one, store = scores[slide_id], stores[slide_id]
        mpp = store.slide.require_mpp()
        yield TileMap(slide_id, store.grid, mpp, one["rows"], one["attention"], one["tile_evidence"])


def run_maps(run: Path, slide_ids: Sequence[str]) -> Iterator[TileMap]:
    """Maps of graded slides, out of a run folder."""
    from workflows.results import load_slide

    for slide_id in slide_ids:
        one = load_slide(run, slide_id)
        yield TileMap(slide_id, one.grid, one.info.require_mpp(), one.rows, one.attention, one.evidence)


def held_out_scores(model: Path) -> dict[str, dict[str, Any]]:
    """Tile scores of the training slides by the networks that had not seen them, out of a model folder."""
    files: Sequence[Path] = sorted((model / "out_of_fold").glob("*.npz"))
    return {path.stem: dict(np.load(path, allow_pickle=False)) for path in files}
