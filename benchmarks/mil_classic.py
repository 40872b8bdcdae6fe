"""The classic small benchmarks of multiple instance learning: MUSK1, MUSK2, Fox, Tiger, Elephant, 5 x 10-fold.

    python -m benchmarks.mil_classic DATA [--out cells.json] [--models abmil,dissimilarity] [--sets musk1,tiger]
                                     [--repeats 5] [--processes 2]
    python -m benchmarks.mil_classic DATA --choose abmil [--sides 2]

DATA holds <set>.npz: X (tiles, D), bag (tiles,), y (bags,) and fold (5, bags); MUSK2 has no folds and gets stratified
ones of the seeds 0 to 4. Networks are trained by `mil.lit.fit_fold` with one recipe a model for all five sets
(`RECIPES`), to the last epoch; nothing looks at the test folds. A cell is one model on one set in one repeat. Cells
that are done with the same recipe are kept, so a run that is cut short goes on where it was. `a+b` among the models is
the mean of the probabilities of a and b.

--choose compares the recipes in `CANDIDATES` by inner 10-fold cross-validation on the training sides of the first outer
folds, whose test sides it does not touch.

Shown: mean accuracy over the repeats and its standard deviation, beside the published means (from Ilse et al. 2018,
table 1, and Li et al. 2021, table 5; errors as published for gated attention).
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mil.bag import Bag
from mil.lit import FitConfig, fit_fold
from mil.network import NetworkSpec, predict
from mil.packing import Packing

SETS = ("musk1", "musk2", "fox", "tiger", "elephant")
FOLDS = 10

PUBLISHED = {
    "mi-Net": (0.889, 0.858, 0.613, 0.824, 0.858),
    "MI-Net with DS": (0.894, 0.874, 0.630, 0.845, 0.872),
    "Attention": (0.892, 0.858, 0.615, 0.839, 0.868),
    "Gated attention": (0.900, 0.863, 0.603, 0.845, 0.857),
    "DSMIL": (0.932, 0.930, 0.729, 0.869, 0.925),
}
GATED_ERRORS = (0.050, 0.042, 0.029, 0.018, 0.027)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, on all sets alike."""

    options: dict[str, Any] = field(default_factory=dict)
    epochs: int = 20
    lr: float = 1e-3
    weight_decay: float = 1e-2
    slides: int = 16

    def config(self) -> FitConfig:
        packing = Packing(slides=self.slides, tiles=1 << 16, bag_tiles=1 << 12)
        return FitConfig(epochs=self.epochs, lr=self.lr, weight_decay=self.weight_decay, packing=packing, device="cpu")


RECIPES = {
    "abmil": Recipe(),
    "dsmil": Recipe(),
    "clam_sb": Recipe(),
    "transmil": Recipe({"hidden": 64, "heads": 4, "landmarks": 16}),
    "dissimilarity": Recipe(epochs=1, slides=64),
}
CANDIDATES = {
    "abmil": [Recipe(epochs=epochs, lr=lr) for epochs in (20, 40) for lr in (5e-4, 1e-3, 2e-3)],
    "dsmil": [Recipe(epochs=epochs, lr=lr) for epochs in (20, 40) for lr in (5e-4, 1e-3, 2e-3)],
    "clam_sb": [Recipe(epochs=epochs, lr=lr) for epochs in (20, 40) for lr in (5e-4, 1e-3, 2e-3)],
    "transmil": [
        Recipe({"hidden": hidden, "heads": 4, "landmarks": 16}, lr=lr) for hidden in (64, 128) for lr in (2e-4, 1e-3)
    ],
    "dissimilarity": [Recipe({"clip": clip}, epochs=1, slides=64) for clip in (2.0, 3.0, 1e6)],
}


@dataclass(frozen=True)
class Cohort:
    """One of the sets."""

    bags: list[Bag]
    targets: np.ndarray
    folds: np.ndarray

    @classmethod
    def load(cls, path: Path) -> "Cohort":
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        targets = arrays["y"].astype(np.int64)
        bags = []
        for number in range(len(targets)):
            features = arrays["X"][arrays["bag"] == number].astype(np.float32)
            nowhere = np.full((len(features), 2), np.nan, np.float32)
            bags.append(Bag(f"{path.stem}-{number}", features, nowhere, np.arange(len(features))))
        folds = arrays["fold"] if "fold" in arrays else np.stack([stratified(targets, seed) for seed in range(5)])
        return cls(bags, targets, folds)

    def held_out(self, model: str, recipe: Recipe, sides: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Probability of class 1 of each bag that some test side holds, NaN of the others."""
        found = np.full(len(self.bags), np.nan)
        for train, test in sides:
            spec = NetworkSpec(model, "cross_entropy", self.bags[0].features.shape[1], 2, recipe.options)
            chosen = [self.bags[row] for row in train]
            network = fit_fold(spec, chosen, self.targets[train], recipe.config(), seed=0)
            loss = spec.build_class_loss()
            for row in test:
                logits, _, _ = predict(network, self.bags[row])
                found[row] = loss.probabilities(logits[None])[0, 1]
        return found


def stratified(targets: np.ndarray, seed: int) -> np.ndarray:
    """Number of the fold of each bag, (n,)."""
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(np.flatnonzero(targets == one)) for one in np.unique(targets)])
    folds = np.empty(len(targets), np.int64)
    folds[order] = np.arange(len(targets)) % FOLDS
    return folds


def outer_sides(folds: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for fold in range(FOLDS):
        yield np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)


def inner_sides(cohort: Cohort, fold: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Inner folds of the training side of one outer fold of the first repeat."""
    train = np.flatnonzero(cohort.folds[0] != fold)
    folds = stratified(cohort.targets[train], 1_000 + fold)
    for one in range(FOLDS):
        yield train[folds != one], train[folds == one]


def one_cell(data: Path, model: str, name: str, repeat: int) -> list[float]:
    cohort = Cohort.load(data / f"{name}.npz")
    found = cohort.held_out(model, RECIPES[model], outer_sides(cohort.folds[repeat]))
    return [round(float(one), 6) for one in found]


def one_choice(data: Path, model: str, name: str, candidate: int, side: int) -> float:
    """Accuracy on the inner folds of one training side."""
    cohort = Cohort.load(data / f"{name}.npz")
    found = cohort.held_out(model, CANDIDATES[model][candidate], inner_sides(cohort, side))
    return accuracy(found, cohort.targets)


def accuracy(found: np.ndarray, targets: np.ndarray) -> float:
    """Share of right answers among the bags that were held out; a probability of 1/2 is class 0."""
    held = ~np.isnan(found)
    return float(((found > 0.5) == (targets == 1))[held].mean())


def key_of(model: str, name: str, repeat: int) -> str:
    return f"{model}/{name}/{repeat}"


def fill(data: Path, out: Path, wanted: Sequence[tuple[str, str, int]], processes: int) -> dict[str, Any]:
    """Cells by key: those of `out` that are done, and the others, each saved when it is."""
    cells: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    todo = [one for one in wanted if cells.get(key_of(*one), {}).get("recipe") != asdict(RECIPES[one[0]])]
    print(f"{len(wanted) - len(todo)} cells are done, {len(todo)} to do", flush=True)
    with pool(processes) as workers:
        jobs = {workers.submit(one_cell, data, *one): one for one in todo}
        for job in as_completed(jobs):
            model, name, repeat = jobs[job]
            cells[key_of(model, name, repeat)] = {"recipe": asdict(RECIPES[model]), "probabilities": job.result()}
            part = out.with_suffix(".part")
            part.write_text(json.dumps(cells, sort_keys=True))
            part.replace(out)
            print(f"{time.strftime('%H:%M:%S')}  {model:<14}{name:<9} repeat {repeat}", flush=True)
    return cells


def pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))


def table(data: Path, cells: dict[str, Any], models: Sequence[str], sets: Sequence[str], repeats: int) -> None:
    print(f"{'':<26}" + "".join(f"{name:>15}" for name in sets))
    for label, row in PUBLISHED.items():
        print(f"{label + ', published':<26}" + "".join(f"{row[SETS.index(name)]:>8.3f}{'':<7}" for name in sets))
    cohorts = {name: Cohort.load(data / f"{name}.npz") for name in sets}
    for model in models:
        shown = []
        for name in sets:
            found = [repeated(cells, model, name, repeat) for repeat in range(repeats)]
            scores = [accuracy(one, cohorts[name].targets) for one in found if one is not None]
            shown.append(f"{np.mean(scores):>8.3f} ± {np.std(scores):.3f}" if scores else f"{'-':>8}{'':<7}")
        print(f"{model + ', ours':<26}" + "".join(f"{one:<15}" for one in shown))


def repeated(cells: dict[str, Any], model: str, name: str, repeat: int) -> np.ndarray | None:
    """Probabilities of one repeat, of `a+b` their mean; None where a cell is missing."""
    keys = [key_of(part, name, repeat) for part in model.split("+")]
    if any(key not in cells for key in keys):
        return None
    return np.mean([cells[key]["probabilities"] for key in keys], axis=0)


def choose(data: Path, model: str, sets: Sequence[str], sides: int, processes: int) -> None:
    """Print the inner accuracy of every candidate, by set and as the mean over sets."""
    with pool(processes) as workers:
        jobs = {
            (candidate, name): [workers.submit(one_choice, data, model, name, candidate, side) for side in range(sides)]
            for candidate in range(len(CANDIDATES[model]))
            for name in sets
        }
        print(f"{'mean':>7}" + "".join(f"{name:>10}" for name in sets) + f"   {model}, inner folds of {sides} sides")
        for candidate, recipe in enumerate(CANDIDATES[model]):
            scores = [np.mean([job.result() for job in jobs[candidate, name]]) for name in sets]
            print(f"{np.mean(scores):>7.3f}" + "".join(f"{one:>10.3f}" for one in scores) + f"   {recipe}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("mil_classic.json"))
    parser.add_argument("--models", default=",".join(RECIPES))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--choose", choices=sorted(CANDIDATES))
    parser.add_argument("--sides", type=int, default=2)
    options = parser.parse_args()
    sets, models = options.sets.split(","), options.models.split(",")
    if options.choose:
        choose(options.data, options.choose, sets, options.sides, options.processes)
        return
    parts = list(dict.fromkeys(part for model in models for part in model.split("+")))
    wanted = [(model, name, repeat) for repeat in range(options.repeats) for model in parts for name in sets]
    cells = fill(options.data, options.out, wanted, options.processes)
    print(f"5 x {FOLDS}-fold: {options.repeats} repeats; ± is the standard deviation over them")
    table(options.data, cells, models, sets, options.repeats)
    gated = "  ".join(f"{name} {error:.3f}" for name, error in zip(SETS, GATED_ERRORS, strict=True))
    print(f"published errors of gated attention: {gated}")


if __name__ == "__main__":
    main()
