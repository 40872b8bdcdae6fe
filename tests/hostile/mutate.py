"""Seeded mutants of small slides, one for each pair of a seed and a number.

    mutant(0, 4711).data

is the same bytes on every machine with the same tifffile and imagecodecs. `sound_slides` makes what they are made of;
each entry of `MUTATIONS` damages the structure, the text, the bytes of one tile or the file as a whole.
"""

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import cv2
import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from tests.hostile.makers import reduced, tissue_pixels

TILE_PX = 64
SIZE_PX0 = (128, 96)
APERIO = "Aperio Image Library v12.0.15\r\n128x96 (64x64) JPEG/RGB Q=80|AppMag = 20|MPP = 0.5000"

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 256, 257, 258, 259, 262, 270
SAMPLES, X_RESOLUTION, Y_RESOLUTION, PLANAR, UNIT, SOFTWARE = 277, 282, 283, 284, 296, 305
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS, SUB_IFDS, JPEG_TABLES, XMP = 322, 323, 324, 325, 330, 347, 700
TAGS = (
    254, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, 266, DESCRIPTION, 273, SAMPLES, 278, 279, X_RESOLUTION,
    Y_RESOLUTION, PLANAR, UNIT, SOFTWARE, 317, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS, SUB_IFDS, 338, 339,
    JPEG_TABLES, 512, 513, 514, 530, 531, 532, XMP, 32997, 32998, 33628, 34412, 34675, 50839, 65420, 65421, 65426,
)  # fmt: skip
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
ODD_VALUES = (
    0, 1, 2, 3, 7, 8, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 4095, 4096, 4097, 65_535, 65_536, 100_000, 1 << 22,
    (1 << 22) + 1, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 2, (1 << 32) - 1,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """A damaged slide: the bytes, the suffix to store them under, and what was done, for people."""

    data: bytes
    suffix: str
    story: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an IFD: where it stands, and where its value does."""

    at: int
    tag: int
    kind: int
    count: int
    value_at: int


class Tiff:
    """The bytes of a TIFF, and where its parts lie, so that they can be changed in place."""

    def __init__(self, data: bytes):
        self.data = bytearray(data)
        self.order = "<" if data[:2] == b"II" else ">"
        self.big = self.number(2, 2) == 43
        self.word = 8 if self.big else 4
        self.ifds: list[int] = []
        self.links: list[int] = []
        self.entries: list[Entry] = []
        link = 8 if self.big else 4
        while at := self.number(link, self.word):
            link = self._walk(at, link)
        for one in [one for one in self.entries if one.tag == SUB_IFDS]:
            for number in range(one.count):
                link = one.value_at + number * TYPE_BYTES[one.kind]
                self._walk(self.number(link, TYPE_BYTES[one.kind]), link)

    def _walk(self, at: int, link: int) -> int:
        """Note one IFD and return where the offset of the next one stands."""
        self.ifds.append(at)
        self.links.append(link)
        head, size = (8, 20) if self.big else (2, 12)
        count = self.number(at, head)
        for place in range(at + head, at + head + count * size, size):
            kind, values = self.number(place + 2, 2), self.number(place + 4, self.word)
            field = place + 4 + self.word
            fits = values * TYPE_BYTES[kind] <= self.word
            value_at = field if fits else self.number(field, self.word)
            self.entries.append(Entry(place, self.number(place, 2), kind, values, value_at))
        return at + head + count * size

    def number(self, at: int, size: int) -> int:
        """An unsigned number of the file."""
        return int.from_bytes(self.data[at : at + size], "little" if self.order == "<" else "big")

    def put(self, at: int, size: int, value: int) -> None:
        """Overwrite an unsigned number; what does not fit is cut off."""
        value &= (1 << 8 * size) - 1
        self.data[at : at + size] = value.to_bytes(size, "little" if self.order == "<" else "big")

    def append(self, data: bytes) -> int:
        """Add bytes at the end, at an even place."""
        self.data += b"\0" * (len(self.data) % 2)
        self.data += data
        return len(self.data) - len(data)

    def set_bytes(self, entry: Entry, data: bytes, kind: int = 7) -> None:
        """Give an entry another value of bytes, behind the end of the file."""
        data = data.ljust(self.word + 1, b"\0")
        self.put(entry.at + 2, 2, kind)
        self.put(entry.at + 4, self.word, len(data))
        self.put(entry.at + 4 + self.word, self.word, self.append(data))

    def pick(self, rng: np.random.Generator, *tags: int) -> Entry | None:
        """One entry, of these tags if any are given."""
        found = [one for one in self.entries if not tags or one.tag in tags]
        return found[rng.integers(len(found))] if found else None

    def tiles(self) -> list[tuple[Entry, Entry, int]]:
        """Every stored tile: the entries of its offset and length, and its number."""
        offsets = [one for one in self.entries if one.tag == TILE_OFFSETS]
        counts = [one for one in self.entries if one.tag == TILE_COUNTS]
        return [(a, b, number) for a, b in zip(offsets, counts, strict=True) for number in range(a.count)]

    def tile(self, tile: tuple[Entry, Entry, int]) -> bytes:
        """The compressed bytes of a stored tile."""
        (start, _, _), (length, _, _) = self.tile_fields(tile)
        return bytes(self.data[start : start + length])

    def tile_fields(self, tile: tuple[Entry, Entry, int]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Offset and length of a stored tile, each as (value, place, size)."""
        found = []
        for entry in tile[:2]:
            size = TYPE_BYTES[entry.kind]
            at = entry.value_at + tile[2] * size
            found.append((self.number(at, size), at, size))
        return found[0], found[1]

    def set_tile(self, tile: tuple[Entry, Entry, int], data: bytes) -> None:
        """Give a stored tile other bytes, behind the end of the file."""
        (_, at, size), (_, count_at, count_size) = self.tile_fields(tile)
        self.put(at, size, self.append(data))
        self.put(count_at, count_size, len(data))


@cache
def sound_slides() -> dict[str, tuple[bytes, str]]:
    """Valid slides of each kind that the fast reader takes, as (bytes, suffix), levels 1 and 2 of 64 px tiles."""
    slides = {}
    for name, subsampling in (("420", (2, 2)), ("422", (2, 1)), ("444", (1, 1))):
        slides[f"svs-{name}"] = _write(".svs", APERIO, "jpeg", subsampling), ".svs"
    slides["svs-rgb"] = _write(".svs", APERIO, "jpeg", None), ".svs"
    slides["svs-jp2k-ycbcr"] = _write(".svs", APERIO, 33003, None), ".svs"
    slides["svs-jp2k-rgb"] = _write(".svs", APERIO, 33005, None), ".svs"
    slides["svs-big"] = _write(".svs", APERIO, "jpeg", (2, 2), bigtiff=True), ".svs"
    slides["tiff"] = _write(".tif", None, "jpeg", (2, 2)), ".tif"
    slides["tiff-motorola"] = _write(".tif", None, "jpeg", (2, 1), byteorder=">"), ".tif"
    slides["tiff-big-motorola"] = _write(".tif", None, "jpeg", None, bigtiff=True, byteorder=">"), ".tif"
    slides["ome"] = _write_ome(), ".ome.tif"
    return slides


def _write(
    suffix: str,
    description: str | None,
    compression: str | int,
    subsampling: tuple[int, int] | None,
    bigtiff: bool = False,
    byteorder: str = "<",
) -> bytes:
    """A pyramid; of an SVS the second page is a thumbnail in strips."""
    file = io.BytesIO()
    options = {"level": 80, "outcolorspace": "ycbcr" if subsampling else "rgb"} if compression == "jpeg" else None
    with tifffile.TiffWriter(file, bigtiff=bigtiff, byteorder=byteorder) as tiff:
        for number, pixels in enumerate(_levels()):
            tiff.write(
                cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]] if compression == 33003 else pixels,
                tile=(TILE_PX, TILE_PX),
                photometric="ycbcr" if subsampling else "rgb",
                subsampling=subsampling,
                compression=compression,
                compressionargs=options,
                description=description,
                resolution=(20_000, 20_000),
                resolutionunit="CENTIMETER",
                subfiletype=0 if number == 0 or suffix == ".svs" else 1,
                metadata=None,
            )
            if number == 0 and suffix == ".svs":
                small = _levels()[-1]
                tiff.write(small, photometric="rgb", compression="jpeg", rowsperstrip=16, metadata=None)
    return file.getvalue()


def _write_ome() -> bytes:
    """An OME-TIFF with its second level in a SubIFD."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=True) as tiff:
        for number, pixels in enumerate(_levels()):
            tiff.write(
                pixels,
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 80},
                subifds=1 if number == 0 else None,
                subfiletype=0 if number == 0 else 1,
                metadata={"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5} if number == 0 else None,
            )
    return file.getvalue()


@cache
def _levels() -> list[np.ndarray]:
    pixels = tissue_pixels(*SIZE_PX0)
    return [pixels, reduced(pixels, 2)]


def mutant(seed: int, number: int) -> Mutant:
    """Case `number` of the run `seed`: a sound slide with one to three kinds of damage."""
    rng = np.random.default_rng([seed, number])
    slides = sound_slides()
    name = list(slides)[rng.integers(len(slides))]
    data, suffix = slides[name]
    tiff = Tiff(data)
    done = []
    for _ in range(1 + int(rng.integers(4) == 0) + int(rng.integers(8) == 0)):
        change = STRUCTURE_AND_TILES[rng.integers(len(STRUCTURE_AND_TILES))]
        change(tiff, rng)
        done.append(change.__name__)
    data = bytes(tiff.data)
    if rng.integers(6) == 0:
        damage = WHOLE_FILE[rng.integers(len(WHOLE_FILE))]
        data = damage(data, rng)
        done.append(damage.__name__)
    if rng.integers(40) == 0:
        suffix = str(rng.choice([".tif", ".svs", ".ndpi", ".scn", ".bif", ".qptiff", ".ome.tif", ""]))
    return Mutant(data, suffix, f"{name}: {', '.join(done)}")


def _odd(rng: np.random.Generator, near: int = 0) -> int:
    """A value that breaks things: an extreme, or one near to the right one."""
    kind = rng.integers(4)
    if kind == 0:
        return near + int(rng.integers(-2, 3))
    if kind == 1:
        return int(rng.integers(1 << 32))
    return int(ODD_VALUES[rng.integers(len(ODD_VALUES))])


# --- structure


def change_entry(tiff: Tiff, rng: np.random.Generator) -> None:
    """Another tag, type, count or value of one entry."""
    entry = tiff.pick(rng)
    assert entry is not None
    field = rng.integers(4)
    if field == 0:
        tiff.put(entry.at, 2, int(rng.choice(TAGS)))
    elif field == 1:
        tiff.put(entry.at + 2, 2, int(rng.integers(20)))
    elif field == 2:
        tiff.put(entry.at + 4, tiff.word, _odd(rng, entry.count))
    else:
        tiff.put(entry.at + 4 + tiff.word, tiff.word, _odd(rng, tiff.number(entry.at + 4 + tiff.word, tiff.word)))


def change_size(tiff: Tiff, rng: np.random.Generator) -> None:
    """Another size of the image or of its tiles; every other time the number of tiles still agrees."""
    entry = tiff.pick(rng, WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH)
    assert entry is not None
    tiff.put(entry.at + 2, 2, int(rng.choice([3, 4, 8, 9])))
    near = tiff.number(entry.value_at, TYPE_BYTES[entry.kind])
    tiff.put(entry.value_at, tiff.word, _odd(rng, near) if rng.integers(2) else -int(rng.integers(300)))
    if rng.integers(2):
        for other in (WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH):
            same = next(one for one in tiff.entries if one.tag == other)
            tiff.put(same.at + 2, 2, 4)
            tiff.put(same.value_at, tiff.word, tiff.number(same.value_at, 4) * (1 << int(rng.integers(1, 8))))


def change_codec(tiff: Tiff, rng: np.random.Generator) -> None:
    """Another compression, photometric interpretation, sample layout or bit depth."""
    entry = tiff.pick(rng, COMPRESSION, PHOTOMETRIC, SAMPLES, BITS, PLANAR)
    assert entry is not None
    values = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 33003, 33005, 32773, 32946, 34712, 34925, 50000, 50001, 65535)
    tiff.put(entry.value_at, 2, int(rng.choice(values)))


def link_anew(tiff: Tiff, rng: np.random.Generator) -> None:
    """The offset of a page leads to another page, to itself, or anywhere."""
    link = tiff.links[rng.integers(len(tiff.links))]
    targets = [*tiff.ifds, 0, 1, 8, len(tiff.data) - 1, len(tiff.data), int(rng.integers(len(tiff.data)))]
    tiff.put(link, 4, int(rng.choice(targets)))


def chain_pages(tiff: Tiff, rng: np.random.Generator) -> None:
    """Many more pages in the chain, with or without a loop at their end."""
    number = int(rng.choice([3, 99, 100, 101, 150, 3000]))
    head, size = (8, 20) if tiff.big else (2, 12)
    entries = [one.at for one in tiff.entries if tiff.ifds[0] <= one.at < tiff.ifds[0] + 20 * size]
    body = b"".join(bytes(tiff.data[at : at + size]) for at in entries[: int(rng.integers(1, len(entries) + 1))])
    count = len(body) // size
    length = head + len(body) + tiff.word
    start = tiff.append(b"")
    loop = int(rng.integers(number)) if rng.integers(2) else None
    for one in range(number):
        at = tiff.append(bytes(head) + body + bytes(tiff.word))
        tiff.put(at, head, count)
        following = at + length + length % 2 if one + 1 < number else 0 if loop is None else start + loop * length
        tiff.put(at + length - tiff.word, tiff.word, following)
    tiff.put(tiff.links[rng.integers(len(tiff.links))], tiff.word, start)


def repeat_entry(tiff: Tiff, rng: np.random.Generator) -> None:
    """A page with thousands of entries that all have the same large value."""
    head, size = (8, 20) if tiff.big else (2, 12)
    number = int(rng.choice([50, 4096, 4097, 65_535]))
    value = tiff.append(b"A" * int(rng.choice([100, 100_000, 1_000_000])))
    page = tiff.append(bytes(head + number * size + tiff.word))
    tiff.put(page, head, number)
    tag = int(rng.choice([DESCRIPTION, SOFTWARE, JPEG_TABLES, TILE_OFFSETS, XMP, 338]))
    entry = bytearray(struct.pack(f"{tiff.order}HH", tag, int(rng.choice([1, 2, 3, 7]))))
    entry += bytes(2 * tiff.word)
    kept = Tiff.__new__(Tiff)
    kept.data, kept.order = entry, tiff.order
    kept.put(4, tiff.word, (len(tiff.data) - value) // 4)
    kept.put(4 + tiff.word, tiff.word, value)
    tiff.data[page + head : page + head + number * size] = bytes(entry) * number
    tiff.put(tiff.links[rng.integers(len(tiff.links))], tiff.word, page)


def change_table(tiff: Tiff, rng: np.random.Generator) -> None:
    """Offsets or lengths of some tiles are wrong, equal, or beyond the file."""
    tiles = tiff.tiles()
    for _ in range(int(rng.choice([1, 2, 10]))):
        fields = tiff.tile_fields(tiles[rng.integers(len(tiles))])
        value, at, size = fields[rng.integers(2)]
        other = tiff.tile_fields(tiles[rng.integers(len(tiles))])[0][0]
        choices = [other, _odd(rng, value), len(tiff.data) - 1, (1 << 63) - 1, (1 << 64) - 1, (1 << 63)]
        tiff.put(at, size, choices[rng.integers(len(choices))])


def change_tables(tiff: Tiff, rng: np.random.Generator) -> None:
    """Other JPEG tables: cut off, noise, markers, or very many bytes."""
    entry = tiff.pick(rng, JPEG_TABLES)
    if entry is None:
        return change_entry(tiff, rng)
    tables = bytearray(tiff.data[entry.value_at : entry.value_at + entry.count])
    kind = rng.integers(5)
    if kind == 0:
        tables = tables[: int(rng.integers(len(tables) + 1))]
    elif kind == 1:
        tables = bytearray(rng.integers(0, 256, int(rng.choice([1, 2, 3, 500])), dtype=np.uint8).tobytes())
    elif kind == 2:
        _scatter(tables, rng)
    elif kind == 3:
        tables[2:2] = _segment(rng)
    else:
        tables[2:2] = b"\xff\xfe\xff\xff" + bytes(65_533)
    tiff.set_bytes(entry, bytes(tables), int(rng.choice([7, 7, 7, 1, 2, 3])))
    return None


def change_text(tiff: Tiff, rng: np.random.Generator) -> None:
    """Another description, software or XMP: of other vendors, with impossible numbers, or XML made to hurt."""
    entry = tiff.pick(rng, DESCRIPTION, SOFTWARE, XMP)
    if entry is None:
        entry = tiff.pick(rng, SAMPLES, PLANAR, UNIT, 254)
        assert entry is not None
        tiff.put(entry.at, 2, int(rng.choice([DESCRIPTION, SOFTWARE, XMP])))
    texts = _texts()
    text = texts[rng.integers(len(texts))]
    if rng.integers(4) == 0:
        spoilt = bytearray(text)
        _scatter(spoilt, rng)
        text = bytes(spoilt)
    tiff.set_bytes(entry, text, 2)


def change_resolution(tiff: Tiff, rng: np.random.Generator) -> None:
    """Rationals with nothing above or below the line, and other units."""
    entry = tiff.pick(rng, X_RESOLUTION, Y_RESOLUTION, UNIT)
    assert entry is not None
    if entry.tag == UNIT:
        tiff.put(entry.value_at, 2, int(rng.choice([0, 1, 2, 3, 4, 65_535])))
        return
    tiff.put(entry.value_at, 4, _odd(rng, 20_000))
    tiff.put(entry.value_at + 4, 4, int(rng.choice([0, 1, 2, (1 << 32) - 1])))


@cache
def _texts() -> list[bytes]:
    return list(hostile_texts())


def hostile_texts() -> Iterator[bytes]:
    """Descriptions, most of them of formats that tifffile or OpenSlide have a parser for."""
    for mpp in ("nan", "inf", "-inf", "1e400", "-0.5", "0", "0x1p3", "1" * 5000, "", "٣"):
        yield f"Aperio Image Library|AppMag = {mpp}|MPP = {mpp}|MPP = {mpp}".encode()
    yield b"Aperio" + b"|" * 50_000 + b"=" * 50_000
    yield b"Aperio \xff\xfe\x00|MPP\x00=0.5"
    planes = {"SizeX": 128, "SizeY": 96, "SizeZ": 1, "SizeC": 3, "SizeT": 1}
    yield from (_ome(planes), _ome(planes, inner="<TiffData/>" * 3000))
    for key in planes:
        for value in (0, -1, 100_000_000, 10**18, "x", "1e3"):
            yield _ome({**planes, key: value})
    for block in ('PlaneCount="100000000"', 'IFD="-1"', 'IFD="4000000000"', 'FirstZ="99999999" IFD="0"'):
        yield _ome({**planes, "SizeZ": 100_000_000}, inner=f"<TiffData {block}/>")
        yield _ome(planes, inner=f"<TiffData {block}/>")
    yield _ome(planes, inner='<TiffData IFD="0"><UUID FileName="/dev/zero">urn:uuid:1</UUID></TiffData>')
    yield _ome(planes, inner='<Channel SamplesPerPixel="1000000000"/><TiffData/>')
    yield _ome(planes, inner="<TiffData/>", order="XYXYXYXYXY")
    along = '<ModuloAlongZ Type="other" Start="0" Step="1e-9" End="1e9"/>'
    notes = f'<XMLAnnotation Namespace="x/modulo" ID="A"><Value><Modulo>{along}</Modulo></Value></XMLAnnotation>'
    yield f"<OME><StructuredAnnotations>{notes}</StructuredAnnotations></OME>".encode()
    yield b"<OME>" + b"<a>" * 30_000 + b"</a>" * 30_000 + b"</OME>"
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    yield f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "lol">{entities}]><OME>&l9;</OME>'.encode()
    chain = "".join(f'<!ENTITY l{n} "&l{n - 1};">' for n in range(1, 20_000))
    yield f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "">{chain}]><OME>&l19999;</OME>'.encode()
    yield b'<?xml version="1.0" encoding="utf-16"?><OME></OME>'
    yield b'{"shape": [100000000, 96, 128, 3]}'
    yield b'{"shape": [0, 0, 0]}'
    yield b'{"shape": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    yield b"ImageJ=1.11a\nimages=100000000\nslices=100000000\nhyperstack=true\n"
    yield b"SI.LINE_FORMAT_VERSION = 1\nstate.configPath = x\n"
    yield b"<?xml version='1.0'?><PerkinElmer-QPI-ImageDescription><ImageType>FullResolution</ImageType>"
    yield b'<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection><image/></collection></scn>'
    yield b'<DataObject ObjectType="DPUfsImport"><Attribute Name="PIM_DP_IMAGE_COLUMNS">x</Attribute></DataObject>'
    yield b'<iScan Magnification="40" ScanRes="0.25"/><EncodeInfo Ver="2"/>'


def _ome(sizes: dict[str, object], inner: str = '<TiffData IFD="0" PlaneCount="1"/>', order: str = "XYCZT") -> bytes:
    said = " ".join(f'{key}="{value}"' for key, value in sizes.items())
    pixels = f'<Pixels DimensionOrder="{order}" Type="uint8" PhysicalSizeX="0.5" PhysicalSizeY="0.5" {said}>'
    return f"<OME><Image>{pixels}{inner}</Pixels></Image></OME>".encode()


# --- the bytes of one tile


def flip_bits(tiff: Tiff, rng: np.random.Generator) -> None:
    """Some bits of one tile."""
    tile = _any_tile(tiff, rng)
    data = bytearray(tiff.tile(tile))
    _scatter(data, rng)
    tiff.set_tile(tile, bytes(data))


def cut_tile(tiff: Tiff, rng: np.random.Generator) -> None:
    """The end of a tile is missing, or its middle, or something follows it."""
    tile = _any_tile(tiff, rng)
    data = tiff.tile(tile)
    at, to = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    kind = rng.integers(4)
    parts = (data[:at], data[:at] + data[to:], data + data, data[:at] + bytes(to - at))
    tiff.set_tile(tile, parts[kind])


def change_frame(tiff: Tiff, rng: np.random.Generator) -> None:
    """The JPEG frame header of a tile says another process, depth, size, or other components."""
    tile = _any_tile(tiff, rng)
    data = bytearray(tiff.tile(tile))
    at = data.find(b"\xff\xc0")
    if at < 0 or at + 20 > len(data):
        return change_codestream(tiff, rng)
    for _ in range(1 + int(rng.integers(2))):
        kind = rng.integers(6)
        if kind == 0:
            data[at + 1] = int(rng.choice([0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC9, 0xCA, 0xCB, 0xCD, 0xF7]))
        elif kind == 1:
            data[at + 4] = int(rng.choice([0, 1, 7, 8, 12, 16, 255]))
        elif kind == 2:
            size = rng.choice([0, 1, 63, 65, 4096, 65_500, 65_535], 2)
            data[at + 5 : at + 9] = struct.pack(">HH", *size.tolist())
        elif kind == 3:
            data[at + 9] = int(rng.choice([0, 1, 2, 4, 5, 10, 255]))
        elif kind == 4:
            data[at + 11 + 3 * int(rng.integers(3))] = int(rng.choice([0, 0x12, 0x21, 0x33, 0x41, 0x44, 0xFF]))
        else:
            data[at + 12 + 3 * int(rng.integers(3))] = int(rng.integers(6))
    tiff.set_tile(tile, bytes(data))
    return None


def insert_segment(tiff: Tiff, rng: np.random.Generator) -> None:
    """A marker segment that does not belong there, behind the start or somewhere in the stream."""
    tile = _any_tile(tiff, rng)
    data = tiff.tile(tile)
    at = 2 if rng.integers(2) else int(rng.integers(len(data) + 1))
    tiff.set_tile(tile, data[:at] + _segment(rng) + data[at:])


def write_scans(tiff: Tiff, rng: np.random.Generator) -> None:
    """A progressive JPEG with its last scan repeated thousands of times."""
    tile = _any_tile(tiff, rng)
    file = io.BytesIO()
    Image.fromarray(_levels()[0][:TILE_PX, :TILE_PX]).save(file, "JPEG", quality=80, progressive=True)
    data = file.getvalue()
    at = data.rfind(b"\xff\xda")
    scan = data[at:-2]
    tiff.set_tile(tile, data[:at] + scan * int(rng.choice([1, 2, 90, 2000])) + b"\xff\xd9")


def change_codestream(tiff: Tiff, rng: np.random.Generator) -> None:
    """Sizes, tiling, components or coding style of a JPEG 2000 tile are other ones."""
    tile = _any_tile(tiff, rng)
    data = bytearray(tiff.tile(tile))
    if data[:4] != b"\xff\x4f\xff\x51" or len(data) < 120:
        return insert_segment(tiff, rng)
    for _ in range(1 + int(rng.integers(3))):
        kind = rng.integers(4)
        if kind == 0:
            at = 8 + 4 * int(rng.integers(8))
            value = int(rng.choice([0, 1, 2, 3, 16, 63, 64, 65, 4096, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]))
            data[at : at + 4] = struct.pack(">I", value)
        elif kind == 1:
            data[40 + int(rng.integers(11))] = int(rng.choice([0, 1, 2, 3, 4, 7, 15, 31, 37, 38, 127, 255]))
        else:
            at = data.find(b"\xff\x52") + 4 + int(rng.integers(10))
            data[at] = int(rng.choice([0, 1, 2, 3, 4, 5, 8, 10, 32, 33, 127, 255]))
    tiff.set_tile(tile, bytes(data))
    return None


def swap_tile(tiff: Tiff, rng: np.random.Generator) -> None:
    """A tile of another slide, of another codec or size, or of no codec."""
    tile = _any_tile(tiff, rng)
    kind = rng.integers(6)
    pixels = np.ascontiguousarray(_levels()[0][:TILE_PX, :TILE_PX])
    if kind == 0:
        data = imagecodecs.png_encode(pixels)
    elif kind == 1:
        data = imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels[..., 0]), level=80)
    elif kind == 2:
        data = imagecodecs.jpeg8_encode(np.ascontiguousarray(np.dstack([pixels, pixels[..., :1]])), level=80)
    elif kind == 3:
        data = imagecodecs.jpeg2k_encode(pixels[:48], codecformat=str(rng.choice(["J2K", "JP2"])))
    else:
        others = list(sound_slides().values())
        other = Tiff(others[rng.integers(len(others))][0])
        data = other.tile(_any_tile(other, rng))
    tiff.set_tile(tile, bytes(data))


def _any_tile(tiff: Tiff, rng: np.random.Generator) -> tuple[Entry, Entry, int]:
    tiles = tiff.tiles()
    return tiles[rng.integers(len(tiles))]


def _segment(rng: np.random.Generator) -> bytes:
    """A JPEG marker segment: frames of huge size, restart intervals, tables, scans, colour, lengths that lie."""
    size = struct.pack(">HH", *rng.choice([1, 64, 65_500, 65_535], 2).tolist())
    components = b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    choices = (
        b"\xff\xc0\x00\x11\x08" + size + components,
        b"\xff\xc2\x00\x11\x08" + size + components,
        b"\xff\xc9\x00\x11\x08" + size + components,
        b"\xff\xc1\x00\x11\x0c" + size + components,
        b"\xff\xdd\x00\x04" + rng.integers(0, 256, 2, dtype=np.uint8).tobytes(),
        b"\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00",
        b"\xff\xc4\x00\x14" + rng.integers(0, 256, 18, dtype=np.uint8).tobytes(),
        b"\xff\xdb\x00\x43\x00" + bytes(64),
        b"\xff\xcc\x00\x04\x00\xff",
        b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + rng.integers(0, 4, 1, dtype=np.uint8).tobytes(),
        b"\xff\xdc\x00\x04\xff\xff",
        b"\xff\xe2\xff\xff",
        b"\xff\xd9",
        b"\xff\xd8",
        b"\xff\xd0" * 100,
        b"\xff" * 1000,
    )
    return choices[rng.integers(len(choices))]


def _scatter(data: bytearray, rng: np.random.Generator) -> None:
    """Flip a few bits, or overwrite a few bytes, in place."""
    if not data:
        return
    for place in rng.integers(0, len(data), int(rng.choice([1, 2, 8, 40]))):
        data[place] = data[place] ^ (1 << int(rng.integers(8))) if rng.integers(2) else int(rng.choice([0, 0xFF, 0x7F]))


# --- the file as a whole


def cut_file(data: bytes, rng: np.random.Generator) -> bytes:
    """The end is missing."""
    return data[: int(rng.integers(len(data) + 1))]


def cut_head(data: bytes, rng: np.random.Generator) -> bytes:
    """Nearly everything is missing: an empty file, a header."""
    return data[: int(rng.integers(64))]


def splice(data: bytes, rng: np.random.Generator) -> bytes:
    """The head of one slide, the tail of another."""
    others = list(sound_slides().values())
    other = others[rng.integers(len(others))][0]
    at = int(rng.integers(len(data)))
    return data[:at] + other[at if rng.integers(2) else int(rng.integers(len(other))) :]


def shift(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes lost or added in the middle, so that all that follows is displaced."""
    at, number = int(rng.integers(8, len(data) + 8)), int(rng.integers(1, 64))
    return data[:at] + (data[at + number :] if rng.integers(2) else bytes(number) + data[at:])


def blot(data: bytes, rng: np.random.Generator) -> bytes:
    """A sector of zeros or noise."""
    at, number = int(rng.integers(len(data) or 1)), int(rng.choice([16, 512, 4096]))
    ink = bytes(number) if rng.integers(2) else rng.integers(0, 256, number, dtype=np.uint8).tobytes()
    return (data[:at] + ink + data[at + number :])[: len(data)]


def scatter_file(data: bytes, rng: np.random.Generator) -> bytes:
    """Bits anywhere."""
    changed = bytearray(data)
    _scatter(changed, rng)
    return bytes(changed)


STRUCTURE_AND_TILES: tuple[Callable[[Tiff, np.random.Generator], None], ...] = (
    change_entry, change_entry, change_size, change_codec, link_anew, chain_pages, repeat_entry, change_table,
    change_tables, change_text, change_text, change_resolution,
    flip_bits, flip_bits, cut_tile, change_frame, insert_segment, write_scans, change_codestream, swap_tile,
)  # fmt: skip
WHOLE_FILE: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    cut_file, cut_head, splice, shift, blot, scatter_file,
)  # fmt: skip
