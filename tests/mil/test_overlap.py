import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from mil.overlap import held_out_iou, iou


def test_whole_tiles_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    drawn, scores = rng.random(50) < 0.3, np.round(rng.random(50), 1)
    thresholds = np.linspace(0, 1, 11)
    expected = [jaccard_score(drawn, scores >= one) for one in thresholds]
    np.testing.assert_allclose(iou(drawn, scores, thresholds), expected)


def test_parts_of_tiles_by_hand() -> None:
    # Above .5: tiles of cover 1 and .5, so 1.5 of 2 tiles and the .25 that is missed.
    assert iou([1, 0.5, 0.25, 0], [0.9, 0.5, 0.4, 0.1], [0.5]).tolist() == pytest.approx([1.5 / 2.25])
    assert iou([1, 0], [0.9, 0.1], [2.0, -1.0]).tolist() == [0, 0.5]  # nothing called, and all


def test_nothing_drawn_and_nothing_called() -> None:
    found = iou([0, 0], [0.2, 0.1], [0.5, 0.15])
    assert np.isnan(found[0])
    assert found[1] == 0


def test_no_patient_chooses_its_own_threshold() -> None:
    table = np.array([[0.9, 0.1, 0.5], [0.8, 0.2, 0.5], [0.1, 0.9, 0.5]])
    values, chosen = held_out_iou(table, ["A", "A", "B"])
    assert chosen.tolist() == [1, 1, 0]  # A by B's best, B by A's
    assert values.tolist() == [0.1, 0.2, 0.1]


def test_one_patient_has_no_other() -> None:
    assert np.isnan(held_out_iou(np.ones((2, 3)), ["A", "A"])[0]).all()
