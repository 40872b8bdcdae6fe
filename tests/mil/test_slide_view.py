import numpy as np
import pytest

from mil.bag import Bag
from mil.slide_view import DIMENSIONS, MEAN_TILES, TILES, TRAITS, SlideView, choice


def bag(tiles: int, dim: int = 12, seed: int = 0) -> Bag:
    features = np.random.default_rng(seed).normal(size=(tiles, dim)).astype(np.float16)
    return Bag("slide", features, np.zeros((tiles, 2), np.float32), np.arange(tiles) * 3)


NONE = np.full(len(TRAITS), np.nan)


def test_a_small_slide_is_taken_whole() -> None:
    one = bag(5)
    view = SlideView.of(one, NONE)
    np.testing.assert_allclose(view.mean, one.features.astype(np.float64).mean(axis=0), rtol=1e-5)
    assert view.tiles.shape == (5, 12)
    np.testing.assert_allclose(np.linalg.norm(view.tiles, axis=1), 1, rtol=1e-6)


def test_a_large_slide_is_sampled_and_the_order_of_its_tiles_changes_nothing() -> None:
    whole = bag(3000)
    view = SlideView.of(whole, NONE, seed=2)
    assert view.tiles.shape == (TILES, 12)
    mixed = SlideView.of(whole.take(np.random.default_rng(1).permutation(3000)), NONE, seed=2)
    np.testing.assert_array_equal(mixed.tiles, view.tiles)
    np.testing.assert_array_equal(mixed.mean, view.mean)
    drawn = choice(2)("slide", 3000)
    assert drawn is not None
    assert len(set(drawn.tolist())) == MEAN_TILES
    np.testing.assert_array_equal(SlideView.of_drawn(whole.take(drawn), NONE).mean, view.mean)
    assert not np.array_equal(SlideView.of(whole, NONE, seed=3).mean, view.mean)


def test_projection_keeps_angles() -> None:
    whole = bag(TILES, dim=1280)
    view = SlideView.of(whole, NONE)
    assert view.tiles.shape == (TILES, DIMENSIONS)
    drawn = choice(0)("slide", TILES)
    exact = whole.features[drawn].astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    # Cosines of random signs in 256 dimensions are off by 1/16 in standard deviation.
    off = view.tiles @ view.tiles.T - exact @ exact.T
    assert np.abs(off).max() < 5 / 16
    assert off[np.triu_indices(TILES, 1)].std() == pytest.approx(1 / 16, rel=0.3)


def test_a_tile_without_features_has_no_direction() -> None:
    empty = Bag("slide", np.zeros((1, 4), np.float16), np.zeros((1, 2), np.float32), np.zeros(1, np.int64))
    assert not SlideView.of(empty, NONE).tiles.any()
