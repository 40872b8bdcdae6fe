"""What is wrong with a store, and what is only unfinished: said, never raised."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsi import store as stores
from wsi.errors import UnreachableStoreError, UsageError, WsiError
from wsi.store import FeatureStore
from wsi.store_url import StorePath, StoreUrl
from wsi.threads import usable_cores

FAR_STORES = 4
"""Stores of a bucket looked at at once, each by several requests. So many times eight chunks are in memory."""

Kind = Literal["damaged", "unfinished", "empty"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is to be said of a store, or of a file beside the stores.

    Attributes
    ----------
    store : str
        Name of the store, or of what lies beside the stores.
    kind : {"damaged", "unfinished", "empty"}
        Only the first is a fault. "empty" is a store without complete features.
    where : str
        The file or folder, relative to the store; empty where it is all of it.
    what : str
        In words, after `where`.
    """

    store: str
    kind: Kind
    where: str
    what: str

    def line(self) -> str:
        """The finding for people."""
        return f"{self.store}: {self.where} {self.what}" if self.where else f"{self.store}: {self.what}"


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """What was found of one store, and how many complete sets of features it has."""

    findings: tuple[Finding, ...]
    complete: int

    @property
    def damaged(self) -> bool:
        """Whether something is wrong, and not only unfinished."""
        return any(one.kind == "damaged" for one in self.findings)


def store_paths(root: StorePath) -> list[StorePath]:
    """The stores of a folder, sorted, or the one store that was named.

    Raises
    ------
    UsageError
        If there is none.
    """
    if not root.exists():
        raise UsageError(f"{root}: no such folder")
    if not (paths := stores.store_paths(root)):
        raise UsageError(f"{root}: no feature store (*.zarr) in this folder")
    return paths


def stores_folder(root: StorePath) -> StorePath:
    """Where the stores of a folder lie: in that of a run in `features/`."""
    inside = root / "features"
    return inside if isinstance(inside, Path) and any(inside.glob("*.zarr")) else root


def stores_at_once(root: StorePath, asked: int) -> int:
    """Threads for so many stores as are asked for; 0 is one a core. Those of a bucket wait more than they compute."""
    return asked or (max(FAR_STORES, usable_cores()) if isinstance(root, StoreUrl) else 0)


def check_store(path: StorePath) -> StoreCheck:
    """Compare every file of a store with its manifests.

    Raises
    ------
    UnreachableStoreError
        If the server of a bucket does not answer: that says nothing of the store.
    """
    found: list[Finding] = []
    complete = 0
    try:
        store = FeatureStore(path)
        found += [Finding(path.name, "damaged", one.where, one.what) for one in store.verify()]
        complete = len(store.encoders)
        if not complete:
            found.append(Finding(path.name, "empty", "", "has no complete features"))
    except UnreachableStoreError:
        raise
    except WsiError as error:
        said = str(error).removeprefix(f"{path.name}: ")
        found.append(Finding(path.name, "damaged", "", said))
    except OSError as error:
        found.append(Finding(path.name, "damaged", "", f"cannot be read ({error.strerror})"))
    except Exception as error:  # whatever it is, it ends the check of this store only
        found.append(Finding(path.name, "damaged", "", f"cannot be understood ({type(error).__name__}: {error})"))
    stages = stores.unfinished(path / "features")
    return StoreCheck((*found, *(Finding(path.name, "unfinished", one, "is unfinished") for one in stages)), complete)


def unfinished_beside(root: StorePath) -> Iterator[Finding]:
    """Grids that are being made, and exchanges that were cut short, which lie beside the stores."""
    for name in stores.unfinished(root):
        if name.endswith((".zarr.partial", ".zarr.old")):
            yield Finding(name, "unfinished", "", "is unfinished")
