"""Features that another program made: one program a module, found through `IMPORTS`.

A reader states what its program's files state, and nothing else: what a file does not say stays None, and is unknown in
the store as well (FORMAT.md, "Imported features"). `wsi.imports.intake` turns it into a store.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wsi.imports.h5_file import FeatureRows
from wsi.registry import Registry

Axes = Literal["xy", "yx"]


@dataclass(frozen=True, slots=True)
class Hints:
    """What the user says where a file does not.

    Attributes
    ----------
    tile_mpp : float, optional
        Scale of the tiles, um/px.
    axes : "xy" or "yx", optional
        Order of a place's two numbers.
    """

    tile_mpp: float | None = None
    axes: Axes | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ForeignFeatures:
    """What a file states of one slide; None where it does not.

    Attributes
    ----------
    values : FeatureRows
        Features (N, D), read when they are asked for: while the file is open.
    coords : ndarray (N, 2) float64
        Top-left (x, y) of each tile.
    unit : "px0" or "um"
        Of `coords`.
    recipe : mapping
        What must agree between slides whose features are used together; plain values.
    side_px0, side_um : float, optional
        Side of a tile in level-0 pixels, or in um.
    size_px0 : (w, h), optional
        Size of level 0.
    tile_px, stride_px : int, optional
        Side and distance of tiles in their own pixels.
    tile_mpp : float, optional
        Scale of the tiles, um/px, where it is the same for all slides by the recipe.
    encoder : str, optional
        What the file calls the encoder.
    left_out : ndarray (N,) bool, optional
        Rows that are no tiles of the slide.
    stated : mapping
        Everything else that the file states and that names no person and no place; plain values.
    """

    values: FeatureRows
    coords: np.ndarray
    unit: Literal["px0", "um"]
    recipe: Mapping[str, Any]
    side_px0: float | None = None
    side_um: float | None = None
    size_px0: tuple[int, int] | None = None
    tile_px: int | None = None
    stride_px: int | None = None
    tile_mpp: float | None = None
    encoder: str | None = None
    left_out: np.ndarray | None = None
    stated: Mapping[str, Any] | None = None


IMPORTS = Registry(
    "import",
    {
        "trident": "wsi.imports.trident:read",
        "clam": "wsi.imports.clam:read",
        "stamp": "wsi.imports.stamp:read",
    },
)
"""Program to `read(file: H5File, patches: H5File | None, hints: Hints) -> ForeignFeatures`."""

__all__ = ["IMPORTS", "Axes", "ForeignFeatures", "Hints"]
