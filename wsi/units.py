"""Pixels and micrometres: what a plausible pixel size is, and how lengths go from one scale to another."""

import math

from wsi.errors import ImplausibleMppError, MissingMppError, UsageError

MPP_RANGE = (0.05, 20.0)
"""Plausible level-0 pixel sizes, um/px: from 100x oil to a macro photograph. Outside it, a unit is wrong."""

MAX_ANISOTROPY = 1.02
"""Largest ratio of the two pixel sides. Scanner calibration differs by a few per mille; more is a mistake."""


def parse_mpp(text: str) -> tuple[float, float]:
    """Read `"0.25"` or `"0.25,0.26"` (x, y) as a pixel size in um/px.

    Raises
    ------
    UsageError
        If the text is not one or two numbers, or no slide can have such pixels.
    """
    try:
        numbers = [float(part) for part in str(text).split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise UsageError(f"a pixel size is one number or x,y in um/px, for example 0.25; found {text!r}")
    mpp = (numbers[0], numbers[-1])
    try:
        return check_mpp(mpp, "the user", advice=False)
    except ImplausibleMppError as error:
        raise UsageError(f"{error}; a pixel size is given in um/px, for example 0.25") from error


def check_mpp(mpp: tuple[float, float] | None, source: str, *, advice: bool = True) -> tuple[float, float]:
    """The pixel size if it can be believed.

    Parameters
    ----------
    mpp : (x, y) or None
        um per level-0 pixel.
    source : str
        Where it came from; named in the message.
    advice : bool
        Whether the message ends in the cure by `--slide-mpp`.

    Raises
    ------
    MissingMppError
        If there is none.
    ImplausibleMppError
        If it is zero, not finite, outside `MPP_RANGE`, or more anisotropic than `MAX_ANISOTROPY`.
    """
    cure = "; give it with --slide-mpp UM_PER_PX" if advice else ""
    fault = ": the file's unit is wrong" if advice else ""
    if mpp is None:
        raise MissingMppError(f"the slide does not say how large a pixel is (mpp){cure}")
    low, high = MPP_RANGE
    for value in mpp:
        if not math.isfinite(value) or not low <= value <= high:
            raise ImplausibleMppError(f"mpp is {value:g} um/px by {source}, expected {low:g} to {high:g}{fault}{cure}")
    if max(mpp) / min(mpp) > MAX_ANISOTROPY:
        raise ImplausibleMppError(
            f"mpp is {mpp[0]:g} x {mpp[1]:g} um/px by {source}: pixels are not square (more than 2 % apart){cure}"
        )
    return mpp
