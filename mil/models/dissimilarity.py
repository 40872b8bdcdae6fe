"""How far a bag is from each training bag, and a kernel machine on that: for cohorts of tens to hundreds of slides.

Cheplygina, Tax, Loog: Multiple instance learning with bag dissimilarities, Pattern Recognition 2015, section 3.
https://arxiv.org/abs/1309.5643

    d(B, P) = 1/|B| sum_(x in B) min_(p in P) |x - p|
    z(B) = ( d(B, P_1) ... d(B, P_n), d(P_1, B) ... d(P_n, B) )
    logit_l = s ( sum_j a_jl exp(-|z(B) - z(P_j)|^2 / w) + c_l ) + b_l

Nothing of this is descended to. a and c are a ridge regression on the marks of the training bags (`mil.kernel_ridge`);
width, ridge and the scale s are those that do best on training bags left out, in closed form; training moves the b_l
alone, which begin at 0, so that one epoch is enough. Features are brought to unit variance and cut off at a few
standard deviations, so that no single feature of a strange tile decides a distance.
"""

import zlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from mil.bag import BagBatch, MILOutput, StoredTiles
from mil.kernel_ridge import fit_ridge, squared_distances
from mil.model import Criterion, MILModel
from mil.models.embedding import blocks
from mil.models.prototype import sides
from mil.segments import segment_ids, segment_sum
from wsi.errors import UsageError

SCALES = torch.arange(-6.0, 3.5, 0.5).exp2()
"""Tried for s, the logit of a bag that the regression is sure of."""


class BagDissimilarity(MILModel):
    """A bag is like the training bags whose tiles are like its own.

    The attention of a tile is how much of the distances is measured at it: each tile counts alike in d(B, P), and in
    d(P, B) those count that lie nearest to tiles of the training bags. What a tile speaks for is in `tile_logits`.

    Parameters
    ----------
    dim : int
        Length D of a feature.
    n_outputs : int
        L, the numbers that the loss asks for.
    bags : int
        Most training bags P that distances are taken to; of more a seeded choice. The regression is on all.
    tiles : int
        Most tiles T that are kept of each of them, a seeded choice. The model holds bags x tiles features.
    clip : float
        Where features are cut off, standard deviations from the mean.
    seed : int
        Of both choices, which hang on the features alone and not on the order of bags or tiles.
    """

    kept: Tensor
    weights: Tensor
    centres: Tensor
    coefficients: Tensor
    intercepts: Tensor
    spread: Tensor
    width: Tensor
    scale: Tensor

    def __init__(self, dim: int, n_outputs: int, bags: int = 256, tiles: int = 64, clip: float = 3.0, seed: int = 0):
        super().__init__()
        if bags < 1 or tiles < 1 or not clip > 0:
            raise UsageError(
                f"dissimilarity has bags {bags}, tiles {tiles}, clip {clip}; expected 1 or more and clip > 0"
            )
        self.bags, self.tiles, self.clip, self.seed = bags, tiles, clip, seed
        self.register_buffer("kept", torch.zeros(bags, tiles, dim))  # a short bag's first tile stands in for the rest
        self.register_buffer("weights", torch.zeros(bags, tiles))  # 1 / tiles of the bag, 0 for stand-ins
        self.register_buffer("centres", torch.zeros(bags, 2 * bags))
        self.register_buffer("coefficients", torch.zeros(bags, n_outputs))
        self.register_buffer("intercepts", torch.zeros(n_outputs))
        self.register_buffer("spread", torch.ones(dim))
        self.register_buffer("width", torch.ones(()))
        self.register_buffer("scale", torch.ones(()))
        self.bias = nn.Parameter(torch.zeros(n_outputs))

    def prepare(self, batches: Iterable[BagBatch], criterion: Criterion) -> None:
        """Keep tiles of the training bags, and regress the marks of all on their distances to these."""
        keys = self._keep(batches)
        found = [(self._vectors(batch)[0], batch.targets, _order(batch, self.seed)[1]) for batch in batches]
        z = torch.cat([one for one, _, _ in found])  # (n, 2 P)
        targets = torch.cat([one for _, one, _ in found])
        place = {key: row for row, (_, _, key) in enumerate(found)}
        chosen = [place[key] for key in keys]
        high, low = sides(criterion.marks(targets))  # (n, L)
        known = high.any(dim=0) & low.any(dim=0)  # (L,)
        ridge = fit_ridge(z, z[chosen], (high.double() - low.double()) * known)
        self.centres[: len(chosen), : z.shape[1]] = z[chosen]
        self.coefficients[: len(chosen)] = ridge.coefficients.float()
        self.intercepts.copy_(ridge.intercepts)
        self.width.fill_(ridge.width)
        self.bias.copy_(torch.where(known, 0.0, torch.log((high.sum(dim=0) + 0.5) / (low.sum(dim=0) + 0.5))))
        losses = [criterion(s * ridge.left_out.float() + self.bias, targets) for s in SCALES]
        self.scale.copy_(SCALES[int(torch.stack(losses).argmin())])

    def _keep(self, batches: Iterable[BagBatch]) -> list[int]:
        """Fill `kept`, `weights` and `spread`; returns the keys of the bags that are kept."""
        held: dict[int, Tensor] = {}
        moments, count = torch.zeros(2, self.kept.shape[2], dtype=torch.float64), 0
        for batch in batches:
            features = batch.features.double()
            moments += torch.stack([features.mean(dim=0), features.square().mean(dim=0)])
            count += 1
            order, key = _order(batch, self.seed)
            held[key] = batch.tiles_of(order[: self.tiles]).features
            if len(held) > self.bags:
                del held[max(held)]
        first, second = moments / max(1, count)
        variance = second - first.square()
        self.spread.copy_(torch.where(variance > 1e-9 * (1 + first.square()), variance.clamp(min=1e-30).rsqrt(), 0.0))
        keys = sorted(held)
        for row, key in enumerate(keys):
            tiles = self._clipped(held[key])
            self.kept[row] = tiles[:1]
            self.kept[row, : len(tiles)] = tiles
            self.weights[row] = 0
            self.weights[row, : len(tiles)] = 1 / len(tiles)
        return keys

    def forward(self, batch: BagBatch) -> MILOutput:
        z, nearest = self._vectors(batch)
        ids, (_, weights) = segment_ids(batch.offsets), self._used()
        hits, evidence = [], []
        for rows in blocks(batch.tiles):
            distances = self._distances(batch.tiles_of(rows))  # (n, P, T)
            evidence.append(self._outputs(self._joined(distances.amin(dim=2), distances)))  # (n, L)
            hits.append(((distances <= nearest[ids[rows]]) * weights).sum(dim=(1, 2)))  # (n,)
        return MILOutput(self._outputs(z), _attention(torch.cat(hits), batch.offsets), torch.cat(evidence))

    def logits(self, batch: BagBatch) -> Tensor:
        """Without the outputs for each tile."""
        return self._outputs(self._vectors(batch)[0])

    def _vectors(self, batch: BagBatch) -> tuple[Tensor, Tensor]:
        """z (B, 2 P) of each bag, and how near each kept tile has its nearest, (B, P, T)."""
        ids, lengths = segment_ids(batch.offsets), batch.offsets.diff()
        _, weights = self._used()
        total = weights.new_zeros(len(batch), len(weights))
        nearest = weights.new_full((len(batch), *weights.shape), torch.inf)
        for rows in blocks(batch.tiles):
            distances = self._distances(batch.tiles_of(rows))  # (n, P, T)
            total.index_add_(0, ids[rows], distances.amin(dim=2))
            index = ids[rows, None, None].expand_as(distances)
            nearest.scatter_reduce_(0, index, distances, "amin")
        return self._joined(total / lengths[:, None], nearest), nearest

    def _joined(self, outward: Tensor, nearest: Tensor) -> Tensor:
        """Distances to (b, P) and from (b, P, T) the kept bags to z (b, 2 P); 0 in places that no bag takes."""
        _, weights = self._used()
        return torch.cat([outward * (weights[:, 0] > 0), (nearest * weights).sum(dim=2)], dim=1)

    def _distances(self, tiles: StoredTiles) -> Tensor:
        """Of tiles to those that are kept, (n, P, T); in float32 also under autocast."""
        with torch.autocast(self.kept.device.type, enabled=False):
            kept, weights = self._used()
            x, p = self._clipped(tiles.features.float()), kept.flatten(0, 1)  # (n, D), (P T, D)
            lengths = x.square().sum(dim=1)[:, None] + p.square().sum(dim=1)  # (n, P T)
            squares = torch.addmm(lengths, x, p.T, alpha=-2)
            return squares.clamp_(min=0).sqrt_().reshape(len(x), *weights.shape)

    def _clipped(self, features: Tensor) -> Tensor:
        return (features * self.spread).clamp(-self.clip, self.clip)

    def _outputs(self, z: Tensor) -> Tensor:
        """(b, 2 P) to (b, L)."""
        p = z.shape[1] // 2
        kernel = torch.exp(-squared_distances(z, self.centres[:p, : 2 * p]) / self.width)  # (b, P)
        return self.scale * (kernel @ self.coefficients[:p] + self.intercepts) + self.bias

    def _used(self) -> tuple[Tensor, Tensor]:
        """`kept` and `weights` without the places that no bag takes (one stays before `prepare`)."""
        taken = self.weights > 0
        bags, tiles = max(1, int(taken.any(dim=1).sum())), max(1, int(taken.any(dim=0).sum()))
        return self.kept[:bags, :tiles], self.weights[:bags, :tiles]


def _order(batch: BagBatch, seed: int) -> tuple[Tensor, int]:
    """The tiles of a bag in a seeded order, and a number for the bag; both from what is stored of the tiles."""
    stored = np.ascontiguousarray(batch.stored.cpu().numpy())
    keys = np.array([zlib.crc32(tile.tobytes(), seed) for tile in stored])
    return torch.from_numpy(np.argsort(keys, kind="stable")), zlib.crc32(np.sort(keys).tobytes(), seed)


def _attention(hits: Tensor, offsets: Tensor) -> Tensor:
    """Half of it even, half by how many kept tiles have a tile as their nearest; all of it even if none is kept."""
    ids = segment_ids(offsets)
    even = 1 / offsets.diff().to(hits.dtype)[ids]
    total = segment_sum(hits, offsets)[ids]  # (sum N,)
    return torch.where(total > 0, (even + hits / total.clamp(min=1e-30)) / 2, even)
