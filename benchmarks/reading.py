"""How fast tiles are read, relative to the usual way and to the limit that the decoder sets.

    python benchmarks/reading.py [--side 16384] [--tiles 1024] [--rounds 7] [--subsampling 4:2:0,4:2:2]

Draws a slide (40x, JPEG tiles of 256 px, levels 1, 4, 16, tissue nearly everywhere) and reads the tiles of its middle:

    A  256 px at 0.5 um/px from 0.25, which has no level of that scale
    B  224 px at 0.5 um/px, not aligned to the stored tiles
    C  256 px at level 0
    D  224 px at 0.5 um/px from 0.2457: no whole number, so stored tiles are decoded whole and area-averaged

Variants take turns within a round, on one core and on two; figures are medians of tiles per second and ratios to
OpenSlide + PIL bicubic, which is how TRIDENT and CLAM read. "limit" decodes each stored tile needed once, at the
reduction that the task allows, and does nothing else. pyvips and cuCIM take part where they are installed.
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
TASKS = {
    "A": (TileSpec(256, 0.5, 256), 0.25, 0),
    "B": (TileSpec(224, 0.5, 224), 0.25, 38),
    "C": (TileSpec(256, 0.25, 256), 0.25, 0),
    "D": (TileSpec(224, 0.5, 224), 0.2457, 38),
}
"""Recipe, pixel size that the slide is taken to have, and where the first tile lies (level-0 px)."""

REFERENCE = "OpenSlide + PIL bicubic"
Variant = Callable[[Path, TileGrid, np.ndarray, int], int]


def grid_of(task: str, side_px0: int, tiles: int) -> TileGrid:
    """Whole rows of tiles in the middle of the slide, about as many tiles as asked for."""
    spec, mpp, start = TASKS[task]
    step = spec.stride_px * spec.mpp / mpp
    places = np.rint(np.arange(start, side_px0 - step + 1, step))
    rows = max(2, round(tiles / len(places)))
    first = (len(places) - rows) // 2
    coords = np.stack(np.meshgrid(places, places[first : first + rows]), axis=-1).reshape(-1, 2).astype(np.int32)
    return TileGrid(spec, coords, np.ones(len(coords), np.float32), (step, step))


def ours(path: Path, grid: TileGrid, rows: np.ndarray, threads: int) -> int:
    """The tile reader of this project, with threads of its own."""
    with closing(open_slide(path, reader="jpeg_tiff", content_hash="0")) as slide:
        ahead = 0 if threads == 1 else threads
        return sum(len(batch.rows) for batch in TileReader(slide, grid).batches(rows, 64, threads=ahead))


def in_threads(work: Callable[[Path, TileGrid, np.ndarray], int]) -> Variant:
    """Threads that each take whole rows of tiles, with a handle of their own."""

    def run(path: Path, grid: TileGrid, rows: np.ndarray, threads: int) -> int:
        if threads == 1:
            return work(path, grid, rows)
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(lambda part: work(path, grid, part), np.array_split(rows, threads)))

    return run


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
        step = grid.side_px0[0] / grid.spec.tile_px
        reduce = 2 if step == 2 else 1
        needed = set()
        for x, y in grid.coords[rows].tolist():
            for row in range(y // 256, -(-(y + int(grid.side_px0[1])) // 256)):
                for column in range(x // 256, -(-(x + int(grid.side_px0[0])) // 256)):
                    needed.add(row * stored.columns + column)
        wanted = sorted(needed)
        for start in range(0, len(wanted), 128):
            for data in slide._read_tiles(stored, wanted[start : start + 128]):
                decode_tile(stored, data, reduce)
    return len(rows)


VARIANTS: dict[str, Variant] = {REFERENCE: in_threads(openslide_pil), "tiffslide + area": in_threads(tiffslide_area)}
if find_spec("pyvips"):
    VARIANTS["pyvips + area"] = in_threads(pyvips_area)
if find_spec("cucim"):
    VARIANTS["cuCIM + area"] = in_threads(cucim_area)
VARIANTS |= {"histograde": ours, "limit": in_threads(limit)}

SLOW, SLOW_PART = (REFERENCE, "tiffslide + area"), 6
"""Variants that read only a part of the tiles: a round should take a minute, and the fast ones long enough."""

Rates = dict[tuple[str, str, int], list[float]]
"""Tiles per second of each round by variant, task and cores."""


def measure(path: Path, side_px0: int, tiles: int, rounds: int, cores: list[int]) -> Rates:
    """Everything in turns: tasks, numbers of cores, variants."""
    cv2.setNumThreads(1)
    found: Rates = {}
    for number in range(rounds + 1):
        for task in TASKS:
            grid = grid_of(task, side_px0, tiles)
            for name, variant in VARIANTS.items():
                rows = np.arange(len(grid) // SLOW_PART if name in SLOW else len(grid))
                for count in range(1, min(len(cores), 2) + 1):
                    os.sched_setaffinity(0, cores[:count])
                    start = time.perf_counter()
                    variant(path, grid, rows, count)
                    value = len(rows) / (time.perf_counter() - start)
                    if number:  # the first round warms the page cache
                        found.setdefault((name, task, count), []).append(value)
    os.sched_setaffinity(0, cores)
    return found


def show(title: str, found: Rates, cores: int) -> None:
    """A table of rates and ratios."""
    rate = {key: statistics.median(values) for key, values in found.items()}
    print(
        f"\n{title}, {cores} core{'s' if cores > 1 else ''}\n{'':26}" + "".join(f"{'task ' + one:>22}" for one in TASKS)
    )
    for name in VARIANTS:
        cells = (
            f"{rate[name, task, cores]:8,.0f}/s {rate[name, task, cores] / rate[REFERENCE, task, cores]:5.1f} x"
            for task in TASKS
        )
        print(f"{name:26}" + "".join(f"{cell:>22}" for cell in cells))
    share = (f"{rate['histograde', task, cores] / rate['limit', task, cores]:.0%}" for task in TASKS)
    print(f"{'histograde / limit':26}" + "".join(f"{cell:>22}" for cell in share))
    for name in ("histograde", "limit") if cores > 1 else ():
        pairs = (zip(found[name, task, cores], found[name, task, 1], strict=True) for task in TASKS)
        gains = (statistics.median(many / one for many, one in pair) for pair in pairs)
        print(f"{name + ', two cores / one':26}" + "".join(f"{f'{gain:.2f} x':>22}" for gain in gains))
    sys.stdout.flush()


def main() -> None:
    """Run the tasks and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=16384, help="side of the slide in level-0 pixels")
    parser.add_argument("--tiles", type=int, default=1024, help="tiles in each task, about")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--subsampling", default="4:2:0,4:2:2")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        for subsampling in args.subsampling.split(","):
            path = Path(folder) / f"slide-{subsampling.replace(':', '')}.svs"
            write_slide(path, seed=1, size_px0=(args.side, args.side), mpp=MPP, tissue=0.9, subsampling=subsampling)
            found = measure(path, args.side, args.tiles, args.rounds, cores)
            for count in range(1, min(len(cores), 2) + 1):
                show(f"{subsampling}, medians of {args.rounds} rounds", found, count)


if __name__ == "__main__":
    main()
