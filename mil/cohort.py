"""Who the slides belong to: labels, patients, sites, and folds that split no patient."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np

from wsi.errors import PatientLeakError, UsageError

Task = Literal["grade", "class"]
FoldBy = Literal["patient", "site"]
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


def assign_folds(cohort: Cohort, folds: int, seed: int = 0, by: FoldBy = "patient") -> Cohort:
    """Spread patients (or whole sites) over folds so that each has its share of every label.

    Greedy: the groups in seeded order, the largest first, each to the fold where it leaves the label counts most
    even. The order of rows does not enter.

    Parameters
    ----------
    by : "patient" or "site"
        With "site" no site is in two folds either; patients seen at several sites join those sites.

    Raises
    ------
    UsageError
        If there are fewer groups than folds, or fewer than two folds.
    """
    groups = _groups(cohort, by)
    names = sorted(set(groups))
    if not 2 <= folds <= len(names):
        raise UsageError(f"{folds} folds cannot be made of {len(names)} {by}s; choose 2 to {len(names)} with --folds")
    classes = sorted(set(cohort.label))
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, ([names.index(g) for g in groups], [classes.index(label) for label in cohort.label]), 1)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(-counts[shuffled].max(axis=1), kind="stable")]
    share = counts.sum(axis=0)
    filled = np.zeros((folds, len(classes)))
    fold_of = {}
    for group in order:
        after = filled[:, None, :] + np.eye(folds)[:, :, None] * counts[group]
        uneven = ((after.transpose(1, 0, 2) / share) ** 2).sum(axis=(1, 2))
        best = np.lexsort((filled.sum(axis=1), np.round(uneven, 9)))[0]
        filled[best] += counts[group]
        fold_of[names[group]] = int(best)
    notes = [
        f"label {label} has {int(n)} {by}s with it, fewer than the {folds} folds: some folds cannot test it"
        for label, n in zip(classes, (counts > 0).sum(axis=0), strict=True)
        if n < folds
    ]
    fold = np.array([fold_of[group] for group in groups], dtype=np.int64)
    return replace(cohort, fold=fold, notes=(*cohort.notes, *notes))


def check_no_leak(cohort: Cohort) -> None:
    """Raise `PatientLeakError`, naming the patient, if slides of one patient are in two folds."""
    if cohort.fold is None:
        raise UsageError("the cohort has no folds")
    fold_of: dict[str, int] = {}
    for patient, fold in zip(cohort.patient_id, cohort.fold, strict=True):
        if fold_of.setdefault(patient, int(fold)) != fold:
            raise PatientLeakError(
                f"patient {patient} is in fold {fold_of[patient]} and in fold {fold}; all slides of a patient "
                "belong in one fold: correct the fold column, or leave it out"
            )


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


def _groups(cohort: Cohort, by: FoldBy) -> list[str]:
    """Name of the group that must stay together, for each slide."""
    if by == "patient":
        return list(cohort.patient_id)
    if not all(cohort.site):
        raise UsageError(f"slide {cohort.slide_id[cohort.site.index('')]} has no site; folds by site need one for each")
    leader = {site: site for site in cohort.site}

    def lead(site: str) -> str:
        while leader[site] != site:
            site = leader[site]
        return site

    first: dict[str, str] = {}
    for patient, site in zip(cohort.patient_id, cohort.site, strict=True):
        low, high = sorted((lead(first.setdefault(patient, site)), lead(site)))
        leader[high] = low
    return [lead(site) for site in cohort.site]
