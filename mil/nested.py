"""Hyper-parameters by inner cross-validation, so that the slides that judge a network have no say in them.

Varma, Simon: Bias in error estimation when using cross-validation for model selection, 2006.
https://doi.org/10.1186/1471-2105-7-91

On the training side of each outer fold every candidate is trained on inner folds by patient. The one whose inner
held-out predictions have the best metric of the task is then trained on the whole side; of equals the first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any

import numpy as np

from mil.bag import Bags, BagSubset
from mil.checkpoints import FitFolder
from mil.cohort import Task
from mil.early_stopping import logits_of
from mil.fit_config import FitConfig
from mil.folds import spread
from mil.lit import fit
from mil.network import NetworkSpec, one_thread
from mil.packing import Packing
from mil.selection import Standing, standing
from wsi.errors import UsageError

OF_MODEL = "model."
OF_FIT = tuple(one.name for one in fields(FitConfig) if one.name not in ("packing", "device"))
OF_PACKING = tuple(one.name for one in fields(Packing))


@dataclass(frozen=True, slots=True)
class Grid:
    """Declared values of hyper-parameters; a candidate is one of each.

    Attributes
    ----------
    values : mapping of str to tuple
        Names of `FitConfig` and `Packing`, and `model.` with an option of the model. Options of the loss are not
        among them: the logits of all folds are calibrated together, so they must mean one thing.
    folds : int
        Inner folds.

    Raises
    ------
    UsageError
        If a name is not known, or a value is missing.
    """

    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    folds: int = 3

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise UsageError(f"{self.folds} inner folds cannot choose anything; at least 2 are needed")
        for name, values in self.values.items():
            if not name.startswith(OF_MODEL) and name not in (*OF_FIT, *OF_PACKING):
                known = ", ".join((*OF_FIT, *OF_PACKING))
                raise UsageError(f"{name!r} cannot be tuned; there are: {known}, and model.OPTION")
            if not values:
                raise UsageError(f"no value is given for {name!r}; a grid needs one or more")

    def candidates(self) -> list[dict[str, Any]]:
        """Every combination, the last name's values changing quickest."""
        return [dict(zip(self.values, chosen, strict=True)) for chosen in product(*self.values.values())]


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen on one training side, and from what.

    Attributes
    ----------
    settings : mapping
        Of the chosen candidate.
    tried : tuple of mapping
        Settings of every candidate with metric and log loss of its inner held-out predictions; empty where there was
        nothing to choose from.
    """

    settings: Mapping[str, Any]
    tried: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Side:
    """The training side of an outer fold.

    Attributes
    ----------
    bags : Bags
    targets : ndarray (n,) int64
    patients : tuple (n,) of str
    """

    bags: Bags
    targets: np.ndarray
    patients: tuple[str, ...]


def configured(spec: NetworkSpec, fit: FitConfig, settings: Mapping[str, Any]) -> tuple[NetworkSpec, FitConfig]:
    """Network and training with the settings of a candidate."""
    own = {name.removeprefix(OF_MODEL): value for name, value in settings.items() if name.startswith(OF_MODEL)}
    packing = {name: value for name, value in settings.items() if name in OF_PACKING}
    rest = {name: value for name, value in settings.items() if name in OF_FIT}
    spec = replace(spec, model_options={**spec.model_options, **own}).complete()
    return spec, replace(fit, packing=replace(fit.packing, **packing), **rest)


def choose(
    grid: Grid,
    spec: NetworkSpec,
    side: Side,
    config: FitConfig,
    seed: Sequence[int],
    task: Task,
    folder: FitFolder | None = None,
    report: Callable[[str], None] | None = None,
) -> Choice:
    """The best candidate for a training side.

    Parameters
    ----------
    seed : sequence of int
        Of inner folds and trainings; all candidates have the same.
    folder : FitFolder, optional
        Fits that are done there are not done again.

    Raises
    ------
    UsageError
        If there are fewer patients than inner folds, or a model has no such option.
    """
    candidates = grid.candidates()
    settings = [configured(spec, config, one) for one in candidates]
    if len(candidates) == 1:
        return Choice(candidates[0])
    patients = len(set(side.patients))
    if patients < grid.folds:
        raise UsageError(
            f"{grid.folds} inner folds cannot be made of {patients} patients; use fewer with --inner-folds"
        )
    inner = spread(side.patients, [[str(target) for target in side.targets]], grid.folds, _seed(*seed))
    stands: list[Standing] = []
    for number, (network, training) in enumerate(settings):
        place = folder and folder.below(f"candidate-{number}")
        stands.append(_inner(network, training, side, inner, seed, task, place))
        if report:
            report(f"  {_said(candidates[number])}: {stands[-1].metric:.3f}, log loss {-stands[-1].minus_log_loss:.3f}")
    best = max(range(len(stands)), key=lambda number: (stands[number], -number))
    tried = [{"settings": one, **found.to_dict()} for one, found in zip(candidates, stands, strict=True)]
    return Choice(candidates[best], tuple(tried))


def _inner(
    spec: NetworkSpec,
    config: FitConfig,
    side: Side,
    inner: np.ndarray,
    seed: Sequence[int],
    task: Task,
    folder: FitFolder | None,
) -> Standing:
    """How good the inner held-out predictions of one candidate are."""
    link = spec.build_class_loss().probabilities
    found: dict[int, np.ndarray] = {}
    for k in range(int(inner.max()) + 1):
        seen, held = np.flatnonzero(inner != k), np.flatnonzero(inner == k)
        names = [side.patients[row] for row in seen]
        place = folder and folder.below(f"inner-{k}")
        bags, targets = BagSubset(side.bags, seen), side.targets[seen]
        done = fit(spec, bags, targets, config, _seed(*seed, k + 1), task=task, patients=names, folder=place)
        with one_thread():
            logits = logits_of(done.network, BagSubset(side.bags, held))
        found |= zip(held.tolist(), logits, strict=True)
    return standing(task, side.targets, link(np.stack([found[row] for row in range(len(inner))])))


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _said(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
