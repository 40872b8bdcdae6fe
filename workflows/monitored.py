"""What is watched from run to run: the slides of a reference and of later runs, side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workflows.gradings import INPUTS, Grading
from workflows.results import Run, load_run
from wsi.errors import RecipeMismatchError, UsageError

REFUSED = "refused"
"""A slide in quarantine has no grade: it counts as one that is unlike the others, and as a patient of its own."""


@dataclass(frozen=True, slots=True)
class Watched:
    """The slides of all runs, a row each.

    Attributes
    ----------
    runs : tuple of str
        The reference first, later ones as they were given.
    run : ndarray (n,) int
        Whose slide each is.
    slide_id, patient : ndarray (n,) str
    numbers : dict of str to ndarray (n,) float
        NaN where it is not known.
    classes : dict of str to ndarray (n,) str
    notes : tuple of str
    """

    runs: tuple[str, ...]
    run: np.ndarray
    slide_id: np.ndarray
    patient: np.ndarray
    numbers: dict[str, np.ndarray]
    classes: dict[str, np.ndarray]
    notes: tuple[str, ...]


def read_runs(reference: Path, later: Sequence[Path]) -> tuple[Watched, Run]:
    """Read runs; also gives the reference's run.

    A slide that is in several runs counts in the first of them, so that nothing is compared with itself.

    Raises
    ------
    UsageError
        If a folder is no run, or no slide is left of the reference or of the later ones.
    RecipeMismatchError
        If a run is by another model than the reference: its numbers mean something else.
    """
    runs = [load_run(place) for place in (reference, *later)]
    for run in runs[1:]:
        if run.model.model_id != runs[0].model.model_id:
            raise RecipeMismatchError(
                f"{run.folder.name} is by model {run.model.model_id}, the reference by {runs[0].model.model_id}; only "
                "runs of one model can be compared"
            )
    names = _names([run.folder for run in runs])
    seen: dict[str, int] = {}
    rows: list[tuple[int, str, Grading | None]] = []
    twice = [0] * len(runs)
    for number, run in enumerate(runs):
        graded: list[tuple[str, Grading | None]] = [(one.slide_id, one) for one in run.gradings]
        graded += [(one.slide_id, None) for one in run.quarantined]
        for slide_id, grading in sorted(graded, key=lambda pair: pair[0]):
            if seen.setdefault(slide_id, number) == number:
                rows.append((number, slide_id, grading))
            else:
                twice[number] += 1
    notes = [
        f"{name}: {count} slides are in an earlier run as well and count there"
        for name, count in zip(names, twice, strict=True)
        if count
    ]
    which = np.array([number for number, _, _ in rows], dtype=np.int64)
    if not (which == 0).any() or not (which > 0).any():
        raise UsageError("there is nothing to compare: the reference or the later runs have no slides of their own")
    return _watched(names, which, rows, runs[0], tuple(notes)), runs[0]


def _watched(
    names: tuple[str, ...],
    which: np.ndarray,
    rows: Sequence[tuple[int, str, Grading | None]],
    reference: Run,
    notes: tuple[str, ...],
) -> Watched:
    gradings = [grading for _, _, grading in rows]
    task = reference.model.task

    def numbers(of: Callable[[Grading], float | None]) -> np.ndarray:
        values = [None if one is None else of(one) for one in gradings]
        return np.array([np.nan if value is None else float(value) for value in values])

    measured = {
        "confidence": numbers(lambda one: one.confidence),
        "set width": numbers(lambda one: len(one.class_set.held) if one.class_set else None),
        "tissue mm2": numbers(lambda one: one.tissue_mm2),
        "unreadable share": numbers(lambda one: one.bad_share),
        **{
            f"oddness of {name}": numbers(lambda one, name=name: one.outlier and one.outlier.oddness.get(name))  # type: ignore[misc]
            for name in ("tiles", "slide")
        },
        **{name.replace("_", " "): numbers(lambda one, name=name: one.inputs.get(name)) for name in INPUTS},  # type: ignore[misc]
    }
    classes = {
        task: np.array([one.predicted if one else "" for one in gradings]),
        "unlike training": np.array([_kind(one) for one in gradings]),
    }
    patient = np.array([one.patient_id or slide_id if one else slide_id for _, slide_id, one in rows])
    slide_id = np.array([slide_id for _, slide_id, _ in rows])
    return Watched(names, which, slide_id, patient, measured, classes, notes)


def _kind(grading: Grading | None) -> str:
    """Whether a slide is like those of training; where nobody looked, whether it was graded at all."""
    if grading is None:
        return REFUSED
    return "graded" if grading.flag_text.startswith("not") else grading.flag_text


def joint_inputs(watched: Watched) -> tuple[str, ...]:
    """The numbers that describe a slide's pixels, without those that nobody measured."""
    wanted = ["tissue mm2", "oddness of tiles", "oddness of slide", *(name.replace("_", " ") for name in INPUTS)]
    return tuple(name for name in wanted if np.isfinite(watched.numbers[name]).any())


def _names(folders: Sequence[Path]) -> tuple[str, ...]:
    """Names of folders, with those above where two are called alike."""
    short = [folder.resolve().name for folder in folders]
    return tuple(
        name if short.count(name) == 1 else "/".join(folder.resolve().parts[-2:])
        for name, folder in zip(short, folders, strict=True)
    )
