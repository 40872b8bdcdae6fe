"""`histograde compare`: two models on the same slides, with the difference, its interval and a paired test."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mil.comparison import Comparison
    from mil.delong import DeLong

Z95 = 1.959964
FEW_PATIENTS = 30
"""With fewer on the smaller side the normal distribution behind DeLong's test is a guess."""


@dataclass(frozen=True, slots=True)
class CompareConfig:
    """What is to be compared.

    Attributes
    ----------
    first, second : path
        Tables of predictions, or the model folders or runs that hold them.
    labels : path, optional
        CSV with slide_id, label and optional patient_id; may be left out where the tables hold labels.
    out : path, optional
        Folder of comparison.json and comparison.csv.
    n : int
        Resamples, and permutations.
    seed : int
    """

    first: Path
    second: Path
    labels: Path | None = None
    out: Path | None = None
    n: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Duel:
    """Two models on the same slides.

    Attributes
    ----------
    names : (first, second)
    slides, patients : int
    metrics : dict of str to Comparison
    detections : dict of str to DeLong
        AUROC of each yes-or-no question, in closed form.
    notes : tuple of str
        What limits the figures.
    """

    names: tuple[str, str]
    slides: int
    patients: int
    metrics: "Mapping[str, Comparison]"
    detections: "Mapping[str, DeLong]"
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "first": self.names[0],
            "second": self.names[1],
            "slides": self.slides,
            "patients": self.patients,
            "metrics": {name: one.to_dict() for name, one in self.metrics.items()},
            "detection_auroc": {
                name: {
                    "first": _known(one.first),
                    "second": _known(one.second),
                    "difference": _known(one.second - one.first),
                    "standard_error": _known(one.standard_error),
                    "p": _known(one.p),
                }
                for name, one in self.detections.items()
            },
            "notes": list(self.notes),
        }

    def rows(self) -> Iterator[tuple[str, float, float, float, float, float, float, str]]:
        """Metric, first, second, difference with its 95 % interval, p, and the test that it is of."""
        for name, one in self.metrics.items():
            between = one.difference
            numbers = one.first.estimate, one.second.estimate, between.estimate, between.low, between.high
            yield name, *numbers, one.p, "permutation"
        for name, two in self.detections.items():
            between_, reach = two.second - two.first, Z95 * two.standard_error
            yield (
                f"AUROC of {name}",
                two.first,
                two.second,
                between_,
                between_ - reach,
                between_ + reach,
                two.p,
                "DeLong",
            )

    def lines(self) -> list[str]:
        """The outcome for people."""
        least = {name for name, one in self.metrics.items() if not one.higher}
        cells = [("metric", "A", "B", "B - A (95 % interval)", "p", "test")]
        for name, a, b, between, low, high, p, test in self.rows():
            shown = f"{name} (less is better)" if name in least else name
            cells.append((shown, f"{a:.3f}", f"{b:.3f}", f"{between:+.3f} ({low:+.3f} to {high:+.3f})", _p(p), test))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        table = ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        return [
            f"A: {self.names[0]}",
            f"B: {self.names[1]}",
            f"{self.slides} slides of {self.patients} patients; intervals and tests by patient, p two-sided and not "
            "corrected for the number of metrics: decide before by which one you judge",
            *table,
            *(f"note: {note}" for note in self.notes),
        ]

    def table(self) -> str:
        """The same as CSV."""
        lines = ["metric,first,second,difference,low,high,p,test"]
        for name, *numbers, test in self.rows():
            text = name.replace('"', '""')
            lines.append(",".join([f'"{text}"', *(f"{value:.6f}" for value in numbers), test]))
        return "\n".join(lines) + "\n"


def command(
    first: Annotated[Path, typer.Argument(metavar="A", help="A model folder, a run, or a table of predictions.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one of the same slides.")],
    labels: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="slide_id, label and optional patient_id.", show_default="those of A and B"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for comparison.json and comparison.csv.")
    ] = None,
    resamples: Annotated[
        int, typer.Option(metavar="N", min=100, help="Resamples of the patients, and permutations.")
    ] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of resamples and permutations.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.", metavar="")] = False,
) -> None:
    """Two models on the same slides: both metrics, the difference with its interval, and p.

    Intervals resample patients, both models on the same resamples. The permutation test swaps the models within
    patients; DeLong's is for AUROC, with slides of one patient taken together. Both tables must be of the same slides.

    Example: `histograde compare model-a/ model-b/`
    """
    found = compare(CompareConfig(first, second, labels, out, resamples, seed))
    typer.echo(json.dumps(found.to_dict(), indent=1, allow_nan=False) if as_json else "\n".join(found.lines()))


def compare(config: CompareConfig) -> Duel:
    """Compare two tables of predictions, and write the tables of the outcome where a folder is named.

    Raises
    ------
    UsageError
        If a table cannot be read, or the two are not of the same slides, classes, patients and labels.
    """
    from mil.comparison import compare_models
    from mil.delong import delong
    from mil.intervals import behind_rarest, measures
    from workflows.pairing import paired
    from workflows.prediction_table import read_predictions

    tables = read_predictions(config.first), read_predictions(config.second)
    first, second, notes = paired(*tables, config.labels)
    found = compare_models(
        measures(first.task, len(first.classes)), (first.targets,),
        (first.predicted, first.probabilities), (second.predicted, second.probabilities),
        first.patients, config.n, config.seed,
    )  # fmt: skip
    asked = second.questions()
    questions = {
        name: delong(positive, scores, asked[name][1], first.patients)
        for name, (positive, scores) in first.questions().items()
    }
    few = [name for name, (positive, _) in asked.items() if behind_rarest(positive, first.patients) < FEW_PATIENTS]
    if few:
        notes += (f"DeLong's p is a hint only, fewer than {FEW_PATIENTS} patients on a side: {', '.join(few)}",)
    names = str(config.first), str(config.second)
    done = Duel(names, len(first.targets), len(set(first.patients)), found, questions, notes)
    if config.out is not None:
        _write(config.out, config, done)
    return done


def _write(out: Path, config: CompareConfig, done: Duel) -> None:
    from workflows.config import RunRecord
    from wsi.files import write_atomic, write_json

    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "comparison.json", done.to_dict())
    write_atomic(out / "comparison.csv", done.table().encode())
    RunRecord("compare", asdict(config), counts={"slides": done.slides, "patients": done.patients}).write(out)


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _known(value: float) -> float | None:
    return value if isfinite(value) else None
