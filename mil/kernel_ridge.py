"""Ridge regression in the span of some kernel functions, with what it says of each row left out, in closed form.

Saunders, Gammerman, Vovk: Ridge Regression Learning Algorithm in Dual Variables, ICML 1998.
Leaving out: Cook, Weisberg: Residuals and Influence in Regression, 1982, section 2.2.

    f(x) = sum_c a_c k(x, c) + b,    minimising sum_i |t_i - f(x_i)|^2 + ridge |f|^2, b free
    t_i - f_(-i)(x_i) = (t_i - f(x_i)) / (1 - h_i),    h_i the diagonal of the matrix that takes t to f

With every row as a centre c this is kernel ridge regression (the least-squares support vector machine).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = tuple(10 ** (half / 2) for half in range(-6, 3))
WIDTHS = (4.0, 2.0, 1.0, 0.5, 0.25)
"""Tried, as multiples of the mean squared distance of two different rows."""

DEPENDENT = 1e-8
"""Directions whose share of the largest eigenvalue is smaller are rounding."""


@dataclass(frozen=True, slots=True)
class Ridge:
    """A fitted regression.

    Attributes
    ----------
    coefficients : Tensor (P, L) float64
    intercepts : Tensor (L,) float64
    width : float
        Of the kernel, exp(-squared distance / width).
    left_out : Tensor (n, L) float64
        What the regression without a row says of that row.
    """

    coefficients: Tensor
    intercepts: Tensor
    width: float
    left_out: Tensor


def fit_ridge(x: Tensor, centres: Tensor, t: Tensor) -> Ridge:
    """Width and ridge are those with the least squared error of rows left out; it is counted where t is not 0.

    Parameters
    ----------
    x : Tensor (n, Z)
    centres : Tensor (P, Z)
    t : Tensor (n, L)
        1 and -1; 0 where an output does not ask for a row.
    """
    x, centres, t = x.double(), centres.double(), t.double()
    apart, between = squared_distances(x, centres), squared_distances(centres, centres)
    unit = float(apart[apart > 0].mean()) if bool((apart > 0).any()) else 1.0
    tried = (one for factor in WIDTHS for one in _ridges(apart, between, t, factor * unit))
    asked = t != 0
    return min(tried, key=lambda one: float(((one.left_out - t)[asked]).square().sum()))


def squared_distances(x: Tensor, centres: Tensor) -> Tensor:
    """(n, Z) and (P, Z) to (n, P), without the cancellation of the expanded square."""
    return torch.cdist(x, centres, compute_mode="donot_use_mm_for_euclid_dist").square()


def _ridges(apart: Tensor, between: Tensor, t: Tensor, width: float) -> Iterator[Ridge]:
    """A regression for each of the ridges, from one decomposition."""
    values, vectors = torch.linalg.eigh(torch.exp(-between / width))
    kept = values > DEPENDENT * values.max()
    root = vectors[:, kept] / values[kept].sqrt()  # (P, r), the kernel's inverse square root
    rows = torch.exp(-apart / width) @ root  # (n, r)
    middle, level = rows.mean(dim=0), t.mean(dim=0)  # (r,), (L,)
    u, s, v = torch.linalg.svd(rows - middle, full_matrices=False)  # (n, q), (q,), (q, r)
    along = u.T @ (t - level)  # (q, L)
    for ridge in RIDGES:
        shrunk = s.square() / (s.square() + ridge)  # (q,)
        fitted = u @ (shrunk[:, None] * along) + level  # (n, L)
        leverage = u.square() @ shrunk + 1 / len(t)  # (n,)
        left_out = t - (t - fitted) / (1 - leverage).clamp(min=1e-9)[:, None]  # (n, L)
        weights = v.T @ ((s / (s.square() + ridge))[:, None] * along)  # (r, L)
        yield Ridge(root @ weights, level - middle @ weights, width, left_out)
