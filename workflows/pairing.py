"""Two tables of predictions, slide for slide beside the same labels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mil.cohort import read_labels
from workflows.prediction_table import PLURAL, Judged, Predictions, judge, named
from wsi.errors import UsageError


def paired(first: Predictions, second: Predictions, labels: Path | None) -> tuple[Judged, Judged, tuple[str, ...]]:
    """Both tables beside the labels, slide for slide, and what should be said of them.

    Raises
    ------
    UsageError
        If the two are not of the same slides, classes, patients and labels.
    """
    _check_same(first, second)
    if labels is not None:
        cohorts = (read_labels(labels),) * 2
    else:
        cohorts = first.own_cohort(), second.own_cohort()
        for slide_id, one, other in zip(cohorts[0].slide_id, cohorts[0].label, cohorts[1].label, strict=True):
            if one != other:
                raise UsageError(
                    f"slide {slide_id}: its label is {one!r} in {first.path} and {other!r} in {second.path}; "
                    "give the right ones with --labels"
                )
    a, b = judge(first, cohorts[0]), judge(second, cohorts[1])
    for slide_id, one, other in zip(a.slide_id, a.patients, b.patients, strict=True):
        if one != other:
            raise UsageError(
                f"slide {slide_id}: its patient is {one!r} in {first.path} and {other!r} in {second.path}; "
                "give patient_id with --labels"
            )
    notes = [f"left out, no label: {named(left)}"] if (left := sorted(set(first.slide_id) - set(a.slide_id))) else []
    if a.fold != b.fold:
        notes.append("the two were not held out in the same folds: a part of the difference may be the folds'")
    return a, b, tuple(notes)


def in_common(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions, tuple[str, ...]]:
    """Both tables for the slides that are in both, and a note where that leaves some out.

    Raises
    ------
    UsageError
        If no slide is in both.
    """
    shared = sorted(set(first.slide_id) & set(second.slide_id))
    if not shared:
        raise UsageError(
            f"{first.path} and {second.path} have no slide in common; give predictions for the same slides with "
            "--predictions"
        )
    notes = [
        f"compared on {len(shared)} slides; only in {one.path}: {named(extra)}"
        for one in (first, second)
        if (extra := sorted(set(one.slide_id) - set(shared)))
    ]
    return _selected(first, shared), _selected(second, shared), tuple(notes)


def _selected(table: Predictions, slides: Sequence[str]) -> Predictions:
    place = {slide_id: row for row, slide_id in enumerate(table.slide_id)}
    rows = np.array([place[slide_id] for slide_id in slides])

    def pick(column: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(column[row] for row in rows) if column else ()

    return replace(
        table,
        slide_id=pick(table.slide_id),
        patient_id=pick(table.patient_id),
        predicted=table.predicted[rows],
        probabilities=table.probabilities[rows],
        label=None if table.label is None else pick(table.label),
        fold=None if table.fold is None else pick(table.fold),
        site=pick(table.site),
        held=None if table.held is None else table.held[rows],
    )


def _check_same(first: Predictions, second: Predictions) -> None:
    if (first.task, first.classes) != (second.task, second.classes):
        raise UsageError(
            f"{first.path} has the {PLURAL[first.task]} {', '.join(first.classes)}, {second.path} the "
            f"{PLURAL[second.task]} {', '.join(second.classes)}; only models for the same classes can be compared"
        )
    only = [
        f"only in {one.path}: {named(extra)}"
        for one, other in ((first, second), (second, first))
        if (extra := sorted(set(one.slide_id) - set(other.slide_id)))
    ]
    if only:
        raise UsageError(f"the two tables are not of the same slides; {'; '.join(only)}")
