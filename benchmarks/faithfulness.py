"""Do heatmaps show what the model goes by? Every map on slides of known truth, and what must hold.

    python -m benchmarks.faithfulness --store STORES --labels labels.csv --truth DIR --out DIR [--models abmil,additive]

Trains each model (a model folder that is there already is taken as it is), judges its maps on held-out slides as
`histograde explain` does, and prints the table. A cohort of known truth comes from `histograde demo --out DIR`
(features, and training-slides/ with labels and truth), one of real textures from `benchmarks/mosaic.py`.

What must hold, by intervals over patients; exit code 1 if something does not:

    chosen        the smallest deletion area on these slides is not larger than that of raw attention
    elsewhere     nor is that of the map that the other folds choose, judged on slides that did not choose it
    wide margin   the deletion area of the chosen map is half of that of random order at most, intervals apart
    control       with random weights no map does better than random order
    pointing      the chosen map finds the drawn lesions: AUROC of tiles above 0.8
"""

import argparse
import sys
from pathlib import Path

from mil.map_choice import MapReport
from workflows.explaining import ExplainConfig, explain_model
from workflows.training import train
from workflows.training_config import TrainConfig
from wsi.store_url import StorePath, store_location


def must_hold(found: MapReport) -> dict[str, tuple[bool, str]]:
    """What must hold of a model's maps, and with which figures."""
    if found.chosen is None:
        return {"chosen": (False, "no map may be shown")}
    own, attention = found.figures[found.chosen], found.figures["attention"]
    over = found.elsewhere.over_attention
    controls = {name: one.control_gain for name, one in found.figures.items()}
    return {
        "chosen": (
            own.deletion.estimate <= attention.deletion.estimate,
            f"{own.deletion}, attention {attention.deletion}",
        ),
        "elsewhere": (over.high >= 0, f"smaller than that of attention by {over}"),
        "wide margin": (
            own.deletion.estimate <= found.random.estimate / 2 and own.deletion.high < found.random.low,
            f"{own.deletion}, random order {found.random}",
        ),
        "control": (
            all(one.control_failed for one in found.figures.values()),
            "; ".join(f"{name} {gain}" for name, gain in controls.items()),
        ),
        "pointing": (own.agreement.estimate > 0.8, str(own.agreement)),
    }


def judge(name: str, store: StorePath, labels: Path, truth: Path, out: Path, seed: int) -> bool:
    """Train or take one model, print its table and what holds; whether all of it does."""
    folder = out / name
    if not (folder / "model.json").exists():
        train(TrainConfig(store, labels, folder, model=name, device="cpu", seed=seed), lambda line: None)
    found = explain_model(ExplainConfig(folder, store, truth, seed=seed), lambda line: None)
    print(f"\n{name}: {found.slides} slides of {found.patients} patients")
    for line in found.lines():
        print(line)
    told = must_hold(found)
    for what, (holds, figures) in told.items():
        print(f"  {'holds' if holds else 'DOES NOT HOLD':<14}{what:<13}{figures}")
    return all(holds for holds, _ in told.values())


def main() -> None:
    """Judge, print, and fail where a promise is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", required=True, help="folder of feature stores")
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True, help="folder of SLIDE.geojson")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model folders")
    parser.add_argument("--models", default="abmil,additive")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    store = store_location(args.store)
    held = [judge(name, store, args.labels, args.truth, args.out, args.seed) for name in args.models.split(",")]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
