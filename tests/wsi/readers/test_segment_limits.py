"""What a strip or tile claims is held against its page before a codec of tifffile allocates by it."""

import struct
from contextlib import closing
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from tests.hostile.makers import tissue_pixels
from wsi.errors import TileReadError, UnreadableSlideError
from wsi.readers.jpeg_tiff import JpegTiffReader
from wsi.readers.openslide import OpenSlideReader
from wsi.readers.segment_limits import webp_size
from wsi.readers.tiffslide import TiffSlideReader

PIXELS = tissue_pixels(128, 96)


def claim(path: Path, width: int, height: int) -> None:
    """Let every JPEG frame in a file claim another size."""
    data = bytearray(path.read_bytes())
    at = -1
    while (at := data.find(b"\xff\xc0\x00\x11", at + 1)) > 0:
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    path.write_bytes(bytes(data))


def write_strips(path: Path, **options: object) -> Path:
    settings = {"photometric": "rgb", "compression": "jpeg", "rowsperstrip": 32, "metadata": None} | options
    tifffile.imwrite(path, PIXELS, resolution=(20_000, 20_000), resolutionunit="CENTIMETER", **settings)
    return path


def test_strips_that_claim_a_gigapixel_are_refused(tmp_path: Path) -> None:
    path = write_strips(tmp_path / "slide.tif")
    TiffSlideReader(path).close()
    claim(path, 65_500, 65_500)
    with pytest.raises(UnreadableSlideError, match="claims 65500 x 65500 px"):
        TiffSlideReader(path)


@pytest.mark.parametrize("compression", ["jpeg2000", "webp", "zstd", "deflate", "lzw", "packbits", "none"])
def test_other_compressions_are_still_read(tmp_path: Path, compression: str) -> None:
    options = {"level": 100} if compression == "webp" else None
    tile = {"tile": (64, 64), "rowsperstrip": None, "compressionargs": options}
    slide = TiffSlideReader(write_strips(tmp_path / "slide.tif", compression=compression, **tile))
    found = slide.read_region((0, 0), 0, (128, 96)).astype(int)
    slide.close()
    assert np.abs(found - PIXELS).mean() < (4 if compression in ("jpeg2000", "webp") else 0.01)


def test_a_codec_whose_claims_are_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSlideError, match="nothing is known of what it may claim"):
        TiffSlideReader(write_strips(tmp_path / "slide.tif", compression="png"))


@pytest.mark.parametrize("options", [{}, {"lossless": True}])
def test_size_of_a_webp(options: dict[str, bool]) -> None:
    for pixels in (PIXELS, np.dstack([PIXELS, PIXELS[..., 0]])):
        assert webp_size(imagecodecs.webp_encode(pixels, level=80, **options)) == (128, 96)


def thumbnail_svs(path: Path) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            PIXELS,
            tile=(32, 32),
            description="Aperio Image Library|MPP = 0.5",
            photometric="rgb",
            compression="jpeg",
            metadata=None,
        )
        tiff.write(PIXELS[:64, :64], photometric="rgb", compression="jpeg", rowsperstrip=64, metadata=None)
    return path


def test_a_thumbnail_with_a_huge_strip_is_an_error_of_its_own(tmp_path: Path) -> None:
    path = thumbnail_svs(tmp_path / "slide.svs")
    slide = JpegTiffReader(path)
    assert slide.associated_images["thumbnail"].shape == (64, 64, 3)
    slide.close()
    data = path.read_bytes()
    at = data.find(struct.pack(">HH", 64, 64), data.find(b"\xff\xc0\x00\x11"))
    path.write_bytes(data[:at] + struct.pack(">HH", 65_000, 65_000) + data[at + 4 :])
    slide = JpegTiffReader(path)
    with pytest.raises(TileReadError, match="thumbnail.*claims 65000 x 65000 px"):
        slide.associated_images["thumbnail"]
    assert slide.read_region((0, 0), 0, (128, 96)).shape == (96, 128, 3)
    slide.close()


@pytest.mark.parametrize("reader", [JpegTiffReader, OpenSlideReader, TiffSlideReader])
def test_a_page_with_huge_sides_is_not_allocated(tmp_path: Path, reader: type) -> None:
    path = thumbnail_svs(tmp_path / "slide.svs")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[1].tags["ImageWidth"].overwrite(60_000)
        tiff.pages[1].tags["ImageLength"].overwrite(60_000)
        tiff.pages[1].tags["RowsPerStrip"].overwrite(16)
    with closing(reader(path)) as slide, pytest.raises(TileReadError, match="thumbnail.*claims"):
        slide.associated_images["thumbnail"]
