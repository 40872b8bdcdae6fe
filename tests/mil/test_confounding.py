import json
import math

import numpy as np
import pytest

from mil.confounding import STRONG, confounding


def names(numbers):
    return [f"P{number}" for number in numbers]


def test_by_hand():
    # Three patients at A with x, y, y and one at B with x; one patient more weighs as all others do.
    found = confounding("site", list("AAAB"), list("xyyx"), names(range(4)), n=9)
    base = [(1 + 0.5) / 4, (1 + 0.5) / 4, (1 + 0.5) / 4, (1 + 0.5) / 4]  # of their own labels among the three others
    alone = -sum(math.log(p) for p in base)
    at_a = [(0 + base[0]) / 3, (1 + base[1]) / 3, (1 + base[2]) / 3]  # x: neither of the others; y: one of them
    seen = -sum(math.log(p) for p in [*at_a, base[3]])  # alone at B: as if there were no site
    assert found.explained == pytest.approx(1 - seen / alone)
    assert (found.groups, found.patients, found.without) == (2, 4, 0.5)


def test_a_site_that_decides_the_label_explains_it():
    site = ["A"] * 30 + ["B"] * 30
    found = confounding("site", site, ["0" if one == "A" else "1" for one in site], names(range(60)))
    assert found.explained > 0.9
    assert (found.guessed, found.without, found.p_value) == (1, 0.5, 0.001)
    assert found.strong
    assert "the label can be guessed from the site alone: right for 100 % of 60 patients, 50 % without it" in str(found)


def test_three_quarters_against_one_quarter_is_about_the_threshold():
    # Uncertainty coefficient of the table [[3, 1], [1, 3]]: 1 - H(1/4) / H(1/2).
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    labels = [*("x" * 300 + "y" * 100), *("x" * 100 + "y" * 300)]
    found = confounding("site", ["A"] * 400 + ["B"] * 400, labels, names(range(800)), n=99)
    assert found.explained == pytest.approx(1 - entropy / math.log(2), abs=0.01)
    assert found.found
    assert not found.strong
    assert found.explained < STRONG


def test_false_alarms_are_those_stated():
    p_values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        who = np.repeat(np.arange(40), rng.integers(1, 5, 40))
        site, worst = rng.choice(list("ABC"), 40)[who], rng.choice(list("0123"), 40)[who]
        label = np.where(rng.random(len(who)) < 0.8, worst, rng.choice(list("0123"), len(who)))
        p_values.append(confounding("site", site, label, names(who), n=99, seed=seed).p_value)
    # Exact: 1 % and 10 % of 200, 2 and 20, with a standard deviation of 1.4 and 4.2.
    assert np.sum(np.array(p_values) <= 0.01) <= 6
    assert 8 <= np.sum(np.array(p_values) <= 0.1) <= 33


def test_slides_of_a_patient_do_not_count_as_many():
    # Twelve patients, one site and one label each, mixed; shown as 50 slides each it is as little evidence.
    site, label = list("ABABABABABAB"), list("001100110011")
    few = confounding("site", site, label, names(range(12)), n=199)
    rows = np.repeat(np.arange(12), 50)
    many = confounding("site", np.array(site)[rows], np.array(label)[rows], names(rows), n=199)
    assert many == few


def test_patients_at_two_sites_count_at_each_with_their_share():
    site, label, who = list("AABBAB"), list("010101"), ["P", "Q", "R", "S", "T", "T"]
    found = confounding("site", site, label, who, n=19)
    assert found.patients == 5
    assert found.without == 0.5
    assert np.isfinite(found.explained)


def test_order_of_rows_does_not_matter():
    rng = np.random.default_rng(0)
    site, label, who = rng.choice(list("AB"), 50), rng.choice(list("xyz"), 50), np.array(names(rng.integers(0, 30, 50)))
    rows = rng.permutation(50)
    other = confounding("site", site[rows], label[rows], who[rows], n=49)
    found = confounding("site", site, label, who, n=49)
    assert other.p_value == found.p_value
    assert other.explained == pytest.approx(found.explained, rel=1e-12)


@pytest.mark.parametrize(
    ("site", "label"), [("AAAA", "0101"), ("ABAB", "0000"), ("", ""), (["", "", "A", "B"], "0101")]
)
def test_where_there_is_nothing_to_test(site, label):
    found = confounding("site", list(site), list(label), names(range(len(site))), n=9)
    assert np.isnan(found.p_value)
    assert not found.found
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["p_value"] is None
