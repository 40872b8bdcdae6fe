"""What a second worker process gains: tiles per second of `extract --workers 2` over `--workers 1`.

    python benchmarks/workers.py [--encoders toy,timm:mobilenetv3_small_050] [--slides 3] [--side 12000] [--rounds 5]

Draws slides (40x, JPEG tiles of 256 px, mostly tissue) and extracts all of them with one and with two worker processes
in turns, each time into new stores. Tiles are counted from the moment at which each worker has its first chunks done
until the last ones, so that starting processes, importing torch and loading the encoder are outside of the clock: over
a night they are nothing, over this benchmark they would be most. "bare" is what the two cores give to two processes
that do nothing but decode, over one: the most that can be had here at this moment.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr
from pathlib import Path

MPP = 0.25
Rates = dict[tuple[str, int], list[float]]


def draw(folder: Path, slides: int, side: int) -> None:
    """Slides of their own tissue each."""
    from wsi.synthetic import write_slide

    folder.mkdir()
    for number in range(slides):
        write_slide(folder / f"slide-{number}.svs", seed=number, size_px0=(side, side), mpp=MPP, tissue=0.9)


def extraction_rate(folder: Path, store: Path, encoder: str, weights: Path | None, workers: int) -> float:
    """Tiles per second once every worker is under way."""
    from workflows.extract import extract
    from workflows.extraction import ExtractConfig
    from workflows.listeners import ChunkDone, Listener
    from workflows.sources import find_slides

    ends: list[tuple[float, int]] = []

    class Clock(Listener):
        def chunk(self, done: ChunkDone) -> None:
            ends.append((time.perf_counter(), done.tiles + done.bad))

    config = ExtractConfig(store, encoder=encoder, weights=weights, workers=workers, chunk_tiles=128)
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        summary = extract(find_slides([folder]), config, Clock())
    if summary.quarantined:
        raise SystemExit(summary.text(store))
    first, last = 2 * workers, len(ends) - workers  # begun and ended by all of them
    if last - first < 4 * workers:
        raise SystemExit(f"{len(ends)} chunks are too few to measure {workers} workers; use a larger --side")
    return sum(tiles for _, tiles in ends[first:last]) / (ends[last - 1][0] - ends[first - 1][0])


SPIN = """
import sys, time
import simplejpeg
data = open(sys.argv[1], "rb").read()
end, count = time.perf_counter() + 2.0, 0
while time.perf_counter() < end:
    simplejpeg.decode_jpeg(data)
    count += 1
print(count)
"""


def bare_rate(picture: Path, processes: int) -> float:
    """Pictures decoded per second by so many processes together."""
    command = [sys.executable, "-c", SPIN, str(picture)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return sum(int(one.communicate()[0]) for one in running) / 2.0


def random_weights(architecture: str, folder: Path) -> Path:
    """A file of random weights, seeded: speed does not depend on them."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = folder / f"{architecture}.safetensors"
    model = timm.create_model(architecture, pretrained=False)
    save_file(model.state_dict(), path)
    return path


def main() -> None:
    """Measure in turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", default="toy,timm:mobilenetv3_small_050")
    parser.add_argument("--slides", type=int, default=3)
    parser.add_argument("--side", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    encoders = args.encoders.split(",")
    found: Rates = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "slides"
        draw(folder, args.slides, args.side)
        picture = Path(scratch) / "picture.jpg"
        _save_picture(picture)
        weights = {
            one: random_weights(one.removeprefix("timm:"), Path(scratch)) if one.startswith("timm:") else None
            for one in encoders
        }
        for number in range(args.rounds):
            for encoder in encoders:
                for workers in (1, 2):
                    store = Path(scratch) / f"{number}-{encoder.replace(':', '-')}-{workers}"
                    rate = extraction_rate(folder, store, encoder, weights[encoder], workers)
                    found.setdefault((encoder, workers), []).append(rate)
            for processes in (1, 2):
                found.setdefault(("bare", processes), []).append(bare_rate(picture, processes))
    print(f"medians of {args.rounds} rounds")
    for name in (*encoders, "bare"):
        one, two = (statistics.median(found[name, count]) for count in (1, 2))
        gains = statistics.median(b / a for a, b in zip(found[name, 1], found[name, 2], strict=True))
        print(f"  {name:32} one {one:8,.1f}/s   two {two:8,.1f}/s   gain {gains:.2f} x")


def _save_picture(path: Path) -> None:
    import numpy as np
    import simplejpeg

    pixels = np.kron(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
    path.write_bytes(simplejpeg.encode_jpeg(pixels, quality=80, colorsubsampling="420"))


if __name__ == "__main__":
    main()
