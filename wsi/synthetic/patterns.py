"""The patterns of the prostate: benign glands and Gleason patterns 3, 4 and 5.

Areas of epithelium, lumen and stroma are alike in all of them on average, and spread widely from slide to slide: how
things are put together tells them apart, not how much there is of what.
"""

from collections.abc import Callable

import numpy as np

from wsi.synthetic.architecture import FAR_UM, Drawing, Fields, Habit, lobed_blob, round_blob
from wsi.synthetic.layout import Layout
from wsi.synthetic.noise import Field, Window

_Box = tuple[slice, slice]


def draw_architecture(
    key: int, window: Window, grid_um: float, layout: Layout, codes: set[int], habit: Habit
) -> Fields:
    """Draw everything that lies in a window; `codes` are the regions that reach into it."""
    drawing = Drawing(key, window, grid_um, layout, habit)
    for code, (outline, _) in _DRAWERS.items():
        if code in codes:
            outline(drawing)
    drawing.measure_depth()
    for code, (_, hollow) in _DRAWERS.items():
        if code in codes:
            hollow(drawing)
    _vessels(drawing)
    _clefts(drawing)
    return drawing.fields


def _put(drawing: Drawing, box: _Box, code: int, gland: Field, draws: Field) -> None:
    """Unite an outline with what is there (it shows where it is deeper) and settle what its lumen holds."""
    fields = drawing.fields
    front = gland > fields.gland[box]
    fields.kind[box][front] = code
    fields.secretion[box][front] = _secretion(drawing, draws)
    np.maximum(fields.gland[box], gland, out=fields.gland[box])


def _secretion(drawing: Drawing, draws: Field) -> float:
    return float(0.2 + 0.8 * draws[7]) if draws[6] < drawing.habit.secretion else 0.0


def _benign(drawing: Drawing) -> None:
    """Large lobed glands."""
    size = drawing.habit.size
    found = drawing.objects("benign", 1, 150 * size, 95 * size, 25 * size, jitter=0.14)
    for x, y, draws in zip(found.x_um, found.y_um, found.draws, strict=True):
        box = drawing.box(x, y, 95 * size)
        if box is not None:
            _put(drawing, box, 1, lobed_blob(drawing.fields, box, x, y, (46 + 26 * draws[6]) * size, draws), draws)


def _benign_lumens(drawing: Drawing) -> None:
    """A wide lumen into which the lining is folded."""
    fields, habit = drawing.fields, drawing.habit
    folds = 5.5 * drawing.noise("folds", 13) + 5.0 * drawing.noise("folds wide", 34)
    lining = 21.5 + 8 * (1 - habit.lumens) + np.maximum(folds, -3)
    lumen = np.where(fields.kind == 1, fields.depth - lining, np.float32(FAR_UM))
    np.maximum(fields.lumen, lumen, out=fields.lumen)


def _pattern3(drawing: Drawing) -> None:
    """Small, round, separate glands."""
    size = drawing.habit.size
    found = drawing.objects("small", 3, 64 * size, 44 * size, 12, jitter=0.15)
    for x, y, draws in zip(found.x_um, found.y_um, found.draws, strict=True):
        radius = (21 + 9 * draws[4]) * size
        box = drawing.box(x, y, radius * 1.4)
        if box is not None:
            _put(drawing, box, 3, round_blob(drawing.fields, box, x, y, radius, draws), draws)


def _pattern3_lumens(drawing: Drawing) -> None:
    """One round lumen, one layer of cells around it."""
    fields, habit = drawing.fields, drawing.habit
    lining = 12.6 + 4 * (1 - habit.lumens) + 1.2 * drawing.noise("lining", 30)
    lumen = np.where(fields.kind == 3, fields.depth - lining, np.float32(FAR_UM))
    np.maximum(fields.lumen, lumen, out=fields.lumen)


def _pattern4(drawing: Drawing) -> None:
    """Fused glands: broad fields of epithelium."""
    size = drawing.habit.size
    found = drawing.objects("fused", 4, 150 * size, 115 * size, 20, jitter=0.2)
    ragged = 4 * drawing.noise("ragged", 20)
    for x, y, draws in zip(found.x_um, found.y_um, found.draws, strict=True):
        box = drawing.box(x, y, 115 * size)
        if box is not None:
            gland = lobed_blob(drawing.fields, box, x, y, (62 + 24 * draws[6]) * size, draws) + ragged[box]
            _put(drawing, box, 4, gland, draws)


def _pattern4_lumens(drawing: Drawing) -> None:
    """Many small punched-out lumens."""
    habit, fields = drawing.habit, drawing.fields
    holes = drawing.objects("holes", 4, 30 * habit.size, 16, 4, jitter=0.22)
    for x, y, draws in zip(holes.x_um, holes.y_um, holes.draws, strict=True):
        box = drawing.box(x, y, 20)
        if box is None or draws[5] < habit.closed:
            continue
        radius = (5.5 + 5.0 * draws[4]) * habit.size * (0.7 + 0.3 * habit.lumens)
        lumen = np.minimum(round_blob(fields, box, x, y, radius, draws), fields.depth[box] - 8)
        lumen[fields.kind[box] != 4] = FAR_UM
        fields.secretion[box][lumen > -3] = _secretion(drawing, draws)
        np.maximum(fields.lumen[box], lumen, out=fields.lumen[box])


def _pattern5(drawing: Drawing) -> None:
    """Sheets, and single cells and cords between the fibres."""
    size = drawing.habit.size
    mix = drawing.noise("sheets or cords", 160)
    ragged = 7 * drawing.noise("ragged", 16)
    found = drawing.objects("sheets", 5, 135 * size, 115 * size, 15, jitter=0.25)
    for x, y, draws in zip(found.x_um, found.y_um, found.draws, strict=True):
        box = drawing.box(x, y, 115 * size)
        if box is None or draws[5] > 0.75:
            continue
        gland = lobed_blob(drawing.fields, box, x, y, (52 + 26 * draws[6]) * size, draws) + ragged[box]
        _put(drawing, box, 5, gland - 10 * np.maximum(mix[box], -0.5), draws)
    cells = drawing.objects("cells", 5, 15, 14, 2, jitter=0.42)
    for x, y, draws in zip(cells.x_um, cells.y_um, cells.draws, strict=True):
        box = drawing.box(x, y, 12) if draws[5] < 0.5 else None
        if box is not None:
            _put(drawing, box, 5, round_blob(drawing.fields, box, x, y, 5.5 + 2.5 * draws[4], draws), draws)


def _pattern5_vacuoles(drawing: Drawing) -> None:
    """No lumens, but vacuoles within some cells."""
    fields = drawing.fields
    found = drawing.objects("vacuoles", 5, 20, 12, 2, jitter=0.45)
    for x, y, draws in zip(found.x_um, found.y_um, found.draws, strict=True):
        box = drawing.box(x, y, 10) if draws[5] < drawing.habit.vacuoles else None
        if box is not None:
            vacuole = np.minimum(round_blob(fields, box, x, y, 2.2 + 2.2 * draws[4], draws), fields.depth[box] - 2)
            np.maximum(fields.lumen[box], vacuole, out=fields.lumen[box])


def _vessels(drawing: Drawing) -> None:
    """Capillaries in the stroma: small empty or blood-filled slits, in every pattern."""
    habit, fields = drawing.habit, drawing.fields
    for code in drawing.layout.patterns:
        found = drawing.objects("vessels", code, 85, 30, 15, jitter=0.45)
        for x, y, draws in zip(found.x_um, found.y_um, found.draws, strict=True):
            box = drawing.box(x, y, 26)
            if draws[4] > habit.vessels or box is None:
                continue
            radius = 4 + 9 * draws[5] ** 2
            vessel = np.minimum(round_blob(fields, box, x, y, radius, draws), -fields.gland[box] - 4)
            np.maximum(fields.gap[box], vessel, out=fields.gap[box])
            if draws[6] < 0.5:
                fields.secretion[box][vessel > -2] = 1.6


def _clefts(drawing: Drawing) -> None:
    """Retraction: the epithelium comes off the stroma in places, by a width that varies along its edge."""
    fields = drawing.fields
    where = drawing.noise("clefts", 55) - 1.5 + 1.2 * drawing.habit.clefts + 0.45 * drawing.noise("clefts fine", 12)
    where += np.float32(0.9) * (fields.kind == 5)
    width = np.clip(where * 1.6, -4, 2.6)
    cleft = width - np.abs(fields.gland + width + np.float32(0.4))
    np.maximum(fields.gap, cleft, out=fields.gap)


_Drawer = Callable[[Drawing], None]
_DRAWERS: dict[int, tuple[_Drawer, _Drawer]] = {
    1: (_benign, _benign_lumens),
    3: (_pattern3, _pattern3_lumens),
    4: (_pattern4, _pattern4_lumens),
    5: (_pattern5, _pattern5_vacuoles),
}
