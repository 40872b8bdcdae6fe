"""How fast tiles are read, relative to the usual way and to the limit that the decoder sets.

    python benchmarks/reading.py [--side 8192] [--rounds 7] [--subsampling 4:2:0,4:2:2]

Draws a slide (40x, JPEG tiles of 256 px, levels 1, 4, 16, tissue nearly everywhere) and reads all tiles of three tasks:

    A  256 px at 0.5 um/px from 0.25, which has no level of that scale
    B  224 px at 0.5 um/px, not aligned to the stored tiles
    C  256 px at level 0

Variants take turns within a round, pinned to one core (or two); figures are medians of tiles per second
and ratios to OpenSlide + PIL bicubic, which is how TRIDENT and CLAM read. "limit" decodes each stored tile needed
once, at the reduction that the task allows, and does nothing else. pyvips and cuCIM take part where they are installed.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import openslide
import tiffslide
from PIL import Image

from wsi.readers.jpeg_tiff import JpegTiffReader
from wsi.readers.tile_codecs import decode_tile
from wsi.slide import open_slide
from wsi.synthetic import write_slide
from wsi.tiles import TileGrid, TileReader, TileSpec

MPP = 0.25
TASKS = {"A": TileSpec(256, 0.5, 256), "B": TileSpec(224, 0.5, 224), "C": TileSpec(256, 0.25, 256)}
Variant = Callable[[Path, TileGrid, np.ndarray], int]


def full_grid(side_px0: int, spec: TileSpec) -> TileGrid:
    """Every whole tile of the slide; B starts off the stored grid."""
    step = round(spec.stride_px * spec.mpp / MPP)
    start = 0 if spec.tile_px == 256 else 38
    places = np.arange(start, side_px0 - step + 1, step)
    coords = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2).astype(np.int32)
    return TileGrid(spec, coords, np.ones(len(coords), np.float32), (float(step), float(step)))


def ours(path: Path, grid: TileGrid, rows: np.ndarray) -> int:
    """The tile reader of this project."""
    with closing(open_slide(path, reader="jpeg_tiff", content_hash="0")) as slide:
        return sum(len(batch.rows) for batch in TileReader(slide, grid).batches(rows, 64))


def openslide_pil(path: Path, grid: TileGrid, rows: np.ndarray) -> int:
    """A region a tile at level 0, then a bicubic resize."""
    side, size = round(grid.side_px0[0]), grid.spec.tile_px
    with openslide.OpenSlide(path) as slide:
        for x, y in grid.coords[rows].tolist():
            tile = slide.read_region((x, y), 0, (side, side)).convert("RGB")
            np.asarray(tile if side == size else tile.resize((size, size), Image.Resampling.BICUBIC))
    return len(rows)


def tiffslide_area(path: Path, grid: TileGrid, rows: np.ndarray) -> int:
    """The same through tiffslide, with OpenCV's area resize."""
    side, size = round(grid.side_px0[0]), grid.spec.tile_px
    with tiffslide.TiffSlide(path) as slide:
        for x, y in grid.coords[rows].tolist():
            tile = slide.read_region((x, y), 0, (side, side), as_array=True)
            if side != size:
                cv2.resize(tile, (size, size), interpolation=cv2.INTER_AREA)
    return len(rows)


def pyvips_area(path: Path, grid: TileGrid, rows: np.ndarray) -> int:
    """pyvips with random access and its block shrink."""
    import pyvips

    side, size = round(grid.side_px0[0]), grid.spec.tile_px
    image = pyvips.Image.new_from_file(str(path), access="random")
    region = pyvips.Region.new(image)
    for x, y in grid.coords[rows].tolist():
        data = region.fetch(x, y, side, side)
        tile = np.frombuffer(data, np.uint8).reshape(side, side, -1)[..., :3]
        if side != size:
            cv2.resize(np.ascontiguousarray(tile), (size, size), interpolation=cv2.INTER_AREA)
    return len(rows)


def cucim_area(path: Path, grid: TileGrid, rows: np.ndarray) -> int:
    """cuCIM on the CPU, with OpenCV's area resize."""
    from cucim import CuImage

    side, size = round(grid.side_px0[0]), grid.spec.tile_px
    image = CuImage(str(path))
    for x, y in grid.coords[rows].tolist():
        tile = np.asarray(image.read_region((x, y), (side, side), 0))
        if side != size:
            cv2.resize(tile, (size, size), interpolation=cv2.INTER_AREA)
    return len(rows)


def limit(path: Path, grid: TileGrid, rows: np.ndarray) -> int:
    """Decode the stored tiles under these tiles, once each, and nothing else."""
    with closing(JpegTiffReader(path)) as slide:
        stored = slide.levels[0]
        reduce = 2 if grid.spec.mpp > MPP else 1
        needed = set()
        for x, y in grid.coords[rows].tolist():
            for row in range(y // 256, -(-(y + int(grid.side_px0[1])) // 256)):
                for column in range(x // 256, -(-(x + int(grid.side_px0[0])) // 256)):
                    needed.add(row * stored.columns + column)
        for data in slide._read_tiles(stored, sorted(needed)):
            decode_tile(stored, data, reduce)
    return len(rows)


VARIANTS: dict[str, Variant] = {"OpenSlide + PIL bicubic": openslide_pil, "tiffslide + area": tiffslide_area}
if find_spec("pyvips"):
    VARIANTS["pyvips + area"] = pyvips_area
if find_spec("cucim"):
    VARIANTS["cuCIM + area"] = cucim_area
VARIANTS |= {"histograde": ours, "limit": limit}


def rate(variant: Variant, path: Path, grid: TileGrid, cores: int) -> float:
    """Tiles per second with as many threads as cores; each thread takes whole rows of tiles."""
    parts = np.array_split(np.arange(len(grid)), cores)
    start = time.perf_counter()
    if cores == 1:
        count = variant(path, grid, parts[0])
    else:
        with ThreadPoolExecutor(cores) as pool:
            count = sum(pool.map(lambda rows: variant(path, grid, rows), parts))
    return count / (time.perf_counter() - start)


def measure(path: Path, side_px0: int, rounds: int, cores: int) -> dict[tuple[str, str], float]:
    """Median tiles per second by (variant, task), variants interleaved."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    cv2.setNumThreads(1)
    found: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        for task, spec in TASKS.items():
            grid = full_grid(side_px0, spec)
            for name, variant in VARIANTS.items():
                value = rate(variant, path, grid, cores)
                if number:  # the first round warms the page cache
                    found.setdefault((name, task), []).append(value)
    return {key: statistics.median(values) for key, values in found.items()}


def show(title: str, found: dict[tuple[str, str], float]) -> None:
    """A table of rates and ratios."""
    print(f"\n{title}\n{'':26}" + "".join(f"{'task ' + task:>24}" for task in TASKS))
    for name in VARIANTS:
        cells = (
            f"{found[name, task]:9,.0f}/s {found[name, task] / found['OpenSlide + PIL bicubic', task]:6.1f} x "
            for task in TASKS
        )
        print(f"{name:26}" + "".join(f"{cell:>24}" for cell in cells))
    share = (f"{found['histograde', task] / found['limit', task]:.0%}" for task in TASKS)
    print(f"{'histograde / limit':26}" + "".join(f"{cell:>24}" for cell in share))


def main() -> None:
    """Run the tasks and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=8192, help="side of the slide in level-0 pixels")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--subsampling", default="4:2:0,4:2:2")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        for subsampling in args.subsampling.split(","):
            path = Path(folder) / f"slide-{subsampling.replace(':', '')}.svs"
            write_slide(path, seed=1, size_px0=(args.side, args.side), mpp=MPP, tissue=0.9, subsampling=subsampling)
            one = measure(path, args.side, args.rounds, 1)
            show(f"{subsampling}, one core, medians of {args.rounds} rounds", one)
            os.sched_setaffinity(0, cores)
            if len(cores) > 1:
                two = measure(path, args.side, args.rounds, 2)
                show(f"{subsampling}, two cores", two)
                ratios = (f"{two['histograde', task] / one['histograde', task]:.2f} x" for task in TASKS)
                print(f"{'two cores / one':26}" + "".join(f"{cell:>24}" for cell in ratios))
                os.sched_setaffinity(0, cores)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
