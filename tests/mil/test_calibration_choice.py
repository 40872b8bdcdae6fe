import json

import numpy as np
import pytest

from mil.calibration import TemperatureScaling, cross_fitted
from mil.calibration_choice import (
    calibration_methods,
    choose_calibration,
    held_out_probabilities,
    load_calibrator,
    nested_probabilities,
)
from mil.links import cumulative, softmax
from mil.metrics import log_loss
from wsi.errors import RecipeMismatchError, UsageError


def drawn(n, slope=1.0, shift=(0.0, 0.0), seed=0):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, 1)) + np.array([1.5, -1.5])
    truth = cumulative(slope * logits + np.array(shift))
    return logits, (rng.random((n, 1)) > np.cumsum(truth, axis=1)).sum(axis=1), rng.permutation(n) % 5


def test_methods_by_task_the_plainest_first():
    assert list(calibration_methods("grade", cumulative)) == ["temperature", "ordinal", "vector", "isotonic"]
    assert list(calibration_methods("class", softmax)) == ["temperature", "vector", "isotonic"]
    assert calibration_methods("grade", cumulative)["isotonic"]().ordered
    assert not calibration_methods("class", softmax)["isotonic"]().ordered


def test_temperature_where_it_suffices():
    chosen = []
    for seed in range(10):
        logits, targets, fold = drawn(150, 0.5, seed=seed)
        chosen.append(choose_calibration(calibration_methods("grade", cumulative), logits, targets, fold).method)
    assert chosen.count("temperature") >= 8


def test_ordinal_where_the_limits_are_off():
    logits, targets, fold = drawn(600, 0.5, (1.5, 1.5))
    methods = calibration_methods("grade", cumulative)
    choice = choose_calibration(methods, logits, targets, fold)
    assert choice.method == "ordinal"
    assert choice.log_loss["ordinal"] < choice.log_loss["temperature"] - 0.05
    assert choice.note.startswith("ordinal: the plainest within one standard error")
    np.testing.assert_allclose(
        choice.calibrator.transform(logits), methods["ordinal"]().fit(logits, targets).transform(logits)
    )


def test_losses_are_those_of_slides_not_fitted_on():
    logits, targets, fold = drawn(120)
    methods = calibration_methods("grade", cumulative)
    choice = choose_calibration(methods, logits, targets, fold)
    for name, make in methods.items():
        expected = [
            log_loss(targets[fold == k], make().fit(logits[fold != k], targets[fold != k]).transform(logits[fold == k]))
            for k in range(5)
        ]
        np.testing.assert_allclose(choice.log_loss[name], np.average(expected, weights=np.bincount(fold)))


def test_held_out_temperature_is_what_training_shows():
    logits, targets, fold = drawn(100)
    found = held_out_probabilities(lambda: TemperatureScaling(cumulative), logits, targets, fold)
    np.testing.assert_array_equal(found, cross_fitted(cumulative, logits, targets, fold))


def test_no_label_of_a_fold_touches_its_own_probabilities():
    logits, targets, fold = drawn(100, 0.5, (1.5, 1.5))
    methods = calibration_methods("grade", cumulative)
    found = nested_probabilities(methods, logits, targets, fold)
    turned = np.where(fold == 2, 2 - targets, targets)
    other = nested_probabilities(methods, logits, turned, fold)
    np.testing.assert_array_equal(found[fold == 2], other[fold == 2])
    assert np.abs(found - other)[fold != 2].max() > 1e-3


def test_choice_by_its_own_slides_would_flatter():
    """Labels without any relation to the logits: a nested figure is no better than the cohort's mixture."""
    rng = np.random.default_rng(8)
    logits, targets, fold = rng.normal(size=(200, 2)), rng.integers(0, 3, 200), np.arange(200) % 5
    logits = -np.sort(-logits, axis=1)
    methods = calibration_methods("grade", cumulative)
    assert log_loss(targets, nested_probabilities(methods, logits, targets, fold)) > np.log(3) - 0.01
    fitted = methods["isotonic"]().fit(logits, targets).transform(logits)
    assert log_loss(targets, fitted) < np.log(3) - 0.02


def test_slides_of_a_patient_do_not_count_as_independent():
    """Ten copies of each slide make no difference surer, if they are known to be of one patient."""
    logits, targets, fold = drawn(60, 1, (1.0, 1.0), seed=1)
    many = [np.repeat(part, 10, axis=0) for part in (logits, targets, fold)]
    methods = {name: make for name, make in calibration_methods("grade", cumulative).items() if name != "isotonic"}
    by_patient = choose_calibration(methods, *many, patients=np.repeat(np.arange(60), 10))
    by_slide = choose_calibration(methods, *many)
    assert by_patient.method == "temperature"
    assert by_slide.method == "ordinal"
    np.testing.assert_allclose(by_patient.log_loss["ordinal"], by_slide.log_loss["ordinal"])


def test_order_of_slides_does_not_matter():
    logits, targets, fold = drawn(80)
    other = np.random.default_rng(1).permutation(80)
    methods = calibration_methods("grade", cumulative)
    found = nested_probabilities(methods, logits, targets, fold)
    again = nested_probabilities(methods, logits[other], targets[other], fold[other])
    np.testing.assert_allclose(again, found[other], atol=1e-6)


def test_one_and_two_folds():
    logits, targets, fold = drawn(40)
    methods = calibration_methods("grade", cumulative)
    choice = choose_calibration(methods, logits, targets, np.zeros(40, int))
    assert choice.method == "temperature"
    assert choice.log_loss == {}
    assert "nothing to compare" in choice.note
    np.testing.assert_array_equal(
        nested_probabilities(methods, logits, targets, fold % 2), cross_fitted(cumulative, logits, targets, fold % 2)
    )
    with pytest.raises(UsageError, match="at least two; found 1"):
        nested_probabilities(methods, logits, targets, np.zeros(40, int))


def test_a_class_that_only_one_fold_holds():
    logits, targets, fold = drawn(60, seed=9)
    fold = np.where(targets == 2, 0, fold)
    for task in ("grade", "class"):
        found = nested_probabilities(calibration_methods(task, cumulative), logits, targets, fold)
        assert np.isfinite(log_loss(targets, found))
        np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("task", ["grade", "class"])
def test_every_method_is_the_same_from_its_plain_values(task):
    logits, targets, fold = drawn(70)
    for name, make in calibration_methods(task, cumulative).items():
        choice = choose_calibration({name: make}, logits, targets, fold)
        saved = json.loads(json.dumps(choice.to_dict()))
        assert saved["method"] == name
        found = load_calibrator(saved, cumulative).transform(logits)
        np.testing.assert_array_equal(found, choice.calibrator.transform(logits))


def test_the_calibration_of_older_model_folders_is_known_and_that_of_newer_ones_refused():
    logits, _, _ = drawn(20)
    saved = {"method": "temperature", "temperature": 2.0, "n_slides": 20, "nll_before": 1.0}
    np.testing.assert_array_equal(load_calibrator(saved, cumulative).transform(logits), cumulative(logits / 2))
    with pytest.raises(RecipeMismatchError, match="calibration by 'beta'; this program knows temperature, ordinal"):
        load_calibrator({"method": "beta"}, cumulative)
