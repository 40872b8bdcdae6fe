"""How much of the tile reader's own rate the whole extraction keeps, and in how much memory.

    python benchmarks/extracting.py [--sides 40000,100000] [--rounds 5] [--encoder toy] [SLIDE ...]

Draws slides (40x, JPEG tiles of 256 px) and measures on each, in turns and each time in a new process:

    reader   `TileReader` over all tiles of the grid with a thread a core, pixels thrown away
    extract  `extract()` with the same number of cores: hash, tissue, grid, tiles, encoder, store, run.json

Tiles per second are tiles of 224 px at 0.5 um/px over the wall-clock time of the call; imports and the drawing are not
in it. With the encoder `toy` (mean colours) reading is nearly all there is. Memory is the peak of the process (RSS).
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, redirect_stderr
from pathlib import Path

MPP = 0.25


def read_all(path: Path, store: Path) -> tuple[int, float]:
    """Tiles read and seconds, of the reader alone; the grid is that of a store which an extraction left."""
    from wsi.slide import open_slide
    from wsi.store import FeatureStore, store_path
    from wsi.threads import usable_cores
    from wsi.tiles import TileReader

    published = FeatureStore(store_path(store, path.stem))
    with closing(open_slide(path, content_hash=published.slide.content_hash)) as slide:
        grid = published.grid
        start = time.perf_counter()
        batches = TileReader(slide, grid).batches(range_of(len(grid)), 64, threads=usable_cores())
        count = sum(len(batch.rows) for batch in batches)
        return count, time.perf_counter() - start


def range_of(count: int):
    """Rows of a grid."""
    import numpy as np

    return np.arange(count)


def extract_all(path: Path, store: Path, encoder: str) -> tuple[int, float]:
    """Tiles extracted and seconds, from the call to `run.json`."""
    import distributed  # noqa: F401  the imports are not what is measured

    from workflows.extract import extract
    from workflows.extraction import ExtractConfig
    from workflows.sources import find_slides
    from workflows.worker import check_encoder_takes

    config = ExtractConfig(store=store, encoder=encoder)
    check_encoder_takes(config)
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        start = time.perf_counter()
        summary = extract(find_slides([path]), config)
        seconds = time.perf_counter() - start
    if summary.quarantined:
        raise SystemExit(summary.text(store))
    return summary.tiles, seconds


def measure(what: str, path: Path, store: Path, encoder: str) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--measure", what, "--slide", str(path), "--store", str(store)]
    done = subprocess.run([*command, "--encoder", encoder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def draw(side: int, folder: Path) -> Path:
    """A slide, mostly tissue; of a very large one little is, so that it is drawn in minutes."""
    from wsi.synthetic import write_slide

    path = folder / f"slide-{side}.svs"
    write_slide(path, seed=1, size_px0=(side, side), mpp=MPP, tissue=0.9 if side <= 40_000 else 0.05)
    return path


def compare(path: Path, rounds: int, encoder: str, folder: Path) -> None:
    """Measure on one slide, and print."""
    found: dict[str, list[dict[str, float]]] = {"reader": [], "extract": []}
    measure("extract", path, folder / path.stem, encoder)  # warms the page cache, and leaves the grid
    for number in range(rounds):
        found["reader"].append(measure("reader", path, folder / path.stem, encoder))
        found["extract"].append(measure("extract", path, folder / f"{path.stem}-{number}", encoder))
    rates = {name: statistics.median(one["tiles"] / one["seconds"] for one in many) for name, many in found.items()}
    print(f"\n{path.name}, {path.stat().st_size / 1e6:,.0f} MB, {found['reader'][0]['tiles']:,} tiles")
    for name, many in found.items():
        peaks = max(one["peak_mb"] for one in many)
        print(f"  {name:8} {rates[name]:8,.0f} tiles/s   peak memory {peaks:5,.0f} MB")
    print(f"  extract / reader {rates['extract'] / rates['reader']:.0%}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", default="40000,100000", help="sides of the slides in level-0 pixels")
    parser.add_argument("slides", nargs="*", type=Path, metavar="SLIDE", help="slides to measure on, instead of drawn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--encoder", default="toy")
    parser.add_argument("--measure", choices=("reader", "extract"), help=argparse.SUPPRESS)
    parser.add_argument("--slide", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        call = read_all if args.measure == "reader" else lambda *where: extract_all(*where, args.encoder)
        tiles, seconds = call(args.slide, args.store)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"tiles": tiles, "seconds": seconds, "peak_mb": peak_mb}))
        return
    with tempfile.TemporaryDirectory() as folder:
        drawn = (draw(int(side), Path(folder)) for side in args.sides.split(","))
        for path in args.slides or drawn:
            compare(path, args.rounds, args.encoder, Path(folder))


if __name__ == "__main__":
    main()
