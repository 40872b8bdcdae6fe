import numpy as np
import pytest
from scipy.stats import spearmanr

from mil.faithfulness import (
    STEPS,
    chance,
    compare_maps,
    deletion,
    insertion,
    judge_map,
    rank_correlation,
    stability,
    summarise,
)
from mil.links import sigmoid
from wsi.errors import UsageError

EVIDENCE = np.array([4.0, 3.0, 2.0, 1.0])
EVERY = (0, 1 / 3, 2 / 3, 1)


def share_of(evidence):
    return lambda kept: evidence[kept].sum() / evidence.sum()


def test_curves_by_hand():
    gone = deletion(share_of(EVIDENCE), np.array([0, 1, 2, 3]), EVERY)
    np.testing.assert_allclose(gone.share, [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(gone.score, [1, 0.6, 0.3, 0.1])
    np.testing.assert_allclose(gone.area, (1 / 2 + 0.6 + 0.3 + 0.1 / 2) / 3)
    back = insertion(share_of(EVIDENCE), np.array([0, 1, 2, 3]), EVERY)
    np.testing.assert_allclose(back.share, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(back.score, [0.4, 0.7, 0.9, 1])


def test_the_scorer_gets_kept_tiles_rising_and_never_none():
    asked = []

    def scorer(kept):
        asked.append(kept)
        return 0.5

    judge_map(scorer, np.array([1.0, 5.0, 3.0]), repeats=1, steps=EVERY)
    assert all(len(kept) and (np.diff(kept) > 0).all() for kept in asked)
    assert asked[0].tolist() == [0, 1, 2]
    assert asked[1].tolist() == [0, 2]
    assert asked[2].tolist() == [0]
    assert asked[3].tolist() == [1]


def slide(rng, tiles=200, tumour=8):
    """A slide with a few tiles of tumour; its score is attention pooling's: the mean evidence of what is attended."""
    evidence = rng.normal(-2, 0.5, tiles)
    evidence[rng.choice(tiles, tumour, replace=False)] = 4

    def scorer(kept):
        weight = np.exp(evidence[kept])
        return float(sigmoid((weight * evidence[kept]).sum() / weight.sum()))

    return evidence, scorer


def test_the_true_map_beats_chance_and_a_random_or_inverted_map_does_not():
    rng = np.random.default_rng(0)
    evidence, scorer = slide(rng)
    true = judge_map(scorer, evidence)
    assert true.deletion_gain > 0.3
    assert true.insertion_gain > 0.02
    assert true.p_value == 1 / 21
    inverted = judge_map(scorer, -evidence)
    assert inverted.deletion_gain < 0
    assert inverted.insertion_gain < 0
    assert inverted.p_value > 0.9
    np.testing.assert_array_equal(true.random_deletion, inverted.random_deletion)


def test_p_values_of_random_maps_are_uniform():
    rng = np.random.default_rng(1)
    _, scorer = slide(rng, 40, 3)
    found = [judge_map(scorer, rng.normal(size=40), repeats=19, seed=k).p_value for k in range(100)]
    # On 0.05, 0.1, ... 1 evenly: the mean of 100 is 0.525 with a standard deviation of 0.029.
    assert abs(np.mean(found) - 0.525) < 3 * 0.029
    assert np.mean(np.array(found) <= 0.1) <= 0.2


def test_a_map_without_contrast_is_a_random_order():
    _, scorer = slide(np.random.default_rng(2))
    found = judge_map(scorer, np.zeros(200), repeats=50)
    assert found.random_deletion.min() <= found.deletion.area <= found.random_deletion.max()


def test_summary_and_comparison_by_patient():
    rng = np.random.default_rng(3)
    slides = [slide(rng, 60, 4) for _ in range(12)]
    true = [judge_map(scorer, evidence, repeats=5) for evidence, scorer in slides]
    noisy = [judge_map(scorer, rng.normal(size=60), repeats=5) for _, scorer in slides]
    patients = [f"P{k // 2}" for k in range(12)]
    told = summarise(true, patients)
    assert told["deletion_gain"].low > 0
    assert told["deletion_gain"].n_groups == 6
    np.testing.assert_allclose(told["deletion"].estimate, np.mean([one.deletion.area for one in true]))
    told = summarise(noisy, patients)
    assert told["deletion_gain"].low < 0 < told["deletion_gain"].high
    assert compare_maps(true, noisy, patients).low > 0
    assert compare_maps(true, true, patients).estimate == 0


def test_slides_of_one_tile_have_no_order():
    one = judge_map(lambda kept: 0.7, np.array([1.0]))
    assert np.isnan(one.deletion.area)
    assert np.isnan(one.p_value)
    evidence, scorer = slide(np.random.default_rng(4), 30, 2)
    both = summarise([one, judge_map(scorer, evidence)], ["A", "B"])
    assert both["deletion"].n_groups == 1
    assert np.isnan(summarise([one], ["A"])["deletion"].estimate)
    with pytest.raises(UsageError, match="two tiles or more; found none"):
        compare_maps([one], [one], ["A"])


def test_a_hundred_thousand_tiles_take_as_few_questions_as_a_hundred():
    calls = []
    order = np.random.default_rng(5).permutation(100_000)
    found = deletion(lambda kept: calls.append(len(kept)) or 0.5, order)
    assert len(calls) == len(STEPS)
    assert calls[0] == 100_000
    assert calls[-1] == 1
    assert found.area == 0.5


def test_two_tiles():
    found = judge_map(share_of(np.array([3.0, 1.0])), np.array([3.0, 1.0]), repeats=4)
    np.testing.assert_allclose(found.deletion.score, [1, 0.25])
    assert set(np.round(found.random_deletion, 3)) <= {0.625, 0.875}


def test_maps_that_are_none_are_refused():
    with pytest.raises(UsageError, match="one finite number for each tile"):
        judge_map(lambda kept: 0.5, np.array([0.1, np.nan]))
    with pytest.raises(UsageError, match="one finite number for each tile"):
        judge_map(lambda kept: 0.5, np.zeros(0))
    with pytest.raises(UsageError, match="is not a number"):
        judge_map(lambda kept: np.nan, np.zeros(3))
    with pytest.raises(UsageError, match="at least one; found 0"):
        judge_map(lambda kept: 0.5, np.zeros(3), repeats=0)


@pytest.mark.parametrize("decimals", [0, 8])
def test_rank_correlation_is_that_of_scipy(decimals):
    a, b = np.round(np.random.default_rng(6).normal(size=(2, 50)) * 3, decimals)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert np.isnan(rank_correlation(np.ones(5), np.arange(5)))


def test_stability_of_maps():
    evidence = np.random.default_rng(7).normal(size=300)
    assert (stability(lambda kept: evidence[kept], 300) > 1 - 1e-12).all()
    noise = stability(lambda kept: np.random.default_rng(len(kept)).normal(size=len(kept)), 300, repeats=20)
    assert abs(noise.mean()) < 0.2
    near = stability(lambda kept: evidence[kept] - evidence[kept].max() * (np.arange(len(kept)) % 2), 300)
    assert (near < 0.9).all()
    assert np.abs(stability(lambda kept: evidence[kept], 3, repeats=4)).tolist() == pytest.approx([1] * 4)
    with pytest.raises(UsageError, match="stability needs three tiles"):
        stability(lambda kept: kept, 2)


def test_gain_turns_its_sign_with_the_order_and_deletion_alone_does_not():
    """Keeping the lowest share of an order is keeping the highest of its reverse: by hand for every step."""
    rng = np.random.default_rng(8)
    evidence, scorer = slide(rng, 60, 4)
    steps = np.arange(60) / 59
    there, back = (judge_map(scorer, sign * evidence, repeats=8, steps=steps) for sign in (1, -1))
    np.testing.assert_allclose(there.deletion.area, back.insertion.area, atol=1e-12)
    drawn = (there.random_insertion - there.random_deletion).mean()
    np.testing.assert_allclose(there.gain + drawn, -(back.gain + drawn), atol=1e-12)
    # like tiles together, in both directions: the mean gain is none, but deletion alone claims one
    noise = [judge_map(scorer, sign * evidence, repeats=20, steps=steps) for sign in (1, -1)]
    assert np.mean([one.deletion_gain for one in noise]) > 0.1
    assert abs(np.mean([one.gain for one in noise])) < 0.05


def test_random_orders_can_be_shared_between_maps():
    evidence, scorer = slide(np.random.default_rng(9), 40, 3)
    drawn = chance(scorer, 40, repeats=6, seed=3)
    shared, own = judge_map(scorer, evidence, against=drawn), judge_map(scorer, evidence, repeats=6, seed=3)
    np.testing.assert_array_equal(shared.random_deletion, own.random_deletion)
    np.testing.assert_array_equal(shared.deletion.score, own.deletion.score)
