"""A slide as a bag of features, bags packed into batches, and what a model makes of a batch."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from wsi.errors import CorruptStoreError, NoTissueError, RecipeMismatchError, UsageError
from wsi.store import FeatureStore

FILE_REMARKS = ("file_sha256", "imported")
"""Fields of the card of imported features that belong to one slide's file."""

CARD_REMARKS = ("licence", "source", *FILE_REMARKS)
"""Fields of an encoder card that do not change its features."""

FINITE_BLOCK = 1 << 17
"""Numbers in a block, 256 KiB of float16."""

Choice = Callable[[str, int], np.ndarray | None]
"""From a slide_id and its number of tiles to the tiles that are wanted, by position; None is all of them."""


@dataclass(frozen=True, slots=True)
class Bag:
    """The good tiles of one slide.

    Attributes
    ----------
    slide_id : str
    features : ndarray (N, D) float16 or float32
        As they are stored; a batch has them as float32.
    coords_um : ndarray (N, 2) float32
        Top-left (x, y) of each tile, um from the slide's origin; NaN where the slide's pixel size is unknown, which
        happens with imported features only.
    rows : ndarray (N,) int64
        Row of each tile in the slide's grid.

    Raises
    ------
    NoTissueError
        If there is no tile.
    CorruptStoreError
        If a feature is not a finite number.
    """

    slide_id: str
    features: np.ndarray
    coords_um: np.ndarray
    rows: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.features)
        if self.features.ndim != 2 or self.coords_um.shape != (n, 2) or self.rows.shape != (n,):
            raise UsageError(f"slide {self.slide_id}: a bag has features (N, D), coords_um (N, 2) and rows (N,)")
        if n == 0:
            raise NoTissueError(f"slide {self.slide_id}: its bag holds no tile, so there is nothing to grade")
        if not _all_finite(self.features):
            row = int(self.rows[~np.isfinite(self.features).all(axis=1)][0])
            raise CorruptStoreError(f"slide {self.slide_id}: the features of tile {row} are not finite numbers")

    def __len__(self) -> int:
        return len(self.features)

    def take(self, tiles: np.ndarray) -> "Bag":
        """The bag of some of its tiles, by position."""
        return Bag(self.slide_id, self.features[tiles], self.coords_um[tiles], self.rows[tiles])

    @classmethod
    def from_store(cls, store: FeatureStore, encoder: str) -> "Bag":
        """The tiles that have features by `encoder`; raises what the store raises when it is damaged."""
        return _Places.of(store, encoder).bag(store, encoder, None, keep=True)


@dataclass(frozen=True, slots=True)
class _Places:
    """A bag without its features."""

    slide_id: str
    coords_um: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, store: FeatureStore, encoder: str) -> "_Places":
        rows = store.good_rows(encoder)
        slide = store.slide
        mpp = (np.nan, np.nan) if slide.mpp is None else slide.require_mpp()
        coords_um = store.coords[rows] * np.asarray(mpp)
        return cls(slide.slide_id, coords_um.astype(np.float32), rows)

    def bag(self, store: FeatureStore, encoder: str, tiles: np.ndarray | None, *, keep: bool) -> Bag:
        """The bag of some tiles by position, or of all; only their features are read."""
        if tiles is None:
            return Bag(self.slide_id, store.features(encoder, self.rows, keep=keep), self.coords_um, self.rows)
        rows = self.rows[tiles]
        return Bag(self.slide_id, store.features(encoder, rows, keep=keep), self.coords_um[tiles], rows)


@dataclass(frozen=True, slots=True)
class StoredTiles:
    """Tiles as they are stored: the first layer of a model reads them block by block, without a scaled copy of all.

    Attributes
    ----------
    stored : Tensor (n, D) float16 or float32
    mean, scale : Tensor (D,) float32, optional
    columns : Tensor (n, E), optional
        Numbers of each tile that a model added to its batch (`mil.batch_view`).
    """

    stored: Tensor
    mean: Tensor | None = None
    scale: Tensor | None = None
    columns: Tensor | None = None

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def features(self) -> Tensor:
        """`(stored - mean) * scale`, (n, D) float32."""
        scaled = self.stored if self.stored.dtype == torch.float64 else self.stored.float()
        if self.mean is not None:
            scaled = scaled - self.mean
        return scaled if self.scale is None else scaled * self.scale


@dataclass(frozen=True, slots=True)
class BagBatch:
    """Bags end to end, without padding.

    Attributes
    ----------
    stored : Tensor (sum N, D) float16 or float32
        Features as they are stored.
    offsets : Tensor (B+1,) int64
        Bag b is `features[offsets[b]:offsets[b + 1]]`.
    coords_um : Tensor (sum N, 2) float32
        Top-left (x, y) of each tile, um from the slide's origin; NaN where it is not known.
    targets : Tensor (B,) int64, or (B, ...) float32
        What the loss asks for: the class of each bag, -1 where there is none; times and values are float32.
    mean, scale : Tensor (D,) float32, optional
        A model gets `(stored - mean) * scale`.
    """

    stored: Tensor
    offsets: Tensor
    coords_um: Tensor
    targets: Tensor
    mean: Tensor | None = None
    scale: Tensor | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def tiles(self) -> int:
        """Tiles of all bags."""
        return len(self.stored)

    @property
    def features(self) -> Tensor:
        """Scaled features (sum N, D) float32, made anew at each call."""
        return self.tiles_of(slice(None)).features

    def tiles_of(self, rows: slice | Tensor) -> "StoredTiles":
        """Some tiles, whose scaled features are made when they are asked for."""
        return StoredTiles(self.stored[rows], self.mean, self.scale)

    def to(self, device: torch.device | str) -> "BagBatch":
        """The same on another device."""
        parts = (self.stored, self.offsets, self.coords_um, self.targets, self.mean, self.scale)
        return BagBatch(*(None if part is None else part.to(device, non_blocking=True) for part in parts))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class MILOutput:
    """What a model says of a batch.

    Attributes
    ----------
    logits : Tensor (B, L)
    attention : Tensor (sum N,)
        How much each tile decides; not negative, sums to 1 within a bag.
    tile_logits : Tensor (sum N, L)
        What the model says of each tile alone, as a bag of one tile.
    """

    logits: Tensor
    attention: Tensor
    tile_logits: Tensor


class Bags(Protocol):
    """Bags by number, read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Bag: ...


@runtime_checkable
class DrawnBags(Bags, Protocol):
    """Bags of which some tiles can be had without reading the others."""

    def draw(self, number: int, choose: Choice, /) -> Bag: ...


def draw(bags: Bags, number: int, choose: Choice) -> Bag:
    """A bag of the tiles that `choose` wants of it."""
    if isinstance(bags, DrawnBags):
        return bags.draw(number, choose)
    bag = bags[number]
    tiles = choose(bag.slide_id, len(bag))
    return bag if tiles is None else bag.take(tiles)


class BagSubset:
    """Some of the bags, in the order of `rows`."""

    def __init__(self, bags: Bags, rows: Sequence[int] | np.ndarray):
        self.whole = bags
        self.rows = [int(row) for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Bag:
        return self.whole[self.rows[number]]

    def draw(self, number: int, choose: Choice) -> Bag:
        """Some tiles of a bag."""
        return draw(self.whole, self.rows[number], choose)


class StoreBags:
    """The bags of feature stores, kept in memory up to a fixed budget and read again beyond it.

    A bag beyond it is for the batch at hand: its features may be those of the page cache (`FeatureStore.features`).

    Parameters
    ----------
    cache_bytes : int
        Budget for features. Places are kept of every slide (16 bytes a tile).

    Raises
    ------
    RecipeMismatchError
        If the features of two slides were made differently; names the slide and the field.
    """

    def __init__(self, stores: Sequence[FeatureStore], encoder: str, cache_bytes: int = 4 << 30):
        if not stores:
            raise UsageError("there is no slide to take features from")
        self._stores = list(stores)
        self._encoder = encoder
        self._free_bytes = cache_bytes
        self._kept: dict[int, Bag] = {}
        self._places: dict[int, _Places] = {}
        card = stores[0].card(encoder)
        self.card = {name: value for name, value in card.items() if name not in FILE_REMARKS}
        self.recipe = stores[0].recipe
        for store in stores[1:]:
            check_same_making(store, encoder, self.card, self.recipe, f"slide {stores[0].slide.slide_id}")

    def __len__(self) -> int:
        return len(self._stores)

    def __getitem__(self, number: int) -> Bag:
        return self.draw(number, lambda slide_id, tiles: None)

    def draw(self, number: int, choose: Choice) -> Bag:
        """Some tiles of a bag; of a bag that does not fit into memory only those are read."""
        store, places = self._stores[number], self._placed(number)
        tiles = choose(places.slide_id, len(places.rows))
        if number not in self._kept:
            size = len(places.rows) * int(self.card["dim"]) * np.dtype(self.card["dtype"]).itemsize
            if size > self._free_bytes:
                return places.bag(store, self._encoder, tiles, keep=False)
            self._kept[number] = places.bag(store, self._encoder, None, keep=True)
            self._free_bytes -= size
        bag = self._kept[number]
        return bag if tiles is None else bag.take(tiles)

    def _placed(self, number: int) -> _Places:
        if number not in self._places:
            self._places[number] = _Places.of(self._stores[number], self._encoder)
        return self._places[number]


def check_same_making(
    store: FeatureStore, encoder: str, card: dict[str, Any], recipe: dict[str, Any], whose: str
) -> None:
    """Raise `RecipeMismatchError`, naming slide and field, unless a store's features were made as stated.

    Parameters
    ----------
    card, recipe : dict
        What is expected, as `FeatureStore.card` and `FeatureStore.recipe` give it.
    whose : str
        Whom the expectation belongs to, for the message ("the model", "slide A").
    """
    for what, found, expected in (("encoder", store.card(encoder), card), ("recipe", store.recipe, recipe)):
        ignored = CARD_REMARKS if what == "encoder" else ()
        for name, here, there in _differences(found, expected):
            if name not in ignored:
                raise RecipeMismatchError(
                    f"slide {store.slide.slide_id}: {what} {name} is {here}, but {there} for {whose}; "
                    "extract all slides in one way"
                )


def pack(bags: Sequence[Bag], targets: Sequence[Any] | np.ndarray | None = None) -> BagBatch:
    """Join bags into one batch; its features are float16 where those of all bags are.

    The batch of a single bag is that bag's own memory: nobody writes into `stored`.

    Parameters
    ----------
    targets : (B,) int or (B, ...) float, optional
        -1 for every bag if left out.
    """
    if not bags:
        raise UsageError("a batch holds at least one bag")
    answers = np.full(len(bags), -1) if targets is None else np.asarray(targets)
    offsets = np.concatenate([[0], np.cumsum([len(bag) for bag in bags])])
    joined = bags[0].features if len(bags) == 1 else np.concatenate([bag.features for bag in bags])
    return BagBatch(
        _shared(joined),
        torch.from_numpy(offsets),
        torch.from_numpy(np.concatenate([bag.coords_um for bag in bags])),
        torch.from_numpy(answers.astype(np.float32 if answers.dtype.kind == "f" else np.int64)),
    )


def _all_finite(features: np.ndarray) -> bool:
    """`np.isfinite(features).all()`; float16 by its bits (an exponent of ones), which is four times as fast.

    Block by block, so that the second look at a block finds it in the cache.
    """
    if features.dtype != np.float16:
        return bool(np.isfinite(features).all())
    step = max(1, FINITE_BLOCK // max(1, features.shape[1]))
    blocks = (features[start : start + step] for start in range(0, len(features), step))
    return all(
        block.view(np.int16).max(initial=0) < 0x7C00 and block.view(np.uint16).max(initial=0) < 0xFC00
        for block in blocks
    )


def _differences(found: dict[str, Any], expected: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Fields that differ: dotted name, value found, value expected."""
    for name in sorted({*found, *expected}):
        here, there = found.get(name), expected.get(name)
        if isinstance(here, dict) and isinstance(there, dict):
            yield from _differences(here, there, f"{prefix}{name}.")
        elif _plain(here) != _plain(there):
            yield f"{prefix}{name}", here, there


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _shared(values: np.ndarray) -> Tensor:
    """A tensor on the same memory, also where that may only be read (a mapped file)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)
        return torch.from_numpy(np.ascontiguousarray(values))
