"""What a training is asked for: everything that decides a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mil.cohort import Task
from mil.outliers import FALSE_ALARMS, check_rate
from wsi.errors import UsageError
from wsi.store_url import StorePath

DEFAULT_LOSS = {"grade": "corn", "class": "cross_entropy"}


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides a trained model.

    Attributes
    ----------
    store : path
        Folder of feature stores.
    labels : path
        CSV with slide_id, label and optional patient_id, site, fold.
    out : path
        The model folder to make.
    model : str
        Name in `mil.models.MODELS`.
    task : "grade" or "class"
        Whether the labels have an order.
    encoder : str, optional
        Whose features; may be left out where the stores hold those of one.
    loss : str, optional
        Name in `mil.losses.LOSSES`; by the task if left out: corn or cross_entropy.
    classes : tuple of str, optional
        The classes in order, where it cannot be told from the labels.
    folds : int
        Ignored where the labels have a fold column.
    fold_by : str
        "patient", "site" or another column whose values are not parted.
    seed : int
    epochs : int, optional
    device : str
        auto, cpu or cuda.
    allow_missing : bool
        Go on without the labelled slides that have no store.
    allow_duplicates : bool
        Go on with slides that show the same section in two folds or as two patients.
    model_options, loss_options : mapping
        Hyper-parameters of the model and of the loss.
    stratify : str, optional
        "site" or another column of whose values each fold gets its share.
    fold_seed : int, optional
        Of the folds; `seed` if left out.
    settings : mapping
        Of the training, by the names of `mil.lit.FitConfig` and `mil.packing.Packing`.
    tune : mapping of str to tuple
        Values to choose from in each fold (`mil.nested.Grid`).
    inner_folds : int
        For that.
    coverage : float
        Share of slides whose set is to hold the truth.
    false_alarms : float
        Share of slides like those of training that may be flagged as unlike them.
    """

    store: StorePath
    labels: Path
    out: Path
    model: str = "abmil"
    task: Task = "grade"
    encoder: str | None = None
    loss: str | None = None
    classes: tuple[str, ...] | None = None
    folds: int = 5
    fold_by: str = "patient"
    seed: int = 0
    epochs: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    allow_missing: bool = False
    allow_duplicates: bool = False
    model_options: Mapping[str, Any] = field(default_factory=dict)
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    stratify: str | None = None
    fold_seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    tune: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    inner_folds: int = 3
    coverage: float = 0.9
    false_alarms: float = FALSE_ALARMS

    def __post_init__(self) -> None:
        for name, value, known in (
            ("task", self.task, ("grade", "class")),
            ("device", self.device, ("auto", "cpu", "cuda")),
        ):
            if value not in known:
                raise UsageError(f"--{name} is {value!r}; it can be {', '.join(known)}")
        if not 0 < self.coverage < 1:
            raise UsageError(f"--coverage is {self.coverage}; it lies between 0 and 1, as 0.9")
        check_rate(self.false_alarms)
