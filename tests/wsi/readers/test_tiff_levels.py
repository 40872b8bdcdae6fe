"""The structure of tiled TIFFs."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.hostile.mutate import DESCRIPTION, LENGTH, TILE_LENGTH, WIDTH, Entry, Tiff, sound_slides
from wsi.errors import UnreadableSlideError
from wsi.readers.tiff_levels import StoredLevel, describe, read_layout, stored_levels

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


def levels_of(tiff: Tiff) -> tuple[StoredLevel, ...]:
    with tifffile.TiffFile(io.BytesIO(bytes(tiff.data))) as file:
        return stored_levels(read_layout(file), file.filehandle.size)


def entries(tiff: Tiff, tag: int) -> list[Entry]:
    return [one for one in tiff.entries if one.tag == tag]


@pytest.mark.parametrize(("offset", "count"), [((1 << 63) - 1, 100), ((1 << 63) - 50, 100), (100, 1 << 62), (0, 100)])
def test_tiles_beyond_the_file_are_missing(offset: int, count: int) -> None:
    tiff = Tiff(sound_slides()["tiff-big-motorola"][0])
    (_, at, size), (_, count_at, count_size) = tiff.tile_fields(tiff.tiles()[2])
    tiff.put(at, size, offset)
    tiff.put(count_at, count_size, count)
    if count < 1 << 8 * count_size:
        level = levels_of(tiff)[0]
        assert (level.offsets[2], level.counts[2]) == (0, 0)
        assert (level.counts[:2] > 0).all()


def test_sides_below_zero_are_declined() -> None:
    """-128 x -96 px are as many tiles as 128 x 96 px."""
    tiff = Tiff(sound_slides()["tiff"][0])
    for tag, side in ((WIDTH, -128), (LENGTH, -96)):
        one = entries(tiff, tag)[0]
        tiff.put(one.at + 2, 2, 9)
        tiff.put(one.value_at, 4, side)
    with pytest.raises(UnreadableSlideError, match="a level of -128 x -96 px"):
        levels_of(tiff)


def test_levels_that_grow_in_height_are_declined() -> None:
    tiff = Tiff(sound_slides()["svs-420"][0])
    tiff.put(entries(tiff, LENGTH)[-1].value_at, 2, 100)
    tiff.put(entries(tiff, TILE_LENGTH)[-1].value_at, 2, 128)
    with pytest.raises(UnreadableSlideError, match=r"levels of \[128, 64\] x \[96, 100\] px are no pyramid"):
        levels_of(tiff)


def test_long_jpeg_tables_are_declined() -> None:
    tiff = Tiff(sound_slides()["tiff"][0])
    data = io.BytesIO(bytes(tiff.data))
    with tifffile.TiffFile(data) as file:
        file.pages[0].jpegtables = bytes(70_000)
        with pytest.raises(UnreadableSlideError, match="JPEG tables of 70,000 bytes"):
            stored_levels(read_layout(file), file.filehandle.size)


@pytest.mark.parametrize("power", ["nan", "inf", "-inf", "1e400", "x"])
def test_a_power_that_is_no_number_is_none(power: str) -> None:
    tiff = Tiff(sound_slides()["svs-420"][0])
    tiff.set_bytes(entries(tiff, DESCRIPTION)[0], f"Aperio Image Library|AppMag = {power}|MPP = 0.5".encode(), 2)
    with tifffile.TiffFile(io.BytesIO(bytes(tiff.data))) as file:
        assert describe(read_layout(file)).objective_power is None
