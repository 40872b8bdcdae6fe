"""Structures that no slide has are refused by every reader of TIFFs before a parser follows them."""

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.mutate import DESCRIPTION, LENGTH, TILE_LENGTH, TILE_WIDTH, WIDTH, XMP, Tiff, sound_slides
from wsi.errors import UnreadableSlideError
from wsi.readers.tiff_limits import MAX_PAGES, check_tiff
from wsi.slide import READERS


def sound(name: str = "tiff") -> Tiff:
    return Tiff(sound_slides()[name][0])


def entry(tiff: Tiff, tag: int):
    return next(one for one in tiff.entries if one.tag == tag)


def page(tiff: Tiff, entries: list[bytes], following: int) -> bytes:
    return struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", following)


def chain(pages: int, back_to: int | None) -> bytes:
    """Pages of one entry; the last leads back, or nowhere."""
    tiff = sound()
    start, length = len(tiff.data) + len(tiff.data) % 2, 18
    width = struct.pack("<HHII", WIDTH, 4, 1, 64)
    for number in range(pages):
        last = 0 if back_to is None else start + back_to * length
        tiff.append(page(tiff, [width], start + (number + 1) * length if number + 1 < pages else last))
    tiff.put(tiff.links[-1], 4, start)
    return bytes(tiff.data)


def circle() -> bytes:
    """A circle that begins behind the 100 pages over which tifffile looks for one."""
    return chain(150, 140)


def many_pages() -> bytes:
    return chain(MAX_PAGES, None)


def shared_value() -> bytes:
    """4,000 descriptions of 100 kB, each of the same bytes: 400 MB once they are read."""
    tiff = sound()
    place = tiff.append(b"A" * 100_000)
    shared = struct.pack("<HHII", DESCRIPTION, 2, 100_000, place)
    tiff.put(tiff.links[-1], 4, tiff.append(page(tiff, [shared] * 4000, 0)))
    return bytes(tiff.data)


def huge_tile() -> bytes:
    tiff = sound()
    for tag in (WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH):
        one = entry(tiff, tag)
        tiff.put(one.at + 2, 2, 4)
        tiff.put(one.value_at, 4, 1 << 20)
    return bytes(tiff.data)


def short_table() -> bytes:
    """OpenSlide 4.0.1 ends the process when it opens it."""
    tiff = sound("svs-jp2k-rgb")
    for tag, sides in ((WIDTH, (2048, 64, 1024)), (LENGTH, (768, 48, 384))):
        for one, side in zip((one for one in tiff.entries if one.tag == tag), sides, strict=True):
            tiff.put(one.at + 2, 2, 4)
            tiff.put(one.value_at, 4, side)
    return bytes(tiff.data)


def entities() -> bytes:
    tiff = sound("svs-420")
    tiff.set_bytes(entry(tiff, DESCRIPTION), b'<!DOCTYPE x [<!ENTITY a "b">]><OME>&a;</OME>', 2)
    return bytes(tiff.data)


REFUSED = {
    circle: "linked twice",
    many_pages: f"more than {MAX_PAGES} pages",
    short_table: "4 stored tiles of 64 x 64 px for 2048 x 768 px",
    shared_value: "claim more than",
    huge_tile: "tiles or strips of 1048576 x 1048576 px",
    entities: "XML entities",
}


@pytest.mark.parametrize("reader", ["jpeg_tiff", "openslide", "tiffslide"])
@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_no_slide_has_is_refused(tmp_path: Path, make: Callable[[], bytes], reader: str) -> None:
    path = tmp_path / "slide.svs"
    path.write_bytes(make())
    with pytest.raises(UnreadableSlideError, match=REFUSED[make]):
        READERS[reader](path)


@pytest.mark.parametrize("name", sound_slides())
def test_sound_structures_pass(tmp_path: Path, name: str) -> None:
    data, suffix = sound_slides()[name]
    path = tmp_path / f"slide{suffix}"
    path.write_bytes(data)
    claims = check_tiff(path)
    assert claims is not None
    expected = {"ome": [(128, 96)], "svs": [(128, 96), (64, 48), (64, 48)]}
    assert list(claims.pages_px) == expected.get(name.partition("-")[0], [(128, 96), (64, 48)])


def test_the_pages_of_an_ndpi_have_offsets_of_64_bits(tmp_path: Path) -> None:
    """As 64-bit numbers they all point behind the end; read as 32-bit ones they would form a circle."""
    width, mark = struct.pack("<HHII", WIDTH, 4, 1, 64), struct.pack("<HHII", 65420, 4, 1, 1)
    one = page(sound(), [width, mark], 16) + struct.pack("<I", 1)
    path = tmp_path / "slide.ndpi"
    path.write_bytes(b"II*\0" + struct.pack("<Q", 16) + bytes(4) + one + bytes(100))
    claims = check_tiff(path)
    assert claims is not None
    assert claims.pages_px == ((64, 0),)


def test_what_is_no_tiff_or_ends_early_is_left_to_the_readers(tmp_path: Path) -> None:
    path = tmp_path / "slide.svs"
    for data in (b"", b"II", b"II*\0" + bytes(20), b"\x89PNG" + bytes(100)):
        path.write_bytes(data)
        claims = check_tiff(path)
        assert claims is None or claims.pages_px == ()
    whole = bytes(sound().data)
    path.write_bytes(whole[:-40])
    assert check_tiff(path) is not None


def test_xmp_is_looked_at_too(tmp_path: Path) -> None:
    tiff = sound("svs-420")
    one = entry(tiff, DESCRIPTION)
    tiff.set_bytes(one, b"<!DOCTYPE x><iScan/>", 1)
    tiff.put(one.at, 2, XMP)
    path = tmp_path / "slide.bif"
    path.write_bytes(bytes(tiff.data))
    with pytest.raises(UnreadableSlideError, match="XML entities"):
        check_tiff(path)


def test_a_value_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    tiff = sound()
    one = entry(tiff, 258)
    tiff.put(one.at + 4, 4, (1 << 32) - 1)
    path = tmp_path / "slide.tif"
    path.write_bytes(bytes(tiff.data))
    tracemalloc.start()
    try:
        check_tiff(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
