import json

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score

from mil.folds import spread
from mil.site_probe import FOLDS, RIDGE, probe


def cohort(shift, patients=60, dim=30, seed=0):
    """Mean features of one to three slides a patient; `shift` moves those of site B and, elsewhere, of site C."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    site = rng.choice(list("ABC"), patients)[who]
    own = rng.normal(size=(patients, dim))[who]
    x = own + 0.5 * rng.normal(size=(len(who), dim))
    x[:, 0] += shift * (site == "B")
    x[:, 1] += shift * (site == "C")
    return x, site, np.array([f"P{number:03d}" for number in who])


@pytest.mark.parametrize("dim", [30, 300])
def test_predictions_are_those_of_scikit_learn(dim):
    x, site, who = cohort(3.0, dim=dim)
    found = probe("site", x, site, who, n=1)
    fold = spread(who.tolist(), [("",) * len(who)], FOLDS, 0)
    marks, guess = np.eye(3)[np.unique(site, return_inverse=True)[1]], np.zeros(len(site), int)
    for k in range(FOLDS):
        seen, held = fold != k, fold == k
        scaled = (x - x[seen].mean(axis=0)) / x[seen].std(axis=0) / np.sqrt(dim)
        fit = Ridge(alpha=RIDGE).fit(scaled[seen], marks[seen] / marks[seen].mean(axis=0))
        guess[held] = fit.predict(scaled[held]).argmax(axis=1)
    expected = balanced_accuracy_score(np.unique(site, return_inverse=True)[1], guess)
    assert found.accuracy.estimate == pytest.approx(expected, abs=1e-12)


def test_a_planted_stain_is_found():
    found = probe("site", *cohort(4.0), n=99)
    assert found.accuracy.low > 0.6
    assert found.p_value == 0.01
    assert found.found()
    assert found.chance == pytest.approx(1 / 3)
    assert (found.groups, found.patients, found.accuracy.n_groups) == (("A", "B", "C"), 60, 60)
    assert str(found).startswith("the features tell the site of a slide: balanced accuracy 0.")


def test_false_alarms_are_those_stated():
    p_values = [
        probe("site", *cohort(0.0, 48, 6, seed), n=19, seed=seed, least_patients=5, resamples=2).p_value
        for seed in range(200)
    ]
    # Exact: 5 % and 50 % of 200, 10 and 100, with a standard deviation of 3.1 and 7.1.
    assert np.sum(np.array(p_values) <= 0.05) <= 19
    assert 75 <= np.sum(np.array(p_values) <= 0.5) <= 125


def test_a_patient_is_not_recognised_in_place_of_a_site():
    # Each patient looks like nobody else and has many slides: without holding out whole patients this were perfect.
    rng = np.random.default_rng(3)
    who = np.repeat(np.arange(40), 6)
    x = 10 * rng.normal(size=(40, 60))[who] + 0.1 * rng.normal(size=(240, 60))
    found = probe("site", x, np.array(list("AB"))[who % 2], [f"P{k}" for k in who], n=19)
    assert found.accuracy.low < 0.5 < found.accuracy.high
    assert found.p_value > 0.05


def test_small_groups_are_named_and_not_asked_for():
    x, site, who = cohort(4.0)
    site = np.where(who < "P004", "tiny", site)
    site[-1] = ""
    found = probe("site", x, site, who, n=9)
    assert found.notes == ("site: fewer than 10 patients, not asked for: tiny (4)",)
    assert found.groups == ("A", "B", "C")


def test_one_group_is_nothing_to_tell():
    found = probe("site", np.ones((30, 4)), ["A"] * 30, [str(k) for k in range(30)])
    assert found.accuracy is None
    assert not found.found()
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["balanced_accuracy"] is None


def test_features_that_do_not_vary_tell_nothing():
    rng = np.random.default_rng(0)
    found = probe("site", np.ones((40, 4)), rng.choice(list("AB"), 40), [str(k) for k in range(40)], n=19)
    assert found.accuracy.estimate == 0.5
    assert found.p_value > 0.05


def test_rows_in_another_order_give_the_same():
    x, site, who = cohort(1.0)
    rows = np.random.default_rng(1).permutation(len(x))
    found, other = probe("site", x, site, who, n=19), probe("site", x[rows], site[rows], who[rows], n=19)
    assert other.accuracy.estimate == found.accuracy.estimate
