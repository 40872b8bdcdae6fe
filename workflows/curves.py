"""Pictures of how good predictions are: confusion matrix, ROC curves, reliability. Each gives the bytes of a PNG."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mil.cohort import Task
from mil.intervals import Interval
from mil.metrics import calibration_bins, confusion, ece, roc_curve
from wsi.errors import MissingPackageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, told apart in all common forms of colour blindness; lines also differ in their dashes."""
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
INK = "#222222"
PALE = "#888888"


def draw_confusion(targets: np.ndarray, predicted: np.ndarray, classes: tuple[str, ...], task: Task) -> bytes:
    """Counts, coloured by their share of the true class."""
    table = confusion(targets, predicted, len(classes))
    totals = table.sum(axis=1, keepdims=True)
    share = table / np.maximum(totals, 1)
    side = max(4.6, 0.62 * len(classes) + 2.6)
    figure, axes = _figure(side + 0.9, side)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        colour = "white" if share[row, column] > 0.55 else INK
        if count:
            axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=11)
    axes.set_xticks(range(len(classes)), classes, rotation=0 if max(map(len, classes)) < 6 else 30, ha="center")
    axes.set_yticks(range(len(classes)), [f"{name}  (n = {n})" for name, n in zip(classes, totals[:, 0], strict=True)])
    axes.set_xlabel(f"predicted {task}")
    axes.set_ylabel(f"true {task}")
    axes.set_title(f"Confusion matrix, {len(targets)} slides", loc="left", fontweight="bold")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    return _png(figure)


def draw_roc(questions: Mapping[str, tuple[np.ndarray, np.ndarray]], intervals: Mapping[str, Interval]) -> bytes:
    """One curve for each question that both answers occur for; AUROC with its interval in the legend."""
    figure, axes = _figure(5.5, 5.6)
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1, linestyle=(0, (2, 3)), label="chance")
    slides = 0
    for number, (name, (positive, scores)) in enumerate(questions.items()):
        slides = len(positive)
        if positive.all() or not positive.any():
            continue
        fpr, tpr, _ = roc_curve(positive, scores)
        style = {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}
        axes.plot(
            fpr, tpr, linewidth=2, **style,  # type: ignore[arg-type]
            label=f"{name}, n = {int(positive.sum())}: {intervals[name]}",
        )  # fmt: skip
    axes.set_xlabel("false positive rate (1 - specificity)")
    axes.set_ylabel("true positive rate (sensitivity)")
    axes.set_title(f"ROC, {slides} slides", loc="left", fontweight="bold")
    _square(axes)
    axes.legend(title="AUROC (95 % interval by patient)", loc="lower right", fontsize=9, frameon=False)
    return _png(figure)


def draw_reliability(targets: np.ndarray, probabilities: np.ndarray, calibrated: bool, bins: int = 10) -> bytes:
    """Accuracy against confidence in bins of equal count, with 95 % Wilson intervals."""
    bins = max(1, min(bins, len(targets) // 20))
    confidence, right, count = calibration_bins(targets, probabilities, bins)
    low, high = _wilson(right, count)
    figure, axes = _figure(5.4, 5.8)
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1, linestyle=(0, (2, 3)), label="perfect")
    axes.errorbar(
        confidence, right, yerr=np.clip([right - low, high - right], 0, 1), fmt="o-", color=COLOURS[0], linewidth=2,
        markersize=6, elinewidth=1.2, capsize=3,
        label=f"{len(count)} bins of about {round(count.mean())} slides, 95 % interval",
    )  # fmt: skip
    axes.set_xlabel("confidence: probability of the predicted class")
    axes.set_ylabel("accuracy: share of right predictions")
    state = "calibrated" if calibrated else "not calibrated"
    error = ece(targets, probabilities)  # as in the table of metrics, whatever the bins drawn
    axes.set_title(f"Reliability, {len(targets)} slides, {state}\nECE {error:.3f}", loc="left", fontweight="bold")
    _square(axes)
    axes.legend(loc="upper left", fontsize=9, frameon=False)
    return _png(figure)


def _wilson(share: np.ndarray, count: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of a share (1927)."""
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return centre - half, centre + half


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError('plots need matplotlib: pip install "histograde[report]"') from error
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _square(axes: "Axes") -> None:
    axes.set_aspect("equal")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
