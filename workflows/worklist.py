"""The order in which to look at graded slides, and the reason for each place.

The urgency of a slide is a sum of four parts, each 0 to 1 before its weight:

- severity, weight 1: the mean of the classes' severities under the slide's probabilities. For a grade, severities
  rise evenly from 0 (first class) to 1 (last). For classes without order it is 0 for a class that is named benign,
  normal or negative (if none is: for the first class) and 1 for all others;
- uncertainty, weight 1/2: the larger of the entropy of the probabilities, divided by that of an even guess, and of
  the width of the slide's set: 0 for one class, 1 for all of them. A set keeps its promise however sure the
  probabilities are, so a wide one alone sends the slide to a person. A model without sets has the entropy only;
- quality, weight 1/4: the larger of the share of unreadable tiles over 20 %, and how far the tissue falls short of
  1 mm2; each at most 1;
- unlike training, weight 1/2: 1 for a slide that is flagged as unlike the training slides. A grade of such a slide
  means little, however sure it looks, so a person decides.

Most urgent first; equal ones by slide_id. The reason names the grade, then whatever else raised the place.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from workflows.gradings import Grading, Task, class_labels, write_csv

UNCERTAINTY_WEIGHT = 0.5
QUALITY_WEIGHT = 0.25
UNLIKE_WEIGHT = 0.5
WORST_BAD_SHARE = 0.2
LITTLE_TISSUE_MM2 = 1.0
TOLD_BAD_SHARE = 0.02
RIVAL_SHARE = 0.5
"""A class with at least this share of the highest probability makes the grade uncertain in the reason's words."""

MOST_RIVALS = 3

HARMLESS = ("benign", "normal", "negative", "no tumour", "no tumor", "non-tumour", "non-tumor", "healthy")

RULE = (
    "Most urgent first: expected severity of the probabilities (0\u20131), plus half of their uncertainty "
    "(entropy or width of the set, whichever is larger, 0\u20131), plus a quarter of the quality trouble (unreadable "
    "tiles, full at 20 %; tissue short of 1 mm\u00b2), plus a half for a slide unlike those of training. "
    "Equal places by slide name."
)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the worklist: its number from 1, the slide, how urgent it is, and why."""

    rank: int
    grading: Grading
    urgency: float
    reason: str


def rank_slides(gradings: Iterable[Grading]) -> list[Place]:
    """The worklist, most urgent first."""
    rated = sorted(((round(urgency(one), 6), one) for one in gradings), key=lambda pair: (-pair[0], pair[1].slide_id))
    return [Place(rank, one, value, reason(one)) for rank, (value, one) in enumerate(rated, start=1)]


def urgency(grading: Grading) -> float:
    """The sum that the module's text describes, 0 to 2.25."""
    severity = sum(p * s for p, s in zip(grading.probabilities, severities(grading.task, grading.classes), strict=True))
    doubt = UNCERTAINTY_WEIGHT * uncertainty(grading) + UNLIKE_WEIGHT * is_unlike(grading)
    return severity + doubt + QUALITY_WEIGHT * quality_trouble(grading)


def is_unlike(grading: Grading) -> bool:
    """Whether the slide is flagged as unlike the training slides."""
    return grading.outlier is not None and grading.outlier.flagged


def severities(task: Task, classes: Sequence[str]) -> list[float]:
    """How bad each class is, 0 to 1."""
    if task == "grade":
        return [place / max(1, len(classes) - 1) for place in range(len(classes))]
    harmless = [name.strip().lower().replace("_", " ").startswith(HARMLESS) for name in classes]
    if not any(harmless):
        harmless[0] = True
    return [0.0 if is_harmless else 1.0 for is_harmless in harmless]


def uncertainty(grading: Grading) -> float:
    """How little is known of the grade, 0 (sure) to 1."""
    return max(relative_entropy(grading.probabilities), set_width(grading))


def set_width(grading: Grading) -> float:
    """How wide the set is, 0 (one class, or a model without sets) to 1 (all classes)."""
    return (len(grading.class_set.held) - 1) / max(1, len(grading.classes) - 1) if grading.class_set else 0.0


def relative_entropy(probabilities: Sequence[float]) -> float:
    """Entropy relative to an even guess, 0 (sure) to 1."""
    if len(probabilities) < 2:
        return 0.0
    return max(0.0, -sum(p * math.log(p) for p in probabilities if p > 0)) / math.log(len(probabilities))


def quality_trouble(grading: Grading) -> float:
    """How little the pixels can be relied on, 0 to 1."""
    short_of_tissue = 1 - grading.tissue_mm2 / LITTLE_TISSUE_MM2
    return max(0.0, min(1.0, max(grading.bad_share / WORST_BAD_SHARE, short_of_tissue)))


def reason(grading: Grading) -> str:
    """Why a slide has its place, in words: `grade group 5 (0.83); 12 % of tiles unreadable`."""
    label = grading.label.replace("Grade group", "grade group", 1)
    parts = [f"{label} ({grading.confidence:.2f})"]
    if is_unlike(grading):
        parts.append(grading.unlike_text)
    if rivals := _rivals(grading):
        parts.append(rivals)
    if set_width(grading):
        parts.append(f"set {grading.set_text}")
    if grading.bad_share >= TOLD_BAD_SHARE:
        parts.append(f"{grading.bad_share:.0%} of tiles unreadable".replace("%", " %"))
    elif grading.bad_tiles:
        parts.append(f"{grading.bad_tiles} unreadable {'tile' if grading.bad_tiles == 1 else 'tiles'}")
    if grading.tissue_mm2 < LITTLE_TISSUE_MM2:
        parts.append(f"little tissue ({grading.tissue_mm2:.2g} mm\u00b2)")
    return "; ".join(parts)


def _rivals(grading: Grading) -> str:
    names, chances = _short(grading.task, grading.classes), grading.probabilities
    top = max(range(len(chances)), key=lambda k: (chances[k], -k))
    if grading.classes[top] != grading.predicted:
        return f"probability is highest for {names[top]} ({chances[top]:.2f})"
    likely = [name for name, chance in zip(names, chances, strict=True) if chance >= RIVAL_SHARE * chances[top]]
    if len(likely) == 1:
        return ""
    if len(likely) > MOST_RIVALS:
        return f"uncertain among {len(likely)} {'grades' if grading.task == 'grade' else 'classes'}"
    return f"uncertain between {', '.join(likely[:-1])} and {likely[-1]}"


def _short(task: Task, classes: tuple[str, ...]) -> list[str]:
    return [label.removeprefix("Grade group ") for label in class_labels(task, classes)]


def save_worklist(run: str | Path, places: Sequence[Place]) -> None:
    """Write `worklist.csv`, most urgent first."""
    columns = ["rank", "slide_id", "patient_id", "grade", "confidence", "calibrated", "set", "flagged", "urgency"]
    columns.append("reason")
    task = places[0].grading.task if places else "grade"
    columns[3] = task
    rows = [
        {
            "rank": place.rank,
            "slide_id": place.grading.slide_id,
            "patient_id": place.grading.patient_id,
            task: place.grading.predicted,
            "confidence": round(place.grading.confidence, 4),
            "calibrated": "yes" if place.grading.calibrated else "no",
            "set": place.grading.set_text,
            "flagged": place.grading.flag_text,
            "urgency": round(place.urgency, 4),
            "reason": place.reason,
        }
        for place in places
    ]
    write_csv(Path(run) / "worklist.csv", rows, columns)
