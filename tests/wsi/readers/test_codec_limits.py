"""Compressed tiles that cost a decoder more than their picture are refused; those of encoders pass."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from tests.hostile.makers import tissue_pixels
from wsi.readers.codec_limits import check_codestream, check_scans, plain_size

PIXELS = tissue_pixels(64, 64)
STREAM = bytes(imagecodecs.jpeg2k_encode(PIXELS, codecformat="J2K", level=40))
COD_AT = STREAM.find(b"\xff\x52")


def progressive(repeats: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * repeats + b"\xff\xd9"


def test_a_progressive_jpeg_may_have_its_scans_and_not_thousands() -> None:
    check_scans(progressive(1))
    with pytest.raises(ValueError, match=r"20\d\d scans"):
        check_scans(progressive(2000))


def test_the_size_of_a_plain_jpeg_is_read_from_its_head() -> None:
    data = bytes(imagecodecs.jpeg8_encode(tissue_pixels(48, 64)[:, :48], level=80))
    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    assert plain_size(data) == (width, height)
    assert plain_size(data[: data.find(b"\xff\xda") + 4]) is None, "cut off within its head"
    assert plain_size(b"\xff\xd8\xff\xd9") is None


def test_what_may_cost_more_than_its_picture_is_not_plain() -> None:
    data = progressive(1)
    assert plain_size(data) is None
    hidden = b"\xff\xfe\x00\x0e\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00"  # a comment that looks like a scan
    assert plain_size(data[:2] + hidden + data[2:]) is None
    plain = bytes(imagecodecs.jpeg8_encode(PIXELS, level=80))
    assert plain_size(plain[:2] + hidden + plain[2:]) is None, "in doubt it is not"
    frame = plain.find(b"\xff\xc0")
    later = plain[:frame] + plain[frame + 19 :]  # the frame only after what looks like the scan
    assert plain_size(later) is None


def put(at: int, data: bytes) -> bytes:
    return STREAM[:at] + data + STREAM[at + len(data) :]


def with_precincts(exponents: int) -> bytes:
    """The same with a precinct size for each resolution, as an encoder may write it."""
    length, levels = struct.unpack(">H", STREAM[COD_AT + 2 : COD_AT + 4])[0], STREAM[COD_AT + 9]
    added = bytes([exponents]) * (levels + 1)
    segment = struct.pack(">HB", length + len(added), STREAM[COD_AT + 4] | 1) + STREAM[COD_AT + 5 : COD_AT + 2 + length]
    return STREAM[: COD_AT + 2] + segment + added + STREAM[COD_AT + 2 + length :]


def test_codestreams_of_encoders_pass() -> None:
    for data in (STREAM, with_precincts(0xFF), with_precincts(0x77), STREAM[:-2]):
        check_codestream(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (put(24, struct.pack(">II", 1, 1)), "tiles of 1 x 1 px"),
        (put(24, struct.pack(">II", 0, 64)), "tiles of 0 x 64 px"),
        (put(42, b"\x0b"), "other than 8 bits"),
        (put(43, b"\x02\x02"), "subsampled by"),
        (put(46, b"\x02\x02\x07\x02\x01"), "subsampled by"),
        (put(COD_AT + 6, b"\xff\xff"), "65535 layers"),
        (put(COD_AT + 10, b"\x00\x00"), "code blocks"),
        (put(COD_AT + 12, b"\x40"), "code blocks"),
        (with_precincts(0x00), "precincts"),
        (put(COD_AT + 2, b"\x00\x00"), "a segment of 0 bytes"),
    ],
)
def test_codestreams_made_to_cost_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_codestream(data)


def test_headers_of_the_parts_are_looked_at() -> None:
    at = STREAM.find(b"\xff\x90")
    length = struct.unpack(">I", STREAM[at + 6 : at + 10])[0]
    style = STREAM[COD_AT : COD_AT + 6] + b"\x01\x00" + STREAM[COD_AT + 8 : COD_AT + 14]
    head = STREAM[: at + 6] + struct.pack(">I", length + len(style)) + STREAM[at + 10 : at + 12]
    with pytest.raises(ValueError, match="256 layers"):
        check_codestream(head + style + STREAM[at + 12 :])
    empty = STREAM[at : at + 6] + struct.pack(">I", 14) + STREAM[at + 10 : at + 12] + b"\xff\x93"
    with pytest.raises(ValueError, match="more than 256 parts"):
        check_codestream(STREAM[:at] + empty * 300)


def test_the_decoder_still_takes_what_passes() -> None:
    assert np.asarray(imagecodecs.jpeg2k_decode(STREAM)).shape == (64, 64, 3)
