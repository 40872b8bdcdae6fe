"""What is read of a JPEG's markers, against the encoder's settings and libjpeg's own reading of them."""

import cv2
import imagecodecs
import numpy as np
import pytest
import simplejpeg

from wsi.jpeg_stream import StreamDoubt, check_scan, read_head
from wsi.readers.tile_codecs import ADOBE_RGB

PICTURE = np.random.default_rng(2).integers(0, 256, (48, 80, 3), dtype=np.uint8)


def encoded(stored: str = "YCBCR", subsampling: str = "444") -> bytes:
    return imagecodecs.jpeg8_encode(PICTURE, level=80, colorspace="RGB", outcolorspace=stored, subsampling=subsampling)


def by_opencv(picture: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".jpg", picture, options)[1].tobytes()


def array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_size_and_colour_of_a_sound_stream(subsampling: str) -> None:
    data = encoded(subsampling=subsampling)
    head = read_head(array(data))
    height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
    assert (head.width_px, head.height_px, head.colour) == (width, height, "ycbcr") == (80, 48, colour.lower())
    assert data[head.length - 14 : head.length - 12] == b"\xff\xda"  # a scan header of three components is 14 bytes
    check_scan(array(data), head.length)
    check_scan(array(data + b"\0"), head.length)


def test_components_that_are_rgb_are_told_by_the_marker() -> None:
    data = encoded("RGB")
    assert b"Adobe" in data
    assert read_head(array(data)).colour == "rgb"
    plain = encoded()
    app0 = plain[2 : 4 + int.from_bytes(plain[4:6])]
    assert app0[4:8] == b"JFIF"
    bare = plain[:2] + plain[2 + len(app0) :]
    assert read_head(array(bare)).colour == "ycbcr"
    marked = bare[:2] + ADOBE_RGB[:] + bare[2:]
    assert read_head(array(marked)).colour == "rgb"
    with pytest.raises(StreamDoubt, match="two ways"):
        read_head(array(plain[:2] + ADOBE_RGB + plain[2:]))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no start marker"),
        (b"\0" * 300, "no start marker"),
        (b"\xff\xd8", "no readable header"),
        (b"\xff\xd8\xff\xd9\0\0", "no readable header"),
        (encoded()[:100], "no readable header"),
        (by_opencv(PICTURE[..., 0]), "three 8-bit components"),
        (by_opencv(PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), "c2"),
        (by_opencv(PICTURE, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411), "subsampling"),
    ],
)
def test_what_is_not_plain_is_doubted(data: bytes, said: str) -> None:
    with pytest.raises(StreamDoubt, match=said):
        read_head(array(data))


def test_a_stream_without_its_tables_is_doubted() -> None:
    data = encoded()
    at = data.index(b"\xff\xdb")
    with pytest.raises(StreamDoubt, match="tables"):
        read_head(array(data[:at] + b"".join(_segments_but(data, at, 0xDB))))


def _segments_but(data: bytes, at: int, kind: int) -> list[bytes]:
    parts = []
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        parts += [data[at:end]] if data[at + 1] != kind else []
        at = end
    return [*parts, data[at:]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda scan: scan[:-2], "no end marker"),
        (lambda scan: scan[: len(scan) // 2], "no end marker"),
        (lambda scan: scan[:200] + b"\xff\xd9" + scan[202:], "bytes early"),
        (lambda scan: scan[:200] + b"\xff\xd8" + scan[202:], "marker within"),
        (lambda scan: scan + b"\0\0", "2 bytes early"),
    ],
)
def test_coded_data_that_do_not_run_to_the_end(change, said: str) -> None:
    data = encoded()
    start = read_head(array(data)).length
    with pytest.raises(StreamDoubt, match=said):
        check_scan(array(data[:start] + change(data[start:])), start)


def test_restart_markers_are_no_oddity() -> None:
    data = by_opencv(PICTURE, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
    assert b"\xff\xd1" in data
    head = read_head(array(data))
    assert head.length > 20
    check_scan(array(data), head.length)
