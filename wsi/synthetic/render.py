"""Blocks of a slide: the architecture filled with cytoplasm, fibres and nuclei, then photographed."""

from functools import lru_cache

import cv2
import numpy as np

from wsi.synthetic import nuclei, optics
from wsi.synthetic.architecture import Fields, lattice_objects
from wsi.synthetic.layout import UNIT_UM, Distances
from wsi.synthetic.noise import Field, Pixels, Window, enlarged, key_of, lattice, smooth, softened
from wsi.synthetic.patterns import draw_architecture
from wsi.synthetic.placement import place_nuclei
from wsi.synthetic.scene import Scene

_MARGIN = 96  # grid cells around a block whose nuclei may reach into it or push others aside
_RIM = 10  # grid cells around a block that are drawn and cut off again
_SHEET_PX = 1024


def draw_block(scene: Scene, x_px0: int, y_px0: int, w_px: int, h_px: int) -> Pixels:
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


def _upsampled(scene: Scene, plan: Distances, window: Window) -> Field:
    """A plan's distances (um) on the architecture's grid; off the slide the border's value holds."""
    factor = scene.layout.downsample // scene.grid_px
    x, y = window.x // factor - 1, window.y // factor - 1
    rows = np.clip(np.arange(y, y + window.h // factor + 2), 0, plan.shape[0] - 1)
    columns = np.clip(np.arange(x, x + window.w // factor + 2), 0, plan.shape[1] - 1)
    part = plan[rows][:, columns].astype(np.float32) * np.float32(UNIT_UM)
    large = enlarged(part, factor, 16)
    return large[factor : factor + window.h, factor : factor + window.w]


def _glass(scene: Scene, core: Window) -> tuple[Pixels, Pixels]:
    size = (core.w * scene.grid_px, core.h * scene.grid_px)
    light = _twice(_illumination(scene, core))
    blue, pink = (
        cv2.resize(_amount(a), size, interpolation=cv2.INTER_LINEAR) for a in (light * np.float32(0.5), light)
    )
    return blue, pink


def _illumination(scene: Scene, window: Window) -> Field:
    """The glass' slight unevenness, as a stain amount."""
    return np.float32(0.012) + np.float32(0.006) * smooth(key_of(scene.seed, "light"), 300, window)


def _amount(values: Field) -> Pixels:
    """Stain amounts as bytes; dithered, so that a slow slope shows no steps."""
    height, width = values.shape
    return np.clip(values * optics.UNIT + _wrapped(_dither_sheet(), 0, 0, width, height), 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _dither_sheet() -> Field:
    return np.random.default_rng(909).random((1280, 1280), np.float32)


def _tissue(scene: Scene, core: Window, wide: Window, tissue: Field) -> tuple[Pixels, Pixels]:
    """Amounts (h, w) uint8 of haematoxylin and eosin of a block that has tissue."""
    layout, g = scene.layout, scene.grid_px
    codes = {c for c, plan in layout.patterns.items() if _upsampled(scene, plan, wide).max() > -120}
    fields = draw_architecture(scene.seed, wide, scene.grid_um, layout, codes, scene.habit)
    if layout.fat is not None:
        _fill_with_fat(scene, wide, fields, _upsampled(scene, layout.fat, wide))
    for hollow in (fields.lumen, fields.gap):
        np.minimum(hollow, tissue - np.float32(3), out=hollow)  # nothing is open to the glass: the mask's edge is seen
    flow = _fibre_flow(scene, wide, fields.gland)
    places = place_nuclei(scene, wide, fields, tissue, flow)
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


def _fill_with_fat(scene: Scene, window: Window, fields: Fields, fat: Field) -> None:
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
    empty = np.minimum(np.minimum(fat, softened(from_wall)), -fields.gland - 3)
    np.maximum(fields.gap, empty, out=fields.gap)


def _fibre_flow(scene: Scene, window: Window, gland: Field) -> list[Field]:
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
    nearness = 1 / (1 - np.minimum(gland, 0) * np.float32(1 / 20))
    around = np.float32(0.75) * nearness * nearness
    across = y * cos - x * sin + bend
    return [x * cos + y * sin + sway, across - around * gland * np.float32(1.6)]


def _cells(window: Window, grid_um: float, fields: Fields, places: nuclei.Places) -> tuple[Field, Field]:
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
    blur = softened(walls.astype(np.float32), 3)
    return softened(of_label[label], 3), blur


@lru_cache(maxsize=1)
def _fibre_sheet() -> Pixels:
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
def _grain_sheet() -> Field:
    """A periodic sheet of cytoplasm granules, two pixels per um: (1024, 1024), mean 0, standard deviation 1."""
    rng = np.random.default_rng(808)
    fine = rng.standard_normal((_SHEET_PX, _SHEET_PX))
    sheet = np.zeros_like(fine)
    for sigma, weight in ((0.7, 0.5), (1.8, 0.7), (5.0, 0.6)):
        padded = cv2.copyMakeBorder(np.roll(fine, int(sigma * 100)), 32, 32, 32, 32, cv2.BORDER_WRAP)
        layer = cv2.GaussianBlur(padded, (0, 0), sigma)[32:-32, 32:-32]
        sheet += weight * layer / layer.std()
    return (np.rint(sheet * (256 / sheet.std())) / 256).astype(np.float32)


def _wrapped(sheet: Field, x: int, y: int, width: int, height: int) -> Field:
    return np.take(
        np.take(sheet, np.arange(y, y + height) % _SHEET_PX, axis=0), np.arange(x, x + width) % _SHEET_PX, axis=1
    )


def _twice(field: Field) -> Field:
    return enlarged(field, 2)


def _cover(distance_um: Field, softness: float = 1.1) -> Field:
    """Share of a pixel that lies inside an edge."""
    return np.clip(distance_um * np.float32(softness) + np.float32(0.5), 0, 1)


def _ground(scene: Scene, window: Window, fields: Fields, tissue: Field, flow: list[Field]) -> tuple[Pixels, Pixels]:
    """Amounts without nuclei, twice as fine as the grid: cytoplasm, fibres, lumens, secretion, gaps, glass."""
    tint, key = scene.tint, key_of(scene.seed, "ground")
    gland, empty = _cover(_twice(fields.gland)), _cover(_twice(np.maximum(fields.lumen, fields.gap)))
    sheet = _twice((fields.kind == 5).astype(np.float32))
    inside = _cover(_twice(tissue), 0.8)
    along, across = (
        enlarged(f - 512 * np.floor(f[0, 0] / 512), 2, 64) for f in flow[:2]
    )  # the sheet repeats at 512 um
    tints, walls, infiltrated = (_twice(f) for f in flow[2:])
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
