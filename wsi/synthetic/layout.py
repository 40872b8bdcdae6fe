"""Where the tissue and the lesions of a slide lie: the plan that every block is drawn from.

The plan is made once for the whole slide at about 8 um per pixel (3125 x 3125 for 100,000 px), as signed distances:
positive inside, in sixteenths of a um.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi.synthetic.noise import Field, Pixels, Window, key_of, smooth, softened
from wsi.synthetic.truth import isup_grade, patterns_of

Distances = NDArray[Any]  # (h, w) int16, in sixteenths of a um

UNIT_UM = 1 / 16
_REACH_UM = 2000.0
_NAMES = {1: "benign", 3: "pattern 3", 4: "pattern 4", 5: "pattern 5"}


@dataclass(frozen=True, slots=True)
class Layout:
    """The plan of one slide.

    Attributes
    ----------
    labels : ndarray (H, W) uint8
        0 glass, 1 benign tissue, 3, 4, 5 Gleason patterns.
    tissue : ndarray (H, W) int16
        Signed distance to the edge of the tissue, `UNIT_UM`.
    patterns : dict of int to ndarray (H, W) int16
        Signed distance to the edge of each label present, `UNIT_UM`.
    fat : ndarray (H, W) int16 or None
        Signed distance to the edge of the adipose tissue, `UNIT_UM`.
    """

    labels: Pixels
    tissue: Distances
    patterns: dict[int, Distances]
    fat: Distances | None
    downsample: int
    mask_um: float

    def area(self) -> dict[str, float]:
        """Share of the tissue of each region name present."""
        counts = np.bincount(self.labels.ravel(), minlength=6)
        return {name: float(counts[code] / max(counts[1:].sum(), 1)) for code, name in _NAMES.items() if counts[code]}

    def depth_um(self, code: int, x_um: Field, y_um: Field) -> Field:
        """Distance (n,) in um from places to the edge of region `code` or of the tissue, negative outside."""
        at = self._at(x_um, y_um)
        return np.minimum(self.patterns[code][at], self.tissue[at]).astype(np.float32) * np.float32(UNIT_UM)

    def fat_depth_um(self, x_um: Field, y_um: Field) -> Field:
        """Distance (n,) in um from places to the edge of the adipose tissue, far outside where there is none."""
        if self.fat is None:
            return np.full(len(x_um), -_REACH_UM, np.float32)
        return self.fat[self._at(x_um, y_um)].astype(np.float32) * np.float32(UNIT_UM)

    def _at(self, x_um: Field, y_um: Field) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        row = np.clip((y_um / self.mask_um).astype(np.int64), 0, self.labels.shape[0] - 1)
        column = np.clip((x_um / self.mask_um).astype(np.int64), 0, self.labels.shape[1] - 1)
        return row, column


def region_name(code: int) -> str:
    return _NAMES[code]


def plan(
    seed: int, size_px0: tuple[int, int], mpp: float, grade: int, tissue: float | None = None, fatty: bool = False
) -> Layout:
    """The plan of a slide of the given ISUP grade.

    Raises
    ------
    ValueError
        If the slide is too small to hold the grade's patterns.
    """
    downsample = 2 ** round(np.log2(8 / mpp))
    shape = (-(-size_px0[1] // downsample), -(-size_px0[0] // downsample))
    um = downsample * mpp
    for attempt in range(24):
        rng = np.random.default_rng([seed & 0xFFFFFFFF, 101, attempt])
        mask = _tissue_mask(rng, key_of(seed, "tissue", attempt), shape, um, tissue)
        labels = mask.astype(np.uint8)
        if grade:
            _add_tumour(rng, key_of(seed, "tumour", attempt), labels, um, _pick_patterns(rng, grade))
        if isup_grade(*patterns_of(_areas(labels))) == grade and mask.any():
            break
    else:
        raise ValueError(
            f"size_px0 {size_px0}: too small for the regions of ISUP grade {grade}; use 2048 x 2048 or more"
        )
    present = [code for code in _NAMES if (labels == code).any()]
    fat = None
    if fatty:
        fat = _distance((labels == 1) & (_field(key_of(seed, "fat"), 350 / um, shape) > 0.1), um)
    edge = _distance(mask, um)
    return Layout(labels, edge, {c: _distance(labels == c, um) for c in present}, fat, downsample, um)


def distance_without_holes(layout: Layout) -> Distances:
    """Signed distance (H, W) to the outer edge of the tissue, `UNIT_UM`: positive in its holes as well."""
    contours, _ = cv2.findContours((layout.labels > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(layout.labels), contours, -1, 1, -1)
    return _distance(filled > 0, layout.mask_um)


def _axes(shape: tuple[int, ...]) -> tuple[Field, Field]:
    """Row and column numbers, to be broadcast."""
    return np.arange(shape[0], dtype=np.float32)[:, None], np.arange(shape[1], dtype=np.float32)[None, :]


def _areas(labels: Pixels) -> dict[str, float]:
    counts = np.bincount(labels.ravel(), minlength=6)
    return {name: float(counts[code]) for code, name in _NAMES.items()}


def _field(key: int, cell: float, shape: tuple[int, int]) -> Field:
    return smooth(key, max(cell, 2.0), Window(0, 0, -(-shape[1] // 8) * 8, -(-shape[0] // 8) * 8))[
        : shape[0], : shape[1]
    ]


def _distance(mask: NDArray[np.bool_], um: float) -> Distances:
    """Signed distance to the edge of `mask`, rounded off over about two pixels so that the raster does not show."""
    inside = np.pad(mask.astype(np.uint8), 1)
    signed: Field = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    signed -= np.where(inside > 0, np.float32(0.5), np.float32(-0.5))
    signed = softened(np.clip(signed, -_REACH_UM / um, _REACH_UM / um))[1:-1, 1:-1]
    return (signed * np.float32(um / UNIT_UM)).astype(np.int16)


def _tissue_mask(
    rng: np.random.Generator, key: int, shape: tuple[int, int], um: float, tissue: float | None
) -> NDArray[np.bool_]:
    """One to three pieces with an irregular outline, a few holes, and the glass around them."""
    height, width = shape
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width
    aspect = max(width / height, height / width)
    pieces = max(int(rng.choice([1, 1, 2])), min(round(aspect / 2), 12))
    score = np.full(shape, -9.0, np.float32)
    for index in range(pieces):
        along = (index + 0.5 + rng.uniform(-0.1, 0.1)) / pieces
        across = 0.5 + rng.uniform(-0.05, 0.05)
        cx, cy = (along, across) if width >= height else (across, along)
        ax, ay = rng.uniform(0.42, 0.52, 2)
        ax, ay = (ax / pieces, ay) if width >= height else (ax, ay / pieces)
        score = np.maximum(score, 1 - np.sqrt(((x - cx) / ax) ** 2 + ((y - cy) / ay) ** 2))
    side = min(height, width)
    score += 0.16 * _field(key, side / 5, shape) + 0.05 * _field(key + 1, side / 14, shape)
    border = np.minimum(np.minimum(x, 1 - x) * width, np.minimum(y, 1 - y) * height)
    score -= 0.9 * np.maximum(0, 1 - border / max(0.14 * side, 3)) ** 2 + np.float32(9) * (border < 0.035 * side)
    wanted = tissue if tissue is not None else rng.uniform(0.46, 0.58)
    cut = np.partition(score.ravel(), int(score.size * (1 - wanted)))[int(score.size * (1 - wanted))]
    mask = _large_parts(score > cut, 0.04)
    _cut_holes(rng, key + 2, mask, um)
    return _large_parts(_distance(mask, um) > 0, 0.02)


def _large_parts(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """Connected parts of at least the share `least` of the mask's own area."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    keep = stats[:, cv2.CC_STAT_AREA] >= max(least * mask.sum(), 1)
    keep[0] = False
    return keep[parts]


def _cut_holes(rng: np.random.Generator, key: int, mask: NDArray[np.bool_], um: float) -> None:
    """Tears of about 0.1 mm, in place; at most sixty of them."""
    edge = _field(key, max(60 / um, 2), mask.shape)
    count = int(rng.integers(1, 4)) + min(int(mask.sum() * um * um / 8e6), 56)
    for _ in range(count):
        radius = rng.uniform(45, 105) / um
        cx, cy = rng.uniform(0.25, 0.75) * mask.shape[1], rng.uniform(0.25, 0.75) * mask.shape[0]
        r = int(radius * 2) + 2
        ys, xs = slice(max(int(cy) - r, 0), int(cy) + r), slice(max(int(cx) - r, 0), int(cx) + r)
        dy = np.arange(ys.start, min(ys.stop, mask.shape[0]))[:, None] - cy
        dx = np.arange(xs.start, min(xs.stop, mask.shape[1]))[None, :] - cx
        stretch = rng.uniform(0.6, 1.6)
        mask[ys, xs] &= np.sqrt(dx * dx * stretch + dy * dy / stretch) > radius * (1 + 0.3 * edge[ys, xs])


def _pick_patterns(rng: np.random.Generator, grade: int) -> tuple[int, int]:
    """Primary and secondary pattern for an ISUP grade; 3+5 and 5+3 are rare, as in practice."""
    if grade == 4:
        return ((3, 5), (5, 3), (4, 4))[int(np.searchsorted([0.06, 0.12], rng.random()))]
    if grade == 5:
        return ((4, 5), (5, 4), (5, 5))[int(rng.integers(3))]
    return {1: (3, 3), 2: (3, 4), 3: (4, 3)}[grade]


def _add_tumour(rng: np.random.Generator, key: int, labels: Pixels, um: float, patterns: tuple[int, int]) -> None:
    """One to three foci, split into the two patterns along a wavy front; in place."""
    tissue = labels > 0
    total = int(tissue.sum())
    if total < 16:
        return
    wanted = int(total * rng.uniform(0.3, 0.75))
    places = np.flatnonzero(tissue)
    y, x = _axes(labels.shape)
    far: Field = np.full(labels.shape, np.inf, np.float32)
    count = int(rng.integers(1, 3)) + min(int(total * um * um / 4e6), 12)
    for cy, cx in zip(*np.unravel_index(places[rng.choice(len(places), count)], labels.shape), strict=True):
        far = np.minimum(far, np.sqrt((x - cx) ** 2 + (y - cy) ** 2))
    far += _field(key, 220 / um, labels.shape) * np.float32(60 / um)
    far[~tissue] = np.inf
    tumour = tissue & (far <= np.partition(far.ravel(), wanted)[wanted])
    tumour = cv2.medianBlur(tumour.astype(np.uint8), 9).astype(bool) & tissue
    tumour = _large_parts(tumour, 0.1)
    if not tumour.any():
        return
    primary, secondary = patterns
    labels[tumour] = primary
    if primary != secondary:
        labels[_share(rng, key + 1, tumour, um, rng.uniform(0.22, 0.38))] = secondary
    _drop_specks(labels, um)


def _share(rng: np.random.Generator, key: int, tumour: NDArray[np.bool_], um: float, share: float) -> NDArray[np.bool_]:
    """A contiguous share of the tumour, on one side of a wavy front."""
    y, x = _axes(tumour.shape)
    angle = rng.uniform(0, 2 * np.pi)
    front: Field = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    front += _field(key, 260 / um, tumour.shape) * np.float32(70 / um)
    values = front[tumour]
    return tumour & (front <= np.partition(values, int(share * len(values)))[int(share * len(values))])


def _drop_specks(labels: Pixels, um: float) -> None:
    """Give patches smaller than (160 um)^2, or 3 % of a small slide's tissue, the label around them; in place."""
    tissue = labels > 0
    least = min((160 / um) ** 2, 0.03 * tissue.sum())
    for code in (3, 4, 5, 1):
        own = labels == code
        if not own.any():
            continue
        _, parts, stats, _ = cv2.connectedComponentsWithStats(own.astype(np.uint8), connectivity=4)
        small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < least)
        for part in small[small > 0]:
            left, top, width, height = (int(v) for v in stats[part, :4])
            near = (slice(max(top - 2, 0), top + height + 2), slice(max(left - 2, 0), left + width + 2))
            patch = parts[near] == part
            ring = cv2.dilate(patch.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & ~patch & tissue[near]
            if ring.any():
                labels[near][patch] = np.bincount(labels[near][ring]).argmax()
