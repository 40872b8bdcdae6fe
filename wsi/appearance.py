"""What tissue, glass and ink are told by in each pixel of an overview; optical density itself is kept nowhere."""

from dataclasses import dataclass

import numpy as np

from wsi.artefacts import ink_reach_px, ink_signs
from wsi.bands import bands
from wsi.glass import TEXTURE_REACH_PX, Glass, channels, is_flat, is_plain, least, mean, most
from wsi.overview import Overview

GREYNESS = 0.08
"""A pixel whose channels differ by less than this share of their mean density is grey: shadow, dust, glass edge."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """An overview by its optical density relative to the glass.

    Attributes
    ----------
    colour : ndarray (H, W) float32
        How much the densities of the channels differ; 0 where they are grey.
    empty : ndarray (H, W) bool
        Where there is nothing at all: hardly any density or colour, and no texture.
    ink : ndarray (H, W) uint8
        Signs of ink, see `wsi.artefacts.ink_signs`.
    """

    colour: np.ndarray
    empty: np.ndarray
    ink: np.ndarray


def appearance(overview: Overview, glass: Glass) -> Appearance:
    """Measure an overview band by band: the densities of the whole would be twelve bytes a pixel, many times over."""
    shape = overview.readable.shape
    seen = Appearance(np.empty(shape, np.float32), np.empty(shape, bool), np.empty(shape, np.uint8))
    for rows, around, inner in bands(shape, max(TEXTURE_REACH_PX, ink_reach_px(overview.side_um))):
        density = glass.density(overview, around)
        strongest = most(density)
        spread, average = strongest - least(density), mean(density)
        brightest = most(channels(overview.pixels[around]))
        seen.empty[rows] = (is_flat(density[1]) & is_plain(strongest, spread))[inner]
        seen.ink[rows] = ink_signs(density, strongest, spread < 0.25 * average, brightest, overview.side_um)[inner]
        spread[spread < GREYNESS * average] = 0
        seen.colour[rows] = spread[inner]
    return seen
