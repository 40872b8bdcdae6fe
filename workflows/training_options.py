"""Options of the commands that train, said once, and hyper-parameters as they are written on a command line."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mil.losses import LOSSES
from mil.models import MODELS
from wsi.errors import UsageError

MODEL_PANEL, FOLDS_PANEL = "Model and loss", "Folds"
TRAINING_PANEL, CHOICE_PANEL = "Training", "What each fold chooses on its training side"

Store = Annotated[str, typer.Option(metavar="DIR", help="Folder of the feature stores, or s3://BUCKET/PREFIX.")]
Labels = Annotated[
    Path,
    typer.Option(metavar="CSV", help="slide_id, label; patient_id, site, fold and other columns where they are known."),
]
TaskName = Annotated[
    str, typer.Option(metavar="TASK", help="grade (labels with an order) or class (labels without one).")
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="All classes in order.",
        show_default="grades by number; other labels by alphabet, harmless ones first",
    ),
]
Device = Annotated[str, typer.Option(metavar="DEV", help="auto, cpu or cuda.")]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", metavar="", help="Go on without labelled slides that have no store.")
]
AllowDuplicates = Annotated[
    bool,
    typer.Option(
        "--allow-duplicates",
        metavar="",
        help="Go on where slides of two folds or two patients seem to show one section.",
    ),
]

ModelName = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"{', '.join(MODELS)}. docs/models.md says when to take which.",
        rich_help_panel=MODEL_PANEL,
    ),
]
Option = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Hyper-parameter of the model, as hidden=256. May be given again.",
        rich_help_panel=MODEL_PANEL,
    ),
]
LossName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"{', '.join(LOSSES)}.",
        show_default="corn for grades, else cross_entropy",
        rich_help_panel=MODEL_PANEL,
    ),
]
LossOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Option of the loss, as gamma=3 of focal. May be given again.",
        rich_help_panel=MODEL_PANEL,
    ),
]

Folds = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=2,
        help="Parts for cross-validation; no patient is in two of them. A fold column of the labels goes before.",
        rich_help_panel=FOLDS_PANEL,
    ),
]
FoldBy = Annotated[
    str,
    typer.Option(
        metavar="COLUMN",
        help="patient, or site or another column: then no site (or other value) is in two folds either, "
        "and labels are as even as whole sites allow.",
        rich_help_panel=FOLDS_PANEL,
    ),
]
Stratify = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="site or another column: each fold gets its share of each label at each site.",
        rich_help_panel=FOLDS_PANEL,
    ),
]
FoldSeed = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="Of the folds alone, to train other seeds on the same folds.",
        show_default="--seed",
        rich_help_panel=FOLDS_PANEL,
    ),
]

Epochs = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Passes over the slides.", show_default="40", rich_help_panel=TRAINING_PANEL),
]
Rate = Annotated[
    str | None,
    typer.Option(
        metavar="RATE",
        help="Highest learning rate, or auto: found in each fold by a short training in which it rises.",
        show_default="0.001",
        rich_help_panel=TRAINING_PANEL,
    ),
]
WeightDecay = Annotated[
    float | None,
    typer.Option(metavar="X", min=0, help="Of AdamW.", show_default="0.01", rich_help_panel=TRAINING_PANEL),
]
BagTiles = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Most tiles drawn from a slide in an epoch; held-out slides are seen whole.",
        show_default="512",
        rich_help_panel=TRAINING_PANEL,
    ),
]
BatchSlides = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Most slides in a batch.", show_default="8", rich_help_panel=TRAINING_PANEL),
]
BatchTiles = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Most tiles in a batch.", show_default="4096", rich_help_panel=TRAINING_PANEL
    ),
]
TileDropout = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        min=0,
        max=0.99,
        help="Share of a slide's tiles left out in an epoch.",
        show_default="0",
        rich_help_panel=TRAINING_PANEL,
    ),
]
ClassBalance = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        min=0,
        max=1,
        help="How far an epoch evens out classes by taking slides of rare ones again: for a class that most batches "
        "would have none of.",
        show_default="0",
        rich_help_panel=TRAINING_PANEL,
    ),
]
SiteBalance = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        min=0,
        max=1,
        help="How far an epoch evens out the sites within each class: for a site that has most of a class.",
        show_default="0",
        rich_help_panel=TRAINING_PANEL,
    ),
]
Mixing = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        min=0,
        max=1,
        help="Share of slides that get some tiles of another slide of their class: for a few dozen slides.",
        show_default="0",
        rich_help_panel=TRAINING_PANEL,
    ),
]
Smote = Annotated[
    bool,
    typer.Option(
        "--smote",
        metavar="",
        help="Slides that a balance takes again are moved towards another of their class: for a handful of slides.",
        rich_help_panel=TRAINING_PANEL,
    ),
]
Ema = Annotated[
    float | None,
    typer.Option(
        metavar="DECAY",
        min=0,
        max=0.99999,
        help="Keep a running mean of the weights with this decay, and take it in their place.",
        show_default="none",
        rich_help_panel=TRAINING_PANEL,
    ),
]

Patience = Annotated[
    int | None,
    typer.Option(
        metavar="EPOCHS",
        min=0,
        help="Set patients apart, stop when QWK (grades) or AUROC (classes) on them has not risen for so long, and "
        "take the best epoch.",
        show_default="never",
        rich_help_panel=CHOICE_PANEL,
    ),
]
Watched = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        min=0.01,
        max=0.5,
        help="Share of the patients that --patience sets apart.",
        show_default="0.2",
        rich_help_panel=CHOICE_PANEL,
    ),
]
Tune = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=A,B,...",
        help="Values to choose from by inner cross-validation: lr, weight_decay, epochs, bag_tiles, ema, class_balance "
        "... or model.OPTION. May be given again: all combinations are tried.",
        rich_help_panel=CHOICE_PANEL,
    ),
]
InnerFolds = Annotated[
    int, typer.Option(metavar="N", min=2, help="Parts of a training side for --tune.", rich_help_panel=CHOICE_PANEL)
]

Coverage = Annotated[
    float,
    typer.Option(metavar="SHARE", help="Share of slides whose set of grades (as 3-4) is to hold the true one."),
]

FalseAlarms = Annotated[
    float,
    typer.Option(metavar="SHARE", help="Share of slides like those of training that may be flagged as unlike them."),
]


def fit_settings(lr: str | None, **numbers: float | int | None) -> dict[str, Any]:
    """What was asked of the training, by the names of `FitConfig` and `Packing`; what was left out is left out."""
    settings: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    if lr == "auto":
        return {**settings, "find_lr": True}
    if lr is not None:
        settings["lr"] = _as(float, "--lr", lr)
    return settings


def part_options(
    words: Sequence[str] | None, registry: Mapping[str, Any], name: str, skip: int, option: str
) -> dict[str, Any]:
    """NAME=VALUE words as the types of the defaults of a model or a loss, which is imported only if there are any.

    Parameters
    ----------
    skip : int
        Parameters that are not options.
    option : str
        For the message.

    Raises
    ------
    UsageError
        If a word has no `=`, or a value is of another type than the default.
    """
    if not words:
        return {}
    defaults = {one.name: one.default for one in list(inspect.signature(registry[name]).parameters.values())[skip:]}
    found = {}
    for word in words:
        key, value = _parted(word, option)
        default = defaults.get(key)
        kind = type(default) if isinstance(default, bool | int | float | str) else None
        found[key] = _guess(value) if kind is None else _as(kind, f"{option} {key}", value)
    return found


def names_of(words: str | None) -> tuple[str, ...] | None:
    """A,B,... as names; None where there are none."""
    return tuple(name.strip() for name in words.split(",") if name.strip()) or None if words else None


def grid_values(words: Sequence[str] | None) -> dict[str, tuple[Any, ...]]:
    """NAME=A,B,... words as declared values, by the names of `FitConfig` and `Packing`."""
    found = {}
    for word in words or ():
        name, values = _parted(word, "--tune")
        name = name if name.startswith("model.") else name.replace("-", "_").removeprefix("batch_")
        found[name] = tuple(_guess(value.strip()) for value in values.split(",") if value.strip())
    return found


def check_types(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise `UsageError` unless the numbers are whole where the defaults are, and numbers where these are."""
    for name, value in settings.items():
        default = defaults.get(name)
        if isinstance(default, bool | int | float):
            _as(type(default), name, str(value))


def _parted(word: str, option: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"{option} {word}: expected NAME=VALUE")
    return name.strip(), value.strip()


def _guess(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None if text.lower() == "none" else text


def _as(kind: type, what: str, text: str) -> Any:
    wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text")
    value = _guess(text)
    if kind is float and type(value) is int:
        value = float(value)
    if kind is str:
        return text
    if type(value) is not kind:
        raise UsageError(f"{what} is {text!r}; expected {wanted}")
    return value
