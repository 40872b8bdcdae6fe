"""What belongs to a store and what does not: files of an interrupted writer may go, those of anybody else stay."""

import re
from collections.abc import Iterator
from pathlib import Path

_WRITTEN = re.compile(r"\.(manifest\.json|\.source\.json)\.\d+\.tmp")
"""What `wsi.files.write_atomic` leaves when it is killed; in a journal also of the records."""

_ZARR = re.compile(r"(0|zarr)\.[0-9a-f]{32}\.partial")
"""What Zarr leaves when it is killed."""

_BESIDE = re.compile(r"\.(run\.json|index\.parquet|\.index-stamps\.json)\.\d+\.tmp")
"""What is left beside the stores of a file that was being written."""

_ARRAYS = r"(coords|tissue_fraction|tissue)"
_GRID = re.compile(rf"zarr\.json|manifest\.json|\.source\.json|features/zarr\.json|{_ARRAYS}/(zarr\.json|c/0(/0)?)")
_FEATURES = re.compile(r"zarr\.json|manifest\.json|(values|bad)/zarr\.json|values/c/\d+/0|bad/c/0|\.journal/[^/]+")


def is_temporary(relative: Path) -> bool:
    """Whether a file of a store, by its path in it or in features, is what a killed writer left of a file."""
    folder = relative.parent.as_posix()
    if _WRITTEN.fullmatch(relative.name):
        return folder == "."
    inside = re.fullmatch(rf"\.|{_ARRAYS}(/c(/0)?)?|features|values(/c/\d+)?|bad(/c)?", folder)
    return bool(inside and _ZARR.fullmatch(relative.name))


def temporary_files(folder: Path) -> Iterator[Path]:
    """What killed writers left in a published folder, sorted; of a store what lies in its features is left out."""
    for relative in _files(folder):
        in_features = relative.parts[0] == "features" and len(relative.parts) > 2
        if not in_features and is_temporary(relative):
            yield folder / relative


def temporary_beside(root: Path) -> list[Path]:
    """What killed writers left beside the stores of a folder, sorted. No lock tells whether they are at work still."""
    return sorted(one for one in root.iterdir() if _BESIDE.fullmatch(one.name))


def foreign_in_grid(folder: Path) -> list[Path]:
    """Files in the folder of a grid that no writer of stores makes, by their path in it; those of features left out."""
    return [
        one
        for one in _files(folder)
        if not _GRID.fullmatch(one.as_posix())
        and not is_temporary(one)
        and not (one.parts[0] == "features" and len(one.parts) > 2)
    ]


def foreign_in_features(folder: Path) -> list[Path]:
    """Files in a folder of features, finished or not, that no writer of stores makes, by their path in it."""
    return [one for one in _files(folder) if not _FEATURES.fullmatch(one.as_posix()) and not is_temporary(one)]


def _files(folder: Path) -> list[Path]:
    return sorted(one.relative_to(folder) for one in folder.rglob("*") if one.is_symlink() or not one.is_dir())
