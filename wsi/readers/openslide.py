"""OpenSlide: SVS, NDPI, MRXS, SCN, BIF, generic tiled TIFF, DICOM and more."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import openslide
from PIL import Image

from wsi.errors import TileReadError, UnreadableSlideError
from wsi.slide import SlideInfo


class AssociatedImages(Mapping[str, np.ndarray]):
    """Label, macro and thumbnail, each decoded to (H, W, 3) uint8 when it is looked up."""

    def __init__(self, images: Mapping[str, Image.Image]):
        self._images = images

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return np.asarray(self._images[name].convert("RGB"))
        except openslide.OpenSlideError as error:
            raise TileReadError(f"associated image {name!r} cannot be decoded: {error}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)


def properties_info(
    properties: Mapping[str, object], prefix: str, sizes: list[tuple[int, int]], reader: str
) -> SlideInfo:
    """A `SlideInfo` from properties as OpenSlide names them, under the reader's own prefix.

    `mpp_source` names the vendor's property where it is known, so that a wrong value can be traced.
    """

    def number(key: str) -> float | None:
        try:
            return float(str(properties[f"{prefix}.{key}"]))
        except (KeyError, ValueError):
            return None

    mpp_x, mpp_y = number("mpp-x"), number("mpp-y")
    vendor = str(properties.get(f"{prefix}.vendor") or "unknown")
    known = mpp_x is not None and mpp_y is not None
    bounds = [number(f"bounds-{key}") for key in ("x", "y", "width", "height")]
    whole = (0, 0, *sizes[0])
    return SlideInfo(
        slide_id="",
        reader=reader,
        vendor=vendor,
        level_sizes_px=tuple((int(w), int(h)) for w, h in sizes),
        downsamples=tuple((sizes[0][0] / w + sizes[0][1] / h) / 2 for w, h in sizes),
        mpp=(mpp_x, mpp_y) if mpp_x is not None and mpp_y is not None else None,
        mpp_source=mpp_property(vendor) if known else "none",
        objective_power=number("objective-power"),
        bounds_px0=_inside(bounds, whole),
        content_hash="",
    )


def mpp_property(vendor: str) -> str:
    """Where a vendor's files keep the pixel size."""
    known = {
        "aperio": "aperio.MPP",
        "hamamatsu": "the TIFF resolution tags",
        "generic-tiff": "the TIFF resolution tags",
        "mirax": "Slidedat.ini",
        "dicom": "DICOM PixelSpacing",
    }
    return known.get(vendor, f"{vendor} metadata")


def _inside(bounds: list[float | None], whole: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    if any(value is None for value in bounds):
        return whole
    x, y, w, h = (int(value) for value in bounds if value is not None)
    x, y = max(0, x), max(0, y)
    w, h = min(w, whole[2] - x), min(h, whole[3] - y)
    return (x, y, w, h) if w > 0 and h > 0 else whole


class OpenSlideReader:
    """A slide through the OpenSlide C library, which releases the GIL and lets threads share one handle.

    After one failed read OpenSlide refuses all further ones on the same handle, so the handle is opened anew.
    """

    def __init__(self, path: Path):
        self._path = _entry(path)
        self._lock = threading.Lock()
        try:
            self._slide = openslide.OpenSlide(str(self._path))
        except (openslide.OpenSlideError, OSError) as error:
            raise UnreadableSlideError(str(error) or "not a format that OpenSlide knows") from error
        self.info = properties_info(
            self._slide.properties, "openslide", list(self._slide.level_dimensions), "openslide"
        )

    @property
    def associated_images(self) -> Mapping[str, np.ndarray]:
        return AssociatedImages(self._slide.associated_images)

    def read_region(self, location_px0: tuple[int, int], level: int, size_px: tuple[int, int]) -> np.ndarray:
        slide = self._slide
        try:
            region = slide.read_region(location_px0, level, size_px)
        except openslide.OpenSlideError as error:
            self._reopen(slide)
            raise TileReadError(f"level {level} at {location_px0}: {error}") from error
        return over_white(np.asarray(region))

    def _reopen(self, broken: openslide.OpenSlide) -> None:
        with self._lock:
            if self._slide is broken:
                self._slide = openslide.OpenSlide(str(self._path))

    def close(self) -> None:
        self._slide.close()


def over_white(rgba: np.ndarray) -> np.ndarray:
    """Lay (H, W, 4) uint8 pixels with straight alpha on white; opaque ones, nearly all, are only copied."""
    rgb = np.ascontiguousarray(rgba[..., :3])
    alpha = rgba[..., 3]
    if alpha.min() < 255:
        share = alpha[..., None].astype(np.float32) / 255
        rgb = np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)
    return rgb


def _entry(path: Path) -> Path:
    """The file to hand to OpenSlide: for a DICOM folder any instance of its pyramid."""
    if not path.is_dir():
        return path
    tried = 0
    for file in sorted(part for part in path.iterdir() if part.is_file()):
        if openslide.OpenSlide.detect_format(str(file)):
            tried += 1
            try:
                openslide.OpenSlide(str(file)).close()
            except openslide.OpenSlideError:
                continue
            return file
    raise UnreadableSlideError(f"the folder holds no DICOM slide that OpenSlide can open ({tried} instances tried)")
