"""What is wrong with a store, and what is only unfinished: said, never raised."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsi.errors import UsageError, WsiError
from wsi.store import FeatureStore

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


def store_paths(root: Path) -> list[Path]:
    """The stores of a folder, sorted, or the one store that was named.

    Raises
    ------
    UsageError
        If there is none.
    """
    if not root.exists():
        raise UsageError(f"{root}: no such folder")
    paths = [root] if root.suffix == ".zarr" else sorted(root.glob("[!.]*.zarr")) if root.is_dir() else []
    if not paths:
        raise UsageError(f"{root}: no feature store (*.zarr) in this folder")
    return paths


def check_store(path: Path) -> StoreCheck:
    """Compare every file of a store with its manifests."""
    found: list[Finding] = []
    complete = 0
    try:
        store = FeatureStore(path)
        found += [Finding(path.name, "damaged", one.where, one.what) for one in store.verify()]
        complete = len(store.encoders)
        if not complete:
            found.append(Finding(path.name, "empty", "", "has no complete features"))
    except WsiError as error:
        said = str(error).removeprefix(f"{path.name}: ")
        found.append(Finding(path.name, "damaged", "", said))
    except OSError as error:
        found.append(Finding(path.name, "damaged", "", f"cannot be read ({error.strerror})"))
    except Exception as error:  # whatever it is, it ends the check of this store only
        found.append(Finding(path.name, "damaged", "", f"cannot be understood ({type(error).__name__}: {error})"))
    stages = sorted(path.glob("features/.*.partial"))
    return StoreCheck(
        (*found, *(Finding(path.name, "unfinished", one.name, "is unfinished") for one in stages)), complete
    )


def unfinished_beside(root: Path) -> Iterator[Finding]:
    """Grids that are being made, and exchanges that were cut short, which lie beside the stores."""
    for pattern in (".*.zarr.partial", ".*.zarr.old"):
        for part in sorted(root.glob(pattern)):
            yield Finding(part.name, "unfinished", "", "is unfinished")
