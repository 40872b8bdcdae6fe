"""`histograde audit`: predictions by site, scanner, age or any column of the cohort: where a model is worse."""

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsi.errors import UsageError
from wsi.store_url import StorePath, store_location

if TYPE_CHECKING:
    from mil.site_probe import SiteProbe
    from workflows.prediction_table import Judged
    from workflows.subgroups import Columns, SubgroupAudit

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """What is to be audited.

    Attributes
    ----------
    predictions : path
        A model folder, a run, or a table of predictions.
    labels : path, optional
        CSV with slide_id, label and the columns to audit by; may be left out where the table holds labels and sites.
    out : path, optional
        Folder of audit.html, audit.json and audit.csv.
    by : tuple of str
        Columns; all of the labels where it is empty.
    bands : mapping of str to tuple of float
        Where to cut columns of numbers.
    least_patients : int
        Groups with fewer are named and not judged.
    n : int
        Resamples, and permutations.
    seed : int
    store : path, optional
        Feature stores of the slides: whether the features tell the columns is looked at then.
    """

    predictions: Path
    labels: Path | None = None
    out: Path | None = None
    by: tuple[str, ...] = ()
    bands: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    least_patients: int = 20
    n: int = 1000
    seed: int = 0
    store: StorePath | None = None


@dataclass(frozen=True, slots=True)
class Audited:
    """What an audit found.

    Attributes
    ----------
    slides, patients : int
    groups : SubgroupAudit
    probes : tuple of SiteProbe
        How well the features tell the columns; () where no stores were given.
    """

    slides: int
    patients: int
    groups: "SubgroupAudit"
    probes: "tuple[SiteProbe, ...]" = ()

    def lines(self) -> list[str]:
        """The outcome for people."""
        from workflows.subgroups import LEVEL

        columns = ", ".join(one.column for one in self.groups.columns)
        found = self.groups.findings()
        return [
            f"{self.slides} slides of {self.patients} patients by {columns}; tested at {100 * LEVEL:g} % over all "
            "metrics and columns together",
            *(f"FOUND {line}" for line in found),
            *([] if found else ["no gap between groups that is more than chance would have it"]),
            *(str(one) for one in self.probes if one.found()),
            *(f"note: {note}" for note in (*self.groups.not_judged(), *self.groups.notes)),
            *(f"note: {note}" for one in self.probes for note in one.notes),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rest = {"slides": self.slides, "patients": self.patients}
        return rest | self.groups.to_dict() | {"from_features": [one.to_dict() for one in self.probes]}

    def table(self) -> str:
        """Every metric of every group as a line of CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["column", "group", "slides", "patients", "metric", "estimate", "low", "high", "level"])
        for one in self.groups.columns:
            covered = self.groups.coverage.get(one.column, {})
            for group in one.groups:
                figures = group.metrics | ({"coverage of sets": covered[group.value]} if covered else {})
                for name, each in figures.items():
                    numbers = [f"{value:.6f}" for value in (each.estimate, each.low, each.high)]
                    head = [one.column, group.value, group.slides, group.patients, name]
                    writer.writerow([*head, *numbers, f"{each.level:g}"])
        return text.getvalue()


def command(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help="A model folder, a run, or a table of predictions.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="slide_id, label and the columns.", show_default="those of the table"),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column of the labels; may be repeated.", show_default="all of them"),
    ] = None,
    band: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=A,B", help="Where to cut a column of numbers.", show_default="into thirds"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for audit.html, audit.json and audit.csv.")
    ] = None,
    least_patients: Annotated[
        int, typer.Option(metavar="N", min=2, help="Groups with fewer are named and not judged.")
    ] = 20,
    resamples: Annotated[
        int, typer.Option(metavar="N", min=100, help="Resamples of the patients, and permutations.")
    ] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of resamples and permutations.")] = 0,
    store: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Feature stores: whether the features tell the columns is looked at too."),
    ] = None,
) -> None:
    """Where a model is worse: every metric by site, scanner, age or any column of the cohort.

    Groups have intervals by patient. The worst gap of each metric is tested among patients of one true class, so that
    harder grades are not taken for a worse site, and corrected for all metrics and columns. Small groups are named.

    Example: `histograde audit model/ --labels cohort.csv --by site --by scanner --by age --band age=50,70 --out audit/`
    """
    where = None if store is None else store_location(store)
    config = AuditConfig(
        predictions, labels, out, tuple(by or ()), band_limits(band or ()), least_patients, resamples, seed, where
    )
    audit_predictions(config, typer.echo)


def band_limits(given: "list[str] | tuple[()]") -> dict[str, tuple[float, ...]]:
    """`age=50,70` as a name and numbers."""
    limits = {}
    for one in given:
        name, _, numbers = one.partition("=")
        try:
            limits[name] = tuple(sorted(float(number) for number in numbers.split(",")))
        except ValueError as error:
            raise UsageError(f"--band {one!r} is not of the form age=50,70") from error
    return limits


def audit_predictions(config: AuditConfig, report: Report = print) -> Audited:
    """Audit a table of predictions, and write the page and the tables where a folder is named.

    Raises
    ------
    UsageError
        If a table cannot be read, or has no such column.
    """
    from mil.cohort import read_labels
    from workflows.prediction_table import judge, read_predictions
    from workflows.subgroups import audit_subgroups, chosen_columns

    predictions = read_predictions(config.predictions)
    judged = judge(predictions, read_labels(config.labels) if config.labels else predictions.own_cohort())
    columns, notes = chosen_columns(judged, config.by, config.bands)
    groups = audit_subgroups(
        judged, columns, predictions.coverage,
        least_patients=config.least_patients, n=config.n, seed=config.seed, notes=notes,
    )  # fmt: skip
    probes = () if config.store is None else _probes(config, judged, columns)
    done = Audited(len(judged.targets), len(set(judged.patients)), groups, probes)
    if config.out is not None:
        _write(config, config.out, done)
    for line in done.lines():
        report(line)
    return done


def _probes(config: AuditConfig, judged: "Judged", columns: "Columns") -> "tuple[SiteProbe, ...]":
    """Whether the features of these slides tell the columns."""
    import numpy as np

    from mil.bag import StoreBags
    from mil.site_probe import probe
    from workflows.training_table import encoder_of
    from wsi.cohort_index import open_cohort

    assert config.store is not None
    stores = open_cohort(config.store)
    if missing := [slide_id for slide_id in judged.slide_id if slide_id not in stores]:
        raise UsageError(f"{config.store}: {len(missing)} slides have no feature store there, such as {missing[0]}")
    chosen = [stores[slide_id] for slide_id in judged.slide_id]
    bags = StoreBags(chosen, encoder_of(chosen, None), cache_bytes=0)
    means = np.stack([bags[row].features.mean(axis=0, dtype=np.float64) for row in range(len(bags))])
    return tuple(probe(name, means, values, judged.patients, seed=config.seed) for name, values in columns.items())


def _write(config: AuditConfig, out: Path, done: Audited) -> None:
    from workflows.config import RunRecord
    from workflows.documents import write_document
    from workflows.subgroup_view import subgroup_view
    from wsi.files import write_atomic

    view = {"done": done, "name": config.predictions.name, "groups": subgroup_view(done.groups)}
    write_document(out, "audit", view, done.to_dict())
    write_atomic(out / "audit.csv", done.table().encode())
    RunRecord("audit", asdict(config), counts={"slides": done.slides, "patients": done.patients}).write(out)
