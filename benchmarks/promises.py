"""Whether the statistics of a cross-validated model keep what they promise, on cohorts of known truth.

    python -m benchmarks.promises --cohorts 20

Each cohort has 160 patients of one to four slides, six grades that are not equally frequent, three sites, and features
with an effect of the patient. Five fold models are fitted on it (class means, told too loudly), and everything is
judged on the slides of 160 new patients, at the sites of the cohort and at one that it has not seen. Sets of the fold
models cover a little more than was asked (`mil.conformal` says why); those of one model that are calibrated on slides
of other patients ("split") must be within two points of it, overall and for each grade. Ends with exit code 1 if a
promise is broken. Needs numpy alone; half a minute.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mil.calibration_choice import calibration_methods, choose_calibration
from mil.calibration_error import ece_debiased
from mil.conformal import ConformalSets, Within, filled
from mil.conformal_scores import SCORES, slide_uniforms
from mil.gap_test import gap_test
from mil.links import softmax
from mil.metrics import accuracy, ece, log_loss

GRADES, FEATURES, FOLDS = 6, 16, 5
MIXTURE = np.array([0.3, 0.2, 0.18, 0.12, 0.12, 0.08])
LOUDNESS = 2.0
"""By how much the models' logits are too large."""

COVERAGE = 0.9

SPLIT = 1000
"""Patients that split sets are calibrated on, and judged on: so many of the rarest grade that chance is small."""


@dataclass(frozen=True)
class Slides:
    """Features (n, D), grades, patients, sites (n,)."""

    features: np.ndarray
    grade: np.ndarray
    patient: np.ndarray
    site: np.ndarray

    def __len__(self) -> int:
        return len(self.grade)


def draw(patients: int, rng: np.random.Generator, site: int | None = None) -> Slides:
    """Slides of new patients; features follow the grade, the patient and, at site 3, another stain."""
    who = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    worst = rng.choice(GRADES, patients, p=MIXTURE)[who]
    grade = np.where(rng.random(len(who)) < 0.8, worst, rng.choice(GRADES, len(who), p=MIXTURE))
    where = rng.integers(0, 3, patients)[who] if site is None else np.full(len(who), site)
    centre = np.outer(np.arange(GRADES), np.eye(FEATURES)[0] * 1.1) + np.eye(GRADES, FEATURES) * 0.8
    own = rng.normal(size=(patients, FEATURES))[who] * 0.5
    stain = np.where(where == 3, 1.2, 0.0)[:, None]
    features = centre[grade] + own + rng.normal(size=(len(who), FEATURES)) * 0.8 + stain
    return Slides(features, grade, who, where)


def fitted(slides: Slides) -> Callable[[np.ndarray], np.ndarray]:
    """A model of class means with one variance, whose logits are too large."""
    means = np.stack([slides.features[slides.grade == k].mean(axis=0) for k in range(GRADES)])
    spread = np.mean([slides.features[slides.grade == k].var(axis=0).mean() for k in range(GRADES)])
    prior = np.log(np.bincount(slides.grade, minlength=GRADES) + 1)
    return lambda x: LOUDNESS * (prior - ((x[:, None] - means) ** 2).sum(axis=2) / (2 * spread))  # (n, C)


def one_cohort(seed: int) -> dict[str, float]:
    """Every figure of one cohort."""
    rng = np.random.default_rng(seed)
    cohort, new, far = draw(160, rng), draw(160, rng), draw(160, rng, site=3)
    fold = cohort.patient % FOLDS
    models = []
    for k in range(FOLDS):
        seen = fold != k
        models.append(
            fitted(Slides(cohort.features[seen], cohort.grade[seen], cohort.patient[seen], cohort.site[seen]))
        )
    logits = np.stack([models[k](row[None])[0] for k, row in zip(fold, cohort.features, strict=True)])
    found = _split_sets(models[0], rng, seed)
    found |= _sets(cohort, logits, fold, new, models, seed) | _calibration(cohort, logits, fold, new, far, models)
    predicted = softmax(np.mean([model(new.features) for model in models], axis=0)).argmax(axis=1)
    measure = {"accuracy": lambda y, k, _: accuracy(y, k)}
    blank = np.zeros((len(new), GRADES))
    gap = gap_test(measure, new.grade, predicted, blank, new.site.astype(str), new.patient, n=199, seed=seed)
    return found | {"gap between like sites: p <= .05": float(gap["accuracy"].p_value <= 0.05)}


def _sets(
    cohort: Slides, logits: np.ndarray, fold: np.ndarray, new: Slides, models: list, seed: int
) -> dict[str, float]:
    each = softmax(np.stack([model(new.features) for model in models], axis=1))  # (m, K, C)
    before = slide_uniforms([f"cohort-{row}" for row in range(len(cohort))], seed)
    after = slide_uniforms([f"new-{row}" for row in range(len(new))], seed)
    kinds: tuple[Within, ...] = ("all", "class")
    found = {}
    for score in SCORES:
        for within in kinds:
            sets = ConformalSets(score, COVERAGE, within)
            sets.fit(softmax(logits), cohort.grade, fold, patients=cohort.patient, uniform=before)
            held = sets.sets(each, uniform=after)
            hit = held[np.arange(len(new)), new.grade]
            name = f"sets {score} within {within}"
            found |= {f"{name}: coverage": float(hit.mean()), f"{name}: size": float(held.sum(axis=1).mean())}
            if score == "ordinal":
                found[f"{name}: contiguous"] = float((filled(held) == held).all())
            found |= {f"{name}: coverage of grade {k}": float(hit[new.grade == k].mean()) for k in range(GRADES)}
    return found


def _split_sets(model: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator, seed: int) -> dict[str, float]:
    """One model, and sets calibrated on patients that no model has seen: by theory the chosen coverage.

    Counted before the best class is put into every set, which covers one or two points more.
    """
    held_back, new = draw(SPLIT, rng), draw(SPLIT, rng)
    before = slide_uniforms([f"held-back-{row}" for row in range(len(held_back))], seed)
    after = slide_uniforms([f"new-{row}" for row in range(len(new))], seed)
    kinds: tuple[Within, ...] = ("all", "class")
    found = {}
    for within in kinds:
        sets = ConformalSets("ordinal", COVERAGE, within)
        sets.fit(softmax(model(held_back.features)), held_back.grade, patients=held_back.patient, uniform=before)
        usual = sets.p_values(softmax(model(new.features)), uniform=after)
        hit = usual[np.arange(len(new)), new.grade] > 1 - COVERAGE + 1e-12
        found[f"sets split ordinal within {within}: coverage"] = float(hit.mean())
        if within == "class":
            grades = {f"of grade {k}": float(hit[new.grade == k].mean()) for k in range(GRADES)}
            found |= {f"sets split ordinal within class: coverage {name}": value for name, value in grades.items()}
    return found


def _calibration(
    cohort: Slides, logits: np.ndarray, fold: np.ndarray, new: Slides, far: Slides, models: list
) -> dict[str, float]:
    methods = calibration_methods("grade", softmax)
    choice = choose_calibration(methods, logits, cohort.grade, fold, cohort.patient)
    ways = {name: make().fit(logits, cohort.grade).transform for name, make in methods.items()}
    ways = {"none": softmax, **ways, "as chosen": choice.calibrator.transform}
    found = {f"chosen: {choice.method}": 1.0}
    for name, transform in ways.items():
        near, away = (np.mean([transform(model(part.features)) for model in models], axis=0) for part in (new, far))
        found[f"calibration {name}: log loss"] = log_loss(new.grade, near)
        found[f"calibration {name}: ECE"] = ece(new.grade, near)
        found[f"calibration {name}: ECE debiased"] = ece_debiased(new.grade, near)
        found[f"calibration {name}: ECE debiased, new site"] = ece_debiased(far.grade, away)
    right = near.argmax(axis=1) == new.grade
    surest = np.argsort(-near.max(axis=1), kind="stable")[: len(new) // 2]
    return found | {"accuracy of all": float(right.mean()), "accuracy of the surer half": float(right[surest].mean())}


def condensed(mean: dict[str, float]) -> dict[str, float]:
    """The figures with the least covered grade in place of every grade."""
    least: dict[str, float] = {}
    for name, value in mean.items():
        kind, _, grade = name.partition(" of grade ")
        key = f"{kind} of the least covered grade" if grade else name
        least[key] = min(value, least.get(key, value))
    return least


def split_off(mean: dict[str, float]) -> list[str]:
    """Split sets that are more than two points off, either way; every grade counts, so before `condensed`."""
    return [
        f"{name} is {value:.3f}" for name, value in mean.items() if "split" in name and abs(value - COVERAGE) > 0.02
    ]


def broken(mean: dict[str, float]) -> list[str]:
    """The promises that the mean over cohorts does not keep."""
    wrong = [
        f"{name} is {value:.3f}"
        for name, value in mean.items()
        if (name.endswith(": coverage") or "class: coverage" in name) and value < COVERAGE - 0.02
    ]
    wrong += [f"{name} in {value:.3f} of cohorts" for name, value in mean.items() if "contiguous" in name and value < 1]
    wrong += ["ECE is above .05 after calibration"] * (mean["calibration as chosen: ECE debiased"] > 0.05)
    wrong += ["the surer half is not surer"] * (mean["accuracy of the surer half"] < mean["accuracy of all"])
    return wrong + ["gaps are found where there are none"] * (mean["gap between like sites: p <= .05"] > 0.2)


def main() -> int:
    """Print the mean of every figure over the cohorts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = [one_cohort(args.seed + number) for number in range(args.cohorts)]
    names = dict.fromkeys(name for one in found for name in one)
    table = {name: np.array([one.get(name, 0.0) for one in found]) for name in names}
    every = {name: float(values.mean()) for name, values in table.items()}
    mean = condensed(every)
    for name, value in mean.items():
        reach = 1.96 * table[name].std(ddof=1) / np.sqrt(len(found)) if name in table and len(found) > 1 else np.nan
        print(f"{name:<68}{value:.3f}" + (f" ({value - reach:.3f} to {value + reach:.3f})" if reach > 0 else ""))
    wrong = broken(mean) + split_off(every)
    print("\n".join(wrong) if wrong else "every promise is kept")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
