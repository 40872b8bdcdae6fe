"""What lies on a slide and is not tissue, though it is dark or coloured: ink of a pen, black surround."""

import cv2
import numpy as np

from wsi.glass import mean, most, spread

DARK = 45
"""Brightness (0-255) below which a pixel in all channels is black: scanned air, masked areas, a lid."""

INK_DENSITY = 0.2
"""Least optical density of a stroke's middle; a stain of an ink's hue (blue nuclei in IHC) is rougher, see below."""

BLACK_DENSITY = 0.7
"""The same for black ink: a fifth of the light. Tissue under a shadow that is paler is kept."""

INK_ROUGHNESS = 0.2
"""Largest variation (standard deviation over mean, 40 um window) of a stroke. Measured: strokes 0.01-0.1, tissue of
the hue of an ink above 0.3."""

SURROUND_UM = 50.0
"""Least width of black surround; a nucleus or a speck at the edge is narrower."""

FADING_UM = 100.0
"""How far a stroke's paler rim, of the same hue, is followed."""

RIM_UM = 16.0
"""Taken off around all ink: there, pixels mix ink with glass and have neither's hue."""


def find_ink(pixels: np.ndarray, density: np.ndarray, px_um: float) -> tuple[np.ndarray, np.ndarray]:
    """Pen strokes and black surround.

    Ink is known by its hue, which no stain of tissue has, and by its evenness. Black counts as surround where it
    reaches the edge of the picture and is as dark as no tissue is, else as a pen.

    Parameters
    ----------
    pixels : ndarray (H, W, 3) uint8
    density : ndarray (H, W, 3) float32
        Optical density relative to the glass.
    px_um : float
        Side of a pixel in um.

    Returns
    -------
    pen, surround : ndarray (H, W) bool
    """
    strength = most(density)
    even = _roughness(strength, px_um) < INK_ROUGHNESS
    dark = most(pixels) < DARK
    pen = _opened(_grey(density) & (strength >= BLACK_DENSITY) & even, 1)
    for hue in _coloured_hues(density):
        core = _opened(hue & (strength >= INK_DENSITY) & even, 1)
        pen |= _followed(core, hue & (strength > 0.03), px_um)
    surround = _touching_edge(_opened(dark, round(SURROUND_UM / 2 / px_um)))
    rim = round(RIM_UM / px_um)
    pen = _grown(pen | (_opened(dark, 1) & ~surround), rim)
    surround = _grown(surround, rim)
    return pen & ~surround, surround


def _grey(density: np.ndarray) -> np.ndarray:
    return spread(density) < 0.25 * mean(density)


def _coloured_hues(density: np.ndarray) -> list[np.ndarray]:
    """Blue, green, red ink, by how much of each channel they absorb.

    Haematoxylin takes at least as much green as red, eosin mostly green and half as much blue: a blue that spares
    green, a green, and a red that takes nearly as much blue as green and little red are none of them.
    """
    red, green, blue = density[..., 0], density[..., 1], density[..., 2]
    return [
        (green < 0.92 * red) & (blue < 0.75 * red),
        green < 0.85 * np.minimum(red, blue),
        (red < 0.35 * green) & (blue > 0.75 * green),
    ]


def _roughness(strength: np.ndarray, px_um: float) -> np.ndarray:
    side = 2 * max(1, round(20 / px_um)) + 1
    local = cv2.blur(strength, (side, side))
    variance = cv2.blur(strength * strength, (side, side)) - local * local
    return np.sqrt(np.clip(variance, 0, None)) / (local + 0.02)


def _followed(core: np.ndarray, hue: np.ndarray, px_um: float) -> np.ndarray:
    """`core`, and what of its hue hangs together with it within `FADING_UM`."""
    if not core.any():
        return core
    near = (hue & _grown(core, round(FADING_UM / px_um))) | core
    _, labels = cv2.connectedComponents(near.astype(np.uint8), connectivity=8)
    return near & np.isin(labels, np.unique(labels[core]))


def _touching_edge(mask: np.ndarray) -> np.ndarray:
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return mask & np.isin(labels, np.unique(edge[edge > 0]))


def _opened(mask: np.ndarray, radius_px: int) -> np.ndarray:
    return morph(mask, cv2.MORPH_OPEN, radius_px)


def _grown(mask: np.ndarray, radius_px: int) -> np.ndarray:
    return morph(mask, cv2.MORPH_DILATE, radius_px)


def morph(mask: np.ndarray, operation: int, radius_px: int) -> np.ndarray:
    """A morphological operation of OpenCV with a disc on a mask (H, W) bool that goes on beyond its edge."""
    padded = np.pad(mask.astype(np.uint8), radius_px, mode="edge")
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1))
    done = cv2.morphologyEx(padded, operation, disc).astype(bool)
    return done[radius_px : done.shape[0] - radius_px, radius_px : done.shape[1] - radius_px]
