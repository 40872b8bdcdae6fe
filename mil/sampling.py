"""How often an epoch takes each bag: rare classes more often, and every site alike.

Power of the class counts: Kang et al.: Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020,
section 3. https://arxiv.org/abs/1910.09217

    share of class k ~ n_k^(1 - class_balance),    share of site s among class k ~ n_ks^(1 - site_balance)

An epoch stays as long as the cohort. Of a class or site that counts more than its slides some come again, of the others
some wait for another epoch.
"""

from collections.abc import Sequence

import numpy as np

from mil.bag import Bag, Bags, BagSubset, Choice, draw
from wsi.errors import UsageError


class BagsAtSites:
    """Bags and the site of each, for an order that balances sites.

    Parameters
    ----------
    site : sequence of str
        "" where it is not known; these count as one site.
    """

    def __init__(self, bags: Bags, site: Sequence[str]):
        if len(site) != len(bags):
            raise UsageError(f"{len(bags)} bags have {len(site)} sites; expected one for each bag")
        self._bags = bags
        self.site = tuple(site)

    def __len__(self) -> int:
        return len(self._bags)

    def __getitem__(self, number: int) -> Bag:
        return self._bags[number]

    def draw(self, number: int, choose: Choice) -> Bag:
        """Some tiles of a bag."""
        return draw(self._bags, number, choose)


def sites_of(bags: Bags) -> tuple[str, ...] | None:
    """The site of each bag, also of a subset; None where nobody has said."""
    if isinstance(bags, BagsAtSites):
        return bags.site
    if isinstance(bags, BagSubset):
        whole = sites_of(bags.whole)
        return None if whole is None else tuple(whole[row] for row in bags.rows)
    return None


def check_classes(targets: np.ndarray, what: str) -> None:
    """Raise `UsageError` unless every bag has one class."""
    if targets.ndim != 1 or targets.dtype.kind not in "iu":
        raise UsageError(f"{what} needs the class of each bag; found targets {targets.shape} of {targets.dtype}")


def balanced_order(
    classes: np.ndarray,
    sites: Sequence[str] | None,
    class_balance: float,
    site_balance: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Numbers of the bags in the order of an epoch, (n,) int64; some occur more than once.

    Each bag comes floor(q) or ceil(q) times, q the share of its class and site times n over their bags: draws without
    replacement leave less to chance than independent ones.

    Parameters
    ----------
    classes : ndarray (n,) int
    sites : sequence (n,) of str, optional
        Needed for `site_balance`.
    class_balance : float
        0 takes classes as they are, 1 all equally often, 1/2 by the square root of their counts.
    site_balance : float
        The same for the sites within each class; at 1 the site says nothing of the class, where all sites have it.
    """
    if site_balance and sites is None:
        raise UsageError("site_balance needs the site of each bag; wrap the bags in BagsAtSites")
    site = np.unique(sites, return_inverse=True)[1] if site_balance and sites is not None else np.zeros_like(classes)
    cells, cell, sizes = np.unique(np.stack([classes, site]), axis=1, return_inverse=True, return_counts=True)
    of_class = cells[0][:, None] == cells[0]  # (cells, cells)
    class_weight = (of_class @ sizes) ** (1.0 - class_balance)  # (cells,) that of the class of each
    site_weight = sizes ** (1.0 - site_balance)
    share = class_weight * site_weight / (of_class @ site_weight)
    share /= share.sum()
    counts = _rounded(share * len(classes), rng.random())
    taken = [
        np.resize(rng.permutation(np.flatnonzero(cell.ravel() == k)), count) for k, count in enumerate(counts) if count
    ]
    return rng.permutation(np.concatenate(taken))


def _rounded(quotas: np.ndarray, offset: float) -> np.ndarray:
    """Whole numbers of the same sum as quotas (k,), each its floor or ceiling (systematic sampling)."""
    ends = quotas.cumsum()
    ends[-1] = round(ends[-1])
    return np.diff(np.floor(ends + offset), prepend=0).astype(np.int64)
