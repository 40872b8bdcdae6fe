"""The file is read back with tifffile; places are computed from the pixel size in its OME-XML alone."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from wsi.exports.ome_tiff import write_ome_tiff
from wsi.heatmap import SlideMaps
from wsi.testing import example_maps
from wsi.tiles import TileSpec


def written(folder: Path, maps: SlideMaps) -> Path:
    write_ome_tiff(folder, maps)
    return folder / "heatmap.ome.tif"


def pixels_element(path: Path) -> ElementTree.Element:
    with tifffile.TiffFile(path) as tiff:
        assert tiff.ome_metadata is not None
        root = ElementTree.fromstring(tiff.ome_metadata)
    found = root.find(".//{*}Pixels")
    assert found is not None
    return found


def test_axes_channels_and_pixel_size(tmp_path: Path) -> None:
    maps = example_maps()
    path = written(tmp_path, maps)
    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        assert tiff.is_ome
        assert (series.axes, series.dtype) == ("CYX", np.float32)
        page = series.pages[0]
        assert page.tile == (256, 256)
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert page.software == "histograde"
        assert page.datetime is None
    element = pixels_element(path)
    assert float(element.attrib["PhysicalSizeX"]) == 64 * 0.5 / 8
    assert float(element.attrib["PhysicalSizeY"]) == 64 * 0.5 / 8
    assert element.attrib["PhysicalSizeXUnit"] == "\u00b5m"
    names = [channel.attrib["Name"] for channel in element.findall("{*}Channel")]
    assert names == [
        "Attention (times the mean tile)",
        "Evidence for benign (probability of the tile alone)",
        "Evidence for tumour (probability of the tile alone)",
    ]


def test_it_covers_all_of_level_0_and_halves_exactly(tmp_path: Path) -> None:
    maps = example_maps(size_px0=(6001, 4003))
    with tifffile.TiffFile(written(tmp_path, maps)) as tiff:
        shapes = [level.shape for level in tiff.series[0].levels]
    width, height = 6001 * 0.2457 / 4, 4003 * 0.2457 / 4
    assert len(shapes) == 4
    assert width <= shapes[0][2] < width + 8
    assert height <= shapes[0][1] < height + 8
    assert shapes == [(3, shapes[0][1] >> level, shapes[0][2] >> level) for level in range(4)]
    assert all(side % 8 == 0 for side in shapes[0][1:])


def test_every_level_is_the_raster_of_the_scores(tmp_path: Path) -> None:
    maps = example_maps()
    with tifffile.TiffFile(written(tmp_path, maps)) as tiff:
        for number, level in enumerate(tiff.series[0].levels):
            for channel, pixels in zip(maps.channels, level.asarray(), strict=True):
                np.testing.assert_array_equal(pixels, maps.heatmap(channel).raster(number))


@pytest.mark.parametrize("mpp", [(0.2457, 0.2457), (0.5, 0.505)])
@pytest.mark.parametrize("bounds", [(0, 0, 6000, 4000), (713, 291, 4501, 3203)])
@pytest.mark.parametrize("stride", [64, 40])
def test_the_marked_place_is_under_its_pixel_at_every_level(tmp_path: Path, mpp: Any, bounds: Any, stride: int) -> None:
    point = (2345, 1234)
    path = written(tmp_path, example_maps(mpp=mpp, bounds_px0=bounds, marked_px0=point, spec=TileSpec(64, 0.5, stride)))
    size_um = float(pixels_element(path).attrib["PhysicalSizeX"])
    with tifffile.TiffFile(path) as tiff:
        for number, level in enumerate(tiff.series[0].levels[:3]):
            tumour = level.asarray()[2]
            here_um = [at * one for at, one in zip(point, mpp, strict=True)]
            x, y = (int(at / (size_um * 2**number)) for at in here_um)
            assert tumour[y, x] > 0
            rows, cols = np.nonzero(np.nan_to_num(tumour) > 0)
            for at, axis in ((cols, 0), (rows, 1)):
                places_um = (at + 0.5) * size_um * 2**number
                assert np.abs(places_um - here_um[axis]).max() <= 64 * 0.5 + size_um * 2**number


def test_off_tissue_is_nan(tmp_path: Path) -> None:
    with tifffile.TiffFile(written(tmp_path, example_maps())) as tiff:
        pixels = tiff.asarray()
    assert np.isnan(pixels[:, :10]).all()  # bounds begin at y = 300 px0 = 73.7 um = 18 pixels of 4 um
    assert np.isfinite(pixels[:, 100, 200]).all()
