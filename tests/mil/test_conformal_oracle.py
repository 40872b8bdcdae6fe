"""Sets and p-values against crepes, which counts as Vovk, Gammerman and Shafer do."""

import numpy as np
import pytest
from crepes import ConformalClassifier

from mil.conformal import ConformalSets
from mil.conformal_scores import SCORES
from mil.links import softmax

CLASSES = 4


def drawn(n, seed, noise=1.0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n)
    return softmax(2 * np.eye(CLASSES)[y] + noise * rng.normal(size=(n, CLASSES))), y, rng.random(n)


def of_truth(scores, y):
    return scores[np.arange(len(y)), y]


@pytest.mark.parametrize("score", SCORES)
def test_p_values_of_one_model(score):
    (p, y, u), (q, _, v) = drawn(83, 0), drawn(200, 1)
    oracle = ConformalClassifier().fit(of_truth(SCORES[score](p, u), y))
    expected = oracle.predict_p(SCORES[score](q, v), smoothing=False)
    found = ConformalSets(score).fit(p, y, uniform=u).p_values(q, uniform=v)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("score", SCORES)
def test_p_values_within_classes(score):
    (p, y, u), (q, _, v) = drawn(140, 2), drawn(60, 3)
    oracle = ConformalClassifier().fit(of_truth(SCORES[score](p, u), y), bins=y)
    scores = SCORES[score](q, v)
    expected = np.stack(
        [oracle.predict_p(scores, bins=np.full(60, k), smoothing=False)[:, k] for k in range(CLASSES)], axis=1
    )
    found = ConformalSets(score, within="class").fit(p, y, uniform=u).p_values(q, uniform=v)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("score", SCORES)
def test_p_values_within_sites(score):
    (p, y, u), (q, _, v) = drawn(140, 4), drawn(60, 5)
    here, there = np.arange(140) % 3, np.arange(60) % 3
    oracle = ConformalClassifier().fit(of_truth(SCORES[score](p, u), y), bins=here)
    expected = oracle.predict_p(SCORES[score](q, v), bins=there, smoothing=False)
    sets = ConformalSets(score, within="site").fit(p, y, uniform=u, sites=here)
    np.testing.assert_allclose(sets.p_values(q, uniform=v, sites=there), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_differ_by_the_best_class_and_by_p_values_at_the_error_itself(coverage):
    """crepes keeps a class at p = 1 - coverage, we leave it out, as in the head of `mil.conformal`: 1 / 10 of 9 + 1
    patients is as unusual as can be told. And the best class is always in ours, so that no set is empty."""
    (p, y, u), (q, _, v) = drawn(99, 6), drawn(300, 7)
    oracle = ConformalClassifier().fit(of_truth(SCORES["aps"](p, u), y))
    scores = SCORES["aps"](q, v)
    theirs = oracle.predict_set(scores, confidence=coverage, smoothing=False).astype(bool)
    at_error = np.isclose(oracle.predict_p(scores, smoothing=False), 1 - coverage, rtol=0, atol=1e-9)
    assert at_error.any()
    found = ConformalSets("aps", coverage).fit(p, y, uniform=u).sets(q, uniform=v)
    best = np.arange(CLASSES) == q.argmax(axis=1)[:, None]
    np.testing.assert_array_equal(found, (theirs & ~at_error) | best)
