"""Strips and tiles that tifffile decodes for us: their own headers say how much memory a codec takes.

The fast reader compares each tile with its slide by itself. This is for what goes through tifffile: pictures beside
the pyramid, and all of tiffslide.
"""

import functools
from typing import Any

import simplejpeg

from wsi.readers.codec_limits import check_codestream, check_scans
from wsi.readers.tiff_limits import MAX_TILE_BYTES
from wsi.readers.tile_codecs import CodecError, jp2k_header, jpeg_prefix

PLAIN = (1, 5, 8, 32773, 32946, 34925, 50000)
"""Decoded to the size of the page, whatever they hold: none, LZW, deflate, PackBits, LZMA, Zstandard."""

JPEG, JPEG_2000, WEBP = (7,), (33003, 33004, 33005, 34712), (34927, 50001)


def guard_decoding(page: Any) -> None:
    """Let every decoding of a page of tifffile go through `check_segment`."""
    decode = page.decode

    @functools.wraps(decode)
    def checked(data: Any, *arguments: Any, **options: Any) -> Any:
        if data and not options.get("jpegheader"):  # of NDPI, where tifffile writes the header itself
            check_segment(page, bytes(data))
        return decode(data, *arguments, **options)

    page.decode = checked


def check_segments(page: Any) -> None:
    """`check_segment` for all of a page; raises `CodecError` too if they claim more bytes than the file has."""
    if sum(page.databytecounts) > page.parent.filehandle.size:
        raise CodecError("its strips are larger than the file")
    for data, _ in page.parent.filehandle.read_segments(page.dataoffsets, page.databytecounts):
        if data:
            check_segment(page, data)


def check_segment(page: Any, data: bytes) -> None:
    """Refuse a strip or tile that claims to be larger than its page says, or costs more than its pixels.

    Raises
    ------
    CodecError
        Also for compressions whose claims are not known here.
    ValueError, struct.error
        From the headers.
    """
    if page.compression in PLAIN:
        return
    if page.compression in JPEG:
        prefix = jpeg_prefix(page.jpegtables, False)
        height, width, _, _ = simplejpeg.decode_jpeg_header(prefix + data[2:] if prefix else data)
        check_scans(data)
    elif page.compression in JPEG_2000:
        data = data[max(0, data.find(b"\xff\x4f\xff\x51")) :]  # within its boxes, if it has any
        head = jp2k_header(data)
        check_codestream(data)
        width, height = head.width, head.height
    elif page.compression in WEBP:
        width, height = webp_size(data)
    else:
        raise CodecError(f"compression {page.compression} is not read: nothing is known of what it may claim")
    most_w, most_h = max(page.tilewidth, page.imagewidth), max(page.tilelength, page.imagelength)
    if width > most_w or height > most_h or 4 * width * height > MAX_TILE_BYTES:
        raise CodecError(f"it claims {width} x {height} px")


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP picture (RFC 9649, sections 2.5 to 2.7)."""
    kind = data[12:16]
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        raise CodecError("it is no WebP")
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = int.from_bytes(data[26:28], "little"), int.from_bytes(data[28:30], "little")
    return width & 0x3FFF, height & 0x3FFF
