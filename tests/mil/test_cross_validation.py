import numpy as np
import pytest

from mil.calibration_choice import calibration_methods, choose_calibration, load_calibrator
from mil.cross_validation import cross_validate
from mil.lit import FitConfig
from mil.network import NetworkSpec, predict
from mil.testing import toy_bag
from wsi.errors import UsageError

SPEC = NetworkSpec("abmil", "corn", 12, 2)
BAGS = [toy_bag(12, seed=number, signal=2.0 * (number % 2)) for number in range(12)]
TARGETS = np.arange(12) % 2
FOLD = np.arange(12) // 2 % 3
FIT = FitConfig(epochs=3, device="cpu")


def test_every_slide_is_predicted_by_the_network_that_has_not_seen_it():
    said = []
    done = cross_validate(SPEC, BAGS, TARGETS, FOLD, FIT, classes=("low", "high"), report=said.append)
    assert len(done.networks) == 3
    for number, one in enumerate(done.held_out):
        logits, attention, _ = predict(done.networks[FOLD[number]], BAGS[number])
        np.testing.assert_array_equal(done.logits[number], logits)
        np.testing.assert_allclose(one.attention, attention, rtol=1e-6)
        assert one.slide_id == BAGS[number].slide_id
        assert one.tile_evidence.shape == (12, 2)
        assert one.label in ("low", "high")
    link = SPEC.build_loss().probabilities
    methods = calibration_methods("class", link)
    for k in range(3):
        rest, own = k != FOLD, k == FOLD
        chosen = choose_calibration(methods, done.logits[rest], TARGETS[rest], FOLD[rest]).calibrator
        np.testing.assert_allclose(done.probabilities[own], chosen.transform(done.logits[own]), rtol=1e-12)
    calibration = done.calibration
    assert (calibration["n_slides"], calibration["n_patients"]) == (12, 12)
    assert set(calibration["log_loss"]) == {"temperature", "vector", "isotonic"}
    truth = done.probabilities[np.arange(12), TARGETS]
    np.testing.assert_allclose(calibration["nll_after"], -np.log(truth).mean())
    _, _, tiles = predict(done.networks[FOLD[5]], BAGS[5])
    expected = load_calibrator(calibration, link).transform(tiles)
    np.testing.assert_allclose(done.held_out[5].tile_evidence, expected, rtol=1e-5)
    assert said[0] == "fold 1 of 3: trained on 8 slides, 4 held out"


def test_slides_of_a_patient_count_as_one_in_the_choice():
    done = cross_validate(SPEC, BAGS, TARGETS, FOLD, FIT, task="grade", patients=[f"P{k}" for k in FOLD])
    assert (done.calibration["n_slides"], done.calibration["n_patients"]) == (12, 3)
    assert "ordinal" in done.calibration["log_loss"]


def test_held_out_labels_do_not_enter_their_prediction():
    """Turning the labels of fold 0 round changes nothing in what the network of fold 0 says."""
    turned = np.where(FOLD == 0, 1 - TARGETS, TARGETS)
    first, second = (cross_validate(SPEC, BAGS, targets, FOLD, FIT) for targets in (TARGETS, turned))
    np.testing.assert_array_equal(first.logits[FOLD == 0], second.logits[FOLD == 0])
    assert not np.array_equal(first.logits[FOLD == 1], second.logits[FOLD == 1])


@pytest.mark.parametrize("fold", [np.zeros(12, int), np.arange(12) // 2 % 3 + 1])
def test_bad_folds_are_refused(fold):
    with pytest.raises(UsageError, match="numbered from 0"):
        cross_validate(SPEC, BAGS, TARGETS, fold, FIT)
