"""Peaks and FROC by hand, against a count over all thresholds, and with slides drawn twice."""

import numpy as np
import pytest

from mil.froc import FALSE_POSITIVES, Detections, froc_curve, froc_score, froc_sensitivities, peaks


def grid(side: int, step_um: float = 10.0) -> np.ndarray:
    return np.stack([np.arange(side**2) % side, np.arange(side**2) // side], axis=1) * step_um


def test_a_peak_silences_its_neighbours() -> None:
    scores = np.zeros(25)
    scores[[6, 7, 13, 24]] = 0.9, 0.8, 0.7, 0.6  # (1, 1), its neighbour (2, 1), (3, 2) two to the right, (4, 4)
    found = peaks(grid(5), scores, 15)
    assert found[:3].tolist() == [6, 13, 24]
    assert 7 not in found
    places = grid(5)[found]
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    assert apart[~np.eye(len(found), dtype=bool)].min() > 15
    near = np.hypot(*(grid(5)[:, None] - places[None]).transpose(2, 0, 1)).min(axis=1)
    assert near.max() <= 15  # nothing more could be chosen


def test_equal_scores_do_not_hang_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(0)
    places, scores = grid(9), rng.integers(0, 3, 81)
    mixed = rng.permutation(81)
    first, second = peaks(places, scores, 25), peaks(places[mixed], scores[mixed], 25)
    assert places[first].tolist() == places[mixed][second].tolist()


def test_one_tile_and_none() -> None:
    assert peaks(np.zeros((1, 2)), np.array([0.5]), 10).tolist() == [0]
    assert peaks(np.zeros((0, 2)), np.zeros(0), 10).tolist() == []


def made_up(seed: int, slides: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lesions = rng.integers(0, 4, slides)
    slide = np.sort(rng.integers(0, slides, 200))
    lesion = np.array([rng.integers(-1, lesions[s]) if rng.random() < 0.3 and lesions[s] else -1 for s in slide])
    return slide, lesion, np.round(rng.random(200), 2), lesions


@pytest.mark.parametrize("seed", range(3))
def test_curve_by_counting(seed: int) -> None:
    slide, lesion, score, lesions = made_up(seed)
    wrong, right = froc_curve(Detections.of(slide, lesion, score, lesions))
    expected = {(0.0, 0.0)}
    for threshold in np.unique(score):
        above = score >= threshold
        hit = {(s, one) for s, one in zip(slide[above], lesion[above], strict=True) if one >= 0}
        expected.add(((lesion[above] < 0).sum() / len(lesions), len(hit) / lesions.sum()))
    assert expected >= {(float(x), float(y)) for x, y in zip(wrong, right, strict=True)}
    assert max(expected) == (wrong[-1], right[-1])
    known = sorted(expected)
    levels = np.interp(FALSE_POSITIVES, [x for x, _ in known], [y for _, y in known])
    np.testing.assert_allclose(froc_sensitivities(Detections.of(slide, lesion, score, lesions)), levels)


def test_score_by_hand() -> None:
    """Four slides with four lesions: one found at once, one after two false positives, one after eight, one never."""
    order = [0, *[-1] * 2, 1, *[-1] * 6, 2, *[-1] * 40]
    slide = np.array([0 if one >= 0 else 1 + number % 3 for number, one in enumerate(order)])
    found = Detections.of(slide, np.array(order), -np.arange(len(order), dtype=float), np.array([4, 0, 0, 0]))
    # A slide has 1/4 after one false positive, 1/2 after two, where the second is found, and 2 after eight.
    assert froc_sensitivities(found).tolist() == pytest.approx([1 / 4, 2 / 4, 2 / 4, 3 / 4, 3 / 4, 3 / 4])
    assert froc_score(found) == pytest.approx(3.5 / 6)


def test_a_slide_drawn_twice_counts_twice() -> None:
    slide, lesion, score, lesions = made_up(5)
    rows = np.array([0, 0, 3, 5, 7, 7, 7])
    parts = [(number, np.flatnonzero(slide == one)) for number, one in enumerate(rows)]
    copied = Detections.of(
        np.concatenate([np.full(len(part), number) for number, part in parts]),
        np.concatenate([lesion[part] for _, part in parts]),
        np.concatenate([score[part] for _, part in parts]),
        lesions[rows],
    )
    found = Detections.of(slide, lesion, score, lesions)
    np.testing.assert_allclose(froc_sensitivities(found, rows), froc_sensitivities(copied), atol=1e-12)


def test_what_lies_below_changes_nothing() -> None:
    """Two thousand detections in four slides, with ties: more than are looked at first."""
    rng = np.random.default_rng(6)
    slide, score = rng.integers(0, 4, 2000), np.round(rng.random(2000), 2)
    lesion = np.where(rng.random(2000) < 0.02, rng.integers(0, 5, 2000), -1)
    found = Detections.of(slide, lesion, score, np.full(4, 5))
    for rows in (None, np.array([0, 0, 2, 3]), np.array([1, 1, 1, 1])):
        wrong, right = froc_curve(found, rows)
        np.testing.assert_array_equal(froc_sensitivities(found, rows), np.interp(FALSE_POSITIVES, wrong, right))
    assert len(found.best(100).score) == (found.score >= found.score[99]).sum()


def test_no_lesion_and_no_peak() -> None:
    nothing = np.zeros(0, np.int64)
    assert np.isnan(froc_score(Detections.of(np.array([0]), np.array([-1]), np.array([0.5]), np.array([0]))))
    assert froc_score(Detections.of(nothing, nothing, np.zeros(0), np.array([2, 0]))) == 0
