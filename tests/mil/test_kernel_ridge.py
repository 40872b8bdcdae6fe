import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

from mil.kernel_ridge import RIDGES, WIDTHS, _ridges, fit_ridge, squared_distances


def rows(count=25, dim=4, seed=0):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(count, dim)))
    t = torch.sign(x[:, :1] * x[:, 1:2] + 0.3 * torch.from_numpy(rng.normal(size=(count, 1))))
    return x, torch.cat([t, torch.sign(x[:, 2:3])], dim=1)


def plain(x, centres, t, width, ridge):
    """Coefficients and intercepts from the normal equations."""
    kernel = torch.exp(-squared_distances(x, centres) / width)
    design = torch.cat([kernel, torch.ones(len(x), 1)], dim=1)
    penalty = torch.zeros(design.shape[1], design.shape[1], dtype=torch.float64)
    penalty[:-1, :-1] = ridge * torch.exp(-squared_distances(centres, centres) / width)
    return design, torch.linalg.solve(design.T @ design + penalty, design.T @ t)


@pytest.mark.parametrize("centres", [25, 6])
def test_equals_the_normal_equations_and_leaves_rows_out_as_refitting_does(centres):
    x, t = rows()
    apart, between = squared_distances(x, x[:centres]), squared_distances(x[:centres], x[:centres])
    for ridge, one in zip(RIDGES, _ridges(apart, between, t, 5.0), strict=True):
        design, expected = plain(x, x[:centres], t, 5.0, ridge)
        found = design @ torch.cat([one.coefficients, one.intercepts[None]])
        torch.testing.assert_close(found, design @ expected, rtol=1e-5, atol=1e-6)
        for row in (0, 7):
            others = torch.arange(25) != row
            _, without = plain(x[others], x[:centres], t[others], 5.0, ridge)
            torch.testing.assert_close(one.left_out[row], design[row] @ without, rtol=1e-4, atol=1e-5)


def test_without_intercept_it_would_be_that_of_scikit_learn():
    """Answers of mean zero that are mirrored in the origin have the intercept 0."""
    x, t = rows(12)
    x, t = torch.cat([x, -x]), torch.cat([t, -t])
    apart = squared_distances(x, x)
    for ridge, one in zip(RIDGES, _ridges(apart, apart, t, 4.0), strict=True):
        theirs = KernelRidge(alpha=ridge, kernel="rbf", gamma=1 / 4.0).fit(x.numpy(), t.numpy())
        np.testing.assert_allclose(torch.exp(-apart / 4.0) @ one.coefficients, theirs.predict(x.numpy()), atol=1e-6)


def test_width_and_ridge_are_best_on_rows_left_out():
    x, t = rows()
    chosen = fit_ridge(x, x, t)
    apart = squared_distances(x, x)
    unit = float(apart[apart > 0].mean())
    errors = [
        float((one.left_out - t).square().sum()) for factor in WIDTHS for one in _ridges(apart, apart, t, factor * unit)
    ]
    assert float((chosen.left_out - t).square().sum()) == pytest.approx(min(errors))


def test_rows_that_an_output_does_not_ask_for_do_not_choose():
    x, t = rows()
    t[:, 1] = 0
    both = fit_ridge(x, x, t)
    alone = fit_ridge(x, x, t[:, :1])
    assert both.width == alone.width
    torch.testing.assert_close(both.coefficients[:, :1], alone.coefficients)
    assert not both.coefficients[:, 1].any()
