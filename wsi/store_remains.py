"""What belongs to a store and what does not: files of an interrupted writer may go, those of anybody else stay."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from wsi.files import files_below
from wsi.store_url import StorePath, StoreUrl

_WRITER = r"(\.[^.]+)?\.\d+\.tmp"
"""What `wsi.files.write_atomic` puts behind a name: host and process. Older versions named the process alone."""

_ZARR = re.compile(r"(0|zarr)\.[0-9a-f]{32}\.partial")
"""What Zarr leaves when it is killed."""

_BESIDE = re.compile(rf"\.(run\.json|index\.parquet|\.index-stamps\.json){_WRITER}")
"""What is left beside the stores of a file that was being written."""

_ARRAYS = r"(coords|tissue_fraction|tissue)"
_GRID = re.compile(
    r"zarr\.json|manifest\.json|\.source\.json|features/zarr\.json|features/\.[^/]+\.checked\.json|"
    rf"{_ARRAYS}/(zarr\.json|c/0(/0)?)"
)
_FEATURES = re.compile(r"zarr\.json|manifest\.json|(values|bad)/zarr\.json|values/c/\d+/0|bad/c/0|\.journal/[^/]+")


def is_temporary(name: str) -> bool:
    """Whether a file of a store, by its way from it or from features, is what a killed writer left of a file."""
    path = PurePosixPath(name)
    if path.name.startswith(".") and (written := re.fullmatch(r"\.(.+)\.\d+\.tmp", path.name)):
        whole = (written[1], written[1].rpartition(".")[0])
        return any(one and _is_ours(path.with_name(one).as_posix()) for one in whole)
    inside = re.fullmatch(rf"\.|{_ARRAYS}(/c(/0)?)?|features|values(/c/\d+)?|bad(/c)?", path.parent.as_posix())
    return bool(inside and _ZARR.fullmatch(path.name))


def _is_ours(name: str) -> bool:
    return bool(_GRID.fullmatch(name) or _FEATURES.fullmatch(name))


def temporary_files(folder: StorePath) -> Iterator[StorePath]:
    """What killed writers left in a published folder, sorted; of a store what lies in its features is left out."""
    return (folder / name for name in _files(folder) if not _is_of_features(name) and is_temporary(name))


def temporary_beside(root: Path) -> list[Path]:
    """What killed writers left beside the stores of a folder, sorted. No lock tells whether they are at work still."""
    return sorted(one for one in root.iterdir() if _BESIDE.fullmatch(one.name))


def foreign_in_grid(folder: StorePath) -> list[str]:
    """Files in the folder of a grid that no writer of stores makes, by their way from it; not those of features."""
    return [
        name for name in _files(folder) if not (_GRID.fullmatch(name) or is_temporary(name) or _is_of_features(name))
    ]


def foreign_in_features(folder: StorePath) -> list[str]:
    """Files in a folder of features, finished or not, that no writer of stores makes, by their way from it."""
    return [name for name in _files(folder) if not (_FEATURES.fullmatch(name) or is_temporary(name))]


def _is_of_features(name: str) -> bool:
    return name.startswith("features/") and name.count("/") > 1


def _files(folder: StorePath) -> list[str]:
    if isinstance(folder, StoreUrl):
        return files_below(folder)
    found = sorted(one.relative_to(folder) for one in folder.rglob("*") if one.is_symlink() or not one.is_dir())
    return [one.as_posix() for one in found]
