"""`histograde grade`: the main job, from slides to a worklist with heatmaps and a report."""

import shutil
import time
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
    from mil.model_folder import GradingModel
    from mil.prediction import Prediction
    from workflows.extraction import ExtractConfig
    from workflows.gradings import Grading, ModelSummary, Quarantined
    from workflows.listeners import Listener, SlideResult
    from workflows.policy import Policy
    from workflows.results import GradedSlide
    from workflows.sources import SlideSource
    from wsi.slide import Slide
    from wsi.store import FeatureStore

THUMBNAIL_PX = 1600
TOP_TILES = 8
EXIT_QUARANTINED = 3


def command(
    slides: Slides,
    model: Annotated[Path, typer.Option(metavar="DIR", help="Model folder made by `histograde train`.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run; the same one again resumes it.")],
    store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the feature stores.", show_default="RUN/features")
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
) -> None:
    """Slides to grades, heatmaps, a worklist and a report: extracts what is missing, then predicts.

    Writes predictions.csv (and .parquet), worklist.csv, quarantine.csv, run.json, log.jsonl, heatmaps/ and
    report/index.html.
    Exit code 0: all graded. 3: some slides are in quarantine, each with its reason.

    Example: `histograde grade archive/ --model model/ --out graded/`
    """
    from workflows.policy import policy_of
    from workflows.sources import find_slides
    from wsi.units import parse_mpp

    policy = policy_of(task_limit, patience, keep_free, retry_quarantined=retry_quarantined)
    place = (scheduler, cluster, cluster_options)
    config = GradeConfig(
        model, out, store or out / "features", weights, workers, device, reader, max_bad, *place, policy, chunk_tiles
    )
    summary = grade(find_slides(slides, None if slide_mpp is None else parse_mpp(slide_mpp)), config)
    typer.echo(summary.text(out))
    if summary.quarantined:
        raise typer.Exit(EXIT_QUARANTINED)


@dataclass(frozen=True, slots=True)
class GradeConfig:
    """Everything that decides how slides are graded.

    Attributes
    ----------
    model : Path
        Model folder.
    out : Path
        The run folder.
    store : Path
        Folder of the feature stores.
    weights, workers, device, reader, max_bad, scheduler, cluster, cluster_options, policy, chunk_tiles
        As in `workflows.extraction.ExtractConfig`; without a policy its defaults hold.
    """

    model: Path
    out: Path
    store: Path
    weights: Path | None = None
    workers: int = 0
    device: str = "auto"
    reader: str | None = None
    max_bad: float = MAX_BAD
    scheduler: str | None = None
    cluster: str | None = None
    cluster_options: Path | None = None
    policy: "Policy | None" = None
    chunk_tiles: int = CHUNK_TILES


@dataclass(slots=True)
class GradeSummary:
    """What a run came to."""

    gradings: "list[Grading]"
    quarantined: "list[Quarantined]"
    seconds: float
    remembered: int = 0

    def text(self, out: Path) -> str:
        """A few lines for people."""
        from workflows.progress import clock

        total = len(self.gradings) + len(self.quarantined)
        lines = [f"{len(self.gradings)} of {total} slides graded in {clock(self.seconds)}: {out}/report/index.html"]
        if self.quarantined:
            before = f", {self.remembered} of them known from an earlier start" if self.remembered else ""
            lines.append(f"{len(self.quarantined)} in quarantine (quarantine.csv){before}:")
            lines += [
                f"  {one.slide_id}: {one.message} [{one.error_class}] -> {one.remedy}" for one in self.quarantined
            ]
        return "\n".join(lines)


def grade(sources: "list[SlideSource]", config: GradeConfig, listener: "Listener | None" = None) -> GradeSummary:
    """Grade slides into a run folder.

    A second call with the same folder does only what is missing. Features that lie in the store already are used
    after a check of their checksums.

    Parameters
    ----------
    listener : Listener, optional
        Hears how the work goes instead of a display on standard error; `Listener()` is quiet.

    Raises
    ------
    WsiError
        If the model or its encoder cannot be loaded, or the run folder holds the work of another model.
    """
    from mil.model_folder import load_model
    from workflows.gradings import save_model
    from workflows.run_log import RunLog
    from workflows.worker import check_encoder_takes, worker_encoder
    from wsi.files import sweep_temporaries
    from wsi.store_writer import check_card

    start = time.perf_counter()
    model = load_model(config.model)
    extraction = extract_config(model, config)
    check_encoder_takes(extraction)
    check_card(f"the model {config.model.name}", model.card.encoder_card, worker_encoder(extraction).card.to_dict())
    summary = model_summary(model)
    config.out.mkdir(parents=True, exist_ok=True)
    _check_same_model(config.out, summary)
    save_model(config.out, summary)
    sweep_temporaries(config.out, below=False)
    sweep_temporaries(config.out / "report")
    with RunLog(config.out, "grade", len(sources), extraction) as log:
        results = _grade_each(sources, config, extraction, summary, log, listener)
        return _save(config, results, start)


def _grade_each(
    sources: "list[SlideSource]",
    config: GradeConfig,
    extraction: "ExtractConfig",
    summary: "ModelSummary",
    log: "Listener",
    listener: "Listener | None",
) -> "list[SlideResult]":
    from workflows.cluster import check_folder_is_shared, connect
    from workflows.pipeline import run_pipeline
    from workflows.progress import listening

    results = []
    with connect(*extraction.place) as client, listening("grade", client, log, listener) as ears:
        ears.begin(len(sources))
        if config.scheduler or config.cluster:
            check_folder_is_shared(client, config.out)
        finish = GradeOne(config.out.absolute(), config.model.absolute(), config.reader, summary)
        for result in run_pipeline(client, sources, extraction, ears, finish, folder=config.out):
            results.append(result)
    return results


def _save(config: GradeConfig, results: "list[SlideResult]", start: float) -> GradeSummary:
    """The tables and the report of a run; `start` is what the clock of `time.perf_counter` showed."""
    from workflows.gradings import Quarantined, save_predictions, save_quarantine
    from workflows.pages import write_report
    from workflows.worklist import rank_slides, save_worklist

    results.sort(key=lambda result: result.source.slide_id)
    gradings = [result.value for result in results if result.failure is None]
    quarantined = [
        Quarantined(one.slide_id, one.stage, one.error_class, one.message, one.remedy)
        for one in (result.failure for result in results)
        if one is not None
    ]
    save_predictions(config.out, gradings)
    save_quarantine(config.out, quarantined)
    save_worklist(config.out, rank_slides(gradings))
    remembered = sum(result.remembered for result in results)
    done = GradeSummary(gradings, quarantined, time.perf_counter() - start, remembered)
    _write_record(config, results, done)
    write_report(config.out)
    return done


def extract_config(model: "GradingModel", config: GradeConfig) -> "ExtractConfig":
    """How slides must be extracted for a model: as its training slides were.

    Raises
    ------
    RecipeMismatchError
        If the model's recipe is one that this version cannot repeat.
    """
    from mil.encoders import ENCODERS, TIMM_PREFIX
    from workflows.extraction import ExtractConfig
    from workflows.policy import Policy
    from wsi.errors import RecipeMismatchError
    from wsi.tiles import TileSpec

    _check_repeatable(model)
    name = model.encoder
    extraction = ExtractConfig(
        store=config.store,
        encoder=name if name in ENCODERS else TIMM_PREFIX + name,
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

    def __call__(self, source: "SlideSource", store: "FeatureStore", seconds: float) -> "Grading":
        from workflows.heatmaps import FOLDER, render_slide
        from workflows.results import load_slide, save_slide, slide_folder
        from wsi.files import sweep_temporaries

        if (done := self._done_before(source, store)) is not None:
            return done
        from mil.bag import Bag
        from mil.model_folder import load_model

        clock = time.perf_counter()
        key = (self.model, self.summary.model_id)
        if key not in _models:
            _models[key] = load_model(self.model)
        model = _models[key]
        model.check_store(store)
        prediction = model.predict(Bag.from_store(store, model.encoder))
        slide = source.open(reader=self.reader, content_hash=store.slide.content_hash)
        try:
            graded = graded_slide(source, store, slide, prediction, model.encoder)
        finally:
            slide.close()
        graded = replace(graded, seconds=seconds + time.perf_counter() - clock)
        shutil.rmtree(slide_folder(self.out, source.slide_id, FOLDER), ignore_errors=True)
        sweep_temporaries(slide_folder(self.out, source.slide_id))
        save_slide(self.out, graded)
        kept = load_slide(self.out, source.slide_id)  # with the thumbnail as it is kept: `render` gives the same bytes
        render_slide(self.out, kept.maps(self.summary))
        return kept.grading

    def _done_before(self, source: "SlideSource", store: "FeatureStore") -> "Grading | None":
        """The slide's result by this model, if an earlier run finished it."""
        from workflows.heatmaps import FOLDER
        from workflows.results import load_slide, slide_folder
        from wsi.errors import WsiError
        from wsi.exports import EXPORTS

        folder = slide_folder(self.out, source.slide_id, FOLDER)
        try:
            graded = load_slide(self.out, source.slide_id)
        except WsiError:
            return None
        same = graded.model_id == self.summary.model_id and graded.info == store.slide
        same = same and graded.patient_id == source.patient_id
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
    )


def model_summary(model: "GradingModel") -> "ModelSummary":
    """What the report says of a model."""
    from workflows.gradings import Metric, ModelSummary

    card, training = model.card, model.card.training
    calibration = card.calibration
    if calibration:
        said = (
            f"Probabilities are calibrated by {calibration['method']} scaling (T = {calibration['temperature']:.2f}) "
            f"on {calibration['n_slides']} held-out slides: expected calibration error "
            f"{calibration['ece_before']:.3f} before, {calibration['ece_after']:.3f} after."
        )
    else:
        said = "Probabilities are not calibrated: read them as an order, not as frequencies."
    sites = training["sites"]
    where = f"{len(sites)} sites ({', '.join(sites)})" if len(sites) > 1 else f"one site ({sites[0]})" if sites else ""
    return ModelSummary(
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
        calibrated=calibration is not None,
        calibration=said,
        limits=(
            "Research use only: not a medical device, and not to be used for diagnosis or treatment.",
            f"Trained on {training['slides']} slides of {training['patients']} patients from "
            f"{where or 'an unknown number of sites'}; other stains, scanners and organs are outside what it has seen.",
            f"Tiles were embedded by {card.encoder_card['name']} ({card.encoder_card['licence']}) at "
            f"{card.recipe['tiles']['mpp']:g} um/px.",
            "Attention shows what the model weighed, not where a tumour is.",
        ),
    )


def _check_same_model(out: Path, summary: "ModelSummary") -> None:
    from workflows.gradings import MODEL, load_model
    from wsi.errors import RecipeMismatchError

    if (out / MODEL).exists() and (kept := load_model(out)).model_id != summary.model_id:
        raise RecipeMismatchError(
            f"{out}: holds a run of model {kept.model_id}, asked for is {summary.model_id}; use another --out folder"
        )


def _write_record(config: GradeConfig, results: "list[SlideResult]", done: GradeSummary) -> None:
    from workflows.config import RunRecord, throughput
    from workflows.listeners import total_seconds
    from wsi.files import file_record

    record = RunRecord("grade", asdict(config))
    record.inputs = {one.source.slide_id: one.content_hash for one in results if one.content_hash}
    record.inputs["model"] = str(done.gradings[0].model_id) if done.gradings else ""
    for name in ("predictions.csv", "worklist.csv", "quarantine.csv"):
        record.outputs[name] = file_record(config.out / name)["sha256"]
    record.counts = {
        "slides": len(results),
        "graded": len(done.gradings),
        "quarantined": len(done.quarantined),
        "tiles": sum(one.tiles for one in done.gradings),
        "bad_tiles": sum(one.bad_tiles for one in done.gradings),
        "chunks_computed": sum(one.chunks for one in results),
    }
    record.timings_s = total_seconds(results) | {"wall": done.seconds}
    record.throughput = throughput(len(done.gradings), record.timings_s)
    record.write(config.out)
