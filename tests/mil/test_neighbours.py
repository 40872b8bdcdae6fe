import numpy as np
import pytest
import torch

from mil.bag import pack
from mil.neighbours import neighbours
from mil.testing import toy_bag
from wsi.errors import UsageError


def by_hand(places, marks, k):
    """All distances of one bag, sorted by distance, y, x and mark."""
    rows = []
    for tile in range(len(places)):
        others = [other for other in range(len(places)) if other != tile]
        apart = ((places - places[tile]).astype(np.float64) ** 2).sum(axis=1)
        others.sort(key=lambda other: (apart[other], places[other][1], places[other][0], marks[other]))
        rows.append((others + [-1] * k)[:k])
    return np.array(rows)


def cloud(kind, rng):
    if kind == "grid with gaps":
        return rng.permutation(np.argwhere(rng.random((14, 11)) < 0.5)) * 112.0
    if kind == "grid that is shifted by parts of a pixel":
        return np.argwhere(np.ones((9, 12))) * 112.3 + rng.random((108, 2)) * 0.3
    if kind == "overlaps":
        return np.argwhere(np.ones((12, 12))) * 56.0
    if kind == "several at one place":
        return rng.integers(0, 4, (60, 2)) * 112.0
    if kind == "all at one place":
        return np.full((25, 2), 5000.0)
    if kind == "a line":
        return np.stack([np.zeros(40), np.arange(40)], axis=1)
    if kind == "an island far away":
        return np.concatenate([np.argwhere(np.ones((8, 8))) * 112.0, [[5e6, 3e6], [5e6, 3e6 + 112]]])
    if kind == "dense beside wide":
        return np.concatenate([rng.random((80, 2)), 1e5 * rng.random((40, 2))])
    return rng.normal(size=(5, 2))


KINDS = (
    "grid with gaps",
    "grid that is shifted by parts of a pixel",
    "overlaps",
    "several at one place",
    "all at one place",
    "a line",
    "an island far away",
    "dense beside wide",
    "fewer than k",
)


@pytest.mark.parametrize("k", [1, 8])
def test_against_all_distances_for_all_bags_of_a_pack(k):
    rng = np.random.default_rng(0)
    clouds = [cloud(kind, rng).astype(np.float32) for kind in KINDS] + [np.zeros((1, 2), np.float32)]
    marks = [rng.permutation(len(places)) for places in clouds]
    offsets = np.concatenate([[0], np.cumsum([len(places) for places in clouds])])
    found = neighbours(
        torch.from_numpy(np.concatenate(clouds)), torch.from_numpy(offsets), k, torch.from_numpy(np.concatenate(marks))
    ).numpy()
    assert found.shape == (offsets[-1], k)
    for kind, places, mark, start, stop in zip(
        [*KINDS, "one tile"], clouds, marks, offsets[:-1], offsets[1:], strict=True
    ):
        expected = by_hand(places, mark, k)
        here = found[start:stop]
        np.testing.assert_array_equal(np.where(here < 0, -1, here - start), expected, err_msg=kind)


def test_parts_of_few_candidates_give_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    places = torch.from_numpy(np.concatenate([cloud(kind, rng) for kind in KINDS]).astype(np.float32))
    offsets = torch.tensor([0, len(places)])
    whole = neighbours(places, offsets, 5)
    monkeypatch.setattr("mil.neighbours.PAIRS", 40)
    assert torch.equal(neighbours(places, offsets, 5), whole)


def test_order_of_tiles_does_not_enter():
    rng = np.random.default_rng(2)
    places = torch.from_numpy(cloud("several at one place", rng).astype(np.float32))
    marks = torch.from_numpy(rng.random(len(places)))
    order = torch.from_numpy(rng.permutation(len(places)))
    offsets = torch.tensor([0, len(places)])
    straight = neighbours(places, offsets, 6, marks)
    turned = neighbours(places[order], offsets, 6, marks[order])
    assert torch.equal(order[turned], straight[order])


def test_a_tile_inside_of_a_grid_has_the_eight_around_it():
    places = torch.from_numpy(np.argwhere(np.ones((5, 5)))[:, ::-1] * np.float32(112))
    found = neighbours(places, torch.tensor([0, 25]), 8)
    assert found[12].tolist() == [7, 11, 13, 17, 6, 8, 16, 18]  # straight above, left, right, below, then the corners
    assert found[0].tolist()[:4] == [1, 5, 6, 2]  # at two tiles the upper one is nearer than the left one


def test_a_place_that_is_not_known_is_named():
    batch = pack([toy_bag(4), toy_bag(5)])
    batch.coords_um[6, 0] = torch.nan
    with pytest.raises(UsageError, match="tile 2 of bag 1 in the batch is not known, as the pixel size of its slide"):
        neighbours(batch.coords_um, batch.offsets, 8)
