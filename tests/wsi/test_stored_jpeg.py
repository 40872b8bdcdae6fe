"""What is passed on undecoded shows what the reader reads, in any decoder; what would not is not passed on."""

import io
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from tests.hostile.makers import damage_tile, overwrite, stored_tile, tissue_pixels, write_svs
from wsi.slide import open_slide
from wsi.stored_jpeg import JFIF, _presentable, stored_jpeg
from wsi.tile_pyramid import PyramidTile, pyramid_of


def pillow(data: bytes) -> np.ndarray:
    """Pixels as a browser's decoder has them: by what stands in the stream alone."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def test_passed_tiles_are_the_readers_pixels_on_every_level_of_the_file(small_svs: Path) -> None:
    slide = open_slide(small_svs)
    try:
        pyramid = pyramid_of(slide)
        passed = 0
        for level, stored in ((pyramid.levels - 1, 0), (pyramid.levels - 3, 1)):
            width, height = pyramid.size_px(level)
            for row in range(-(-height // 256)):
                for column in range(-(-width // 256)):
                    data = stored_jpeg(slide, pyramid, PyramidTile(level, column, row))
                    assert (data is not None) == ((column + 1) * 256 <= width and (row + 1) * 256 <= height)
                    if data is None:
                        continue
                    place = slide.info.level_location(stored, (column * 256, row * 256))
                    np.testing.assert_array_equal(pillow(data), slide.read_region(place, stored, (256, 256)))
                    passed += 1
        assert passed == 5 * 5 + 1
    finally:
        slide.close()


def test_a_level_that_the_file_lacks_is_not_passed(small_svs: Path) -> None:
    slide = open_slide(small_svs)
    try:
        pyramid = pyramid_of(slide)
        assert stored_jpeg(slide, pyramid, PyramidTile(pyramid.levels - 2, 0, 0)) is None
    finally:
        slide.close()


@pytest.mark.parametrize("part", ["head", "middle", "end"])
def test_a_damaged_tile_is_not_passed(tmp_path: Path, part: str) -> None:
    path = write_svs(tmp_path / "slide.svs", tissue_pixels(1500, 1400))
    offset, length = stored_tile(path, 0, 2, 2)
    if part == "head":
        damage_tile(path, 0, 2, 2)
    else:
        overwrite(path, offset + (length // 2 if part == "middle" else length - 40), b"\0" * 40)
    slide = open_slide(path)
    try:
        pyramid = pyramid_of(slide)
        assert stored_jpeg(slide, pyramid, PyramidTile(pyramid.levels - 1, 2, 2)) is None
        assert stored_jpeg(slide, pyramid, PyramidTile(pyramid.levels - 1, 1, 2)) is not None
    finally:
        slide.close()


def stream(colours: str = "YCbCr", side: int = 64) -> bytes:
    pixels = tissue_pixels(side, side)
    buffer = io.BytesIO()
    if colours == "RGB":
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90, keep_rgb=True)
    else:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def without_jfif(data: bytes) -> bytes:
    assert data[2:4] == b"\xff\xe0"
    return data[:2] + data[4 + int.from_bytes(data[4:6]) :]


def test_a_stream_that_does_not_say_its_colours_is_made_to() -> None:
    whole = stream()
    shown = _presentable(np.frombuffer(without_jfif(whole), np.uint8), 64)
    assert shown is not None
    assert shown.startswith(b"\xff\xd8" + JFIF)
    np.testing.assert_array_equal(pillow(shown), pillow(whole))


def test_a_stream_that_says_its_colours_is_left_alone() -> None:
    for colours in ("YCbCr", "RGB"):
        data = stream(colours)
        assert b"JFIF" in data or b"Adobe" in data
        assert _presentable(np.frombuffer(data, np.uint8), 64) == data


def test_streams_of_other_sizes_or_kinds_are_not_passed() -> None:
    buffer = io.BytesIO()
    Image.fromarray(tissue_pixels(64, 64)).save(buffer, "JPEG", progressive=True)
    grey = bytes(simplejpeg.encode_jpeg(tissue_pixels(64, 64)[..., :1].copy(), colorspace="GRAY"))
    for data, side in ((stream(), 128), (buffer.getvalue(), 64), (grey, 64), (b"", 64), (stream()[:-300], 64)):
        assert _presentable(np.frombuffer(data, np.uint8), side) is None


def test_a_real_slide_of_abbreviated_rgb_streams(shared_data: Path) -> None:
    import openslide

    path = shared_data / "slides" / "CMU-1-Small-Region.svs"
    slide = open_slide(path)
    try:
        pyramid = pyramid_of(slide)
        assert pyramid.tile_px == 240
        data = stored_jpeg(slide, pyramid, PyramidTile(pyramid.levels - 1, 4, 5))
        assert data is not None
        with openslide.OpenSlide(str(path)) as other:
            region = np.asarray(other.read_region((960, 1200), 0, (240, 240)).convert("RGB"))
        np.testing.assert_array_equal(pillow(data), region)
    finally:
        slide.close()


def test_jpeg_2000_is_not_passed(shared_data: Path) -> None:
    slide = open_slide(shared_data / "slides" / "TCGA-DU-6399-01A-01-TS1.svs")
    try:
        pyramid = pyramid_of(slide)
        assert pyramid.tile_px == 240
        assert stored_jpeg(slide, pyramid, PyramidTile(pyramid.levels - 1, 60, 30)) is None
    finally:
        slide.close()
