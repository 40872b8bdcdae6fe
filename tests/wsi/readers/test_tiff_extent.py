"""TIFFs that end before what they promise."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.hostile.makers import tissue_pixels, write_svs, write_tiff
from wsi.errors import WsiError
from wsi.readers.tiff_extent import missing_bytes


def write_with_levels_below(path: Path, pixels: np.ndarray) -> Path:
    """An OME-TIFF whose second level hangs below the first page."""
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(pixels, tile=(128, 128), subifds=1, photometric="rgb")
        tiff.write(pixels[::2, ::2], tile=(128, 128), subfiletype=1, photometric="rgb")
    return path


def write_big(path: Path, pixels: np.ndarray) -> Path:
    tifffile.imwrite(path, pixels, bigtiff=True, tile=(128, 128), photometric="rgb")
    return path


MAKERS = {
    "svs.svs": write_svs,
    "levels.ome.tif": write_with_levels_below,
    "big.tif": write_big,
    "generic.tif": lambda path, pixels: write_tiff(path, pixels, (0.5, 0.5)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_cut_is_noticed(tmp_path: Path, name: str) -> None:
    path = MAKERS[name](tmp_path / name, tissue_pixels(500, 400))
    assert missing_bytes(path) == 0
    data = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        seams = [page.offset for page in tiff.pages] + [min(page.dataoffsets) for page in tiff.pages]
    cuts = sorted({*range(16, len(data), len(data) // 50), *seams, *(seam + 1 for seam in seams)} - {0})
    part = tmp_path / f"part-{name}"
    for length in (cut for cut in cuts if cut >= 16):
        part.write_bytes(data[:length])
        try:
            missing = missing_bytes(part)
        except (WsiError, tifffile.TiffFileError):
            continue
        assert 0 < missing <= len(data) - length, f"cut after {length} of {len(data)} bytes"


def test_a_byte_too_few(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", tissue_pixels(500, 400), (0.5, 0.5))
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        end = max(offset + length for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True))
    path.write_bytes(path.read_bytes()[: end - 1])
    assert missing_bytes(path) == 1


def test_tiles_that_were_never_written_are_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    tiles = iter([b"a tile", b""])
    tifffile.imwrite(path, tiles, shape=(128, 256), dtype=np.uint8, tile=(128, 128), compression="deflate")
    assert missing_bytes(path) == 0


def test_what_is_no_tiff_has_nothing_to_miss(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    assert missing_bytes(tmp_path / "a.png") == 0


def test_real_slides_are_whole(shared_data: Path) -> None:
    suffixes = (".svs", ".tif", ".tiff", ".ndpi")
    found = [path for path in sorted((shared_data / "slides").rglob("*")) if path.suffix in suffixes]
    assert found
    for path in found:
        assert missing_bytes(path) == 0, path.name
