"""How scores become colours: `Scale`, and the two that this project shows.

A scale is fixed before any slide is seen, so that a colour means the same on every slide of every run. The maps can
be read with any common colour vision deficiency: viridis, whose greens and yellows no stain has, and blue - grey -
orange for evidence that has a sign. What is low (or near zero, where there is a sign) is nearly clear, so that the
tissue stays visible and the eye goes to what is high; the legend fades in the same way.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np

from wsi.errors import UsageError

ColourMap = Literal["viridis", "blue-orange"]
EvidenceKind = Literal["probability", "signed"]

FAINTEST, STRONGEST = 0.15, 0.75
"""Opacity over the tissue at the faint and at the strong end of a scale."""

CLASS_COLOURS = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (213, 94, 0),
    (204, 121, 167),
    (86, 180, 233),
    (240, 228, 66),
    (90, 90, 90),
)
"""RGB for classes in a list, after Okabe and Ito (2008); repeated where there are more classes."""

_BLUE_ORANGE = (
    (8, 48, 107), (49, 130, 189), (158, 202, 225), (232, 232, 228), (253, 190, 133), (217, 95, 14), (127, 39, 4),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values, its colours, and what the legend says of it.

    Attributes
    ----------
    title, unit : str
        What is shown ("Attention"), and in what ("times the mean tile").
    low, high : float
        Values at the ends; what lies beyond has the colour of the end.
    ticks : tuple of (float, str)
        Values to mark, and how they are written.
    colours : str
        Name of the colour map.
    log : bool
        Equal ratios, not equal differences, have equal lengths.
    clips : bool
        Values beyond the ends exist; the legend says so.
    """

    title: str
    unit: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    colours: ColourMap
    log: bool = False
    clips: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise UsageError(f"a scale rises from low to high, found {self.low:g} to {self.high:g}")

    def position(self, values: np.ndarray) -> np.ndarray:
        """Where values lie on the scale, 0 (low) to 1 (high), clipped; NaN stays NaN."""
        values = np.clip(values, self.low, self.high)
        if self.log:
            return np.log(values / self.low) / math.log(self.high / self.low)
        return (values - self.low) / (self.high - self.low)

    def index(self, values: np.ndarray) -> np.ndarray:
        """Row of `table` of each value, uint8; NaN has that of `low`."""
        position = self.position(values)
        return np.where(np.isfinite(position), np.rint(position * 255), 0).astype(np.uint8)

    @property
    def table(self) -> np.ndarray:
        """Colours and opacities from low to high, (256, 4) uint8 RGBA."""
        position = np.linspace(0, 1, 256)
        strength = np.abs(2 * position - 1) if self.colours == "blue-orange" else position
        opacity = np.rint(255 * (FAINTEST + (STRONGEST - FAINTEST) * strength)).astype(np.uint8)
        return np.concatenate([colour_table(self.colours), opacity[:, None]], axis=1)

    def over(self, values: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Values (H, W) in their colours and opacities over pixels (H, W, 3) uint8, which show where a value is NaN."""
        shown = np.isfinite(values)
        rgba = self.table[self.index(values[shown])].astype(np.float32)
        share = rgba[:, 3:] / 255
        mixed = pixels.copy()
        mixed[shown] = np.rint(pixels[shown] * (1 - share) + rgba[:, :3] * share)
        return mixed


def attention_scale() -> Scale:
    """Attention relative to its mean.

    Attention sums to 1 within a slide, so a raw value says as much about the number of tiles as about the tile. Times
    N it says how often more than its fair share a tile was looked at, and is comparable between slides of any size.
    Equal factors have equal lengths, with the mean tile in the middle.
    """
    ticks = tuple((value, f"{value:g}") for value in (0.1, 0.3, 1.0, 3.0, 10.0))
    return Scale("Attention", "times the mean tile", 0.1, 10.0, ticks, "viridis", log=True, clips=True)


def evidence_scale(class_label: str, kind: EvidenceKind, limit: float = 1.0, method: str = "") -> Scale:
    """Evidence of each tile for one class.

    Parameters
    ----------
    class_label : str
        As a person reads it.
    kind : {"probability", "signed"}
        A probability of 0 to 1, or a number whose sign says for or against.
    limit : float
        For signed evidence, the value at the ends. It belongs to the model and not to the slide, so that all its
        slides share one scale.
    method : str
        How signed evidence was found, for the legend.
    """
    if kind == "probability":
        ticks = tuple((part / 4, f"{part / 4:g}") for part in range(5))
        return Scale(f"Evidence for {class_label}", "probability of the tile alone", 0.0, 1.0, ticks, "viridis")
    ticks = tuple((part * limit / 2, f"{part * limit / 2:+.3g}" if part else "0") for part in range(-2, 3))
    title, unit = f"Evidence for {class_label}", ", ".join(filter(None, (method, "against to for, in logits")))
    return Scale(title, unit, -limit, limit, ticks, "blue-orange", clips=True)


def inside_scale() -> Scale:
    """Where inside a tile the evidence lies, relative to the tile's own highest place: tiles do not compare."""
    return Scale("Inside the tile", "share of its highest place", 0.0, 1.0, ((0.0, "0"), (1.0, "1")), "viridis")


@cache
def colour_table(name: ColourMap) -> np.ndarray:
    """The 256 colours of a map from low to high, (256, 3) uint8 RGB."""
    if name == "blue-orange":
        anchors = np.array([_BLUE_ORANGE], np.float32) / 255
        lab = cv2.cvtColor(anchors, cv2.COLOR_RGB2LAB)
        rgb = cv2.cvtColor(cv2.resize(lab, (1 + 6 * 51, 1), interpolation=cv2.INTER_LINEAR), cv2.COLOR_LAB2RGB)
        picks = np.rint(np.linspace(0, rgb.shape[1] - 1, 256)).astype(int)
        return np.clip(np.rint(rgb[0, picks] * 255), 0, 255).astype(np.uint8)
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_VIRIDIS)
    return np.ascontiguousarray(table[0, :, ::-1])


def round_length_um(most_um: float) -> int:
    """For a scale bar: the longest of 1, 2, 5, 10 ... um that is not above `most_um`, and at least 1."""
    lengths = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
    return max((length for length in lengths if length <= most_um), default=1)


__all__ = [
    "CLASS_COLOURS",
    "ColourMap",
    "EvidenceKind",
    "Scale",
    "attention_scale",
    "colour_table",
    "evidence_scale",
    "inside_scale",
    "round_length_um",
]
