from dataclasses import replace

import numpy as np
import pytest
import torch

import mil.bag
from mil.bag import Bag, BagSubset, StoreBags, check_same_making, draw, pack
from mil.packing import Packing
from mil.testing import toy_bag, toy_card, write_store
from wsi.errors import CorruptStoreError, NoTissueError, RecipeMismatchError, UsageError
from wsi.tiles import TileSpec


def features(tiles, dim=12, seed=0):
    return np.random.default_rng([seed, tiles]).normal(size=(tiles, dim)).astype(np.float16)


def test_empty_bag_is_refused_by_name():
    with pytest.raises(NoTissueError, match="slide S-9"):
        Bag("S-9", np.zeros((0, 4), np.float32), np.zeros((0, 2), np.float32), np.zeros(0, np.int64))


def test_nan_is_refused_by_name_and_tile():
    values = np.zeros((3, 4), np.float32)
    values[1, 2] = np.nan
    with pytest.raises(CorruptStoreError, match="slide S-9: the features of tile 7"):
        Bag("S-9", values, np.zeros((3, 2), np.float32), np.array([5, 7, 9]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf, np.finfo(np.float16).max, -0.0, 6e-8])
def test_any_number_that_is_not_finite_is_refused_and_no_other(dtype, value):
    values = np.zeros((3, 4), dtype)
    values[2, 3] = value

    def bag():
        return Bag("S", values, np.zeros((3, 2), np.float32), np.arange(3))

    if np.isfinite(value):
        np.testing.assert_array_equal(bag().features, values)
    else:
        with pytest.raises(CorruptStoreError, match="the features of tile 2"):
            bag()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("tile", [0, 7, 8, 29])
def test_a_number_that_is_not_finite_is_found_in_every_block(tile, value, monkeypatch):
    monkeypatch.setattr(mil.bag, "FINITE_BLOCK", 8 * 4)
    values = np.ones((30, 4), np.float16)
    values[tile, 3] = value
    with pytest.raises(CorruptStoreError, match=f"the features of tile {tile} "):
        Bag("S", values, np.zeros((30, 2), np.float32), np.arange(30))


def test_shapes_are_checked():
    with pytest.raises(UsageError, match="coords_um"):
        Bag("S", np.zeros((3, 4), np.float32), np.zeros((2, 2), np.float32), np.arange(3))


def test_from_store_leaves_bad_tiles_out_and_scales_to_um(tmp_path):
    values = features(10)
    store = write_store(tmp_path, "S", values, toy_card(), bad=(3, 7), mpp=0.25)
    bag = Bag.from_store(store, "made-up")
    assert bag.rows.tolist() == [0, 1, 2, 4, 5, 6, 8, 9]
    np.testing.assert_array_equal(bag.features, values[bag.rows])
    assert bag.features.dtype == np.float16
    # A grid four tiles wide of 224 px at 0.5 um/px: 112 um from tile to tile.
    expected = 112 * np.stack([bag.rows % 4, bag.rows // 4], axis=1)
    np.testing.assert_allclose(bag.coords_um, expected)


def test_pack_joins_bags():
    bags = [toy_bag(tiles, seed=tiles) for tiles in (3, 1, 5)]
    batch = pack(bags, [2, 0, 1])
    assert batch.offsets.tolist() == [0, 3, 4, 9]
    assert batch.targets.tolist() == [2, 0, 1]
    assert len(batch) == 3
    for bag, start, stop in zip(bags, (0, 3, 4), (3, 4, 9), strict=True):
        np.testing.assert_array_equal(batch.features[start:stop].numpy(), bag.features)
        np.testing.assert_array_equal(batch.coords_um[start:stop].numpy(), bag.coords_um)
    assert pack(bags).targets.tolist() == [-1, -1, -1]
    assert batch.to("cpu").features.dtype == torch.float32
    with pytest.raises(UsageError, match="at least one bag"):
        pack([])


def test_a_batch_is_float32_whatever_is_stored():
    whole = toy_bag(5)
    half = Bag("half", whole.features.astype(np.float16), whole.coords_um, whole.rows)
    batch = pack([half, whole])
    assert batch.features.dtype == torch.float32
    np.testing.assert_array_equal(batch.features[:5].numpy(), half.features.astype(np.float32))
    np.testing.assert_array_equal(batch.features[5:].numpy(), whole.features)


def test_store_bags_are_the_same_from_memory_and_from_disk(tmp_path):
    stores = [write_store(tmp_path, f"S{n}", features(20, seed=n), toy_card()) for n in range(3)]
    kept, read = StoreBags(stores, "made-up"), StoreBags(stores, "made-up", cache_bytes=0)
    for number in (0, 1, 2, 1):
        for name in ("features", "coords_um", "rows"):
            np.testing.assert_array_equal(getattr(kept[number], name), getattr(read[number], name))
    assert len(kept) == 3
    assert [bag.slide_id for bag in BagSubset(kept, [2, 0])] == ["S2", "S0"]


def test_an_epoch_is_the_same_from_memory_from_disk_and_from_a_list(tmp_path):
    stores = [write_store(tmp_path, f"S{n}", features(20 + n, seed=n), toy_card(), bad=(n,)) for n in range(4)]
    size = 12 * 2 * 20
    sources = [StoreBags(stores, "made-up", cache_bytes=room) for room in (0, 2 * size, 1 << 20)]
    sources += [BagSubset(sources[0], range(4)), [Bag.from_store(store, "made-up") for store in stores]]
    for packing in (Packing(slides=2), Packing(bag_tiles=7), Packing(tile_dropout=0.5)):
        for number in range(2):
            found = [list(packing.epoch(bags, np.arange(len(bags)), 3, number)) for bags in sources]
            for other in found[1:]:
                for one, two in zip(found[0], other, strict=True):
                    for name in ("features", "offsets", "coords_um", "targets"):
                        assert torch.equal(getattr(one, name), getattr(two, name))


def test_bags_beyond_the_budget_are_those_of_the_store_in_every_epoch(tmp_path):
    """Twelve numbers a tile make chunks of whole pages, which are mapped where that can be done."""
    stores = [
        write_store(tmp_path, f"S{n}", features(1100, seed=n), toy_card(), bad=bad)
        for n, bad in enumerate([(), (600,)])
    ]
    bags = StoreBags(stores, "made-up", cache_bytes=0)
    for _ in range(3):
        for number, store in enumerate(stores):
            found, expected = bags[number], Bag.from_store(store, "made-up")
            np.testing.assert_array_equal(found.features, expected.features)
            np.testing.assert_array_equal(found.features, features(1100, seed=number)[found.rows])
            found.features[:] = 0
    assert all(store.verify() == [] for store in stores)


def test_only_the_tiles_that_are_drawn_are_read(tmp_path):
    """512 tiles are a chunk: damage in the second is met only by those who ask for it."""
    store = write_store(tmp_path, "S", features(600), toy_card())
    chunk = store.path / "features/made-up/values/c/1/0"
    chunk.unlink()
    bags = StoreBags([store], "made-up", cache_bytes=0)
    bag = draw(BagSubset(bags, [0]), 0, lambda slide_id, tiles: np.array([3, 500]))
    np.testing.assert_array_equal(bag.features, features(600)[[3, 500]])
    assert bag.rows.tolist() == [3, 500]
    with pytest.raises(CorruptStoreError, match="values/c/1/0 is missing"):
        bags[0]


@pytest.mark.parametrize(
    ("card", "spec", "said"),
    [
        ({"weights_sha256": "abc"}, {}, "encoder weights_sha256 is abc, but none"),
        ({"mean": (0.4, 0.5, 0.5)}, {}, r"encoder mean is \[0.4"),
        ({}, {"mpp": 0.25}, "recipe tiles.mpp is 0.25, but 0.5"),
        ({}, {"min_tissue": 0.25}, "recipe tiles.min_tissue"),
    ],
)
def test_features_made_in_two_ways_are_refused_by_name(tmp_path, card, spec, said):
    first = write_store(tmp_path, "S1", features(4), toy_card())
    second = write_store(tmp_path, "S2", features(4), replace(toy_card(), **card), replace(TileSpec(), **spec))
    with pytest.raises(RecipeMismatchError, match=f"slide S2: {said}") as caught:
        StoreBags([first, second], "made-up")
    assert "slide S1" in str(caught.value)


def test_licence_does_not_matter(tmp_path):
    store = write_store(tmp_path, "S", features(4), toy_card())
    check_same_making(store, "made-up", toy_card().to_dict() | {"licence": "other"}, store.recipe, "the model")


def test_damaged_chunk_is_refused(tmp_path):
    store = write_store(tmp_path, "S", features(20), toy_card())
    chunk = store.path / "features/made-up/values/c/0/0"
    data = bytearray(chunk.read_bytes())
    data[100] ^= 1
    chunk.write_bytes(bytes(data))
    with pytest.raises(CorruptStoreError, match="differs from its checksum"):
        StoreBags([store], "made-up")[0]
