"""All maps of one slide put to the test: tiles taken away, random weights, missing tiles.

The network is asked what it says of the predicted class, before calibration: that is fitted on all slides at once, and
some ways of it have steps. Of a long slide a drawn sample of tiles is taken as the slide, so that a slide of 10^5 tiles
costs no more than one of `MOST_TILES`.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

import numpy as np

from mil.bag import Bag
from mil.explanations import Explained, explain, random_network
from mil.faithfulness import chance, judge_map, stability
from mil.map_choice import SlideTrial
from mil.map_names import MAPS, SIGNED, MapName
from mil.network import Network, NetworkSpec

MOST_TILES = 1024
REPEATS = 10
STABILITY_REPEATS = 3
LIMIT_SHARE = 0.98
"""Of a slide's tiles whose values of a signed map lie within the ends of its scale."""

Agreement = Callable[[np.ndarray, np.ndarray], float]
"""Rows of the grid (n,) and a number for each, high where there is a finding, to an AUROC or NaN."""


def try_maps(
    network: Network,
    spec: NetworkSpec,
    bag: Bag,
    *,
    patient_id: str,
    fold: int,
    repeats: int = REPEATS,
    most_tiles: int = MOST_TILES,
    seed: int = 0,
    names: Sequence[MapName] = MAPS,
    agreement: Agreement | None = None,
) -> SlideTrial:
    """Every map of a bag by the network that has not seen its slide.

    Parameters
    ----------
    spec : NetworkSpec
        Of this network.
    repeats : int
        Random orders.
    most_tiles : int
        Of a longer bag so many tiles are drawn.
    seed : int
        With the slide's name it decides every draw, whatever other slides there are.
    agreement : callable, optional
        Compares a map with what was drawn on the slide.
    """
    own_seed = int.from_bytes(sha256(f"{seed}:{bag.slide_id}".encode()).digest()[:4], "big")
    bag = sampled(bag, most_tiles, own_seed)
    link = spec.build_class_loss().probabilities
    asked = Explained.of(network, link, bag)
    fresh = asked.with_network(random_network(spec, network, own_seed))
    predicted = int(asked.probabilities([np.arange(len(bag))])[0].argmax())

    def scorer(kept: np.ndarray) -> float:
        return float(asked.probabilities([kept])[0, predicted])

    by_chance = chance(scorer, len(bag), repeats=repeats, seed=own_seed)
    maps = {name: explain(asked, name) for name in names}
    control = {name: explain(fresh, name)[:, predicted] for name in names}
    return SlideTrial(
        bag.slide_id,
        patient_id,
        fold,
        len(bag),
        {name: judge_map(scorer, one[:, predicted], seed=own_seed, against=by_chance) for name, one in maps.items()},
        {name: judge_map(scorer, one, seed=own_seed, against=by_chance) for name, one in control.items()},
        {name: _stability(asked, name, predicted, own_seed) for name in names},
        {name: float(np.quantile(np.abs(maps[name]), LIMIT_SHARE)) if name in SIGNED else 1.0 for name in names},
        {name: agreement(bag.rows, finding_score(name, one)) for name, one in maps.items()} if agreement else {},
    )


def sampled(bag: Bag, most_tiles: int, seed: int) -> Bag:
    """The bag, or as many of its tiles drawn at random."""
    if len(bag) <= most_tiles:
        return bag
    return bag.take(np.sort(np.random.default_rng([seed, 2]).choice(len(bag), most_tiles, replace=False)))


def finding_score(name: MapName, values: np.ndarray) -> np.ndarray:
    """One number a tile (n,), higher the more a map (n, C) speaks for a finding.

    The expected class of probabilities; of signed maps what speaks against the first class, the harmless one. Attention
    knows no class.
    """
    if name == "attention":
        return values[:, 0]
    return -values[:, 0] if name in SIGNED else values @ np.arange(values.shape[1])


def _stability(asked: Explained, name: MapName, predicted: int, seed: int) -> float:
    if len(asked.bag) < 3:
        return float("nan")
    found = stability(
        lambda kept: explain(asked.take(kept), name)[:, predicted],
        len(asked.bag),
        repeats=STABILITY_REPEATS,
        seed=seed,
    )
    known = found[np.isfinite(found)]
    return float(known.mean()) if len(known) else float("nan")


__all__ = ["finding_score", "sampled", "try_maps"]
