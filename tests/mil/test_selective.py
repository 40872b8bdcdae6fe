import itertools

import numpy as np
import pytest
from scipy.stats import beta

from mil.selective import abstention_threshold, aurc, binomial_bound, excess_aurc, risk_coverage
from wsi.errors import UsageError


def test_curve_by_hand():
    found = risk_coverage(np.array([0.2, 0.9, 0.5, 0.7]), np.array([1, 0, 0, 1]))
    np.testing.assert_allclose(found.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found.risk, [0, 1 / 2, 1 / 3, 1 / 2])
    assert found.threshold.tolist() == [0.9, 0.7, 0.5, 0.2]
    np.testing.assert_allclose(found.aurc, (1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_ties_are_the_mean_over_their_orders():
    confidence, loss = np.array([0.9, 0.5, 0.5, 0.5, 0.1]), np.array([0, 1, 0, 2, 1.0])
    every = []
    for order in itertools.permutations([1, 2, 3]):
        ranked = loss[[0, *order, 4]]
        every.append(np.cumsum(ranked) / np.arange(1, 6))
    np.testing.assert_allclose(risk_coverage(confidence, loss).risk, np.mean(every, axis=0))
    other = [3, 1, 4, 0, 2]
    np.testing.assert_allclose(risk_coverage(confidence[other], loss[other]).risk, np.mean(every, axis=0))


def test_confidence_without_meaning_has_the_risk_of_all():
    rng = np.random.default_rng(0)
    wrong = rng.random(20_000) < 0.3
    assert aurc(rng.random(20_000), wrong) == pytest.approx(0.3, abs=0.02)
    assert aurc(np.zeros(20_000), wrong) == pytest.approx(wrong.mean())


def test_excess_is_nought_for_a_confidence_that_knows():
    wrong = np.array([0, 0, 1, 0, 1])
    assert excess_aurc(np.array([5.0, 4, 2, 3, 1]), wrong) == pytest.approx(0)
    assert excess_aurc(np.array([5.0, 4, 6, 3, 1]), wrong) > 0
    # Geifman et al. 2019: the best possible area tends to r + (1 - r) ln(1 - r).
    many = np.arange(100_000) < 20_000
    assert aurc(-many.astype(float), many) == pytest.approx(0.2 + 0.8 * np.log(0.8), abs=1e-4)


def test_no_slides_one_slide_and_nan():
    assert np.isnan(aurc(np.zeros(0), np.zeros(0)))
    assert aurc(np.array([0.5]), np.array([1])) == 1
    with pytest.raises(UsageError, match="not a number"):
        risk_coverage(np.array([np.nan]), np.array([0]))


@pytest.mark.parametrize(("errors", "count", "delta"), [(0, 10, 0.05), (3, 50, 0.05), (40, 1000, 0.001), (9, 10, 0.1)])
def test_bound_is_the_one_of_clopper_and_pearson(errors, count, delta):
    assert binomial_bound(errors, count, delta) == pytest.approx(beta.ppf(1 - delta, errors + 1, count - errors))
    assert binomial_bound(count, count, delta) == 1
    assert binomial_bound(0, 0, delta) == 1


def made(rng, n):
    confidence = rng.random(n)
    return confidence, rng.random(n) < 0.4 * (1 - confidence)


def test_risk_above_the_threshold_is_kept_as_often_as_said():
    """True risk at confidence >= t is 0.2 (1 - t)."""
    rng = np.random.default_rng(1)
    found = [abstention_threshold(*made(rng, 1000), risk=0.12, delta=0.1) for _ in range(60)]
    true_risk = np.array([0.2 * (1 - one.threshold) if np.isfinite(one.threshold) else 0.0 for one in found])
    assert np.mean(true_risk > 0.12) <= 0.1
    assert np.mean([one.coverage for one in found]) > 0.25
    assert all(one.bound < 0.12 and one.risk < one.bound for one in found if one.coverage)


def test_each_look_spends_its_part_of_delta():
    confidence, wrong = made(np.random.default_rng(3), 1000)
    found = abstention_threshold(confidence, wrong, risk=0.12, delta=0.1)
    graded = confidence >= found.threshold
    count, errors = graded.sum(), wrong[graded].sum()
    assert 0 < count < 1000
    np.testing.assert_allclose([found.coverage, found.risk], [count / 1000, errors / count])
    assert found.bound == pytest.approx(beta.ppf(1 - 0.1 / 10, errors + 1, count - errors))  # 1,001 ends: ten looks


def test_many_slides_give_nearly_all_that_is_possible():
    found = abstention_threshold(*made(np.random.default_rng(2), 20_000), risk=0.1)
    assert found.threshold == pytest.approx(0.5, abs=0.08)
    assert found.coverage == pytest.approx(1 - found.threshold, abs=0.01)


def test_nothing_is_graded_where_no_threshold_will_do():
    found = abstention_threshold(np.linspace(0, 1, 20), np.zeros(20, bool), risk=0.05)
    assert (found.threshold, found.coverage, found.bound) == (float("inf"), 0, 1)  # 20 slides cannot show 5 %
    empty = abstention_threshold(np.zeros(0), np.zeros(0, bool), risk=0.05)
    assert empty.threshold == float("inf")
    with pytest.raises(UsageError, match="risk is 5"):
        abstention_threshold(np.zeros(3), np.zeros(3, bool), risk=5)


def test_slides_of_a_patient_count_once():
    confidence, wrong = np.repeat(np.linspace(0.5, 1, 30), 20), np.zeros(600, bool)
    assert np.isfinite(abstention_threshold(confidence, wrong, 0.05).threshold)
    assert not np.isfinite(
        abstention_threshold(confidence, wrong, 0.05, patients=np.repeat(np.arange(30), 20)).threshold
    )


def test_equal_confidences_stand_or_fall_together():
    found = abstention_threshold(np.repeat([0.9, 0.6], [200, 200]), np.arange(400) >= 390, risk=0.05)
    assert found.threshold in (0.9, 0.6)
    assert found.coverage in (0.5, 1.0)
