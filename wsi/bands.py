"""Work on a large picture in bands of rows that stay in a processor's cache, with what is looked at around them."""

from collections.abc import Iterator

BAND_PX = 1 << 17
"""Pixels of a band; half a megabyte for each float32 value of a pixel."""


def bands(shape: tuple[int, ...], reach: int = 0) -> Iterator[tuple[slice, slice, slice]]:
    """Cut the rows of a picture (H, W, ...) into bands.

    Parameters
    ----------
    reach : int
        So many rows above and below tell of a row.

    Yields
    ------
    rows, around, inner : slice
        Rows of a band; the same and what is in reach of them within the picture; and `rows` counted from `around`.
    """
    height, width = shape[:2]
    step = max(BAND_PX // max(1, width), 8 * reach, 1)
    for top in range(0, height, step):
        bottom = min(height, top + step)
        first = max(0, top - reach)
        yield slice(top, bottom), slice(first, min(height, bottom + reach)), slice(top - first, bottom - first)
