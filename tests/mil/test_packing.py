import numpy as np
import torch

from mil.packing import Packing
from mil.testing import toy_bag


def epoch(packing, bags, seed=0, number=0):
    return list(packing.epoch(bags, np.arange(len(bags)), seed, number))


def test_packing_keeps_its_budgets_and_loses_no_bag():
    bags = [toy_bag(tiles, seed=tiles) for tiles in (50, 10, 100, 300, 20, 30, 5)]
    batches = epoch(Packing(slides=3, tiles=120, bag_tiles=1000), bags)
    for batch in batches:
        assert len(batch) == 1 or (len(batch) <= 3 and len(batch.features) <= 120)
    assert sorted(torch.cat([batch.targets for batch in batches]).tolist()) == list(range(7))


def test_tiles_drawn_are_seeded_by_slide_and_not_by_its_neighbours():
    bags = [toy_bag(40, seed=n, name=f"S{n}") for n in range(4)]
    packing = Packing(slides=1, tile_dropout=0.5)

    def drawn(bags, seed, number):
        return {int(batch.targets): batch.features.numpy().tobytes() for batch in epoch(packing, bags, seed, number)}

    first = drawn(bags, 0, 0)
    assert first == drawn(bags, 0, 0)
    assert first[0] == drawn(bags[:2], 0, 0)[0]
    assert first[0] != drawn(bags, 0, 1)[0]
    assert first[0] != drawn(bags, 1, 0)[0]


def test_tile_dropout_and_cap():
    def sizes(packing, tiles):
        return [len(batch.features) for batch in epoch(packing, [toy_bag(tiles)])]

    assert sizes(Packing(tile_dropout=0.25), 40) == [30]
    assert sizes(Packing(tile_dropout=0.9), 1) == [1]
    assert sizes(Packing(bag_tiles=64), 1000) == [64]
    kept = epoch(Packing(tile_dropout=0.5), [toy_bag(40)])[0].features.numpy()
    everything = {row.tobytes() for row in toy_bag(40).features}
    assert len({row.tobytes() for row in kept} & everything) == 20
