import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_curve

from mil.metrics import sensitivity, specificity
from mil.operating_points import (
    Goal,
    cross_fitted_thresholds,
    threshold_for_sensitivity,
    threshold_for_specificity,
)
from wsi.errors import UsageError

positives = np.array([0, 0, 0, 1, 0, 1, 1, 1, 1], bool)
nine_scores = np.array([0.1, 0.2, 0.3, 0.3, 0.5, 0.5, 0.7, 0.8, 0.9])


def test_sensitivity_by_hand() -> None:
    # Positives at .3, .5, .7, .8, .9. Four of five are .8, and .81 needs all five.
    assert threshold_for_sensitivity(positives, nine_scores, 0.8) == 0.5
    assert threshold_for_sensitivity(positives, nine_scores, 0.81) == 0.3
    assert threshold_for_sensitivity(positives, nine_scores, 1.0) == 0.3
    assert threshold_for_sensitivity(positives, nine_scores, 0.01) == 0.9


def test_specificity_by_hand() -> None:
    # Negatives at .1, .2, .3, .5. Three of four are .75: just above .3, so that the tie at .3 is not called.
    found = threshold_for_specificity(positives, nine_scores, 0.75)
    assert 0.3 < found < 0.3 + 1e-9
    assert specificity(positives, nine_scores >= found) == 0.75
    assert sensitivity(positives, nine_scores >= found) == 0.8
    assert specificity(positives, nine_scores >= threshold_for_specificity(positives, nine_scores, 0.76)) == 1


def test_rounding_asks_for_no_slide_more() -> None:
    scores = np.arange(20.0)
    everything = np.ones(20, bool)
    assert threshold_for_sensitivity(everything, scores, 0.95) == 1  # .95 x 20 is 19
    assert threshold_for_specificity(~everything, scores, 0.95) == pytest.approx(18)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("decimals", [1, 8])
def test_the_best_threshold_of_scikit_learns_curve(share: float, decimals: int) -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(200) < 0.4
    scores = np.round(rng.normal(size=200) + positive, decimals)
    fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
    called = scores >= threshold_for_sensitivity(positive, scores, share)
    assert sensitivity(positive, called) == recall_score(positive, called) >= share
    assert 1 - specificity(positive, called) == pytest.approx(fpr[tpr >= share].min())
    called = scores >= threshold_for_specificity(positive, scores, share)
    assert specificity(positive, called) == recall_score(~positive, ~called) >= share
    assert sensitivity(positive, called) == pytest.approx(tpr[fpr <= 1 - share + 1e-12].max())


def test_without_an_answer_there_is_no_threshold() -> None:
    nobody = np.zeros(3, bool)
    assert np.isnan(threshold_for_sensitivity(nobody, np.arange(3.0)))
    assert np.isnan(threshold_for_specificity(~nobody, np.arange(3.0)))
    assert np.isnan(sensitivity(nobody, nobody))
    assert np.isnan(specificity(~nobody, nobody))


def test_a_fold_does_not_choose_its_own_threshold() -> None:
    fold = np.array([0, 0, 0, 1, 1, 1])
    positive = np.array([0, 1, 1, 0, 1, 1], bool)
    scores = np.array([0.1, 0.4, 0.9, 0.2, 0.6, 0.8])
    found = cross_fitted_thresholds(Goal("sensitivity", 1.0).threshold, positive, scores, fold)
    assert found.tolist() == [0.6, 0.6, 0.6, 0.4, 0.4, 0.4]
    changed = scores.copy()
    changed[fold == 0] += 5
    again = cross_fitted_thresholds(Goal("sensitivity", 1.0).threshold, positive, changed, fold)
    assert again[fold == 0].tolist() == [0.6, 0.6, 0.6]


def test_a_fold_without_positives_elsewhere_has_no_threshold() -> None:
    found = cross_fitted_thresholds(threshold_for_sensitivity, [1, 0, 0], [0.3, 0.2, 0.1], [0, 1, 2])
    assert np.isnan(found).tolist() == [True, False, False]


def test_goals() -> None:
    assert str(Goal("sensitivity", 0.95)) == "sensitivity 0.95"
    assert Goal("specificity", 0.75).threshold(positives, nine_scores) == threshold_for_specificity(
        positives, nine_scores, 0.75
    )
    with pytest.raises(UsageError, match="found 95"):
        Goal("sensitivity", 95)
