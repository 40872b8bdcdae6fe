"""What should not be on a slide but is: pen, shadow, glass edge, coverslip, dust, black surround; and a marker.

They lie over the finished colours and leave the truth as it is: none of them is tissue, and none but the coverslip's
line and dust hides any.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

from wsi.synthetic.noise import Field, Pixels, Window, enlarged, key_of, lattice, smooth, softened

Artefact = Literal[
    "pen-blue",
    "pen-green",
    "pen-black",
    "pen-red",
    "shadow",
    "glass-edge",
    "coverslip",
    "black-surround",
    "dust",
    "pale",
    "fat",
]
_INK = {"pen-blue": (38, 60, 150), "pen-green": (30, 120, 70), "pen-black": (35, 33, 38), "pen-red": (175, 35, 50)}
PENS = tuple(_INK)
_BORDER = 0.03  # of the shorter side, kept free of tissue


@dataclass(frozen=True, slots=True)
class Marker:
    """A coloured disc or square at a known place: centre and radius (half the side) in level-0 px."""

    x_px0: float
    y_px0: float
    radius_px0: float
    shape: Literal["disc", "square"] = "disc"
    rgb: tuple[int, int, int] = (20, 200, 40)

    def __post_init__(self) -> None:
        if self.radius_px0 <= 0:
            raise ValueError(f"marker radius {self.radius_px0} px: must be positive")


@dataclass(frozen=True, slots=True)
class Overlay:
    """The artefacts of one slide."""

    seed: int
    names: tuple[str, ...]
    size_px0: tuple[int, int]
    mpp: float
    grid_px: int
    marker: Marker | None

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in get_args(Artefact):
                raise ValueError(f"artefact {name!r}: expected one of {', '.join(get_args(Artefact))}")

    def over(self, rgb: Pixels, tissue_um: Field, x_px0: int, y_px0: int) -> Pixels:
        """The block (h, w, 3) with its artefacts.

        `tissue_um` (h / grid_px, w / grid_px) is the distance to the outer edge of the tissue, um.
        """
        core = Window(x_px0 // self.grid_px, y_px0 // self.grid_px, tissue_um.shape[1], tissue_um.shape[0])
        for name in self.names:
            layer = self._layer(name, tissue_um, core)
            if layer is not None:
                rgb = _through(rgb, *layer)
        if self.marker is not None:
            rgb = _marked(rgb, self.marker, x_px0, y_px0)
        return rgb

    def _layer(self, name: str, tissue_um: Field, core: Window) -> tuple[Field, tuple[int, int, int]] | None:
        """Opacity (h, w) on the grid and colour of one artefact, None where it is not in the block."""
        if name in _INK:
            return self._pen(name, tissue_um, core), _INK[name]
        if name == "dust":
            return self._dust(core), (70, 62, 58)
        if name in ("pale", "fat"):
            return None
        x = (np.arange(core.w, dtype=np.float32)[None, :] + core.x + 0.5) * self.grid_px
        y = (np.arange(core.h, dtype=np.float32)[:, None] + core.y + 0.5) * self.grid_px
        width, height = self.size_px0
        side = np.float32(min(width, height) * _BORDER)
        edge = np.minimum(np.minimum(x, width - x), np.minimum(y, height - y))
        if name == "black-surround":
            return (edge < side).astype(np.float32), (4, 4, 5)
        if name == "shadow":
            depth = np.clip(1 - (x + 0.25 * y) / np.float32(0.3 * width), 0, 1)
            return np.float32(0.45) * depth * np.sqrt(depth), (96, 92, 98)
        if name == "glass-edge":
            beyond = side - x + np.float32(0.05) * (y - height / 2)
            line = np.clip(4 - np.abs(beyond) * np.float32(self.mpp / 3), 0, 1)
            return np.maximum(np.float32(0.75) * line, np.float32(0.22) * (beyond > 0)), (60, 66, 64)
        across = (y - np.float32(0.35) * x - np.float32(0.2 * height)) * np.float32(self.mpp)
        return np.float32(0.5) * np.clip(3 - np.abs(across), 0, 1), (90, 90, 92)

    def _pen(self, name: str, tissue_um: Field, core: Window) -> Field:
        """A stroke that goes round a part of the tissue without touching it."""
        key, grid_um = key_of(self.seed, name), self.grid_px * self.mpp
        away = 105 + 22 * smooth(key, 400 / grid_um, core)
        half = 34 + 6 * smooth(key + 1, 150 / grid_um, core)
        begun = smooth(key + 2, 900 / grid_um, core) + 0.4
        cover = np.minimum(np.clip((half - np.abs(tissue_um + away)) / 5, 0, 1), np.clip(begun * 12, 0, 1))
        streaks = 0.86 + 0.07 * smooth(key + 3, 16 / grid_um, core)
        return np.clip(cover * streaks, 0, 1)

    def _dust(self, core: Window) -> Field:
        """Specks of 4 to 14 um, a few per square millimetre."""
        grid_um = self.grid_px * self.mpp
        pitch = max(int(300 / grid_um), 8)
        cells = Window(core.x // pitch - 1, core.y // pitch - 1, core.w // pitch + 3, core.h // pitch + 3)
        key = key_of(self.seed, "dust")
        chance, jx, jy, size = (lattice(key + k, cells) for k in range(4))
        cover = np.zeros((core.h, core.w), np.float32)
        for j, i in np.argwhere(chance < 0.35):
            x, y = (cells.x + i + jx[j, i]) * pitch - core.x, (cells.y + j + jy[j, i]) * pitch - core.y
            cv2.circle(cover, (round(float(x)), round(float(y))), round(float(4 + 10 * size[j, i]) / grid_um), 0.85, -1)
        return softened(cover)


def _through(rgb: Pixels, opacity: Field, colour: tuple[int, int, int]) -> Pixels:
    """Colours seen through ink or shade: a mixture of the picture and its product with the colour."""
    if not opacity.any():
        return rgb
    cover = enlarged(opacity, rgb.shape[0] // opacity.shape[0])[..., None]
    ink = np.asarray(colour, np.float32) / 255
    return np.clip(np.rint(rgb * (1 - cover * (1 - ink))), 0, 255).astype(np.uint8)


def _marked(rgb: Pixels, marker: Marker, x_px0: int, y_px0: int) -> Pixels:
    dx = np.abs(np.arange(rgb.shape[1])[None, :] + 0.5 + x_px0 - marker.x_px0)
    dy = np.abs(np.arange(rgb.shape[0])[:, None] + 0.5 + y_px0 - marker.y_px0)
    inside = np.maximum(dx, dy) if marker.shape == "square" else np.hypot(dx, dy)
    rgb[inside <= marker.radius_px0] = marker.rgb
    return rgb
