"""Expected values are derived on paper from the tiles' places; none comes from the code's own output."""

import itertools
import tracemalloc

import numpy as np
import pytest

from wsi.errors import UsageError
from wsi.heatmap import MAX_RASTER_PX, Heatmap
from wsi.testing import example_maps
from wsi.tiles import TileSpec

NAN = np.nan


def heatmap(
    coords: list[tuple[int, int]], side: float, scores: list[float], size: tuple[int, int] = (64, 64)
) -> Heatmap:
    return Heatmap(np.array(coords, np.int32), (side, side), np.array(scores), size, (0.5, 0.5))


def test_a_tile_fills_its_pixels_and_no_others() -> None:
    raster = heatmap([(16, 32)], 16, [7.0]).raster()
    expected = np.full((32, 32), NAN, np.float32)
    expected[16:24, 8:16] = 7  # 16 px0 in 8 pixels: 2 px0 each
    np.testing.assert_array_equal(raster, expected)


def test_overlapping_tiles_are_averaged() -> None:
    raster = heatmap([(0, 0), (8, 0)], 16, [1.0, 3.0]).raster()
    np.testing.assert_array_equal(raster[0, :14], [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, NAN, NAN])


def test_a_pixel_under_two_neighbours_is_weighted_by_area() -> None:
    tiles = heatmap([(0, 0), (3, 0)], 3, [0.0, 8.0])
    row = tiles.window((0, 0), (2, 3), (4, 1))[0]  # pixels [0,2) [2,4) [4,6) [6,8); border at 3
    np.testing.assert_allclose(row, [0, 4, 8, NAN])


def test_a_pixel_whose_centre_is_outside_is_empty() -> None:
    row = heatmap([(0, 0)], 28, [1.0]).window((0, 0), (20, 20), (3, 1))[0]  # centre of the second at 30, tile to 28
    np.testing.assert_array_equal(row, [1, NAN, NAN])


def test_rounded_corners_open_no_seam() -> None:
    # Sides of 4.4 px0 laid at round(k * 4.4): 0, 4, 9, 13, 18; no tile lies from 8.4 to 9 and from 17.4 to 18, over
    # the centres of two pixels.
    tiles = heatmap([(0, 0), (4, 0), (9, 0), (13, 0), (18, 0)], 4.4, [1.0] * 5)
    assert np.isfinite(tiles.window((0, 0), (1, 4), (22, 1))).all()


def test_no_tile_vanishes_where_pixels_are_larger() -> None:
    raster = heatmap([(5, 5), (41, 41)], 2, [1.0, 5.0]).window((0, 0), (16, 16), (4, 4))
    assert raster[0, 0] == 1
    assert raster[2, 2] == 5
    assert np.isfinite(raster).sum() == 2


def test_pixels_that_are_not_square_give_a_raster_that_is() -> None:
    tiles = Heatmap(np.array([[80, 80]], np.int32), (40, 32), np.array([1.0]), (200, 160), (0.4, 0.5))  # 16 um square
    assert tiles.raster_mpp == pytest.approx(2.0)
    assert tiles.pitch_px0 == pytest.approx((5.0, 4.0))
    assert tiles.shape == (40, 40)
    rows, cols = np.nonzero(np.isfinite(tiles.raster()))
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (20, 27, 16, 23)
    np.testing.assert_array_equal(np.concatenate(list(tiles.bands(rows=3))), tiles.raster())


def test_levels_halve_without_remainder_and_agree() -> None:
    tiles = heatmap([(8, 8), (24, 8), (40, 24)], 16, [1.0, 2.0, 4.0], (61, 47))
    fine = tiles.raster()
    assert tiles.levels == 4
    assert fine.shape == (24, 32)  # 47 / 2 = 23.5 and 61 / 2 = 30.5, up to multiples of 8
    for level in range(1, 3):
        step = 2**level
        blocks = fine.reshape(24 // step, step, 32 // step, step)
        whole = np.isfinite(blocks).all(axis=(1, 3))
        assert whole.any()
        np.testing.assert_allclose(tiles.raster(level)[whole], blocks.mean(axis=(1, 3))[whole])


def test_bands_are_the_raster() -> None:
    tiles = heatmap(
        [(x, y) for x, y in itertools.product(range(0, 1000, 100), repeat=2)], 100, list(range(100)), (1000, 1000)
    )
    np.testing.assert_array_equal(np.concatenate(list(tiles.bands(rows=7))), tiles.raster())


def test_a_large_slide_needs_little_memory() -> None:
    side = 448.3
    grid = np.rint(np.stack(np.meshgrid(np.arange(200) * side, np.arange(200) * side), axis=-1).reshape(-1, 2))
    tiles = Heatmap(grid.astype(np.int32), (side, side), np.ones(len(grid)), (100_000, 100_000), (0.25, 0.25))
    assert max(tiles.shape) < MAX_RASTER_PX
    tracemalloc.start()
    try:
        covered = sum(int(np.isfinite(band).sum()) for band in tiles.bands())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert covered == pytest.approx(1600**2, rel=1e-3)  # 200 tiles of 8 pixels along each side
    assert peak < 120 << 20


def test_small_tiles_on_a_large_slide_have_fewer_pixels_each() -> None:
    tiles = Heatmap(np.zeros((1, 2), np.int32), (64, 64), np.ones(1), (100_000, 100_000), (0.25, 0.25))
    assert tiles.raster_mpp == 4.0  # 16 um tiles: 6,250 of 4 um along 25 mm; at 2 um it would be 12,500
    assert tiles.levels == 3


def test_scores_must_be_finite_and_one_a_tile() -> None:
    with pytest.raises(UsageError, match="finite"):
        heatmap([(0, 0)], 16, [NAN])
    with pytest.raises(UsageError, match="one score a tile"):
        heatmap([(0, 0)], 16, [1.0, 2.0])


CASES = [
    # mpp, bounds, stride as a share of the tile, tile scale
    ((0.2457, 0.2457), (0, 0, 6000, 4000), 1.0, 0.5),
    ((0.2457, 0.2457), (713, 291, 4501, 3203), 1.0, 0.5),
    ((0.2457, 0.2483), (713, 291, 4501, 3203), 0.5, 0.5),
    ((0.5, 0.5), (37, 0, 5000, 3999), 1.0, 0.5),
    ((0.499, 0.499), (1000, 1000, 3000, 2500), 0.25, 1.0),
    ((0.1, 0.1), (0, 500, 6000, 3000), 1.5, 0.3),
]


@pytest.mark.parametrize(("mpp", "bounds", "stride", "tile_mpp"), CASES)
@pytest.mark.parametrize("where", [(0.21, 0.13), (0.5, 0.5), (0.77, 0.9)])
def test_a_marked_place_lies_under_its_pixel(mpp, bounds, stride, tile_mpp, where) -> None:
    """On paper: tile k along an axis starts at bounds + round(k * stride * tile_px * tile_mpp / mpp)."""
    tile_px = 64
    step = [round(stride * tile_px) * tile_mpp / one for one in mpp]
    side = [tile_px * tile_mpp / one for one in mpp]
    tile = [int(share * ((bounds[axis + 2] - side[axis]) // step[axis])) for axis, share in enumerate(where)]
    corner = [bounds[axis] + round(tile[axis] * step[axis]) for axis in range(2)]
    point = (corner[0] + 0.4 * side[0], corner[1] + 0.4 * side[1])
    spec = TileSpec(tile_px, tile_mpp, round(stride * tile_px))
    maps = example_maps(mpp=mpp, bounds_px0=bounds, spec=spec, marked_px0=point)
    assert corner in maps.grid.coords.tolist()

    tumour = maps.heatmap(maps.evidence[1])
    raster = tumour.raster()
    row, col = tumour.locate(point)
    assert (row, col) == (int(point[1] * mpp[1] / tumour.raster_mpp), int(point[0] * mpp[0] / tumour.raster_mpp))
    assert raster[row, col] == 1 if stride >= 1 else raster[row, col] > 0.5
    rows, cols = np.nonzero(np.nan_to_num(raster) > 0)
    for at, axis in ((cols, 0), (rows, 1)):
        centres = (at + 0.5) * tumour.pitch_px0[axis]
        assert np.abs(centres - point[axis]).max() <= side[axis] + tumour.pitch_px0[axis]

    on_picture = maps.on_thumbnail(maps.evidence[1])
    height, width = on_picture.shape
    x = int((point[0] - bounds[0]) / bounds[2] * width)
    y = int((point[1] - bounds[1]) / bounds[3] * height)
    assert on_picture[y, x] == pytest.approx(float(raster[row, col]), abs=0.25)
