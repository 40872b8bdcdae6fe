"""From slides to feature stores, and on: one loop over Dask futures.

Each slide goes plan -> chunks -> publish -> finish. Planning (tissue, tiles), every chunk of tiles (read, encode,
write) and finishing (say, grading) are tasks; publishing is a rename that this process does. A bounded number of
slides is in flight, so that neither the graph nor memory grows with the archive. A slide that fails is
quarantined with its reason, and the loop goes on.
"""

import json
import logging
import os
import shutil
import socket
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mil.encoders import Encoder, load_encoder
from workflows.card_features import card_features
from workflows.cluster import check_folder_is_shared
from workflows.options import MAX_BAD
from workflows.sources import SlideSource
from wsi.errors import (
    LostSchedulerError,
    NoTissueError,
    RecipeMismatchError,
    TooManyBadTilesError,
    UnreadableSlideError,
    WsiError,
)
from wsi.files import write_json
from wsi.glass import check_brightfield
from wsi.overview import OVERVIEW_MPP, check_readable, read_overview
from wsi.qc import find_tissue_with_qc
from wsi.slide import Slide, hash_slide, slide_files
from wsi.slide_url import SlideUrl
from wsi.store import CHUNK_TILES, FeatureStore, store_path, verify_folder
from wsi.store_writer import (
    FeatureWriter,
    begin_features,
    check_recipe,
    feature_folders,
    publish_grid,
    reopen_damaged,
    settle,
    slide_lock,
)
from wsi.tiles import BadTile, TileGrid, TileReader, TileSpec, tile_grid
from wsi.tissue import TISSUE_METHOD, TissueMask

if TYPE_CHECKING:
    from distributed import Client, Future

OPEN_SLIDES_A_THREAD = 2
READ_BATCH = 64
COUNT_WORKERS_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class ExtractConfig:
    """Everything that decides what is extracted, and how.

    Attributes
    ----------
    store : Path
        Folder of the stores.
    encoder : str
        Name of the encoder; `weights` is its local file where it needs one.
    tiles : TileSpec
    device : str
        "auto", "cpu", "cuda", "cuda:N".
    reader : str or None
        Only this reader, instead of the first that knows the file.
    max_bad : float
        Largest share of unreadable tiles that a slide may have, 0 to 1.
    chunk_tiles : int
        Tiles in a task.
    workers, scheduler, cluster, cluster_options
        Where tasks run, as `workflows.cluster.connect` has it; nothing else depends on it.
    """

    store: Path
    encoder: str = "lite0"
    weights: Path | None = None
    tiles: TileSpec = field(default_factory=TileSpec)
    device: str = "auto"
    reader: str | None = None
    max_bad: float = MAX_BAD
    chunk_tiles: int = CHUNK_TILES
    workers: int = 0
    scheduler: str | None = None
    cluster: str | None = None
    cluster_options: Path | None = None

    @property
    def place(self) -> tuple[int, str | None, str | None, Path | None]:
        """The arguments of `workflows.cluster.connect`."""
        return self.workers, self.scheduler, self.cluster, self.cluster_options

    def absolute(self) -> "ExtractConfig":
        """The same with absolute paths, as workers need it: their working directory is another."""
        weights = None if self.weights is None else self.weights.absolute()
        return replace(self, store=self.store.absolute(), weights=weights)

    @property
    def recipe(self) -> dict[str, Any]:
        """What the store keeps of it."""
        return {"tiles": self.tiles.to_dict(), "tissue": {"method": TISSUE_METHOD, "mpp": OVERVIEW_MPP}}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a slide was put into quarantine."""

    slide_id: str
    stage: str
    error_class: str
    message: str
    remedy: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to do for a slide: nothing, where `writer` is None."""

    slide_id: str
    content_hash: str
    tiles: int
    writer: FeatureWriter | None
    chunks: tuple[int, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """One chunk is in its store; `device` is where it was encoded (`encoder_place`)."""

    slide_id: str
    chunk: int
    tiles: int
    bad: int
    seconds: dict[str, float]
    device: str = "cpu"


@dataclass(slots=True)
class SlideResult:
    """One slide is through: extracted, and finished if there was anything to finish."""

    source: SlideSource
    content_hash: str = ""
    tiles: int = 0
    bad: int = 0
    chunks: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    failure: Failure | None = None
    value: Any = None

    def add(self, seconds: dict[str, float]) -> None:
        """Add up the time spent by stage."""
        for stage, spent in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent


class Listener:
    """Hears how the work goes; this one is deaf."""

    def begin(self, slides: int) -> None:
        """So many slides are to be done."""

    def planned(self, plan: Plan) -> None:
        """A slide's tiles are known."""

    def chunk(self, done: ChunkDone) -> None:
        """A chunk was written."""

    def slide(self, result: SlideResult) -> None:
        """A slide is through, or in quarantine."""


class Listeners(Listener):
    """Tells several what it hears, in their order."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def begin(self, slides: int) -> None:
        for one in self._listeners:
            one.begin(slides)

    def planned(self, plan: Plan) -> None:
        for one in self._listeners:
            one.planned(plan)

    def chunk(self, done: ChunkDone) -> None:
        for one in self._listeners:
            one.chunk(done)

    def slide(self, result: SlideResult) -> None:
        for one in self._listeners:
            one.slide(result)


def run_pipeline(
    client: "Client",
    sources: Iterable[SlideSource],
    config: ExtractConfig,
    listener: Listener,
    finish: Callable[[SlideSource, FeatureStore, float], Any] | None = None,
) -> Iterator[SlideResult]:
    """Take every slide through, and yield each as it is done.

    Parameters
    ----------
    finish : callable, optional
        Called in a task with the slide, its published store and the seconds spent on it so far; must travel to
        workers. What it returns is the result's `value`.
    """
    config = config.absolute()
    if config.scheduler or config.cluster:
        check_folder_is_shared(client, config.store)
    yield from _Loop(client, config, listener, finish).run(map(absolute_source, sources))
    client.run(close_slides, on_error="ignore")


def absolute_source(source: SlideSource) -> SlideSource:
    """The same with an absolute path, as workers need it: their working directory is another."""
    return replace(source, path=source.path.absolute()) if isinstance(source.path, Path) else source


class _Loop:
    def __init__(self, client: "Client", config: ExtractConfig, listener: Listener, finish: Any) -> None:
        self._client, self._config, self._listener, self._finish = client, config, listener, finish
        self._most_slides, self._counted_s = 0, -np.inf
        self._results: dict[str, SlideResult] = {}
        self._left: dict[str, int] = {}
        self._writers: dict[str, FeatureWriter | None] = {}
        self._locks: dict[str, ExitStack] = {}
        self._under_way: dict[str, int] = {}
        self._jobs: dict[str, tuple[str, str]] = {}

    def run(self, sources: Iterable[SlideSource]) -> Iterator[SlideResult]:
        from distributed import as_completed

        waiting = iter(sources)
        done = as_completed(raise_errors=False)
        try:
            while True:
                while len(self._results) < self._room() and (source := next(waiting, None)) is not None:
                    if (early := self._admit(source, done)) is not None:
                        yield early
                if not self._jobs:
                    return
                future = next(done)
                slide_id, stage = self._jobs.pop(str(future.key))
                outcome = _outcome(future, slide_id, stage)
                future.release()
                self._under_way[slide_id] -= 1
                result = self._advance(slide_id, outcome, done) if slide_id in self._results else None
                self._unlock_if_idle(slide_id)
                if result is not None:
                    yield result
        finally:
            for lock in self._locks.values():
                lock.close()

    def _room(self) -> int:
        """How many slides may be in flight: it follows the workers, which come and go."""
        if time.monotonic() - self._counted_s > COUNT_WORKERS_EVERY_S:
            self._most_slides = 2 * sum(self._client.nthreads().values()) + 1
            self._counted_s = time.monotonic()
        return self._most_slides

    def _admit(self, source: SlideSource, done: Any) -> SlideResult | None:
        lock = ExitStack()
        try:
            lock.enter_context(slide_lock(self._config.store, source.slide_id))
        except Exception as error:  # whatever it is, it ends this slide only
            result = SlideResult(source, failure=failure_of(source.slide_id, "plan", error))
            self._listener.slide(result)
            return result
        self._locks[source.slide_id] = lock
        self._results[source.slide_id] = SlideResult(source)
        self._submit(done, source.slide_id, "plan", plan_slide, source, self._config)
        return None

    def _submit(self, done: Any, slide_id: str, stage: str, function: Any, *arguments: Any, priority: int = 0) -> None:
        future: Future = self._client.submit(
            _guarded, function, slide_id, stage, *arguments, pure=False, priority=priority
        )
        self._jobs[str(future.key)] = (slide_id, stage)
        self._under_way[slide_id] = self._under_way.get(slide_id, 0) + 1
        done.add(future)

    def _advance(self, slide_id: str, outcome: Any, done: Any) -> SlideResult | None:
        result = self._results[slide_id]
        if isinstance(outcome, Failure):
            return self._close(result, outcome)
        if isinstance(outcome, Plan):
            self._take_plan(result, outcome, done)
        elif isinstance(outcome, ChunkDone):
            result.add(outcome.seconds)
            result.chunks += 1
            self._left[slide_id] -= 1
            self._listener.chunk(outcome)
        else:
            result.value, seconds = outcome
            result.add(seconds)
            return self._close(result, None)
        if self._left[slide_id] == 0:
            return self._publish(result, done)
        return None

    def _take_plan(self, result: SlideResult, plan: Plan, done: Any) -> None:
        slide_id = plan.slide_id
        result.content_hash, result.tiles = plan.content_hash, plan.tiles
        result.add(plan.seconds)
        self._writers[slide_id] = plan.writer
        self._left[slide_id] = len(plan.chunks)
        self._listener.planned(plan)
        for chunk in plan.chunks:
            source = result.source
            self._submit(done, slide_id, "extract", extract_chunk, source, plan.writer, chunk, self._config, priority=1)

    def _publish(self, result: SlideResult, done: Any) -> SlideResult | None:
        slide_id = result.source.slide_id
        try:
            writer = self._writers[slide_id]
            if writer is not None:
                check_bad_of(writer, self._config.max_bad)
                writer.publish()
            store = FeatureStore(store_path(self._config.store, slide_id))
            bad = store.bad_tiles(encoder_name(self._config))
            check_bad(slide_id, bad, result.tiles, self._config.max_bad)
            result.bad = len(bad)
        except Exception as error:  # whatever it is, it ends this slide only
            return self._close(result, failure_of(slide_id, "publish", error))
        if self._finish is None:
            return self._close(result, None)
        spent = sum(result.seconds.values())
        self._submit(done, slide_id, "grade", finish_slide, self._finish, result.source, store.path, spent, priority=2)
        self._left[slide_id] = -1
        return None

    def _close(self, result: SlideResult, failure: Failure | None) -> SlideResult:
        slide_id = result.source.slide_id
        result.failure = failure
        del self._results[slide_id]
        self._left.pop(slide_id, None)
        self._writers.pop(slide_id, None)
        self._listener.slide(result)
        return result

    def _unlock_if_idle(self, slide_id: str) -> None:
        """Let go of a slide that is through, but not while tasks that outlived its failure may still write."""
        if slide_id not in self._results and not self._under_way[slide_id]:
            del self._under_way[slide_id]
            self._locks.pop(slide_id).close()


def _guarded(function: Any, slide_id: str, stage: str, *arguments: Any) -> Any:
    """Run a task; what goes wrong comes back as a value, so that no exception has to travel."""
    quiet_readers()
    _tasks.begin()
    try:
        return function(*arguments)
    except Exception as error:  # whatever it is, it ends this slide only
        return failure_of(slide_id, stage, error)
    finally:
        _tasks.end()


def quiet_readers() -> None:
    """Keep tifffile from writing to the terminal what it finds odd in a file, with the file's name and texts in it."""
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def _outcome(future: "Future", slide_id: str, stage: str) -> Any:
    """What a task gave; waits where the worker that held it is lost and the task is done again.

    Raises
    ------
    LostSchedulerError
        If no task can be done any more.
    """
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()
    except KilledWorker:
        message, remedy = "the task ended several worker processes", "give workers more memory, or look at it alone"
        return Failure(slide_id, stage, "worker_killed", message, remedy)
    except CancelledError as error:
        raise LostSchedulerError("the Dask scheduler is gone; start it and run the same command again") from error
    except Exception as error:  # such as a task that cannot be unpacked
        return Failure(slide_id, stage, "lost", f"the task was lost ({error})", "run the same command again")


def failure_of(slide_id: str, stage: str, error: Exception) -> Failure:
    """Name the class of an error; one that is not ours is named by its type and kept with its traceback."""
    if isinstance(error, WsiError):
        return Failure(slide_id, stage, error.code, " ".join(str(error).split()), error.remedy)
    detail = "".join(traceback.format_exception(error))
    if isinstance(error, MemoryError):
        return Failure(slide_id, stage, "out_of_memory", "not enough memory", "use fewer workers", detail)
    if isinstance(error, OSError):
        remedy = "check disk space, permissions and mounts, then run the same command again"
        return Failure(slide_id, stage, "io_error", f"{error.strerror or error}", remedy, detail)
    message = " ".join(f"{type(error).__name__}: {error}".split())
    return Failure(slide_id, stage, "unexpected", message, "report it with the output of --debug", detail)


def total_seconds(results: Iterable[SlideResult]) -> dict[str, float]:
    """Seconds by stage over all slides."""
    total: dict[str, float] = {}
    for result in results:
        for stage, seconds in result.seconds.items():
            total[stage] = total.get(stage, 0.0) + seconds
    return total


# --- tasks ------------------------------------------------------------------------------------------------------


def plan_slide(source: SlideSource, config: ExtractConfig) -> Plan:
    """Open a slide, find its tissue, lay its tiles and publish the grid, or take up what an earlier run left."""
    clock = _Clock()
    encoder = worker_encoder(config)
    path = store_path(config.store, source.slide_id)
    settle(path)
    store = _published(path)
    stamp = source_stamp(source)
    with ThreadPoolExecutor(1, thread_name_prefix="hash") as aside:
        hashing = aside.submit(source_hash, source, store, stamp)
        if store is not None:  # what is there is not trusted before the slide is known
            hashing.result()
        clock.lap("hash")
        slide = source.open(reader=config.reader, content_hash=hashing.result() if store is not None else "pending")
        try:
            slide.info.require_mpp()
            if store is not None and not _still_fits(store, slide, config):
                store = None
            if store is None or verify_folder(path):
                found = _find_tiles(slide, config)
                clock.lap("tissue")
                info = replace(slide.info, content_hash=hashing.result())
                clock.lap("hash")
                store = publish_grid(config.store, info, *found)
        finally:
            slide.close()
        content_hash = hashing.result()
    remember_hash(path, content_hash, stamp)
    clock.lap("tissue")
    card = encoder.card.to_dict()
    if encoder.card.name in store.encoders and not reopen_damaged(store, card):
        clock.lap("verify")
        return Plan(source.slide_id, content_hash, store.meta["tiles"], None, (), clock.seconds)
    writer = begin_features(store, card, chunk_tiles=config.chunk_tiles)
    chunks = tuple(writer.todo())
    clock.lap("verify")
    return Plan(source.slide_id, content_hash, writer.tiles, writer, chunks, clock.seconds)


def _find_tiles(
    slide: Slide, config: ExtractConfig
) -> tuple[TissueMask, TileGrid, dict[str, Any], dict[str, Any] | None]:
    """Tissue, tiles, recipe and quality of a slide, as `publish_grid` takes them."""
    overview = read_overview(slide)
    check_brightfield(overview)
    check_readable(overview, config.max_bad)
    tissue, quality = find_tissue_with_qc(slide, overview)
    grid = tile_grid(slide.info, tissue, config.tiles)
    if not len(grid):
        area_mm2 = tissue.area_um2 / 1e6
        found = f"{area_mm2:.2f} mm2 of tissue" if area_mm2 else "no tissue"
        raise NoTissueError(
            f"{slide.info.slide_id}: {found}, and no tile of {config.tiles.tile_px} px at {config.tiles.mpp:g} um/px "
            f"that is at least {config.tiles.min_tissue:.0%} tissue"
        )
    return tissue, grid, config.recipe, quality.to_dict()


def _still_fits(store: FeatureStore, slide: Slide, config: ExtractConfig) -> bool:
    """Whether the store is of this slide and recipe. False if not, where it holds nothing but a grid to lose.

    Raises
    ------
    RecipeMismatchError
        If it is not, and holds features, finished or begun.
    """
    try:
        check_recipe(store, slide.info, config.recipe)
    except RecipeMismatchError:
        if feature_folders(store.path):
            raise
        return False
    return True


def _published(path: Path) -> FeatureStore | None:
    """The store if there is one whose description can be read; what cannot be is planned anew."""
    if not path.exists():
        return None
    try:
        return FeatureStore(path)
    except RecipeMismatchError:
        raise
    except WsiError:
        return None


def extract_chunk(source: SlideSource, writer: FeatureWriter, chunk: int, config: ExtractConfig) -> ChunkDone:
    """Read, encode and write one chunk of tiles."""
    clock = _Clock()
    encoder = worker_encoder(config)
    slide, grid = _slide_and_grid(source, writer.store, config)
    reader = TileReader(slide, grid)
    card = card_features(slide, grid, encoder)
    clock.lap("open")
    rows: list[np.ndarray] = []
    values: list[np.ndarray] = []
    bad: list[BadTile] = []
    if card is not None:
        for good, features, lost in card.batches(writer.rows(chunk)):
            rows.append(good)
            values.append(features)
            bad += lost
        clock.lap("encode")
        writer.write(chunk, np.concatenate(rows), np.concatenate(values), tuple(bad))
        clock.lap("write")
        return ChunkDone(source.slide_id, chunk, sum(map(len, rows)), len(bad), clock.seconds, encoder_place(encoder))
    for batch in reader.batches(writer.rows(chunk), READ_BATCH):
        clock.lap("read")
        rows.append(batch.rows)
        bad += batch.bad
        values.append(encoder.encode(batch.pixels))
        clock.lap("encode")
    writer.write(chunk, np.concatenate(rows), np.concatenate(values), tuple(bad))
    clock.lap("write")
    return ChunkDone(source.slide_id, chunk, sum(map(len, rows)), len(bad), clock.seconds, encoder_place(encoder))


def finish_slide(finish: Any, source: SlideSource, path: Path, spent_s: float) -> tuple[Any, dict[str, float]]:
    """Run what follows extraction, and say how long it took."""
    clock = _Clock()
    value = finish(source, FeatureStore(path), spent_s)
    clock.lap("grade")
    return value, clock.seconds


def check_bad(slide_id: str, bad: Sequence[BadTile], tiles: int, max_bad: float) -> None:
    """Refuse a slide of which too much is unreadable.

    Raises
    ------
    TooManyBadTilesError
    """
    share = len(bad) / tiles
    if bad and (share > max_bad or len(bad) == tiles):
        raise TooManyBadTilesError(
            f"{slide_id}: {len(bad)} of {tiles} tiles ({share:.0%}) cannot be read, "
            f"at most {max_bad:.0%} is borne; the first: {bad[0].reason}"
        )


def check_bad_of(writer: FeatureWriter, max_bad: float) -> None:
    """`check_bad` before publishing; the stage of a slide that is refused is removed, so that a better copy fits."""
    try:
        check_bad(writer.store.stem, writer.bad_tiles(), writer.tiles, max_bad)
    except TooManyBadTilesError:
        shutil.rmtree(writer.stage)
        raise


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


# --- what a worker keeps ----------------------------------------------------------------------------------------

_encoders: dict[tuple[str, str, Any, str], Encoder] = {}
_encoder_lock = threading.Lock()
_kept = threading.local()
_kept_anywhere: "list[OrderedDict[Any, tuple[Slide, Any]]]" = []


def worker_encoder(config: ExtractConfig) -> Encoder:
    """The encoder, loaded once in a process and shared by its threads; anew if another file of weights lies there."""
    key = (config.encoder, str(config.weights), _file_stamp(config.weights), config.device)
    with _encoder_lock:
        if key not in _encoders:
            _encoders[key] = load_encoder(config.encoder, weights=config.weights, device=config.device)
        return _encoders[key]


def encoder_place(encoder: Encoder) -> str:
    """ "cpu", or which card of which machine it runs on: equal for workers that share one."""
    if encoder.device == "cpu":
        return "cpu"
    return f"{socket.gethostname()} {encoder.device} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}".rstrip()


def _file_stamp(path: Path | None) -> tuple[int, int] | None:
    if path is None or not path.is_file():
        return None
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def check_encoder_takes(config: ExtractConfig) -> None:
    """Refuse, before any slide is opened, tiles that the encoder does not take.

    Their scale and their kernel are the user's to choose: the card has what the authors used, the recipe what was used.

    Raises
    ------
    RecipeMismatchError
        If the encoder's input has another size.
    UsageError
        If there is no such encoder or it lacks its weights.
    """
    card = worker_encoder(config).card
    if card.tile_px != config.tiles.tile_px:
        raise RecipeMismatchError(
            f"the encoder {card.name} takes tile_px = {card.tile_px}, asked for is {config.tiles.tile_px}; "
            f"tiles are never resized to fit: use --tile-px {card.tile_px}"
        )


def encoder_name(config: ExtractConfig) -> str:
    """The name under which the features are published."""
    return worker_encoder(config).card.name


def _slide_and_grid(source: SlideSource, store: Path, config: ExtractConfig) -> tuple[Slide, Any]:
    """An open slide and its grid, the last few kept by each thread."""
    kept: OrderedDict[Any, tuple[Slide, Any]] = _kept.__dict__.setdefault("slides", OrderedDict())
    digest = FeatureStore(store).grid_sha256
    key = (source, config.reader, store, digest)
    if key not in kept:
        if not kept:
            _kept_anywhere.append(kept)
        published = FeatureStore(store)
        slide = source.open(reader=config.reader, content_hash=published.slide.content_hash)
        kept[key] = (slide, published.grid)
        while len(kept) > OPEN_SLIDES_A_THREAD:
            kept.popitem(last=False)[1][0].close()
    kept.move_to_end(key)
    return kept[key]


class _Tasks:
    """How many tasks run in this process; workers of an existing scheduler may serve several runs at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = 0

    def begin(self) -> None:
        with self.lock:
            self.running += 1

    def end(self) -> None:
        with self.lock:
            self.running -= 1


_tasks = _Tasks()


def close_slides() -> None:
    """Close what the threads of this process have kept open, unless another run's task is at work here."""
    with _tasks.lock:
        while _kept_anywhere and not _tasks.running:
            kept = _kept_anywhere.pop()
            while kept:
                kept.popitem()[1][0].close()


# --- the slide's hash, not computed twice -----------------------------------------------------------------------


NOTE = ".source.json"


Stamp = list[list[int]] | list[list[int | str]]


def source_stamp(source: SlideSource) -> Stamp:
    """Sizes and modification times of the slide's files, sorted; they say whether it must be hashed again.

    Of a remote slide its size and what the server says of its version; empty if it says nothing.

    Raises
    ------
    UnreadableSlideError
        If there is no such file, or the way to it is barred.
    """
    if isinstance(source.path, SlideUrl):
        return _remote_stamp(source.path)
    try:
        return sorted([part.stat().st_size, part.stat().st_mtime_ns] for part in slide_files(source.path))
    except FileNotFoundError as error:
        raise UnreadableSlideError(f"{source.path.name}: no such file; check the path or the mount") from error
    except OSError as error:
        raise UnreadableSlideError(f"{source.path.name}: cannot be reached ({error.strerror})") from error


def _remote_stamp(url: SlideUrl) -> list[list[int | str]]:
    from wsi.remote_bytes import RemoteBytes

    with closing(RemoteBytes(url)) as remote:
        return [[remote.size, remote.version]] if remote.version else []


def source_hash(source: SlideSource, store: FeatureStore | None, stamp: Stamp) -> str:
    """The slide's content hash: the store's, where it was noted with the same stamp, else of the files."""
    try:
        if store is not None and stamp:
            note = json.loads((store.path / NOTE).read_bytes())
            if note == {"stamp": stamp, "content_hash": store.slide.content_hash}:
                return store.slide.content_hash
    except (OSError, ValueError):
        pass
    return hash_slide(source.path)


def remember_hash(store: Path, content_hash: str, stamp: Stamp) -> None:
    """Note the hash with the stamp that the files had before it, so that a second start need not read them again."""
    write_json(store / NOTE, {"stamp": stamp, "content_hash": content_hash})


__all__ = ["ExtractConfig", "Failure", "Listener", "Listeners", "Plan", "SlideResult", "run_pipeline"]
