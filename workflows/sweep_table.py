"""What came of the cells of a sweep, as one table for programs and for people."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mil.intervals import Interval
from workflows.training import TrainResult


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one encoder's features from one seed.

    Attributes
    ----------
    model, encoder : str
    seed : int
    metrics : mapping of str to Interval
        On held-out slides, the task's own metric first; empty where the cell failed.
    parameters : int
    seconds_per_epoch : float
    model_id : str
    error : str
        Why it failed; empty where it did not.
    was_kept : bool
        It had been trained before.
    """

    model: str
    encoder: str
    seed: int
    metrics: Mapping[str, Interval] = field(default_factory=dict)
    parameters: int = 0
    seconds_per_epoch: float = 0.0
    model_id: str = ""
    error: str = ""
    was_kept: bool = False

    @property
    def name(self) -> str:
        """For folders and messages."""
        return f"{self.model}__{self.encoder}__seed-{self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        metrics = {name: interval.to_dict() for name, interval in self.metrics.items()}
        return {**asdict(self), "metrics": metrics}

    def line(self) -> str:
        """The outcome for people, in one line."""
        if self.error:
            return f"{self.name}: failed: {self.error}"
        name, interval = next(iter(self.metrics.items()))
        before = ", kept from an earlier run" if self.was_kept else ""
        return f"{self.name}: {name} {interval}, {self.seconds_per_epoch:.2f} s an epoch{before}"


def done(cell: Cell, result: TrainResult, *, was_kept: bool) -> Cell:
    """A cell with the result of its training."""
    found = (result.metrics, result.parameters, result.seconds_per_epoch, result.model_id)
    return Cell(cell.model, cell.encoder, cell.seed, *found, was_kept=was_kept)


def table_csv(cells: Sequence[Cell]) -> str:
    """A row a cell in the order of the cells; numbers that are not there are empty."""
    names = list(dict.fromkeys(name for cell in cells for name in cell.metrics))
    ends = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "encoder", "seed", *ends, "seconds_per_epoch", "parameters", "model_id", "error"])
    for cell in cells:
        numbers = [_cells(cell.metrics.get(name)) for name in names]
        rest = ["", "", ""] if cell.error else [f"{cell.seconds_per_epoch:.3f}", cell.parameters, cell.model_id]
        writer.writerow([cell.model, cell.encoder, cell.seed, *(n for row in numbers for n in row), *rest, cell.error])
    return text.getvalue()


def table_lines(cells: Sequence[Cell]) -> list[str]:
    """The cells that did not fail for people, a line for all seeds of a model and an encoder, the best first."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if not cell.error:
            groups.setdefault((cell.model, cell.encoder), []).append(cell)
    if not groups:
        return []
    name = next(iter(next(iter(groups.values()))[0].metrics))
    ranked = sorted(groups.values(), key=lambda group: -_mean(group, name))
    head = ["model", "encoder", "seeds", f"{name} (95 %)", "log loss", "s/epoch", "parameters"]
    rows = [head, *(_row(group, name) for group in ranked)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append("Intervals are by patient; with several seeds: means of estimates and of ends.")
    if len(groups) > 1:
        lines.append("The best of several looks better than it is on these slides: confirm it on others.")
    return lines


def _row(group: Sequence[Cell], name: str) -> list[str]:
    ends = [np.mean([getattr(cell.metrics[name], end) for cell in group]) for end in ("estimate", "low", "high")]
    loss = f"{_mean(group, 'log_loss'):.3f}" if "log_loss" in group[0].metrics else ""
    seconds = np.mean([cell.seconds_per_epoch for cell in group])
    first = group[0]
    figure = f"{ends[0]:.3f} ({ends[1]:.3f} to {ends[2]:.3f})"
    return [first.model, first.encoder, str(len(group)), figure, loss, f"{seconds:.2f}", f"{first.parameters:,}"]


def _mean(group: Sequence[Cell], name: str) -> float:
    value = float(np.mean([cell.metrics[name].estimate for cell in group]))
    return value if np.isfinite(value) else -np.inf


def _cells(interval: Interval | None) -> list[str]:
    if interval is None:
        return ["", "", ""]
    numbers = (interval.estimate, interval.low, interval.high)
    return [f"{number:.6f}" if np.isfinite(number) else "" for number in numbers]
