"""tiffslide behind the protocol: the same pixels as OpenSlide, and the files that OpenSlide declines."""

import numpy as np
import pytest
import tifffile

from tests.hostile.makers import tissue_pixels
from wsi.errors import UnreadableSlideError
from wsi.readers.tiffslide import TiffSlideReader
from wsi.slide import open_slide


def test_pixels_are_those_of_openslide(small_svs):
    one, other = (open_slide(small_svs, reader=reader) for reader in ("tiffslide", "openslide"))
    for place, level, size in [((300, 200), 0, (400, 300)), ((1400, 1300), 0, (200, 200)), ((-20, -30), 0, (90, 80))]:
        difference = one.read_region(place, level, size).astype(int) - other.read_region(place, level, size)
        assert np.abs(difference).max() <= 2
    assert one.info.mpp == other.info.mpp
    assert one.info.level_sizes_px == other.info.level_sizes_px
    one.close()
    other.close()


@pytest.mark.parametrize("array", [np.zeros((300, 300), np.uint8), np.zeros((300, 300, 3), np.uint16)])
def test_other_pixels_than_8_bit_rgb_are_declined(tmp_path, array):
    tifffile.imwrite(tmp_path / "a.tif", array, tile=(128, 128), photometric="rgb" if array.ndim == 3 else "minisblack")
    with pytest.raises(UnreadableSlideError, match="3 x uint8"):
        TiffSlideReader(tmp_path / "a.tif")


def test_an_ome_tiff_is_read(tmp_path):
    pixels = tissue_pixels(600, 500)
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, tile=(256, 256), photometric="rgb", compression="deflate")
    slide = open_slide(tmp_path / "a.ome.tif", reader="tiffslide")
    assert slide.info.slide_id == "a"
    np.testing.assert_array_equal(slide.read_region((0, 0), 0, (600, 500)), pixels)
    slide.close()


def test_the_shared_ome_tiff_is_read(shared_data):
    slide = open_slide(shared_data / "slides" / "OS-2-ndpi.ome.tif", reader="tiffslide", content_hash="0")
    assert slide.info.size_px0 == (2202, 2202)
    assert slide.info.require_mpp() == pytest.approx((0.2271, 0.2271), abs=1e-4)
    slide.close()
