"""In the browser, a mark on the slide and its cell of the map lie on each other, at every zoom and turn."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.browser

MOST_PX = 2
SIZE_PX0 = (2300, 1900)


def seen(visitor: Any) -> np.ndarray:
    """The slide as it is on the screen, (H, W, 3) int."""
    visitor.settle()
    return np.asarray(Image.open(io.BytesIO(visitor.page.locator(".picture").screenshot())).convert("RGB")).astype(int)


def edges(shown: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is True; single stray pixels do not count."""
    columns, rows = (np.flatnonzero(shown.sum(axis=axis) > 5) for axis in (0, 1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def green(picture: np.ndarray) -> np.ndarray:
    """Where the mark is, (H, W) bool."""
    return (picture[..., 1] > picture[..., 0] + 60) & (picture[..., 1] > picture[..., 2] + 60)


@pytest.mark.parametrize(
    ("mpp", "corner", "bounds_px0"),
    [(0.25, (1200, 1000), None), (0.2457, (1333, 1089), (531, 417, 1600, 1350))],
    ids=["plain", "fractional mpp, bounds off the corner"],
)
def test_a_marked_cell_and_its_cell_of_the_map_coincide(
    visitor: Callable[..., Any],
    tmp_path: Path,
    mpp: float,
    corner: tuple[int, int],
    bounds_px0: tuple[int, int, int, int] | None,
) -> None:
    from tests.workflows.review.browser_desk import TILE_MPP, TILE_PX, draw_slide, grade, save_graded, serve_desk

    side = TILE_PX * TILE_MPP / mpp
    path = draw_slide(tmp_path / "marked.svs", SIZE_PX0, mpp, (*corner, side, side))
    graded = grade(path, [corner, (600, 500)], bounds_px0=bounds_px0)
    with serve_desk(save_graded(tmp_path / "run", [(path, graded)])) as address:
        reader = visitor(address).sign_in().open_case("marked")
        reader.press("o", "u")  # outline and unreadable tiles off
        hide_cards(reader)
        for look in ("0", "tile", "5", "q"):
            reader.page.locator(".tile").first.click() if look == "tile" else reader.press(look)
            with_map = seen(reader)
            reader.press("h")
            plain = seen(reader)
            reader.press("h")
            cell = np.abs(with_map - plain).max(axis=2) > 12
            np.testing.assert_allclose(edges(cell), edges(green(plain)), atol=MOST_PX, err_msg=look)


def hide_cards(reader: Any) -> None:
    """Take away what lies over the slide, so that a screenshot shows nothing else."""
    reader.page.evaluate(
        "document.querySelectorAll('.card, .corner, .navigator, .tops, .toast')"
        ".forEach((one) => { one.style.visibility = 'hidden'; })"
    )
