import json

import numpy as np
import pytest

from mil.cohort import Cohort
from mil.fairness import audit, columns_of, findings, in_bands
from mil.intervals import measures, score
from wsi.errors import UsageError


def predictions(n, seed=0, worse=None):
    """Grades 0 to 2 and predictions; where `worse` says so they are noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    logits = 3 * np.eye(3)[y] + rng.normal(size=(n, 3))
    if worse is not None:
        logits = np.where(worse[:, None], rng.normal(size=(n, 3)), logits)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return y, p.argmax(axis=1), p


def columns(n, seed=1):
    rng = np.random.default_rng(seed)
    return {
        "site": tuple(rng.choice(["A", "B", "C"], n)),
        "scanner": tuple(rng.choice(["S1", "S2"], n)),
        "sex": tuple(rng.choice(["f", "m"], n)),
    }


def test_a_planted_failure_is_found_and_named_and_nothing_else():
    table = columns(240)
    data = predictions(240, worse=np.array(table["scanner"]) == "S2")
    found = audit("grade", *data, [f"P{k}" for k in range(240)], table, n=99)
    lines = findings(found)
    assert lines
    assert all(line.startswith("scanner: ") for line in lines)
    assert all("for S2 and" in line for line in lines if "ece" not in line)
    assert any(line.startswith("scanner: qwk is ") for line in lines)
    assert "(p 0.01, over all metrics and columns 0.03)" in lines[0]  # the least of 99 permutations, times three


def test_nothing_is_found_where_nothing_is_wrong():
    noise = [
        bool(findings(audit("grade", *predictions(120, k), [f"P{i}" for i in range(120)], columns(120, k + 50), n=19)))
        for k in range(3)
    ]
    assert noise == [False] * 3  # with 19 permutations and three columns no p-value can be below .15


def test_groups_have_the_metrics_and_intervals_of_their_slides():
    table, data, who = columns(150), predictions(150), np.array([f"P{k // 2}" for k in range(150)])
    found = {one.column: one for one in audit("grade", *data, who, table, least_patients=5, n=50, seed=3)}
    rows = np.array(table["site"]) == "B"
    expected = score("grade", *(part[rows] for part in data), who[rows].tolist(), n=50, seed=3)
    group = next(one for one in found["site"].groups if one.value == "B")
    assert group.metrics == expected
    assert (group.slides, group.patients) == (rows.sum(), len(set(who[rows])))
    assert list(group.metrics) == list(measures("grade", 3))


def test_small_groups_are_named_and_not_judged():
    values = ["A"] * 60 + ["B"] * 40 + ["C"] * 5 + [""] * 15
    data = predictions(120, worse=np.array(values) == "C")
    (one,) = audit("grade", *data, [f"P{k}" for k in range(120)], {"site": values}, n=19)
    assert [group.value for group in one.groups] == ["A", "B"]
    assert one.notes == (
        "site: fewer than 20 patients, not judged: C (5)",
        "site: not known of 15 of 120 slides, which are left out",
    )
    assert all({gap.best, gap.worst} == {"A", "B"} for gap in one.gaps.values())


def test_patients_make_a_group_large_not_slides():
    (one,) = audit("grade", *predictions(80), ["P"] * 40 + ["Q"] * 40, {"site": ["A"] * 40 + ["B"] * 40}, n=9)
    assert one.groups == ()
    assert one.gaps == {}
    assert one.notes[0] == "site: fewer than 20 patients, not judged: A (1), B (1)"


def test_a_site_with_one_class_is_not_judged_by_what_needs_two():
    y, k, p = predictions(120)
    site = np.where(np.arange(120) < 60, "A", "B")
    y = np.where(site == "B", 2, y)
    (one,) = audit("grade", y, k, p, np.arange(120), {"site": site}, n=19)
    assert any(note.startswith("site: in B not defined, and not compared: auroc") for note in one.notes)
    assert "auroc" not in one.gaps
    assert "accuracy" in one.gaps


def test_confounded_site_is_said_to_be():
    y, k, p = predictions(90)
    site = np.array(["A", "B", "C"])[y]
    (one,) = audit("grade", y, k, p, np.arange(90), {"site": site}, n=19)
    assert "site: each class occurs in one group only, so group and class cannot be told apart" in one.notes
    assert findings([one]) == ()
    told = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert told["gaps"]["accuracy"]["p_value"] is None


def test_columns_count_as_many():
    table, data, who = columns(90), predictions(90), np.arange(90)
    together = audit("class", *data, who, table, n=49)
    for number, name in enumerate(table):
        (alone,) = audit("class", *data, who, {name: table[name]}, n=49)
        assert alone.gaps == together[number].gaps
        assert alone.adjusted["f1"] == alone.gaps["f1"].over_metrics
        assert together[number].adjusted["f1"] == pytest.approx(min(1, 3 * alone.adjusted["f1"]))


def test_a_column_that_cannot_be_tested_does_not_count():
    table, data, who = columns(90), predictions(90), np.arange(90)
    table = {"sex": table["sex"], "of the class": np.array(list("ABC"))[data[0]]}
    sex, _ = audit("class", *data, who, table, n=49, least_patients=5)
    assert sex.adjusted == {name: gap.over_metrics for name, gap in sex.gaps.items()}


def test_columns_of_a_cohort():
    cohort = Cohort(("a", "b"), ("P", "Q"), ("X", ""), ("0", "1"), covariates={"sex": ("f", "m")})
    assert columns_of(cohort) == {"site": ("X", ""), "sex": ("f", "m")}
    assert columns_of(Cohort(("a",), ("P",), ("",), ("0",))) == {}


def test_ages_in_bands():
    found = in_bands(["49.5", "50", "69", "70", "unknown", "", "nan"], [70, 50])
    assert found == ("below 50", "50 to below 70", "50 to below 70", "70 and above", "", "", "")
    with pytest.raises(UsageError, match="at least one limit"):
        in_bands(["1"], [])


def test_a_column_of_another_length_is_refused():
    with pytest.raises(UsageError, match="column sex has 2 values for 9 slides"):
        audit("grade", *predictions(9), np.arange(9), {"sex": ["f", "m"]})
