import numpy as np
from scipy.spatial.distance import cdist

from mil import augmentation
from mil.augmentation import GAP_UM, appended, interpolated
from mil.bag import Bag
from mil.testing import toy_bag


def test_an_appended_bag_has_all_its_own_tiles_and_the_others_beside_them():
    bag, others = toy_bag(9, seed=1), toy_bag(4, seed=2)
    found = appended(bag, others)
    assert found.slide_id == bag.slide_id
    np.testing.assert_array_equal(found.features, np.concatenate([bag.features, others.features]))
    np.testing.assert_array_equal(found.coords_um[:9], bag.coords_um)
    np.testing.assert_array_equal(found.coords_um[9:] - found.coords_um[9], others.coords_um - others.coords_um[0])
    assert found.coords_um[9:, 0].min() - bag.coords_um[:, 0].max() == GAP_UM
    assert found.rows.tolist() == [*range(9), -1, -1, -1, -1]


def test_tiles_without_coordinates_stay_without():
    bag, others = toy_bag(3), toy_bag(2)
    nowhere = Bag("nowhere", bag.features, np.full_like(bag.coords_um, np.nan), bag.rows)
    assert np.isnan(appended(nowhere, others).coords_um).all()
    mixed = appended(others, nowhere).coords_um
    assert np.isfinite(mixed[:2]).all()
    assert np.isnan(mixed[2:]).all()


def test_tiles_move_towards_the_nearest_tile_of_the_other_bag(monkeypatch):
    bag, other = toy_bag(30, seed=1), toy_bag(17, seed=2)
    bag.features[:, 0] *= 1000
    other.features[:, 0] *= 1000
    spread = np.concatenate([bag.features, other.features]).std(axis=0)
    nearest = cdist(bag.features / spread, other.features / spread).argmin(axis=1)
    for block in (augmentation.BLOCK, 40):
        monkeypatch.setattr(augmentation, "BLOCK", block)
        found = interpolated(bag, other, 0.25)
        np.testing.assert_allclose(
            found.features, 0.75 * bag.features + 0.25 * other.features[nearest], rtol=1e-4, atol=1e-5
        )
    np.testing.assert_array_equal(found.coords_um, bag.coords_um)
    np.testing.assert_array_equal(interpolated(bag, other, 0.0).features, bag.features)


def test_stored_type_and_constant_features_are_kept():
    bag, other = toy_bag(6, seed=1), toy_bag(1, seed=2)
    half = [Bag(one.slide_id, one.features.astype(np.float16), one.coords_um, one.rows) for one in (bag, other)]
    half[0].features[:, 2] = half[1].features[:, 2] = 60000
    found = interpolated(*half, 0.9)
    assert found.features.dtype == np.float16
    assert (found.features[:, 2] == 60000).all()
    np.testing.assert_allclose(
        found.features[:, :2], 0.1 * bag.features[:, :2] + 0.9 * other.features[:, :2], atol=5e-3
    )
