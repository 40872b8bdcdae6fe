"""How slides are extracted: everything that decides it, in one value."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from workflows.options import MAX_BAD
from workflows.policy import Policy
from wsi.overview import OVERVIEW_MPP
from wsi.store import CHUNK_TILES
from wsi.store_url import StorePath
from wsi.tiles import TileSpec
from wsi.tissue import TISSUE_METHOD


@dataclass(frozen=True, slots=True)
class ExtractConfig:
    """Everything that decides what is extracted, and how.

    Attributes
    ----------
    store : Path or StoreUrl
        Folder of the stores.
    encoder : str
        Name of the encoder; `weights` is its local file where it needs one.
    tiles : TileSpec
    device : str
        "auto", "cpu", "cuda", "cuda:N".
    reader : str or None
        Only this reader, instead of the first that knows the file.
    max_bad : float
        Largest share of unreadable tiles that a slide may have, 0 to 1.
    chunk_tiles : int
        Tiles in a task.
    workers, scheduler, cluster, cluster_options
        Where tasks run, as `workflows.cluster.connect` has it; nothing else depends on it.
    policy : Policy
        Limits, retries, and what is left free.
    """

    store: StorePath
    encoder: str = "lite0"
    weights: Path | None = None
    tiles: TileSpec = field(default_factory=TileSpec)
    device: str = "auto"
    reader: str | None = None
    max_bad: float = MAX_BAD
    chunk_tiles: int = CHUNK_TILES
    workers: int = 0
    scheduler: str | None = None
    cluster: str | None = None
    cluster_options: Path | None = None
    policy: Policy = field(default_factory=Policy)

    @property
    def place(self) -> tuple[int, str | None, str | None, Path | None]:
        """The arguments of `workflows.cluster.connect`."""
        return self.workers, self.scheduler, self.cluster, self.cluster_options

    def absolute(self) -> "ExtractConfig":
        """The same with absolute paths, as workers need it: their working directory is another.

        A store in a bucket has the name of this run from here on, by which its tasks know that its leases are held.
        """
        weights = None if self.weights is None else self.weights.absolute()
        store = self.store.absolute() if isinstance(self.store, Path) else self.store.of_run(uuid4().hex)
        return replace(self, store=store, weights=weights)

    @property
    def recipe(self) -> dict[str, Any]:
        """What the store keeps of it."""
        return {"tiles": self.tiles.to_dict(), "tissue": {"method": TISSUE_METHOD, "mpp": OVERVIEW_MPP}}
