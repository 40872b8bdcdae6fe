"""Who the slides belong to: labels, patients, sites, and what else a table says of them."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np

from wsi.errors import UsageError

Task = Literal["grade", "class"]
HARMLESS = ("benign", "normal", "negative", "no tumour", "no tumor", "non-tumour", "non-tumor", "healthy")
"""How names of classes begin that stand for nothing found."""
COLUMNS = ("slide_id", "label", "patient_id", "site", "fold")


@dataclass(frozen=True, slots=True)
class Cohort:
    """Labelled slides, sorted by slide_id.

    Attributes
    ----------
    slide_id, patient_id, site, label : tuple (n,) of str
        `site` is "" where it is not known.
    fold : ndarray (n,) int64 or None
        Fold in which each slide is held out.
    covariates : mapping of str to tuple (n,) of str
        Every other column of the table, as it was written.
    notes : tuple of str
        What a reader of results should know about the cohort, one line each.
    """

    slide_id: tuple[str, ...]
    patient_id: tuple[str, ...]
    site: tuple[str, ...]
    label: tuple[str, ...]
    fold: np.ndarray | None = None
    covariates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        columns = [self.patient_id, self.site, self.label, *self.covariates.values()]
        if self.fold is not None:
            columns.append(tuple(self.fold))
        if any(len(column) != len(self.slide_id) for column in columns):
            raise UsageError("the columns of a cohort have one length")
        if list(self.slide_id) != sorted(set(self.slide_id)):
            raise UsageError("the slides of a cohort are sorted by slide_id, each of them once")

    def __len__(self) -> int:
        return len(self.slide_id)

    def select(self, rows: Sequence[int] | np.ndarray) -> "Cohort":
        """The slides at `rows`; rows are taken in ascending order."""
        rows = np.sort(np.asarray(rows, dtype=np.int64))

        def pick(column: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(column[row] for row in rows)

        return replace(
            self,
            slide_id=pick(self.slide_id),
            patient_id=pick(self.patient_id),
            site=pick(self.site),
            label=pick(self.label),
            fold=None if self.fold is None else self.fold[rows],
            covariates={name: pick(column) for name, column in self.covariates.items()},
        )

    def targets(self, classes: Sequence[str]) -> np.ndarray:
        """Position of each label in `classes`, (n,) int64; raises `UsageError` for a label that is not among them."""
        place = {name: number for number, name in enumerate(classes)}
        for slide_id, label in zip(self.slide_id, self.label, strict=True):
            if label not in place:
                raise UsageError(f"slide {slide_id}: label {label!r} is not one of {', '.join(classes)}")
        return np.array([place[label] for label in self.label], dtype=np.int64)

    def column(self, name: str) -> tuple[str, ...]:
        """Values (n,) of `patient`, `site` or another column of the table; raises `UsageError` if there is none."""
        known = {"patient": self.patient_id, "site": self.site, **self.covariates}
        if name not in known:
            raise UsageError(f"the labels have no column {name!r}; they have: {', '.join(known)}")
        return known[name]

    def digest(self) -> str:
        """SHA-256 over slides, patients, sites, labels and folds."""
        fold = [""] * len(self) if self.fold is None else [str(number) for number in self.fold]
        rows = zip(self.slide_id, self.patient_id, self.site, self.label, fold, strict=True)
        return sha256("\n".join("\x1f".join(row) for row in rows).encode()).hexdigest()


def read_labels(path: str | Path) -> Cohort:
    """Read a CSV with the columns slide_id and label, and where they are known patient_id, site and fold.

    A slide without patient_id is taken for the only one of its patient, and the cohort's notes say so. The order
    of the rows does not matter.

    Raises
    ------
    UsageError
        In one line, for a missing file or column, an empty or repeated slide_id, an empty label, or a fold that
        is not a number.
    """
    path = Path(path)
    rows = _rows(path)
    seen: set[str] = set()
    for line, row in enumerate(rows, start=2):
        slide_id = row["slide_id"]
        if not slide_id or not row["label"]:
            missing = "slide_id" if not slide_id else "label"
            raise UsageError(f"{path.name}, line {line}: {missing} is empty; each slide needs one")
        if slide_id in seen:
            raise UsageError(f"{path.name}, line {line}: slide {slide_id} occurs twice; keep one row for a slide")
        seen.add(slide_id)
    rows.sort(key=lambda row: row["slide_id"])
    lone = [row["slide_id"] for row in rows if not row.get("patient_id")]
    return Cohort(
        slide_id=tuple(row["slide_id"] for row in rows),
        patient_id=tuple(row.get("patient_id") or row["slide_id"] for row in rows),
        site=tuple(row.get("site", "") for row in rows),
        label=tuple(row["label"] for row in rows),
        fold=_folds(path, rows),
        covariates={name: tuple(row[name] for row in rows) for name in rows[0] if name not in COLUMNS},
        notes=(_lone_note(lone, len(rows)),) if lone else (),
    )


def label_classes(labels: Iterable[str], task: Task, order: Sequence[str] | None = None) -> tuple[str, ...]:
    """The classes in their order: as given, else grades by number and other labels by alphabet, harmless ones first.

    The first class is the one that a slide has when nothing is found in it (`HARMLESS` names by their beginning).

    Raises
    ------
    UsageError
        If grades are not integers or leave a gap, or there are fewer than two classes.
    """
    found = set(labels)
    classes = tuple(order) if order else tuple(sorted(found, key=_grade if task == "grade" else _harmless_first))
    if len(set(classes)) != len(classes) or len(classes) < 2:
        raise UsageError(f"at least two different classes are needed, found: {', '.join(classes) or 'none'}")
    if unknown := sorted(found - set(classes)):
        raise UsageError(f"label {unknown[0]!r} is not among the classes given: {', '.join(classes)}")
    if task == "grade" and not order:
        grades = [_grade(label) for label in classes]
        if gap := sorted(set(range(grades[0], grades[-1] + 1)) - set(grades)):
            raise UsageError(f"no slide has grade {gap[0]}; give all grades in order with --classes if that is right")
    return classes


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            names = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            rows = [{name: (row.get(name) or "").strip() for name in names} for row in reader]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); a CSV of labels is needed") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path.name}: is not a CSV in UTF-8 ({error})") from error
    for name in ("slide_id", "label"):
        if name not in names:
            raise UsageError(f"{path.name}: no column {name!r}; it has: {', '.join(names) or 'none'}")
    if not rows:
        raise UsageError(f"{path.name}: holds no slides")
    return rows


def _folds(path: Path, rows: list[dict[str, str]]) -> np.ndarray | None:
    if not any(row.get("fold") for row in rows):
        return None
    for row in rows:
        if not row["fold"].isdecimal():
            raise UsageError(f"{path.name}: slide {row['slide_id']} has fold {row['fold']!r}; use 0, 1, 2, ... for all")
    return np.array([int(row["fold"]) for row in rows], dtype=np.int64)


def _lone_note(lone: list[str], total: int) -> str:
    which = "no slide has" if len(lone) == total else f"{len(lone)} of {total} slides have no"
    return f"{which} {'a ' if len(lone) == total else ''}patient_id: each of them is taken for a patient of its own"


def _grade(label: str) -> int:
    try:
        return int(label)
    except ValueError:
        raise UsageError(f"label {label!r} is not a grade (an integer); for other labels use --task class") from None


def _harmless_first(label: str) -> tuple[bool, str]:
    return not label.lower().replace("_", " ").startswith(HARMLESS), label
