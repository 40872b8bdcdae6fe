"""The fast reader against OpenSlide's pixels, and on stored tiles that are damaged or missing."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from tests.hostile.makers import reduced
from tests.wsi.readers.makers import write_page
from wsi.errors import TileReadError, UnreadableSlideError
from wsi.readers.jpeg_tiff import JpegTiffReader
from wsi.readers.openslide import OpenSlideReader

RNG = np.random.default_rng(5)
BLOCKS = np.kron(RNG.integers(60, 220, (64, 80, 3)), np.ones((10, 10, 1), np.int64))
SMOOTH = cv2.GaussianBlur((BLOCKS + RNG.integers(-12, 13, BLOCKS.shape)).astype(np.uint8), (0, 0), 2)  # (640, 800, 3)


Fast = Callable[[Path], JpegTiffReader]
Slow = Callable[[Path], OpenSlideReader]


@pytest.fixture
def fast() -> Iterator[Fast]:
    """Opens slides with the reader, and closes them."""
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(closing(JpegTiffReader(path)))


@pytest.fixture
def slow() -> Iterator[Slow]:
    """The same with OpenSlide."""
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(closing(OpenSlideReader(path)))


def write_tiff(
    path: Path,
    photometric: str = "ycbcr",
    subsampling: tuple[int, int] = (2, 2),
    levels: int = 2,
    big: bool = False,
    tile_px: int = 128,
) -> Path:
    """An Aperio-style TIFF of (640, 800) and (320, 400) px whose edge tiles are padded."""
    with tifffile.TiffWriter(path, bigtiff=big) as tiff:
        for level in range(levels):
            pixels = SMOOTH[:: 1 << level, :: 1 << level]
            tiff.write(
                pixels,
                tile=(tile_px, tile_px),
                photometric=photometric,
                subsampling=subsampling if photometric == "ycbcr" else None,
                compression="jpeg",
                compressionargs={"level": 85, "outcolorspace": photometric},
                description="Aperio Image Library v12|AppMag = 20|MPP = 0.5000" if level == 0 else None,
                metadata=None,
                subfiletype=0,
            )
    return path


def tile_place(path: Path, number: int) -> tuple[int, int]:
    """Offset and length of a stored tile of level 0."""
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages[0].dataoffsets[number], tiff.pages[0].databytecounts[number]


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("big", [False, True])
def test_pixels_are_those_of_openslide(
    tmp_path: Path, subsampling: tuple[int, int], big: bool, fast: Fast, slow: Slow
) -> None:
    path = write_tiff(tmp_path / "slide.svs", subsampling=subsampling, big=big)
    ours, theirs = fast(path), slow(path)
    assert ours.info.level_sizes_px == theirs.info.level_sizes_px
    assert (ours.info.mpp, ours.info.objective_power, ours.info.vendor) == ((0.5, 0.5), 20.0, "aperio")
    for level, size_px in enumerate(ours.info.level_sizes_px):
        found = ours.read_region((0, 0), level, size_px).astype(int)
        assert np.abs(found - theirs.read_region((0, 0), level, size_px)).max() <= 2


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("abbreviated", [False, True])
@pytest.mark.parametrize(
    ("colour", "subsampling"), [("ycbcr", "444"), ("ycbcr", "422"), ("ycbcr", "420"), ("rgb", "444")]
)
def test_generic_tiffs_are_those_of_openslide(
    tmp_path: Path, colour: str, subsampling: str, abbreviated: bool, big: bool, fast: Fast, slow: Slow
) -> None:
    path, pyramid = tmp_path / "slide.tif", (SMOOTH, reduced(SMOOTH, 2))
    with tifffile.TiffWriter(path, bigtiff=big) as tiff:
        for level, pixels in enumerate(pyramid):
            write_page(
                tiff,
                pixels,
                (144, 112),
                colour=colour,
                subsampling=subsampling,
                abbreviated=abbreviated,
                subfiletype=level,
                resolution=(4e4, 4e4),
            )
    ours, theirs = fast(path), slow(path)
    assert ours.info.vendor == theirs.info.vendor == "generic-tiff"
    assert ours.info.mpp == theirs.info.mpp == (0.25, 0.25)
    assert ours.info.level_sizes_px == theirs.info.level_sizes_px == ((800, 640), (400, 320))
    for level, size_px in enumerate(ours.info.level_sizes_px):
        found = ours.read_region((0, 0), level, size_px).astype(int)
        assert np.abs(found - theirs.read_region((0, 0), level, size_px)).max() <= 2
        assert np.abs(found - pyramid[level]).mean() < 8  # a wrong colour space is off by tens


@pytest.mark.parametrize("reduce", [1, 2])
def test_windows_that_are_stored_tiles_have_the_pixels_of_any_other_window(
    tmp_path: Path, fast: Fast, reduce: int
) -> None:
    """They are decoded where they belong; not at the edge, not where memory has gaps, not where another needs them."""
    slide = fast(write_tiff(tmp_path / "slide.svs", subsampling=(2, 2)))
    (w, h), whole_px = (side // reduce for side in slide.levels[0].tile_px), slide.info.level_sizes_px[0]
    whole = slide.read_reduced(0, reduce, (0, 0), (-(-whole_px[0] // reduce), -(-whole_px[1] // reduce)))
    padded = np.full((whole.shape[0] + h, whole.shape[1] + w, 3), 255, np.uint8)
    padded[: whole.shape[0], : whole.shape[1]] = whole
    for y in range(0, whole.shape[0], h):
        windows = [(x, y, w, h) for x in range(0, whole.shape[1], w)]
        windows.insert(1, (w // 2, y, w, h))
        out = [np.full((h, w, 3), 7, np.uint8) for _ in windows]
        out[-2] = np.full((h, 2 * w, 3), 7, np.uint8)[:, ::2]
        assert slide.read_windows(0, reduce, windows, out, done_above=y + h) == [None] * len(windows)
        for (left, top, _, _), found in zip(windows, out, strict=True):
            assert (found == padded[top : top + h, left : left + w]).all()


def test_components_stored_as_rgb_are_not_converted(tmp_path: Path, fast: Fast, slow: Slow) -> None:
    path = write_tiff(tmp_path / "slide.svs", photometric="rgb")
    pixels = fast(path).read_region((0, 0), 0, (800, 640)).astype(int)
    assert np.abs(pixels - slow(path).read_region((0, 0), 0, (800, 640))).max() <= 2
    assert np.abs(pixels - SMOOTH).mean() < 4  # a wrong colour space is off by tens


def test_every_reduction_is_near_the_area_mean(tmp_path: Path, fast: Fast) -> None:
    slide = fast(write_tiff(tmp_path / "slide.svs", subsampling=(1, 1)))
    whole = slide.read_region((0, 0), 0, (800, 640)).astype(float)
    assert slide.reductions(0) == (1, 2, 4, 8)
    for factor in (2, 4, 8):
        mean = whole.reshape(640 // factor, factor, 800 // factor, factor, 3).mean(axis=(1, 3))
        found = slide.read_reduced(0, factor, (0, 0), (800 // factor, 640 // factor))
        error = ((found - mean) ** 2).mean()
        assert 10 * np.log10(255**2 / error) > 35


def test_a_reduced_rectangle_is_a_cut_of_the_reduced_level(tmp_path: Path, fast: Fast) -> None:
    slide = fast(write_tiff(tmp_path / "slide.svs"))
    whole = slide.read_reduced(0, 2, (0, 0), (400, 320))
    assert (slide.read_reduced(0, 2, (37, 91), (150, 77)) == whole[91:168, 37:187]).all()
    beyond = slide.read_reduced(0, 2, (390, 310), (20, 20))
    assert (beyond[:10, :10] == whole[310:, 390:]).all()
    assert (beyond[10:] == 255).all()
    assert (beyond[:, 10:] == 255).all()


def test_a_tile_with_broken_data_is_refused_and_its_neighbours_are_right(tmp_path: Path, fast: Fast) -> None:
    path = write_tiff(tmp_path / "slide.svs")
    sound = fast(path).read_region((0, 0), 0, (800, 640))
    offset, count = tile_place(path, 8)  # column 1, row 1 of 7 columns
    data = bytearray(path.read_bytes())
    data[offset + 3 * count // 4 : offset + 3 * count // 4 + 2] = b"\xff\xd9"
    path.write_bytes(bytes(data))
    slide = fast(path)
    with pytest.raises(TileReadError, match=r"stored tile \(column 1, row 1\)"):
        slide.read_region((130, 130), 0, (50, 50))
    assert (slide.read_region((256, 128), 0, (300, 300)) == sound[128:428, 256:556]).all()
    assert (slide.read_region((0, 0), 0, (800, 128)) == sound[:128]).all()


def test_a_file_cut_off_has_bad_tiles_and_good_ones(tmp_path: Path, fast: Fast) -> None:
    path = write_tiff(tmp_path / "slide.svs", levels=1)
    sound = fast(path).read_region((0, 0), 0, (800, 640))
    offset, count = tile_place(path, 20)
    path.write_bytes(path.read_bytes()[: offset + count // 2])
    slide = fast(path)
    assert (slide.read_region((0, 0), 0, (800, 256)) == sound[:256]).all()
    with pytest.raises(TileReadError, match="missing"):
        slide.read_region((0, 600), 0, (40, 40))


def test_a_tile_of_another_size_is_refused(tmp_path: Path, fast: Fast) -> None:
    path = write_tiff(tmp_path / "slide.svs")
    small = write_tiff(tmp_path / "small.svs", tile_px=64)
    (offset, count), (other, length) = tile_place(path, 3), tile_place(small, 0)
    assert length <= count
    data = bytearray(path.read_bytes())
    data[offset : offset + length] = small.read_bytes()[other : other + length]
    path.write_bytes(bytes(data))
    with pytest.raises(TileReadError, match="64 x 64 px, expected 128 x 128"):
        fast(path).read_region((3 * 128, 0), 0, (10, 10))


def test_threads_share_a_handle(tmp_path: Path, fast: Fast) -> None:
    path = write_tiff(tmp_path / "slide.svs")
    sound = fast(path).read_region((0, 0), 0, (800, 640))
    slide = fast(path)
    places = [(x, y) for x in range(0, 700, 90) for y in range(0, 540, 70)]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda place: slide.read_region(place, 0, (100, 100)), places))
    for (x, y), part in zip(places, parts, strict=True):
        assert (part == sound[y : y + 100, x : x + 100]).all()


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: Fast) -> None:
    monkeypatch.setattr("wsi.readers.jpeg_tiff.CACHE_BYTES", 5 * 128 * 128 * 3)
    slide = fast(write_tiff(tmp_path / "slide.svs"))
    slide.read_region((0, 0), 0, (800, 640))
    assert sum(tile.nbytes for tile in slide._cache.values()) <= 5 * 128 * 128 * 3


def test_a_wide_region_is_not_decoded_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: Fast) -> None:
    slide = fast(write_tiff(tmp_path / "slide.svs"))
    whole = slide.read_region((0, 0), 0, (800, 640))
    slide.close()
    monkeypatch.setattr("wsi.readers.jpeg_tiff.TILES_AT_ONCE", 3)
    slide = fast(tmp_path / "slide.svs")
    held: list[int] = []
    tiles = slide._tiles

    def spy(level: int, reduce: int, row: int, columns: list[int], *rest: Any) -> Iterator[np.ndarray | str | None]:
        held.append(len(columns))
        return tiles(level, reduce, row, columns, *rest)

    monkeypatch.setattr(slide, "_tiles", spy)
    np.testing.assert_array_equal(slide.read_region((0, 0), 0, (800, 640)), whole)
    assert held == [3, 3, 1] * 5  # of 7 columns


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("strips", {"rowsperstrip": 16, "compression": "jpeg"}),
        ("deflate", {"tile": (128, 128), "compression": "zlib"}),
        ("grey", {"tile": (128, 128), "compression": "jpeg"}),
        ("sixteen", {"tile": (128, 128), "compression": "zlib"}),
    ],
)
def test_what_it_does_not_know_it_declines(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    pixels = {"grey": SMOOTH[..., 0], "sixteen": SMOOTH.astype(np.uint16)}.get(name, SMOOTH)
    tifffile.imwrite(tmp_path / "slide.tif", pixels, photometric="minisblack" if name == "grey" else "rgb", **options)
    with pytest.raises(UnreadableSlideError):
        JpegTiffReader(tmp_path / "slide.tif")


@pytest.mark.parametrize(
    ("name", "level0_difference"),
    [
        ("CMU-1-Small-Region.svs", 0),
        ("cmu1_tiff_wrong_mpp/CMU-1-Small-Region.jpeg.tiff", 0),
        ("TCGA-CR-7395-01A-01-TS1.svs", 1),  # JPEG 2000: OpenJPEG of another version
        ("TCGA-DU-6399-01A-01-TS1.svs", 1),  # and chroma interpolated by other code
    ],
)
def test_real_slides_against_openslide(
    shared_data: Path, name: str, level0_difference: int, fast: Fast, slow: Slow
) -> None:
    path = shared_data / "slides" / name
    ours, theirs = fast(path), slow(path)
    assert ours.info.mpp == theirs.info.mpp
    assert ours.info.level_sizes_px == theirs.info.level_sizes_px
    assert set(ours.associated_images) == set(theirs.associated_images)
    w, h = ours.info.size_px0
    for share in (0.0, 0.31, 0.62, 0.9):
        place = (int(share * w), int(share * h))
        found = ours.read_region(place, 0, (700, 500)).astype(int)
        assert np.abs(found - theirs.read_region(place, 0, (700, 500))).max() <= level0_difference
