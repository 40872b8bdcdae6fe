"""Near-duplicate slides: one section twice, under another name, saved with other compression, or cut out of another.

Such a pair in a training and a test fold makes a model look better than it is, and no table of patients shows it.

A slide is sketched by the tiles in which some of the features, drawn by a seed, are highest; half of them as they are,
half as means over a tile and those around it, which change less with the place of the grid. Saving a slide anew moves
few of these tiles, cutting it leaves those in the cut. Two slides are compared feature by feature: of one section the
highest tile of the one lies where that of the other does, shifted by the same vector for all features. Slides that are
merely alike (one patient, one stain, one tissue) have like tiles, but where they lie in one says nothing of where they
lie in the other: their vectors agree by chance only, and that chance is known from the two sets of tiles.

So no threshold of similarity has to be chosen, but how many false alarms are borne (a contrario: Desolneux, Moisan,
Morel: Meaningful Alignments, IJCV 2000. https://doi.org/10.1023/A:1026593302236). With n different pairs of tiles, m
places in which they are within a tolerance of one vector, and p the share of all pairs of sketched tiles that are:

    expected false alarms = pairs of slides x n x P( Binomial(n - 1, p) >= m - 1 )

What it does not find: sections that were turned or mirrored; cuts of less than some 200 tiles, small cuts of a slide,
and cuts whose grid is off by half a tile both ways unless they are large; slides whose pixel size is not known, as
their tiles have no places. A slide saved anew is found from some 50 tiles on. `benchmarks/duplicates.py` shows it.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mil.cohort import Cohort
from wsi.errors import PatientLeakError, UsageError

if TYPE_CHECKING:
    from mil.bag import Bag

CHANNELS = 128
"""Features that a slide is sketched by."""

FALSE_ALARMS = 0.01
"""Pairs found by chance that are borne in a cohort without any."""

TOLERANCE_TILES = 0.75
"""How far apart two vectors are that agree: below one tile, so that neighbours on a grid do not, and above the half
tile by which the grid of a cut is off."""

ALIKE = 0.5
"""Least cosine of two tiles that show the same place, as far as the grid of a cut is off: others do not count."""

APART_TILES = 2
"""Agreeing tiles count once in a square of so many by so many: a blot of ink or blood is highest in many features on
both slides, and where one of its tiles meets its like, those beside it do more often than chance has it."""

FEWEST = 5
"""Places that agree in a pair that is looked at more closely; fewer are not told from chance."""

BLOCK = 16
"""Pairs of slides at a time."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """The tiles of a slide in which K features are highest.

    Attributes
    ----------
    slide_id : str
    tile_um : float
        Side of a tile.
    tiles : ndarray (K,) int64
        Of each feature; a tile may be highest in several.
    coords_um : ndarray (K, 2) float64
        Their places.
    features : ndarray (K, K) float32
        The K features of each, as means over the tile and those around it.
    """

    slide_id: str
    tile_um: float
    tiles: np.ndarray
    coords_um: np.ndarray
    features: np.ndarray


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two slides that show one section.

    Attributes
    ----------
    first, second : str
        slide_id, in the order of the alphabet.
    agreeing, compared : int
        Squares of 2 x 2 tiles in which tiles lie in the same place, of the pairs of tiles that were compared.
    similarity : float
        Mean cosine of the agreeing tiles with those around them, after the cohort's mean was taken off.
    shift_um : (float, float)
        (x, y) from a place in the first to the same place in the second, um.
    false_alarms : float
        As many pairs like this or more so are expected by chance in such a cohort.
    """

    first: str
    second: str
    agreeing: int
    compared: int
    similarity: float
    shift_um: tuple[float, float]
    false_alarms: float

    def __str__(self) -> str:
        return (
            f"slides {self.first} and {self.second} show the same section (tiles agree in {self.agreeing} places, "
            f"cosine {self.similarity:.2f})"
        )


def sketch(bag: "Bag", tile_um: float, seed: int = 0, channels: int = CHANNELS) -> Sketch:
    """What a slide is compared by; all slides of a cohort with one seed.

    Of equal tiles the one further up and left counts, so that the order of tiles does not enter.

    Parameters
    ----------
    tile_um : float
        Side of a tile, as the recipe of the store has it.
    """
    if not tile_um > 0:
        raise UsageError(f"tile_um is {tile_um}; the side of a tile in um is needed, as in the recipe of the store")
    drawn = np.random.default_rng(seed).permutation(bag.features.shape[1])[:channels]
    order = np.lexsort((bag.coords_um[:, 0], bag.coords_um[:, 1]))
    coords_um = bag.coords_um[order].astype(np.float64)
    sharp = bag.features[:, drawn][order].astype(np.float32)  # (N, K)
    smooth = _smoothed(sharp, coords_um, tile_um)  # (N, K)
    half = len(drawn) // 2
    highest = np.concatenate([sharp[:, :half].argmax(axis=0), smooth[:, half:].argmax(axis=0)])  # (K,)
    return Sketch(bag.slide_id, tile_um, order[highest], coords_um[highest], smooth[highest])


def find_duplicates(sketches: Sequence[Sketch], false_alarms: float = FALSE_ALARMS) -> tuple[Duplicate, ...]:
    """Pairs of slides that show one section, the surest first.

    Parameters
    ----------
    sketches : sequence of Sketch
        Of slides whose features were made in one way.
    false_alarms : float
        How many pairs are found by chance, on average over cohorts of this size without duplicates.
    """
    ordered = sorted(sketches, key=lambda one: one.slide_id)
    if len(ordered) < 2:
        return ()
    places = np.stack([one.coords_um for one in ordered])  # (S, K, 2)
    mean = np.mean([one.features.mean(axis=0, dtype=np.float64) for one in ordered], axis=0)  # (K,)
    pairs = len(ordered) * (len(ordered) - 1) // 2
    found = []
    for one, other in _candidates(places, ordered[0].tile_um):
        pair = _compared(ordered[one], ordered[other], mean, pairs)
        if pair is not None and pair.false_alarms <= false_alarms:
            found.append(pair)
    return tuple(sorted(found, key=lambda pair: (pair.false_alarms, pair.first, pair.second)))


def check_no_duplicates(cohort: Cohort, duplicates: Iterable[Duplicate]) -> None:
    """Raise `PatientLeakError`, naming the pair, if a section counts for two patients or is in two folds."""
    row_of = {slide_id: row for row, slide_id in enumerate(cohort.slide_id)}
    for pair in duplicates:
        if not {pair.first, pair.second} <= row_of.keys():
            continue
        one, other = row_of[pair.first], row_of[pair.second]
        patients = cohort.patient_id[one], cohort.patient_id[other]
        if patients[0] != patients[1]:
            raise PatientLeakError(
                f"{pair}, but they count as patients {patients[0]} and {patients[1]}; give both one patient_id, or "
                "leave one of them out"
            )
        if cohort.fold is not None and cohort.fold[one] != cohort.fold[other]:
            raise PatientLeakError(
                f"{pair}, but they are in folds {cohort.fold[one]} and {cohort.fold[other]}; put both in one fold, or "
                "leave one of them out"
            )


def _smoothed(values: np.ndarray, coords_um: np.ndarray, tile_um: float) -> np.ndarray:
    """Means over each tile and those of the eight places around it, (N, K); places that are not known have none."""
    cell = np.rint(np.nan_to_num((coords_um - coords_um.min(axis=0)) / tile_um)).astype(np.int64) + 1  # (N, 2)
    width = int(cell[:, 0].max()) + 2
    key = cell[:, 1] * width + cell[:, 0]
    order = np.argsort(key, kind="stable")
    ranked = key[order]
    total, count = np.zeros_like(values), np.zeros((len(values), 1), np.float32)
    for step in (y * width + x for y in (-1, 0, 1) for x in (-1, 0, 1)):
        rank = np.minimum(np.searchsorted(ranked, key + step), len(key) - 1)
        there = (ranked[rank] == key + step)[:, None]
        total += np.where(there, values[order[rank]], 0)
        count += there
    return np.asarray(total / count)


def _candidates(places: np.ndarray, tile_um: float) -> Iterator[tuple[int, int]]:
    """Pairs of slides whose tiles agree in some places of the first, whatever they look like."""
    tolerance_um, near = TOLERANCE_TILES * tile_um, places.astype(np.float32)
    for one in range(len(places) - 1):
        within = _squares(places[one], APART_TILES * tile_um)
        for start in range(one + 1, len(places), BLOCK):
            agree = _agree(near[start : start + BLOCK] - near[one], tolerance_um)  # (b, K, K)
            most = _places(agree, within).max(axis=1)  # (b,)
            for other in np.flatnonzero(most >= FEWEST):
                yield one, start + int(other)


def _agree(vectors: np.ndarray, tolerance_um: float) -> np.ndarray:
    """(..., n, 2) to (..., n, n) bool; places that are not known agree with none."""
    x, y = vectors[..., 0], vectors[..., 1]
    near = np.abs(x[..., :, None] - x[..., None, :]) <= tolerance_um
    near &= np.abs(y[..., :, None] - y[..., None, :]) <= tolerance_um
    return near


def _compared(one: Sketch, other: Sketch, mean: np.ndarray, pairs: int) -> Duplicate | None:
    """The vector on which most places agree, and how often chance would have it so; None where too few do."""
    tolerance_um = TOLERANCE_TILES * one.tile_um
    firsts = np.unique(np.stack([one.tiles, other.tiles]), axis=1, return_index=True)[1]  # (n,)
    vectors = other.coords_um[firsts] - one.coords_um[firsts]  # (n, 2)
    cosine = _cosine(one.features[firsts] - mean, other.features[firsts] - mean)  # (n,)
    agree = _agree(vectors, tolerance_um) & (cosine >= ALIKE) & (cosine >= ALIKE)[:, None]  # (n, n)
    squares = [_squares(side.coords_um[firsts], APART_TILES * one.tile_um) for side in (one, other)]
    places = np.minimum(_places(agree, squares[0]), _places(agree, squares[1]))  # (n,)
    best = int(np.argmax(places))
    if places[best] < FEWEST:
        return None
    chance = _tail(len(firsts) - 1, int(places[best]) - 1, _share(one, other, vectors[best], tolerance_um))
    return Duplicate(
        one.slide_id,
        other.slide_id,
        int(places[best]),
        len(firsts),
        float(cosine[agree[best]].mean()),
        (float(vectors[best, 0]), float(vectors[best, 1])),
        pairs * len(firsts) * chance,
    )


def _squares(coords_um: np.ndarray, side_um: float) -> np.ndarray:
    """Which tile (n, 2) lies in which square: (n, squares) of 0 and 1."""
    number = np.unique(np.floor(coords_um / side_um), axis=0, return_inverse=True)[1].reshape(-1)  # (n,)
    return (number[:, None] == np.arange(number.max() + 1)).astype(np.float32)


def _places(agree: np.ndarray, within: np.ndarray) -> np.ndarray:
    """In how many squares (n, squares) tiles agree with each vector: (..., n, n) bool to (..., n)."""
    return np.asarray((agree.astype(np.float32) @ within > 0).sum(axis=-1))


def _cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Row by row, 0 where a row is zero."""
    length = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / np.where(length > 0, length, np.inf))


def _share(one: Sketch, other: Sketch, vector: np.ndarray, tolerance_um: float) -> float:
    """Share of all pairs of the sketched tiles that lie within the tolerance of a vector."""
    here, there = (side.coords_um[np.unique(side.tiles, return_index=True)[1]] for side in (one, other))
    off = there[None] - here[:, None] - vector  # (a, b, 2)
    return float((np.abs(off) <= tolerance_um).all(axis=2).mean())


def _tail(n: int, least: int, p: float) -> float:
    """P( Binomial(n, p) >= least )."""
    return math.fsum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(least, n + 1))
