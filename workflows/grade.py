"""`histograde grade`: the main job, from slides to a worklist with heatmaps and a report."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workflows.options import (
    CHUNK_TILES,
    KEEP_FREE,
    MAX_BAD,
    PATIENCE,
    TASK_LIMIT,
    WATCH_STABLE_S,
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
    SlidesOrNone,
    TaskLimit,
    Weights,
    Workers,
)
from workflows.run_tables import GradeSummary, RunTables

if TYPE_CHECKING:
    from mil.model_folder import GradingModel
    from mil.prediction import Prediction
    from workflows.extraction import ExtractConfig
    from workflows.gradings import Grading, ModelSummary
    from workflows.intake import Intake
    from workflows.listeners import Listener, SlideResult
    from workflows.policy import Policy
    from workflows.results import GradedSlide
    from workflows.sources import SlideSource
    from workflows.watch import FolderWatch, WatchConfig
    from wsi.slide import Slide
    from wsi.store import FeatureStore
    from wsi.store_url import StorePath

THUMBNAIL_PX = 1600
TOP_TILES = 8
TABLES_REST = 2.0
"""Tables of a watch are wanted soon: they rest less than the report, which has a page for every slide."""

EXIT_QUARANTINED = 3


def command(
    model: Annotated[Path, typer.Option(metavar="DIR", help="Model folder made by `histograde train`.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run; the same one again resumes it.")],
    slides: SlidesOrNone = None,
    watch: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER", help="Instead of SLIDES: grade slides as they arrive in a folder. May be given again."
        ),
    ] = None,
    watch_idle: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES", min=0, help="End a watch when no slide has come for so long.", show_default="never"
        ),
    ] = None,
    watch_stable: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="A slide has arrived when its files have not changed for so long."),
    ] = WATCH_STABLE_S,
    store: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder of the feature stores, or s3://...", show_default="RUN/features"),
    ] = None,
    slide_mpp: SlideMpp = None,
    weights: Weights = None,
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
    inside_tiles: Annotated[
        bool,
        typer.Option(
            "--inside-tiles", help="Show where inside the most-attended tiles the evidence lies: some seconds a slide."
        ),
    ] = False,
) -> None:
    """Slides to grades, heatmaps, a worklist and a report: extracts what is missing, then predicts.

    Writes predictions.csv (and .parquet), worklist.csv, quarantine.csv, run.json, log.jsonl, heatmaps/ and
    report/index.html.
    Exit code 0: all graded. 3: some slides are in quarantine, each with its reason.

    A watch ends at Ctrl-C or SIGTERM, when the slides in work are done; the second one stops it now.

    Example: `histograde grade archive/ --model model/ --out graded/`
    """
    from workflows.policy import policy_of
    from workflows.sources import find_slides
    from wsi.errors import UsageError
    from wsi.store_url import store_location
    from wsi.units import parse_mpp

    if bool(slides) == bool(watch):
        raise UsageError("give either SLIDES or --watch FOLDER" + (", not both" if slides else ""))
    policy = policy_of(task_limit, patience, keep_free, retry_quarantined=retry_quarantined)
    place = (scheduler, cluster, cluster_options)
    mpp = None if slide_mpp is None else parse_mpp(slide_mpp)
    watched = _watch_config(watch, mpp, watch_idle, watch_stable) if watch else None
    stores = store_location(store or out / "features")
    config = GradeConfig(
        model,
        out,
        stores,
        weights,
        workers,
        device,
        reader,
        max_bad,
        *place,
        policy,
        watched,
        chunk_tiles,
        inside_tiles,
    )
    summary = grade(find_slides(slides, mpp) if slides else [], config)
    typer.echo(summary.text(out))
    if summary.quarantined:
        raise typer.Exit(EXIT_QUARANTINED)


def _watch_config(
    folders: list[Path], mpp: tuple[float, float] | None, idle_min: float | None, stable_s: float
) -> "WatchConfig":
    from workflows.watch import SCAN_EVERY_S, WatchConfig

    idle_s = None if idle_min is None else 60 * idle_min
    return WatchConfig(
        tuple(folders), mpp, idle_s=idle_s, stable_s=stable_s, scan_every_s=min(SCAN_EVERY_S, stable_s / 2)
    )


@dataclass(frozen=True, slots=True)
class GradeConfig:
    """Everything that decides how slides are graded.

    Attributes
    ----------
    model : Path
        Model folder.
    out : Path
        The run folder.
    store : Path or StoreUrl
        Folder of the feature stores.
    weights, workers, device, reader, max_bad, scheduler, cluster, cluster_options, policy, chunk_tiles
        As in `workflows.extraction.ExtractConfig`; without a policy its defaults hold.
    watch : WatchConfig, optional
        Where slides come from that are not known yet; what the run writes is left out.
    inside_tiles : bool
        Whether the most-attended tiles get a map of their inside.
    """

    model: Path
    out: Path
    store: "StorePath"
    weights: Path | None = None
    workers: int = 0
    device: str = "auto"
    reader: str | None = None
    max_bad: float = MAX_BAD
    scheduler: str | None = None
    cluster: str | None = None
    cluster_options: Path | None = None
    policy: "Policy | None" = None
    watch: "WatchConfig | None" = None
    chunk_tiles: int = CHUNK_TILES
    inside_tiles: bool = False


def grade(sources: "list[SlideSource]", config: GradeConfig, listener: "Listener | None" = None) -> GradeSummary:
    """Grade slides into a run folder.

    A second call with the same folder does only what is missing. Features that lie in the store already are used
    after a check of their checksums. Where a folder is watched, tables and report are written anew while it goes on,
    and keep what earlier calls have graded, though the slide may have left the folder.

    Parameters
    ----------
    sources : list of SlideSource
        Empty where `config.watch` says from where they come.
    listener : Listener, optional
        Hears how the work goes instead of a display on standard error; `Listener()` is quiet.

    Raises
    ------
    WsiError
        If the model or its encoder cannot be loaded, or the run folder holds the work of another model.
    """
    from mil.model_folder import load_model
    from workflows.gradings import save_model
    from workflows.pages import write_report
    from workflows.run_log import RunLog
    from workflows.worker import check_encoder_takes, worker_encoder
    from wsi.files import sweep_temporaries
    from wsi.store_writer import check_card

    start = time.perf_counter()
    watch = _watch(config)
    model = load_model(config.model)
    extraction = extract_config(model, config)
    check_encoder_takes(extraction)
    check_card(f"the model {config.model.name}", model.card.encoder_card, worker_encoder(extraction).card.to_dict())
    if config.inside_tiles:
        from workflows.inside_tiles import check_encoder

        check_encoder(worker_encoder(extraction))
    summary = model_summary(model)
    config.out.mkdir(parents=True, exist_ok=True)
    _check_same_model(config.out, summary)
    save_model(config.out, summary)
    sweep_temporaries(config.out, below=False)
    sweep_temporaries(config.out / "report")
    tables = RunTables(config.out, asdict(config), start, () if watch is None else _graded_before(config.out))
    folders = () if config.watch is None else config.watch.folders
    with RunLog(config.out, "grade", len(sources), extraction, folders) as log:
        _grade_each(sources if watch is None else watch, config, extraction, summary, tables, log, listener)
        done = replace(tables.save(), model=summary)
        write_report(config.out)
        return done


def _watch(config: GradeConfig) -> "FolderWatch | None":
    from workflows.trial_opening import TrialOpening
    from workflows.watch import FolderWatch

    if config.watch is None:
        return None
    written = [folder for folder in (config.out, config.store) if isinstance(folder, Path)]
    leave_out = (*config.watch.leave_out, *written)
    return FolderWatch(replace(config.watch, leave_out=leave_out), trial=TrialOpening(config.reader))


def _graded_before(run: Path) -> "tuple[Grading, ...]":
    from workflows.gradings import PREDICTIONS, load_predictions

    return load_predictions(run) if (run / PREDICTIONS).exists() else ()


def _grade_each(
    sources: "list[SlideSource] | FolderWatch",
    config: GradeConfig,
    extraction: "ExtractConfig",
    summary: "ModelSummary",
    tables: RunTables,
    log: "Listener",
    listener: "Listener | None",
) -> None:
    from workflows.cluster import check_folder_is_shared, connect
    from workflows.pipeline import run_pipeline
    from workflows.progress import listening
    from workflows.watched_intake import shield_workers

    with connect(*extraction.place) as client, listening("grade", client, log, listener) as ears:
        ears.begin(len(sources) if isinstance(sources, list) else 0)
        if config.scheduler or config.cluster:
            check_folder_is_shared(client, config.out)
        looks = extraction.absolute() if config.inside_tiles else None
        finish = GradeOne(config.out.absolute(), config.model.absolute(), config.reader, summary, looks)

        def through(slides: "list[SlideSource] | Intake") -> "Iterator[SlideResult]":
            return run_pipeline(client, slides, extraction, ears, finish, folder=config.out)

        if isinstance(sources, list):
            for result in through(sources):
                tables.add(result)
            return
        if config.workers and not (config.scheduler or config.cluster):
            shield_workers(client)
        _grade_watched(sources, config, through, tables, ears)


def _grade_watched(
    watch: "FolderWatch",
    config: GradeConfig,
    through: "Callable[[Intake], Iterator[SlideResult]]",
    tables: RunTables,
    ears: "Listener",
) -> None:
    """Grade what arrives, and write tables and report anew meanwhile."""
    from workflows.pages import write_report
    from workflows.rewriting import Rewriter
    from workflows.watched_intake import watching

    every_s = watch.config.rewrite_every_s
    report = Rewriter(lambda: write_report(config.out), ears.note, every_s=every_s)

    def save() -> None:
        tables.save()
        report.changed()

    with (
        watching(watch, ears, config.store) as intake,
        report,
        Rewriter(save, ears.note, every_s=every_s, rest=TABLES_REST) as written,
    ):
        for result in through(intake):
            intake.done(result)
            tables.add(result)
            written.changed()


def extract_config(model: "GradingModel", config: GradeConfig) -> "ExtractConfig":
    """How slides must be extracted for a model: as its training slides were.

    Raises
    ------
    RecipeMismatchError
        If the model's recipe is one that this version cannot repeat.
    """
    from mil.encoders import asked_name
    from workflows.extraction import ExtractConfig
    from workflows.policy import Policy
    from wsi.errors import RecipeMismatchError
    from wsi.tiles import TileSpec

    _check_repeatable(model)
    extraction = ExtractConfig(
        store=config.store,
        encoder=asked_name(model.encoder),
        weights=config.weights,
        tiles=TileSpec(**model.card.recipe["tiles"]),
        device=config.device,
        reader=config.reader,
        max_bad=config.max_bad,
        workers=config.workers,
        scheduler=config.scheduler,
        cluster=config.cluster,
        cluster_options=config.cluster_options,
        chunk_tiles=config.chunk_tiles,
        policy=config.policy or Policy(),
    )
    for field, value in model.card.recipe["tissue"].items():
        if extraction.recipe["tissue"].get(field) != value:
            raise RecipeMismatchError(
                f"the model was trained with tissue.{field} = {value!r}, this version has "
                f"{extraction.recipe['tissue'].get(field)!r}; train anew, or use the version that made the model"
            )
    return extraction


def _check_repeatable(model: "GradingModel") -> None:
    """Refuse a model of imported features, by the names of what is unknown of their making."""
    from wsi.errors import RecipeMismatchError

    imported = model.card.recipe.get("imported")
    if imported is None:
        return
    parts = {"encoder": model.card.encoder_card, **model.card.recipe}
    unknown = [f"{part}.{name}" for part, values in parts.items() for name, value in values.items() if value is None]
    raise RecipeMismatchError(
        f"the model was trained on features imported from {imported['tool']}, and slides cannot be turned into the "
        f"same here: unknown are {', '.join(unknown)}; extract the training slides with `histograde extract` "
        "and train anew"
    )


_models: "dict[tuple[Path, str], GradingModel]" = {}
"""By folder and model_id: workers may outlive a run, and the folder hold another model by the next."""


@dataclass(frozen=True, slots=True)
class GradeOne:
    """Grades one slide from its store and draws its heatmaps. Runs on workers, where the model is loaded once."""

    out: Path
    model: Path
    reader: str | None
    summary: "ModelSummary"
    looks: "ExtractConfig | None" = None
    """Whose encoder looks inside of the most-attended tiles."""

    def __call__(self, source: "SlideSource", store: "FeatureStore", seconds: float) -> "Grading":
        from workflows.heatmaps import FOLDER, render_slide
        from workflows.inside_tiles import with_insides
        from workflows.results import load_slide, save_slide, slide_folder
        from workflows.shown_map import own_map
        from workflows.worker import worker_encoder
        from wsi.files import sweep_temporaries

        if (done := self._done_before(source, store)) is not None:
            return done
        from mil.bag import Bag

        clock = time.perf_counter()
        model = self.load()
        model.check_store(store)
        bag = Bag.from_store(store, model.encoder)
        prediction, outlier = model.predict(bag), model.check_outlier(bag, store)
        own = own_map(self.summary)
        shown = None if own is None else model.tile_map(bag, own)
        slide = source.open(reader=self.reader, content_hash=store.slide.content_hash)
        try:
            graded = graded_slide(source, store, slide, prediction, model.encoder)
            if self.looks:
                tops = with_insides(
                    model, worker_encoder(self.looks), bag, slide, store.grid, graded.top_tiles, graded.predicted
                )
                graded = replace(graded, top_tiles=tops)
        finally:
            slide.close()
        graded = replace(graded, shown=shown, shown_name=own or "", outlier=outlier)
        graded = replace(graded, seconds=seconds + time.perf_counter() - clock)
        shutil.rmtree(slide_folder(self.out, source.slide_id, FOLDER), ignore_errors=True)
        sweep_temporaries(slide_folder(self.out, source.slide_id))
        save_slide(self.out, graded)
        kept = load_slide(self.out, source.slide_id)  # with the thumbnail as it is kept: `render` gives the same bytes
        render_slide(self.out, kept.maps(self.summary))
        return kept.grading

    def load(self) -> "GradingModel":
        """The model, loaded once in a process."""
        from mil.model_folder import load_model

        key = (self.model, self.summary.model_id)
        if key not in _models:
            _models[key] = load_model(self.model)
        return _models[key]

    def _done_before(self, source: "SlideSource", store: "FeatureStore") -> "Grading | None":
        """The slide's result by this model, if an earlier run finished it."""
        from workflows.heatmaps import FOLDER
        from workflows.results import load_slide, slide_folder
        from workflows.shown_map import own_map
        from wsi.errors import WsiError
        from wsi.exports import EXPORTS

        folder = slide_folder(self.out, source.slide_id, FOLDER)
        try:
            graded = load_slide(self.out, source.slide_id)
        except WsiError:
            return None
        same = graded.model_id == self.summary.model_id and graded.info == store.slide
        same = same and graded.patient_id == source.patient_id
        same = same and (graded.class_set is None) == (self.summary.coverage is None)
        same = same and graded.shown_name == (own_map(self.summary) or "")
        same = same and (self.looks is None or all(tile.inside is not None for tile in graded.top_tiles))
        same = same and (graded.outlier is None) == (self.summary.false_alarms is None)
        drawn = all((folder / name).is_file() for export in EXPORTS.values() for name in export.file_names)
        return graded.grading if same and drawn else None


def graded_slide(
    source: "SlideSource", store: "FeatureStore", slide: "Slide", prediction: "Prediction", encoder: str
) -> "GradedSlide":
    """Put together all that is kept of a slide: its prediction, thumbnail and most-attended tiles."""
    from shapely import MultiPolygon

    from workflows.results import GradedSlide, TopTile, top_tile_rows
    from wsi.slide import thumbnail

    grid, tissue = store.grid, store.tissue
    w, h = (round(side) for side in grid.side_px0)
    tops = []
    for row in top_tile_rows(grid, prediction.rows, prediction.attention, TOP_TILES):
        x, y = grid.coords[row].tolist()
        tops.append(TopTile(int(row), slide.read_region((x, y), 0, (w, h))))
    return GradedSlide(
        info=store.slide,
        patient_id=source.patient_id,
        task=prediction.task,
        classes=prediction.classes,
        probabilities=prediction.probabilities,
        predicted=prediction.label,
        calibrated=prediction.calibrated,
        model_id=prediction.model_id,
        seconds=0.0,
        grid=grid,
        rows=prediction.rows,
        attention=prediction.attention,
        evidence=prediction.tile_evidence,
        bad=tuple(store.bad_tiles(encoder)),
        tissue=MultiPolygon(tissue.polygons()),
        tissue_area_um2=tissue.area_um2,
        thumbnail=thumbnail(slide, THUMBNAIL_PX),
        top_tiles=tuple(tops),
        qc=store.meta.get("qc", {}),
        class_set=prediction.class_set,
    )


def model_summary(model: "GradingModel") -> "ModelSummary":
    """What the report says of a model."""
    from workflows.assurances import audit_texts, calibration_text, outliers_text, sets_text
    from workflows.gradings import Metric, ModelSummary
    from workflows.shown_map import with_map

    card, training = model.card, model.card.training
    sites = training["sites"]
    where = f"{len(sites)} sites ({', '.join(sites)})" if len(sites) > 1 else f"one site ({sites[0]})" if sites else ""
    summary = ModelSummary(
        model_id=model.model_id,
        name=card.network.model,
        task=card.task,
        classes=card.classes,
        encoder=card.encoder_card,
        cohort={"slides": training["slides"], "patients": training["patients"], "sites": len(sites) or "not stated"},
        metrics=tuple(
            Metric(name, one["estimate"], one["low"], one["high"])
            for name, one in training["held_out"].items()
            if None not in (one["estimate"], one["low"], one["high"])
        ),
        metrics_on=f"{training['folds']}-fold cross-validation by patient",
        calibrated=model.calibrated,
        calibration=calibration_text(card.calibration),
        limits=(
            "Research use only: not a medical device, and not to be used for diagnosis or treatment.",
            f"Trained on {training['slides']} slides of {training['patients']} patients from "
            f"{where or 'an unknown number of sites'}; other stains, scanners and organs are outside what it has seen.",
            f"Tiles were embedded by {card.encoder_card['name']} ({card.encoder_card['licence']}) at "
            f"{card.recipe['tiles']['mpp']:g} um/px.",
            "Attention shows what the model weighed, not where a tumour is.",
            *audit_texts(training.get("audit")),
        ),
        coverage=card.sets["coverage"] if card.sets else None,
        sets=sets_text(card.sets, card.task),
        false_alarms=card.outliers["false_alarms"] if card.outliers else None,
        outliers=outliers_text(card.outliers),
    )
    return with_map(summary, model.faithfulness)


def _check_same_model(out: Path, summary: "ModelSummary") -> None:
    from workflows.gradings import MODEL, load_model
    from wsi.errors import RecipeMismatchError

    if (out / MODEL).exists() and (kept := load_model(out)).model_id != summary.model_id:
        raise RecipeMismatchError(
            f"{out}: holds a run of model {kept.model_id}, asked for is {summary.model_id}; use another --out folder"
        )
