"""What an index saves when a folder of thousands of stores is looked at, and what threads save when it is verified.

    python benchmarks/index.py [--stores 2000] [--rounds 5] [--folder scratch]
    python benchmarks/index.py --verify [--large 16] [--rounds 5]

    scan      `open_stores`: every store opened, its description compared with the manifest
    index     `open_cohort` over an index that is fresh: file stamps, and the index itself
    changed   the same after 1 % of the stores have changed
    describe  `read_cohort(rebuild=True)`: what it costs to make the index anew

Each gives every slide_id and where its store lies. Variants take turns within a round; figures are medians, and medians
of the ratio within a round, of wall-clock and of processor time with the files in the page cache. Beside it stands how
many files each opens and folders it lists a store: on a share, where each is waited for, that is what counts.

--verify compares one thread with one a core over stores of 25 MB: whether hashing releases the interpreter's lock.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mil.testing import toy_card, write_store
from wsi.cohort_index import open_cohort, read_cohort
from wsi.index_file import INDEX, STAMPS, write_index
from wsi.store import open_stores
from wsi.store_check import check_store
from wsi.threads import in_order

LONG_AGO_NS = 1_600_000_000_000_000_000
CHANGED_SHARE = 0.01


def make_stores(root: Path, stores: int) -> None:
    """Small stores: one that is written, and its files under other names with another slide_id."""
    first = write_store(root, "s00000", np.zeros((40, 8), np.float32), toy_card(dim=8)).path
    for number in range(1, stores):
        rename_slide(Path(shutil.copytree(first, root / f"s{number:05d}.zarr")), f"s{number:05d}")
    age(root)


def rename_slide(store: Path, slide_id: str) -> None:
    """Write another slide_id into a store, and the manifest that goes with it."""
    from wsi.files import folder_records, write_json

    (store / "zarr.json").write_text((store / "zarr.json").read_text().replace("s00000", slide_id))
    records = {name: one for name, one in folder_records(store).items() if not name.startswith("features/")}
    write_json(store / "manifest.json", {"files": records})


def age(root: Path) -> None:
    """Old time stamps: of a file that has just changed an index is not sure."""
    for path in root.glob("*/**/manifest.json"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))


def touch_some(root: Path, stores: int, number: int) -> None:
    """Change the stamps of some stores; others each time."""
    rng = np.random.default_rng(number)
    for one in rng.choice(stores, max(1, round(stores * CHANGED_SHARE)), replace=False):
        stamp = LONG_AGO_NS + (number + 1) * 10**9
        os.utime(root / f"s{one:05d}.zarr" / "manifest.json", ns=(stamp, stamp))


def refresh(root: Path) -> None:
    """Bring the index up to date."""
    found = read_cohort(root)
    write_index(root, found.rows, found.stamps)


class FileCalls:
    """Counts the files that are opened and the folders that are listed, by the interpreter's audit events."""

    def __init__(self) -> None:
        self.count = 0
        self.on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        self.count += self.on and event in ("open", "os.scandir", "os.listdir")


def seconds_of(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall-clock and of processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def median_of(found: list[tuple[float, float]], part: int) -> float:
    """Median of wall-clock (0) or processor time (1)."""
    return statistics.median(one[part] for one in found)


def median_ratio(over: list[tuple[float, float]], under: list[tuple[float, float]], part: int) -> float:
    """Median over the rounds of the ratio of two variants."""
    return statistics.median(one[part] / other[part] for one, other in zip(over, under, strict=True))


def look_at_stores(root: Path, stores: int, rounds: int) -> None:
    """Time each way to look at a folder of stores."""
    make_stores(root, stores)
    refresh(root)
    ways: dict[str, Callable[[], object]] = {
        "scan": lambda: open_stores(root),
        "index": lambda: open_cohort(root),
        "changed": lambda: open_cohort(root),
        "describe": lambda: read_cohort(root, rebuild=True),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    calls: dict[str, int] = {}
    counter = FileCalls()
    for number in range(rounds + 1):
        for name in np.random.default_rng(number).permutation(list(ways)).tolist():
            if name == "changed":
                touch_some(root, stores, number)
            counter.count, counter.on = 0, number == 0
            spent = seconds_of(ways[name])
            counter.on = False
            if number:
                found[name].append(spent)
            else:
                calls[name] = counter.count
            if name == "changed":
                refresh(root)
    if list(open_cohort(root)) != list(open_stores(root)):
        raise SystemExit("the index names other slides than the stores")
    size = (root / INDEX).stat().st_size + (root / STAMPS).stat().st_size
    print(f"\n{stores:,} stores, index {size / 1e6:.2f} MB, {rounds} rounds")
    print(f"{'':10}{'median':>12}{'processor':>12}{'scan takes':>14}{'processor':>12}{'files a store':>16}")
    for name, spent in found.items():
        wall, processor = (median_of(spent, part) for part in (0, 1))
        ratios = f"{median_ratio(found['scan'], spent, 0):12.1f} x{median_ratio(found['scan'], spent, 1):10.1f} x"
        print(f"{name:10}{wall:10.3f} s{processor:10.3f} s{ratios}{calls[name] / stores:16.2f}")


def verify_stores(root: Path, stores: int, rounds: int) -> None:
    """Time `verify` on one thread and on one a core."""
    values = np.random.default_rng(0).standard_normal((12_000, 1024), dtype=np.float32)
    first = write_store(root, "s00000", values, toy_card(dim=1024)).path
    for number in range(1, stores):
        shutil.copytree(first, root / f"s{number:05d}.zarr")
    paths = sorted(root.glob("*.zarr"))
    size = sum(one.stat().st_size for one in root.rglob("*") if one.is_file())
    found: dict[int, list[tuple[float, float]]] = {1: [], 0: []}
    for number in range(rounds + 1):
        for threads in sorted(found, reverse=bool(number % 2)):
            spent = seconds_of(lambda threads=threads: list(in_order(check_store, paths, threads)))
            if number:
                found[threads].append(spent)
    ratio = median_ratio(found[1], found[0], 0)
    rates = [size / 1e6 / median_of(found[threads], 0) for threads in (1, 0)]
    print(f"\nverify, {stores} stores of {size / stores / 1e6:.0f} MB: one thread {rates[0]:.0f} MB/s, ", end="")
    print(f"one a core {rates[1]:.0f} MB/s, {ratio:.2f} x")


def main() -> None:
    """Make the stores, take the times, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stores", type=int, default=2000)
    parser.add_argument("--large", type=int, default=16, help="stores for --verify")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--verify", action="store_true", help="measure verify's threads instead")
    parser.add_argument("--folder", type=Path, help="where to make the files; default is the system's temporary folder")
    args = parser.parse_args()
    print(f"cores: {len(os.sched_getaffinity(0))}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        if args.verify:
            verify_stores(Path(folder), args.large, args.rounds)
        else:
            look_at_stores(Path(folder), args.stores, args.rounds)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
