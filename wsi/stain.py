"""The stain of a slide in four numbers, from the tissue of its overview.

Van der Laak et al.: Hue-saturation-density (HSD) model for stain recognition in digital images from transmitted light
microscopy, Cytometry 2000. Density tells how much stain there is, chromaticity which, whatever its amount:

    D = (D_r + D_g + D_b) / 3,    x = D_r / D - 1,    y = (D_g - D_b) / (sqrt(3) D)

Hue is the angle of (x, y), saturation its length. Densities are relative to the glass, so that the lamp has no part.
"""

from dataclasses import dataclass

import numpy as np

from wsi.glass import Glass
from wsi.overview import Overview
from wsi.tissue import TissueMask

MOST_PX = 1 << 17
"""Pixels of tissue that are looked at; more are thinned out evenly."""

LEAST_DENSITY = 0.03
"""Pixels below are too pale for their colour to mean anything: one grey level is a tenth of it."""


@dataclass(frozen=True, slots=True)
class Stain:
    """Amount and colour of a slide's stain.

    Attributes
    ----------
    density : float
        Median optical density (log10, mean of the channels) of the stained pixels.
    x, y : float
        Chromaticity, mean weighted by density. By the vectors of Ruifrok and Johnston (2001) hematoxylin lies at
        (0.19, 0.43), eosin at (-0.82, 1.30), DAB at (-0.50, -0.22).
    spread : float
        Standard deviation of the chromaticity around its mean: how far the stains of a slide lie apart.
    """

    density: float
    x: float
    y: float
    spread: float


def stain_of(overview: Overview, glass: Glass, tissue: TissueMask) -> Stain | None:
    """The stain of the tissue; None where nothing is stained."""
    places = np.flatnonzero(tissue.mask.ravel() & overview.readable.ravel())
    places = places[:: -(-len(places) // MOST_PX) or 1]
    pixels = overview.pixels.reshape(-1, 3)[places].astype(np.float64)  # (n, 3)
    density = np.maximum(np.log10((np.asarray(glass.rgb) + 1) / (pixels + 1)), 0)  # (n, 3)
    return stain_of_density(density)


def stain_of_density(density: np.ndarray) -> Stain | None:
    """The stain of pixels (n, 3) by their optical densities; None where none of them is stained."""
    amount = density.mean(axis=1)  # (n,)
    density, amount = density[amount >= LEAST_DENSITY], amount[amount >= LEAST_DENSITY]
    if not len(amount):
        return None
    x = density[:, 0] / amount - 1
    y = (density[:, 1] - density[:, 2]) / (np.sqrt(3) * amount)
    weight = amount / amount.sum()
    middle_x, middle_y = float(weight @ x), float(weight @ y)
    spread = float(np.sqrt(weight @ ((x - middle_x) ** 2 + (y - middle_y) ** 2)))
    return Stain(float(np.median(amount)), middle_x, middle_y, spread)
