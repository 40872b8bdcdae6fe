"""Tiles at their true scale: where they lie, what they show, and what a damaged slide costs."""

from collections import Counter

import numpy as np
import pytest

from tests.hostile.makers import damage_tile, reduced, tissue_pixels, write_svs
from tests.wsi.test_kernels import pillow
from tests.wsi.test_resample import EXACT_TO, box_average
from wsi import tiles as module
from wsi.errors import MissingMppError, UsageError
from wsi.readers import jpeg_tiff
from wsi.slide import open_slide
from wsi.tiles import TileGrid, TileReader, TileSpec, tile_grid, tile_polygons
from wsi.tissue import TissueMask


def all_tissue(info):
    w, h = info.size_px0
    return TissueMask(np.ones((h // 8, w // 8), bool), (w / (w // 8), h / (h // 8)), (0, 0), info.require_mpp())


def tiles_of(slide, spec):
    grid = tile_grid(slide.info, all_tissue(slide.info), spec)
    return grid, TileReader(slide, grid).read(np.arange(len(grid)))


def array_slide(path, pixels, mpp):
    np.save(path, pixels)
    return open_slide(path, mpp=(mpp, mpp) if isinstance(mpp, float) else mpp)


@pytest.mark.parametrize("mpp", [0.5, 0.25, 0.2457, 0.3, 0.17, 0.4999, 0.505, (0.25, 0.2525)])
def test_any_scale_to_any_scale_is_box_integration(tmp_path, mpp):
    pixels = np.random.default_rng(3).integers(0, 256, (210, 230, 3), dtype=np.uint8)
    slide = array_slide(tmp_path / "a.npy", pixels, mpp)
    grid, batch = tiles_of(slide, TileSpec(tile_px=32, mpp=0.51, stride_px=32))
    factors = [0.51 / side for side in slide.info.mpp]
    assert grid.side_px0 == pytest.approx((32 * factors[0], 32 * factors[1]))
    assert len(batch.rows) == len(grid) > 3
    for row, tile in zip(batch.rows, batch.pixels, strict=True):
        x, y = grid.coords[row]
        expected = box_average(pixels, (x, y, *grid.side_px0), (32, 32))
        assert np.abs(tile - expected).max() <= 0.5 + EXACT_TO


@pytest.mark.parametrize("mpp", [1.0, 2.0])
@pytest.mark.parametrize(
    ("reader", "size"), [("openslide", (1024, 768)), ("tiffslide", (1024, 768)), ("tiffslide", (1030, 771))]
)
def test_a_pyramid_gives_what_level_0_gives(tmp_path, reader, size, mpp):
    pixels = tissue_pixels(*size)
    flat = array_slide(tmp_path / "a.npy", pixels, 0.25)
    path = write_svs(tmp_path / "a.svs", pixels, mpp="0.25", factors=(2, 4), compression="deflate")
    slide = open_slide(path, reader=reader)
    assert slide.info.best_level(mpp / 0.25) == 2
    spec = TileSpec(tile_px=32, mpp=mpp, stride_px=32)
    grid, expected = tiles_of(flat, spec)
    same, found = tiles_of(slide, spec)
    np.testing.assert_array_equal(same.coords, grid.coords)
    assert np.abs(found.pixels.astype(int) - expected.pixels).max() <= 1
    slide.close()


def test_a_ramp_has_its_known_values_at_known_places(tmp_path):
    # value = x / 8 at the pixel's centre: a tile pixel of 0.5 um on 0.2 um pixels averages 2.5 of them
    x = np.arange(1600)
    ramp = np.repeat(np.repeat(((x + 0.5) / 8)[None, :, None], 400, axis=0), 3, axis=2)
    slide = array_slide(tmp_path / "a.npy", np.rint(ramp).astype(np.uint8), 0.2)
    grid, batch = tiles_of(slide, TileSpec(tile_px=64, mpp=0.5, stride_px=64))
    assert grid.side_px0 == pytest.approx((160.0, 160.0))
    np.testing.assert_array_equal(grid.coords[:10, 0], 160 * np.arange(10))
    for row, tile in zip(batch.rows, batch.pixels, strict=True):
        centres = grid.coords[row][0] + 2.5 * (np.arange(64) + 0.5)
        assert np.abs(tile[10, :, 0] - centres / 8).max() <= 1
        assert tile.mean() == pytest.approx((grid.coords[row][0] + 80) / 8, abs=0.1)


def test_only_whole_tiles_are_laid_and_none_is_forgotten(tmp_path):
    slide = array_slide(tmp_path / "a.npy", np.zeros((200, 320, 3), np.uint8), 0.5)
    grid = tile_grid(slide.info, all_tissue(slide.info), TileSpec(64, 0.5, 64))
    np.testing.assert_array_equal(np.unique(grid.coords[:, 0]), [0, 64, 128, 192, 256])
    np.testing.assert_array_equal(np.unique(grid.coords[:, 1]), [0, 64, 128])
    assert grid.coords.dtype == np.int32
    for mpp in (0.2457, 0.3, 0.137):
        for size in ((333, 217), (500, 401)):
            slide = array_slide(tmp_path / "b.npy", np.zeros((size[1], size[0], 3), np.uint8), mpp)
            grid = tile_grid(slide.info, all_tissue(slide.info), TileSpec(32, 0.51, 20))
            assert (grid.coords + grid.side_px0 <= np.array(size) + 1e-3).all()
            step = 20 * 0.51 / mpp
            fit = [int((extent - grid.side_px0[0]) // step) + 1 for extent in size]
            assert len(grid) == fit[0] * fit[1]


def test_overlapping_tiles_lie_a_stride_apart_and_agree(tmp_path):
    pixels = np.random.default_rng(5).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    slide = array_slide(tmp_path / "a.npy", pixels, 0.25)
    grid, batch = tiles_of(slide, TileSpec(tile_px=32, mpp=0.5, stride_px=16))
    np.testing.assert_array_equal(np.unique(np.diff(np.unique(grid.coords[:, 0]))), [32])
    np.testing.assert_array_equal(batch.pixels[0][:, 16:], batch.pixels[1][:, :16])


@pytest.mark.parametrize("mpp", ["0.5", "0.2457", "0.13"])
@pytest.mark.parametrize(
    ("reader", "kernel"),
    [
        ("jpeg_tiff", "area"),
        ("openslide", "area"),
        ("tiffslide", "area"),
        ("jpeg_tiff", "lanczos"),
        ("openslide", "bicubic"),
    ],
)
def test_a_strip_gives_the_same_bytes_as_each_tile_alone(tmp_path, reader, mpp, kernel, monkeypatch):
    slide = open_slide(write_svs(tmp_path / "a.svs", tissue_pixels(903, 711), mpp=mpp, factors=(3,)), reader=reader)
    spec = TileSpec(tile_px=48, mpp=0.5, stride_px=37, kernel=kernel)
    grid = tile_grid(slide.info, all_tissue(slide.info), spec)
    together = TileReader(slide, grid).read(np.arange(len(grid)))
    for row in range(0, len(grid), 7):
        alone = TileReader(slide, grid).read(np.array([row]))
        np.testing.assert_array_equal(alone.pixels[0], together.pixels[row])
    monkeypatch.setattr(module, "MAX_STRIP_PX", 40_000)
    np.testing.assert_array_equal(TileReader(slide, grid).read(np.arange(len(grid))).pixels, together.pixels)
    slide.close()


@pytest.mark.parametrize("reader", ["jpeg_tiff", "openslide", "tiffslide"])
def test_a_damaged_stored_tile_costs_the_tiles_that_need_it_and_no_other(tmp_path, reader):
    pixels = tissue_pixels(1024, 768)
    whole = open_slide(write_svs(tmp_path / "whole.svs", pixels), reader=reader)
    spec = TileSpec(tile_px=128, mpp=0.5, stride_px=128)
    grid, expected = tiles_of(whole, spec)
    path = write_svs(tmp_path / "broken.svs", pixels)
    damage_tile(path, 0, column=2, row=1)  # 256 px tiles: x 512..768, y 256..512
    slide = open_slide(path, reader=reader)
    for _ in range(2):  # the handle has to survive
        batch = TileReader(slide, grid).read(np.arange(len(grid)))
        x, y = grid.coords.T
        hit = np.flatnonzero((x + 128 > 512) & (x < 768) & (y + 128 > 256) & (y < 512))
        assert [one.row for one in batch.bad] == hit.tolist()
        assert all(one.reason for one in batch.bad)
        np.testing.assert_array_equal(batch.rows, np.setdiff1d(np.arange(len(grid)), hit))
        np.testing.assert_array_equal(batch.pixels, expected.pixels[batch.rows])
    slide.close()
    whole.close()


@pytest.mark.parametrize("stride_px", [30, 48, 60])
@pytest.mark.parametrize("mpp", [0.5, 0.2457])
def test_each_stored_tile_is_decoded_once(tmp_path, monkeypatch, mpp, stride_px):
    pixels = np.random.default_rng(1).integers(0, 256, (1536, 2048, 3), dtype=np.uint8)  # no two stored tiles alike
    slide = open_slide(write_svs(tmp_path / "a.svs", pixels), reader="jpeg_tiff", mpp=(mpp, mpp))
    grid = tile_grid(slide.info, all_tissue(slide.info), TileSpec(48, 0.5, stride_px))
    decoded = Counter()
    decode = jpeg_tiff.decode_tile

    def counted(level, data, *rest):
        decoded[data] += 1
        return decode(level, data, *rest)

    monkeypatch.setattr(jpeg_tiff, "decode_tile", counted)
    for _ in TileReader(slide, grid).batches(np.arange(len(grid)), 25):
        pass
    assert len(decoded) > 40
    assert set(decoded.values()) == {1}
    slide.close()


def test_memory_is_used_again_only_when_nobody_holds_the_batch(tmp_path):
    slide = open_slide(write_svs(tmp_path / "a.svs", tissue_pixels(1024, 768)))
    grid = tile_grid(slide.info, all_tissue(slide.info), TileSpec(48, 0.5, 48))
    reader, rows = TileReader(slide, grid), np.arange(len(grid))
    held = list(reader.batches(rows, 10))  # all alive at once
    views = [batch.pixels[3:5, :, 7] for batch in held[:6]]
    expected = [view.copy() for view in views]
    again = list(TileReader(slide, grid).batches(rows, 10))
    for one, other in zip(held, again, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
    del held, again
    for _ in range(3):  # a part of a batch is enough to keep the whole
        assert all(np.array_equal(view, copy) for view, copy in zip(views, expected, strict=True))
        reader.read(rows[-10:])
    del views
    places = set()
    for _ in range(20):
        places.add(reader.read(rows[:10]).pixels.ctypes.data)
    assert len(places) == 1
    slide.close()


def test_threads_read_ahead_and_change_nothing(tmp_path, monkeypatch):
    path = write_svs(tmp_path / "a.svs", tissue_pixels(1024, 768))
    damage_tile(path, 0, column=2, row=1)
    slide = open_slide(path)
    grid = tile_grid(slide.info, all_tissue(slide.info), TileSpec(48, 0.5, 37))
    rows = np.arange(3, len(grid))
    alone = list(TileReader(slide, grid).batches(rows, 20))
    assert any(batch.bad for batch in alone)
    begun = []
    reader = TileReader(slide, grid)
    read = reader.read
    monkeypatch.setattr(reader, "read", lambda part: (begun.append(part), read(part))[1])
    for number, (one, batch) in enumerate(zip(alone, reader.batches(rows, 20, threads=2), strict=True), 1):
        np.testing.assert_array_equal(batch.rows, one.rows)
        np.testing.assert_array_equal(batch.pixels, one.pixels)
        assert batch.bad == one.bad
        assert len(begun) <= number + 3
    early = reader.batches(rows, 20, threads=2)
    next(early)
    early.close()  # lets go of its threads
    slide.close()


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("mpp", [1.0, 0.25, 0.2457, 0.17, (0.25, 0.2525)])
def test_tiles_are_cut_out_of_the_whole_level_resampled(tmp_path, kernel, mpp):
    pixels = np.random.default_rng(3).integers(0, 256, (150, 170, 3), dtype=np.uint8)
    slide = array_slide(tmp_path / "a.npy", pixels, mpp)
    grid, batch = tiles_of(slide, TileSpec(tile_px=20, mpp=0.51, stride_px=19, kernel=kernel))
    assert len(batch.rows) == len(grid) > 3
    for row, tile in zip(batch.rows, batch.pixels, strict=True):
        expected = pillow(pixels, (*grid.coords[row].tolist(), *grid.side_px0), (20, 20), kernel)
        assert np.abs(tile - expected).max() <= 0.6


@pytest.mark.parametrize("mpp", [0.5, 0.499, 0.4914, 0.3333])
def test_tiles_read_reduced_are_those_of_a_full_decode(tmp_path, mpp):
    path = write_svs(tmp_path / "a.svs", tissue_pixels(1600, 1200), factors=())
    fast, slow = (open_slide(path, reader=reader, mpp=(mpp, mpp)) for reader in ("jpeg_tiff", "openslide"))
    grid = tile_grid(fast.info, all_tissue(fast.info), TileSpec(64, 1.0, 64))
    found, expected = (TileReader(slide, grid).read(np.arange(len(grid))).pixels for slide in (fast, slow))
    assert np.mean((found.astype(float) - expected) ** 2) < 255**2 / 10**4.2  # 42 dB
    fast.close()
    slow.close()


def test_other_kernels_weigh_the_stored_level_as_it_is(tmp_path):
    slide = open_slide(write_svs(tmp_path / "a.svs", tissue_pixels(903, 711), mpp="0.25"), reader="jpeg_tiff")
    level = slide.read_region((0, 0), 0, slide.info.size_px0)
    grid, batch = tiles_of(slide, TileSpec(tile_px=64, mpp=0.5, stride_px=100, kernel="bicubic"))
    for row, tile in zip(batch.rows, batch.pixels, strict=True):
        expected = pillow(level, (*grid.coords[row].tolist(), *grid.side_px0), (64, 64), "bicubic")
        assert np.abs(tile - expected).max() <= 0.6
    slide.close()


def test_strips_of_copies_and_of_places_between_pixels(tmp_path):
    # at the level's own scale a tile that starts on a whole pixel is copied, one between pixels reaches for neighbours
    path = write_svs(tmp_path / "a.svs", tissue_pixels(900, 712), mpp="0.125", compression="deflate")
    slide = open_slide(path, reader="tiffslide")
    level = slide.read_region((0, 0), 1, slide.info.level_sizes_px[1])
    spec = TileSpec(tile_px=32, mpp=0.5, stride_px=32, kernel="lanczos")
    coords = np.array([(x, 202) for x in (200, 202, 330, 332, 335)], np.int32)
    grid = TileGrid(spec, coords, np.ones(len(coords), np.float32), (128.0, 128.0))
    batch = TileReader(slide, grid).read(np.arange(len(grid)))
    for (x, y), tile in zip(coords.tolist(), batch.pixels, strict=True):
        assert np.abs(tile - pillow(level, (x / 4, y / 4, 32, 32), (32, 32), "lanczos")).max() <= 0.6
    slide.close()


def test_damage_beside_a_tile_costs_it_only_where_the_kernel_reaches_for_it(tmp_path):
    path = write_svs(tmp_path / "broken.svs", tissue_pixels(1024, 768))
    damage_tile(path, 0, column=2, row=1)  # x 512..768, y 256..512
    slide = open_slide(path, reader="jpeg_tiff")
    for mpp, kernel, worst in ((0.5, "lanczos", 512), (1.0, "area", 512), (1.0, "lanczos", 507)):
        side = int(64 * mpp / 0.5)
        coords = np.array([(x - side, 300) for x in (507, 508, 512, 513)], np.int32)
        grid = TileGrid(TileSpec(64, mpp, 64, kernel=kernel), coords, np.ones(4, np.float32), (side, side))
        batch = TileReader(slide, grid).read(np.arange(4))
        assert [one.row for one in batch.bad] == np.flatnonzero(coords[:, 0] + side > worst).tolist()
    slide.close()


def test_a_grid_needs_a_scale_and_a_sensible_stride(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5000, 5000, 3), np.uint8))
    slide = open_slide(tmp_path / "a.npy")
    mask = TissueMask(np.ones((10, 10), bool), (500.0, 500.0), (0, 0), (0.5, 0.5))
    with pytest.raises(MissingMppError):
        tile_grid(slide.info, mask, TileSpec())
    slide = open_slide(tmp_path / "a.npy", mpp=(0.5, 0.5))
    with pytest.raises(UsageError, match="stride"):
        tile_grid(slide.info, mask, TileSpec(stride_px=1))


def test_tissue_decides_by_area(tmp_path):
    slide = array_slide(tmp_path / "a.npy", np.zeros((128, 256, 3), np.uint8), 0.5)
    mask = np.zeros((16, 32), bool)
    mask[:, :12] = True  # x below 96 of 256
    tissue = TissueMask(mask, (8.0, 8.0), (0, 0), (0.5, 0.5))
    grid = tile_grid(slide.info, tissue, TileSpec(tile_px=64, mpp=0.5, stride_px=64, min_tissue=0.5))
    assert sorted(set(map(tuple, grid.coords.tolist()))) == [(0, 0), (0, 64), (64, 0), (64, 64)]
    np.testing.assert_allclose(grid.tissue_fraction, [1, 0.5, 1, 0.5])
    strict = tile_grid(slide.info, tissue, TileSpec(tile_px=64, mpp=0.5, stride_px=64, min_tissue=0.51))
    assert len(strict) == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"tile_px": 8},
        {"mpp": 0.0},
        {"mpp": float("nan")},
        {"stride_px": 0},
        {"min_tissue": 0.0},
        {"min_tissue": 1.1},
        {"kernel": "nearest"},
    ],
)
def test_a_recipe_that_cannot_be_is_refused(settings):
    with pytest.raises(UsageError):
        TileSpec(**settings)


def test_outlines_are_the_tiles_corners(tmp_path):
    slide = array_slide(tmp_path / "a.npy", np.zeros((130, 130, 3), np.uint8), 0.25)
    grid = tile_grid(slide.info, all_tissue(slide.info), TileSpec(tile_px=32, mpp=0.5, stride_px=32))
    np.testing.assert_array_equal(tile_polygons(grid)[1], [[64, 0], [128, 0], [128, 64], [64, 64]])


def test_the_area_kernel_agrees_with_a_scanners_level(tmp_path):
    pixels = tissue_pixels(512, 512)
    slide = array_slide(tmp_path / "a.npy", pixels, 0.25)
    _, batch = tiles_of(slide, TileSpec(tile_px=128, mpp=0.5, stride_px=128))
    assert np.abs(batch.pixels[0].astype(int) - reduced(pixels, 2)[:128, :128]).max() <= 1
