"""`histograde monitor`: later runs against a reference run: has what comes in, or what comes out, drifted?"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mil.drift import Change
    from workflows.control_chart import Chart
    from workflows.monitored import Watched
    from workflows.results import Run

EXIT_DRIFT = 4
BOUNDS = {
    "share unlike training": (0.0, 1.0), "confidence": (0.0, 1.0), "unreadable share": (0.0, 1.0),
    "tissue mm2": (0.0, float("inf")), "focus": (0.0, float("inf")),
}  # fmt: skip
RUN_PAGES = ("style.css", "report.js")


def command(
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="Run folder of `grade`, as things should be.")],
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Later run folders, in the order of time.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to put index.html and monitor.json.")],
    alpha: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of months without drift in which drift may be told.")
    ] = 0.05,
    permutations: Annotated[int, typer.Option(metavar="N", min=99, help="Exchanges of patients a test.")] = 1999,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of these exchanges.")] = 0,
) -> None:
    """Grades, confidence, sets, flags, stain, focus and distance to training of later runs against a reference.

    Every test exchanges whole patients, and all of them together tell drift in at most a share --alpha of months
    without any. Draws a control chart over the runs.
    Exit code 0: no drift was found. 4: drift. A measure with too few patients is named and not judged.

    Example: `histograde monitor validation-run/ june-*/ --out monitor/june`
    """
    found = monitor(reference, runs, out, alpha, permutations, seed)
    for line in found.lines():
        typer.echo(line)
    typer.echo(f"{out / 'index.html'}")
    if found.drifted:
        raise typer.Exit(EXIT_DRIFT)


@dataclass(frozen=True, slots=True)
class Monitoring:
    """What came of comparing later runs with a reference.

    Attributes
    ----------
    watched : Watched
    changes : list of Change
        By measure; those that drifted first.
    charts : list of Chart
    alpha : float
    """

    watched: "Watched"
    changes: "list[Change]"
    charts: "list[Chart]"
    alpha: float

    @property
    def drifted(self) -> "list[Change]":
        """Measures that changed."""
        return [one for one in self.changes if one.drifted(self.alpha)]

    @property
    def not_judged(self) -> "list[Change]":
        """Measures with too few patients."""
        return [one for one in self.changes if not one.judged]

    def lines(self) -> list[str]:
        """The outcome for people."""
        first = (self.watched.run == 0).sum()
        sizes = f"{len(self.watched.run) - first} slides of {len(self.watched.runs) - 1} runs against {first}"
        if self.drifted:
            head = f"drift in {len(self.drifted)} of {len(self.changes)} measures: {sizes}"
        elif len(self.not_judged) == len(self.changes):
            head = f"nothing could be judged: {sizes}"
        else:
            head = f"no drift found: {sizes}"
        lines = [head, *(f"  {told(one)}" for one in self.drifted)]
        if self.not_judged:
            lines.append(
                "not judged, too few patients: "
                + ", ".join(f"{one.name} ({one.patients[0]} and {one.patients[1]})" for one in self.not_judged)
            )
        out = [f"{name} ({chart.name})" for chart in self.charts for name in chart.out]
        if out:
            lines.append(f"runs out of control limits: {', '.join(out)}")
        return lines + [f"note: {note}" for note in self.watched.notes]

    def to_dict(self) -> dict[str, Any]:
        """All figures, for programs."""
        return {
            "format": "histograde-monitor",
            "version": 1,
            "drift": bool(self.drifted),
            "alpha": self.alpha,
            "runs": [
                {"name": name, "slides": int((self.watched.run == number).sum())}
                for number, name in enumerate(self.watched.runs)
            ],
            "measures": [
                {
                    "name": one.name, "test": one.test, "patients": list(one.patients), "judged": one.judged,
                    "statistic": _number(one.statistic), "p_value": _number(one.p_value),
                    "adjusted": _number(one.adjusted), "stability_index": _number(one.psi),
                    "drifted": one.drifted(self.alpha), "bins": list(one.labels), "shares": one.shares.tolist(),
                }
                for one in self.changes
            ],
            "charts": [
                {"name": chart.name, "mean": chart.mean, "points": [_point(asdict(point)) for point in chart.points]}
                for chart in self.charts
            ],
            "notes": list(self.watched.notes),
        }  # fmt: skip


def monitor(
    reference: Path, runs: Sequence[Path], out: Path, alpha: float = 0.05, permutations: int = 1999, seed: int = 0
) -> Monitoring:
    """Compare, and write `index.html` and `monitor.json`.

    Raises
    ------
    WsiError
        If a folder is no run, or the runs are not of one model.
    """
    from mil.drift import compare_groups
    from workflows.monitored import joint_inputs, read_runs
    from wsi.errors import UsageError

    if not 0 < alpha < 1:
        raise UsageError(f"--alpha is {alpha}; it lies between 0 and 1, as 0.05")
    check_out(out)
    watched, first = read_runs(reference, runs)
    changes = compare_groups(
        watched.numbers, watched.classes, watched.run > 0, watched.patient.tolist(), joint=joint_inputs(watched),
        permutations=permutations, seed=seed,
    )  # fmt: skip
    known = [one for one in changes if min(one.patients)]
    known.sort(key=lambda one: (not one.drifted(alpha), not one.judged))
    found = Monitoring(watched, known, _charts(watched), alpha)
    write_page(found, first, out)
    return found


def told(change: "Change") -> str:
    """A measure that changed, in one line."""
    size = "" if change.test == "MMD" else f", stability index {change.psi:.2f}"
    return f"{change.name}: adjusted p {change.adjusted:.3g} ({change.test}){size}"


def check_out(out: Path) -> None:
    """Raise `UsageError` if something other than an earlier comparison is at `out`."""
    from wsi.errors import UsageError

    if out.is_file() or (out.exists() and any(out.iterdir()) and not (out / "monitor.json").is_file()):
        raise UsageError(f"{out}: exists and holds no comparison of runs; choose another --out")


def write_page(found: Monitoring, reference: "Run", out: Path) -> None:
    """Write the page and the figures, in place of older ones."""
    from workflows.pages import TEMPLATES, environment
    from wsi.files import write_atomic, write_json

    text = (
        environment()
        .get_template("monitor.html")
        .render(
            root="",
            found=found,
            names=found.watched.runs,
            slides=[int((found.watched.run == number).sum()) for number in range(len(found.watched.runs))],
            model=reference.model,
            totals={"version": reference.record.get("versions", {}).get("histograde", "")},
        )
    )
    out.mkdir(parents=True, exist_ok=True)
    for name in RUN_PAGES:
        shutil.copyfile(TEMPLATES / name, out / name)
    write_atomic(out / "index.html", text.encode())
    write_json(out / "monitor.json", found.to_dict())


def _charts(watched: "Watched") -> "list[Chart]":
    import numpy as np

    from workflows.control_chart import control_chart

    flags = watched.classes["unlike training"]
    unlike = 1.0 - np.isin(flags, ("no", "graded"))
    numbers = {"share unlike training": unlike, **watched.numbers}
    drawn = [
        control_chart(name, values, watched.run, watched.patient, watched.runs, BOUNDS.get(name, (-np.inf, np.inf)))
        for name, values in numbers.items()
    ]
    return [chart for chart in drawn if chart is not None]


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if value != value else float(value)


def _point(said: dict[str, Any]) -> dict[str, Any]:
    return {name: said[name] for name in ("name", "patients", "value", "low", "high", "out")}
