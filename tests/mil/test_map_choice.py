"""Which map is shown, on made-up figures whose answer is known; and that random weights are found out."""

from dataclasses import replace

import numpy as np
import pytest

from mil.faithfulness import Faithfulness, TileCurve
from mil.map_choice import EQUAL, SlideTrial, choose, mean_intervals, report_maps
from mil.map_names import MAPS
from wsi.errors import UsageError


def judged(deletion, insertion=None):
    """Areas as they are wanted, against random orders of 0.5 and 0.5."""
    ends = np.array([0.0, 1.0])
    back = 1 - deletion if insertion is None else insertion
    half = np.array([0.5, 0.5])
    return Faithfulness(TileCurve(ends, np.full(2, deletion)), TileCurve(ends, np.full(2, back)), half, half)


def trial(number, areas, control=0.5, **changes):
    """A slide with a deletion area for each map; noise between slides, the same for all maps."""
    noise = 0.02 * np.sin(number)
    maps = {name: judged(area + noise) for name, area in areas.items()}
    plain = dict.fromkeys(areas, 1.0)
    fresh = {name: judged(control + 0.1 * np.cos(3 * number)) for name in areas}
    one = SlideTrial(f"s{number}", f"P{number // 2}", number % 3, 100, maps, fresh, plain, plain)
    return replace(one, **changes)


AREAS = {"attention": 0.4, "evidence": 0.35, "contribution": 0.45, "gradient": 0.2, "left_out": 0.5}


def test_the_smallest_deletion_area_is_chosen_in_all_folds():
    found = report_maps([trial(k, AREAS) for k in range(12)])
    assert found.chosen == "gradient"
    assert found.elsewhere.names == ("gradient",) * 3
    np.testing.assert_allclose(found.elsewhere.over_attention.estimate, 0.2)
    np.testing.assert_allclose(found.random.estimate, 0.5)
    gradient = found.figures["gradient"]
    assert gradient.control_failed
    assert gradient.may_be_shown
    # insertion less deletion, less that of random orders: 0.8 - 0.2 - 0, give or take the noise of +-2 x 0.02
    np.testing.assert_allclose(gradient.gain.estimate, 0.6, atol=0.03)
    assert not found.figures["left_out"].may_be_shown
    assert "gradient x input" in found.reason
    assert (found.slides, found.patients) == (12, 6)


def test_a_control_that_does_not_fail_is_said_loudly():
    found = report_maps([trial(k, AREAS, control=0.3) for k in range(12)])
    assert not any(one.control_failed for one in found.figures.values())
    assert found.chosen == "gradient"  # still better than its control
    assert not found.figures["attention"].may_be_shown  # 0.4 against a control of 0.3
    assert "did NOT fail" in found.reason
    said = "\n".join(found.lines())
    assert said.count("WARNING") == 5
    assert said.count("DID NOT FAIL") == 5
    assert not found.to_dict()["maps"]["gradient"]["control_failed"]


def test_no_map_is_chosen_where_none_is_better_than_chance():
    found = report_maps([trial(k, dict.fromkeys(AREAS, 0.5)) for k in range(12)])
    assert found.chosen is None
    assert "no map is known to show what the model goes by" in found.reason
    assert found.elsewhere.names == (None, None, None)
    assert found.to_dict()["chosen_by_other_folds"]["gain"]["estimate"] is None
    assert "none" in "\n".join(found.lines())


@pytest.mark.parametrize(("gap", "expected"), [(EQUAL / 2, "evidence"), (2 * EQUAL, "left_out")])
def test_of_equal_maps_the_plainest_is_shown(gap, expected):
    found = report_maps([trial(k, dict.fromkeys(AREAS, 0.3) | {"left_out": 0.3 - gap}) for k in range(12)])
    assert choose(found.figures) == found.chosen == expected


def test_slides_of_one_tile_and_of_one_patient():
    many = [trial(k, AREAS) for k in range(8)]
    lonely = trial(9, AREAS, tiles=1, stability=dict.fromkeys(AREAS, float("nan")))
    assert report_maps([*many, lonely]).slides == 8
    with pytest.raises(UsageError, match="two tiles or more; found none"):
        report_maps([lonely])
    one = report_maps([trial(0, AREAS), trial(1, AREAS)])
    assert one.patients == 1
    assert one.chosen is None  # of one patient nothing is known with an interval
    one.lines()


def test_order_of_slides_changes_nothing():
    trials = [trial(k, AREAS) for k in range(12)]
    assert report_maps(trials).to_dict() == report_maps(trials[::-1]).to_dict()


def test_means_leave_out_what_is_not_known():
    table = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    first, second = mean_intervals(table, ["A", "B", "C", "D"], 0, [(-9, 9)] * 2)
    assert first.estimate == 2
    assert first.n_groups == 3
    assert first.low < 2 < first.high
    assert np.isnan(second.estimate)


def test_intervals_hold_the_truth():
    """Means of 30 normal slides of 15 patients hold 0 in about 95 of 100 draws: 88 at least, which is 3 sigma."""
    rng = np.random.default_rng(0)
    patients = [f"P{k // 2}" for k in range(30)]
    draws = np.repeat(rng.normal(size=(15, 200)), 2, axis=0) + 0.3 * rng.normal(size=(30, 200))
    held = [one.low <= 0 <= one.high for one in mean_intervals(draws, patients, 1, [(-9, 9)] * 200, n=400)]
    assert 0.9 <= np.mean(held) <= 0.99


def test_every_map_has_its_place():
    assert set(AREAS) == set(MAPS)
