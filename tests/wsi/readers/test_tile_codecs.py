"""Stored tiles to pixels."""

import base64

import imagecodecs
import numpy as np
import pytest
import simplejpeg

from wsi.readers.tiff_levels import StoredLevel
from wsi.readers.tile_codecs import (
    CodecError,
    decode_base64_jpeg,
    decode_tile,
    jp2k_header,
    jpeg_prefix,
    reductions_of,
    ycbcr_to_rgb,
)

TILE = np.kron(np.random.default_rng(1).integers(40, 220, (8, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))


def level(codec: str, prefix: bytes = b"", tile_px: tuple[int, int] = (64, 64)) -> StoredLevel:
    return StoredLevel(
        (64, 64), tile_px, 1, np.zeros(1, np.int64), np.ones(1, np.int64), codec, prefix, np.zeros(1, bool)
    )  # type: ignore[arg-type]


def test_jpeg_tables_in_a_separate_stream() -> None:
    whole = imagecodecs.jpeg8_encode(TILE, level=90)
    start, tables = 2, b""
    body = b""
    while whole[start : start + 2] != b"\xff\xda":
        length = 2 + int.from_bytes(whole[start + 2 : start + 4], "big")
        segment = whole[start : start + length]
        if segment[1] in (0xDB, 0xC4):
            tables += segment
        else:
            body += segment
        start += length
    abbreviated = b"\xff\xd8" + body + whole[start:]
    stored = level("jpeg", jpeg_prefix(b"\xff\xd8" + tables + b"\xff\xd9", rgb=False))
    assert (decode_tile(stored, abbreviated, 1) == simplejpeg.decode_jpeg(whole)).all()


@pytest.mark.parametrize("cut", [0, 1, 2, 20, 0.5, 0.95])
def test_data_that_end_early_are_no_grey_pixels(cut: float) -> None:
    data = imagecodecs.jpeg8_encode(TILE, level=90)
    end = int(cut * len(data)) if isinstance(cut, float) else cut
    with pytest.raises(CodecError):
        decode_tile(level("jpeg"), data[:end], 1)


def test_jpeg_2000_in_ycbcr_without_subsampling() -> None:
    # full-range BT.601: white is (255, 128, 128), pure red about (76, 85, 255)
    assert ycbcr_to_rgb(np.array([[[255, 128, 128], [76, 85, 255]]], np.uint8)).tolist() == [
        [[255, 255, 255], [254, 0, 0]]
    ]
    encoded = imagecodecs.jpeg2k_encode(TILE, level=0, codecformat="J2K", mct=False)
    assert jp2k_header(encoded).subsampled is False
    assert (decode_tile(level("jp2k-rgb"), encoded, 1) == TILE).all()
    assert (decode_tile(level("jp2k-ycbcr"), encoded, 1) == ycbcr_to_rgb(TILE)).all()


@pytest.mark.parametrize("data", [b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x51" + bytes(60), b"no codestream at all" * 5])
def test_a_damaged_codestream(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode_tile(level("jp2k-rgb"), data, 1)


def test_a_picture_kept_as_text_is_not_decoded_at_any_size() -> None:
    data = imagecodecs.jpeg8_encode(TILE, level=90)
    assert (decode_base64_jpeg(base64.b64encode(data).decode()) == simplejpeg.decode_jpeg(data)).all()
    frame = data.index(b"\xff\xc0")
    huge = data[: frame + 5] + b"\xff\x00\xff\x00" + data[frame + 9 :]
    with pytest.raises(CodecError, match="claims 65280 x 65280 px"):
        decode_base64_jpeg(base64.b64encode(huge).decode())


def test_reductions_need_sides_that_divide() -> None:
    assert reductions_of(level("jpeg", tile_px=(240, 240))) == (1, 2, 4, 8)
    assert reductions_of(level("jpeg", tile_px=(256, 100))) == (1, 2, 4)
    assert reductions_of(level("jp2k-rgb")) == (1,)
