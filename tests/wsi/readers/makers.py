"""Makers of small TIFF slides as Philips and Ventana lay them out, and of generic ones, tile by tile."""

import base64
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import tifffile

from tests.hostile.makers import reduced

Tiles = Collection[tuple[int, int]]
"""Stored tiles by (column, row)."""

XMP, JPEG_TABLES, TILE_OFFSETS = 700, 347, 324


def smooth_pixels(width: int, height: int, seed: int = 5) -> np.ndarray:
    """A picture (H, W, 3) uint8 of soft colour patches, on which JPEG decoders agree."""
    rng = np.random.default_rng(seed)
    patches = np.kron(rng.integers(60, 220, (-(-height // 10), -(-width // 10), 3)), np.ones((10, 10, 1), np.int64))
    noisy = (patches + rng.integers(-12, 13, patches.shape)).astype(np.uint8)[:height, :width]
    return cv2.GaussianBlur(noisy, (0, 0), 2)


def jpeg(pixels: np.ndarray, subsampling: str = "420", colour: str = "ycbcr") -> bytes:
    """A whole JPEG stream of (H, W, 3) uint8."""
    chroma = {"subsampling": subsampling} if colour == "ycbcr" else {}
    return imagecodecs.jpeg8_encode(pixels, level=90, outcolorspace=colour, **chroma)


def tables_apart(stream: bytes) -> tuple[bytes, bytes]:
    """The tables of a JPEG stream as a stream of their own, and the abbreviated stream (ITU-T T.81, B.4 and B.5)."""
    at, tables, rest = 2, b"", b""
    while stream[at : at + 2] != b"\xff\xda":
        segment = stream[at : at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")]
        at += len(segment)
        if segment[1] in (0xDB, 0xC4):
            tables += segment
        else:
            rest += segment
    return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + rest + stream[at:]


def whole_tiles(pixels: np.ndarray, tile_px: tuple[int, int]) -> tuple[int, int]:
    """(w, h) of all tiles of (H, W, 3) pixels, padding included."""
    return -(-pixels.shape[1] // tile_px[0]) * tile_px[0], -(-pixels.shape[0] // tile_px[1]) * tile_px[1]


def write_page(
    tiff: tifffile.TiffWriter,
    pixels: np.ndarray,
    tile_px: tuple[int, int],
    *,
    subsampling: str = "420",
    colour: str = "ycbcr",
    absent: Tiles = (),
    abbreviated: bool = False,
    size_px: tuple[int, int] | None = None,
    description: str | None = None,
    software: str | None = None,
    xmp: str | None = None,
    subfiletype: int = 0,
    resolution: tuple[float, float] | None = None,
) -> None:
    """One tiled page of (H, W, 3) uint8 pixels that claims `size_px`; `absent` tiles have no bytes."""
    (tile_w, tile_h), (height, width) = tile_px, pixels.shape[:2]
    claimed_w, claimed_h = size_px or (width, height)
    columns, rows = -(-claimed_w // tile_w), -(-claimed_h // tile_h)
    padded = np.pad(
        pixels, ((0, max(0, rows * tile_h - height)), (0, max(0, columns * tile_w - width)), (0, 0)), "edge"
    )
    streams = [
        jpeg(padded[y * tile_h : (y + 1) * tile_h, x * tile_w : (x + 1) * tile_w], subsampling, colour)
        for y in range(rows)
        for x in range(columns)
    ]
    tags: list[tuple[int, int, int, bytes, bool]] = []
    if abbreviated:
        tables = tables_apart(streams[0])[0]
        streams = [tables_apart(stream)[1] for stream in streams]
        tags.append((JPEG_TABLES, 7, len(tables), tables, True))
    if xmp is not None:
        tags.append((XMP, 1, len(xmp), xmp.encode(), True))
    for column, row in absent:
        streams[row * columns + column] = b""
    tiff.write(
        iter(streams),
        shape=(claimed_h, claimed_w, 3),
        dtype=np.uint8,
        tile=(tile_h, tile_w),
        compression="jpeg",
        compressionargs={"outcolorspace": colour},
        photometric=colour,
        subsampling={"444": (1, 1), "422": (2, 1), "420": (2, 2)}[subsampling] if colour == "ycbcr" else None,
        description=description,
        software=software,
        metadata=None,
        extratags=tags,
        subfiletype=subfiletype,
        resolution=resolution,
        resolutionunit="CENTIMETER" if resolution else None,
    )


def write_philips(
    path: Path,
    pixels: np.ndarray,
    *,
    levels: int = 3,
    tile_px: tuple[int, int] = (128, 128),
    subsampling: str = "420",
    absent: dict[int, Tiles] | None = None,
    spacing_mm: tuple[float, float] = (0.00025, 0.00025),
    spacings: int | None = None,
    software: str = "Philips DP v1.0",
    label: np.ndarray | None = None,
    macro: np.ndarray | None = None,
    macro_page: np.ndarray | None = None,
    big: bool = False,
    change: Callable[[str], str] = str,
) -> Path:
    """A Philips TIFF whose levels halve `pixels`; each claims the size of all its tiles, padding included.

    Parameters
    ----------
    absent : dict of level to tiles
        Never scanned: offset and byte count 0.
    spacing_mm : (x, y)
    spacings : int, optional
        How many levels state their spacing; all of them if not given.
    label, macro : ndarray (H, W, 3) uint8, optional
        As Base64 in the XML; `macro_page` as a page of its own.
    change : callable
        Applied to the XML.
    """
    xml = change(_philips_xml(spacing_mm, levels if spacings is None else spacings, label, macro))
    with tifffile.TiffWriter(path, bigtiff=big) as tiff:
        for level in range(levels):
            part = reduced(pixels, 1 << level)
            write_page(
                tiff,
                part,
                tile_px,
                subsampling=subsampling,
                absent=(absent or {}).get(level, ()),
                size_px=whole_tiles(part, tile_px),
                description=xml if level == 0 else f"level={level} mag={40 / 2**level} quality=80",
                software=software if level == 0 else None,
                subfiletype=1 if level else 0,
            )
        if macro_page is not None:
            tiff.write(macro_page, photometric="rgb", description="Macro", metadata=None, subfiletype=1, rowsperstrip=8)
    _forget_absent(path)
    return path


def _philips_xml(
    spacing_mm: tuple[float, float], levels: int, label: np.ndarray | None, macro: np.ndarray | None
) -> str:
    def attribute(name: str, value: str) -> str:
        return f'<Attribute Name="{name}" Group="0x0028" Element="0x0030" PMSVR="IString">{value}</Attribute>'

    def array(name: str, objects: list[str]) -> str:
        return f'<Attribute Name="{name}" PMSVR="IDataObjectArray"><Array>{"".join(objects)}</Array></Attribute>'

    def thing(kind: str, *attributes: str) -> str:
        return f'<DataObject ObjectType="{kind}">{"".join(attributes)}</DataObject>'

    def spacing(factor: int) -> str:  # rows first, as DICOM has it
        x, y = spacing_mm
        return attribute("DICOM_PIXEL_SPACING", f"&quot;{y * factor:.9f}&quot; &quot;{x * factor:.9f}&quot;")

    stored = [
        thing("PixelDataRepresentation", spacing(1 << k), attribute("PIIM_PIXEL_DATA_REPRESENTATION_NUMBER", str(k)))
        for k in range(levels)
    ]
    images = [
        thing(
            "DPScannedImage",
            attribute("PIM_DP_IMAGE_TYPE", "WSI"),
            attribute("DICOM_DERIVATION_DESCRIPTION", "tiff-useBigTIFF=0-useRgb=0-levels=40,20,10-q80"),
            spacing(1),
            array("PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE", stored),
        )
    ]
    for kind, image in (("LABELIMAGE", label), ("MACROIMAGE", macro)):
        if image is not None:
            data = base64.b64encode(jpeg(image, "444")).decode()
            images.append(
                thing("DPScannedImage", attribute("PIM_DP_IMAGE_TYPE", kind), attribute("PIM_DP_IMAGE_DATA", data))
            )
    content = attribute("DICOM_MANUFACTURER", "PHILIPS") + array("PIM_DP_SCANNED_IMAGES", images)
    return f'<?xml version="1.0" encoding="UTF-8" ?>\n<DataObject ObjectType="DPUfsImport">{content}</DataObject>'


def _forget_absent(path: Path) -> None:
    """Set the offsets of tiles without bytes to 0; the writer notes where they would have been."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            if page.is_tiled and 0 in page.databytecounts:
                places = zip(page.dataoffsets, page.databytecounts, strict=True)
                page.tags[TILE_OFFSETS].overwrite([offset if count else 0 for offset, count in places])


def write_bif(
    path: Path,
    pixels: np.ndarray,
    *,
    levels: int = 3,
    tile_px: tuple[int, int] = (128, 128),
    subsampling: str = "420",
    absent: dict[int, Tiles] | None = None,
    mpp: str = "0.25",
    label: str = "Label Image",
    software: str = "ScanOutputManager 1.1.0.15854",
    stitched: bool = True,
    wrapped: bool = False,
    padded: bool = False,
    change: Callable[[str], str] = str,
) -> Path:
    """A Ventana BIF of one area of interest, scanned from the bottom in serpentine rows, without overlaps.

    Parameters
    ----------
    pixels : ndarray (H, W, 3) uint8
        Sides are whole tiles.
    stitched : bool
        Whether level 0 has its joints stated; a Ventana TIFF has not.
    wrapped : bool
        Whether the scanner's element lies in another, as some models write it.
    padded : bool
        Whether the coarser levels claim the size of all their tiles.
    change : callable
        Applied to the XML of level 0.
    """
    scan = f'<iScan Magnification="40" ScanRes="{mpp}" Z-layers="1" UnitNumber="2000515"/>'
    columns, rows = pixels.shape[1] // tile_px[0], pixels.shape[0] // tile_px[1]
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        common = {"photometric": "rgb", "metadata": None, "rowsperstrip": 16}
        xmp = (f"<Metadata>{scan}</Metadata>" if wrapped else scan).encode()
        tags = [(XMP, 1, len(xmp), xmp, True)]
        tiff.write(reduced(pixels, 16), description=label, software=software, extratags=tags, **common)
        tiff.write(reduced(pixels, 8), description="Thumbnail", **common)
        for level in range(levels):
            part = reduced(pixels, 1 << level)
            write_page(
                tiff,
                part,
                tile_px,
                size_px=whole_tiles(part, tile_px) if padded else None,
                subsampling=subsampling,
                absent=(absent or {}).get(level, ()),
                description=f"level={level} mag={40 / 2**level:g} quality=90",
                xmp=change(_joints_xml(columns, rows, tile_px)) if level == 0 and stitched else None,
            )
    _forget_absent(path)
    return path


def _joints_xml(columns: int, rows: int, tile_px: tuple[int, int]) -> str:
    def number(column: int, row: int) -> int:
        """Tiles are numbered from 1 at the bottom left, every second row from right to left."""
        up = rows - 1 - row
        return 1 + up * columns + (columns - 1 - column if up % 2 else column)

    def joints() -> Iterator[str]:
        for row in range(rows):
            for column in range(columns):
                for direction, other in (("RIGHT", (column + 1, row)), ("UP", (column, row - 1))):
                    if other[0] < columns and other[1] >= 0:
                        yield (
                            f'<TileJointInfo FlagJoined="1" Confidence="98" Direction="{direction}" '
                            f'Tile1="{number(column, row)}" Tile2="{number(*other)}" OverlapX="0" OverlapY="0"/>'
                        )

    image = f'Width="{tile_px[0]}" Height="{tile_px[1]}" NumRows="{rows}" NumCols="{columns}" Pos-X="0" Pos-Y="3000"'
    return (
        f'<EncodeInfo Ver="2"><SlideStitchInfo><ImageInfo AOIScanned="1" AOIIndex="0" {image}>{"".join(joints())}'
        '</ImageInfo></SlideStitchInfo><AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>'
    )
