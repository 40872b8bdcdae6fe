"""Fifty readers at the review desk, and the same readers at OpenSlide's DeepZoomGenerator behind Flask, in one run.

    python -m benchmarks.review_load                       # three made-up slides, JPEG
    python -m benchmarks.review_load --slides a.svs b.svs  # real ones
    python -m benchmarks.review_load --long 100000 --copies 200

Both servers get the same seeded walks, in turns, so that other work on the machine hits both alike. First as fast as
the servers can, over views that nobody saw before (cold) and once more over the same (warm); then with readers at a
pace of one view of about 12 tiles a second. `--long` asks the desk alone for many tiles of many slides and prints its
memory and open files on the way. The desk is asked as a browser does it, with a session's cookie. Figures are wanted:
a median tile under 15 ms warm and under 40 ms cold, 99 of 100 under 250 ms, at least 3 times the tiles a second.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from shapely import MultiPolygon, box

from benchmarks.review_client import Taken, browse
from benchmarks.review_walks import SlideSize, View, deepzoom_tiles, desk_tiles, walk
from workflows.gradings import Metric, ModelSummary, save_model, save_predictions, save_quarantine
from workflows.results import GradedSlide, save_slide
from workflows.run_sources import save_sources
from workflows.sources import SlideSource
from wsi.files import write_json
from wsi.slide import SlideInfo, hash_slide, open_slide
from wsi.synthetic import write_slide
from wsi.tiles import TileGrid, TileSpec

READERS = 50
CLASSES = ("0", "1")


@dataclass
class Server:
    """A server that runs, and how its tiles are called."""

    name: str
    process: subprocess.Popen
    port: int
    headers: str
    tiles: "partial[list[str]]"

    @property
    def memory_mb(self) -> float:
        """Resident."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    @property
    def files(self) -> int:
        """Open descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def cpu_s(self) -> float:
        """Of all its threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def make_run(folder: Path, slides: list[Path], copies: int) -> tuple[Path, list[SlideSize]]:
    """A run folder over some slides, each of them `copies` times under other names, with random scores."""
    (folder / "slides").mkdir(parents=True)
    run, graded, sources, sizes = folder / "run", [], [], []
    rng = np.random.default_rng(0)
    known = [open_slide(path).info for path in slides]
    for number in range(len(slides) * copies):
        path, info = slides[number % len(slides)], known[number % len(slides)]
        name = f"s{number:04d}"
        place = folder / "slides" / f"{name}{path.suffix}"
        content_hash = _place(path, place, number if copies > 1 else None) or info.content_hash
        graded.append(_graded(name, replace(info, content_hash=content_hash), rng))
        save_slide(run, graded[-1])
        sources.append(SlideSource(name, place, name))
        sizes.append(SlideSize(number, *info.size_px0))
    save_sources(run, sources)
    save_predictions(run, [one.grading for one in graded])
    save_quarantine(run, [])
    save_model(run, _model())
    write_json(run / "run.json", {"command": "grade", "versions": {}})
    return run, sizes


def _place(path: Path, place: Path, number: int | None) -> str | None:
    """Put a slide into the archive: itself, or a copy that differs in its last bytes, which no reader looks at."""
    if number is None:
        place.symlink_to(path.absolute())
        return None
    shutil.copy(path, place)
    with place.open("ab") as handle:
        handle.write(f"copy {number:08d}".encode())
    return hash_slide(place)


def _graded(name: str, info: SlideInfo, rng: np.random.Generator) -> GradedSlide:
    width, height = info.size_px0
    side = 448
    coords = np.array([(x, y) for y in range(0, height - side, side) for x in range(0, width - side, side)], np.int32)
    attention = rng.dirichlet(np.ones(len(coords)))
    evidence = rng.random((len(coords), len(CLASSES)))
    return GradedSlide(
        replace(info, slide_id=name, mpp=(0.25, 0.25), mpp_source="user"), name, "grade", CLASSES, np.array([0.3, 0.7]),
        "1", False, "bench", 1.0,
        TileGrid(TileSpec(224, 0.5, 224), coords, np.ones(len(coords), np.float32), (float(side), float(side))),
        np.arange(len(coords)), attention, evidence, (), MultiPolygon([box(0, 0, width, height)]), 1e6,
        np.full((64, 64, 3), 220, np.uint8),
    )  # fmt: skip


def _model() -> ModelSummary:
    encoder = {"name": "toy", "dim": 8, "licence": "-", "weights_sha256": "0" * 64, "tile_px": 224, "mpp": 0.5}
    return ModelSummary(
        "bench", "abmil", "grade", CLASSES, encoder, {"slides": 1, "patients": 1, "sites": []},
        (Metric("qwk", 0.5, 0.4, 0.6),), "nothing", False, "None.", ("For this benchmark only.",),
    )  # fmt: skip


@contextmanager
def desk_server(run: Path, port: int) -> Iterator[Server]:
    """The desk, and a session of a reader."""
    import json

    from workflows.review.database import open_engine
    from workflows.review.desk import Settings
    from workflows.review.doors import cookie_name
    from workflows.review.migrate import migrate
    from workflows.review.sessions import new_session
    from workflows.review.users import add_user

    settings = Settings(run, port=port)
    engine = open_engine(settings.database_url)
    migrate(engine)
    token, _ = new_session(engine, add_user(engine, "load", "reader", "pan and zoom all day"))
    engine.dispose()
    headers = f"Cookie: {cookie_name(settings)}={token}\r\n"
    with started("desk", run, port) as process:

        def ask(path: str) -> dict:
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
            request.add_header("Cookie", headers[8:].strip())
            with urllib.request.urlopen(request) as answer:
                return json.loads(answer.read())

        found = {}
        while len(found) < ask("/api/cases?limit=1")["total"]:
            page = ask(f"/api/cases?limit=200&offset={len(found)}&sort=slide_id")["cases"]
            found |= {one["slide_id"]: one["case_id"] for one in page}
        cases = [found[name] for name in sorted(found)]
        facts = [ask(f"/api/cases/{case}/slide") for case in cases]

        def tiles(view: View) -> list[str]:
            one = facts[view.slide.number]
            return desk_tiles(view, cases, one["tile_size"], one["version"], len(one["levels"]))

        yield Server("desk", process, port, headers, tiles)


@contextmanager
def deepzoom_server(folder: Path, port: int, *options: str) -> Iterator[Server]:
    """The usual way."""
    with started("deepzoom", folder, port, *options) as process:
        name = "deepzoom " + ("kept" if options else "plain")
        yield Server(name, process, port, "", partial(deepzoom_tiles, tile_px=254))


@contextmanager
def started(kind: str, folder: Path, port: int, *options: str) -> Iterator[subprocess.Popen]:
    """A server's process, once it answers; ended with the block."""
    command = [sys.executable, "-m", "benchmarks.review_servers", kind, str(folder), str(port), *options]
    process = subprocess.Popen(command)
    try:
        for _ in range(600):
            time.sleep(0.2)
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/").close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"{kind} did not start") from None
        else:
            raise SystemExit(f"{kind} does not answer")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def walks(server: Server, sizes: list[SlideSize], seed: int, steps: int = 10_000) -> list[Iterator[list[str]]]:
    """The views of 50 readers as addresses of a server; the same views for every server."""
    found = []
    for reader in range(READERS):
        rng = np.random.default_rng([seed, reader])
        slide = sizes[int(rng.integers(len(sizes)))]
        found.append(server.tiles(view) for view in walk(slide, rng, steps))
    return found


def told(what: str, server: Server, taken: Taken, cpu_s: float) -> float:
    """Print a line; gives tiles per second."""
    ms = np.array(taken.seconds) * 1000
    rate = len(ms) / taken.wall_s
    middle, late = np.percentile(ms, [50, 99])
    print(
        f"{what:14s} {server.name:15s} {rate:7.0f} tiles/s {taken.views / taken.wall_s:6.1f} views/s "
        f"{taken.bytes / 1e6 / taken.wall_s:6.1f} MB/s  median {middle:7.1f} ms  p99 {late:7.1f} ms  "
        f"CPU {1000 * cpu_s / len(ms):5.2f} ms a tile  "
        f"cores: server {cpu_s / taken.wall_s:.2f} client {taken.client_cpu_s / taken.wall_s:.2f}  "
        f"{server.memory_mb:5.0f} MB {server.files:4d} files"
        + (f"  FAILED {taken.failures}" if taken.failures else ""),
        flush=True,
    )
    return taken.views / taken.wall_s


def measure(server: Server, what: str, views: list[Iterator[list[str]]], most_s: float, every_s: float = 0.0) -> float:
    """Let the readers look, and tell."""
    cpu = server.cpu_s
    taken = browse(server.port, server.headers, views, most_s, every_s)
    return told(what, server, taken, server.cpu_s - cpu)


def compare(servers: list[Server], sizes: list[SlideSize], rounds: int, most_s: float) -> None:
    """All servers over the same walks, in turns."""
    rates: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for server in servers:
            for what in ("cold", "warm"):
                views = walks(server, sizes, seed=number, steps=12)
                rates.setdefault((what, server.name), []).append(measure(server, what, views, most_s))
    for number in range(rounds):
        for server in servers:
            for what in ("paced cold", "paced warm"):
                measure(server, what, walks(server, sizes, seed=100 + number, steps=int(most_s)), most_s, every_s=1.0)
    for what in ("cold", "warm"):
        desk = float(np.median(rates[what, "desk"]))
        others = {server.name: float(np.median(rates[what, server.name])) for server in servers[1:]}
        print(what, "views/s:", ", ".join(f"{desk / rate:.1f} x {name}" for name, rate in others.items()))


def endure(server: Server, sizes: list[SlideSize], tiles: int) -> None:
    """Many tiles of many slides: memory and open files on the way."""
    done = seed = 0
    while done < tiles:
        taken = browse(server.port, server.headers, walks(server, sizes, seed=1000 + seed, steps=20), most_s=600)
        done, seed = done + len(taken.seconds), seed + 1
        print(f"{done:8d} tiles  {len(taken.seconds) / taken.wall_s:6.0f}/s  {server.memory_mb:6.0f} MB  "
              f"{server.files:4d} files {taken.failures or ''}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=Path, nargs="+", help="instead of made-up ones")
    parser.add_argument("--copies", type=int, default=1, help="how often each slide is in the run")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0, help="longest stretch of one server")
    parser.add_argument("--long", type=int, default=0, metavar="TILES")
    parser.add_argument("--port", type=int, default=18_765)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="review-load-"))
    try:
        slides = asked.slides or made_up(folder)
        run, sizes = make_run(folder, slides, asked.copies)
        with desk_server(run, asked.port) as desk:
            if asked.long:
                endure(desk, sizes, asked.long)
                return
            with (
                deepzoom_server(folder / "slides", asked.port + 1) as plain,
                deepzoom_server(folder / "slides", asked.port + 2, "--keep-alive") as kept,
            ):
                compare([desk, plain, kept], sizes, asked.rounds, asked.seconds)
    finally:
        shutil.rmtree(folder)


def made_up(folder: Path) -> list[Path]:
    """Three slides of 6144 px a side as scanners write them: JPEG tiles, levels at 1, 1/4, 1/16."""
    paths = [folder / f"made-{seed}.svs" for seed in range(3)]
    for seed, path in enumerate(paths):
        write_slide(path, seed=seed)
    return paths


if __name__ == "__main__":
    main()
