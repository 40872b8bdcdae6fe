"""What the XML of an OME-TIFF may claim: tifffile makes lists as long as it says.

Source: the OME-TIFF specification and schema 2016-06 (`Pixels`, `TiffData`, `UUID`).
"""

import xml.etree.ElementTree as ElementTree
from typing import NoReturn

from wsi.errors import UnreadableSlideError
from wsi.readers.tiff_limits import Claims

MAX_PLANES = 4096
"""Focal planes times channels times time points of an image; a slide has 3."""


def check_ome(claims: Claims) -> None:
    """Refuse sizes, planes and files that an OME-TIFF of this structure cannot have; other TIFFs pass.

    Raises
    ------
    UnreadableSlideError
    """
    if not claims.description.rstrip(b"\0 \r\n\t").endswith(b"OME>"):
        return
    try:
        root = ElementTree.fromstring(claims.description.rstrip(b"\0").decode("utf-8", "replace"))
    except ElementTree.ParseError:
        return  # tifffile then goes by the pages
    try:
        for element in root:
            if element.tag.endswith("StructuredAnnotations"):
                _check_annotations(element)
            if element.tag.endswith("Image"):
                for pixels in element:
                    if pixels.tag.endswith("Pixels"):
                        _check_pixels(pixels, claims)
    except (ValueError, KeyError) as error:
        _refuse(f"{error} is missing or no number")


def _check_annotations(annotations: ElementTree.Element) -> None:
    if any(note.get("Namespace", "").endswith("modulo") for note in annotations):
        _refuse("axes within axes (Modulo), which no slide has")


def _check_pixels(pixels: ElementTree.Element, claims: Claims) -> None:
    order = pixels.attrib["DimensionOrder"]
    if order[:2] != "XY" or sorted(order[2:]) != ["C", "T", "Z"]:
        _refuse(f"dimension order {order[:20]!r}")
    sizes = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in "XYZCT"}
    if min(sizes.values()) < 1 or sizes["Z"] * sizes["C"] * sizes["T"] > MAX_PLANES:
        _refuse(f"sizes {sizes}")
    area_px = sizes["X"] * sizes["Y"] * sizes["Z"] * sizes["C"] * sizes["T"]
    blocks = [one for one in pixels if one.tag.endswith("TiffData")]
    if len(blocks) > MAX_PLANES:
        _refuse(f"{len(blocks):,} blocks of planes")
    for block in blocks:
        first, planes = int(block.get("IFD", 0)), int(block.get("PlaneCount", block.get("NumPlanes", 0)))
        if not 0 <= planes <= MAX_PLANES or first < 0:
            _refuse(f"{planes} planes from page {first}")
        if first < len(claims.pages_px):
            w, h = claims.pages_px[first]
            if area_px > MAX_PLANES * w * h:
                _refuse(f"sizes {sizes} on pages of {w} x {h} px")


def _refuse(found: str) -> NoReturn:
    raise UnreadableSlideError(f"its OME-XML claims {found}")
