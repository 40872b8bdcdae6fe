"""`histograde train`: features and labels to a model folder, with figures on slides that were held out."""

from pathlib import Path
from typing import Annotated

import typer

from mil.losses import LOSSES
from mil.models import MODELS
from mil.outliers import FALSE_ALARMS
from workflows.training import TrainResult, train
from workflows.training_config import DEFAULT_LOSS, TrainConfig
from workflows.training_options import (
    AllowDuplicates,
    AllowMissing,
    BagTiles,
    BatchSlides,
    BatchTiles,
    ClassBalance,
    Classes,
    Coverage,
    Device,
    Ema,
    Epochs,
    FalseAlarms,
    FoldBy,
    Folds,
    FoldSeed,
    InnerFolds,
    Labels,
    LossName,
    LossOption,
    Mixing,
    ModelName,
    Option,
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
from wsi.store_url import store_location

__all__ = ["TrainConfig", "TrainResult", "command", "train"]


def command(
    store: Store,
    labels: Labels,
    out: Annotated[Path, typer.Option(metavar="MODEL", help="Folder of the model; an older model there is replaced.")],
    model: ModelName = "abmil",
    task: TaskName = "grade",
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose features, where the stores hold those of several.")
    ] = None,
    loss: LossName = None,
    classes: Classes = None,
    folds: Folds = 5,
    fold_by: FoldBy = "patient",
    stratify: Stratify = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="The same seed gives the same model.")] = 0,
    fold_seed: FoldSeed = None,
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
    option: Option = None,
    loss_option: LossOption = None,
    tune: Tune = None,
    inner_folds: InnerFolds = 3,
    coverage: Coverage = 0.9,
    false_alarms: FalseAlarms = FALSE_ALARMS,
    device: Device = "auto",
    allow_missing: AllowMissing = False,
    allow_duplicates: AllowDuplicates = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", metavar="", help="Then measure which heatmap shows what it goes by: about a second a slide."
        ),
    ] = False,
) -> None:
    """Features and labels to a model that grades.

    Trains one network a fold, measures each on the slides it has not seen, calibrates probabilities and sets on those,
    and keeps all of it in one folder for `histograde grade`, with what new slides are held against to find those unlike
    the training slides. What is chosen (--tune, --patience, --lr auto) is chosen
    on a fold's training side. A training that was killed goes on with the same command.

    Example: `histograde train --store features/ --labels labels.csv --out model/`
    """
    config = TrainConfig(
        store_location(store), labels, out, model, task, encoder, loss, names_of(classes),  # type: ignore[arg-type]
        folds, fold_by, seed, epochs, device, allow_missing, allow_duplicates,  # type: ignore[arg-type]
        part_options(option, MODELS, model, 2, "--option"),
        part_options(loss_option, LOSSES, loss or DEFAULT_LOSS.get(task, ""), 1, "--loss-option"),
        stratify,
        fold_seed,
        fit_settings(
            lr, weight_decay=weight_decay, bag_tiles=bag_tiles, slides=batch_slides, tiles=batch_tiles,
            tile_dropout=tile_dropout, class_balance=class_balance, site_balance=site_balance, mixing=mixing,
            smote=smote or None, ema=ema, patience=patience, watched=watched,
        ),
        grid_values(tune),
        inner_folds,
        coverage,
        false_alarms,
    )  # fmt: skip
    train(config, typer.echo)
    if explain:
        from workflows.explaining import ExplainConfig, explain_model

        explain_model(ExplainConfig(out, config.store, seed=seed), typer.echo)
