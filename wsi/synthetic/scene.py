"""Everything one slide is drawn from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi.synthetic import optics
from wsi.synthetic.architecture import Habit
from wsi.synthetic.artefacts import Overlay
from wsi.synthetic.layout import Distances, Layout


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
    outer: Distances

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
