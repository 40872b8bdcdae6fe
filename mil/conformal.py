"""Sets of classes that hold the truth in a chosen share of slides, whatever the model. Numpy only.

Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World, 2005. A class stays in a slide's set unless it fits
the slide worse than their true classes fit nearly all calibration slides: with P calibration patients

    p(y) = (1 + sum_i w_i [s_i >= s(y)]) / (P + 1),     the set is {y : p(y) > 1 - coverage}

The weight w_i is one over the patient's slides (Lee, Barber, Willett: Distribution-free inference with hierarchical
data, 2023, https://arxiv.org/abs/2306.06342), so that a patient with many slides counts once.

What is promised, where calibration slides and new slides come from one source:

- One model, and calibration slides it has not seen (split conformal): coverage is at least the chosen one. Exact.
- The K fold models of a cross-validation, each slide's s_i by the model that has not seen it. A new slide's s(y) is
  held against s_i *by the same fold model*, so a set takes the probabilities of every fold (cross-conformal: Vovk
  2015, https://arxiv.org/abs/1208.0806; CV+ of Romano, Sesia, Candes 2020). Coverage is at least
  1 - 2a - 2 (1 - a) (K - 1) / (P + K) with a = 1 - coverage, since twice a mean of p-values is a p-value (Vovk, Wang
  2020; Barber et al.: Predictive inference with the jackknife+, 2021, https://arxiv.org/abs/1905.02928). In practice
  it is above the chosen one where the fold models disagree: 93 % instead of 90 % in `benchmarks/promises.py`.
- Pooled out-of-fold scores held against the ensemble's probabilities promise nothing, so this is not offered.

By class or by site (Mondrian) the same holds within each, with the patients of that class or site. Scores must come
from each network as it is, or scaled alike for calibration and new slides.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil
from typing import Any, Literal

import numpy as np

from mil.conformal_scores import SCORES, ScoreName
from wsi.errors import UsageError

Within = Literal["all", "class", "site"]


class ConformalSets:
    """Prediction sets at a chosen coverage.

    Parameters
    ----------
    score : "lac", "aps" or "ordinal"
        For grades "ordinal": every set is an interval.
    coverage : float
        Share of slides whose set is to hold the truth, above 0 and below 1.
    within : "all", "class" or "site"
        Where the promise is to hold: over all slides, for the slides of each class, or of each site.
    """

    def __init__(self, score: ScoreName = "ordinal", coverage: float = 0.9, within: Within = "all"):
        if score not in SCORES or within not in ("all", "class", "site"):
            raise UsageError(
                f"no sets by score {score!r} within {within!r}; there are lac, aps, ordinal; all, class, site"
            )
        if not 0 < coverage < 1:
            raise UsageError(f"coverage is {coverage}; it lies between 0 and 1, as 0.9")
        self.score: ScoreName = score
        self.coverage = coverage
        self.within = within

    @property
    def error(self) -> Fraction:
        """1 - coverage, exactly as it was written: 1/10 for 0.9, which is no binary number."""
        return 1 - Fraction(str(self.coverage))

    @property
    def least_patients(self) -> int:
        """As many calibration patients it takes to leave any class out: 9 at 90 %."""
        return ceil(1 / self.error) - 1

    def fit(
        self,
        probabilities: np.ndarray,
        targets: np.ndarray,
        fold: np.ndarray | None = None,
        *,
        patients: Sequence[str] | np.ndarray | None = None,
        sites: Sequence[str] | np.ndarray | None = None,
        uniform: np.ndarray | None = None,
    ) -> "ConformalSets":
        """Keep how badly its true class fits each calibration slide.

        Sets `scores_` (n,), `fold_` (n,), `stratum_` (n,) and `patients_` (calibration patients by stratum).

        Parameters
        ----------
        probabilities : ndarray (n, C)
            Of slides by the network that has not seen them.
        targets : ndarray (n,) int
        fold : ndarray (n,) int, optional
            Which fold's network that is, from 0; left out: one network, which has seen none of them.
        patients : (n,), optional
            Whose slide each is; without it each slide is a patient of its own.
        sites : (n,), optional
            Needed within sites.
        uniform : ndarray (n,), optional
            As of `slide_uniforms`, for "aps" and "ordinal"; without it 1, which makes sets larger.
        """
        probabilities, targets = _checked(probabilities), np.asarray(targets)
        every = SCORES[self.score](probabilities, _uniform(uniform, len(targets)))
        self.n_classes_ = probabilities.shape[1]
        self.scores_ = np.take_along_axis(every, targets[:, None], axis=1)[:, 0]
        self.fold_ = np.zeros(len(targets), dtype=np.int64) if fold is None else np.asarray(fold)
        self.stratum_ = self._strata(targets, sites)
        owner = np.arange(len(targets)) if patients is None else np.unique(np.asarray(patients), return_inverse=True)[1]
        self._weight = np.zeros(len(targets))
        self.patients_: dict[int | str, int] = {0: 0} if self.within == "all" else {}
        for stratum in np.unique(self.stratum_):
            rows = np.flatnonzero(self.stratum_ == stratum)
            _, place, slides = np.unique(owner[rows], return_inverse=True, return_counts=True)
            self._weight[rows] = 1 / slides[place]
            self.patients_[stratum.item()] = len(slides)
        return self

    @property
    def n_folds(self) -> int:
        """Networks that a new slide must be shown to."""
        return int(self.fold_.max(initial=0)) + 1

    def p_values(
        self,
        probabilities: np.ndarray,
        *,
        sites: Sequence[str] | np.ndarray | None = None,
        uniform: np.ndarray | None = None,
    ) -> np.ndarray:
        """How usual a slide would be if it were of each class, (m, C): 1 is as usual as can be.

        Parameters
        ----------
        probabilities : ndarray (m, K, C), or (m, C) where `fit` had no folds
            Of new slides, by the network of each fold.
        sites : (m,), optional
            Needed within sites. At a site without calibration slides nothing can be left out.
        uniform : ndarray (m,), optional
            As in `fit`.
        """
        each = _checked(probabilities)
        each = each[:, None, :] if each.ndim == 2 else each  # (m, K, C)
        if each.shape[1:] != (self.n_folds, self.n_classes_):
            raise UsageError(
                f"the probabilities are of {each.shape[1]} fold models and {each.shape[2]} classes, the sets were "
                f"calibrated with {self.n_folds} and {self.n_classes_}; give those of every fold model"
            )
        scores = SCORES[self.score](each, np.repeat(_uniform(uniform, len(each))[:, None], each.shape[1], axis=1))
        found = np.ones((len(each), self.n_classes_))
        if self.within == "class":
            for k in range(self.n_classes_):
                found[:, k] = self._usual(scores[:, :, k], k)
            return found
        for stratum in np.unique(where := self._strata(np.zeros(len(each), dtype=np.int64), sites)):
            rows = where == stratum
            found[rows] = self._usual(scores[rows].transpose(0, 2, 1), stratum.item())
        return found

    def sets(
        self,
        probabilities: np.ndarray,
        *,
        sites: Sequence[str] | np.ndarray | None = None,
        uniform: np.ndarray | None = None,
        best: np.ndarray | None = None,
    ) -> np.ndarray:
        """Which classes each slide's set holds, (m, C) bool. The first parameters are those of `p_values`.

        The best class is always in, so that no set is empty; with "ordinal" the grades between those of a set are in as
        well. Both only add, so the promise stands.

        Parameters
        ----------
        best : ndarray (m,) int, optional
            The class that a slide is given; without it the most probable on average over the folds.
        """
        usual = self.p_values(probabilities, sites=sites, uniform=uniform)
        held = usual > float(self.error) + 1e-12  # p-values differ by far more than rounding
        if best is None:
            best = np.asarray(probabilities).reshape(len(usual), -1, self.n_classes_).mean(axis=1).argmax(axis=1)
        held[np.arange(len(held)), best] = True
        return filled(held) if self.score == "ordinal" else held

    def promised(self, patients: int) -> float:
        """Coverage that is certain on average over calibrations, with that many calibration patients; see above."""
        error, folds = float(self.error), self.n_folds
        if folds == 1:
            return self.coverage
        return max(0.0, 1 - 2 * error - 2 * (1 - error) * (folds - 1) / (patients + folds))

    def notes(self, classes: Sequence[str]) -> tuple[str, ...]:
        """What a reader of the sets should know, one line each: where there were too few to leave anything out."""
        names = {k: f"class {name}" for k, name in enumerate(classes)} if self.within == "class" else {}
        known = {name: self.patients_.get(k, 0) for k, name in names.items()} or {
            (f"site {stratum}" if self.within == "site" else "all sites"): count
            for stratum, count in self.patients_.items()
        }
        never = "every set holds it" if self.within == "class" else "its sets hold every class"
        return tuple(
            f"{name}: {count} calibration patients; leaving a class out at {100 * self.coverage:g} % takes "
            f"{self.least_patients}, so {never}"
            for name, count in known.items()
            if count < self.least_patients
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything that sets for new slides need, as plain values for JSON; names no slide and no patient."""
        return {
            "score": self.score,
            "coverage": self.coverage,
            "within": self.within,
            "n_classes": self.n_classes_,
            "patients": [[stratum, count] for stratum, count in self.patients_.items()],
            "slides": {
                "score": self.scores_.tolist(),
                "fold": self.fold_.tolist(),
                "stratum": self.stratum_.tolist(),
                "weight": self._weight.tolist(),
            },
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "ConformalSets":
        """Fitted sets from what `to_dict` gave."""
        sets, slides = cls(saved["score"], saved["coverage"], saved["within"]), saved["slides"]
        sets.n_classes_ = int(saved["n_classes"])
        sets.patients_ = {stratum: int(count) for stratum, count in saved["patients"]}
        sets.scores_, sets._weight = (np.array(slides[name], dtype=np.float64) for name in ("score", "weight"))
        sets.fold_, sets.stratum_ = np.array(slides["fold"], dtype=np.int64), np.array(slides["stratum"])
        return sets

    def _usual(self, scores: np.ndarray, stratum: int | str) -> np.ndarray:
        """p-values of scores (m, K) or (m, C, K) among the calibration slides of a stratum."""
        above = np.zeros(scores.shape[:-1])
        for k in range(self.n_folds):
            rows = np.flatnonzero((self.stratum_ == stratum) & (self.fold_ == k))
            rows = rows[np.argsort(self.scores_[rows], kind="stable")]
            tail = np.append(np.cumsum(self._weight[rows][::-1])[::-1], 0.0)
            above += tail[np.searchsorted(self.scores_[rows], scores[..., k], side="left")]
        return np.asarray((1 + above) / (1 + self.patients_.get(stratum, 0)))

    def _strata(self, targets: np.ndarray, sites: Sequence[str] | np.ndarray | None) -> np.ndarray:
        if self.within == "class":
            return targets
        if self.within == "all":
            return np.zeros(len(targets), dtype=np.int64)
        if sites is None or len(sites) != len(targets):
            raise UsageError("sets within sites need the site of each slide")
        return np.asarray(sites)


def filled(held: np.ndarray) -> np.ndarray:
    """Sets (m, C) bool with all between their first and last class."""
    upward = np.logical_or.accumulate(held, axis=1)
    downward = np.logical_or.accumulate(held[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(upward & downward)


def set_text(classes: Sequence[str], held: np.ndarray, ordered: bool) -> str:
    """A set in words: `3-4` for grades side by side, else `2, 5`."""
    chosen = [name for name, inside in zip(classes, held, strict=True) if inside]
    places = np.flatnonzero(held)
    if ordered and len(chosen) > 1 and places[-1] - places[0] == len(chosen) - 1:
        return f"{chosen[0]}-{chosen[-1]}"
    return ", ".join(chosen)


def _checked(probabilities: np.ndarray) -> np.ndarray:
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if not np.isfinite(probabilities).all():
        raise UsageError("a probability is not a number; no set can be made of it")
    return probabilities


def _uniform(uniform: np.ndarray | None, count: int) -> np.ndarray:
    return np.ones(count) if uniform is None else np.asarray(uniform, dtype=np.float64)
