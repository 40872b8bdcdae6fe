import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from mil.isotonic_scaling import IsotonicScaling
from mil.links import conditional, softmax
from wsi.errors import UsageError


def drawn(n=300, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) * 2
    return logits, (rng.random((n, 1)) > np.cumsum(softmax(logits / 2), axis=1)).sum(axis=1)


def test_classes_are_curves_by_scikit_learn_against_the_rest():
    logits, targets = drawn()
    asked = np.random.default_rng(1).normal(size=(50, 3)) * 3
    curves = [IsotonicRegression(out_of_bounds="clip") for _ in range(3)]
    raw = np.stack(
        [c.fit(softmax(logits)[:, k], targets == k).predict(softmax(asked)[:, k]) for k, c in enumerate(curves)], axis=1
    )
    expected = (300 * raw / raw.sum(axis=1, keepdims=True) + 1 / 3) / 301
    np.testing.assert_allclose(IsotonicScaling(softmax).fit(logits, targets).transform(asked), expected, atol=1e-8)


def test_grades_are_curves_of_the_questions():
    logits, targets = drawn()
    scaling = IsotonicScaling(softmax, ordered=True).fit(logits, targets)
    p = softmax(logits)
    higher = [
        IsotonicRegression().fit_transform(p[:, 1] + p[:, 2], targets > 0),
        IsotonicRegression().fit_transform(p[:, 2], targets > 1),
    ]
    lower, upper = higher[0], np.minimum(higher[0], higher[1])
    crossed = higher[1] > higher[0]
    middle = (higher[0] + higher[1]) / 2  # two questions in the wrong order meet at their mean
    lower, upper = np.where(crossed, middle, lower), np.where(crossed, middle, upper)
    expected = np.stack([1 - lower, lower - upper, upper], axis=1)
    np.testing.assert_allclose(scaling.transform(logits), (300 * expected + 1 / 3) / 301, atol=1e-8)


@pytest.mark.parametrize("ordered", [False, True])
def test_few_slides_and_missing_classes_rule_nothing_out(ordered):
    logits = np.array([[9.0, 0, 0], [0, 9.0, 0]])
    found = IsotonicScaling(softmax, ordered).fit(logits, np.array([0, 1])).transform(np.eye(3) * 1e6)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[0], [(2 + 1 / 3) / 3, 1 / 9, 1 / 9])
    assert found.min() >= 1 / 9 - 1e-12
    one = IsotonicScaling(conditional, ordered).fit(np.zeros((1, 2)), np.array([2])).transform(np.zeros((4, 5, 2)))
    assert one.shape == (4, 5, 3)
    np.testing.assert_allclose(one[0, 0], [1 / 6, 1 / 6, 4 / 6])


def test_a_slide_that_every_curve_denies_can_be_of_any_class():
    turned = np.log([[0.65, 0.35, 1e-9], [1e-9, 0.65, 0.35], [0.35, 1e-9, 0.65]])
    scaling = IsotonicScaling(softmax).fit(turned, np.arange(3))
    assert [curve(1 / 3) for curve in scaling.curves_] == [0, 0, 0]
    np.testing.assert_allclose(scaling.transform(np.zeros((1, 3))), 1 / 3)


def test_no_slides_are_refused():
    with pytest.raises(UsageError, match="at least one held-out slide"):
        IsotonicScaling(softmax).fit(np.zeros((0, 2)), np.zeros(0, int))
