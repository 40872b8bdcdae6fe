"""Which near-duplicates are found on real pixels: slides saved anew with other JPEG quality, and cut out of others.

    python -m benchmarks.duplicates --out scratch/duplicates [--slides 6] [--side-px0 5120] [--quality 40] [SLIDE ...]

Makes synthetic slides, three to a patient and of one stain, and takes the given ones as well (slides to 12,000 px a
side). Of each it writes two more from the decoded pixels: all of it with another quality, and a cut of half its area
whose corner is at no multiple of a tile. Extracts `lite0` features and prints every pair that is found at the stated
rate of false alarms, what was missed, and the nearest that different slides come to a false alarm. What is done is
skipped; removing --out begins anew.
"""

import argparse
import re
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from mil.bag import Bag
from mil.duplicates import FALSE_ALARMS, find_duplicates, sketch
from workflows.extract import extract
from workflows.extraction import ExtractConfig
from workflows.listeners import Listener
from workflows.sources import find_slides
from wsi.slide import Slide, open_slide
from wsi.store import open_stores
from wsi.synthetic import write_slide
from wsi.synthetic.svs import Jpeg, write_svs

LARGEST_PX = 12_000
CORNER = (0.13, 0.17)
CUT = 0.71
"""Side of a cut, of the slide's: half of its area."""


def make(out: Path, slides: int, side_px0: int, given: list[Path], quality: int) -> list[Path]:
    """The slides, and two versions of each; files that are there are kept."""
    out.mkdir(parents=True, exist_ok=True)
    for number in range(slides):
        path = out / f"made{number:02}.svs"
        if not path.exists():
            patient = number // 3
            size = (side_px0, side_px0)
            write_slide(path, seed=number, size_px0=size, grade=2 + patient % 3, tissue=0.6, stain_seed=patient)
    sources = [*sorted(out.glob("made??.svs")), *given]
    found = []
    for source in sources:
        found += [source, out / f"{source.stem}-anew.svs", out / f"{source.stem}-cut.svs"]
        with closing(open_slide(source)) as slide:
            width, height = slide.info.size_px0
            if max(width, height) > LARGEST_PX:
                raise SystemExit(f"{source.name} is {width} x {height} px; this benchmark takes {LARGEST_PX} a side")
            cut = round(width * CORNER[0]), round(height * CORNER[1]), round(width * CUT), round(height * CUT)
            for path, box in zip(found[-2:], ((0, 0, width, height), cut), strict=True):
                if not path.exists():
                    rewrite(slide, path, box, quality)
    return found


def rewrite(slide: Slide, path: Path, box_px0: tuple[int, int, int, int], quality: int) -> None:
    """A rectangle (x, y, w, h) of a slide as a slide of its own."""
    left, top, width, height = box_px0
    pixels = slide.read_region((left, top), 0, (width, height))

    def draw(x: int, y: int, w: int, h: int) -> np.ndarray:
        block = pixels[y : y + h, x : x + w]
        return np.pad(block, ((0, h - block.shape[0]), (0, w - block.shape[1]), (0, 0)), mode="edge")

    mpp = slide.info.require_mpp()[0]
    part = path.with_suffix(".part")
    write_svs(part, path.stem, (width, height), mpp, Jpeg(quality, "4:2:0"), draw)
    part.replace(path)


def main() -> None:
    """Make, extract, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("given", nargs="*", type=Path, metavar="SLIDE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--slides", type=int, default=6)
    parser.add_argument("--side-px0", type=int, default=5120)
    parser.add_argument("--quality", type=int, default=40)
    args = parser.parse_args()
    paths = make(args.out / "slides", args.slides, args.side_px0, args.given, args.quality)
    extract(find_slides(paths), ExtractConfig(args.out / "store"), Listener())
    stores = open_stores(args.out / "store")
    bags = [Bag.from_store(store, "lite0") for store in stores.values()]
    tiles = next(iter(stores.values())).recipe["tiles"]
    start = time.perf_counter()
    sketches = [sketch(bag, tiles["tile_px"] * tiles["mpp"]) for bag in bags]
    pairs = find_duplicates(sketches, np.inf)
    seconds = time.perf_counter() - start
    sizes, compared = [len(bag) for bag in bags], len(bags) * (len(bags) - 1) // 2
    print(f"{len(bags)} slides of {min(sizes)} to {max(sizes)} tiles; {compared} pairs in {seconds:.1f} s")
    others = []
    for pair in pairs:
        same = source_of(pair.first) == source_of(pair.second)
        if same or pair.false_alarms <= FALSE_ALARMS:
            verdict = "found" if pair.false_alarms <= FALSE_ALARMS else "missed"
            print(f"{verdict if same else 'FALSE ALARM'}: {pair}, expected by chance {pair.false_alarms:.1e}")
        if not same:
            others.append(pair.false_alarms)
    near = len(pairs) - len(others)
    print(f"pairs of one section that came nowhere near: {len(bags) - near} of {len(bags)}")
    print(
        f"different slides: {len(others)} came near, the nearest as by chance {min(others, default=np.inf):.1e} times"
    )


def source_of(slide_id: str) -> str:
    """The slide that a version was made of."""
    return re.sub("-(anew|cut)$", "", slide_id)


if __name__ == "__main__":
    main()
