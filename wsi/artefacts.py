"""What lies on a slide and is not tissue, though it is dark or coloured: ink of a pen, black surround."""

import cv2
import numpy as np

from wsi.bands import bands
from wsi.glass import Planes
from wsi.morphology import morph

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


_DARK = 1
_CORES = (2, 4, 8)
_HUES = (16, 32, 64)
_BLACK = 128
"""Bits of `ink_signs`: black in all channels; middle of a stroke, and its hue at any strength, in blue, green, red;
middle of a black stroke."""


def ink_reach_px(px_um: float) -> int:
    """So many pixels around one tell whether it may be ink."""
    return max(1, round(20 / px_um))


def ink_signs(
    density: Planes, strongest: np.ndarray, grey: np.ndarray, brightest: np.ndarray, px_um: float
) -> np.ndarray:
    """What in a pixel speaks for ink.

    Parameters
    ----------
    density : three ndarrays (H, W) float32
        Optical density of red, green, blue relative to the glass.
    strongest : ndarray (H, W) float32
        Largest of the three.
    grey : ndarray (H, W) bool
        Where they hardly differ.
    brightest : ndarray (H, W) uint8
        Largest of the three channels of the picture.
    px_um : float
        Side of a pixel in um.

    Returns
    -------
    ndarray (H, W) uint8
        Bits for `find_ink`.
    """
    even = _roughness(strongest, px_um) < INK_ROUGHNESS
    signs = (brightest < DARK).view(np.uint8) * np.uint8(_DARK)
    signs |= (grey & (strongest >= BLACK_DENSITY) & even).view(np.uint8) * np.uint8(_BLACK)
    strong, weak = even & (strongest >= INK_DENSITY), strongest > 0.03
    for hue, core_bit, hue_bit in zip(_coloured_hues(density), _CORES, _HUES, strict=True):
        signs |= (hue & strong).view(np.uint8) * np.uint8(core_bit)
        signs |= (hue & weak).view(np.uint8) * np.uint8(hue_bit)
    return signs


def find_ink(signs: np.ndarray, px_um: float) -> tuple[np.ndarray, np.ndarray]:
    """Pen strokes and black surround.

    Ink is known by its hue, which no stain of tissue has, and by its evenness. Black counts as surround where it
    reaches the edge of the picture and is as dark as no tissue is, else as a pen.

    Parameters
    ----------
    signs : ndarray (H, W) uint8
        From `ink_signs`.
    px_um : float
        Side of a pixel in um.

    Returns
    -------
    pen, surround : ndarray (H, W) bool
    """
    found = int(np.bitwise_or.reduce(signs, axis=None))
    if not found & (_DARK | _BLACK | sum(_CORES)):
        return np.zeros(signs.shape, bool), np.zeros(signs.shape, bool)
    pen = _opened((signs & _BLACK) > 0, 1)
    for core_bit, hue_bit in zip(_CORES, _HUES, strict=True):
        if found & core_bit:
            core = _opened((signs & core_bit) > 0, 1)
            pen |= _followed(core, (signs & hue_bit) > 0, px_um)
    dark = (signs & _DARK) > 0
    surround = _touching_edge(_opened(dark, round(SURROUND_UM / 2 / px_um)))
    rim = round(RIM_UM / px_um)
    pen = _grown(pen | (_opened(dark, 1) & ~surround), rim)
    surround = _grown(surround, rim)
    return pen & ~surround, surround


def _coloured_hues(density: Planes) -> list[np.ndarray]:
    """Blue, green, red ink, by how much of each channel they absorb.

    Haematoxylin takes at least as much green as red, eosin mostly green and half as much blue: a blue that spares
    green, a green, and a red that takes nearly as much blue as green and little red are none of them.
    """
    red, green, blue = density
    return [
        (green < 0.92 * red) & (blue < 0.75 * red),
        green < 0.85 * np.minimum(red, blue),
        (red < 0.35 * green) & (blue > 0.75 * green),
    ]


def _roughness(strength: np.ndarray, px_um: float) -> np.ndarray:
    side = 2 * ink_reach_px(px_um) + 1
    local = cv2.blur(strength, (side, side))
    variance = cv2.blur(strength * strength, (side, side)) - local * local
    return np.sqrt(np.clip(variance, 0, None)) / (local + 0.02)


def _followed(core: np.ndarray, hue: np.ndarray, px_um: float) -> np.ndarray:
    """`core`, and what of its hue hangs together with it within `FADING_UM`."""
    if not core.any():
        return core
    near = (hue & _grown(core, round(FADING_UM / px_um))) | core
    return holding(near, core)


def _touching_edge(mask: np.ndarray) -> np.ndarray:
    if not mask.any():
        return mask
    edge = np.zeros_like(mask)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    return holding(mask, edge, connectivity=4)


def _opened(mask: np.ndarray, radius_px: int) -> np.ndarray:
    return morph(mask, "open", radius_px)


def _grown(mask: np.ndarray, radius_px: int) -> np.ndarray:
    return morph(mask, "dilate", radius_px)


def holding(mask: np.ndarray, seeds: np.ndarray, *, connectivity: int = 8) -> np.ndarray:
    """The connected pieces of a mask (H, W) bool that hold a seed."""
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=connectivity)
    keep = np.zeros(count, bool)
    for rows, _, _ in bands(mask.shape):
        here = seeds[rows] & mask[rows]
        here[:, 1:] &= ~here[:, :-1].copy()  # one of a run of neighbours stands for all
        keep[labels[rows][here]] = True
    return pieces(keep, labels)


def pieces(keep: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`keep[labels]` (H, W) bool in bands, since NumPy widens the whole index first."""
    out = np.empty(labels.shape, bool)
    for rows, _, _ in bands(labels.shape):
        np.take(keep, labels[rows], out=out[rows], mode="clip")
    return out
