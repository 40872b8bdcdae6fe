"""The patterns of the prostate: benign glands and Gleason patterns 3, 4 and 5.

Areas of epithelium, lumen and stroma are alike in all of them on average, and spread widely from slide to slide: how things
are put together tells them apart, not how much there is of what.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wsi.synthetic.architecture import Drawing, Fields, Habit, lobed_blob, round_blob
from wsi.synthetic.layout import Layout
from wsi.synthetic.noise import Window

_Box = tuple[slice, slice]


def draw_architecture(key: int, window: Window, grid_um: float, layout: Layout, codes: set[int], habit: Habit) -> Fields:
    """Draw everything that lies in a window; `codes` are the regions that reach into it."""
    drawing = Drawing(key, window, grid_um, layout, habit)
    for code, draw in _DRAWERS.items():
        if code in codes:
            draw(drawing)
    _vessels(drawing)
    _clefts(drawing)
    return drawing.fields


def _put(fields: Fields, box: _Box, code: int, gland: NDArray[np.float32], lumen: NDArray[np.float32] | None) -> None:
    """Unite an object with what is there: it shows where it is deeper."""
    front = gland > fields.gland[box]
    fields.kind[box][front] = code
    np.maximum(fields.gland[box], gland, out=fields.gland[box])
    if lumen is not None:
        np.maximum(fields.lumen[box], lumen, out=fields.lumen[box])


def _secrete(drawing: Drawing, box: _Box, lumen: NDArray[np.float32], draws: NDArray[np.float32]) -> None:
    """Fill some lumens with pink secretion."""
    if draws[6] < drawing.habit.secretion:
        drawing.fields.secretion[box][lumen > -3] = 0.25 + 0.75 * draws[7]


def _benign(drawing: Drawing) -> None:
    """Large lobed glands, their lining folded into the lumen."""
    habit, fields = drawing.habit, drawing.fields
    pitch = 175 * habit.size
    reach = 105 * habit.size
    found = drawing.objects("benign", 1, pitch, reach, 50 * habit.size, jitter=0.16)
    folds = np.maximum(drawing.noise("folds", 11), -0.3) + 0.6 * drawing.noise("folds wide", 30)
    for x, y, draws in zip(found.x_um, found.y_um, found.draws, strict=True):
        radius = (58 + 34 * draws[6]) * habit.size
        box = drawing.box(x, y, reach)
        if box is None:
            continue
        gland = lobed_blob(fields, box, x, y, radius, draws)
        thickness = 17 + (7 + 9 * draws[7]) * np.maximum(folds[box], -0.25) + 3 * (1 - habit.lumens) * 6
        lumen = np.minimum(gland - thickness, 30)
        _put(fields, box, 1, gland, lumen)
        _secrete(drawing, box, lumen, draws)


def _pattern3(drawing: Drawing) -> None:
    """Small, round, separate glands with one layer of cells."""
    habit, fields = drawing.habit, drawing.fields
    found = drawing.objects("small", 3, 66 * habit.size, 44 * habit.size, 18, jitter=0.17)
    for x, y, draws in zip(found.x_um, found.y_um, found.draws, strict=True):
        radius = (22 + 12 * draws[4]) * habit.size
        box = drawing.box(x, y, radius * 1.4)
        if box is None:
            continue
        gland = round_blob(fields, box, x, y, radius, draws)
        lining = (11 + 3 * draws[5]) + 5 * (1 - habit.lumens)
        lumen = gland - (lining if draws[5] > habit.closed else 40)
        _put(fields, box, 3, gland, lumen)
        _secrete(drawing, box, lumen, draws)


def _pattern4(drawing: Drawing) -> None:
    """Fused glands: broad epithelium with many small punched-out lumens."""
    habit, fields = drawing.habit, drawing.fields
    found = drawing.objects("fused", 4, 165 * habit.size, 115 * habit.size, 30, jitter=0.2)
    ragged = 4 * drawing.noise("ragged", 20)
    for x, y, draws in zip(found.x_um, found.y_um, found.draws, strict=True):
        box = drawing.box(x, y, 115 * habit.size)
        if box is None:
            continue
        gland = lobed_blob(fields, box, x, y, (62 + 24 * draws[6]) * habit.size, draws) + ragged[box]
        _put(fields, box, 4, gland, None)
    holes = drawing.objects("holes", 4, 31 * habit.size, 16, 8, jitter=0.22)
    for x, y, draws in zip(holes.x_um, holes.y_um, holes.draws, strict=True):
        if draws[5] < habit.closed:
            continue
        box = drawing.box(x, y, 20)
        if box is None:
            continue
        radius = (5.5 + 5.0 * draws[4]) * habit.size * (0.7 + 0.3 * habit.lumens)
        lumen = np.minimum(round_blob(fields, box, x, y, radius, draws), fields.gland[box] - 9)
        np.maximum(fields.lumen[box], lumen, out=fields.lumen[box])
        _secrete(drawing, box, lumen, draws)


def _pattern5(drawing: Drawing) -> None:
    """Sheets without lumens, cords and single cells between the fibres."""
    habit, fields = drawing.habit, drawing.fields
    mix = drawing.noise("sheets or cords", 160)
    found = drawing.objects("sheets", 5, 150 * habit.size, 115 * habit.size, 25, jitter=0.25)
    ragged = 7 * drawing.noise("ragged", 16)
    for x, y, draws in zip(found.x_um, found.y_um, found.draws, strict=True):
        box = drawing.box(x, y, 115 * habit.size)
        if box is None or draws[5] > 0.75:
            continue
        gland = lobed_blob(fields, box, x, y, (52 + 26 * draws[6]) * habit.size, draws) + ragged[box]
        _put(fields, box, 5, gland - 10 * np.maximum(mix[box], -0.5), None)
    cells = drawing.objects("cells", 5, 17, 14, 4, jitter=0.42)
    for x, y, draws in zip(cells.x_um, cells.y_um, cells.draws, strict=True):
        if draws[5] > 0.45:
            continue
        box = drawing.box(x, y, 12)
        if box is not None:
            _put(fields, box, 5, round_blob(fields, box, x, y, 5.5 + 2.5 * draws[4], draws), None)


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
    """Retraction: the epithelium comes off the stroma in places."""
    fields = drawing.fields
    where = drawing.noise("clefts", 45) - 1.6 + 1.6 * drawing.habit.clefts
    width = np.clip(where * 2.2, -4, 3.5)
    cleft = width - np.abs(fields.gland + width + np.float32(0.6))
    np.maximum(fields.gap, cleft, out=fields.gap)


_DRAWERS: dict[int, Callable[[Drawing], None]] = {1: _benign, 3: _pattern3, 4: _pattern4, 5: _pattern5}
