"""OpenSlide: SVS, NDPI, MRXS, SCN, BIF, generic tiled TIFF, DICOM and more."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import openslide
from PIL import Image

from wsi.errors import TileReadError, UnreadableSlideError
from wsi.readers.tiff_limits import MAX_PICTURE_PX, check_tiff
from wsi.slide import SlideInfo, slide_files

CACHE_BYTES = 96 << 20


class AssociatedImages(Mapping[str, np.ndarray]):
    """Label, macro and thumbnail, each decoded to (H, W, 3) uint8 when it is looked up."""

    def __init__(self, images: Mapping[str, Image.Image], area_px: Callable[[str], int]):
        self._images, self._area_px = images, area_px

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in list(self._images):  # `in` would decode it
            raise KeyError(name)
        if (area_px := self._area_px(name)) > MAX_PICTURE_PX:
            raise TileReadError(f"associated image {name!r} claims {area_px:,} pixels")
        try:
            return np.asarray(self._images[name].convert("RGB"))
        except KeyError:
            raise
        except Exception as error:  # OpenSlide and the codecs behind tiffslide raise many kinds
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

    def finite(key: str) -> float | None:
        value = number(key)
        return value if value is not None and math.isfinite(value) else None

    mpp_x, mpp_y = number("mpp-x"), number("mpp-y")
    vendor = str(properties.get(f"{prefix}.vendor") or "unknown")
    known = mpp_x is not None and mpp_y is not None
    bounds = [finite(f"bounds-{key}") for key in ("x", "y", "width", "height")]
    whole = (0, 0, *sizes[0])
    return SlideInfo(
        slide_id="",
        reader=reader,
        vendor=vendor,
        level_sizes_px=tuple((int(w), int(h)) for w, h in sizes),
        downsamples=tuple((sizes[0][0] / w + sizes[0][1] / h) / 2 for w, h in sizes),
        mpp=(mpp_x, mpp_y) if mpp_x is not None and mpp_y is not None else None,
        mpp_source=mpp_property(vendor) if known else "none",
        objective_power=finite("objective-power"),
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
        "philips": "philips.DICOM_PIXEL_SPACING",
        "ventana": "ventana.ScanRes",
    }
    return known.get(vendor, "the file's metadata" if vendor == "unknown" else f"{vendor} metadata")


def _inside(bounds: list[float | None], whole: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    if any(value is None for value in bounds):
        return whole
    x, y, w, h = (int(value) for value in bounds if value is not None)
    right, bottom = min(x + w, whole[2]), min(y + h, whole[3])
    x, y = max(0, x), max(0, y)
    return (x, y, right - x, bottom - y) if right > x and bottom > y else whole


class OpenSlideReader:
    """A slide through the OpenSlide C library, which releases the GIL and lets threads share one handle.

    After one failed read OpenSlide refuses all further ones on the same handle, so the handle is opened anew.
    """

    def __init__(self, path: Path):
        self._path = _entry(path)
        check_tiff(self._path)
        self._lock = threading.Lock()
        try:
            self._slide = _opened(self._path)
        except (openslide.OpenSlideError, OSError) as error:
            raise UnreadableSlideError(str(error) or "not a format that OpenSlide knows") from error
        self._downsamples = self._slide.level_downsamples
        self.info = properties_info(
            self._slide.properties, "openslide", list(self._slide.level_dimensions), "openslide"
        )

    @property
    def associated_images(self) -> Mapping[str, np.ndarray]:
        return AssociatedImages(self._slide.associated_images, self._picture_px)

    def _picture_px(self, name: str) -> int:
        sides = (self._slide.properties.get(f"openslide.associated.{name}.{side}", "0") for side in ("width", "height"))
        return math.prod(int(side) for side in sides)

    def read_region(self, location_px0: tuple[int, int], level: int, size_px: tuple[int, int]) -> np.ndarray:
        slide = self._slide
        location_px0 = handle_location(self.info, self._downsamples[level], location_px0, level)
        try:
            region = slide.read_region(location_px0, level, size_px)
        except openslide.OpenSlideError:
            region = self._read_anew(slide, location_px0, level, size_px)
        return over_white(np.asarray(region))

    def _read_anew(
        self, broken: openslide.OpenSlide, location_px0: tuple[int, int], level: int, size_px: tuple[int, int]
    ) -> Image.Image:
        """Try on a handle of its own: what broke the shared one may have been another thread's region."""
        try:
            with self._lock:
                if self._slide is broken:
                    self._slide = _opened(self._path)
            with openslide.OpenSlide(str(self._path)) as own:
                return own.read_region(location_px0, level, size_px)
        except (openslide.OpenSlideError, OSError) as error:
            raise TileReadError(f"level {level}: {error}") from error

    def close(self) -> None:
        self._slide.close()


def _opened(path: Path) -> openslide.OpenSlide:
    slide = openslide.OpenSlide(str(path))
    slide.set_cache(_decoded_tiles())
    return slide


@cache
def _decoded_tiles() -> openslide.OpenSlideCache:
    """One memory of decoded tiles for all slides of a process: OpenSlide's own is 32 MB for each that is open."""
    return openslide.OpenSlideCache(CACHE_BYTES)


def handle_location(info: SlideInfo, downsample: float, location_px0: tuple[int, int], level: int) -> tuple[int, int]:
    """The location that makes OpenSlide or tiffslide start at the level's pixel that is meant.

    Both divide locations by one factor for both axes, the mean ratio of the level sizes, which far from the origin
    is off by pixels where a pyramid cuts off what is left over at its edge.
    """
    if level == 0:
        return location_px0
    x, y = info.level_place(level, location_px0)
    return round(x * downsample), round(y * downsample)


def over_white(rgba: np.ndarray) -> np.ndarray:
    """Lay (H, W, 4) uint8 pixels with straight alpha on white; opaque ones, nearly all, are only copied."""
    rgb = np.ascontiguousarray(rgba[..., :3])
    alpha = rgba[..., 3]
    if alpha.min() == 255:
        return rgb
    clear = alpha == 0
    rgb[clear] = 255
    if ((alpha < 255) & ~clear).any():
        share = alpha[..., None].astype(np.float32) / 255
        rgb = np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)
    return rgb


def _entry(path: Path) -> Path:
    """The file to hand to OpenSlide: for a DICOM folder an instance of its only pyramid."""
    if not path.is_dir():
        return path
    tried = 0
    series: dict[str, Path] = {}
    for file in slide_files(path):
        if openslide.OpenSlide.detect_format(str(file)) == "dicom":
            tried += 1
            try:
                with openslide.OpenSlide(str(file)) as slide:
                    series.setdefault(slide.properties.get("dicom.SeriesInstanceUID", ""), file)
            except openslide.OpenSlideError:
                continue
    if len(series) > 1:
        raise UnreadableSlideError(f"the folder holds {len(series)} DICOM slides; give each a folder of its own")
    if not series:
        raise UnreadableSlideError(f"the folder holds no DICOM slide that OpenSlide can open ({tried} instances tried)")
    return next(iter(series.values()))
