"""Whether a heatmap shows what the model goes by: take tiles away and see what it says then. Numpy only.

Petsiuk, Das, Saenko: RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018 (deletion and
insertion). https://arxiv.org/abs/1806.07421
Samek et al.: Evaluating the Visualization of What a Deep Neural Network Has Learned, 2017 (against a random order).
https://arxiv.org/abs/1509.06321
Hense et al.: xMIL: Insightful Explanations for Multiple Instance Learning in Histopathology, NeurIPS 2024 (the same
with the tiles of a bag). https://arxiv.org/abs/2406.04280

Deletion: with the highest tiles of a faithful map gone, the probability of the predicted class falls at once: a small
area. Insertion: those tiles alone bring it back: a large area. A map says something only if it does better than tiles
in random order, and the same map of a model with random weights must not.

Deletion alone flatters: any order that takes like tiles together, forwards or backwards, empties a slide of its few
telling tiles sooner than a random order does. Deletion of an order is insertion of its reverse, so that the difference
of both areas turns its sign with the order and is 0 for orders without direction: that is `gain`. Bluecher, Vielhaben,
Strodthoff: Decoupling Pixel Flipping and Occlusion Strategy for Consistent XAI Benchmarks, TMLR 2024 (symmetric
relevance gain). https://arxiv.org/abs/2401.06654

A scorer is a function of the tiles that are kept, (n,) int64 rising, at least one, to the probability of the class that
the map explains: `lambda kept: model.predict(bag.take(kept)).probabilities[k]`. So nothing here knows a model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mil.intervals import Interval, bootstrap
from wsi.errors import UsageError

Scorer = Callable[[np.ndarray], float]
Mapper = Callable[[np.ndarray], np.ndarray]
"""The tiles that are kept (n,) to the map of these alone (n,)."""

STEPS = (0.0, 0.01, 0.02, 0.05, *(tenth / 10 for tenth in range(1, 11)))
"""Shares of the tiles: close at first, since what a slide is graded by can be a hundredth of it."""


@dataclass(frozen=True, slots=True)
class TileCurve:
    """The scorer's answers along an order of tiles.

    Attributes
    ----------
    share : ndarray (s,)
        Of the tiles that are taken away (deletion) or there (insertion), rising.
    score : ndarray (s,)
    """

    share: np.ndarray
    score: np.ndarray

    @property
    def area(self) -> float:
        """Mean score along the curve, by trapezoids; NaN for a bag of one tile, which has no order."""
        if len(self.share) < 2:
            return float("nan")
        steps = np.diff(self.share)
        return float((steps * (self.score[1:] + self.score[:-1]) / 2).sum() / steps.sum())


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """A slide's map against random orders of its tiles.

    Attributes
    ----------
    deletion, insertion : TileCurve
    random_deletion, random_insertion : ndarray (repeats,)
        Areas of random orders, the same for both.
    """

    deletion: TileCurve
    insertion: TileCurve
    random_deletion: np.ndarray
    random_insertion: np.ndarray

    @property
    def deletion_gain(self) -> float:
        """How much smaller the area is than that of a random order; above 0 is better than chance."""
        return float(self.random_deletion.mean()) - self.deletion.area

    @property
    def insertion_gain(self) -> float:
        """How much larger the area is than that of a random order; above 0 is better than chance."""
        return self.insertion.area - float(self.random_insertion.mean())

    @property
    def gain(self) -> float:
        """Insertion less deletion area, less the same of random orders: 0 for an order that means nothing, at most 1.

        That of the reversed order is its negative.
        """
        chance = float((self.random_insertion - self.random_deletion).mean())
        return self.insertion.area - self.deletion.area - chance

    @property
    def p_value(self) -> float:
        """Chance of a random order to do as well in both areas together; at best 1 / (repeats + 1)."""
        if np.isnan(self.deletion.area):
            return float("nan")
        own = self.insertion.area - self.deletion.area
        return float(
            (1 + (self.random_insertion - self.random_deletion >= own).sum()) / (1 + len(self.random_deletion))
        )


@dataclass(frozen=True, slots=True)
class Chance:
    """Areas (repeats,) under both curves of random orders of a slide's tiles: what every map of it is held against."""

    deletion: np.ndarray
    insertion: np.ndarray


def chance(scorer: Scorer, tiles: int, *, repeats: int = 20, seed: int = 0, steps: Sequence[float] = STEPS) -> Chance:
    """Areas of random orders of `tiles` tiles; parameters as for `judge_map`."""
    if repeats < 1:
        raise UsageError(f"a map is held against random orders, at least one; found {repeats}")
    rng = np.random.default_rng([seed, 1])
    orders = [rng.permutation(tiles) for _ in range(repeats)]
    return Chance(
        np.array([deletion(scorer, one, steps).area for one in orders]),
        np.array([insertion(scorer, one, steps).area for one in orders]),
    )


def judge_map(
    scorer: Scorer,
    importance: np.ndarray,
    *,
    repeats: int = 20,
    seed: int = 0,
    steps: Sequence[float] = STEPS,
    against: Chance | None = None,
) -> Faithfulness:
    """Both curves of a map, and the areas of random orders of the same tiles.

    Parameters
    ----------
    scorer : callable
    importance : ndarray (N,)
        The map: how much each tile speaks for the class. Equal tiles are taken in random order.
    repeats : int
        Random orders.
    steps : sequence of float
        Shares of tiles at which the scorer is asked, 0 to 1. It is asked 2 (repeats + 1) times for each.
    against : Chance, optional
        Random orders that other maps of the slide were held against; drawn here if left out.
    """
    importance = np.asarray(importance, dtype=np.float64)
    if importance.ndim != 1 or not len(importance) or not np.isfinite(importance).all():
        raise UsageError(f"a map is one finite number for each tile; found shape {importance.shape} or a NaN in it")
    order = np.lexsort((np.random.default_rng(seed).permutation(len(importance)), -importance))
    gone, back = deletion(scorer, order, steps), insertion(scorer, order, steps)
    drawn = against or chance(scorer, len(importance), repeats=repeats, seed=seed, steps=steps)
    return Faithfulness(gone, back, drawn.deletion, drawn.insertion)


def deletion(scorer: Scorer, order: np.ndarray, steps: Sequence[float] = STEPS) -> TileCurve:
    """Scores with more and more tiles gone, the first of `order` (N,) at first; the last tile stays."""
    gone = _counts(len(order), steps)
    return TileCurve(gone / len(order), _asked(scorer, [order[count:] for count in gone]))


def insertion(scorer: Scorer, order: np.ndarray, steps: Sequence[float] = STEPS) -> TileCurve:
    """Scores of more and more tiles, the first of `order` (N,) alone at first."""
    there = 1 + _counts(len(order), steps)
    return TileCurve(there / len(order), _asked(scorer, [order[:count] for count in there]))


Measured = Literal["deletion", "insertion", "deletion_gain", "insertion_gain", "gain"]
MEASURED: tuple[Measured, ...] = ("deletion", "insertion", "deletion_gain", "insertion_gain", "gain")


def summarise(
    found: Sequence[Faithfulness], patients: Sequence[str] | np.ndarray, seed: int = 0
) -> dict[Measured, Interval]:
    """Means over slides of areas and gains, with 95 % intervals by patient.

    A gain whose interval lies above 0 is a map that shows more than chance. Slides of one tile have no order and are
    left out.
    """
    groups = np.asarray(patients)
    table = {name: np.array([_measured(one, name) for one in found]) for name in MEASURED}
    known = ~np.isnan(table["deletion"])
    return {
        name: bootstrap(_mean, values[known], groups=groups[known], seed=seed)
        if known.any()
        else Interval(np.nan, np.nan, np.nan, 0.95, 0, "undefined")
        for name, values in table.items()
    }


def compare_maps(
    first: Sequence[Faithfulness],
    second: Sequence[Faithfulness],
    patients: Sequence[str] | np.ndarray,
    measured: Measured = "deletion",
    seed: int = 0,
) -> Interval:
    """Mean over slides of `second` less `first`, paired, with its 95 % interval by patient.

    For deletion, above 0 says that the first map is the more faithful.
    """
    gap = np.array([_measured(b, measured) - _measured(a, measured) for a, b in zip(first, second, strict=True)])
    known = ~np.isnan(gap)
    if not known.any():
        raise UsageError("maps are compared on slides of two tiles or more; found none")
    return bootstrap(_mean, gap[known], groups=np.asarray(patients)[known], seed=seed)


def stability(mapper: Mapper, n_tiles: int, *, dropped: float = 0.2, repeats: int = 10, seed: int = 0) -> np.ndarray:
    """Rank correlation (repeats,) of the map with the maps that remain when tiles are left out at random.

    A map that turns over when a fifth of its tiles is missing shows the sample and not the slide. NaN for a map without
    contrast.

    Parameters
    ----------
    mapper : callable
    n_tiles : int
    dropped : float
        Share of the tiles left out each time, 0 to 1: one tile at least, and two are kept.
    """
    if n_tiles < 3 or not 0 < dropped < 1:
        raise UsageError(f"stability needs three tiles and a share to drop of 0 to 1; found {n_tiles} and {dropped}")
    rng = np.random.default_rng(seed)
    whole = np.asarray(mapper(np.arange(n_tiles)), dtype=np.float64)
    size = min(n_tiles - 1, max(2, round(n_tiles * (1 - dropped))))
    draws = [np.sort(rng.choice(n_tiles, size, replace=False)) for _ in range(repeats)]
    return np.array([rank_correlation(whole[kept], np.asarray(mapper(kept))) for kept in draws])


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation, equal values sharing their mean rank; NaN where one of both is constant."""
    a, b = (_ranks(np.asarray(values)) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else float("nan")


def _counts(tiles: int, steps: Sequence[float]) -> np.ndarray:
    """Numbers of tiles, 0 to tiles - 1, at the steps; each once."""
    share = np.clip(np.asarray(steps, dtype=np.float64), 0, 1)
    return np.unique(np.concatenate([[0], np.round(share * (tiles - 1)), [tiles - 1]]).astype(np.int64))


def _asked(scorer: Scorer, kept: Sequence[np.ndarray]) -> np.ndarray:
    scores = np.array([float(scorer(np.sort(tiles))) for tiles in kept])
    if not np.isfinite(scores).all():
        raise UsageError("the model's answer for a part of the tiles is not a number; its map cannot be judged")
    return scores


def _measured(found: Faithfulness, name: Measured) -> float:
    value = getattr(found, name)
    return value.area if isinstance(value, TileCurve) else float(value)


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place])


def _mean(values: np.ndarray) -> float:
    return float(values.mean())
