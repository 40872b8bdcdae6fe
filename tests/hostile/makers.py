"""Makers of small slides with known pixels, and of files that no program should be handed."""

from pathlib import Path

import cv2
import numpy as np
import tifffile

THUMBNAIL_PX = 200


def tissue_pixels(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A picture (H, W, 3) uint8 of glass with one piece of tissue: purple spots on pink, 90 % of either side."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    inside = ((x - width / 2) / (0.45 * width)) ** 2 + ((y - height / 2) / (0.45 * height)) ** 2 < 1
    spots = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), 4) * 12
    weight = np.clip(spots, 0, 1)[..., None]
    stained = (1 - weight) * np.array([225, 150, 190]) + weight * np.array([95, 60, 140])
    stained += rng.normal(0, 4, (height, width, 1))
    return np.where(inside[..., None], np.clip(stained, 0, 255), 243).astype(np.uint8)


def reduced(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Area average by a whole factor; what is left over at the far edges is cut off, as scanners do."""
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    blocks = pixels[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)


def write_svs(
    path: Path,
    pixels: np.ndarray,
    *,
    mpp: str | None = "0.5",
    factors: tuple[int, ...] = (4,),
    compression: str = "jpeg",
    tile_px: int = 256,
) -> Path:
    """An Aperio-style SVS: level 0, a thumbnail, then the coarser levels. "deflate" keeps the pixels exactly."""
    height, width = pixels.shape[:2]
    description = f"Aperio Image Library v12.0.15\r\n{width}x{height} [0,0 {width}x{height}] (256x256) JPEG/RGB Q=90"
    description += "|AppMag = 20" + (f"|MPP = {mpp}" if mpp is not None else "")
    common = {"photometric": "rgb", "compression": compression, "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tile = (tile_px, tile_px)
        tiff.write(pixels, description=description, tile=tile, **common)
        small = cv2.resize(pixels, (THUMBNAIL_PX, THUMBNAIL_PX * height // width), interpolation=cv2.INTER_AREA)
        tiff.write(small, description=description, rowsperstrip=16, **common)
        for factor in factors:
            tiff.write(reduced(pixels, factor), description=description, subfiletype=0, tile=tile, **common)
    return path


def write_tiff(path: Path, pixels: np.ndarray, mpp: tuple[float, float]) -> Path:
    """A generic tiled TIFF of one level; the resolution tags say `mpp` (0 for none)."""
    resolution = tuple(1e4 / side if side else 0 for side in mpp)
    tiff = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg", "metadata": None}
    tifffile.imwrite(path, pixels, resolution=resolution, resolutionunit="CENTIMETER", **tiff)
    return path


def stored_tile(path: Path, level: int, column: int, row: int) -> tuple[int, int]:
    """Offset and length in the file of a stored tile."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.series[0].levels[level].pages[0]
        number = row * -(-page.imagewidth // page.tilewidth) + column
        return int(page.dataoffsets[number]), int(page.databytecounts[number])


def damage_tile(path: Path, level: int, column: int, row: int) -> None:
    """Overwrite the head of a stored tile, so that no decoder takes it."""
    offset, length = stored_tile(path, level, column, row)
    overwrite(path, offset, b"\0" * min(length, 512))


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Put bytes into a file."""
    with path.open("r+b") as handle:
        handle.seek(offset)
        handle.write(data)


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Flip one bit of a file."""
    data = path.read_bytes()
    overwrite(path, offset, bytes([data[offset] ^ (1 << bit)]))


def claim_size(path: Path, width: int, height: int) -> None:
    """Make the first page of a TIFF claim another size than it has."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page = tiff.pages[0]
        page.tags["ImageWidth"].overwrite(width)
        page.tags["ImageLength"].overwrite(height)
