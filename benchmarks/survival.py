"""Survival from bags of known hazard: the C-index of trained networks beside that of the hazard itself.

    python -m benchmarks.survival [--slides 400] [--new 1000] [--epochs 10] [--rounds 3] [--models abmil,mean]

A slide's hazard follows from the share s of its tiles that are aggressive, log h = 4 s, s uniform in [0, 1]; a tile is
32 normal numbers, an aggressive one has 1.5 added to the first four. Times are exponential, and about a third of the
slides are censored at a time of their own. Networks learn from `--slides` slides by Cox's partial likelihood, with the
risk sets of a batch of 32, and in four intervals of time; both are asked about `--new` others.

The oracle is the C-index of the true log hazard on the same new slides: on average nobody who sees the tiles can do
better. "gap" is how far below it a network is, mean over the rounds (seeds of slides and weights) and the worst of
them. C-indices are scikit-survival's.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np
from sksurv.metrics import concordance_index_censored

from mil.bag import Bag
from mil.lit import FitConfig, fit_fold
from mil.loss import SurvivalLoss
from mil.losses.discrete_time import event_quantiles
from mil.network import NetworkSpec, predict
from mil.packing import Packing

DIM = 32
TILES = (50, 150)


def simulated(slides: int, seed: int) -> tuple[list[Bag], np.ndarray, np.ndarray]:
    """Bags, their targets (n, 2) time and event, and their true log hazards (n,)."""
    rng = np.random.default_rng(seed)
    share = rng.random(slides)
    log_hazard = 4 * share
    death = rng.exponential(np.exp(-log_hazard))
    censoring = rng.exponential(2 * np.exp(-2), slides)
    targets = np.stack([np.minimum(death, censoring), death <= censoring], axis=1).astype(np.float32)
    return [_bag(f"S{number}", one, rng) for number, one in enumerate(share)], targets, log_hazard


def _bag(slide_id: str, share: float, rng: np.random.Generator) -> Bag:
    tiles = int(rng.integers(*TILES))
    features = rng.standard_normal((tiles, DIM), dtype=np.float32)
    features[: round(share * tiles), :4] += 1.5
    rows = np.arange(tiles)
    return Bag(slide_id, features, np.stack([rows % 10, rows // 10], axis=1).astype(np.float32) * 112, rows)


def concordance(targets: np.ndarray, risk: np.ndarray) -> float:
    """Harrell's C-index."""
    return float(concordance_index_censored(targets[:, 1] > 0, targets[:, 0], risk)[0])


def trained(
    spec: NetworkSpec, bags: Sequence[Bag], targets: np.ndarray, new: Sequence[Bag], epochs: int, seed: int
) -> np.ndarray:
    """Risks of new slides."""
    fit = FitConfig(epochs=epochs, packing=Packing(slides=32, tiles=8192), device="cpu")
    network = fit_fold(spec, bags, targets, fit, seed)
    loss: SurvivalLoss = spec.build_value_loss()  # type: ignore[assignment]
    return loss.risk(np.stack([predict(network, bag)[0] for bag in new]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("slides", 400), ("new", 1000), ("epochs", 10), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--models", default="abmil,mean")
    asked = parser.parse_args()
    names = [(model, loss) for model in asked.models.split(",") for loss in ("cox", "discrete_time")]
    gaps: dict[tuple[str, str], list[float]] = {name: [] for name in names}
    for seed in range(asked.rounds):
        bags, targets, _ = simulated(asked.slides, 2 * seed)
        new, wanted, log_hazard = simulated(asked.new, 2 * seed + 1)
        best = concordance(wanted, log_hazard)
        print(f"round {seed}: {1 - targets[:, 1].mean():.0%} of slides censored; C-index of the oracle {best:.3f}")
        for model, loss in names:
            options = {"cuts": event_quantiles(*targets.T)} if loss == "discrete_time" else {}
            spec, start = NetworkSpec(model, loss, DIM, 0, {}, options), time.perf_counter()
            found = concordance(wanted, trained(spec, bags, targets, new, asked.epochs, seed))
            gaps[model, loss].append(best - found)
            print(f"    {model:<8}{loss:<15}{found:.3f}  {time.perf_counter() - start:5.1f} s", flush=True)
    print("gap to the oracle, mean and worst")
    for (model, loss), found in gaps.items():
        print(f"    {model:<8}{loss:<15}{np.mean(found):.4f}  {max(found):.4f}")


if __name__ == "__main__":
    main()
