"""How fast a slide becomes features on two cores, relative to LazySlide and TRIDENT.

    python benchmarks/whole_way.py [--side 16384] [--rounds 5] [--tiles N] [--peer-threads N]
        [--peer-python lazyslide=PYTHON] [--peer-python trident=PYTHON]

Draws a slide (40x, JPEG tiles of 256 px, levels 1, 4, 16, tissue nearly everywhere) and takes its tiles, 224 px at 0.5
um/px, through timm's `mobilenetv3_small_050` with the same random weights for everybody. Every run is a process of its
own, pinned to the same two cores; variants take turns within a round; figures are medians.

A peer runs in the Python that is named for it, from opening the slide to features, at the places of our grid, with a
transform that only normalises (LazySlide's default one would resize again and crop): `lazyslide.tl.feature_extraction`
with its batch of 32 and two workers, without writing a store; TRIDENT's `extract_patch_features` with the batch of 64
of its command, with as many workers as it chooses for two cores, and with two. A peer without a Python is rebuilt here
as a region a tile at the best level through OpenSlide, resized and normalised in the workers of a DataLoader.

Ours is `extract` as a command runs it: Dask, hash, tissue, grid, features, published store. "tiles ready" leaves out
hash, tissue and grid, which the peers are given. Imports and loading the model are outside everybody's clock. torch
takes two threads for a peer's model beside its workers; `--peer-threads 1` shows how it does without that contest. CPU
time counts the workers of a DataLoader too. "agreement" is the mean cosine of a peer's features and ours, each less its
mean over the tiles.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

# a peer's Python runs this file as well: what it may lack is imported where it is used
MODEL = "mobilenetv3_small_050"
MPP, MPP0, TILE_PX = 0.5, 0.25, 224
CORES = 2
WARM_TILES = 64
Run = dict[str, Any]
Spent = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Job:
    """What a process is to do; its features go to `out`/features.npy.

    Attributes
    ----------
    drive : str
        Name in `DRIVERS`.
    slide, weights, coords, out : str
        Paths; `coords` is a .npy (N, 2) of places in level-0 px.
    tiles : int
        Only so many of them.
    workers, batch : int
        Of a DataLoader.
    threads : int
        Of torch in a peer; 0 leaves them to torch.
    """

    drive: str
    slide: str
    weights: str
    coords: str
    out: str
    tiles: int = 0
    workers: int = 0
    batch: int = 0
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Variant:
    """A row of the table: a driver, the Python that runs it, and its DataLoader."""

    name: str
    drive: str
    python: str = sys.executable
    workers: int = 0
    batch: int = 0


# --- in a process of its own --------------------------------------------------------------------------------------


def spent_s() -> Spent:
    """Seconds so far by the clock, and of CPU with ended child processes."""
    return time.perf_counter(), sum(os.times()[:4])


def result(job: Job, start: Spent, end: Spent, features: np.ndarray, how: str) -> Run:
    """What a run came to; its features are kept beside it."""
    np.save(Path(job.out) / "features.npy", np.asarray(features, np.float32))
    return {"seconds": end[0] - start[0], "cpu_s": end[1] - start[1], "tiles": len(features), "how": how}


def load_model(job: Job) -> Any:
    """The model without a head, in evaluation mode."""
    import timm
    import torch

    if job.threads:
        torch.set_num_threads(job.threads)
    model = timm.create_model(MODEL, pretrained=False, num_classes=0)
    model.load_state_dict(torch.load(job.weights, weights_only=True))
    return model.eval()


def places(job: Job) -> np.ndarray:
    """Top-left (x, y) of the tiles of a peer, (n, 2) int64 level-0 px."""
    return np.load(job.coords)[: job.tiles].astype(np.int64)


def drive_histograde(job: Job) -> Run:
    """`histograde extract` of one slide into a fresh folder."""
    import distributed  # noqa: F401  its import is not part of the work

    from workflows.extract import extract
    from workflows.extraction import ExtractConfig
    from workflows.sources import find_slides
    from workflows.worker import check_encoder_takes
    from wsi.store import FeatureStore, store_path
    from wsi.tiles import TileSpec

    config = ExtractConfig(
        store=Path(job.out) / "store",
        encoder=f"timm:{MODEL}",
        weights=Path(job.weights),
        tiles=TileSpec(TILE_PX, MPP, TILE_PX),
        device="cpu",
    )
    check_encoder_takes(config)
    start = spent_s()
    summary = extract(find_slides([job.slide]), config)
    end = spent_s()
    if summary.quarantined or summary.bad:
        raise SystemExit(summary.text(config.store))
    store = FeatureStore(store_path(config.store, Path(job.slide).stem))
    np.save(job.coords, store.grid.coords)
    timings = json.loads((config.store / "run.json").read_text())["timings_s"]
    how = "extract, a thread a core"
    return result(job, start, end, store.features(MODEL), how) | {"timings": timings}


def drive_lazyslide(job: Job) -> Run:
    """`feature_extraction` of LazySlide over given tiles."""
    import lazyslide
    import torch
    from lazyslide_models import TimmModel
    from torchvision.transforms import v2
    from wsidata import TileSpec, open_wsi
    from wsidata.io import add_tiles

    model = TimmModel(MODEL, pretrained=False)
    model.model = load_model(job)
    config = model.model.pretrained_cfg
    transform = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(config["mean"], config["std"])]
    )
    coords = places(job)

    start = spent_s()
    wsi = open_wsi(job.slide, store=None)
    opened = spent_s()
    spec = TileSpec.from_wsidata(wsi, tile_px=TILE_PX, mpp=MPP)
    add_tiles(wsi, "tiles", coords, spec, np.zeros(len(coords), int))
    tiled = spent_s()
    start = (start[0] + tiled[0] - opened[0], start[1] + tiled[1] - opened[1])
    features = lazyslide.tl.feature_extraction(
        wsi,
        model,
        transform=transform,
        device="cpu",
        batch_size=job.batch,
        num_workers=job.workers,
        pbar=False,
        return_features=True,
    )
    how = f"LazySlide {lazyslide.__version__}, {wsi.reader.name}, {loader(job)}"
    return result(job, start, spent_s(), features, how)


def drive_trident(job: Job) -> Run:
    """`extract_patch_features` of TRIDENT over given tiles."""
    import h5py
    import torch
    import trident
    from torchvision import transforms
    from trident.patch_encoder_models.load import CustomInferenceEncoder
    from trident.wsi_objects import WSI

    model = load_model(job)
    config = model.pretrained_cfg
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(config["mean"], config["std"])])
    encoder = CustomInferenceEncoder(MODEL, model, transform, torch.float32)
    coords_file = Path(job.out) / "coords.h5"
    with h5py.File(coords_file, "w") as handle:
        handle["coords"] = places(job)
        handle["coords"].attrs.update(patch_size=TILE_PX, level0_magnification=40, target_magnification=20)
    # it counts the cores of the machine, pinned or not
    WSI.get_num_workers = lambda *args, **kwargs: job.workers

    start = spent_s()
    slide = trident.OpenSlideWSI(slide_path=job.slide)
    file = slide.extract_patch_features(encoder, str(coords_file), job.out, device="cpu", batch_limit=job.batch)
    end = spent_s()
    with h5py.File(file) as handle:
        return result(job, start, end, handle["features"][:], f"TRIDENT {trident.__version__}, {loader(job)}")


class Regions:
    """A region a tile through OpenSlide, resized and normalised, as a DataLoader wants it.

    Parameters
    ----------
    shrink : callable
        From a PIL picture to a tensor (3, TILE_PX, TILE_PX).
    """

    def __init__(self, job: Job, shrink: Callable[[Any], Any]) -> None:
        self._path, self._coords, self._shrink = job.slide, places(job), shrink
        self._slide: Any = None

    def __len__(self) -> int:
        return len(self._coords)

    def __getitem__(self, index: int) -> Any:
        import openslide

        if self._slide is None:  # each worker has its own
            self._slide = openslide.OpenSlide(self._path)
        level = self._slide.get_best_level_for_downsample(MPP / MPP0 + 0.01)
        side = round(TILE_PX * MPP / MPP0 / self._slide.level_downsamples[level])
        x, y = self._coords[index].tolist()
        return self._shrink(self._slide.read_region((x, y), level, (side, side)).convert("RGB"))


def drive_rebuilt_lazyslide(job: Job) -> Run:
    """OpenCV's area mean, and torchvision's second transforms."""
    import cv2
    import torch
    from torchvision.transforms import v2

    model = load_model(job)
    config = model.pretrained_cfg
    transform = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(config["mean"], config["std"])]
    )

    def shrink(region: Any) -> Any:
        return transform(cv2.resize(np.array(region), (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA))

    return extract_regions(job, model, shrink)


def drive_rebuilt_trident(job: Job) -> Run:
    """PIL's bicubic, and torchvision's first transforms."""
    from torchvision import transforms

    model = load_model(job)
    config = model.pretrained_cfg
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(config["mean"], config["std"])])
    return extract_regions(job, model, lambda region: transform(region.resize((TILE_PX, TILE_PX))))


def extract_regions(job: Job, model: Any, shrink: Callable[[Any], Any]) -> Run:
    """Run the model over the batches of a DataLoader."""
    import openslide  # noqa: F401  its import is not part of the work
    import torch
    from torch.utils.data import DataLoader

    start = spent_s()
    batches = DataLoader(Regions(job, shrink), batch_size=job.batch, num_workers=job.workers)
    with torch.inference_mode():
        features = np.concatenate([model(batch).numpy() for batch in batches])
    return result(job, start, spent_s(), features, f"rebuilt, {loader(job)}")


def loader(job: Job) -> str:
    """The DataLoader and the model's threads, in words."""
    import torch

    return f"batch {job.batch}, workers {job.workers}, torch threads {torch.get_num_threads()}"


DRIVERS: dict[str, Callable[[Job], Run]] = {
    "histograde": drive_histograde,
    "lazyslide": drive_lazyslide,
    "trident": drive_trident,
    "rebuilt lazyslide": drive_rebuilt_lazyslide,
    "rebuilt trident": drive_rebuilt_trident,
}


# --- in this process ----------------------------------------------------------------------------------------------


def variants(pythons: dict[str, str]) -> list[Variant]:
    """Ours and the peers, each in its Python, or rebuilt in ours."""

    def of(peer: str, name: str, workers: int, batch: int) -> Variant:
        if peer in pythons:
            return Variant(name, peer, pythons[peer], workers, batch)
        return Variant(f"{name} (rebuilt)", f"rebuilt {peer}", sys.executable, workers, batch)

    chosen = max(1, int(0.75 * CORES))  # `get_num_workers` of TRIDENT
    return [
        Variant("histograde", "histograde"),
        of("lazyslide", "LazySlide, 2 workers", 2, 32),
        of("trident", f"TRIDENT, {chosen} worker", chosen, 64),
        of("trident", "TRIDENT, 2 workers", 2, 64),
    ]


def run(variant: Variant, job: Job) -> Run:
    """One variant in a process of its own, in a fresh folder; gives what it says, with its features."""
    with tempfile.TemporaryDirectory() as out:
        own = replace(job, drive=variant.drive, workers=variant.workers, batch=variant.batch, out=out)
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        if variant.python != sys.executable:
            environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [variant.python, __file__, "--job", json.dumps(asdict(own))],
            capture_output=True,
            text=True,
            env=environment,
        )
        if done.returncode:
            raise SystemExit(f"{variant.name} failed in {variant.python}:\n{done.stderr[-2000:]}")
        found: Run = json.loads(done.stdout.splitlines()[-1])
        return found | {"features": np.load(Path(out) / "features.npy")}


def measure(chosen: list[Variant], job: Job, rounds: int, limit: int | None) -> dict[str, list[Run]]:
    """All runs by variant, interleaved; a first, uncounted run of ours lays the grid."""
    everything = len(run(chosen[0], job)["features"])
    for peer in chosen[1:]:
        run(peer, replace(job, tiles=WARM_TILES))
    job = replace(job, tiles=min(limit or everything, everything))
    found: dict[str, list[Run]] = {one.name: [] for one in chosen}
    for _ in range(rounds):
        for one in chosen:
            found[one.name].append(run(one, job))
    return found


def agreement(features: np.ndarray, ours: np.ndarray) -> float:
    """Mean cosine of two sets of features (n, D), each less its mean over the tiles."""
    a, b = features - features.mean(axis=0), ours[: len(features)] - ours[: len(features)].mean(axis=0)
    cosine = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float(cosine.mean())


def show(found: dict[str, list[Run]]) -> None:
    """The table of rates and ratios, and where our time goes."""
    mine = found["histograde"]
    features = mine[-1]["features"]
    rates = {name: statistics.median(one["tiles"] / one["seconds"] for one in runs) for name, runs in found.items()}
    cpu_ms = {
        name: statistics.median(1e3 * one["cpu_s"] / one["tiles"] for one in runs) for name, runs in found.items()
    }
    ready = statistics.median(one["tiles"] / (one["seconds"] - planning_s(one)) for one in mine)
    print(f"\n{'':34}{'tiles':>7}{'tiles/s':>9}{'ours is':>9}{'tiles ready':>13}{'CPU ms/tile':>13}{'agreement':>11}")
    for name, runs in found.items():
        line = f"{name:34}{runs[-1]['tiles']:7,}{rates[name]:9.1f}"
        if runs is mine:
            line += f"{'':9}{ready:11.1f}/s{cpu_ms[name]:13.1f}"
        else:
            line += f"{rates['histograde'] / rates[name]:7.2f} x{ready / rates[name]:11.2f} x{cpu_ms[name]:13.1f}"
            line += f"{agreement(runs[-1]['features'], features):11.4f}"
        print(f"{line}   {runs[-1]['how']}")
    stages = {stage: statistics.median(one["timings"][stage] for one in mine) for stage in mine[-1]["timings"]}
    wall = statistics.median(one["seconds"] for one in mine)
    planned = statistics.median(planning_s(one) for one in mine)
    at_work = sum(stages.get(stage, 0.0) for stage in ("open", "read", "encode", "write"))
    print(f"\nours: {wall:.2f} s by the clock, {planned:.2f} s of them to hash, tissue and grid; seconds of a core:")
    print("  " + ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items() if stage != "wall"))
    per_tile = ((stage, 1e3 * stages[stage] / mine[-1]["tiles"]) for stage in ("read", "encode", "write"))
    print("  ms a tile on a core: " + ", ".join(f"{stage} {value:.2f}" for stage, value in per_tile))
    busy = at_work / (CORES * (wall - planned))
    print(
        f"  tiles kept the {CORES} cores busy for {busy:.0%} of the rest (the others: Dask, uneven chunks, publishing)"
    )


def planning_s(one: Run) -> float:
    """Seconds of our run before the first tile: hash, tissue and grid."""
    return sum(one["timings"].get(stage, 0.0) for stage in ("hash", "tissue", "verify"))


def main() -> None:
    """Draw, run, print; or, with --job, be one of the runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=16384, help="side of the slide in level-0 pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiles", type=int, help="only the first so many for the peers, which are slow")
    parser.add_argument("--peer-python", action="append", default=[], metavar="PEER=PYTHON")
    parser.add_argument("--peer-threads", type=int, default=0, help="torch threads of a peer; 0 leaves them to torch")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        job = Job(**json.loads(args.job))
        print("\n" + json.dumps(DRIVERS[job.drive](job)))
        return
    pythons = dict(word.partition("=")[::2] for word in args.peer_python)
    if unknown := sorted(set(pythons) - {"lazyslide", "trident"}):
        parser.error(f"--peer-python {unknown[0]}: the peers are lazyslide and trident")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < CORES:
        parser.error(f"{CORES} cores are needed, this process may use {len(cores)}")
    os.sched_setaffinity(0, cores[:CORES])
    with tempfile.TemporaryDirectory() as folder:
        job = replace(prepare(Path(folder), args.side), threads=args.peer_threads)
        found = measure(variants(pythons), job, args.rounds, args.tiles)
    print(f"{args.side} px at {MPP0} um/px, tiles of {TILE_PX} px at {MPP} um/px, {MODEL}, {CORES} cores")
    print(f"medians of {args.rounds} interleaved rounds")
    show(found)


def prepare(folder: Path, side_px0: int) -> Job:
    """Draw the slide and save random weights."""
    import timm
    import torch

    from wsi.synthetic import write_slide

    slide, weights = folder / "slide.svs", folder / "weights.pth"
    write_slide(slide, seed=1, size_px0=(side_px0, side_px0), mpp=MPP0, tissue=0.9)
    torch.manual_seed(1)
    torch.save(timm.create_model(MODEL, pretrained=False, num_classes=0).state_dict(), weights)
    return Job("", str(slide), str(weights), str(folder / "coords.npy"), "")


if __name__ == "__main__":
    main()
