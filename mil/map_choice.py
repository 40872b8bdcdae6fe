"""Which map to show for a model: what each is worth on slides that the asked network has not seen. Numpy only.

A map may be shown when it does better than random orders of the tiles, and better than the same map of a network of
random weights (Adebayo et al.: Sanity Checks for Saliency Maps, NeurIPS 2018, https://arxiv.org/abs/1810.03292), both
by an interval of patients. Of those the one with the smallest area under the deletion curve is taken.

The slides that a map is chosen by flatter it. `ChosenElsewhere` is the honest figure: in each fold the map that the
other folds choose is held against attention.

The control is a network of random weights, another for each slide, since one drawn network may by luck order tiles as
the trained one does. It fails, as it must, when its maps do no better than random orders. Where they do, they show what
stands out in the features, and the map of the trained network may owe its success to the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mil.bootstrap import SHARE, Bounds, Interval, interval
from mil.faithfulness import Faithfulness
from mil.map_names import MAP_TITLES, MAPS, MapName
from mil.resampling import resamples
from wsi.errors import UsageError

EQUAL = 1e-3
"""Areas nearer than this are equal: the map that costs less, or is easier to read, is shown then."""

BOUNDS: tuple[Bounds, ...] = (SHARE, SHARE, (-1, 1), (-1, 1), (-2, 2), (-1, 1), SHARE)
"""Of the figures of a map, in the order of `MapFigures`. A gain is 1 at most: random orders give two equal areas."""

UNDEFINED = Interval(float("nan"), float("nan"), float("nan"), 0.95, 0, "undefined")


@dataclass(frozen=True, slots=True)
class SlideTrial:
    """What was found on one slide, by the network that had not seen it.

    Attributes
    ----------
    slide_id, patient_id : str
    fold : int
        Of the network.
    tiles : int
    maps, control : mapping of map name to Faithfulness
        Of the network, and of one with random weights, against the same random orders.
    stability : mapping of map name to float
        Mean rank correlation when a fifth of the tiles is missing; NaN where it is not defined.
    limit : mapping of map name to float
        Beyond which few values of the map lie, whatever their sign.
    agreement : mapping of map name to float
        AUROC of tiles in drawn findings against the others; NaN, or no entry, where nothing is drawn.
    """

    slide_id: str
    patient_id: str
    fold: int
    tiles: int
    maps: Mapping[MapName, Faithfulness]
    control: Mapping[MapName, Faithfulness]
    stability: Mapping[MapName, float]
    limit: Mapping[MapName, float]
    agreement: Mapping[MapName, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MapFigures:
    """What one kind of map is worth; intervals are 95 %, by patient.

    Attributes
    ----------
    deletion, insertion : Interval
        Mean areas: small and large are good.
    gain : Interval
        Of both areas together over random orders (`Faithfulness.gain`); above 0 is better.
    control_gain : Interval
        That of the same map of random weights: must not lie above 0.
    over_control : Interval
        The gain less that of the control, paired.
    stability, agreement : Interval
    limit : float
        The value at the ends of the scale of a signed map, the same for all slides.
    """

    deletion: Interval
    insertion: Interval
    gain: Interval
    control_gain: Interval
    over_control: Interval
    stability: Interval
    agreement: Interval
    limit: float

    @property
    def control_failed(self) -> bool:
        """Whether random weights do no better than random orders, as it must be."""
        return not self.control_gain.low > 0

    @property
    def may_be_shown(self) -> bool:
        """Better than chance, and better than what random weights give."""
        return self.gain.low > 0 and self.over_control.low > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        names = ("deletion", "insertion", "gain", "control_gain", "over_control", "stability", "agreement")
        verdicts = {"control_failed": self.control_failed, "may_be_shown": self.may_be_shown, "limit": self.limit}
        return {name: getattr(self, name).to_dict() for name in names} | verdicts


@dataclass(frozen=True, slots=True)
class ChosenElsewhere:
    """The map that other folds choose, on each fold's own slides.

    Attributes
    ----------
    gain : Interval
        Over random orders.
    over_attention : Interval
        How much smaller its deletion area is than that of attention.
    names : tuple
        The map that each fold is shown by the others, None where they would show none; in the order of the folds.
    """

    gain: Interval
    over_attention: Interval
    names: tuple[MapName | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        intervals = {"gain": self.gain.to_dict(), "over_attention": self.over_attention.to_dict()}
        return intervals | {"names": list(self.names)}


@dataclass(frozen=True, slots=True)
class MapReport:
    """The table of a model's maps, and which to show.

    Attributes
    ----------
    figures : mapping of map name to MapFigures
    random : Interval
        Deletion area of random orders.
    chosen : map name or None
        None: no map may be shown as an explanation.
    elsewhere : ChosenElsewhere
    slides, patients : int
    """

    figures: Mapping[MapName, MapFigures]
    random: Interval
    chosen: MapName | None
    elsewhere: ChosenElsewhere
    slides: int
    patients: int

    @property
    def reason(self) -> str:
        """Why this map is shown, in sentences."""
        where = f"{self.slides} held-out slides of {self.patients} patients"
        if self.chosen is None:
            return (
                f"No map did better than both tiles in random order and random weights on {where}: no map is known to "
                "show what the model goes by."
            )
        own = self.figures[self.chosen]
        said = (
            f"Shown is {MAP_TITLES[self.chosen]}: on {where} its deletion area is the smallest of the maps that may be "
            f"shown, {own.deletion.estimate:.3f} against {self.random.estimate:.3f} of random order and "
            f"{self.figures['attention'].deletion.estimate:.3f} of attention (a small area says that the model loses "
            f"its grade with the tiles that the map points at)."
        )
        return said + ("" if own.control_failed else f" {WARNING}")

    def lines(self) -> list[str]:
        """The table for people, a line a map, and what it says."""
        head = f"  {'map':<27}{'deletion':<25}{'gain':<27}{'random weights':<36}{'stability':<11}agreement"
        rows = [f"  {'random order':<27}{self.random}"]
        for name, one in self.figures.items():
            control = f"{one.control_gain.estimate:+.3f} " + ("failed, as it must" if one.control_failed else DID_NOT)
            rows.append(
                f"{'* ' if name == self.chosen else '  '}{MAP_TITLES[name]:<27}{one.deletion!s:<25}"
                f"{one.gain!s:<27}{control:<36}{_number(one.stability):<11}{_number(one.agreement)}"
            )
        chosen = ", ".join(sorted({MAP_TITLES[name] if name else "none" for name in self.elsewhere.names}))
        honest = (
            f"maps chosen by the other folds ({chosen}): gain {self.elsewhere.gain} over random order, "
            f"deletion area {self.elsewhere.over_attention} smaller than that of attention"
        )
        warnings = [
            f"WARNING: {MAP_TITLES[name]}: {WARNING}" for name, one in self.figures.items() if not one.control_failed
        ]
        return [head, *rows, honest, *warnings, self.reason]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "chosen": self.chosen,
            "reason": self.reason,
            "slides": self.slides,
            "patients": self.patients,
            "random_order": self.random.to_dict(),
            "maps": {name: one.to_dict() for name, one in self.figures.items()},
            "chosen_by_other_folds": self.elsewhere.to_dict(),
        }


DID_NOT = "DID NOT FAIL"
WARNING = (
    "The control did NOT fail: with random weights this map does better than random order, so that some of what it "
    "shows lies in the features and not in what the model learned."
)


def report_maps(trials: Sequence[SlideTrial], seed: int = 0) -> MapReport:
    """Figures of every map over slides, and which to show.

    Raises
    ------
    UsageError
        If no slide has two tiles.
    """
    ordered = sorted((trial for trial in trials if trial.tiles > 1), key=lambda trial: trial.slide_id)
    if not ordered:
        raise UsageError("maps are judged on slides of two tiles or more; found none")
    patients = [trial.patient_id for trial in ordered]
    figures = _figures(ordered, seed)
    random = np.array([trial.maps["attention"].random_deletion.mean() for trial in ordered])
    return MapReport(
        figures,
        mean_intervals(random[:, None], patients, seed, [SHARE])[0],
        choose(figures),
        _elsewhere(ordered, seed),
        len(ordered),
        len(set(patients)),
    )


def choose(figures: Mapping[MapName, MapFigures]) -> MapName | None:
    """The map that may be shown and has the smallest deletion area; of equal ones the first in `MAPS`."""
    able = [name for name in MAPS if name in figures and figures[name].may_be_shown]
    if not able:
        return None
    least = min(figures[name].deletion.estimate for name in able)
    return next(name for name in able if figures[name].deletion.estimate <= least + EQUAL)


def _figures(trials: Sequence[SlideTrial], seed: int) -> dict[MapName, MapFigures]:
    patients = [trial.patient_id for trial in trials]
    names = [name for name in MAPS if name in trials[0].maps]
    table = np.array([[_row(trial, name) for name in names] for trial in trials])  # (slides, maps, 7)
    means = iter(mean_intervals(table.reshape(len(trials), -1), patients, seed, BOUNDS * len(names)))
    limits = [_rounded(float(np.median([trial.limit[name] for trial in trials]))) for name in names]
    return {
        name: MapFigures(
            deletion=next(means), insertion=next(means), gain=next(means), control_gain=next(means),
            over_control=next(means), stability=next(means), agreement=next(means), limit=limit,
        )
        for name, limit in zip(names, limits, strict=True)
    }  # fmt: skip


def _row(trial: SlideTrial, name: MapName) -> list[float]:
    """A slide's figures of one map in the order of `MapFigures`."""
    own, control = trial.maps[name], trial.control[name].gain
    areas = [own.deletion.area, own.insertion.area, own.gain, control, own.gain - control]
    return [*areas, trial.stability[name], trial.agreement.get(name, float("nan"))]


def _elsewhere(trials: Sequence[SlideTrial], seed: int) -> ChosenElsewhere:
    names: list[MapName | None] = []
    found, patients = [(float("nan"), float("nan"))], [""]
    for fold in sorted({trial.fold for trial in trials}):
        others = [trial for trial in trials if trial.fold != fold]
        chosen = choose(_figures(others, seed)) if others else None
        names.append(chosen)
        if chosen is None:
            continue
        for trial in (trial for trial in trials if trial.fold == fold):
            own, attention = trial.maps[chosen], trial.maps["attention"]
            found.append((own.gain, attention.deletion.area - own.deletion.area))
            patients.append(trial.patient_id)
    start = 1 if len(found) > 1 else 0  # the first is there for a model that has no map to show
    gain, over = mean_intervals(np.array(found[start:]), patients[start:], seed, [(-1, 1), (-1, 1)])
    return ChosenElsewhere(gain, over, tuple(names))


def mean_intervals(
    table: np.ndarray, patients: Sequence[str], seed: int, bounds: Sequence[Bounds], n: int = 1000
) -> list[Interval]:
    """Means over slides of the columns of (slides, k), NaN left out, with 95 % intervals by patient.

    Parameters
    ----------
    bounds : sequence of (low, high)
        Between which the values of each column lie.
    """
    known = np.isfinite(table)
    numbers = np.where(known, table, 0.0)
    groups = np.asarray(patients)
    drawn = np.array([_mean(numbers[rows], known[rows]) for rows in resamples(groups, n, seed)])  # (n, k)
    whole = _mean(numbers, known)
    counts = [len(set(groups[column])) for column in known.T]
    return [
        interval(float(whole[k]), drawn[:, k], groups=count, bounds=bounds[k]) if count else UNDEFINED
        for k, count in enumerate(counts)
    ]


def _mean(numbers: np.ndarray, known: np.ndarray) -> np.ndarray:
    count = known.sum(axis=0)
    return np.where(count > 0, numbers.sum(axis=0) / np.maximum(count, 1), np.nan)


def _rounded(limit: float) -> float:
    """Two digits, so that a legend is read easily; 1 where there is nothing to be seen."""
    return float(f"{limit:.2g}") if np.isfinite(limit) and limit > 0 else 1.0


def _number(one: Interval) -> str:
    return f"{one.estimate:.2f}" if np.isfinite(one.estimate) else "none"
