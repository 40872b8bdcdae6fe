"""`histograde sweep`: models x encoders x seeds on the same folds, and one table of what they come to."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mil.cohort import read_labels
from mil.losses import LOSSES
from mil.models import MODELS
from workflows.options import Cluster, ClusterOptions, Scheduler, Workers
from workflows.sweep_table import Cell, done, table_csv, table_lines
from workflows.training import kept, prepare, run
from workflows.training_config import DEFAULT_LOSS, TrainConfig
from workflows.training_options import (
    FOLDS_PANEL,
    MODEL_PANEL,
    AllowDuplicates,
    AllowMissing,
    BagTiles,
    BatchSlides,
    BatchTiles,
    ClassBalance,
    Classes,
    Device,
    Ema,
    Epochs,
    FoldBy,
    Folds,
    InnerFolds,
    Labels,
    LossName,
    LossOption,
    Mixing,
    Patience,
    Rate,
    SiteBalance,
    Smote,
    Store,
    Stratify,
    TaskName,
    TileDropout,
    Tune,
    Watched,
    WeightDecay,
    fit_settings,
    grid_values,
    names_of,
    part_options,
)
from workflows.training_table import encoder_of, match
from wsi.cohort_index import open_cohort
from wsi.errors import UsageError, WsiError
from wsi.store_url import store_location

if TYPE_CHECKING:
    from distributed import Client

Report = Callable[[str], None]
EXIT_FAILED = 1


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """What is compared, and where it runs.

    Attributes
    ----------
    base : TrainConfig
        What is the same in all cells, folds above all; its `out` is the folder of the sweep.
    models, encoders : tuple of str
    seeds : tuple of int
        Of weights, order and dropout; the folds are of `base.fold_seed`.
    model_options : mapping of str to mapping
        By model.
    place : tuple
        workers, scheduler, cluster and its options, as `workflows.cluster.connect` takes them.
    """

    base: TrainConfig
    models: tuple[str, ...]
    encoders: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    model_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    place: tuple[int, str | None, str | None, Path | None] = (0, None, None, None)

    def __post_init__(self) -> None:
        for name, values in (("models", self.models), ("encoders", self.encoders), ("seeds", self.seeds)):
            if not values or len(set(values)) != len(values):
                raise UsageError(f"--{name} {','.join(map(str, values))}: expected one or more, each once")
        for model in (*self.models, *self.model_options):
            if model not in MODELS:
                raise UsageError(f"no model is called {model!r}; there are: {', '.join(MODELS)}")

    def cells(self) -> Iterator[tuple[Cell, TrainConfig]]:
        """Every cell and its training; paths are absolute, as workers need them."""
        base = self.base
        store = base.store.absolute() if isinstance(base.store, Path) else base.store
        base = replace(base, store=store, labels=base.labels.absolute(), fold_seed=base.fold_seed or 0)
        for model in self.models:
            options = {**base.model_options, **self.model_options.get(model, {})}
            for encoder in self.encoders:
                for seed in self.seeds:
                    cell = Cell(model, encoder, seed)
                    out = base.out.absolute() / "cells" / cell.name
                    yield (
                        cell,
                        replace(base, model=model, encoder=encoder, seed=seed, out=out, model_options=options),
                    )


def command(
    store: Store,
    labels: Labels,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the sweep; the same one again goes on with it.")],
    models: Annotated[
        str, typer.Option(metavar="A,B,...", help=f"Of {', '.join(MODELS)}.", rich_help_panel=MODEL_PANEL)
    ] = "abmil",
    encoders: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Whose features.", show_default="those that all slides have")
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="0,1,...", help="Each trains on the same folds.")] = "0",
    task: TaskName = "grade",
    loss: LossName = None,
    classes: Classes = None,
    folds: Folds = 5,
    fold_by: FoldBy = "patient",
    stratify: Stratify = None,
    fold_seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Of the folds, the same for all cells.", rich_help_panel=FOLDS_PANEL)
    ] = 0,
    epochs: Epochs = None,
    lr: Rate = None,
    weight_decay: WeightDecay = None,
    bag_tiles: BagTiles = None,
    batch_slides: BatchSlides = None,
    batch_tiles: BatchTiles = None,
    tile_dropout: TileDropout = None,
    class_balance: ClassBalance = None,
    site_balance: SiteBalance = None,
    mixing: Mixing = None,
    smote: Smote = False,
    ema: Ema = None,
    patience: Patience = None,
    watched: Watched = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL.NAME=VALUE",
            help="Hyper-parameter of one model, as topk.k=10. May be given again.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None,
    loss_option: LossOption = None,
    tune: Tune = None,
    inner_folds: InnerFolds = 3,
    device: Device = "auto",
    allow_missing: AllowMissing = False,
    allow_duplicates: AllowDuplicates = False,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    cluster_options: ClusterOptions = None,
) -> None:
    """Models x encoders x seeds on the same folds, and one table of what they come to.

    Writes sweep.csv, sweep.json and a model folder for each cell under cells/. Cells that are done are kept when the
    same command runs again. A cell that fails is named and does not end the others; the exit code is then 1.

    Example: `histograde sweep --store features/ --labels labels.csv --out sweep/ --models abmil,topk --seeds 0,1,2`
    """
    base = TrainConfig(
        store_location(store), labels, out, task=task, loss=loss, classes=names_of(classes),  # type: ignore[arg-type]
        folds=folds, fold_by=fold_by, epochs=epochs, device=device,  # type: ignore[arg-type]
        allow_missing=allow_missing, allow_duplicates=allow_duplicates,
        loss_options=part_options(loss_option, LOSSES, loss or DEFAULT_LOSS.get(task, ""), 1, "--loss-option"),
        stratify=stratify, fold_seed=fold_seed, tune=grid_values(tune), inner_folds=inner_folds,
        settings=fit_settings(
            lr, weight_decay=weight_decay, bag_tiles=bag_tiles, slides=batch_slides, tiles=batch_tiles,
            tile_dropout=tile_dropout, class_balance=class_balance, site_balance=site_balance, mixing=mixing,
            smote=smote or None, ema=ema, patience=patience, watched=watched,
        ),
    )  # fmt: skip
    place = (workers, scheduler, cluster, cluster_options)
    named = names_of(encoders) or _encoders(base)
    own = _by_model(option or [])
    config = SweepConfig(base, names_of(models) or (), named, _seeds(seeds), own, place)
    cells = sweep(config, typer.echo)
    if any(cell.error for cell in cells):
        raise typer.Exit(EXIT_FAILED)


def sweep(config: SweepConfig, report: Report = print) -> list[Cell]:
    """Train every cell that is not there yet, and write the tables.

    Parameters
    ----------
    report : callable
        Takes the lines for people.

    Returns
    -------
    list of Cell
        In the order in which they were declared; some may have failed.

    Raises
    ------
    UsageError
        If the folder holds something else, or what was declared is not known.
    """
    from workflows.cluster import check_folder_is_shared, check_store_is_shared, connect
    from workflows.config import plain
    from wsi.files import write_atomic, write_json

    out = config.base.out
    if out.exists() and any(out.iterdir()) and not (out / "cells").is_dir():
        raise UsageError(f"{out}: is not empty and holds no sweep; choose another --out")
    declared = list(config.cells())
    match(read_labels(config.base.labels), open_cohort(config.base.store), config.base.allow_missing, report)
    (out / "cells").mkdir(parents=True, exist_ok=True)
    with connect(*config.place) as client:
        check_store_is_shared(client, declared[0][1].store)
        check_folder_is_shared(client, out)
        cells = _all(client, declared, report)
    write_atomic(out / "sweep.csv", table_csv(cells).encode())
    asked = plain({name: value for name, value in asdict(config).items() if name != "place"})
    write_json(out / "sweep.json", {"config": asked, "cells": [cell.to_dict() for cell in cells]})
    for line in (*table_lines(cells), *(cell.line() for cell in cells if cell.error)):
        report(line)
    report(f"{sum(not cell.error for cell in cells)} of {len(cells)} cells; tables in {out}")
    return cells


def train_cell(cell: Cell, config: TrainConfig) -> Cell:
    """Train one cell, or take what an earlier run came to; what goes wrong is told in the cell."""
    from mil.network import one_thread

    with one_thread():  # a process's random state is one: cells on threads of one process go one by one
        try:
            training = prepare(config, _quiet)
            if (earlier := kept(training)) is not None:
                return done(cell, earlier, was_kept=True)
            return done(cell, run(training, _quiet), was_kept=False)
        except WsiError as error:
            return replace(cell, error=" ".join(str(error).split()))
        except Exception as error:  # whatever a model of somebody's own may raise
            return replace(cell, error=" ".join(f"{type(error).__name__}: {error}".split()))


def _all(client: "Client", declared: list[tuple[Cell, TrainConfig]], report: Report) -> list[Cell]:
    from distributed import as_completed

    futures = {client.submit(train_cell, cell, config, pure=False): cell for cell, config in declared}
    found: dict[str, Cell] = {}
    for future in as_completed(list(futures)):
        cell = futures[future]
        lost = future.exception()
        outcome = replace(cell, error=f"{type(lost).__name__}: {lost}") if lost else future.result()
        found[cell.name] = outcome
        report(f"[{len(found)} of {len(declared)}] {outcome.line()}")
    return [found[cell.name] for cell, _ in declared]


def _encoders(base: TrainConfig) -> tuple[str, ...]:
    """The encoders that all slides have features by."""
    _, stores = match(read_labels(base.labels), open_cohort(base.store), base.allow_missing, _quiet)
    common = sorted(set.intersection(*(set(store.encoders) for store in stores)))
    return tuple(common) or (encoder_of(stores, None),)


def _seeds(words: str) -> tuple[int, ...]:
    names = names_of(words) or ()
    if not all(name.isdecimal() for name in names):
        raise UsageError(f"--seeds {words}: expected whole numbers, as 0,1,2")
    return tuple(int(name) for name in names)


def _by_model(words: list[str]) -> dict[str, dict[str, Any]]:
    """MODEL.NAME=VALUE words by model."""
    found: dict[str, dict[str, Any]] = {}
    for word in words:
        model, dot, rest = word.partition(".")
        if not dot or model not in MODELS:
            raise UsageError(f"--option {word}: expected MODEL.NAME=VALUE with one of {', '.join(MODELS)}")
        found.setdefault(model, {}).update(part_options([rest], MODELS, model, 2, "--option"))
    return found


def _quiet(line: str) -> None:
    pass
