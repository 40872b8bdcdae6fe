"""Pixels must come back: exactly from PNG, nearly from JPEG."""

import io

import numpy as np
from PIL import Image

from wsi.pictures import decode_picture, encode_grey, encode_palette, encode_picture


def test_png_keeps_pixels_and_jpeg_nearly_does() -> None:
    ramp = np.arange(64, dtype=np.uint8)[:, None, None] * np.array([1, 2, 3], np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(ramp, (64, 48, 3)))
    np.testing.assert_array_equal(decode_picture(encode_picture(pixels, "PNG")), pixels)
    assert np.abs(decode_picture(encode_picture(pixels, "JPEG")).astype(int) - pixels).max() < 12


def test_palette_has_colours_and_opacities_of_the_table() -> None:
    table = np.random.default_rng(0).integers(0, 256, (256, 4), dtype=np.uint8)
    index = np.array([[0, 7], [255, 3]], np.uint8)
    shown = np.array([[True, True], [True, False]])
    rgba = np.asarray(Image.open(io.BytesIO(encode_palette(index, table, shown))).convert("RGBA"))
    np.testing.assert_array_equal(rgba[0], table[[0, 7]])
    np.testing.assert_array_equal(rgba[1, 0], table[254])
    assert rgba[1, 1, 3] == 0


def test_a_grey_png_is_read_as_it_was_written() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (3, 5), (200, 256)):
        values = rng.integers(0, 256, (height, width), dtype=np.uint8)
        shown = rng.random((height, width)) < 0.5
        with Image.open(io.BytesIO(encode_grey(values, shown))) as picture:
            picture.load()
            assert (picture.mode, picture.size) == ("LA", (width, height))
            grey, alpha = np.moveaxis(np.asarray(picture), 2, 0)
        np.testing.assert_array_equal(grey, np.where(shown, values, 0))
        np.testing.assert_array_equal(alpha, np.where(shown, 255, 0))
