"""The structure of tiled TIFFs."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from wsi.errors import UnreadableSlideError
from wsi.readers.tiff_levels import describe, read_layout, stored_levels

PIXELS = np.full((300, 520, 3), 200, np.uint8)


def write(path: Path, **options: object) -> Path:
    settings = {"tile": (128, 128), "compression": "jpeg", "photometric": "rgb", "metadata": None} | options
    tifffile.imwrite(path, PIXELS, **settings)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(("unit", "per_unit", "mpp"), [("CENTIMETER", 40_000, 0.25), ("INCH", 50_800, 0.5)])
def test_scale_of_a_generic_tiff(tmp_path: Path, unit: str, per_unit: float, mpp: float) -> None:
    path = write(tmp_path / "slide.tif", resolution=(per_unit, per_unit), resolutionunit=unit)
    with tifffile.TiffFile(path) as tiff:
        info = describe(read_layout(tiff))
    assert info.mpp == pytest.approx((mpp, mpp))
    assert info.vendor == "generic-tiff"


def test_a_resolution_without_a_unit_is_no_scale(tmp_path: Path) -> None:
    path = write(tmp_path / "slide.tif", resolution=(40_000, 40_000), resolutionunit="NONE")
    with tifffile.TiffFile(path) as tiff:
        info = describe(read_layout(tiff))
    assert (info.mpp, info.mpp_source) == (None, "none")


@pytest.mark.parametrize(("size", "unit", "mpp"), [(0.5, "µm", 0.5), (0.00025, "mm", 0.25), (500.0, "nm", 0.5)])
def test_scale_of_an_ome_tiff(tmp_path: Path, size: float, unit: str, mpp: float) -> None:
    metadata = {"axes": "YXS"} | {f"PhysicalSize{axis}": size for axis in "XY"}
    metadata |= {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    path = write(tmp_path / "slide.ome.tif", metadata=metadata, ome=True)
    with tifffile.TiffFile(path) as tiff:
        info = describe(read_layout(tiff))
    assert info.mpp == pytest.approx((mpp, mpp))
    assert info.vendor == "ome-tiff"


def test_tiles_are_counted(tmp_path: Path) -> None:
    with tifffile.TiffFile(write(tmp_path / "slide.tif")) as tiff:
        (level,) = stored_levels(read_layout(tiff), tiff.filehandle.size)
    assert (level.columns, len(level.offsets), level.name(6)) == (5, 15, "stored tile (column 1, row 1)")


def test_too_few_tiles_are_declined(tmp_path: Path) -> None:
    path = write(tmp_path / "slide.tif")
    with tifffile.TiffFile(path) as tiff:
        tiff.pages[0].dataoffsets = tiff.pages[0].dataoffsets[:-1]
        with pytest.raises(UnreadableSlideError, match=r"14 stored tiles, expected 5 x 3"):
            stored_levels(read_layout(tiff), tiff.filehandle.size)
