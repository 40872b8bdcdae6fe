import numpy as np
import pytest
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw
from sksurv.nonparametric import CensoringDistributionEstimator
from sksurv.util import Surv

from mil.survival_metrics import concordance, not_censored, uno_concordance
from wsi.errors import UsageError


def patients(seed: int, n: int = 150, decimals: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, events and risks; rounded, so that both have ties where `decimals` is 0."""
    rng = np.random.default_rng(seed)
    times = np.round(rng.exponential(10, n), decimals) + 1
    risks = np.round(-times + rng.normal(0, 8, n), decimals)
    return times, rng.random(n) < 0.6, risks


@pytest.mark.parametrize("decimals", [0, 8])
@pytest.mark.parametrize("n", [2, 3, 64, 65, 150])
def test_harrell_against_scikit_survival(decimals: int, n: int) -> None:
    for seed in range(5):
        times, events, risks = patients(seed, n, decimals)
        events[times.argmin()] = True
        if len(np.unique(times)) < 2:
            continue
        expected = concordance_index_censored(events, times, risks)[0]
        assert concordance(times, events, risks) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("decimals", [0, 8])
@pytest.mark.parametrize("seed", range(4))
def test_uno_against_scikit_survival(decimals: int, seed: int) -> None:
    times, events, risks = patients(seed, decimals=decimals)
    train_times, train_events, _ = patients(seed + 100, 300, decimals)
    horizon = float(np.quantile(times, 0.8))
    train, test = Surv.from_arrays(train_events, train_times), Surv.from_arrays(events, times)
    expected = concordance_index_ipcw(train, test, risks, tau=horizon)[0]
    found = uno_concordance(times, events, risks, horizon=horizon, censoring=(train_times, train_events))
    assert found == pytest.approx(expected, abs=1e-12)
    expected = concordance_index_ipcw(test, test, risks, tau=horizon)[0]
    assert uno_concordance(times, events, risks, horizon=horizon) == pytest.approx(expected, abs=1e-12)


def test_share_not_censored_against_scikit_survival() -> None:
    times, events, _ = patients(7, decimals=0)
    oracle = CensoringDistributionEstimator().fit(Surv.from_arrays(events, times))
    at = np.unique(times)
    np.testing.assert_allclose(not_censored(times, events, at), oracle.predict_proba(at), atol=1e-12)
    assert not_censored(times, events, np.array([0.0])).tolist() == [1]


def test_by_hand() -> None:
    # Comparable: (1, 2), (1, 3), (1, 4), (3, 4); patient 2 is censored. Right: the first two and the last; one tie.
    assert concordance([1, 2, 3, 4], [1, 0, 1, 1], [5, 3, 4, 5]) == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert concordance([1, 2, 3], [1, 1, 1], [3, 2, 1]) == 1
    assert concordance([1, 2, 3], [1, 1, 1], [1, 2, 3]) == 0


def test_ties_in_time() -> None:
    assert np.isnan(concordance([2, 2], [1, 1], [1, 0]))  # two events at once have no order
    assert concordance([2, 2], [1, 0], [1, 0]) == 1  # who is censored then lives longer
    assert concordance([2, 2], [0, 1], [1, 0]) == 0


@pytest.mark.parametrize("metric", [concordance, uno_concordance])
def test_nothing_to_compare_is_nan(metric) -> None:
    assert np.isnan(metric([], [], []))
    assert np.isnan(metric([1.0], [1], [0.0]))
    assert np.isnan(metric([1.0, 2.0], [0, 0], [0.0, 1.0]))


def test_order_of_rows_does_not_matter() -> None:
    times, events, risks = patients(3, decimals=0)
    mixed = np.random.default_rng(0).permutation(len(times))
    for metric in (concordance, uno_concordance):
        assert metric(times[mixed], events[mixed], risks[mixed]) == pytest.approx(
            metric(times, events, risks), abs=1e-12
        )


def test_uno_does_not_hang_on_how_many_are_censored() -> None:
    """Without censoring both are one number; with much of it Uno's stays closer to that."""
    rng = np.random.default_rng(5)
    risks = rng.normal(size=20_000)
    times = rng.exponential(np.exp(-risks))
    whole = concordance(times, np.ones(len(times)), risks)
    assert uno_concordance(times, np.ones(len(times)), risks) == pytest.approx(whole, abs=1e-12)
    free = rng.exponential(0.7, len(times))
    seen, events = np.minimum(times, free), times <= free
    horizon = 2.0
    truth = uno_concordance(times, np.ones(len(times)), risks, horizon=horizon)
    assert uno_concordance(seen, events, risks, horizon=horizon) == pytest.approx(truth, abs=0.004)
    assert concordance(seen, events, risks) > truth + 0.007


def test_an_event_after_everybody_is_censored_does_not_count() -> None:
    learned = (np.array([1.0, 2.0]), np.array([True, False]))  # nobody is followed past 2
    assert uno_concordance([1, 3, 4], [1, 1, 1], [3, 1, 2], censoring=learned) == 1


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(UsageError, match="not a finite number"):
        concordance([1.0, np.nan], [1, 1], [0.0, 1.0])
    with pytest.raises(UsageError, match=r"expected times, events and risks"):
        concordance([1.0, 2.0], [1], [0.0, 1.0])
