"""Which tiles lie next to each other on the slide: the k nearest of the same bag, for all bags of a batch at once.

Tiles are hashed into square cells. A tile's candidates are those of its own cell and the eight around it; where the
k-th of them is further than the nearest cell that was not looked at, the tile is asked again with larger cells. So the
result is exact for gaps, overlaps and scattered tiles, and the time is that of a few sorts for tiles on a grid.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mil.segments import segment_ids
from wsi.errors import UsageError

PAIRS = 1 << 19
"""Candidates that are held at a time."""

FINEST = 1 << 22
"""Most cells along a side; float32 tells no more apart."""

GROWTH = math.sqrt(2)
"""Cells of the next round, in cells of this one."""


def neighbours(coords_um: Tensor, offsets: Tensor, k: int, marks: Tensor | None = None) -> Tensor:
    """The k nearest tiles of each tile in its own bag, the tile itself left out.

    Of tiles at one distance those with the smaller y count as nearer, then those with the smaller x, then those with
    the smaller mark. So the order of tiles does not enter, where `marks` tell tiles at one place apart.

    Parameters
    ----------
    coords_um : Tensor (sum N, 2)
        (x, y) of each tile, um.
    offsets : Tensor (B+1,) int64
        Of the bags.
    marks : Tensor (sum N,), optional
        A number for each tile, for tiles at one place.

    Returns
    -------
    Tensor (sum N, k) int64
        Positions along the tile axis, the nearest first; -1 behind the last one in bags of k tiles and fewer.

    Raises
    ------
    UsageError
        If a tile's place is not known.
    """
    _check_places(coords_um, offsets)
    ids, places = segment_ids(offsets), coords_um.double()
    order = torch.arange(len(ids), device=ids.device)
    for key in (marks, places[:, 0], places[:, 1], ids):
        if key is not None:
            order = order[torch.argsort(key[order], stable=True)]
    new = torch.ones_like(order, dtype=torch.bool)
    new[1:] = (places[order].diff(dim=0) != 0).any(dim=1) | (ids[order].diff() != 0)
    site = new.cumsum(0) - 1  # (sum N,), of the tiles in `order`
    heads = order[new]  # (S,)
    nearest = _nearest_sites(places[heads], ids[heads], k + 1)  # (S, k + 1), each site itself first
    listed = _tiles_of(nearest, torch.bincount(site))[site]  # (sum N, k + 1), positions in `order`
    itself = listed == torch.arange(len(order), device=order.device)[:, None]
    found = listed.gather(1, torch.argsort(itself.byte(), dim=1, stable=True))[:, :k]  # (sum N, k)
    result = torch.empty_like(found)
    result[order] = torch.where(found < 0, found, order[found.clamp(min=0)])
    return result


def _check_places(coords_um: Tensor, offsets: Tensor) -> None:
    known = torch.isfinite(coords_um).all(dim=1)
    if not known.all():
        tile = int(torch.nonzero(~known)[0])
        bag = int(torch.searchsorted(offsets, tile, right=True)) - 1
        raise UsageError(
            f"the place of tile {tile - int(offsets[bag])} of bag {bag} in the batch is not known, as the pixel size "
            "of its slide is not; neighbours need it: import the features again with --slide-mpp, or take another model"
        )


def _nearest_sites(places: Tensor, ids: Tensor, k: int) -> Tensor:
    """The k nearest sites of each by (distance, number), itself first: (S, 2) to (S, k), -1 where there are fewer."""
    lengths = torch.bincount(ids)
    low = places.new_full((len(lengths), 2), torch.inf)
    low = low.scatter_reduce(0, ids[:, None].expand(-1, 2), places, "amin")
    places = places - low[ids]  # from the corner of the bag
    result = ids.new_empty((len(ids), k))
    cells = _Cells.fitting(places, ids, 0.7 * k)
    asked = torch.arange(len(ids), device=ids.device)
    while len(asked):
        begin, counts = cells.around(asked)  # (n, 3)
        total = counts.sum(dim=1)
        by_total = torch.argsort(total, stable=True)
        undecided = []
        for part in _parts(total[by_total]):
            chosen = by_total[part]
            here = asked[chosen]
            near, far = _ranked(places, here, cells.order, begin[chosen], counts[chosen], k)
            done = (total[chosen] == lengths[ids[here]]) | (far < cells.reach(here).square())
            result[here[done]] = near[done]
            undecided.append(here[~done])
        asked = torch.cat(undecided)
        cells = _Cells(places, ids, cells.side * GROWTH)
    return result


def _parts(widths: Tensor) -> Iterator[slice]:
    """Stretches of queries, their widths rising, whose candidates fit into memory when padded to the widest."""
    start = 0
    while start < len(widths):
        stop = min(len(widths), start + max(1, PAIRS // int(widths[start])))
        while stop - start > 1 and (stop - start) * int(widths[stop - 1]) > 2 * PAIRS:
            stop = (start + stop) // 2
        yield slice(start, stop)
        start = stop


def _ranked(
    places: Tensor, asked: Tensor, order: Tensor, begin: Tensor, counts: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The k nearest candidates, (n, k), and the square of the distance of the k-th, (n,).

    Candidates of a query are three stretches of `order`: begin and counts (n, 3).
    """
    ends = counts.cumsum(dim=1)  # (n, 3)
    slot = (
        torch.arange(max(k, int(ends[:, 2].max())), device=asked.device).expand(len(asked), -1).contiguous()
    )  # (n, c)
    stretch = torch.searchsorted(ends, slot, right=True)  # (n, c); 3: no candidate
    held = stretch.clamp(max=2)
    position = (begin - ends + counts).gather(1, held) + slot  # (n, c)
    number = torch.where(stretch < 3, order[position.clamp(max=len(order) - 1)], len(order))
    number = number.sort(dim=1).values  # by number first, so that it decides where distances are the same
    apart = places[number.clamp(max=len(order) - 1)] - places[asked, None]  # (n, c, 2)
    distance = torch.where(number < len(order), apart.square().sum(dim=2), torch.inf)  # (n, c), squared
    distance, rank = distance.sort(dim=1, stable=True)
    near = number.gather(1, rank[:, :k])  # (n, k)
    return torch.where(near < len(order), near, -1), distance[:, k - 1]


def _tiles_of(nearest: Tensor, counts: Tensor) -> Tensor:
    """Sites to as many tiles, the tiles of a site one after the other: (S, k) to (S, k), -1 where there are fewer.

    `counts` (S,) are the tiles at each site; tiles are numbered by site.
    """
    held = torch.where(nearest < 0, 0, counts[nearest.clamp(min=0)])  # (S, k)
    ends = held.cumsum(dim=1)
    slot = torch.arange(nearest.shape[1], device=nearest.device).expand_as(nearest).contiguous()
    which = torch.searchsorted(ends, slot, right=True)  # (S, k)
    there = which.clamp(max=nearest.shape[1] - 1)
    begin = (counts.cumsum(0) - counts)[nearest.gather(1, there).clamp(min=0)]
    tile = begin + slot - (ends - held).gather(1, there)
    return torch.where(which < nearest.shape[1], tile, -1)


class _Cells:
    """Sites (S, 2) hashed into squares of one side, bag by bag."""

    def __init__(self, places: Tensor, ids: Tensor, side: float):
        self.side = side
        cell = torch.floor(places / side).long() + 1  # (S, 2); a free cell before the first
        self._within = places - (cell - 1) * side
        self._width, height = (int(most) + 2 for most in cell.amax(dim=0))  # and one behind the last
        self._key = (ids * height + cell[:, 1]) * self._width + cell[:, 0]
        self._sorted, self.order = torch.sort(self._key, stable=True)

    @classmethod
    def fitting(cls, places: Tensor, ids: Tensor, company: float) -> "_Cells":
        """Cells in which a site meets at most `company` others on average, as large as they may be."""
        extent = float(places.max())
        side = 4 * extent / math.sqrt(len(places)) if extent > 0 else 1.0
        cells = cls(places, ids, side)
        while cells._company() > company and extent / cells.side < FINEST:
            cells = cls(places, ids, cells.side / GROWTH)
        return cells

    def _company(self) -> float:
        counts = torch.unique_consecutive(self._sorted, return_counts=True)[1]
        return float(counts.square().sum()) / len(self._sorted)

    def around(self, sites: Tensor) -> tuple[Tensor, Tensor]:
        """The nine cells around each site as three stretches of `order`: their begins and lengths, (n, 3)."""
        middle = self._key[sites, None] + self._width * torch.arange(-1, 2, device=sites.device)  # (n, 3)
        begin = torch.searchsorted(self._sorted, middle - 1)
        return begin, torch.searchsorted(self._sorted, middle + 1, right=True) - begin

    def reach(self, sites: Tensor) -> Tensor:
        """How far around each site everything is in the nine cells, (n,); a little less, for rounding."""
        within = self._within[sites]
        return (self.side + torch.minimum(within, self.side - within).amin(dim=1)) * (1 - 1e-9)
