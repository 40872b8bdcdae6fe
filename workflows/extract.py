"""`histograde extract`: slides to feature stores."""

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from workflows.options import (
    CHUNK_TILES,
    KEEP_FREE,
    MAX_BAD,
    PATIENCE,
    TASK_LIMIT,
    ChunkTiles,
    Cluster,
    ClusterOptions,
    Device,
    KeepFree,
    MaxBad,
    Patience,
    ReaderName,
    RetryQuarantined,
    Scheduler,
    SlideMpp,
    Slides,
    TaskLimit,
    Weights,
    Workers,
)

if TYPE_CHECKING:
    from workflows.extraction import ExtractConfig
    from workflows.failures import Failure
    from workflows.listeners import Listener, SlideResult
    from workflows.sources import SlideSource
    from wsi.kernels import Kernel
    from wsi.store_url import StorePath


def command(
    slides: Slides,
    store: Annotated[
        str, typer.Option(metavar="DIR", help="Folder of the stores, made if it is not there; or s3://BUCKET/PREFIX.")
    ],
    encoder: Annotated[str, typer.Option(help="`histograde encoders` lists them; timm:NAME with --weights.")] = "lite0",
    weights: Weights = None,
    mpp: Annotated[float, typer.Option(help="Scale of the tiles in um/px.")] = 0.5,
    tile_px: Annotated[int, typer.Option(help="Side of a tile in pixels; must be the encoder's.")] = 224,
    stride_px: Annotated[
        int | None, typer.Option(help="Distance of neighbouring tiles in their pixels.", show_default="tile-px")
    ] = None,
    min_tissue: Annotated[float, typer.Option(help="Smallest share of tissue in a tile, above 0 up to 1.")] = 0.5,
    kernel: Annotated[
        str | None,
        typer.Option(help="Resampling: area, bilinear, bicubic or lanczos.", show_default="the encoder's, mostly area"),
    ] = None,
    slide_mpp: SlideMpp = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    cluster_options: ClusterOptions = None,
    device: Device = "auto",
    reader: ReaderName = None,
    max_bad: MaxBad = MAX_BAD,
    chunk_tiles: ChunkTiles = CHUNK_TILES,
    retry_quarantined: RetryQuarantined = False,
    task_limit: TaskLimit = TASK_LIMIT,
    patience: Patience = PATIENCE,
    keep_free: KeepFree = KEEP_FREE,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of log.jsonl.", show_default="the store; of one in a bucket ./PREFIX-log"
        ),
    ] = None,
) -> None:
    """Slides to tissue, tiles and features, in one Zarr v3 store per slide.

    Run it again at any time: what is done is checked and skipped, what is damaged is repaired, and after a crash the
    work goes on inside the slide. A slide that cannot be processed is quarantined with its reason, and not tried again
    before it has changed. A full disk, or an archive that is away, pauses the work until it is there again.

    Example: `histograde extract slides/ --store features/`
    """
    from workflows.extraction import ExtractConfig
    from workflows.policy import policy_of
    from workflows.sources import find_slides
    from wsi.store_url import store_location
    from wsi.tiles import TileSpec
    from wsi.units import parse_mpp

    config = ExtractConfig(
        store=store_location(store),
        encoder=encoder,
        weights=weights,
        tiles=TileSpec(
            tile_px,
            mpp,
            tile_px if stride_px is None else stride_px,
            min_tissue,
            cast("Kernel", "area" if kernel is None else kernel),
        ),
        device=device,
        reader=reader,
        max_bad=max_bad,
        chunk_tiles=chunk_tiles,
        workers=workers,
        scheduler=scheduler,
        cluster=cluster,
        cluster_options=cluster_options,
        policy=policy_of(task_limit, patience, keep_free, retry_quarantined=retry_quarantined),
    )
    sources = find_slides(slides, None if slide_mpp is None else parse_mpp(slide_mpp))
    folder = log_folder(config.store, log)
    summary = extract(sources, with_the_encoders_kernel(config) if kernel is None else config, log=folder)
    typer.echo(summary.text(config.store))
    if folder != config.store:
        typer.echo(f"log: {folder}/log.jsonl (`histograde status {folder}`)")
    if summary.quarantined:
        raise typer.Exit(3)


def with_the_encoders_kernel(config: "ExtractConfig") -> "ExtractConfig":
    """Tiles resampled as the encoder's card says that its authors did it; loads the encoder."""
    from workflows.worker import worker_encoder

    return replace(config, tiles=replace(config.tiles, kernel=worker_encoder(config).card.kernel))


@dataclass(slots=True)
class ExtractSummary:
    """What an extraction came to."""

    slides: int = 0
    tiles: int = 0
    bad: int = 0
    chunks: int = 0
    seconds: float = 0.0
    quarantined: "list[Failure]" = field(default_factory=list)
    results: "list[SlideResult]" = field(default_factory=list)

    def add(self, result: "SlideResult") -> None:
        """Count one slide."""
        self.slides += 1
        self.results.append(result)
        if result.failure is not None:
            self.quarantined.append(result.failure)
            return
        self.tiles += result.tiles
        self.bad += result.bad
        self.chunks += result.chunks

    def text(self, store: "StorePath") -> str:
        """A few lines for people."""
        from workflows.progress import clock

        done = self.slides - len(self.quarantined)
        head = (
            f"{done} of {self.slides} slides in {store}: {self.tiles:,} tiles, {self.bad} bad, "
            f"{self.chunks} chunks computed in this run, {clock(self.seconds)}"
        )
        lines = [f"  {one.slide_id}: {one.message} [{one.error_class}] -> {one.remedy}" for one in self.quarantined]
        remembered = sum(result.remembered for result in self.results)
        before = f", {remembered} of them known from an earlier start (--retry-quarantined)" if remembered else ""
        return "\n".join([head, *([f"{len(lines)} quarantined{before}:", *lines] if lines else [])])


def log_folder(store: "StorePath", asked: Path | None = None) -> Path:
    """Where the log of a run lies: with the stores, but nothing can be appended to an object in a bucket."""
    if asked is not None:
        return asked
    return store if isinstance(store, Path) else Path(f"{store.name}-log")


def make_root(store: "StorePath") -> None:
    """Make the folder of the stores; of a bucket see whether it answers.

    Raises
    ------
    UsageError
        If that cannot be.
    UnreachableStoreError
        If the bucket's server does not answer.
    """
    from wsi.errors import UsageError

    if not isinstance(store, Path):
        store.is_dir()
        return
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{store}: cannot be the folder of the stores ({error.strerror}); check --store") from error


def extract(
    sources: "list[SlideSource]",
    config: "ExtractConfig",
    listener: "Listener | None" = None,
    *,
    log: Path | None = None,
) -> ExtractSummary:
    """Extract features of all slides, and write `run.json` and the log into the store's folder.

    Parameters
    ----------
    listener : Listener, optional
        Hears how the work goes instead of a display on standard error; `Listener()` is quiet.
    log : Path, optional
        Another folder for the log; default is that of `log_folder`.

    Raises
    ------
    WsiError
        If the encoder cannot be loaded or does not take such tiles. A slide's own fault is in the summary instead.
    """
    from workflows.cluster import connect
    from workflows.config import RunRecord, throughput
    from workflows.listeners import total_seconds
    from workflows.pipeline import run_pipeline
    from workflows.progress import listening
    from workflows.run_log import RunLog
    from workflows.worker import check_encoder_takes

    folder = log_folder(config.store, log)
    make_root(config.store)
    make_root(folder)
    check_encoder_takes(config)
    summary = ExtractSummary()
    start = time.perf_counter()
    with (
        RunLog(folder, "extract", len(sources), config) as written,
        connect(*config.place) as client,
        listening("extract", client, written, listener) as ears,
    ):
        ears.begin(len(sources))
        for result in run_pipeline(client, sources, config, ears, folder=folder):
            summary.add(result)
    summary.seconds = time.perf_counter() - start
    record = RunRecord("extract", asdict(config))
    record.inputs = {one.source.slide_id: one.content_hash for one in summary.results if one.content_hash}
    record.counts = {
        "slides": summary.slides,
        "quarantined": len(summary.quarantined),
        "tiles": summary.tiles,
        "bad_tiles": summary.bad,
        "chunks_computed": summary.chunks,
    }
    record.timings_s = total_seconds(summary.results) | {"wall": summary.seconds}
    record.throughput = throughput(summary.slides - len(summary.quarantined), record.timings_s)
    record.write(config.store)
    return summary
