"""Simulations of slides of known kind: p-values uniform, false alarms within their rate, outliers found and named."""

from dataclasses import replace
from math import comb

import numpy as np
import pytest

from mil.outliers import (
    OutlierCheck,
    OutlierReference,
    least_patients,
    likely_at_most,
    one_of_each,
)
from mil.slide_view import TRAITS, SlideView
from wsi.errors import CorruptStoreError, RecipeMismatchError, UsageError

DIM = 24
TYPICAL = np.array([0.3, -0.3, 0.6, 0.2, 0.15, 240, 241, 240, 30.0])
SPREAD = np.array([0.03, 0.02, 0.03, 0.01, 0.02, 1.5, 1.5, 1.5, 8.0])


def view(rng: np.random.Generator, tiles: int = 6, kind: int = 0, **traits: float) -> SlideView:
    """A slide with tissue of one of several kinds, at one of two sites."""
    site = rng.integers(2)
    centre = np.random.default_rng(kind).normal(size=DIM) + 0.5 * site
    features = centre + 0.4 * rng.normal(size=DIM) + 0.5 * rng.normal(size=(tiles, DIM))
    found = TYPICAL + SPREAD * rng.normal(size=len(TRAITS)) + 2 * site * SPREAD
    for name, value in traits.items():
        found[TRAITS.index(name)] = value
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return SlideView((features / length).astype(np.float32), features.mean(axis=0).astype(np.float32), found)


def views(count: int, seed: int = 0) -> list[SlideView]:
    rng = np.random.default_rng(seed)
    return [view(rng) for _ in range(count)]


def test_p_values_of_slides_of_the_kind_are_uniform() -> None:
    patients, trials = 24, 300
    found = []
    for trial in range(trials):
        *known, new = views(patients + 1, seed=trial)
        found.append(OutlierReference.of(known).check(new).p_value)
    ranks = np.rint(np.array(found) * (patients + 1)).astype(int)
    assert np.allclose(ranks / (patients + 1), found)
    counts = np.bincount(ranks, minlength=patients + 2)[1:]
    expected = trials / (patients + 1)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < 52.6  # 99.9 % of a chi-squared variable with 24 degrees of freedom is below 51.2


def test_false_alarms_are_within_their_rate_over_200_splits() -> None:
    cohort, found = views(42, seed=5), []
    for split in range(200):
        order = np.random.default_rng(split).permutation(len(cohort))
        reference = OutlierReference.of([cohort[k] for k in order[:40]])
        found.append([reference.check(cohort[k]).p_value for k in order[40:]])
    for rate in (0.05, 0.1, 0.2):
        shares = (np.array(found) <= rate).mean(axis=1)
        error = np.std(shares) / len(shares) ** 0.5
        assert rate / 3 <= np.mean(shares) <= rate + 3 * error  # it does flag, and not too often


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stain_x": -0.8, "stain_y": 0.1}, "other stain"),
        ({"stain_density": 0.05}, "stained paler or darker"),
        ({"glass_b": 200.0}, "other scanner"),
        ({"focus": 0.01}, "blur"),
        ({"tissue_mm2": 0.02}, "too little tissue"),
        ({"kind": 1}, "other tissue"),
    ],
)
def test_what_is_unlike_is_flagged_by_its_name(changes: dict[str, float], reason: str) -> None:
    reference = OutlierReference.of(views(40))
    rng = np.random.default_rng(99)
    for _ in range(10):
        check = reference.check(view(rng, **changes))  # type: ignore[arg-type]
        assert check.flagged
        assert check.p_value == 1 / 41
        assert check.reasons[0].startswith(reason)


def test_what_the_pixels_show_is_named_before_what_may_follow_from_it() -> None:
    reference = OutlierReference.of(views(40))
    rng = np.random.default_rng(7)
    check = reference.check(view(rng, kind=1, focus=0.001))
    assert check.reasons[0] == "blur"
    assert [reason.split(" (")[0] for reason in check.reasons[1:]] in (
        ["or other tissue"], ["or other tissue or preparation"],
    )  # fmt: skip
    assert check.oddness["tiles"] > 2
    assert len(reference.check(view(rng, kind=1)).reasons) == 2


def test_large_and_sharp_slides_are_neither_blurred_nor_short_of_tissue() -> None:
    reference = OutlierReference.of(views(40))
    check = reference.check(view(np.random.default_rng(7), focus=0.9, tissue_mm2=900.0))
    assert not {"blur", "too little tissue"} & set(check.reasons)


def test_the_order_of_slides_changes_nothing() -> None:
    known, rng = views(30), np.random.default_rng(3)
    new = [view(rng) for _ in range(8)] + [view(rng, kind=1, focus=0.01)]
    there, back = OutlierReference.of(known), OutlierReference.of(known[::-1])
    assert [there.check(one) for one in new] == [back.check(one) for one in new]


def test_slides_of_one_tile_and_of_many_are_held_against_each_other() -> None:
    rng = np.random.default_rng(0)
    reference = OutlierReference.of([view(rng, tiles=1) for _ in range(30)])
    assert not reference.check(view(rng, tiles=1)).flagged
    assert reference.check(view(rng, tiles=1, kind=1)).flagged
    assert not OutlierReference.of(views(30)).check(view(rng, tiles=200)).flagged


def test_equal_slides_are_not_odd_and_another_one_is() -> None:
    same = SlideView(np.ones((3, 4), np.float32) / 2, np.ones(4, np.float32), TYPICAL)
    reference = OutlierReference.of([same] * 20)
    check = reference.check(same)
    assert (check.p_value, check.reasons) == (1.0, ())
    assert set(check.oddness.values()) == {0.0}
    other = replace(same, mean=np.array([1, 1, 1, -1], np.float32), tiles=same.tiles * [1, 1, 1, -1])
    assert reference.check(other).flagged


def test_differences_within_the_resolution_drown_nothing() -> None:
    """On three of 30 equal slides the glass is one grey level off; that must not hide a blurred slide."""
    same = SlideView(np.ones((3, 4), np.float32) / 2, np.ones(4, np.float32), TYPICAL)
    off = replace(same, traits=TYPICAL + np.eye(len(TRAITS))[TRAITS.index("glass_g")])
    reference = OutlierReference.of([same] * 27 + [off] * 3)
    blurred = replace(same, traits=np.where(np.array(TRAITS) == "focus", 0.01, TYPICAL))
    assert reference.check(blurred).reasons == ("blur",)


def test_what_was_not_measured_is_no_reason() -> None:
    unknown = dict.fromkeys(TRAITS, np.nan)
    reference = OutlierReference.of(views(30))
    rng = np.random.default_rng(1)
    check = reference.check(view(rng, **unknown))
    assert set(check.oddness) == {"tiles", "slide"}
    assert not check.flagged
    assert reference.check(view(rng, kind=1, **unknown)).flagged


def test_training_slides_without_traits_are_compared_by_features_alone() -> None:
    rng = np.random.default_rng(0)
    bare = OutlierReference.of([replace(one, traits=np.full(len(TRAITS), np.nan)) for one in views(30)])
    assert not bare.check(view(rng, focus=1e-4)).flagged
    assert bare.describe()["statistics"] == ["tiles", "slide"]
    assert "not compared" in bare.describe()["notes"][0]
    assert OutlierReference.of(views(30)).describe()["notes"] == []


def test_three_training_patients_promise_nothing_and_say_so() -> None:
    reference = OutlierReference.of(views(3))
    check = reference.check(view(np.random.default_rng(0), kind=1, focus=1e-4))
    assert (check.flagged, check.judged, check.p_value) == (False, False, 0.25)
    said = reference.describe()
    assert said["likely_at_most"] == 0
    assert "3 training patients are too few" in said["notes"][0]
    assert "takes 19" in said["notes"][0]
    assert OutlierReference.of(views(1)).check(views(1, seed=1)[0]).p_value in (0.5, 1.0)


def test_the_least_number_of_patients() -> None:
    assert [least_patients(rate) for rate in (0.05, 0.1, 0.01, 0.3)] == [19, 9, 99, 3]
    flagged = OutlierReference.of(views(19)).check(view(np.random.default_rng(0), kind=1))
    assert (flagged.p_value, flagged.flagged, flagged.judged) == (0.05, True, True)


def test_what_one_training_set_likely_keeps_to() -> None:
    # k = 3 of 60 + 1: the x at which at least 3 of 60 trials succeed with probability 0.95.
    x = likely_at_most(0.05, 60)
    below = sum(comb(60, j) * x**j * (1 - x) ** (60 - j) for j in range(3))
    assert below == pytest.approx(0.05, abs=1e-4)
    assert 0.05 < x < 0.11
    assert likely_at_most(0.05, 256) < x


def test_kept_as_bytes_and_read_again() -> None:
    reference = OutlierReference.of(views(25), 0.1, seed=4)
    data = reference.to_bytes()
    again = OutlierReference.from_bytes(data)
    assert again.to_bytes() == data
    new = view(np.random.default_rng(2), kind=1)
    assert again.check(new) == reference.check(new)
    assert (again.false_alarms, again.seed) == (0.1, 4)
    with pytest.raises(CorruptStoreError, match="cannot be read"):
        OutlierReference.from_bytes(data[: len(data) // 2])


def test_a_newer_reference_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mil.outliers.FORMAT_VERSION", 9)
    data = OutlierReference.of(views(3)).to_bytes()
    monkeypatch.undo()
    with pytest.raises(RecipeMismatchError, match="version 9, this program reads 1"):
        OutlierReference.from_bytes(data)


def test_other_features_and_impossible_rates_are_refused() -> None:
    reference = OutlierReference.of(views(3))
    with pytest.raises(RecipeMismatchError, match="features of 5 numbers, the reference of 24"):
        reference.check(SlideView(np.zeros((1, 5), np.float32), np.zeros(5, np.float32), TYPICAL))
    with pytest.raises(UsageError, match="--false-alarms is 1.5"):
        OutlierReference.of(views(3), 1.5)
    with pytest.raises(UsageError, match="no training slide"):
        OutlierReference.of([])


def test_one_slide_of_each_patient_whatever_the_order() -> None:
    ids = [f"s{k:02d}" for k in range(30)]
    patients = [f"P{k // 3}" for k in range(30)]
    rows = one_of_each(ids, patients, seed=1)
    assert sorted(patients[row] for row in rows) == sorted(set(patients))
    order = np.random.default_rng(0).permutation(30)
    mixed = one_of_each([ids[k] for k in order], [patients[k] for k in order], seed=1)
    assert [ids[row] for row in rows] == [ids[order[row]] for row in mixed]
    many = one_of_each([f"s{k}" for k in range(400)], [f"P{k}" for k in range(400)])
    assert len(set(many)) == 256


def test_a_check_that_cannot_flag_is_not_judged() -> None:
    assert not OutlierCheck(0.25, 0.05, 3).judged
    assert OutlierCheck(0.05, 0.05, 19).judged
