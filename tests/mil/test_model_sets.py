"""Small sets by hand: coverage 0.7 takes 3 patients to leave a class out, 0.5 takes one."""

import json

import numpy as np
import pytest

from mil.model_sets import find_set, fit_sets, held_out_cover
from mil.prediction import ClassSet
from wsi.errors import UsageError

CLASSES = ("benign", "tumour")
SEEN = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])  # LAC: 0.1, 0.2, 0.4
TARGETS = np.array([0, 0, 1])


def sets(coverage=0.7, **changes):
    values = {"fold": np.zeros(3, int), "slide_ids": list("abc"), "patients": list("abc"), "seed": 0} | changes
    return json.loads(json.dumps(fit_sets("class", CLASSES, SEEN, TARGETS, coverage=coverage, **values)))


@pytest.mark.parametrize(
    ("coverage", "probabilities", "held"),
    [
        (0.7, (0.7, 0.3), ("benign",)),  # scores 0.3 and 0.7: p = 2/4 and 1/4, kept above 0.3
        (0.7, (0.3, 0.7), ("tumour",)),
        (0.7, (0.4, 0.6), ("tumour",)),  # 0.4 is as bad as one of three: p = 2/4; 0.6 is worse than all
        (0.8, (0.99, 0.01), CLASSES),  # 1/4 is above 0.2: three patients leave nothing out
        (0.7, (0.5, 0.5), ("benign",)),  # both are out; the predicted one stays
    ],
)
def test_classes_by_hand(coverage, probabilities, held):
    each = np.array([probabilities])
    assert find_set(sets(coverage), CLASSES, each, "new", int(each[0].argmax())) == ClassSet(held, coverage)


def test_each_fold_model_is_held_against_its_own_slides():
    """One slide is by the first network, two are by the second: [.4 >= s], and [.1 >= s] + [.2 >= s]."""
    saved = sets(fold=np.array([1, 1, 0]))
    each = np.array([[0.7, 0.3], [0.85, 0.15]])  # benign: .3 and .15: (1 + 1 + 1) / 4; tumour: .7 and .85: 1 / 4
    assert find_set(saved, CLASSES, each, "new", 0).held == ("benign",)
    turned = np.array([[0.3, 0.7], [0.35, 0.65]])  # benign: .7 and .65: 1 / 4; tumour: .3 and .35: (1 + 1) / 4
    assert find_set(saved, CLASSES, turned, "new", 1).held == ("tumour",)
    with pytest.raises(UsageError, match="of 1 fold models"):
        find_set(saved, CLASSES, each[:1], "new", 0)


def test_by_class_only_with_plenty_of_patients():
    probabilities = np.full((8, 2), 0.5)
    targets = np.arange(8) % 2
    people = ["a", "b", "c", "d", "e", "f", "g", "h"]

    def within(patients, wanted=targets):
        made = fit_sets("class", CLASSES, probabilities, wanted, np.zeros(8, int), people, patients, coverage=0.6)
        return made["within"]

    assert within(people) == "class"  # 2 are needed at 60 %, each class has 4
    assert within(["a", "b", "a", "d", "e", "f", "g", "h"]) == "all"  # 3 patients: slides of one count once
    assert within(people, np.zeros(8, int)) == "all"  # a class that nobody has


def test_what_is_said_of_them():
    saved = sets(0.9, patients=["P", "P", "Q"])
    assert (saved["score"], saved["n_slides"], saved["n_patients"]) == ("lac", 3, 2)
    assert saved["promised"] == 0.9  # one network
    assert "2 calibration patients; leaving a class out at 90 % takes 9" in saved["notes"][0]
    two = sets(0.9, fold=np.array([1, 1, 0]))
    assert two["promised"] == pytest.approx(1 - 0.2 - 1.8 * 1 / 5)  # K = 2, P = 3


def test_grades_get_intervals_and_keep_the_predicted_one():
    rng = np.random.default_rng(0)
    seen = rng.dirichlet(np.ones(5), 40)
    targets = np.array([rng.choice(5, p=p) for p in seen])
    names = [f"s{number}" for number in range(40)]
    saved = fit_sets("grade", tuple("12345"), seen, targets, np.zeros(40, int), names, names, seed=3)
    assert saved["score"] == "ordinal"
    for number, one in enumerate(rng.dirichlet(np.ones(5), 20)):
        held = [int(name) for name in find_set(saved, tuple("12345"), one[None], f"n{number}", 4).held]
        assert 5 in held
        assert held == list(range(held[0], held[-1] + 1))


def test_cover_of_held_out_slides_by_hand():
    saved = {"score": "lac", "coverage": 0.5, "slides": {
        "score": [0.1, 0.4, 0.6, 0.9], "stratum": [0, 0, 0, 0], "weight": [1.0, 1.0, 0.5, 0.5]
    }}  # fmt: skip
    # Of P, Q and R, who has two slides: for each slide 1 + the weight of the others' that fit as badly or worse, of 3.
    # P: 3 / 3. Q: (1 + 1) / 3. R at 0.6 and 0.9: 1 / 3, which is below the error of 0.5.
    assert held_out_cover(saved, ["P", "Q", "R", "R"]).tolist() == [True, True, False, False]


def test_cover_of_held_out_slides_is_the_chosen_one_overall():
    rng = np.random.default_rng(0)
    for coverage in (0.8, 0.9):
        y = rng.integers(0, 3, 300)
        p = rng.dirichlet([1, 1, 1], 300)
        saved = fit_sets("class", "abc", p, y, np.arange(300) % 5, NAMES_300, NAMES_300, coverage)
        assert abs(held_out_cover(saved, NAMES_300).mean() - coverage) < 0.02


NAMES_300 = [f"s{row:03d}" for row in range(300)]
