import json

import numpy as np
import pytest

from mil.bag import Bag
from mil.cohort import Cohort
from mil.duplicates import Duplicate
from mil.model_folder import load_model
from mil.testing import toy_bag, toy_card, write_store
from workflows.assurances import NOT_AUDITED, audit_texts
from workflows.leakage import LeakageAudit, SlideLooks, audit_leakage, look_at_slides
from workflows.train import TrainConfig, train

RECIPE = {"tiles": {"tile_px": 224, "mpp": 0.5}}


def cohort(site, label, fold=None):
    size = len(site)
    ids = tuple(f"s{row:03d}" for row in range(size))
    where = np.arange(size) % 5 if fold is None else np.array(fold)
    return Cohort(ids, tuple(f"P{row}" for row in range(size)), tuple(site), tuple(label), where)


def looks(means, duplicates=()):
    return SlideLooks(np.asarray(means), tuple(duplicates), 0)


def test_a_planted_confounder_is_a_warning_with_what_to_do():
    site = ["A"] * 30 + ["B"] * 30
    found = audit_leakage(cohort(site, ["0" if one == "A" else "1" for one in site]), looks(np.eye(60)[:, :5]), seed=1)
    (line,) = found.warnings()
    assert line.startswith("the label can be guessed from the site alone: right for 100 % of 60 patients")
    assert "Train with --fold-by site" in line
    assert found.lines()[0] == f"WARNING: {line}"
    assert audit_texts(found.to_dict())[0] == f"Warning: {line}."


def test_with_whole_sites_in_a_fold_it_is_calm():
    site = ["A"] * 15 + ["B"] * 15 + ["C"] * 15 + ["D"] * 15
    label = ["0"] * 30 + ["1"] * 30
    found = audit_leakage(cohort(site, label, np.repeat([0, 1, 0, 1], 15)), looks(np.zeros((60, 4))))
    assert found.warnings() == []
    assert found.findings()[0].endswith("No site is in two folds, so the held-out figures do not live on it")


def test_a_cohort_without_confounder_is_not_accused():
    """`tests/mil/test_confounding.py` and `test_site_probe.py` draw 200 such cohorts each."""
    rng = np.random.default_rng(1)
    found = audit_leakage(cohort(rng.choice(list("ABC"), 45), rng.choice(list("0123"), 45)), looks(np.zeros((45, 1))))
    assert found.lines()[0].startswith(
        "audit: nothing found; no patient in two folds, no section twice, site looked at"
    )


def test_scanners_are_looked_at_where_the_labels_have_them():
    rng = np.random.default_rng(0)
    scanner = rng.choice(["S1", "S2"], 60)
    one = cohort([""] * 60, ["1" if name == "S2" else "0" for name in scanner])
    found = audit_leakage(
        Cohort(
            one.slide_id, one.patient_id, one.site, one.label, one.fold, {"scanner": tuple(scanner), "age": ("",) * 60}
        ),
        looks(np.where(scanner == "S2", 1.0, 0.0)[:, None] + 0.01 * rng.normal(size=(60, 3))),
    )
    assert [one.column for one in found.confounders] == ["scanner"]
    assert "--fold-by scanner" in found.warnings()[0]
    assert found.findings()[0].startswith("the features tell the scanner of a slide: balanced accuracy 1.000")


def test_one_patient_saved_twice_is_named_where_it_does_no_harm():
    pair = Duplicate("s000", "s001", 40, 60, 0.99, (0.0, 0.0), 1e-9)
    ids, patients = ("s000", "s001", "s002"), ("P", "P", "Q")
    one = Cohort(ids, patients, ("", "", ""), ("0", "0", "1"), np.array([0, 0, 1]))
    assert audit_leakage(one, looks(np.zeros((3, 2)), [pair])).lines() == [
        "audit: slides s000 and s001 show the same section (tiles agree in 40 places, cosine 0.99), of one patient and "
        "in one fold"
    ]


def test_nothing_found_says_what_was_looked_at():
    found = LeakageAudit(9, 9, (), 2, (), (), ())
    assert found.lines() == [
        "audit: nothing found; no patient in two folds, no section twice (2 slides without pixel size not looked at)"
    ]
    assert audit_texts(found.to_dict())[0].startswith("Audit of the training slides: nothing found; no patient")
    assert audit_texts(None) == (NOT_AUDITED,)
    json.dumps(found.to_dict(), allow_nan=False)


def test_means_are_those_of_the_tiles():
    bags = [toy_bag(60, seed=1), toy_bag(5, seed=2)]
    bags.append(Bag("nowhere", bags[1].features, np.full((5, 2), np.nan, np.float32), bags[1].rows))
    found = look_at_slides(bags, RECIPE)
    np.testing.assert_allclose(found.means[0], bags[0].features.astype(np.float64).mean(axis=0))
    assert found.without_places == 1
    assert look_at_slides(bags, {}).without_places == 3


@pytest.fixture(scope="module")
def confounded(tmp_path_factory):
    """Grades that follow the site, trained for an epoch."""
    root = tmp_path_factory.mktemp("confounded")
    rows = []
    for number in range(48):
        grade = number % 2
        features = toy_bag(9, seed=number, signal=1.0 * grade).features + np.float32(3.0 * grade)
        write_store(root / "stores", f"s{number:02d}", features, toy_card())
        rows.append(f"s{number:02d},{grade},P{number:02d},site-{grade}\n")
    (root / "labels.csv").write_text("slide_id,label,patient_id,site\n" + "".join(rows))
    said = []
    settings = TrainConfig(root / "stores", root / "labels.csv", root / "model", folds=2, epochs=1, device="cpu")
    return train(settings, said.append), said


def test_train_says_it_before_it_trains_and_keeps_it(confounded):
    result, said = confounded
    assert said[1].startswith("WARNING: the label can be guessed from the site alone: right for 100 % of 48 patients")
    assert said[2].startswith("audit: the features tell the site of a slide: balanced accuracy 1.000")
    assert said[3].startswith("fold 1 of 2")
    kept = load_model(result.path).card.training["audit"]
    assert kept["warnings"] == [said[1].removeprefix("WARNING: ")]
    assert kept["from_features"][0]["balanced_accuracy"]["estimate"] == 1


def test_the_report_says_it(confounded):
    from workflows.grade import model_summary

    limits = model_summary(load_model(confounded[0].path)).limits
    assert any(one.startswith("Warning: the label can be guessed from the site alone") for one in limits)
