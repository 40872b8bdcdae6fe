"""Slides out of made-up features whose truth is known: which show the same section, and which are merely alike."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from mil.bag import Bag
from mil.cohort import Cohort
from mil.duplicates import FALSE_ALARMS, _smoothed, _tail, check_no_duplicates, find_duplicates, sketch
from mil.testing import toy_bag
from wsi.errors import PatientLeakError, UsageError

DIM = 96
TILE_UM = 112.0


def section(number, side=24, patient=0, blot=0):
    """A section of tissue: regions of a few kinds that all sections share, a stain of its patient, and its own tiles.

    `blot` tiles a side of ink lie on it somewhere, much the same on every slide and highest in many features.
    """
    shared = np.random.default_rng(99)
    kinds = shared.normal(size=(6, DIM)) * 1.5
    ink = shared.normal(size=DIM) * 6
    stain = np.random.default_rng([5, patient]).normal(size=DIM) * 0.8
    rng = np.random.default_rng([7, number])
    y, x = np.mgrid[:side, :side]
    waves = rng.normal(size=(6, 4))
    field = np.stack([np.sin(x * a / 4 + b) + np.sin(y * c / 4 + d) for a, b, c, d in waves], axis=-1)
    features = kinds[field.argmax(axis=-1)] + stain + rng.normal(size=(side, side, DIM))
    if blot:
        row, column = rng.integers(0, side - blot, 2)
        features[row : row + blot, column : column + blot] += ink
    tissue = (x - side / 2) ** 2 + (y - side / 2) ** 2 < (side / 2.1) ** 2
    return features, tissue


def bag_of(features, tissue, name, origin_um=(0.0, 0.0)):
    places = np.argwhere(tissue)
    coords = places[:, ::-1] * TILE_UM + np.asarray(origin_um)
    stored = features[tissue].astype(np.float16)
    return Bag(name, stored, coords.astype(np.float32), np.arange(len(places)))


def saved_anew(features, noise=0.3, seed=0):
    """As another JPEG quality would: cosine of a tile to itself about .98."""
    return features + noise * np.random.default_rng(seed).normal(size=features.shape)


def on_two_grids(number, side=32, shift=(1, 1)):
    """One section out of cells, 4 x 4 to a tile, on a grid and on one that is off by quarters of a tile."""
    rng = np.random.default_rng([11, number])
    cells = rng.normal(size=(4 * side + 4, 4 * side + 4, DIM))

    def tiles(x, y):
        cut = cells[y : y + 4 * side, x : x + 4 * side]
        return cut.reshape(side, 4, side, 4, DIM).sum(axis=(1, 3)) / 4

    return tiles(0, 0), tiles(*shift)


def found(bags, **options):
    return {(pair.first, pair.second) for pair in find_duplicates([sketch(bag, TILE_UM) for bag in bags], **options)}


def alike(slides, **options):
    """Different sections, three to a patient."""
    return [bag_of(*section(number, patient=number // 3, **options), f"s{number:02}") for number in range(slides)]


def test_copies_and_cuts_are_found_and_nothing_else():
    bags = alike(24)
    features, tissue = section(3, patient=1)
    bags.append(bag_of(saved_anew(features), tissue, "x-renamed", (5000.0, -300.0)))
    cut = np.zeros_like(tissue)
    cut[4:20, 8:22] = True
    features, tissue = section(7, patient=2)
    bags.append(bag_of(saved_anew(features), tissue & cut, "x-cut", (-8 * TILE_UM, -4 * TILE_UM)))
    assert found(bags) == {("s03", "x-renamed"), ("s07", "x-cut")}


def test_a_copy_is_described():
    features, tissue = section(0)
    copy = bag_of(saved_anew(features), tissue, "copy", (224.0, 1120.0))
    (pair,) = find_duplicates([sketch(one, TILE_UM) for one in (*alike(6), copy)])
    assert (pair.first, pair.second) == ("copy", "s00")
    assert pair.shift_um == pytest.approx((-224.0, -1120.0))
    assert pair.similarity > 0.9
    assert 10 < pair.agreeing < pair.compared <= DIM
    assert pair.false_alarms < 1e-9


@pytest.mark.parametrize("shift", [(1, 1), (2, 0)])
def test_copies_on_another_grid_are_found(shift):
    """A quarter of a tile off both ways, or half a tile one way."""
    tissue = section(0, side=32)[1]
    bags = [bag_of(on_two_grids(number)[0], tissue, f"s{number:02}") for number in range(8)]
    bags.append(bag_of(saved_anew(on_two_grids(2, shift=shift)[1]), tissue, "x", (1000.0, 0.0)))
    assert found(bags) == {("s02", "x")}


def test_smoothing_is_the_mean_over_the_tiles_around():
    rng = np.random.default_rng(0)
    tissue = rng.random((9, 11)) < 0.7
    values = rng.normal(size=(9, 11, 3))
    places = np.argwhere(tissue)[:, ::-1] * TILE_UM + 37.0
    padded = np.pad(np.where(tissue[..., None], values, np.nan), ((1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    expected = [np.nanmean(padded[y : y + 3, x : x + 3], axis=(0, 1)) for y, x in np.argwhere(tissue)]
    np.testing.assert_allclose(_smoothed(values[tissue], places, TILE_UM), expected, rtol=1e-6)


@pytest.mark.parametrize("blot", [0, 3, 6])
def test_false_alarms_are_no_more_than_said(blot):
    """1,128 pairs without a duplicate, all of one laboratory: 5 and 50 false alarms are allowed and not exceeded."""
    sketches = [sketch(bag, TILE_UM) for bag in alike(48, blot=blot)]
    expected = [pair.false_alarms for pair in find_duplicates(sketches, 50.0)]
    assert len(expected) <= 50
    assert sum(one <= 5.0 for one in expected) <= 5
    assert sum(one <= FALSE_ALARMS for one in expected) == 0


def test_neither_the_order_of_slides_nor_that_of_tiles_enters():
    bags = alike(5)
    features, tissue = section(1, patient=0)
    bags.append(bag_of(saved_anew(features), tissue, "x"))
    straight = find_duplicates([sketch(bag, TILE_UM) for bag in bags])
    order = np.random.default_rng(0).permutation(len(bags[-1]))
    turned = find_duplicates([sketch(bag, TILE_UM) for bag in (bags[-1].take(order), *bags[:-1])])
    assert straight == turned
    assert len(straight) == 1


def test_slides_that_say_nothing_are_in_no_pair():
    features, tissue = section(0)
    whole = bag_of(features, tissue, "whole")
    lost = Bag("lost", whole.features, np.full_like(whole.coords_um, np.nan), whole.rows)
    one = [whole.take(np.array([5])), replace(whole.take(np.array([5])), slide_id="one")]
    flat = [Bag(f"flat{n}", np.ones_like(whole.features), whole.coords_um, whole.rows) for n in range(2)]
    assert found([whole, lost, replace(lost, slide_id="lost2")]) == set()
    assert found(one) == set()
    assert found(flat) == set()
    assert found([whole]) == found([]) == set()


def test_a_tile_needs_a_size():
    with pytest.raises(UsageError, match="tile_um is 0"):
        sketch(toy_bag(5), 0)


def test_the_tail_is_scipys():
    for n, least, p in ((63, 12, 0.02), (20, 0, 0.4), (5, 5, 1.0), (40, 3, 1e-4)):
        assert _tail(n, least, p) == pytest.approx(binom.sf(least - 1, n, p), rel=1e-9)


def test_a_leak_names_the_pair():
    features, tissue = section(1, patient=0)
    bags = [*alike(3), bag_of(saved_anew(features), tissue, "x")]
    pairs = find_duplicates([sketch(bag, TILE_UM) for bag in bags])
    names, sites, labels = ("s00", "s01", "s02", "x"), ("",) * 4, ("0",) * 4
    with pytest.raises(
        PatientLeakError, match=r"slides s01 and x show the same section .* patients P and Q; give both"
    ):
        check_no_duplicates(Cohort(names, ("P", "P", "P", "Q"), sites, labels), pairs)
    split = Cohort(names, ("P", "P", "R", "P"), sites, labels, np.array([0, 0, 1, 1]))
    with pytest.raises(PatientLeakError, match="slides s01 and x .* folds 0 and 1; put both in one fold"):
        check_no_duplicates(split, pairs)
    check_no_duplicates(replace(split, fold=np.array([0, 1, 0, 1])), pairs)
    check_no_duplicates(replace(split, fold=None), pairs)
    check_no_duplicates(split.select([0, 2, 3]), pairs)


def test_needs_no_torch():
    code = "import sys, mil.duplicates; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
