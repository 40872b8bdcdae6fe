"""Slides that are unlike those a model was trained on, at a stated rate of false alarms. Numpy only.

Several statistics say how odd a slide is (`mil.outlier_scores`): distance of its tiles to the nearest tiles of other
slides, distance of its mean feature (`mil.shrinkage`), stain, density, glass, focus and tissue. Each is put on one
scale, z = 0 at the median and 1 where the oddest tenth begins, and the largest of them is the slide's oddness. A
conformal p-value says how many training slides are as odd (Bates et al.: Testing for outliers with conformal p-values,
Annals of Statistics 2023, https://arxiv.org/abs/2104.08279):

    p = (1 + #{i : max_k z_ik >= max_k z_k}) / (n + 1),    the slide is flagged where p <= false alarms

Training slides are not scored by what they are part of: a new slide and the n training slides are scored together, each
against all others (full conformal: Vovk, Gammerman, Shafer 2005; Laxhammar, Falkman 2010). So all n + 1 are
exchangeable if the new slide is of their kind, and p <= a happens in at most a share a of such slides, whatever the
statistics are. That is on average over training sets; `likely_at_most` says what to expect of one.

All statistics share that one rate. The reasons of a flag are those whose own p-value, held against the same maxima,
is within it (single-step maxT: Westfall, Young: Resampling-Based Multiple Testing, 1993):

    p_k = (1 + #{i : max_j z_ij >= z_k}) / (n + 1)

Features follow from pixels: where stain, glass, focus or amount of tissue is odd, odd features may be no more than
that, and other tissue is named last, as a possibility.

Bonferroni or Holm over seven ranks would need 139 patients to flag anything at 5 %; this needs 19.

Exchangeable are patients, not slides, so the reference has one slide of each patient, drawn by chance.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import sha256
from math import ceil, comb, fsum
from typing import Any
from zipfile import BadZipFile

import numpy as np

from mil.conformal_scores import slide_uniforms
from mil.outlier_scores import SCORES, SLIDE_SCORE, TILES_SCORE, TRAIT_SCORES, oddness
from mil.shrinkage import distances_left_out
from mil.slide_view import TRAITS, SlideView
from wsi.errors import CorruptStoreError, RecipeMismatchError, UsageError

FORMAT_VERSION = 1

FALSE_ALARMS = 0.05

MOST_PATIENTS = 256
"""Slides in a reference, so that it stays below some 8 MB."""

SURE = 0.95


@dataclass(frozen=True, slots=True)
class OutlierCheck:
    """What came of holding a slide against the training slides.

    Attributes
    ----------
    p_value : float
        Share of slides like those of training that are at least as odd.
    false_alarms : float
        Share of such slides that is flagged at most.
    patients : int
        Training patients that the slide was held against.
    reasons : tuple of str
        Why it is flagged, the oddest first, features last; empty where it is not.
    oddness : mapping of str to float
        By statistic: 0 as odd as half of the slides, 1 where the oddest tenth begins; without those not measured.
    """

    p_value: float
    false_alarms: float
    patients: int
    reasons: tuple[str, ...] = ()
    oddness: Mapping[str, float] = field(default_factory=dict)

    @property
    def judged(self) -> bool:
        """Whether there are patients enough to flag anything."""
        return self.patients >= least_patients(self.false_alarms)

    @property
    def flagged(self) -> bool:
        """Whether the slide is unlike the training slides."""
        return self.p_value <= self.false_alarms


@dataclass(frozen=True, slots=True)
class OutlierReference:
    """Training slides, one of each patient, as new ones are held against them; names none of them.

    Attributes
    ----------
    tiles : ndarray (M, d) float16
        Directions of some tiles of all slides.
    owner : ndarray (M,) int64
        Slide of each tile, 0 to n - 1.
    nearest : ndarray (M,) float32
        Distance of each tile to the nearest one of another slide; 2, the largest there is, where there is no other.
    means : ndarray (n, D) float32
    traits : ndarray (n, 9) float64
    false_alarms : float
    seed : int
        Of the tiles that are drawn of a slide.
    """

    tiles: np.ndarray
    owner: np.ndarray
    nearest: np.ndarray
    means: np.ndarray
    traits: np.ndarray
    false_alarms: float = FALSE_ALARMS
    seed: int = 0

    def __len__(self) -> int:
        return len(self.means)

    @classmethod
    def of(cls, views: Sequence[SlideView], false_alarms: float = FALSE_ALARMS, seed: int = 0) -> "OutlierReference":
        """From the views of training slides, one of each patient.

        Raises
        ------
        UsageError
            Without slides, or if the rate is not between 0 and 1.
        """
        if not views:
            raise UsageError("there is no training slide to hold new ones against")
        check_rate(false_alarms)
        tiles = np.concatenate([view.tiles for view in views]).astype(np.float16)
        owner = np.repeat(np.arange(len(views)), [len(view.tiles) for view in views])
        nearest = np.full(len(tiles), 2.0, np.float32)
        for slide in range(len(views)):
            own = owner == slide
            if not own.all():
                nearest[own] = _distances(tiles[own], tiles[~own]).min(axis=1)
        means, traits = np.stack([view.mean for view in views]), np.stack([view.traits for view in views])
        return cls(tiles, owner, nearest, means, traits, false_alarms, seed)

    def check(self, view: SlideView) -> OutlierCheck:
        """Hold a new slide against the training slides; its patient is none of theirs."""
        table = self.oddness_with(view)  # (K, n + 1)
        most = table.max(axis=0)  # (n + 1,)
        own = table[:, -1]
        p_values = np.array([(1 + np.count_nonzero(most[:-1] >= value)) / (len(self) + 1) for value in own])
        names = list(SCORES)
        odd = [names[k] for k in np.argsort(-own, kind="stable") if p_values[k] <= self.false_alarms]
        measured = {name: float(value) for name, value in zip(names, own, strict=True) if np.isfinite(value)}
        return OutlierCheck(float(p_values.min()), self.false_alarms, len(self), _reasons(odd), measured)

    def oddness_with(self, view: SlideView) -> np.ndarray:
        """Oddness of the training slides and, last, a new one, by every statistic of `SCORES`: (K, n + 1)."""
        if view.mean.shape[0] != self.means.shape[1]:
            raise RecipeMismatchError(
                f"the slide has features of {view.mean.shape[0]} numbers, the reference of {self.means.shape[1]}"
            )
        traits = np.vstack([self.traits, view.traits])  # (n + 1, 9)
        whole = distances_left_out(np.vstack([self.means, view.mean]))  # (n + 1,)
        rows = [oddness(self._tile_scores(view), TILES_SCORE.resolution), oddness(whole, SLIDE_SCORE.resolution)]
        rows += [oddness(one(traits), one.score.resolution) for one in TRAIT_SCORES.values()]
        return np.stack(rows)

    def _tile_scores(self, view: SlideView) -> np.ndarray:
        """Mean distance (n + 1,) of each slide's tiles to the nearest tile of another slide, the new one among them."""
        apart = _distances(self.tiles, view.tiles.astype(np.float16))  # (M, m)
        nearest = np.minimum(self.nearest, apart.min(axis=1))  # (M,)
        means = np.bincount(self.owner, nearest, minlength=len(self)) / np.bincount(self.owner, minlength=len(self))
        return np.append(means, apart.min(axis=0).mean())

    def describe(self) -> dict[str, Any]:
        """What `model.json` says of it, for people and for later versions."""
        known = np.isfinite(self.traits)
        absent = [
            name
            for name, one in TRAIT_SCORES.items()
            if 2 * np.count_nonzero(known[:, [TRAITS.index(c) for c in one.columns]].all(axis=1)) < len(self)
        ]
        return {
            "version": FORMAT_VERSION,
            "false_alarms": self.false_alarms,
            "n_patients": len(self),
            "statistics": [name for name in SCORES if name not in absent],
            "likely_at_most": likely_at_most(self.false_alarms, len(self)),
            "notes": self._notes(absent),
            "sha256": sha256(self.to_bytes()).hexdigest(),
        }

    def _notes(self, absent: Sequence[str]) -> list[str]:
        notes = []
        least = least_patients(self.false_alarms)
        if len(self) < least:
            notes.append(
                f"{len(self)} training patients are too few to flag a slide at {100 * self.false_alarms:g} % false "
                f"alarms, which takes {least}: no slide is flagged, and nothing is promised"
            )
        if absent:
            notes.append(
                f"not compared, since most training slides have no such numbers: {', '.join(absent)}; extract them "
                "with this version to have it"
            )
        return notes

    def to_bytes(self) -> bytes:
        """All of it, as a file."""
        buffer = io.BytesIO()
        np.savez(
            buffer, version=np.int64(FORMAT_VERSION), tiles=self.tiles, owner=self.owner, nearest=self.nearest,
            means=self.means, traits=self.traits, false_alarms=np.float64(self.false_alarms), seed=np.int64(self.seed),
        )  # fmt: skip
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "OutlierReference":
        """What `to_bytes` gave.

        Raises
        ------
        RecipeMismatchError
            If a newer program wrote it.
        CorruptStoreError
            If it cannot be read.
        """
        names = ("tiles", "owner", "nearest", "means", "traits")
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as kept:
                version, rest = int(kept["version"]), {name: kept[name] for name in kept.files}
            if version == FORMAT_VERSION:
                arrays = {name: rest[name] for name in names}
                return cls(**arrays, false_alarms=float(rest["false_alarms"]), seed=int(rest["seed"]))
        except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
            raise CorruptStoreError(f"the reference of outliers cannot be read ({error}); train anew") from error
        raise RecipeMismatchError(
            f"the reference of outliers has version {version}, this program reads {FORMAT_VERSION}; use a newer "
            "histograde"
        )


def one_of_each(slide_ids: Sequence[str], patients: Sequence[str], seed: int = 0) -> list[int]:
    """Rows of one slide of each patient, at most `MOST_PATIENTS`: by names and seed, whatever the order of rows."""
    chance = slide_uniforms(slide_ids, seed)
    first: dict[str, int] = {}
    for row in sorted(range(len(slide_ids)), key=lambda row: (chance[row], slide_ids[row])):
        first.setdefault(patients[row], row)
    drawn = slide_uniforms(list(first), seed)
    kept = [row for _, row in sorted(zip(drawn.tolist(), first.values(), strict=True))][:MOST_PATIENTS]
    return sorted(kept, key=lambda row: slide_ids[row])


def least_patients(false_alarms: float) -> int:
    """Training patients that it takes to flag anything: 19 at 5 %."""
    return ceil(1 / Fraction(str(false_alarms))) - 1


def likely_at_most(false_alarms: float, patients: int) -> float:
    """Share of false alarms that a training set of so many patients keeps to in 95 of 100 cases.

    With k = floor(a (n + 1)) it is distributed as Beta(k, n + 1 - k) (Vovk: Conditional validity of inductive conformal
    predictors, 2012), exactly so where training slides that were set apart are scored once and for all. 0 for k = 0.
    """
    k = int(Fraction(str(false_alarms)) * (patients + 1))
    low, high = 0.0, 1.0
    if k == 0:
        return 0.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        fewer = fsum(comb(patients, j) * middle**j * (1 - middle) ** (patients - j) for j in range(k))
        low, high = (middle, high) if 1 - fewer < SURE else (low, middle)
    return high


def _reasons(odd: Sequence[str]) -> tuple[str, ...]:
    """Statistics, the oddest first, in words."""
    pixels = [SCORES[name].reason for name in odd if name in TRAIT_SCORES]
    features = [SCORES[name].reason for name in odd if name not in TRAIT_SCORES]
    return tuple([*pixels, *(f"or {reason}" for reason in features[:1])] if pixels else features)


def check_rate(false_alarms: float) -> None:
    """Raise `UsageError` unless a rate of false alarms lies between 0 and 1."""
    if not 0 < false_alarms < 1:
        raise UsageError(f"--false-alarms is {false_alarms}; it lies between 0 and 1, as 0.05")


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Between directions (a, d) and (b, d): (a, b) float32, 0 to 2."""
    left, right = one.astype(np.float32), other.astype(np.float32)
    cosine = left @ right.T
    return np.asarray(np.sqrt(np.clip(2 - 2 * cosine, 0, 4)))
