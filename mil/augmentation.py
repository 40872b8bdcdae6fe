"""Bags made of two bags of the same class, for training.

Both keep the label, so that they go with every loss of classes. Mixing bags of two classes (RankMix, PseudoMix) makes
labels in between, for which ordinal losses and weights of classes have no meaning.
"""

import numpy as np
import torch

from mil.bag import Bag

GAP_UM = 5_000.0
"""Between the tiles of two slides in one bag: no tile has a neighbour on the other slide."""

BLOCK = 1 << 22
"""Distances held at once, 16 MiB."""


def appended(bag: Bag, others: Bag) -> Bag:
    """All tiles of a bag, and tiles of another to the right of them.

    Yang et al.: ReMix: A General and Efficient Framework for Multiple Instance Learning based Whole Slide Image
    Classification, MICCAI 2022, "append". https://arxiv.org/abs/2207.01805

    No tile of the bag is replaced, since the tile that makes its label may be the only one. Rows of the other slide are
    -1: they are of no row in this slide's grid.
    """
    right = bag.coords_um[:, 0].max() - others.coords_um[:, 0].min() + GAP_UM
    shift = np.array([right, 0 if np.isfinite(right) else np.nan], dtype=np.float32)
    return Bag(
        bag.slide_id,
        np.concatenate([bag.features, others.features]),
        np.concatenate([bag.coords_um, others.coords_um + shift]),
        np.concatenate([bag.rows, np.full(len(others), -1)]),
    )


def interpolated(bag: Bag, other: Bag, gap: float) -> Bag:
    """SMOTE for bags: each tile moves towards the tile of another bag that is most like it.

    Chawla, Bowyer, Hall, Kegelmeyer: SMOTE: Synthetic Minority Over-sampling Technique, JAIR 16, 2002, section 4.2.
    https://doi.org/10.1613/jair.953

        x' = x + gap (n(x) - x),    n(x) the nearest tile of the other bag

    The paper interpolates between neighbours of one class. A bag has no place in feature space, its tiles have: so the
    neighbours are tiles, the class is the bags', and one gap for the whole bag moves it as one. Nearest is meant with
    features in units of their standard deviation over both bags.

    Parameters
    ----------
    gap : float
        0 gives the bag, 1 the tiles of `other` that are nearest to its own.
    """
    own, theirs = bag.features.astype(np.float32), other.features.astype(np.float32)
    spread = np.concatenate([own, theirs]).std(axis=0)
    scale = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0).astype(np.float32)
    moved = own + np.float32(gap) * (theirs[_nearest(own * scale, theirs * scale)] - own)
    return Bag(bag.slide_id, moved.astype(bag.features.dtype), bag.coords_um, bag.rows)


def _nearest(points: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each of n points (n, D) the nearest of (m, D), (n,) int64.

    By torch, whose threads training holds to one: the bits must not depend on the number of cores.
    """
    others = torch.from_numpy(among)
    half_square = others.square().sum(dim=1) / 2  # (m,)
    blocks = torch.split(torch.from_numpy(points), max(1, BLOCK // len(among)))
    return torch.cat([(half_square - block @ others.T).argmin(dim=1) for block in blocks]).numpy()
