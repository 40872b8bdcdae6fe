"""Control charts: one value a run, with the limits within which runs like the reference stay.

Shewhart: Economic Control of Quality of Manufactured Product, 1931. A run of m patients is expected within

    mean +- 3 s / sqrt(m)

with mean and standard deviation s over the patients of the reference. Patients count once each, by the mean of their
slides. A run with few patients has wide limits, and with fewer than five no verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 5
SIGMAS = 3.0
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 150, 48, 12, 12, 26


@dataclass(frozen=True, slots=True)
class Point:
    """A run on a chart: its name, patients, value, limits, whether it is out of them; where it is drawn, px."""

    name: str
    patients: int
    value: float
    low: float
    high: float
    out: bool
    x: float = 0.0
    y: float = 0.0
    y_low: float = 0.0
    y_high: float = 0.0


@dataclass(frozen=True, slots=True)
class Chart:
    """One measure from run to run: name, the reference's mean, its height in px, the points, ticks (y px, text)."""

    name: str
    mean: float
    y_mean: float
    points: tuple[Point, ...]
    ticks: tuple[tuple[float, str], ...]
    size_px: tuple[int, int] = (WIDTH, HEIGHT)
    left_px: int = LEFT

    @property
    def out(self) -> tuple[str, ...]:
        """Names of the runs that are out of limits."""
        return tuple(point.name for point in self.points if point.out)


def control_chart(
    name: str,
    values: np.ndarray,
    run: np.ndarray,
    patients: np.ndarray,
    names: Sequence[str],
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Chart | None:
    """The chart of a measure; None where the reference has fewer than five patients for whom it is known.

    Parameters
    ----------
    values : ndarray (n,) float
        NaN where it is not known.
    run : ndarray (n,) int
        0 is the reference.
    patients : ndarray (n,) str
    names : sequence of str
        Of the runs.
    bounds : (float, float)
        Between which the measure lies by its nature; limits do not go beyond.
    """
    known = np.isfinite(values)
    reference = _by_patient(values, known & (run == 0), patients)
    if len(reference) < FEWEST:
        return None
    mean, spread = float(reference.mean()), float(reference.std(ddof=1))
    points = []
    for number in range(1, len(names)):
        own = _by_patient(values, known & (run == number), patients)
        if not len(own):
            continue
        half = SIGMAS * spread * (1 / len(own) + 1 / len(reference)) ** 0.5
        value = float(own.mean())
        out = len(own) >= FEWEST and abs(value - mean) > half + 1e-12
        low, high = max(mean - half, bounds[0]), min(mean + half, bounds[1])
        points.append(Point(names[number], len(own), value, low, high, out))
    return _drawn(name, mean, points) if points else None


def _by_patient(values: np.ndarray, which: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Mean of each patient's slides, (P,)."""
    if not which.any():
        return np.empty(0)
    number = np.unique(patients[which], return_inverse=True)[1]
    return np.asarray(np.bincount(number, values[which]) / np.bincount(number))


def _drawn(name: str, mean: float, points: Sequence[Point]) -> Chart:
    ends = np.array([[point.value, point.low, point.high] for point in points])
    low, high = float(ends.min()), float(ends.max())
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    margin = 0.06 * (high - low)
    low, high = low - margin, high + margin

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    step = (WIDTH - LEFT - RIGHT) / len(points)
    placed = tuple(
        Point(
            one.name, one.patients, one.value, one.low, one.high, one.out,
            LEFT + step * (k + 0.5), y(one.value), y(one.low), y(one.high),
        )
        for k, one in enumerate(points)
    )  # fmt: skip
    ticks = tuple((y(value), f"{value:.3g}") for value in np.linspace(low + margin, high - margin, 3))
    return Chart(name, mean, y(mean), placed, ticks)
