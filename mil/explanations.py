"""Maps of a slide's tiles: what makes a network say what it says, five ways, for each class.

With S_c = log p_c / (1 - p_c) of a bag of N tiles, x_i the standardised features, a_i the attention:

    attention      N a_i                               what was weighed; the same for every class, no sign
    evidence       p_c of tile i alone                 what the network says of a bag of that tile
    contribution   N a_i S_c(tile i alone)             for an additive model of two classes its exact summands
    gradient       N sum_d x_id dS_c / dx_id           gradient x input, against the mean training tile
    left_out       N / |B| (S_c - S_c without block B) leave-tiles-out, blocks of neighbours

The last three have a sign, for or against the class, and are in logits: their mean over the tiles is (to first order)
what the tiles of the slide add up to, so that slides of any size compare.

Gradient x input: Shrikumar et al.: Not Just a Black Box, 2016. https://arxiv.org/abs/1605.01713
Single tiles and leave-one-out: Early, Evers, Ramchurn: Model Agnostic Interpretability for Multiple Instance Learning,
ICLR 2022. https://arxiv.org/abs/2201.11701
Contributions: Javed et al.: Additive MIL, NeurIPS 2022. https://arxiv.org/abs/2206.01794
Random weights as a control: Adebayo et al.: Sanity Checks for Saliency Maps, NeurIPS 2018.
https://arxiv.org/abs/1810.03292
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mil.bag import Bag, BagBatch, pack
from mil.map_names import MAPS, MapName
from mil.model import MILModel
from mil.network import Network, NetworkSpec, one_thread, predict
from wsi.errors import UsageError

Link = Callable[[np.ndarray], np.ndarray]
"""Logits (..., L) to probabilities (..., C)."""

FLOOR = 1e-6
"""Probabilities nearer to 0 or 1 are taken as that near, so that log odds stay within 14."""

BLOCKS, FEWEST_BLOCKS = 64, 16
"""Parts that are left out one after the other: every tile of a bag of no more; fewer where bags are huge."""

WORK_TILES = 1 << 20
"""Tiles that leave-tiles-out asks a network about in all, up to `FEWEST_BLOCKS` times the bag."""

PACK_TILES = 1 << 14
"""Tiles of several small questions that are asked at once."""

STEP = 1e-4
"""In logits, for the slope of log odds."""


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """log p / (1 - p), of p cut to `FLOOR`."""
    p = np.clip(probabilities, FLOOR, 1 - FLOOR)
    return np.log(p) - np.log1p(-p)


def log_odds_slope(link: Link, logits: np.ndarray) -> np.ndarray:
    """How the log odds of each class change with each of the logits (L,): (L, C), by differences."""
    steps = STEP * np.eye(len(logits))
    return (log_odds(link(logits + steps)) - log_odds(link(logits - steps))) / (2 * STEP)


@dataclass(frozen=True, slots=True)
class Explained:
    """A network in evaluation mode with one bag, whose features are scaled once.

    Attributes
    ----------
    network : Network
    link : callable
        Of the loss: its probabilities, before calibration.
    bag : Bag
    scaled : Tensor (N, D) float32
    """

    network: Network
    link: Link
    bag: Bag
    scaled: Tensor

    @classmethod
    def of(cls, network: Network, link: Link, bag: Bag) -> "Explained":
        """Scale the features of a bag as the network does."""
        with torch.no_grad():
            stored = pack([bag]).stored.float()
            return cls(network, link, bag, (stored - network.mean) * network.scale)

    def take(self, kept: np.ndarray) -> "Explained":
        """The same network with some of the tiles."""
        return Explained(self.network, self.link, self.bag.take(kept), self.scaled[torch.from_numpy(kept)])

    def with_network(self, network: Network) -> "Explained":
        """The same bag with a network of the same scaling."""
        return Explained(network, self.link, self.bag, self.scaled)

    def probabilities(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Of bags of some of the tiles each: (k, C)."""
        found, at = [], 0
        with one_thread(), torch.inference_mode():
            while at < len(parts):
                end, tiles = at + 1, len(parts[at])
                while end < len(parts) and tiles + len(parts[end]) <= PACK_TILES:
                    tiles += len(parts[end])
                    end += 1
                found.append(self._logits(self._batch(parts[at:end])).double().numpy())  # (k, L)
                at = end
        return self.link(np.concatenate(found))

    def _batch(self, parts: Sequence[np.ndarray]) -> BagBatch:
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        offsets = torch.from_numpy(np.concatenate([[0], np.cumsum([len(part) for part in parts])]))
        coords = torch.from_numpy(self.bag.coords_um[rows])
        return BagBatch(self.scaled[torch.from_numpy(rows)], offsets, coords, torch.full((len(parts),), -1))

    def _logits(self, batch: BagBatch) -> Tensor:
        model = self.network.model
        raw = model.logits(batch) if isinstance(model, MILModel) else model(batch).logits
        outputs: Tensor = self.network.output(raw if raw.dtype == torch.float64 else raw.float())
        return outputs

    def slopes(self) -> tuple[np.ndarray, np.ndarray]:
        """Logits (L,) of the whole bag, and gradient x input of each: sum_d x_id dlogit_l / dx_id, (N, L)."""
        logits, found = self._slopes(lambda slope: (slope * self.scaled).sum(dim=1))
        return logits, found.T

    def feature_slopes(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits (L,) of the whole bag, and their slopes in the scaled features of some tiles, (k, L, D)."""
        logits, found = self._slopes(lambda slope: slope[torch.from_numpy(tiles)])
        return logits, found.swapaxes(0, 1)

    def _slopes(self, kept: Callable[[Tensor], Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Logits (L,), and what is `kept` of the slope (N, D) of each, (L, ...)."""
        with one_thread(), torch.enable_grad():
            leaf = self.scaled.detach().requires_grad_()
            offsets = torch.tensor([0, len(leaf)])
            batch = BagBatch(leaf, offsets, torch.from_numpy(self.bag.coords_um), torch.tensor([-1]))
            logits = self._logits(batch)[0]  # (L,)
            found = []
            for one in logits:
                slope = None
                if logits.requires_grad:
                    (slope,) = torch.autograd.grad(one, leaf, retain_graph=True, allow_unused=True)
                found.append(kept(torch.zeros_like(self.scaled) if slope is None else slope).double().numpy())
        return logits.detach().double().numpy(), np.stack(found)


def tile_map(network: Network, link: Link, bag: Bag, name: MapName) -> np.ndarray:
    """One of the maps for every class, (N, C) float64; attention is the same for each.

    Memory is that of a few float32 copies of the features for `gradient`, and of one for the others.
    """
    return explain(Explained.of(network, link, bag), name)


def explain(asked: Explained, name: MapName) -> np.ndarray:
    """`tile_map` where the features have been scaled already."""
    if name == "gradient":
        return _gradient(asked)
    if name == "left_out":
        return _left_out(asked)
    if name not in MAPS:
        raise UsageError(f"no map is called {name!r}; there are: {', '.join(MAPS)}")
    logits, attention, tile_logits = predict(asked.network, asked.bag)
    if name == "attention":
        classes = asked.link(logits).shape[-1]
        return np.repeat(len(attention) * attention[:, None], classes, axis=1)
    alone = asked.link(tile_logits)  # (N, C)
    return alone if name == "evidence" else len(attention) * attention[:, None] * log_odds(alone)


def _gradient(asked: Explained) -> np.ndarray:
    logits, products = asked.slopes()
    return len(products) * products @ log_odds_slope(asked.link, logits)


def _left_out(asked: Explained) -> np.ndarray:
    tiles = np.arange(len(asked.bag))
    blocks = tile_blocks(asked.bag.coords_um, block_count(len(tiles)))
    whole = log_odds(asked.probabilities([tiles]))[0]  # (C,)
    found = np.zeros((len(tiles), len(whole)))
    if len(blocks) < 2:  # nothing would remain of a slide of one tile
        return found
    at_once = max(1, PACK_TILES // len(tiles))
    for start in range(0, len(blocks), at_once):
        some = blocks[start : start + at_once]
        without = log_odds(asked.probabilities([np.delete(tiles, block) for block in some]))  # (k, C)
        for block, said in zip(some, without, strict=True):
            found[block] = (whole - said) * (len(tiles) / len(block))
    return found


def block_count(tiles: int) -> int:
    """How many parts of a bag are left out."""
    return min(tiles, BLOCKS, max(FEWEST_BLOCKS, WORK_TILES // tiles))


def tile_blocks(coords_um: np.ndarray, count: int) -> list[np.ndarray]:
    """`count` parts of like size of the tiles, neighbours together: halved along the longer side, again and again.

    Parameters
    ----------
    coords_um : ndarray (N, 2)
        Where places are not known (NaN) tiles are neighbours by their order.
    """
    places = coords_um if np.isfinite(coords_um).all() else np.arange(len(coords_um), dtype=np.float64)[:, None]
    parts = [(np.arange(len(places)), count)]
    done = []
    while parts:
        tiles, wanted = parts.pop()
        if wanted == 1:
            done.append(np.sort(tiles))
            continue
        inside = places[tiles]
        order = tiles[np.argsort(inside[:, np.ptp(inside, axis=0).argmax()], kind="stable")]
        first = wanted // 2
        cut = round(len(order) * first / wanted)
        parts += [(order[:cut], first), (order[cut:], wanted - first)]
    return done


def random_network(spec: NetworkSpec, like: Network, seed: int) -> Network:
    """A network of the same build that has learned nothing: fresh weights, the scaling (and other buffers) kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = Network(spec)
    known = dict(like.named_buffers())
    with torch.no_grad():
        for name, buffer in fresh.named_buffers():
            buffer.copy_(known[name])
    return fresh.eval()
