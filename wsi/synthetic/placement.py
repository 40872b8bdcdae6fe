"""Which nuclei lie where: along the linings, through the sheets, between the fibres."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi.synthetic import nuclei
from wsi.synthetic.architecture import Fields
from wsi.synthetic.noise import Field, Window, key_of, lattice, smooth
from wsi.synthetic.scene import Scene


def place_nuclei(scene: Scene, window: Window, fields: Fields, tissue: Field, flow: list[Field]) -> nuclei.Places:
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
    x_um: Field
    y_um: Field
    draw: Field
    priority: Field


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


def _direction(x: Field, y: Field) -> Field:
    """Angle (n,) of a vector; in double precision, whose last bit never shows."""
    return np.arctan2(y.astype(np.float64), x.astype(np.float64)).astype(np.float32)


def _lining(scene: Scene, window: Window, fields: Fields, tissue: Field, slopes: tuple[Field, ...]) -> nuclei.Places:
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
    angle = np.where(in_row, _direction(steep_x, steep_y) + (spots.draw - 0.5) * 0.6, spots.draw * np.float32(np.pi))
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


def _basal(scene: Scene, window: Window, fields: Fields, tissue: Field, slopes: tuple[Field, ...]) -> nuclei.Places:
    """Flat nuclei against the stroma, in benign glands only."""
    spots = _spots(key_of(scene.seed, "basal"), window, 4, scene.grid_um)
    off = fields.depth[spots.at] - np.float32(2.0)
    keep = (np.abs(off) < 2.2) & (fields.kind[spots.at] == 1) & (tissue[spots.at] > 2.5) & (fields.lumen[spots.at] < -3)
    steep_x, steep_y = slopes[0][spots.at], slopes[1][spots.at]
    scale = off / np.maximum(steep_x**2 + steep_y**2, 0.3)
    angle = _direction(-steep_y, steep_x)
    apart = np.full_like(off, 9.0)
    return nuclei.Places(
        spots.x_um - steep_x * scale,
        spots.y_um - steep_y * scale,
        np.full(len(off), nuclei.BASAL, np.int8),
        angle,
        spots.priority,
        apart,
    ).take(keep)


def _stromal(scene: Scene, window: Window, fields: Fields, tissue: Field, flow: list[Field]) -> nuclei.Places:
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
    angle = _direction(-rise_y[spots.at], rise_x[spots.at]) + (spots.priority - 0.5) * 0.5
    look = np.where(round_cell, nuclei.LYMPHOCYTE, nuclei.SPINDLE).astype(np.int8)
    apart = np.where(round_cell, np.float32(6.0), np.float32(8.5))
    return nuclei.Places(spots.x_um, spots.y_um, look, angle.astype(np.float32), spots.priority, apart).take(keep)
