import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, log_loss, roc_auc_score

from mil.selection import Standing, metric_name, standing


def made_up(n=40, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, n), rng.dirichlet(np.ones(classes), n)


def test_grades_are_judged_by_kappa():
    targets, probabilities = made_up()
    found = standing("grade", targets, probabilities)
    kappa = cohen_kappa_score(targets, probabilities.argmax(axis=1), weights="quadratic")
    assert found.metric == pytest.approx(kappa)
    assert found.minus_log_loss == pytest.approx(-log_loss(targets, probabilities))
    assert metric_name("grade", 3) == "qwk"


def test_classes_are_judged_by_auroc():
    targets, probabilities = made_up(classes=2)
    assert standing("class", targets, probabilities).metric == pytest.approx(
        roc_auc_score(targets, probabilities[:, 1])
    )
    assert metric_name("class", 2) == "auroc"


def test_log_loss_decides_between_equals():
    targets = np.array([0, 0, 1, 1])
    right = np.eye(2)[targets]
    sure, unsure = (0.5 + share * (right - 0.5) for share in (0.8, 0.2))
    assert standing("class", targets, sure) > standing("class", targets, unsure)
    assert Standing(0.9, -2.0) > Standing(0.8, -0.1)


def test_one_class_alone_leaves_it_to_the_log_loss():
    targets = np.zeros(4, dtype=np.int64)
    sure, unsure = (np.tile([1 - p, p], (4, 1)) for p in (0.1, 0.4))
    assert standing("class", targets, sure) > standing("class", targets, unsure)
    assert standing("class", targets, sure).to_dict()["metric"] is None
