"""Intervals and reliability as places on a page, for the templates of audit, card and dossier; no pixels.

Everything is rounded to a hundredth of a unit of the drawing, so that the same figures give the same bytes anywhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import Any

from mil.bootstrap import Interval
from mil.reliability import Reliability

SIDE = 320
"""Of the reliability diagram, in its own units."""

MOST_TICKS = 6


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a forest plot: a name, a number with its interval, and what is to be said of it."""

    name: str
    interval: Interval
    note: str = ""
    tone: str = "warn"


def forest(rows: Sequence[Row], lines: Iterable[tuple[float, str]] = ()) -> dict[str, Any]:
    """Intervals on one axis.

    Parameters
    ----------
    lines : (value, class)
        Upright lines: "zero" for a reference, "margin" for what must not be crossed.

    Returns
    -------
    dict
        `rows` and `axis` for the macro `forest`; places are in percent of the width.
    """
    lines = tuple(lines)
    known = [value for row in rows for value in _ends(row.interval) if isfinite(value)] + [at for at, _ in lines]
    ticks = nice_ticks(min(known, default=0.0), max(known, default=1.0))
    low, high = ticks[0], ticks[-1]

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    drawn = []
    for row in rows:
        one = row.interval
        shown = isfinite(one.low) and isfinite(one.high)
        drawn.append(
            {
                "name": row.name, "note": row.note, "tone": row.tone, "patients": one.n_groups, "drawn": shown,
                "value": number_text(one.estimate),
                "reach": f"{number_text(one.low)} – {number_text(one.high)}" if shown else "not known",
                **({"x0": place(one.low), "x1": place(one.high), "x": place(one.estimate)} if shown else {}),
            }
        )  # fmt: skip
    axis = {
        "level": f"{100 * (rows[0].interval.level if rows else 0.95):.3g} %",
        "lines": [(place(at), kind) for at, kind in lines],
        "ticks": [(place(tick), f"{tick:g}".replace("-", "\u2212")) for tick in ticks],
    }
    return {"rows": drawn, "axis": axis}


def reliability_curve(found: Reliability, across: str, up: str) -> dict[str, Any]:
    """A reliability diagram for the macro `reliability`."""
    points = []
    for row in range(len(found.predicted)):
        predicted, observed, low, high = (
            float(part[row]) for part in (found.predicted, found.observed, found.low, found.high)
        )
        points.append(
            {
                "x": round(SIDE * predicted, 2),
                "y": round(SIDE * (1 - observed), 2),
                "low": round(SIDE * (1 - low), 2),
                "high": round(SIDE * (1 - high), 2),
                "text": f"{predicted:.2f} said, {observed:.2f} seen ({low:.2f} to {high:.2f}), "
                f"{found.slides[row]} slides of {found.patients[row]} patients",
            }
        )
    text = (
        f"{len(points)} bins of like count; bars are {100 * found.level:g} % intervals by patient. On the dashed line "
        "what was said is what was seen."
    )
    path = "M" + "L".join(f"{point['x']} {point['y']}" for point in points)
    return {"points": points, "path": path, "across": across, "up": up, "text": text}


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers around an interval at equal steps of 1, 2 or 5 times a power of 10: at most `MOST_TICKS`."""
    width = max(high - low, 1e-6)
    power = floor(log10(width / (MOST_TICKS - 1)))
    for step in (factor * 10.0**exponent for exponent in (power, power + 1) for factor in (1, 2, 5)):
        first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
        if 1 <= last - first < MOST_TICKS:
            return [round(number * step, 12) for number in range(first, last + 1)]
    return [low, low + width]


def number_text(value: float | None) -> str:
    """A figure for people."""
    return "not defined" if value is None or not isfinite(value) else f"{value:.3f}".replace("-", "\u2212")


def p_text(value: float | None) -> str:
    """A p-value for people."""
    if value is None or not isfinite(value):
        return "not tested"
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _ends(one: Interval) -> tuple[float, float, float]:
    return one.low, one.estimate, one.high
