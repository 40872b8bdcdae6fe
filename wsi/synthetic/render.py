"""Blocks of a slide: the architecture filled with cytoplasm, fibres and nuclei, then photographed."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi.synthetic import nuclei, optics
from wsi.synthetic.architecture import Fields, Habit, lattice_objects
from wsi.synthetic.artefacts import Overlay
from wsi.synthetic.layout import UNIT_UM, Layout
from wsi.synthetic.noise import Window, key_of, lattice, smooth
from wsi.synthetic.patterns import draw_architecture

_MARGIN = 96  # grid cells around a block whose nuclei may reach into it or push others aside
_RIM = 10  # grid cells around a block that are drawn and cut off again
_SHEET_PX = 1024


@dataclass(frozen=True, slots=True)
class Tint:
    """Stain amounts of one slide's tissues, and how crowded its stroma is; drawn per slide, whatever the grade."""

    cytoplasm_h: float
    cytoplasm_e: float
    stroma_h: float
    stroma_e: float
    fibres: float
    loose: float
    apart: float
    crowd: float
    lymphocytes: float


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything a block is drawn from."""

    seed: int
    mpp: float
    layout: Layout
    habit: Habit
    tint: Tint
    look: optics.Optics
    table: NDArray[np.uint32]
    overlay: Overlay
    outer: NDArray[np.int16]

    @property
    def grid_px(self) -> int:
        return grid_px(self.mpp)

    @property
    def grid_um(self) -> float:
        return self.grid_px * self.mpp


def grid_px(mpp: float) -> int:
    """Level-0 px per cell of the architecture's grid (about 1 um)."""
    return 4 if mpp < 0.36 else 2


def slide_habit(seed: int) -> Habit:
    rng = np.random.default_rng([seed & 0xFFFFFFFF, 505])
    return Habit(
        size=rng.uniform(0.9, 1.12),
        lumens=rng.uniform(0.6, 1.15),
        secretion=rng.uniform(0.05, 0.6),
        clefts=rng.uniform(0.2, 0.9),
        vessels=rng.uniform(0.1, 0.6),
        closed=rng.uniform(0.02, 0.2),
        vacuoles=rng.uniform(0.2, 0.8),
    )


def slide_tint(seed: int) -> Tint:
    rng = np.random.default_rng([seed & 0xFFFFFFFF, 606])
    return Tint(
        cytoplasm_h=rng.uniform(0.12, 0.34),
        cytoplasm_e=rng.uniform(0.34, 0.66),
        stroma_h=rng.uniform(0.03, 0.13),
        stroma_e=rng.uniform(0.42, 0.78),
        fibres=rng.uniform(0.12, 0.3),
        loose=rng.uniform(-2.6, -0.9),
        apart=rng.uniform(0.1, 0.9),
        crowd=rng.uniform(0.12, 0.5),
        lymphocytes=rng.uniform(0.0, 0.3),
    )


def draw_block(scene: Scene, x_px0: int, y_px0: int, w_px: int, h_px: int) -> NDArray[np.uint8]:
    """Colours (h, w, 3) of a block; its corner and size are multiples of 256. Blocks fit together without a seam."""
    g = scene.grid_px
    core = Window(x_px0 // g, y_px0 // g, w_px // g, h_px // g)
    wide = Window(core.x - _MARGIN, core.y - _MARGIN, core.w + 2 * _MARGIN, core.h + 2 * _MARGIN)
    tissue = _upsampled(scene, scene.layout.tissue, wide) + 2.5 * smooth(key_of(scene.seed, "edge"), 14, wide)
    if tissue.max() <= -2:
        haematoxylin, eosin = _glass(scene, core)
    else:
        haematoxylin, eosin = _tissue(scene, core, wide, tissue)
    shift = lattice(key_of(scene.seed, "noise"), Window(core.x, core.y, 2, 1))[0] * 511
    blur_px = scene.look.blur_um / scene.mpp
    rgb = optics.photograph(haematoxylin, eosin, scene.table, blur_px, (int(shift[0]), int(shift[1])))
    return scene.overlay.over(rgb, _upsampled(scene, scene.outer, core), x_px0, y_px0)


def _upsampled(scene: Scene, plan: NDArray[np.int16], window: Window) -> NDArray[np.float32]:
    """A plan's distances (um) on the architecture's grid; off the slide the border's value holds."""
    factor = scene.layout.downsample // scene.grid_px
    x, y = window.x // factor - 1, window.y // factor - 1
    rows = np.clip(np.arange(y, y + window.h // factor + 2), 0, plan.shape[0] - 1)
    columns = np.clip(np.arange(x, x + window.w // factor + 2), 0, plan.shape[1] - 1)
    part = plan[rows][:, columns].astype(np.float32) * np.float32(UNIT_UM)
    large = cv2.resize(part, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    return large[factor : factor + window.h, factor : factor + window.w]


def _glass(scene: Scene, core: Window) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    size = (core.w * scene.grid_px, core.h * scene.grid_px)
    light = _twice(_illumination(scene, core))
    amounts = (_amount(light * np.float32(0.5)), _amount(light))
    return tuple(cv2.resize(a, size, interpolation=cv2.INTER_LINEAR) for a in amounts)


def _illumination(scene: Scene, window: Window) -> NDArray[np.float32]:
    """The glass' slight unevenness, as a stain amount."""
    return np.float32(0.012) + np.float32(0.006) * smooth(key_of(scene.seed, "light"), 300, window)


def _amount(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stain amounts as bytes; dithered, so that a slow slope shows no steps."""
    height, width = values.shape
    return np.clip(values * optics.UNIT + _dither_sheet()[:height, :width], 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _dither_sheet() -> NDArray[np.float32]:
    return np.random.default_rng(909).random((1280, 1280), np.float32)


def _tissue(
    scene: Scene, core: Window, wide: Window, tissue: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Amounts (h, w) uint8 of haematoxylin and eosin of a block that has tissue."""
    layout, g = scene.layout, scene.grid_px
    codes = {c for c, plan in layout.patterns.items() if _upsampled(scene, plan, wide).max() > -120}
    fields = draw_architecture(scene.seed, wide, scene.grid_um, layout, codes, scene.habit)
    if layout.fat is not None:
        _fill_with_fat(scene, wide, fields, _upsampled(scene, layout.fat, wide))
    flow = _fibre_flow(scene, wide, fields.gland)
    places = _nuclei(scene, wide, fields, tissue, flow)
    cells = _cells(wide, scene.grid_um, fields, places)
    infiltrated = (
        np.clip(_upsampled(scene, layout.patterns[5], wide) / 40, 0, 1) if 5 in codes else np.zeros_like(tissue)
    )
    trim = _MARGIN - _RIM
    inner = (slice(trim, wide.h - trim), slice(trim, wide.w - trim))
    rim = Window(core.x - _RIM, core.y - _RIM, core.w + 2 * _RIM, core.h + 2 * _RIM)
    part = Fields(*(getattr(fields, name)[inner] for name in Fields.__slots__))
    base_h, base_e = _ground(scene, rim, part, tissue[inner], [f[inner] for f in (*flow, *cells, infiltrated)])
    full = (rim.w * g, rim.h * g)
    haematoxylin = cv2.resize(base_h, full, interpolation=cv2.INTER_LINEAR)
    eosin = cv2.resize(base_e, full, interpolation=cv2.INTER_LINEAR)
    picks = (places.priority.astype(np.float64) * 1e6).astype(np.int64)
    nuclei.stamp(haematoxylin, places, picks, rim.x * scene.grid_um, rim.y * scene.grid_um, scene.mpp)
    cut = (slice(_RIM * g, (_RIM + core.h) * g), slice(_RIM * g, (_RIM + core.w) * g))
    return np.ascontiguousarray(haematoxylin[cut]), np.ascontiguousarray(eosin[cut])


def _fill_with_fat(scene: Scene, window: Window, fields: Fields, fat: NDArray[np.float32]) -> None:
    """Adipocytes, in place: large empty cells with thin walls."""
    if fat.max() <= 0:
        return
    found = lattice_objects(key_of(scene.seed, "adipocytes"), 62, window, scene.grid_um, 0, 0.38)
    row = (found.y_um / np.float32(scene.grid_um)).astype(np.intp) - window.y
    column = (found.x_um / np.float32(scene.grid_um)).astype(np.intp) - window.x
    seeds = np.ones((window.h, window.w), np.uint8)
    seeds[np.clip(row, 0, window.h - 1), np.clip(column, 0, window.w - 1)] = 0
    _, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    hollow = np.ones((window.h, window.w), np.uint8)
    hollow[:, 1:] &= label[:, 1:] == label[:, :-1]
    hollow[1:] &= label[1:] == label[:-1]
    from_wall = cv2.distanceTransform(hollow, cv2.DIST_L2, 5) * np.float32(scene.grid_um) - np.float32(1.6)
    empty = np.minimum(np.minimum(fat, cv2.GaussianBlur(from_wall, (0, 0), 1.5)), -fields.gland - 3)
    np.maximum(fields.gap, empty, out=fields.gap)


def _fibre_flow(scene: Scene, window: Window, gland: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Bent coordinates (um) along and across the fibres of the stroma; near a gland they follow its outline."""
    key, g = key_of(scene.seed, "flow"), scene.grid_um
    turn = float(lattice(key, Window(0, 0, 1, 1))[0, 0]) * np.pi
    x = ((np.arange(window.w, dtype=np.float32) + window.x + 0.5) * np.float32(g))[None, :]
    y = ((np.arange(window.h, dtype=np.float32) + window.y + 0.5) * np.float32(g))[:, None]
    bend = (
        45 * smooth(key + 1, 260 / g, window)
        + 9 * smooth(key + 2, 60 / g, window)
        + 1.6 * smooth(key + 4, 14 / g, window)
    )
    sway = 45 * smooth(key + 3, 240 / g, window)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    around = np.float32(0.75) * np.exp(np.minimum(gland, 0) * np.float32(1 / 14))
    across = y * cos - x * sin + bend
    return [x * cos + y * sin + sway, across - around * gland * np.float32(1.6)]


def _cells(
    window: Window, grid_um: float, fields: Fields, places: nuclei.Places
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Each cell's own tint (-1 to 1) and the walls between cells (0 to 1): a pixel belongs to the nearest nucleus."""
    seeds = np.ones((window.h, window.w), np.uint8)
    tints = np.zeros((window.h, window.w), np.float32)
    row = (places.y_um / np.float32(grid_um)).astype(np.intp) - window.y
    column = (places.x_um / np.float32(grid_um)).astype(np.intp) - window.x
    here = (row >= 0) & (column >= 0) & (row < window.h) & (column < window.w)
    if not here.any():
        return tints, tints
    row, column = row[here], column[here]
    seeds[row, column] = 0
    tints[row, column] = (places.priority[here] * 97.0) % 2 - 1
    _, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    of_label = np.zeros(int(label.max()) + 1, np.float32)
    of_label[label[row, column]] = tints[row, column]
    walls = np.zeros((window.h, window.w), np.uint8)
    walls[:, 1:] |= label[:, 1:] != label[:, :-1]
    walls[1:] |= label[1:] != label[:-1]
    blur = cv2.GaussianBlur(walls.astype(np.float32), (0, 0), 0.6)
    return cv2.GaussianBlur(of_label[label], (0, 0), 0.8), blur


@lru_cache(maxsize=1)
def _fibre_sheet() -> NDArray[np.uint8]:
    """A periodic sheet of long wavy fibres, two pixels per um: (1024, 1024) uint8, mean about 128."""
    rng = np.random.default_rng(707)
    frequency = np.fft.fftfreq(_SHEET_PX) * _SHEET_PX
    fx, fy = frequency[None, :] / 512, frequency[:, None] / 512  # cycles per um
    spectrum = np.fft.fft2(rng.standard_normal((_SHEET_PX, _SHEET_PX)))
    total = np.zeros((_SHEET_PX, _SHEET_PX))
    for width, length, weight in ((1.0, 14.0, 0.8), (2.4, 26.0, 1.0), (6.0, 45.0, 1.0)):
        band = np.exp(-((fy * width * 2.2) ** 2) * 2 - (fx * length) ** 2) * np.abs(fy * width)
        layer = np.fft.ifft2(spectrum * band).real
        total += weight * layer / layer.std()
        spectrum = np.roll(spectrum, 11, axis=(0, 1))
    total /= total.std()
    return np.clip(np.rint(128 + 42 * total), 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _grain_sheet() -> NDArray[np.float32]:
    """A periodic sheet of cytoplasm granules, two pixels per um: (1024, 1024), mean 0, standard deviation 1."""
    rng = np.random.default_rng(808)
    fine = rng.standard_normal((_SHEET_PX, _SHEET_PX)).astype(np.float32)
    sheet = np.zeros_like(fine)
    for sigma, weight in ((0.7, 0.5), (1.8, 0.7), (5.0, 0.6)):
        padded = cv2.copyMakeBorder(np.roll(fine, int(sigma * 100)), 32, 32, 32, 32, cv2.BORDER_WRAP)
        layer = cv2.GaussianBlur(padded, (0, 0), sigma)[32:-32, 32:-32]
        sheet += np.float32(weight) * layer / layer.std()
    return sheet / sheet.std()


def _wrapped(sheet: NDArray[np.float32], x: int, y: int, width: int, height: int) -> NDArray[np.float32]:
    return np.take(
        np.take(sheet, np.arange(y, y + height) % _SHEET_PX, axis=0), np.arange(x, x + width) % _SHEET_PX, axis=1
    )


def _twice(field: NDArray[np.float32]) -> NDArray[np.float32]:
    return cv2.resize(field, (field.shape[1] * 2, field.shape[0] * 2), interpolation=cv2.INTER_LINEAR)


def _cover(distance_um: NDArray[np.float32], softness: float = 1.1) -> NDArray[np.float32]:
    """Share of a pixel that lies inside an edge."""
    return np.clip(distance_um * np.float32(softness) + np.float32(0.5), 0, 1)


def _ground(
    scene: Scene, window: Window, fields: Fields, tissue: NDArray[np.float32], flow: list[NDArray[np.float32]]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Amounts without nuclei, twice as fine as the grid: cytoplasm, fibres, lumens, secretion, gaps, glass."""
    tint, key = scene.tint, key_of(scene.seed, "ground")
    gland, empty = _cover(_twice(fields.gland)), _cover(_twice(np.maximum(fields.lumen, fields.gap)))
    sheet = _twice((fields.kind == 5).astype(np.float32))
    inside = _cover(_twice(tissue), 0.8)
    along, across, tints, walls, infiltrated = (_twice(f) for f in flow)
    fibre_map = (along * 2 % _SHEET_PX, across * 2 % _SHEET_PX)
    fibres = cv2.remap(_fibre_sheet(), *fibre_map, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP).astype(np.float32)
    fibres = (fibres - 128) * np.float32(1 / 42)
    grain = _wrapped(_grain_sheet(), window.x * 2, window.y * 2, window.w * 2, window.h * 2)
    loose = _twice(smooth(key + 1, 180 / scene.grid_um, window))
    strong = _twice(1 + 0.18 * smooth(key + 2, 330 / scene.grid_um, window))
    blue = _twice(1 + 0.22 * smooth(key + 3, 300 / scene.grid_um, window))
    slack = 0.7 * loose + np.float32(tint.loose) + np.float32(0.75) * infiltrated
    slits = np.clip((slack - fibres - 0.25 * grain) * 1.1, 0, 1)
    stroma_e = (
        np.float32(tint.stroma_e) * (1 + np.float32(tint.fibres) * fibres + 0.1 * grain - 0.1 * loose) * (1 - slits)
    )
    stroma_h = np.float32(tint.stroma_h) * (1 + 0.3 * fibres) * (1 - slits)
    apical = np.clip(_twice(fields.lumen) * 0.12 + 1.3, 0, 1)
    cell_e = np.float32(tint.cytoplasm_e) * (1 + 0.13 * grain + 0.16 * tints - 0.25 * walls - 0.15 * apical)
    cell_h = np.float32(tint.cytoplasm_h) * (1 - 0.12 * grain + 0.2 * tints - 0.35 * walls - 0.45 * apical)
    if sheet.any():
        apart = np.clip(_twice(smooth(key + 4, 110 / scene.grid_um, window)) + np.float32(tint.apart), 0, 1)
        torn = np.clip(0.6 + 1.1 * _twice(smooth(key + 5, 9 / scene.grid_um, window)), 0, 1)
        empty = np.maximum(empty, np.clip(1.8 * walls * apart * torn * sheet * gland, 0, 1))
        cell_h = cell_h * (1 - np.float32(0.22) * sheet)
        cell_e = cell_e * (1 - np.float32(0.05) * sheet)
    fill = _twice(fields.secretion) * (0.5 + 0.12 * grain)
    full = (1 - empty) * inside
    eosin = full * (stroma_e + gland * (cell_e - stroma_e)) * strong + empty * inside * fill
    haematoxylin = full * (stroma_h + gland * (cell_h - stroma_h)) * blue
    light = _twice(_illumination(scene, window))
    return _amount(haematoxylin + light * 0.5), _amount(eosin + light)


def _nuclei(
    scene: Scene, window: Window, fields: Fields, tissue: NDArray[np.float32], flow: list[NDArray[np.float32]]
) -> nuclei.Places:
    """All nuclei of a window: along the linings, through the sheets, between the fibres."""
    slope_y, slope_x = np.gradient(fields.depth, scene.grid_um)
    slopes = (slope_x.astype(np.float32), slope_y.astype(np.float32))
    layers = [
        nuclei.thinned(_lining(scene, window, fields, tissue, slopes)),
        nuclei.thinned(_basal(scene, window, fields, tissue, slopes)),
        nuclei.thinned(_stromal(scene, window, fields, tissue, flow)),
    ]
    return nuclei.Places(*(np.concatenate([getattr(p, n) for p in layers]) for n in nuclei.Places.__slots__))


@dataclass(frozen=True, slots=True)
class _Spots:
    """Jittered candidate places on the grid: index (row, column) into a window's arrays, place (um), two draws each."""

    at: tuple[NDArray[np.intp], NDArray[np.intp]]
    x_um: NDArray[np.float32]
    y_um: NDArray[np.float32]
    draw: NDArray[np.float32]
    priority: NDArray[np.float32]


def _spots(key: int, window: Window, pitch: int, grid_um: float) -> _Spots:
    """One candidate per `pitch` x `pitch` grid cells."""
    cells = Window(window.x // pitch + 1, window.y // pitch + 1, window.w // pitch - 1, window.h // pitch - 1)
    jx, jy, draw, priority = (lattice(key + k, cells) for k in range(4))
    column = (np.arange(cells.x, cells.x + cells.w, dtype=np.float32)[None, :] + jx) * pitch
    row = (np.arange(cells.y, cells.y + cells.h, dtype=np.float32)[:, None] + jy) * pitch
    # float32 may round a place up to the next cell, at the window's end off the window
    at_row = np.minimum((row - window.y).astype(np.intp), window.h - 1)
    at_column = np.minimum((column - window.x).astype(np.intp), window.w - 1)
    at = (at_row.ravel(), at_column.ravel())
    um = np.float32(grid_um)
    return _Spots(at, (column * um).ravel(), (row * um).ravel(), draw.ravel(), priority.ravel())


def _lining(
    scene: Scene, window: Window, fields: Fields, tissue: NDArray[np.float32], slopes: tuple[NDArray[np.float32], ...]
) -> nuclei.Places:
    """Nuclei of the epithelium: a row at its height above the stroma, or all through where there is no row to keep."""
    spots = _spots(key_of(scene.seed, "lining"), window, 3, scene.grid_um)
    gland, lumen, kind = fields.depth[spots.at], fields.lumen[spots.at], fields.kind[spots.at]
    height = np.select([kind == 1, kind == 3], [np.float32(9.0), np.float32(5.2)], np.float32(0))
    off = gland - height
    in_row = (height > 0) & (np.abs(off) < 3.2)
    fill_from = np.select([kind == 1, kind == 3], [np.float32(16), np.float32(13)], np.float32(3.4))
    fill = (gland > fill_from) & (lumen < -4.6)
    keep = (in_row & (lumen < -3.5) | fill) & (tissue[spots.at] > 2.5)
    steep_x, steep_y = slopes[0][spots.at], slopes[1][spots.at]
    scale = np.where(in_row, off / np.maximum(steep_x**2 + steep_y**2, 0.3), 0).astype(np.float32)
    angle = np.where(in_row, np.arctan2(steep_y, steep_x) + (spots.draw - 0.5) * 0.6, spots.draw * np.float32(np.pi))
    looks = [np.int8(nuclei.LUMINAL), np.int8(nuclei.PLEOMORPHIC)]
    look = np.select([kind == 1, kind == 5], looks, np.int8(nuclei.TUMOUR))
    apart = np.where(
        kind == 1,
        np.float32(6.6),
        np.where(in_row, np.float32(6.9), np.where(kind == 5, np.float32(7.9), np.float32(7.3))),
    )
    return nuclei.Places(
        spots.x_um - steep_x * scale,
        spots.y_um - steep_y * scale,
        look,
        angle.astype(np.float32),
        spots.priority,
        apart,
    ).take(keep)


def _basal(
    scene: Scene, window: Window, fields: Fields, tissue: NDArray[np.float32], slopes: tuple[NDArray[np.float32], ...]
) -> nuclei.Places:
    """Flat nuclei against the stroma, in benign glands only."""
    spots = _spots(key_of(scene.seed, "basal"), window, 4, scene.grid_um)
    off = fields.depth[spots.at] - np.float32(2.0)
    keep = (np.abs(off) < 2.2) & (fields.kind[spots.at] == 1) & (tissue[spots.at] > 2.5) & (fields.lumen[spots.at] < -3)
    steep_x, steep_y = slopes[0][spots.at], slopes[1][spots.at]
    scale = off / np.maximum(steep_x**2 + steep_y**2, 0.3)
    angle = np.arctan2(steep_x, -steep_y)
    apart = np.full_like(off, 9.0)
    return nuclei.Places(
        spots.x_um - steep_x * scale,
        spots.y_um - steep_y * scale,
        np.full(len(off), nuclei.BASAL, np.int8),
        angle,
        spots.priority,
        apart,
    ).take(keep)


def _stromal(
    scene: Scene, window: Window, fields: Fields, tissue: NDArray[np.float32], flow: list[NDArray[np.float32]]
) -> nuclei.Places:
    """Spindle nuclei along the fibres, and lymphocytes in drifts."""
    key = key_of(scene.seed, "stromal")
    spots = _spots(key, window, 5, scene.grid_um)
    crowd = scene.tint.crowd * (1 + 0.5 * smooth(key + 9, 150 / scene.grid_um, window)[spots.at])
    drift = smooth(key + 10, 60 / scene.grid_um, window)[spots.at]
    round_cell = drift > 2.4 - 3 * scene.tint.lymphocytes
    keep = (spots.draw < np.where(round_cell, 0.7, crowd)) & (tissue[spots.at] > 2)
    keep &= np.maximum(fields.gland, fields.gap)[spots.at] < -2.5
    across = flow[1]
    rise_y, rise_x = np.gradient(across)
    angle = np.arctan2(rise_x[spots.at], -rise_y[spots.at]) + (spots.priority - 0.5) * 0.5
    look = np.where(round_cell, nuclei.LYMPHOCYTE, nuclei.SPINDLE).astype(np.int8)
    apart = np.where(round_cell, np.float32(6.0), np.float32(8.5))
    return nuclei.Places(spots.x_um, spots.y_um, look, angle.astype(np.float32), spots.priority, apart).take(keep)
