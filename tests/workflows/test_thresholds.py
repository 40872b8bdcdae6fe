import numpy as np
import pytest

from mil.cohort import Cohort
from mil.operating_points import Goal
from workflows.prediction_table import Judged
from workflows.thresholds import operating_points
from wsi.errors import UsageError

SENSITIVE = Goal("sensitivity", 1.0)


def judged(targets, scores, fold=None, patients=None, classes=("benign", "tumour")):
    names = tuple(f"s{i}" for i in range(len(targets)))
    p = np.stack([1 - np.array(scores), scores], axis=1)
    cohort = Cohort(names, patients or names, ("",) * len(names), tuple(classes[k] for k in targets))
    return Judged("class", classes, names, patients or names, np.array(targets), p.argmax(axis=1), p, fold, cohort)


def test_by_hand_from_the_other_fold():
    # Fold a calls from .6 on, the lowest positive of b; fold b from .4 on.
    one = judged([0, 1, 1, 0, 0, 1, 1], [0.7, 0.4, 0.9, 0.3, 0.5, 0.6, 0.8], tuple("aaabbbb"))
    (found,) = operating_points(one, [SENSITIVE], n=100)
    assert found.thresholds == (0.4, 0.6)
    assert found.sensitivity.estimate == 3 / 4
    assert found.specificity.estimate == 1 / 3
    assert "threshold 0.400 to 0.600" in str(found)
    assert found.to_dict()["slides_without_threshold"] == 0


def test_from_training_slides():
    training = judged([0, 1, 1], [0.1, 0.35, 0.9])
    (found,) = operating_points(judged([0, 1, 1, 0], [0.34, 0.36, 0.2, 0.8]), [SENSITIVE], training, n=100)
    assert found.thresholds == (0.35, 0.35)
    assert (found.sensitivity.estimate, found.specificity.estimate) == (0.5, 0.5)


def test_intervals_are_by_patient_and_of_one_side():
    one = judged([1] * 6 + [0] * 4, [0.9, 0.9, 0.9, 0.2, 0.2, 0.2] + [0.1] * 4, patients=tuple("aaabbbcdef"))
    (found,) = operating_points(one, [SENSITIVE], judged([1, 0], [0.5, 0.4]), n=100)
    assert (found.sensitivity.n_groups, found.specificity.n_groups) == (2, 4)
    assert found.specificity.low == pytest.approx(0.025 ** (1 / 4))


def test_slides_without_a_threshold_are_counted_and_left_out():
    one = judged([1, 1, 0, 0], [0.9, 0.8, 0.1, 0.2], tuple("aabb"))  # for fold a no other fold has a positive
    (found,) = operating_points(one, [SENSITIVE], n=100)
    assert found.without == 2
    assert np.isnan(found.sensitivity.estimate)
    assert found.specificity.estimate == 1
    assert str(found).endswith("2 slides without a threshold left out")


def test_a_question_without_any_threshold_is_left_out():
    assert operating_points(judged([0, 0], [0.1, 0.2], tuple("ab")), [SENSITIVE], n=100) == ()


def test_other_classes_are_refused():
    training = judged([0, 1], [0.1, 0.9], classes=("benign", "cancer"))
    with pytest.raises(UsageError, match="have the classes benign, cancer, the predictions the classes benign, tumour"):
        operating_points(judged([0, 1], [0.1, 0.9]), [SENSITIVE], training)
