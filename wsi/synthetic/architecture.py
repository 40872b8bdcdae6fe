"""Glands, sheets and cords: the architecture that carries the grade.

Everything is a signed distance in um on a grid of about 1 um: `gland` is positive in epithelium and the lumen it
encloses, `depth` is the true distance to the nearest stroma there, `lumen` is positive in the lumen, `gap` in other
empty spaces (clefts, vessels). Objects sit on jittered lattices of their own and are known from their lattice place
alone, so a window can be drawn without its neighbours.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from wsi.synthetic.layout import Layout
from wsi.synthetic.noise import Field, Pixels, Window, key_of, lattice, smooth, softened

FAR_UM = -60.0
DEEPEST_UM = 40.0


@dataclass(frozen=True, slots=True)
class Habit:
    """How the tissue of one slide is built; drawn per slide, whatever the grade.

    Sizes are relative to the usual; `lumens` how open lumens are, `secretion` the share of lumens that hold some,
    `clefts`, `vessels`, `vacuoles` how common those are, `closed` the share of small glands' lumens not met by the cut.
    """

    size: float
    lumens: float
    secretion: float
    clefts: float
    vessels: float
    closed: float
    vacuoles: float


@dataclass(frozen=True, slots=True)
class Fields:
    """The architecture of a window, arrays (h, w): distances in um, `secretion` 0-1, `kind` 0, 1, 3, 4 or 5."""

    x_um: Field
    y_um: Field
    gland: Field
    depth: Field
    lumen: Field
    gap: Field
    secretion: Field
    kind: Pixels


@dataclass(frozen=True, slots=True)
class Lattice:
    """Objects of one sort near a window: centres (n,) in um and eight uniform numbers each (n, 8)."""

    x_um: Field
    y_um: Field
    draws: Field


def lattice_objects(
    key: int, pitch_um: float, window: Window, grid_um: float, reach_um: float, jitter: float = 0.3
) -> Lattice:
    """One object per cell of a jittered lattice with offset rows, for all cells that may reach into the window."""
    row_um = pitch_um * 0.88
    x0, x1 = window.x * grid_um - reach_um, (window.x + window.w) * grid_um + reach_um
    y0, y1 = window.y * grid_um - reach_um, (window.y + window.h) * grid_um + reach_um
    i0, i1 = int(np.floor(x0 / pitch_um)) - 1, int(np.ceil(x1 / pitch_um)) + 1
    j0, j1 = int(np.floor(y0 / row_um)) - 1, int(np.ceil(y1 / row_um)) + 1
    cells = Window(i0, j0, i1 - i0, j1 - j0)
    draws = np.stack([lattice(key_of(key, k), cells) for k in range(10)], axis=-1)
    i = np.arange(i0, i1, dtype=np.float32)[None, :]
    j = np.arange(j0, j1)[:, None]
    x = (i + 0.5 + 0.5 * (j % 2) + (draws[..., 8] - 0.5) * (2 * jitter)) * np.float32(pitch_um)
    y = (j.astype(np.float32) + 0.5 + (draws[..., 9] - 0.5) * (2 * jitter)) * np.float32(row_um)
    near = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    return Lattice(x[near].astype(np.float32), y[near].astype(np.float32), draws[near][:, :8])


class Drawing:
    """A window in the making."""

    def __init__(self, key: int, window: Window, grid_um: float, layout: Layout, habit: Habit) -> None:
        self.key, self.window, self.grid_um, self.layout, self.habit = key, window, grid_um, layout, habit
        x = (np.arange(window.w, dtype=np.float32) + window.x + 0.5) * np.float32(grid_um)
        y = (np.arange(window.h, dtype=np.float32) + window.y + 0.5) * np.float32(grid_um)
        shape = (window.h, window.w)
        bend = np.float32(2.6)
        self.fields = Fields(
            x[None, :] + bend * self.noise("bend x", 18),
            y[:, None] + bend * self.noise("bend y", 18),
            np.full(shape, FAR_UM, np.float32),
            np.zeros(shape, np.float32),
            np.full(shape, FAR_UM, np.float32),
            np.full(shape, FAR_UM, np.float32),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.uint8),
        )

    def noise(self, name: str, cell_um: float) -> Field:
        return smooth(key_of(self.key, name), cell_um / self.grid_um, self.window)

    def objects(
        self, name: str, code: int, pitch_um: float, reach_um: float, depth_um: float, jitter: float = 0.3
    ) -> Lattice:
        """Objects whose centre is at least `depth_um` inside the region `code`."""
        found = lattice_objects(key_of(self.key, name), pitch_um, self.window, self.grid_um, reach_um, jitter)
        keep = self.layout.depth_um(code, found.x_um, found.y_um) > depth_um
        keep &= self.layout.fat_depth_um(found.x_um, found.y_um) < -0.6 * reach_um
        return Lattice(found.x_um[keep], found.y_um[keep], found.draws[keep])

    def measure_depth(self) -> None:
        """Set `depth`: exact to `DEEPEST_UM`, rounded off where it follows the grid's steps."""
        fields = self.fields
        depth = cv2.distanceTransform((fields.gland > 0).astype(np.uint8), cv2.DIST_L2, 5) * np.float32(self.grid_um)
        depth = softened(np.minimum(depth - np.float32(0.5), np.float32(DEEPEST_UM)))
        near = np.clip((fields.gland - 2) / 4, 0, 1)
        np.copyto(fields.depth, fields.gland + near * (depth - fields.gland))

    def box(self, x_um: float, y_um: float, reach_um: float) -> tuple[slice, slice] | None:
        """The part of the window within `reach_um` of a place, None if there is none."""
        left = int((x_um - reach_um) / self.grid_um) - self.window.x - 8
        top = int((y_um - reach_um) / self.grid_um) - self.window.y - 8
        size = int(2 * reach_um / self.grid_um) + 18
        ys = slice(max(top, 0), min(top + size, self.window.h))
        xs = slice(max(left, 0), min(left + size, self.window.w))
        return (ys, xs) if ys.start < ys.stop and xs.start < xs.stop else None


def round_blob(
    fields: Fields, box: tuple[slice, slice], x_um: float, y_um: float, radius_um: float, draws: Field
) -> Field:
    """Signed distance to a roundish blob: a circle with second and third harmonics taken from `draws` (at least 4)."""
    dx, dy = fields.x_um[box] - np.float32(x_um), fields.y_um[box] - np.float32(y_um)
    square = dx * dx + dy * dy + np.float32(1)
    distance = np.sqrt(square)
    a, b = (draws[0] - 0.5) * 0.36, (draws[1] - 0.5) * 0.36
    c, d = (draws[2] - 0.5) * 0.16, (draws[3] - 0.5) * 0.16
    second = (a * (dx * dx - dy * dy) + 2 * b * dx * dy) / square
    third = (c * dx * (dx * dx - 3 * dy * dy) + d * dy * (3 * dx * dx - dy * dy)) / (square * distance)
    return np.float32(radius_um) * (1 + second + third) - distance


def lobed_blob(
    fields: Fields, box: tuple[slice, slice], x_um: float, y_um: float, radius_um: float, draws: Field
) -> Field:
    """Signed distance to a union of four to six lobes around a place, rounded where they meet."""
    count = 4 + int(draws[4] * 3)
    blob: Field | None = None
    for lobe in range(count):
        turn = 2 * math.pi * (lobe + 0.6 * float(draws[lobe % 4])) / count + 6.28 * float(draws[5])
        spread = radius_um * (0.42 + 0.35 * draws[(lobe + 1) % 6])
        size = radius_um * (0.42 + 0.22 * draws[(lobe + 3) % 8])
        dx = fields.x_um[box] - np.float32(x_um + spread * math.cos(turn))
        dy = fields.y_um[box] - np.float32(y_um + spread * math.sin(turn))
        part = np.float32(size) - np.sqrt(dx * dx + dy * dy)
        if blob is None:
            blob = part
        else:
            close = np.maximum(np.float32(8) - np.abs(blob - part), 0)
            blob = np.maximum(blob, part) + close * close * np.float32(1 / 32)
    assert blob is not None
    return blob
