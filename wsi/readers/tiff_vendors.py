"""What Philips and Ventana files say of themselves: which pages are levels, how large they truly are, and their scale.

Facts from OpenSlide's pages on the two formats (openslide.org/formats/philips, openslide.org/formats/ventana).
"""

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tifffile

from wsi.errors import UnreadableSlideError

XMP = 700
MAX_RATIO_ERROR = 0.02
"""How far, as a share, a stated ratio of two levels may be from a whole number: spacings are rounded."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which pages are levels, and what the file says of them.

    Attributes
    ----------
    vendor : str
    pages : tuple of tifffile.TiffPage
        The levels, largest first.
    sizes_px : tuple of (w, h)
        True size of each level, which may be less or more than what its page claims.
    mpp : (x, y) or None
        um per level-0 pixel.
    mpp_source : str
    objective_power : float or None
    sparse : bool
        Whether a stored tile without offset and bytes was never scanned, and so is white; else it is missing.
    pictures : mapping of str to tifffile.TiffPage or str
        Label, macro and thumbnail, each a page or a JPEG in Base64.
    """

    vendor: str
    pages: tuple[Any, ...]
    sizes_px: tuple[tuple[int, int], ...]
    mpp: tuple[float, float] | None
    mpp_source: str
    objective_power: float | None
    sparse: bool
    pictures: Mapping[str, Any]


def philips_layout(tiff: tifffile.TiffFile) -> Layout | None:
    """A Philips TIFF; None if it is none.

    Its pages claim the size of all their tiles, padding included, so that their sizes are in no proportion: the scale
    of a level follows from the pixel spacing that the XML states, and its size from that and from level 0's.

    Raises
    ------
    UnreadableSlideError
        If the XML does not state what is needed.
    """
    every: list[Any] = list(tiff.pages)
    text = str(every[0].description or "")
    if not (tiff.is_philips or (every[0].software.startswith("Philips") and "DPUfsImport" in text)):
        return None
    root = _parse(text, "Philips TIFF")
    images = root.findall("Attribute[@Name='PIM_DP_SCANNED_IMAGES']/Array/DataObject")
    slides = [image for image in images if _attribute(image, "PIM_DP_IMAGE_TYPE") == "WSI"]
    if root.get("ObjectType") != "DPUfsImport" or len(slides) != 1:
        raise UnreadableSlideError(f"Philips TIFF with {len(slides)} whole-slide images in its XML, expected one")
    pages = [page for page in every if page.is_tiled]
    stored = "Attribute[@Name='PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE']/Array/DataObject"
    spacings = [_spacing_mm(_attribute(one, "DICOM_PIXEL_SPACING")) for one in slides[0].findall(stored)]
    known = [spacing for spacing in spacings if spacing is not None]
    if not len(pages) == len(spacings) == len(known) > 0:
        raise UnreadableSlideError(f"Philips TIFF of {len(pages)} levels, pixel spacing stated for {len(known)}")
    factors = [_whole((x / known[0][0] + y / known[0][1]) / 2) for x, y in known]
    pitch = _spacing_mm(_attribute(slides[0], "DICOM_PIXEL_SPACING")) or known[0]
    size_px0 = int(pages[0].imagewidth), int(pages[0].imagelength)
    return Layout(
        vendor="philips",
        pages=tuple(pages),
        sizes_px=tuple((max(1, size_px0[0] // factor), max(1, size_px0[1] // factor)) for factor in factors),
        mpp=(1e3 * pitch[0], 1e3 * pitch[1]),
        mpp_source="philips.DICOM_PIXEL_SPACING",
        objective_power=_philips_power(_attribute(slides[0], "DICOM_DERIVATION_DESCRIPTION")),
        sparse=True,
        pictures=_philips_pictures(every, images),
    )


def _philips_pictures(pages: list[Any], images: list[ElementTree.Element]) -> dict[str, Any]:
    """Label and macro lie as Base64 in the XML, and in some files as pages too."""
    found: dict[str, Any] = {}
    for name, kind in (("label", "LABELIMAGE"), ("macro", "MACROIMAGE")):
        for image in images:
            if _attribute(image, "PIM_DP_IMAGE_TYPE") == kind and (data := _attribute(image, "PIM_DP_IMAGE_DATA")):
                found.setdefault(name, data)
        for page in pages:
            if not page.is_tiled and page.description.startswith(name.capitalize()):
                found[name] = page
    return found


def _philips_power(derivation: str) -> float | None:
    """The first of the "levels" is the objective's power in some files, and a number beyond 10,000 in others."""
    found = re.search(r"(?:^|-)levels=(\d+)", derivation.partition("sourceFilename")[0])
    return float(found[1]) if found and 0 < int(found[1]) <= 200 else None


def _spacing_mm(text: str) -> tuple[float, float] | None:
    """(x, y) out of "row" "column" spacing in mm."""
    parts = [number(part) for part in text.replace('"', " ").split()]
    known = [part for part in parts if part is not None and 0 < part < math.inf]
    return (known[1], known[0]) if len(parts) == len(known) == 2 else None


def ventana_layout(tiff: tifffile.TiffFile) -> Layout | None:
    """A Ventana BIF or TIFF whose tiles lie side by side; None if it is none.

    Raises
    ------
    UnreadableSlideError
        If its tiles overlap, or are not one area in a plain grid: they have to be stitched.
    """
    every: list[Any] = list(tiff.pages)
    packet = _xmp(every[0])
    if not (tiff.is_bif or "iScan" in packet):
        return None
    root = _parse(packet, "BIF")
    scan = root if root.tag == "iScan" else root.find("iScan")
    if scan is None:
        raise UnreadableSlideError("BIF without an iScan element")
    pages = [page for page in every if "level=" in page.description]
    fields = [dict(part.split("=", 1) for part in page.description.split() if "=" in part) for page in pages]
    powers = [number(field.get("mag")) or 0.0 for field in fields]
    if not pages or [field.get("level") for field in fields] != [str(k) for k in range(len(pages))] or min(powers) <= 0:
        raise UnreadableSlideError("BIF whose levels are not numbered in order, each with its magnification")
    if joints := _xmp(pages[0]):
        _require_plain_grid(_parse(joints, "BIF"), pages[0])
    pitch = number(scan.get("ScanRes"))
    names = {"Label Image": "macro", "Label_Image": "macro", "Thumbnail": "thumbnail"}
    return Layout(
        vendor="ventana",
        pages=tuple(pages),
        sizes_px=tuple(
            _ventana_size_px(page, pages[0], _whole(powers[0] / power))
            for page, power in zip(pages, powers, strict=True)
        ),
        mpp=(pitch, pitch) if pitch is not None else None,
        mpp_source="ventana.ScanRes",
        objective_power=number(scan.get("Magnification")),
        sparse=False,
        pictures={names[page.description]: page for page in every if page.description in names},
    )


def _ventana_size_px(page: Any, page0: Any, factor: int) -> tuple[int, int]:
    """Size of a level whose page may be padded to whole tiles."""
    claimed, whole = (page.imagewidth, page.imagelength), (page0.imagewidth, page0.imagelength)
    w, h = (min(side, -(-side0 // factor)) for side, side0 in zip(claimed, whole, strict=True))
    if w < whole[0] // factor or h < whole[1] // factor:
        raise UnreadableSlideError(f"BIF with a level of {w} x {h} px that does not cover level 0 at 1/{factor}")
    return w, h


def _require_plain_grid(root: ElementTree.Element, page: Any) -> None:
    """Level 0 is one area from its first tile to its last, and no two tiles overlap."""
    images, origins = root.findall("SlideStitchInfo/ImageInfo"), root.findall("AoiOrigin/*")
    if len(images) != 1 or len(origins) != 1:
        raise UnreadableSlideError(f"BIF of {len(images)} areas of interest: left to a reader that stitches")
    columns, rows = page.imagewidth / page.tilewidth, page.imagelength / page.tilelength
    expected = {"AOIScanned": 1, "Pos-X": 0, "OriginX": 0, "OriginY": 0}
    expected |= {"Width": page.tilewidth, "Height": page.tilelength, "NumCols": columns, "NumRows": rows}
    for name, value in expected.items():
        said = (origins if name.startswith("Origin") else images)[0].get(name)
        if number(said) != value:
            raise UnreadableSlideError(f"BIF with {name} {said}, expected {value:g}: left to a reader that stitches")
    joints = images[0].findall("TileJointInfo")
    overlaps = [(joint.get("OverlapX"), joint.get("OverlapY")) for joint in joints]
    some = [pair for pair in overlaps if any(number(part) != 0 for part in pair)]
    if some:
        count = f"{len(some)} of {len(joints)} tile joints overlap (by {some[0][0]}, {some[0][1]} px)"
        raise UnreadableSlideError(f"BIF of which {count}: left to a reader that stitches")
    directions = {joint.get("Direction") for joint in joints}
    if (columns > 1 and not directions & {"LEFT", "RIGHT"}) or (rows > 1 and not directions & {"UP", "DOWN"}):
        raise UnreadableSlideError("BIF that does not say whether its tiles overlap: left to a reader that stitches")


def _xmp(page: Any) -> str:
    """The XML packet of a page, empty if it has none."""
    packet = page.tags.valueof(XMP, default=b"")
    return (packet.decode("utf-8", "replace") if isinstance(packet, bytes) else str(packet)).strip("\0 \r\n\t")


def _parse(xml: str, kind: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise UnreadableSlideError(f"{kind} whose XML cannot be parsed ({error})") from error


def _attribute(thing: ElementTree.Element, name: str) -> str:
    return thing.findtext(f"Attribute[@Name='{name}']", "").strip()


def _whole(ratio: float) -> int:
    """A ratio of scales as the whole number that it stands for."""
    whole = max(1, round(ratio))
    if abs(ratio / whole - 1) > MAX_RATIO_ERROR:
        raise UnreadableSlideError(f"a level {ratio:g} times coarser than level 0, expected a whole number")
    return whole


def number(text: str | None) -> float | None:
    """A number out of a file's text, None if it is none."""
    try:
        return float(str(text))
    except ValueError:
        return None
