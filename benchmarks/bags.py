"""How fast bags of features are read back, relative to a memory map of the same bytes and to the usual files.

    python benchmarks/bags.py [--rounds 7] [--tiles 51200] [--bags 100] [--folder scratch]

    full     all features of a bag of 51,200 x 1,024 float16
    rows     4,096 random rows of it, in random order
    epoch    100 bags of 5,000 x 1,024 float16, one after the other
    looked   the same, and every value looked at once: what is mapped costs when it is looked at

"memmap" opens `numpy.memmap` for each read and copies what is asked for: what a read must cost. Variants take turns
within a round, all from the page cache; figures are medians of wall-clock time, and of the ratio within a round of
wall-clock and of processor time. "first" has opened and checked nothing yet, as in the first epoch of a process: each
chunk is compared with its CRC-32C, which later reads need not do. "cold" are first reads of files that have been
dropped from the page cache. "mapped" is `keep=False`, which is what a training loop uses; the others are ordinary
arrays. "Bags" are the training loop's: features checked to be finite, with their places.

`.pt` is read as CLAM does (`torch.load`, a bag a file), and with `mmap=True`; h5 (1, D) is TRIDENT's layout. None of
them has a checksum. h5py takes part where it is installed; its epochs are every tenth bag, times ten. 3 GB of disk.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import zarr

from mil.bag import StoreBags
from mil.packing import Packing
from mil.testing import toy_card, write_store
from wsi import chunk_reader
from wsi.store import FeatureStore

DIM = 1024
BAG_TILES = 5000
SPARSE = 10
"""h5 epochs take every tenth bag."""
H5_CHUNK_ROWS = (1, 32)
PT = "torch.load of .pt"
Rows = np.ndarray | None
Read = Callable[[Rows], np.ndarray]
Figures = dict[str, list[tuple[float, float]]]


def noise(tiles: int, seed: int) -> np.ndarray:
    """Features (tiles, 1024) float16."""
    return np.random.default_rng(seed).standard_normal((tiles, DIM), dtype=np.float32).astype(np.float16)


@contextmanager
def new_process() -> Iterator[None]:
    """What a process that has just begun knows of chunks, which is nothing; afterwards what was known before."""
    known = chunk_reader._CHECKED, chunk_reader._MAPS
    chunk_reader._CHECKED = chunk_reader._Recent(chunk_reader.REMEMBERED_CHUNKS)
    chunk_reader._MAPS = chunk_reader._Recent(chunk_reader.MAPPED_CHUNKS)
    try:
        yield
    finally:
        chunk_reader._CHECKED, chunk_reader._MAPS = known


def drop(path: Path) -> None:
    """Put the files below a path out of the page cache."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def of_memmap(path: Path, tiles: int) -> Read:
    """The bytes of the features and nothing else, mapped anew for each read."""

    def read(rows: Rows) -> np.ndarray:
        mapped = np.memmap(path, np.float16, "r", shape=(tiles, DIM))
        return np.array(mapped) if rows is None else np.asarray(mapped[rows])

    return read


def of_store(path: Path, *, keep: bool = True) -> Read:
    """This project's store, opened once."""
    store = FeatureStore(path)
    return lambda rows: store.features("made-up", rows, keep=keep)


def of_new_store(path: Path, *, keep: bool = True) -> Read:
    """This project's store, opened for each read by a process that has read nothing yet."""

    def read(rows: Rows) -> np.ndarray:
        with new_process():
            return FeatureStore(path).features("made-up", rows, keep=keep)

    return read


def of_zarr(path: Path) -> Read:
    """The array through Zarr."""
    array = zarr.open_array(path, mode="r")
    return lambda rows: np.asarray(array[...] if rows is None else array.oindex[rows])


def of_h5(path: Path) -> Read:
    """A data set of h5py; it takes rows in ascending order only, and they are put into the order asked for."""
    import h5py

    def read(rows: Rows) -> np.ndarray:
        with h5py.File(path) as file:
            if rows is None:
                return np.asarray(file["features"][...])
            order = np.argsort(rows)
            values = np.empty((len(rows), DIM), np.float16)
            values[order] = file["features"][rows[order]]
            return values

    return read


def of_pt(path: Path, *, mapped: bool = False) -> Read:
    """A tensor that torch saved."""

    def read(rows: Rows) -> np.ndarray:
        values = torch.load(path, weights_only=True, mmap=mapped).numpy()
        return values if rows is None else values[rows]

    return read


def write_h5(path: Path, values: np.ndarray, chunk_rows: int) -> None:
    """As TRIDENT and CLAM write features: in chunks, without compression or checksum."""
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=values, chunks=(chunk_rows, DIM))


def timed(read: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall-clock and of processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    read()
    return time.perf_counter() - wall, time.process_time() - processor


def in_turn(reads: dict[str, Callable[[], object]], rounds: int) -> Figures:
    """Seconds by variant and round, in another order each round, because what was freed last is quick to allocate.

    The first round warms the page cache and does not count.
    """
    found: Figures = {name: [] for name in reads}
    for number in range(rounds + 1):
        for name in np.random.default_rng(number).permutation(list(reads)).tolist():
            seconds = timed(reads[name])
            if number:
                found[name].append(seconds)
    return found


def ratio(found: Figures, over: str, under: str, part: int = 0) -> float:
    """Median over the rounds of the ratio of two variants, wall-clock (0) or processor time (1)."""
    return statistics.median(one[part] / two[part] for one, two in zip(found[over], found[under], strict=True))


def show(title: str, found: Figures, base: str = "memmap") -> None:
    """A table of times and ratios."""
    print(f"\n{title}\n{'':34}{'median':>12}{'wall':>12}{'processor':>12}")
    for name, seconds in found.items():
        median_ms = statistics.median(wall for wall, _ in seconds) * 1e3
        print(f"{name:34}{median_ms:9.2f} ms{ratio(found, name, base):10.2f} x{ratio(found, name, base, 1):10.2f} x")


def one_bag(folder: Path, tiles: int, rounds: int) -> None:
    """A bag of many tiles: all of it, and random rows."""
    values = noise(tiles, 0)
    plain, packed = folder / "bag.bin", folder / "packed.zarr"
    values.tofile(plain)
    store = write_store(folder, "bag", values, toy_card(dim=DIM)).path
    zarr.create_array(packed, shape=values.shape, dtype=values.dtype, chunks=(512, DIM))[...] = values
    reads: dict[str, Read] = {
        "memmap": of_memmap(plain, tiles),
        "histograde": of_store(store),
        "histograde, first": of_new_store(store),
        "histograde, mapped": of_store(store, keep=False),
        "histograde, mapped, first": of_new_store(store, keep=False),
        "the same store through zarr": of_zarr(store / "features/made-up/values"),
        "zarr, zstd (its default)": of_zarr(packed),
    }
    for chunk_rows in H5_CHUNK_ROWS if find_spec("h5py") else ():
        write_h5(folder / f"bag-{chunk_rows}.h5", values, chunk_rows)
        reads[f"h5 ({chunk_rows}, D)"] = of_h5(folder / f"bag-{chunk_rows}.h5")
    some = np.random.default_rng(1).choice(tiles, min(4096, tiles), replace=False)
    for name, rows in (("all rows", None), (f"{len(some):,} random rows", some)):
        for variant, read in reads.items():
            if not np.array_equal(read(rows), values if rows is None else values[rows]):
                raise SystemExit(f"{variant} read other numbers than were written")
        title = f"{name} of {tiles:,} x {DIM} float16, {rounds} rounds"
        show(
            title,
            in_turn({variant: lambda read=read, rows=rows: read(rows) for variant, read in reads.items()}, rounds),
        )
        cold: Figures = {"memmap": [], "histograde, first": []}
        for _ in range(rounds):
            for variant in cold:
                drop(plain if variant == "memmap" else store)
                cold[variant].append(timed(lambda variant=variant, rows=rows: reads[variant](rows)))
        show(f"{name}, cold", cold)


def write_epoch(folder: Path, bags: int) -> list[Path]:
    """The same bag many times in each layout: `0.bin`, `0.pt`, every tenth as h5; gives the stores."""
    values = noise(BAG_TILES, 2)
    first = write_store(folder / "stores", "0", values, toy_card(dim=DIM)).path
    for number in range(bags):
        values.tofile(folder / f"{number}.bin")
        torch.save(torch.from_numpy(values), folder / f"{number}.pt")
        if number:
            shutil.copytree(first, first.with_name(f"{number}.zarr"))
    for chunk_rows in H5_CHUNK_ROWS if find_spec("h5py") else ():
        for number in range(0, bags, SPARSE):
            write_h5(folder / f"{number}-{chunk_rows}.h5", values, chunk_rows)
    return [first.with_name(f"{number}.zarr") for number in range(bags)]


def look(values: np.ndarray) -> None:
    """Look at each value once, at the least cost there is."""
    values.reshape(-1).view(np.int64).max()


def epoch_of(reads: list[Read], use: Callable[[np.ndarray], None]) -> Callable[[], None]:
    """Read bag after bag and use each."""

    def epoch() -> None:
        for read in reads:
            use(read(None))

    return epoch


def as_bags(stores: list[Path] | StoreBags) -> Callable[[], None]:
    """The training loop's bags, from stores that are open, or that a new process opens."""

    def epoch() -> None:
        with nullcontext() if isinstance(stores, StoreBags) else new_process():
            bags = stores if isinstance(stores, StoreBags) else opened_bags(stores)
            for number in range(len(bags)):
                bags[number]

    return epoch


def opened_bags(stores: list[Path]) -> StoreBags:
    """Bags of which none is kept in memory."""
    return StoreBags([FeatureStore(path) for path in stores], "made-up", cache_bytes=0)


def epochs(folder: Path, bags: int, rounds: int) -> None:
    """Bag after bag, each dropped before the next is read."""
    stores = write_epoch(folder, bags)
    numbers = range(bags)
    files: dict[str, list[Read]] = {
        "memmap": [of_memmap(folder / f"{number}.bin", BAG_TILES) for number in numbers],
        PT: [of_pt(folder / f"{number}.pt") for number in numbers],
        f"{PT}, mmap=True": [of_pt(folder / f"{number}.pt", mapped=True) for number in numbers],
        "histograde": [of_store(path) for path in stores],
        "histograde, first": [of_new_store(path) for path in stores],
        "histograde, mapped": [of_store(path, keep=False) for path in stores],
        "histograde, mapped, first": [of_new_store(path, keep=False) for path in stores],
        "the same stores through zarr": [of_zarr(path / "features/made-up/values") for path in stores],
    }
    for chunk_rows in H5_CHUNK_ROWS if find_spec("h5py") else ():
        files[f"h5 ({chunk_rows}, D)"] = [of_h5(folder / f"{n}-{chunk_rows}.h5") for n in range(0, bags, SPARSE)]
    bags_before, bags_first = as_bags(opened_bags(stores)), as_bags(stores)
    for use, said in ((lambda values: None, "read"), (look, "read, every value looked at")):
        reads = {name: epoch_of(one, use) for name, one in files.items()}
        reads |= {"histograde, as Bags": bags_before, "histograde, as Bags, first": bags_first}
        found = in_turn(reads, rounds)
        for name in found:
            if name.startswith("h5"):
                scale = bags / len(files[name])
                found[name] = [(wall * scale, processor * scale) for wall, processor in found[name]]
        show(f"{said}: an epoch over {bags} bags of {BAG_TILES:,} x {DIM} float16, {rounds} rounds", found)
        compare(found)
    drawn_epochs(files[PT], opened_bags(stores), rounds)


def compare(found: Figures) -> None:
    """How many times as fast as the usual files."""
    ours = [name for name in found if name.startswith("histograde")]
    usual = [name for name in found if name.startswith(("h5", PT))]
    print(f"\n{'times as fast, wall and processor':34}" + "".join(f"{name:>28}" for name in usual))
    for name in ours:
        cells = (f"{ratio(found, one, name):.2f} x {ratio(found, one, name, 1):7.2f} x" for one in usual)
        print(f"{name:34}" + "".join(f"{cell:>28}" for cell in cells))


def drawn_epochs(tensors: list[Read], bags: StoreBags, rounds: int) -> None:
    """An epoch of training: some tiles of each bag, as batches of float32."""

    def batches() -> None:
        for _ in Packing().epoch(bags, np.zeros(len(bags), np.int64), 0, 0):
            pass

    def of_tensors() -> None:
        rng = np.random.default_rng(0)
        for read in tensors:
            torch.from_numpy(read(np.sort(rng.choice(BAG_TILES, Packing().bag_tiles, replace=False)))).float()

    found = in_turn({PT: of_tensors, "histograde": batches}, rounds)
    show(f"{Packing().bag_tiles} tiles of each bag as float32, {rounds} rounds", found, PT)


def main() -> None:
    """Write the files, read them in turn, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tiles", type=int, default=51200, help="tiles of the large bag")
    parser.add_argument("--bags", type=int, default=100, help="bags of an epoch")
    parser.add_argument("--folder", type=Path, help="where to make the files; default is the system's temporary folder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"cores: {len(os.sched_getaffinity(0))}, load {os.getloadavg()[0]:.1f}")
    if not find_spec("h5py"):
        print("h5py: not installed, left out")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        one_bag(Path(folder), args.tiles, args.rounds)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        epochs(Path(folder), args.bags, args.rounds)
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
