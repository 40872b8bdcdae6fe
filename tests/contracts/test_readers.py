"""Every reader of the registry keeps the contract."""

import numpy as np
import pytest
from PIL import Image

from tests.hostile.makers import tissue_pixels, write_svs
from wsi.slide import READERS
from wsi.testing import check_reader

PIXELS = tissue_pixels(1030, 779)


def sound_slide(folder, reader):
    if reader == "array":
        Image.fromarray(PIXELS).save(folder / "a.png")
        return folder / "a.png"
    if reader in ("openslide", "tiffslide"):
        return write_svs(folder / "a.svs", PIXELS, factors=(2, 4), compression="deflate")
    return write_svs(folder / "a.svs", PIXELS, factors=(2, 4))


@pytest.mark.parametrize("name", list(READERS))
def test_reader(name, tmp_path):
    exact = name in ("array", "openslide", "tiffslide")
    check_reader(READERS[name], sound_slide(tmp_path, name), PIXELS if exact else None)


def test_the_contract_fails_a_reader_that_breaks_it(tmp_path):
    """Black outside, or another size: both have happened."""
    np.save(tmp_path / "a.npy", PIXELS)

    class Black(READERS["array"]):
        def read_region(self, location_px0, level, size_px):
            region = super().read_region(location_px0, level, size_px)
            region[max(0, 779 - location_px0[1]) :] = 0
            return region

    class Short(READERS["array"]):
        def read_region(self, location_px0, level, size_px):
            return super().read_region(location_px0, level, size_px)[1:]

    for broken, reason in ((Black, "not white"), (Short, "asked for")):
        with pytest.raises(AssertionError, match=reason):
            check_reader(broken, tmp_path / "a.npy")
