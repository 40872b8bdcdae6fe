"""A section that is in two folds, or counts for two patients, stops a training and is named."""

import csv

import numpy as np
import pytest

from mil.testing import toy_card, write_store
from workflows.training import prepare
from workflows.training_config import TrainConfig
from wsi.errors import PatientLeakError

TILES = 150


@pytest.fixture
def cohort(tmp_path):
    """Eight slides of noise; the last is the first with other noise on top, under another name."""
    rng = np.random.default_rng(0)
    slides = {f"S{number}": rng.normal(size=(TILES, 128)) for number in range(7)}
    slides["copy"] = slides["S0"] + 0.05 * rng.normal(size=(TILES, 128))
    for name, features in slides.items():
        write_store(tmp_path / "stores", name, features.astype(np.float16), toy_card(dim=128))
    return tmp_path


def config(folder, patients, **options):
    with (folder / "labels.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["slide_id", "label", "patient_id"])
        for number, name in enumerate(["S0", "S1", "S2", "S3", "S4", "S5", "S6", "copy"]):
            rows.writerow([name, number % 2, patients.get(name, name)])
    return TrainConfig(folder / "stores", folder / "labels.csv", folder / "model", "mean", folds=2, **options)


def test_a_section_of_two_patients_stops_the_training_and_is_named(cohort):
    with pytest.raises(PatientLeakError, match=r"S0 and copy show the same section.*--allow-duplicates") as caught:
        prepare(config(cohort, {}), print)
    assert "\n" not in str(caught.value)


def test_a_section_of_one_patient_is_in_one_fold_and_may_stay(cohort):
    assert not [note for note in prepare(config(cohort, {"copy": "S0"}), print).cohort.notes if "section" in note]


def test_duplicates_that_are_allowed_are_noted_with_the_model(cohort):
    heard = []
    training = prepare(config(cohort, {}, allow_duplicates=True), heard.append)
    assert [note for note in training.cohort.notes if "S0 and copy show the same section" in note]
    assert [line for line in heard if line.startswith("allowed: slides S0 and copy")]
