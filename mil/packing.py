"""How an epoch is cut into batches of bags."""

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mil.augmentation import appended, interpolated
from mil.bag import Bag, BagBatch, Bags, draw, pack
from mil.sampling import balanced_order, check_classes, sites_of
from wsi.errors import UsageError


@dataclass(frozen=True, slots=True)
class Packing:
    """How an epoch is cut into batches.

    Attributes
    ----------
    slides : int
        Most bags in a batch.
    tiles : int
        Most tiles in a batch, unless a single bag has more.
    bag_tiles : int
        Most tiles drawn from a bag in an epoch.
    tile_dropout : float
        Share of a bag's tiles that is left out at random in an epoch; one tile always stays. None by default: a focus
        of two tiles that is left out makes a wrong label (held-out log loss .92 instead of .41 at a half).
    class_balance, site_balance : float
        How far an epoch evens out classes, and the sites within each class, 0 to 1 (`mil.sampling`). Classes: where one
        is so rare that most batches have none of it; else weights in the loss do the same without repetition, and not
        both. A loss takes its weights back in its probabilities and knows nothing of this: they are those of the
        evened mixture. Sites: where one has most of a class, so that a model could tell the site instead.
    mixing : float
        Share of bags that get a random part of the tiles of another bag of their class (`mil.augmentation.appended`).
        For cohorts of a few dozen slides that are learnt by heart.
    smote : bool
        Bags that balance takes again are moved towards another bag of their class instead of repeated
        (`mil.augmentation.interpolated`). For grades with a handful of slides.
    """

    slides: int = 8
    tiles: int = 4096
    bag_tiles: int = 512
    tile_dropout: float = 0.0
    class_balance: float = 0.0
    site_balance: float = 0.0
    mixing: float = 0.0
    smote: bool = False

    def __post_init__(self) -> None:
        for name in ("class_balance", "site_balance", "mixing"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it lies between 0 and 1")
        if self.smote and not (self.class_balance or self.site_balance):
            raise UsageError("smote makes bags in place of those that balance repeats; give class_balance with it")

    def epoch(self, bags: Bags, targets: np.ndarray, seed: int, epoch: int) -> Iterator[BagBatch]:
        """As many bags as there are, in seeded order: each once, unless classes or sites are balanced.

        The tiles drawn from a slide depend on the seed, the epoch and its slide_id, not on the other slides. Which bag
        it is mixed with does.
        """
        held: list[Bag] = []
        held_targets: list[np.ndarray] = []
        visits: Counter[int] = Counter()
        for number in map(int, self._order(bags, targets, np.random.default_rng([seed, epoch]))):
            bag = self._bag(bags, targets, number, (seed, epoch, visits[number]))
            visits[number] += 1
            tiles = sum(len(other) for other in held) + len(bag)
            if held and (len(held) == self.slides or tiles > self.tiles):
                yield pack(held, held_targets)
                held, held_targets = [], []
            held.append(bag)
            held_targets.append(targets[number])
        yield pack(held, held_targets)

    def _order(self, bags: Bags, targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.mixing:
            check_classes(targets, "mixing")
        if not (self.class_balance or self.site_balance):
            return rng.permutation(len(bags))
        check_classes(targets, "balance")
        return balanced_order(targets, sites_of(bags), self.class_balance, self.site_balance, rng)

    def _bag(self, bags: Bags, targets: np.ndarray, number: int, moment: tuple[int, int, int]) -> Bag:
        """A bag as training sees it at a moment: seed, epoch, and how often it came before in the epoch."""
        visit = moment[2]
        bag = draw(bags, number, lambda slide_id, tiles: self._chosen(slide_id, tiles, moment))
        if not (self.mixing or (self.smote and visit)):
            return bag
        rng = np.random.default_rng([*moment, zlib.crc32(bag.slide_id.encode())])
        same = np.flatnonzero(targets == targets[number])
        partners = same[same != number]
        if self.smote and visit and len(partners):
            other = draw(bags, int(rng.choice(partners)), lambda _, tiles: self._part(tiles, 1.0, rng))
            return interpolated(bag, other, rng.random())
        if rng.random() < self.mixing and len(partners):
            share = rng.random()
            return appended(bag, draw(bags, int(rng.choice(partners)), lambda _, tiles: self._part(tiles, share, rng)))
        return bag

    def _chosen(self, slide_id: str, tiles: int, moment: tuple[int, int, int]) -> np.ndarray | None:
        count = min(self.bag_tiles, max(1, round(tiles * (1 - self.tile_dropout))))
        if count == tiles:
            return None
        seed, epoch, visit = moment
        again = [visit] if visit else []
        rng = np.random.default_rng([seed, epoch, zlib.crc32(slide_id.encode()), *again])
        return np.sort(rng.choice(tiles, count, replace=False))

    def _part(self, tiles: int, share: float, rng: np.random.Generator) -> np.ndarray:
        count = max(1, round(share * min(tiles, self.bag_tiles)))
        return np.sort(rng.choice(tiles, count, replace=False))
