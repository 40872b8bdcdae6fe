"""Pictures and arrays as slides."""

import numpy as np
import pytest
from PIL import Image

from tests.hostile.makers import tissue_pixels
from wsi.errors import MissingMppError, UnreadableSlideError
from wsi.slide import open_slide


def test_pixels_are_the_files_and_the_scale_is_the_users(tmp_path):
    pixels = tissue_pixels(60, 40)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", pixels)
    for name in ("a.png", "b.npy"):
        slide = open_slide(tmp_path / name)
        assert slide.info.size_px0 == (60, 40)
        np.testing.assert_array_equal(slide.read_region((10, 5), 0, (7, 9)), pixels[5:14, 10:17])
        with pytest.raises(MissingMppError):
            slide.info.require_mpp()
        assert open_slide(tmp_path / name, fallback_mpp=(0.5, 0.5)).info.require_mpp() == (0.5, 0.5)


def test_what_is_transparent_is_white(tmp_path):
    rgba = np.zeros((20, 20, 4), np.uint8)
    rgba[5:10, 5:10] = (200, 0, 0, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    region = open_slide(tmp_path / "a.png").read_region((0, 0), 0, (20, 20))
    assert (region[0, 0] == 255).all()
    assert region[7, 7].tolist() == [200, 0, 0]


def test_grey_pictures_are_taken_and_16_bit_ones_are_not(tmp_path):
    Image.fromarray(np.full((9, 9), 77, np.uint8)).save(tmp_path / "grey.png")
    assert (open_slide(tmp_path / "grey.png").read_region((0, 0), 0, (9, 9)) == 77).all()
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UnreadableSlideError, match="8 bits"):
        open_slide(tmp_path / "deep.png", reader="array")


@pytest.mark.parametrize(
    "array",
    [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)],
)
def test_arrays_of_another_kind_are_declined_by_what_they_are(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UnreadableSlideError, match=r"\(H, W, 3\) uint8"):
        open_slide(tmp_path / "a.npy", reader="array")


def test_damaged_arrays_are_declined(tmp_path):
    np.save(tmp_path / "a.npy", tissue_pixels(60, 40))
    data = (tmp_path / "a.npy").read_bytes()
    np.savez(tmp_path / "zip.npz", a=np.zeros(3))
    objects = np.empty(1, object)
    np.save(tmp_path / "pickle.npy", objects, allow_pickle=True)
    files = {"short": data[:-100], "head": data[:20], "empty": b"", "zip": (tmp_path / "zip.npz").read_bytes()}
    for name, content in files.items():
        (tmp_path / f"{name}.npy").write_bytes(content)
    for name in (*files, "pickle"):
        with pytest.raises(UnreadableSlideError, match=name):
            open_slide(tmp_path / f"{name}.npy")


def test_a_cut_off_picture_is_declined(tmp_path):
    Image.fromarray(tissue_pixels(200, 200)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:5000])
    with pytest.raises(UnreadableSlideError):
        open_slide(tmp_path / "a.png")
