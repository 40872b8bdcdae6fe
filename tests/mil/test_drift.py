"""Statistics against scipy, p-values against what they promise where nothing has changed."""

import numpy as np
import pytest
from scipy import stats

from mil.drift import FEWEST_PATIENTS, JOINT, Change, compare_groups, holm, stability_index


def groups(seed: int = 0, shift: float = 0.0, each: int = 30, per_patient: int = 2) -> tuple[np.ndarray, ...]:
    """Values with an effect of the patient; which are later; whose they are."""
    rng = np.random.default_rng(seed)
    later = np.repeat([False, True], each * per_patient)
    patients = np.repeat(np.arange(2 * each), per_patient)
    values = rng.normal(size=2 * each)[patients] + 0.3 * rng.normal(size=len(later)) + shift * later
    return values, later, np.char.add("P", patients.astype(str))


def one(values: np.ndarray, later: np.ndarray, patients: np.ndarray, permutations: int = 199, seed: int = 0) -> Change:
    return compare_groups({"x": values}, {}, later, patients, permutations=permutations, seed=seed)[0]


@pytest.mark.parametrize("digits", [8, 0])
def test_ks_is_that_of_scipy_also_with_ties(digits: int) -> None:
    values, later, patients = groups(shift=0.4)
    values = np.round(values, digits)
    assert one(values, later, patients).statistic == pytest.approx(stats.ks_2samp(values[later], values[~later])[0])


def test_chi2_is_that_of_scipy() -> None:
    _, later, patients = groups()
    labels = np.random.default_rng(1).choice(["1", "2", "3"], len(later))
    (change,) = compare_groups({}, {"grade": labels}, later, patients, permutations=19)
    table = [[np.sum(labels[side] == kind) for kind in "123"] for side in (later, ~later)]
    assert change.statistic == pytest.approx(stats.chi2_contingency(table, correction=False)[0])
    assert change.labels == ("1", "2", "3")


def test_p_values_are_uniform_where_nothing_changed_though_patients_have_several_slides() -> None:
    p = [one(*groups(seed, each=12, per_patient=4), permutations=99, seed=seed).p_value for seed in range(200)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.1) < 0.16


def test_a_shift_is_found_and_a_tiny_one_does_not_matter() -> None:
    assert one(*groups(shift=2.0), permutations=999).drifted(0.05)
    assert not one(*groups(shift=0.0), permutations=999).drifted(0.05)
    rng = np.random.default_rng(0)
    later = np.repeat([False, True], 6000)
    small = one(rng.normal(size=12000) + 0.12 * later, later, np.arange(12000).astype(str), permutations=99)
    assert small.adjusted <= 0.05
    assert small.psi < 0.1
    assert not small.drifted(0.05)


def test_the_joint_test_sees_what_no_single_measure_shows() -> None:
    rng = np.random.default_rng(0)
    later, patients = np.repeat([False, True], 60), np.arange(120).astype(str)
    x, y = rng.normal(size=(2, 120))
    numbers = {"x": x, "y": np.where(later, -x, x) + 0.1 * y}
    found = {change.name: change for change in compare_groups(numbers, {}, later, patients, joint=("x", "y"))}
    assert found[JOINT].drifted(0.05)
    assert not found["x"].drifted(0.05)
    assert not found["y"].drifted(0.05)


def test_few_patients_are_not_judged_whatever_their_slides() -> None:
    values, later, patients = groups(each=FEWEST_PATIENTS - 1, per_patient=20, shift=9)
    change = one(values, later, patients)
    assert change.patients == (FEWEST_PATIENTS - 1, FEWEST_PATIENTS - 1)
    assert not change.judged
    assert np.isnan(change.adjusted)
    assert not change.drifted(0.05)


def test_unknown_values_are_left_out() -> None:
    values, later, patients = groups()
    holes = np.where(np.arange(len(values)) % 4 == 0, np.nan, values)
    known = np.isfinite(holes)
    assert one(holes, later, patients).statistic == one(values[known], later[known], patients[known]).statistic
    empty = one(np.full(len(values), np.nan), later, patients)
    assert (empty.patients, empty.judged) == ((0, 0), False)


def test_constant_values_are_no_change() -> None:
    values, later, patients = groups()
    found = compare_groups({"x": np.ones(len(values))}, {}, later, patients, joint=("x",), permutations=49)
    assert [change.p_value for change in found] == [1.0, 1.0]
    assert found[0].psi == 0


def test_the_order_of_slides_changes_no_statistic() -> None:
    values, later, patients = groups(shift=0.5)
    order = np.random.default_rng(1).permutation(len(values))
    there, back = one(values, later, patients), one(values[order], later[order], patients[order])
    assert back.statistic == pytest.approx(there.statistic)
    assert back.p_value == there.p_value
    np.testing.assert_array_equal(back.shares, there.shares)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert np.isnan(holm([np.nan, 0.01])[0])
    assert holm([np.nan, 0.01])[1] == pytest.approx(0.01)


def test_stability_index_by_hand() -> None:
    shares = np.array([[0.5, 0.5], [0.8, 0.2]])
    raw = 0.3 * np.log(0.8 / 0.5) + -0.3 * np.log(0.2 / 0.5)
    assert stability_index(shares, (10**7, 10**7)) == pytest.approx(raw, rel=1e-5)
    assert stability_index(shares[[0, 0]], (50, 50)) == 0
    assert np.isfinite(stability_index(np.array([[1.0, 0.0], [0.0, 1.0]]), (20, 20)))
