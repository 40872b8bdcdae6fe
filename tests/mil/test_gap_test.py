import numpy as np
import pytest

from mil import metrics
from mil.gap_test import _p_values, gap_test

ACCURACY = {"accuracy": lambda y, k, _: metrics.accuracy(y, k)}


def right_or_wrong(right):
    """Targets and predictions of one class of two, right where said."""
    y = np.zeros(len(right), dtype=int)
    return y, (~np.asarray(right, dtype=bool)).astype(int), np.tile([0.5, 0.5], (len(right), 1))


def test_gap_by_hand():
    right = [1, 1, 1, 1, 1, 0, 1, 0, 0]
    values = ["A"] * 4 + ["B"] * 2 + ["C"] * 3
    gap = gap_test(ACCURACY, *right_or_wrong(right), values, np.arange(9), n=10)["accuracy"]
    assert (gap.best, gap.worst) == ("A", "C")
    assert gap.size == pytest.approx(2 / 3)
    lower = gap_test(
        {"mae": lambda y, k, _: metrics.grade_error(y, k)}, *right_or_wrong(right), values, np.arange(9), n=10
    )["mae"]
    assert (lower.best, lower.worst) == ("A", "C")


def test_p_value_of_two_groups_is_fishers():
    """All right against all wrong, four each: 2 of the 70 ways to deal them are as far apart."""
    gap = gap_test(ACCURACY, *right_or_wrong([1] * 4 + [0] * 4), ["A"] * 4 + ["B"] * 4, np.arange(8), n=4000)
    assert gap["accuracy"].p_value == pytest.approx(2 / 70, abs=0.01)


def p_values_under_the_null(rng, slides_each, by_patient):
    found = []
    for trial in range(150):
        right = np.repeat(rng.random(60) < 0.7, slides_each)
        site = np.repeat(rng.choice(["A", "B", "C"], 60), slides_each)
        who = np.repeat(np.arange(60), slides_each) if by_patient else np.arange(60 * slides_each)
        found.append(gap_test(ACCURACY, *right_or_wrong(right), site, who, n=29, seed=trial)["accuracy"].p_value)
    return np.array(found)


def test_p_values_are_even_where_nothing_differs():
    rng = np.random.default_rng(0)
    p = p_values_under_the_null(rng, 3, by_patient=True)
    for level in (0.1, 0.5, 0.9):
        assert abs(np.mean(p <= level) - level) < 3 * np.sqrt(level * (1 - level) / 150) + 0.02
    assert np.mean(p_values_under_the_null(rng, 3, by_patient=False) <= 0.1) > 0.25  # slides are not patients


def test_a_site_with_harder_grades_is_not_called_worse():
    """Grade 1 is told apart less often, at every site; site B has mostly grade 1."""
    rng = np.random.default_rng(1)
    found = []
    for trial in range(60):
        site = np.repeat(["A", "B"], 100)
        y = (rng.random(200) < np.where(site == "A", 0.2, 0.8)).astype(int)
        right = rng.random(200) < np.where(y == 1, 0.5, 0.95)
        columns = y, np.where(right, y, 1 - y), np.tile([0.5, 0.5], (200, 1))
        found.append(gap_test(ACCURACY, *columns, site, np.arange(200), n=29, seed=trial)["accuracy"])
    assert np.mean([gap.size for gap in found]) > 0.2
    assert np.mean([gap.p_value <= 0.1 for gap in found]) < 0.2


def test_a_real_difference_is_found():
    rng = np.random.default_rng(2)
    site = np.repeat(["A", "B", "C"], 60)
    y = rng.integers(0, 2, 180)
    right = rng.random(180) < np.where(site == "B", 0.6, 0.92)
    gap = gap_test(ACCURACY, y, np.where(right, y, 1 - y), np.zeros((180, 2)), site, np.arange(180), n=499)["accuracy"]
    assert gap.worst == "B"
    assert gap.p_value < 0.01


def test_scanners_of_one_patient_are_compared():
    rng = np.random.default_rng(3)
    who, scanner = np.repeat(np.arange(80), 2), np.tile(["old", "new"], 80)
    right = rng.random(160) < np.where(scanner == "old", 0.6, 0.95)
    gap = gap_test(ACCURACY, *right_or_wrong(right), scanner, who, n=199)["accuracy"]
    assert gap.worst == "old"
    assert gap.p_value < 0.02


def test_group_and_class_that_are_one_cannot_be_tested():
    y = np.repeat([0, 1], 20)
    gap = gap_test(ACCURACY, y, np.zeros(40, int), np.zeros((40, 2)), np.where(y, "A", "B"), np.arange(40), n=19)
    assert gap["accuracy"].size == 1
    assert np.isnan(gap["accuracy"].p_value)


def test_metrics_that_a_group_does_not_define():
    y = np.array([0, 1, 0, 1, 0, 1, 1, 1])
    values = ["A"] * 2 + ["B"] * 4 + ["C"] * 2
    p = np.stack([1 - np.linspace(0.1, 0.8, 8), np.linspace(0.1, 0.8, 8)], axis=1)
    auroc = {"auroc": lambda t, _, q: metrics.macro_auroc(t, q)}
    found = gap_test(auroc, y, y, p, values, np.arange(8), n=19)["auroc"]
    assert {found.best, found.worst} == {"A", "B"}
    assert found.size == pytest.approx(0.25)
    rows = np.array([0, 1, 6, 7])
    assert gap_test(auroc, y[rows], y[rows], p[rows], np.array(values)[rows], rows, n=19) == {}


def test_order_of_slides_and_names_do_not_matter():
    rng = np.random.default_rng(4)
    right, site, who = rng.random(90) < 0.7, rng.choice(["A", "B"], 90), np.arange(90) // 3
    other = rng.permutation(90)
    columns = right_or_wrong(right)
    first = gap_test(ACCURACY, *columns, site, who, n=99)
    assert first == gap_test(ACCURACY, *(c[other] for c in columns), site[other], who[other], n=99)


def test_over_metrics_by_enumeration():
    """p over two metrics is the share of draws, the seen one among them, in which one is as far from its mean."""
    gaps = np.array([[3.0, 1.0], [2.0, 4.0], [1.0, 2.0], [0.0, 3.0]])
    each, over = _p_values(gaps)
    np.testing.assert_allclose(each, [1 / 4, 4 / 4])
    # Off the mean of their column, the furthest of each row: 1.5 (3 of 1.5), 1.5 (4 of 2.5), -0.5 and 0.5.
    np.testing.assert_allclose(over, [2 / 4, 4 / 4])


def test_over_metrics_keeps_the_level():
    measures = {
        **ACCURACY,
        "mae": lambda y, k, _: metrics.grade_error(y, k),
        "brier": lambda y, _, p: metrics.brier(y, p),
    }
    rng, least, over = np.random.default_rng(6), [], []
    for trial in range(200):
        y, p = rng.integers(0, 3, 40), rng.dirichlet([1, 1, 1], 40)
        found = gap_test(measures, y, p.argmax(axis=1), p, rng.choice(["A", "B"], 40), np.arange(40), n=39, seed=trial)
        least.append(min(gap.p_value for gap in found.values()))
        over.append(min(gap.over_metrics for gap in found.values()))
    # 10 % of 200 are 20, with a standard deviation of 4.2.
    assert 8 <= np.sum(np.array(over) <= 0.1) <= 33
    assert np.sum(np.array(least) <= 0.1) > 1.3 * np.sum(np.array(over) <= 0.1)
