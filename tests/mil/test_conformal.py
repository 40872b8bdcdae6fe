import json
from fractions import Fraction

import numpy as np
import pytest

from mil.conformal import ConformalSets, filled, set_text
from mil.conformal_scores import SCORES
from mil.links import softmax
from wsi.errors import UsageError

CLASSES = 4


def drawn(n, rng, noise=1.0, weights=(1, 1, 1, 1)):
    """Probabilities of a model that is badly calibrated, and the truth."""
    targets = rng.choice(CLASSES, n, p=np.array(weights) / np.sum(weights))
    seen = targets + noise * rng.normal(size=n)
    logits = -3 * (seen[:, None] - np.arange(CLASSES)) ** 2
    return softmax(logits), targets


def covered(held, targets):
    return held[np.arange(len(targets)), targets]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(("n", "coverage"), [(19, 0.9), (33, 0.75), (200, 0.9), (5, 0.9)])
def test_split_sets_are_those_of_the_quantile_in_the_papers(score, n, coverage):
    """Every class whose score is at most the ceil((n + 1) coverage)-th smallest of the calibration's."""
    rng = np.random.default_rng(n)
    (p, y), (q, _) = drawn(n, rng), drawn(100, rng)
    u, v = rng.random(n), rng.random(100)
    found = ConformalSets(score, coverage).fit(p, y, uniform=u).sets(q, uniform=v)
    ranked = np.sort(covered(SCORES[score](p, u), y))
    rank = -int(-(n + 1) * Fraction(str(coverage)) // 1)
    limit = ranked[rank - 1] if rank <= n else np.inf
    expected = (SCORES[score](q, v) <= limit) | (np.arange(CLASSES) == q.argmax(axis=1)[:, None])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("n", [9, 19, 39])
def test_coverage_is_exactly_the_chosen_one_on_average(n):
    """n + 1 is a multiple of 10, and scores have no ties: by theory 90 % exactly, before the best class is added."""
    rng = np.random.default_rng(n)
    hits = []
    for _ in range(1500):
        p, y = drawn(n + 4, rng)
        u = rng.random(n + 4)
        usual = ConformalSets("aps", 0.9).fit(p[:n], y[:n], uniform=u[:n]).p_values(p[n:], uniform=u[n:])
        hits.append(covered(usual > 0.1 + 1e-12, y[n:]).mean())
    assert abs(np.mean(hits) - 0.9) < 3 * np.std(hits) / np.sqrt(1500)


def test_p_values_of_the_truth_are_uniform():
    rng = np.random.default_rng(0)
    p, y = drawn(4000, rng)
    u = rng.random(4000)
    usual = ConformalSets("ordinal").fit(p[:2000], y[:2000], uniform=u[:2000]).p_values(p[2000:], uniform=u[2000:])
    np.testing.assert_allclose(np.quantile(covered(usual, y[2000:]), [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.04)


@pytest.mark.parametrize("score", SCORES)
def test_within_classes_the_rare_and_hard_one_is_covered_too(score):
    rng = np.random.default_rng(1)
    overall, within = [], []
    for _ in range(20):
        p, y = drawn(2000, rng, 0.8, (8, 1, 1, 4))
        u = rng.random(2000)
        for kept, kind in ((overall, "all"), (within, "class")):
            sets = ConformalSets(score, 0.9, kind).fit(p[:1000], y[:1000], uniform=u[:1000])
            hit = covered(sets.sets(p[1000:], uniform=u[1000:]), y[1000:])
            kept.append([hit.mean(), *(hit[y[1000:] == k].mean() for k in range(CLASSES))])
    assert abs(np.mean(overall, axis=0)[0] - 0.9) < 0.02
    assert np.mean(within, axis=0).min() > 0.88
    if score == "lac":
        assert np.mean(overall, axis=0)[1:].min() < 0.87


def test_within_sites_each_is_covered():
    rng = np.random.default_rng(2)
    hits = {"all": [], "site": []}
    for _ in range(20):
        (p, y), (q, z) = drawn(900, rng, 0.3), drawn(300, rng, 1.2)  # the second site is blurred
        p, y, site = np.concatenate([p, q]), np.concatenate([y, z]), np.repeat(["A", "B"], [900, 300])
        seen = rng.random(1200) < 0.5
        for within, kept in hits.items():
            sets = ConformalSets("lac", 0.9, within).fit(p[seen], y[seen], sites=site[seen])
            hit = covered(sets.sets(p[~seen], sites=site[~seen]), y[~seen])
            kept.append(hit[site[~seen] == "B"].mean())
    assert np.mean(hits["all"]) < 0.8
    assert abs(np.mean(hits["site"]) - 0.9) < 0.025


def means_model(x, y):
    """A small model that overfits: class means of 12 features."""
    centres = np.stack([x[y == k].mean(axis=0) for k in range(3)])
    return lambda z: softmax(-((z[:, None] - centres) ** 2).sum(axis=2))


@pytest.mark.parametrize("within", ["all", "class"])
def test_coverage_across_folds_of_a_cross_validation(within):
    """Fold models trained on 48 of 60 slides: at least what is promised, and near the chosen coverage."""
    rng = np.random.default_rng(3)
    hits, sizes = [], []
    for _ in range(150):
        y = np.arange(100) % 3
        x = rng.normal(size=(100, 12)) + 0.8 * np.eye(3, 12)[y]
        fold = np.arange(60) // 3 % 5
        models = [means_model(x[:60][fold != k], y[:60][fold != k]) for k in range(5)]
        held_out = np.stack([models[k](x[[row]])[0] for row, k in enumerate(fold)])
        each = np.stack([model(x[60:]) for model in models], axis=1)  # (40, 5, 3)
        sets = ConformalSets("lac", 0.8, within).fit(held_out, y[:60], fold)
        held = sets.sets(each)
        hits.append(covered(held, y[60:]).mean())
        sizes.append(held.sum(axis=1).mean())
    assert np.mean(hits) > sets.promised(20)
    assert 0.79 < np.mean(hits) < 0.88
    assert np.mean(sizes) < 2.5


def test_a_set_across_folds_by_counting():
    """A calibration slide speaks against a class only by the network that has not seen either."""
    rng = np.random.default_rng(4)
    p, y = drawn(30, rng)
    fold = np.arange(30) % 3
    each = np.stack([drawn(8, rng)[0] for _ in range(3)], axis=1)
    sets = ConformalSets("lac", 0.9).fit(p, y, fold)
    for slide in range(8):
        for k in range(CLASSES):
            worse = sum(1 - p[i, y[i]] >= 1 - each[slide, fold[i], k] for i in range(30))
            np.testing.assert_allclose(sets.p_values(each)[slide, k], (1 + worse) / 31)


def test_promises():
    p, y = drawn(100, np.random.default_rng(5))
    assert ConformalSets(coverage=0.9).fit(p, y).promised(100) == 0.9
    across = ConformalSets(coverage=0.9).fit(p, y, np.arange(100) % 5)
    assert across.promised(100) == pytest.approx(1 - 0.2 - 1.8 * 4 / 105)
    assert across.promised(1) == 0


def test_p_values_by_hand():
    """Patient A has slides of score .9, .9, .1 and .1, patient B one of .5; each patient is one of two."""
    score = np.array([0.9, 0.9, 0.1, 0.1, 0.5])
    sets = ConformalSets("lac", 0.9).fit(np.stack([1 - score, score], axis=1), np.zeros(5, int), patients=list("AAAAB"))
    new = np.array([0.05, 0.1, 0.3, 0.5, 0.6, 0.9, 0.95])
    found = sets.p_values(np.stack([1 - new, new], axis=1))[:, 0]
    np.testing.assert_allclose(3 * found, [3, 3, 2.5, 2.5, 1.5, 1.5, 1])  # a score that is equal speaks for the slide


def test_patients_count_once():
    """Patients with many slides are easy: counted by slides, the others would be left uncovered."""
    rng = np.random.default_rng(6)
    by_patient, by_slide = [], []
    for _ in range(300):
        many = rng.random(60) < 0.5
        who = np.repeat(np.arange(60), np.where(many, 10, 1))
        score = np.where(many[who], 0.2, 0.9) * rng.random(60)[who]
        p = np.stack([1 - score, score], axis=1)
        new = np.where(rng.random(50) < 0.5, 0.2, 0.9) * rng.random(50)  # a slide of each of 50 new patients
        q = np.stack([1 - new, new], axis=1)
        for kept, patients in ((by_patient, who), (by_slide, None)):
            sets = ConformalSets("lac", 0.8).fit(p, np.zeros(len(p), int), patients=patients)
            kept.append((sets.p_values(q)[:, 0] > 0.2 + 1e-12).mean())
    assert 0.79 < np.mean(by_patient) < 0.83
    assert np.mean(by_slide) < 0.7


def test_few_slides_of_a_class_give_wide_sets_and_a_note():
    rng = np.random.default_rng(7)
    p, y = drawn(400, rng, 0.3, (4, 4, 4, 0.05))
    y[:] = np.where(y == 3, 2, y)
    y[:5] = 3
    sets = ConformalSets("lac", 0.9, "class").fit(p, y)
    assert sets.sets(p)[:, 3].all()
    assert not sets.sets(p)[:, 0].all()
    assert sets.least_patients == 9
    assert sets.notes(["1", "2", "3", "4"]) == (
        "class 4: 5 calibration patients; leaving a class out at 90 % takes 9, so every set holds it",
    )
    gone = ConformalSets("lac", 0.9, "class").fit(p[y < 3], y[y < 3])
    assert gone.sets(p)[:, 3].all()
    assert "class 4: 0 calibration patients" in gone.notes(["1", "2", "3", "4"])[0]


def test_nine_patients_suffice_for_ninety_percent_and_eight_do_not():
    p = np.tile([0.9, 0.1], (9, 1))
    far = np.array([[1.0, 0.0]])
    assert ConformalSets("lac", 0.9).fit(p, np.zeros(9, int)).sets(far).tolist() == [[True, False]]
    eight = ConformalSets("lac", 0.9).fit(p[:8], np.zeros(8, int))
    assert eight.sets(far).tolist() == [[True, True]]
    assert "all sites: 8 calibration patients" in eight.notes(["a", "b"])[0]
    same = ConformalSets("lac", 0.9).fit(p, np.zeros(9, int), patients=["A"] * 9)
    assert same.sets(far).all()


@pytest.mark.parametrize("within", ["all", "class"])
def test_without_calibration_slides_nothing_is_ruled_out_and_that_is_said(within):
    sets = ConformalSets("ordinal", 0.9, within).fit(np.zeros((0, 3)), np.zeros(0, int))
    assert sets.sets(np.eye(3)).all()
    assert ": 0 calibration patients" in sets.notes("abc")[0]


def test_a_site_without_calibration_slides_rules_nothing_out():
    p, y = drawn(100, np.random.default_rng(8))
    sets = ConformalSets("ordinal", 0.9, "site").fit(p, y, sites=["A"] * 100)
    assert sets.sets(p[:5], sites=["new"] * 5).all()
    assert not sets.sets(p[:5], sites=["A"] * 5).all()
    assert sets.notes([]) == ()
    few = ConformalSets("lac", 0.9, "site").fit(p[:3], y[:3], sites=["A"] * 3)
    assert few.notes([]) == (
        "site A: 3 calibration patients; leaving a class out at 90 % takes 9, so its sets hold every class",
    )


@pytest.mark.parametrize("within", ["all", "class"])
def test_sets_of_grades_are_intervals_that_hold_the_best_grade(within):
    rng = np.random.default_rng(9)
    p = rng.dirichlet(np.ones(6) / 3, 300)
    y, fold = rng.integers(0, 6, 300), np.arange(300) % 3
    each = rng.dirichlet(np.ones(6) / 3, (200, 3))
    held = ConformalSets("ordinal", 0.6, within).fit(p, y, fold).sets(each, uniform=rng.random(200))
    assert (np.abs(np.diff(np.pad(held, ((0, 0), (1, 1))).astype(int), axis=1)).sum(axis=1) == 2).all()
    assert held[np.arange(200), each.mean(axis=1).argmax(axis=1)].all()


def test_the_class_that_is_told_is_in_the_set():
    p, y = drawn(50, np.random.default_rng(12))
    sets = ConformalSets("ordinal", 0.5).fit(p, y)
    told = 3 - p.argmax(axis=1)
    held = sets.sets(p, best=told)
    assert held[np.arange(50), told].all()
    assert (held >= (sets.p_values(p) > 0.5)).all()
    assert (np.abs(np.diff(np.pad(held, ((0, 0), (1, 1))).astype(int), axis=1)).sum(axis=1) == 2).all()


def test_order_of_slides_and_names_of_patients_do_not_matter():
    rng = np.random.default_rng(10)
    p, y = drawn(80, rng)
    who, fold, other = np.arange(80) // 2, np.arange(80) // 2 % 4, rng.permutation(80)
    each = np.stack([p[:20]] * 4, axis=1)
    one = ConformalSets("aps").fit(p, y, fold, patients=who).p_values(each)
    again = ConformalSets("aps").fit(p[other], y[other], fold[other], patients=[f"x{k}" for k in who[other]])
    np.testing.assert_allclose(one, again.p_values(each), atol=1e-12)
    np.testing.assert_array_equal(again.p_values(each[:1])[0], again.p_values(each)[0])


@pytest.mark.parametrize("within", ["all", "class", "site"])
def test_sets_are_the_same_from_their_plain_values(within):
    rng = np.random.default_rng(13)
    p, y = drawn(60, rng)
    site, fold = rng.choice(["A", "B"], 60), np.arange(60) % 2
    sets = ConformalSets("aps", 0.85, within).fit(p, y, fold, patients=np.arange(60) // 2, sites=site)
    again = ConformalSets.from_dict(json.loads(json.dumps(sets.to_dict())))
    each = np.stack([p, p[::-1]], axis=1)
    np.testing.assert_array_equal(again.p_values(each, sites=site), sets.p_values(each, sites=site))
    assert again.notes("abcd") == sets.notes("abcd")
    assert again.promised(30) == sets.promised(30)


def test_filled_and_in_words():
    held = np.array([[0, 1, 0, 1, 0], [0, 0, 1, 0, 0], [1, 1, 0, 0, 0]], dtype=bool)
    assert filled(held).astype(int).tolist() == [[0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [1, 1, 0, 0, 0]]
    names = ["1", "2", "3", "4", "5"]
    assert [set_text(names, row, ordered=True) for row in held] == ["2, 4", "3", "1-2"]
    assert set_text(["benign", "tumour"], np.array([True, True]), ordered=False) == "benign, tumour"


def test_what_cannot_be_is_refused():
    p, y = drawn(20, np.random.default_rng(11))
    with pytest.raises(UsageError, match="no sets by score 'raps'"):
        ConformalSets("raps")
    with pytest.raises(UsageError, match="coverage is 90"):
        ConformalSets(coverage=90)
    with pytest.raises(UsageError, match="need the site of each slide"):
        ConformalSets(within="site").fit(p, y)
    with pytest.raises(UsageError, match="are of 1 fold models and 4 classes"):
        ConformalSets().fit(p, y, np.arange(20) % 2).sets(p)
    with pytest.raises(UsageError, match="not a number"):
        ConformalSets().fit(p, y).sets(p * np.nan)
