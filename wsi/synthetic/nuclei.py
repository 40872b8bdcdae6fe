"""Nuclei: how they look, where they lie.

They are stamped from a bank of drawings, made once per resolution. Places are thinned so that no two are closer than
a cell: a place survives when no place of higher priority is near, which depends on the neighbourhood alone, so that
blocks agree on it.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wsi.synthetic.noise import Field, Pixels
from wsi.synthetic.optics import UNIT

TURNS = 24  # orientations in half a turn
SHAPES = 14
REACH_UM = 9.0  # no drawing reaches further from its centre


@dataclass(frozen=True, slots=True)
class NucleusKind:
    """Half axes (um) and their relative spread, haematoxylin at the rim and inside, clumps and nucleoli."""

    long_um: float
    short_um: float
    spread: float
    body: float
    rim: float
    clumps: float
    nucleoli: int


KINDS = (
    NucleusKind(3.7, 3.15, 0.13, 0.77, 0.30, 0.22, 1),  # 0 tumour: round, vesicular, a nucleolus
    NucleusKind(4.1, 2.85, 0.11, 0.80, 0.22, 0.24, 0),  # 1 luminal: oval, even chromatin
    NucleusKind(4.2, 1.55, 0.15, 1.02, 0.15, 0.18, 0),  # 2 basal: flat
    NucleusKind(5.0, 1.15, 0.3, 0.78, 0.12, 0.22, 0),  # 3 stroma: spindle
    NucleusKind(2.75, 2.5, 0.08, 1.25, 0.10, 0.30, 0),  # 4 lymphocyte: small, dark
    NucleusKind(3.8, 2.95, 0.19, 0.80, 0.30, 0.28, 1),  # 5 pleomorphic: of any size, dark
)
TUMOUR, LUMINAL, BASAL, SPINDLE, LYMPHOCYTE, PLEOMORPHIC = range(6)


@lru_cache(maxsize=8)
def bank(mpp: float) -> tuple[tuple[Pixels, ...], ...]:
    """Drawings of every kind: `bank(mpp)[kind][shape * TURNS + turn]` is (S, S) uint8 haematoxylin, S even."""
    return tuple(tuple(_drawings(number, kind, mpp)) for number, kind in enumerate(KINDS))


def _drawings(number: int, kind: NucleusKind, mpp: float) -> Pixels:
    rng = np.random.default_rng([404, number])
    half = int(np.ceil(min(kind.long_um * (1 + 1.2 * kind.spread) + 1, REACH_UM) / mpp))
    axis = (np.arange(-half, half, dtype=np.float32) + 0.5) * np.float32(mpp)
    angle = (np.arange(TURNS) * (np.pi / TURNS))[:, None, None]
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    x, y = axis[None, None, :], axis[None, :, None]
    u, v = x * cos + y * sin, y * cos - x * sin
    sheets = [_one_shape(rng, kind, u, v) for _ in range(SHAPES)]
    return np.clip(np.rint(np.concatenate(sheets) * UNIT), 0, 255).astype(np.uint8)


def _one_shape(rng: np.random.Generator, kind: NucleusKind, u: Field, v: Field) -> Field:
    """Haematoxylin of one nucleus at all its turns (TURNS, S, S); u, v run along and across it in um."""
    size = 1 + kind.spread * np.clip(rng.standard_normal(), -1.2, 1.2)
    long, short = kind.long_um * size, kind.short_um * size * rng.uniform(0.88, 1.12)
    bend = rng.uniform(-0.09, 0.09) * (long / 3)
    a, b = u / np.float32(long), (v + np.float32(bend) * u * u / np.float32(long)) / np.float32(short)
    square = a * a + b * b
    radius = np.sqrt(np.sqrt((a * a) ** 2 + (b * b) ** 2) * np.float32(0.1) + square * np.float32(0.9))
    near = np.maximum(square, np.float32(1e-4))
    second, second_b, third = (np.float32(rng.uniform(-d, d)) for d in (0.05, 0.05, 0.03))
    lobes = (second * (a * a - b * b) + second_b * a * b) / near
    radius = radius * (1 + lobes + third * a * (a * a - 3 * b * b) / (near * np.sqrt(near)))
    inside = (1 - radius) * np.float32(min(short, long))  # about um from the membrane
    cover = np.clip(inside * 1.6 + 0.5, 0, 1)
    rim = _bump(((inside - np.float32(0.35)) * np.float32(1 / 0.4)) ** 2)
    body = kind.body * rng.uniform(0.72, 1.22)
    chromatin = np.zeros_like(inside)
    for _ in range(14):
        cu, cv = rng.uniform(-0.8, 0.8) * long, rng.uniform(-0.8, 0.8) * short
        width, sign = rng.uniform(0.35, 0.8), rng.choice([-1.0, 1.0])
        spot = ((u - np.float32(cu)) ** 2 + (v - np.float32(cv)) ** 2) * np.float32(1 / (width * width))
        chromatin += np.float32(sign * kind.clumps * body * rng.uniform(0.4, 1.2)) * _bump(spot)
    for _ in range(kind.nucleoli if rng.random() < 0.7 else 0):
        cu, cv = rng.uniform(-0.35, 0.35) * long, rng.uniform(-0.35, 0.35) * short
        spot = ((u - np.float32(cu)) ** 2 + (v - np.float32(cv)) ** 2) * np.float32(1 / 0.45)
        chromatin += np.float32(0.55) * _bump(spot)
    return np.clip(body + chromatin + kind.rim * rim, 0.15, 1.9) * cover


def _bump(square: Field) -> Field:
    """About exp(-square), from operations that are the same on every machine."""
    low = 1 / (1 + square * np.float32(1 / 3))
    return low * low * low


@dataclass(frozen=True, slots=True)
class Places:
    """Candidate nuclei, all (n,): place (um), kind, direction (radians), priority in [0, 1), distance to keep (um)."""

    x_um: Field
    y_um: Field
    kind: NDArray[np.int8]
    angle: Field
    priority: Field
    apart_um: Field

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> "Places":
        return Places(
            self.x_um[index],
            self.y_um[index],
            self.kind[index],
            self.angle[index],
            self.priority[index],
            self.apart_um[index],
        )


def thinned(places: Places, cell_um: float = 4.5, rounds: int = 2) -> Places:
    """The places that keep their distance: first one per `cell_um` box, then no two closer than the smaller `apart_um`.

    `apart_um` is at most twice `cell_um`. What is kept at a place depends on what lies within
    `rounds` * 4 `cell_um` of it.
    """
    if not len(places.x_um):
        return places
    column = np.floor(places.x_um / cell_um).astype(np.int64)
    row = np.floor(places.y_um / cell_um).astype(np.int64)
    column -= column.min() - 2
    row -= row.min() - 2
    shape = (int(row.max()) + 3, int(column.max()) + 3)
    order = np.argsort(places.priority, kind="stable")
    holder = np.full(shape, -1, np.int64)
    holder[row[order], column[order]] = order  # the last, highest priority stays
    taken = holder >= 0
    priority = np.where(taken, places.priority[holder], -1).astype(np.float32)
    x, y = places.x_um[holder], places.y_um[holder]
    apart = places.apart_um[holder]
    alive, kept = taken.copy(), np.zeros(shape, bool)
    pairs = _close_pairs(x, y, apart, taken)
    for _ in range(rounds):
        beaten = np.zeros(shape, bool)
        for here, there, close in pairs:
            clash = close & alive[here] & alive[there]
            first = priority[here] > priority[there]
            beaten[there] |= clash & first
            beaten[here] |= clash & ~first
        new = alive & ~beaten
        kept |= new
        near = np.zeros(shape, bool)
        for here, there, close in pairs:
            near[there] |= close & new[here]
            near[here] |= close & new[there]
        alive &= ~new & ~near
    return places.take(np.sort(holder[kept]))


_Area = tuple[slice, slice]


def _close_pairs(
    x: Field, y: Field, apart: Field, taken: NDArray[np.bool_]
) -> list[tuple[_Area, _Area, NDArray[np.bool_]]]:
    """For each of the twelve half-neighbours: the two overlapping areas and which pairs in them are too close."""
    height, width = x.shape
    pairs = []
    for dy, dx in [(0, 1), (0, 2), *((dy, dx) for dy in (1, 2) for dx in range(-2, 3))]:
        here = (slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        there = (slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
        limit = np.minimum(apart[here], apart[there])
        near = (x[here] - x[there]) ** 2 + (y[here] - y[there]) ** 2 < limit * limit
        pairs.append((here, there, near & taken[here] & taken[there]))
    return pairs


def stamp(canvas: Pixels, places: Places, picks: NDArray[np.int64], left_um: float, top_um: float, mpp: float) -> None:
    """Draw nuclei onto haematoxylin amounts, in place; those that do not fit wholly are cut at the edge.

    Parameters
    ----------
    canvas : ndarray (H, W) uint8
    picks : ndarray (n,) int64
        Which shape of its kind each nucleus has.
    left_um, top_um : float
        Place of the canvas' top-left corner.
    """
    drawings = bank(mpp)
    column = np.rint((places.x_um.astype(np.float64) - left_um) / mpp).astype(np.int64).tolist()
    row = np.rint((places.y_um.astype(np.float64) - top_um) / mpp).astype(np.int64).tolist()
    turn = np.rint(places.angle * (TURNS / np.pi)).astype(np.int64) % TURNS
    which = (picks % SHAPES * TURNS + turn).tolist()
    height, width = canvas.shape
    for x, y, kind, number in zip(column, row, places.kind.tolist(), which, strict=True):
        drawing = drawings[kind][number]
        half = len(drawing) // 2
        x0, y0 = x - half, y - half
        if x0 >= 0 and y0 >= 0 and x + half <= width and y + half <= height:
            view = canvas[y0 : y + half, x0 : x + half]
        else:
            ya, xa = max(0, -y0), max(0, -x0)
            yb, xb = min(2 * half, height - y0), min(2 * half, width - x0)
            if ya >= yb or xa >= xb:
                continue
            drawing = drawing[ya:yb, xa:xb]
            view = canvas[y0 + ya : y0 + yb, x0 + xa : x0 + xb]
        np.maximum(view, drawing, out=view)
