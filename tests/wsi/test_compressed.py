"""Compressed tiles and their geometry, put together in plain NumPy, against the tile reader at full decode."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tifffile

from tests.wsi.readers.test_jpeg_tiff import tile_place, write_tiff
from wsi import compressed as module
from wsi.compressed import CompressedBatch, compressed_reader
from wsi.errors import TileReadError
from wsi.readers.jpeg_tiff import JpegTiffReader
from wsi.slide import CompressedSlide, Slide, open_slide
from wsi.tiles import TileGrid, TileReader, TileSpec, tile_grid
from wsi.tissue import TissueMask

BOTH = ("ycbcr", "rgb")
Open = Callable[..., Slide]


@pytest.fixture
def whole() -> Iterator[Open]:
    """Opens slides whose tiles are decoded whole, as a card does it."""
    with ExitStack() as stack:

        def opened(path: Path, mpp: float = 0.5) -> Slide:
            slide = stack.enter_context(closing(open_slide(path, reader="jpeg_tiff", mpp=(mpp, mpp))))
            slide._reductions = ((1,),) * len(slide._reductions)
            return slide

        yield opened


def every_tile(slide: Slide, spec: TileSpec) -> TileGrid:
    """All places, tissue or not."""
    w, h = slide.info.size_px0
    mask = TissueMask(np.ones((h // 8, w // 8), bool), (w / (w // 8), h / (h // 8)), (0, 0), slide.info.require_mpp())
    return tile_grid(slide.info, mask, spec)


def cut(batch: CompressedBatch) -> np.ndarray:
    """The tiles of a batch, (n, tile_px, tile_px, 3) float64, straight from the definition of its parts."""
    w, h = batch.stored_px
    stored = [simplejpeg.decode_jpeg(stream.tobytes(), "RGB") for stream in batch.streams]
    tiles = []
    for strip in batch.strips:
        rows, columns = strip.slots.shape
        image = np.full((rows * h, columns * w, 3), np.nan)
        for (row, column), slot in np.ndenumerate(strip.slots):
            if slot >= 0:
                image[row * h : (row + 1) * h, column * w : (column + 1) * w] = stored[slot]
        band = (image[strip.row_index] * strip.row_weight[:, :, None, None]).sum(axis=1)
        for index, weight in zip(strip.col_index, strip.col_weight, strict=True):
            tiles.append((band[:, index] * weight[None, :, :, None]).sum(axis=2))
    return np.array(tiles)


SPECS = [
    TileSpec(64, 0.5, 64),
    TileSpec(64, 1.0, 64),
    TileSpec(48, 0.77, 31),
    TileSpec(50, 1.3, 37),
    TileSpec(100, 0.3, 90),
    TileSpec(16, 0.5, 150),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.tile_px}-{spec.mpp}-{spec.stride_px}")
@pytest.mark.parametrize("photometric", ["ycbcr", "rgb"])
def test_they_give_the_tiles_of_the_tile_reader(tmp_path: Path, whole: Open, spec: TileSpec, photometric: str) -> None:
    slide = whole(write_tiff(tmp_path / "slide.svs", photometric))
    grid = every_tile(slide, spec)
    rows = np.arange(len(grid))
    batch = compressed_reader(slide, grid, BOTH).read(rows)
    assert not batch.doubts
    np.testing.assert_array_equal(batch.rows, rows)
    expected = TileReader(slide, grid).read(rows)
    assert np.abs(cut(batch) - expected.pixels).max() <= 0.6  # both round weights, each in its way


def test_each_stored_tile_comes_once_and_only_if_needed(tmp_path: Path, whole: Open) -> None:
    slide = whole(write_tiff(tmp_path / "slide.svs"))  # 7 x 5 stored tiles of 128 px
    grid = every_tile(slide, TileSpec(128, 0.5, 64))
    batch = compressed_reader(slide, grid, BOTH).read(np.arange(len(grid)))
    assert len(batch.streams) == 6 * 5  # no whole tile reaches into the last column, which is 32 px wide
    some = np.flatnonzero((grid.coords[:, 1] == 128) & (grid.coords[:, 0] % 256 == 0))
    few = compressed_reader(slide, grid, BOTH).read(some)
    assert [grid.coords[row].tolist() for row in some] == [[0, 128], [256, 128], [512, 128]]
    assert len(few.streams) == 3
    assert [strip.slots.tolist() for strip in few.strips] == [[[0, -1, 1, -1, 2]]]


def test_strips_are_bounded(tmp_path: Path, whole: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = whole(write_tiff(tmp_path / "slide.svs"))
    grid = every_tile(slide, TileSpec(48, 0.55, 48))
    reader = compressed_reader(slide, grid, BOTH)
    rows = np.arange(len(grid))
    long = reader.read(rows)
    monkeypatch.setattr(module, "MAX_STRIP_PX", 40_000)
    short = reader.read(rows)
    assert len(short.strips) > len(long.strips) == len(np.unique(grid.coords[:, 1]))
    np.testing.assert_array_equal(cut(short), cut(long))
    np.testing.assert_array_equal(np.concatenate([cut(one) for one in reader.batches(rows, 7)]), cut(long))


def overwrite(path: Path, number: int, change: Callable[[bytes], bytes]) -> None:
    """Change the bytes of a stored tile in place; what becomes shorter is filled up with zeros."""
    offset, count = tile_place(path, number)
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = change(bytes(data[offset : offset + count])).ljust(count, b"\0")[:count]
    path.write_bytes(bytes(data))


def smaller(data: bytes) -> bytes:
    """The frame header says 64 x 64."""
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + b"\0\x40\0\x40" + data[at + 9 :]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: b"\0" * 600 + data[600:], "no start marker"),
        (smaller, "is 64 x 64 px, expected 128 x 128"),
        (lambda data: data[: len(data) // 2], "no end marker"),
        (lambda data: data[: len(data) // 2] + b"\xff\xd9", "bytes early"),
        (lambda data: data[:-60] + b"\xff\xda" + data[-58:], "marker within"),
    ],
)
def test_rows_that_touch_a_damaged_tile_are_doubted_and_no_other(
    tmp_path: Path, whole: Open, change: Callable[[bytes], bytes], said: str
) -> None:
    path = write_tiff(tmp_path / "slide.svs")
    spec = TileSpec(64, 0.5, 50)
    sound = whole(path)
    grid = every_tile(sound, spec)
    rows = np.arange(len(grid))
    expected = TileReader(sound, grid).read(rows).pixels
    overwrite(path, 8, change)  # column 1, row 1: x and y 128..256
    slide = whole(path)
    batch = compressed_reader(slide, grid, BOTH).read(rows)
    x, y = grid.coords.T
    hit = np.flatnonzero((x + 64 > 128) & (x < 256) & (y + 64 > 128) & (y < 256))
    assert list(batch.doubts) == hit.tolist()
    assert len(hit) == 16
    assert all(said in reason and "(column 1, row 1)" in reason for reason in batch.doubts.values())
    np.testing.assert_array_equal(batch.rows, np.setdiff1d(rows, hit))
    assert np.abs(cut(batch) - expected[batch.rows]).max() <= 0.5 + 1e-3
    assert [one.row for one in TileReader(slide, grid).read(rows).bad] == hit.tolist()


def test_tiles_cut_off_with_the_file_are_doubted(tmp_path: Path, whole: Open) -> None:
    path = write_tiff(tmp_path / "slide.svs", levels=1)
    offset, count = tile_place(path, 20)
    path.write_bytes(path.read_bytes()[: offset + count // 2])
    slide = whole(path)
    grid = every_tile(slide, TileSpec(64, 0.5, 64))
    rows = np.arange(len(grid))
    batch = compressed_reader(slide, grid, BOTH).read(rows)
    assert all("missing" in reason for reason in batch.doubts.values())
    assert list(batch.doubts) == [one.row for one in TileReader(slide, grid).read(rows).bad]
    assert 0 < len(batch.doubts) < len(grid)


def test_a_file_that_cannot_be_read_is_all_doubts(tmp_path: Path, whole: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = whole(write_tiff(tmp_path / "slide.svs"))
    grid = every_tile(slide, TileSpec(64, 0.5, 64))

    def broken(*_: object) -> bytes:
        raise TileReadError("the disk is gone")

    monkeypatch.setattr(slide, "_read_tiles", broken)
    batch = compressed_reader(slide, grid, BOTH).read(np.arange(3))
    assert batch.doubts == dict.fromkeys(range(3), "the disk is gone")
    assert not len(batch.rows)
    assert not batch.streams


def test_colours_that_the_decoder_gets_wrong_are_left_out(tmp_path: Path, whole: Open) -> None:
    slide = whole(write_tiff(tmp_path / "slide.svs", "rgb"))
    grid = every_tile(slide, TileSpec(64, 0.5, 64))
    batch = compressed_reader(slide, grid, ("ycbcr",)).read(np.arange(5))
    assert list(batch.doubts) == [0, 1, 2, 3, 4]
    assert all("stored as rgb" in reason for reason in batch.doubts.values())


def test_slides_without_jpeg_tiles_have_no_such_reader(tmp_path: Path, shared_data: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((200, 200, 3), np.uint8))
    slides = shared_data / "slides"
    for path in (tmp_path / "a.npy", slides / "TCGA-CR-7395-01A-01-TS1.svs"):
        with closing(open_slide(path, mpp=(0.5, 0.5), content_hash="0")) as slide:
            grid = every_tile(slide, TileSpec(64, 0.5, 64))
            assert isinstance(slide, CompressedSlide) == (path.suffix == ".svs")
            assert compressed_reader(slide, grid, BOTH) is None


def test_abbreviated_streams_of_a_real_slide_are_completed(shared_data: Path) -> None:
    path = shared_data / "slides" / "CMU-1-Small-Region.svs"
    with closing(JpegTiffReader(path)) as slide, tifffile.TiffFile(path) as tiff:
        (found,) = slide.read_jpegs(0, [(3, 4)])
        page = tiff.pages[0]
        expected = page.asarray()[3 * 240 : 4 * 240, 4 * 240 : 5 * 240]
    assert np.abs(simplejpeg.decode_jpeg(found.tobytes(), "RGB").astype(int) - expected).max() <= 1
