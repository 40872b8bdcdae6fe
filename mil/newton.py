"""The minimum of a smooth convex function of a few numbers. Numpy only.

Newton's method with steps halved until the function falls (Boyd, Vandenberghe: Convex Optimization, 2004, section 9.5).
"""

from collections.abc import Callable

import numpy as np

MOST_STEPS = 100


def minimum(
    loss: Callable[[np.ndarray], float],
    derivatives: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    start: np.ndarray,
) -> np.ndarray:
    """Where `loss` is least: until a step brings it down by no more than rounding.

    Parameters
    ----------
    loss : callable
        Of the parameters (k,).
    derivatives : callable
        Gradient (k,) and curvature (k, k), which is positive definite.
    start : ndarray (k,)
    """
    parameters = np.asarray(start, dtype=np.float64)
    reached = loss(parameters)
    for _ in range(MOST_STEPS):
        gradient, curvature = derivatives(parameters)
        step = np.linalg.solve(curvature, gradient)
        while (tried := loss(parameters - step)) > reached and np.abs(step).max() > 1e-12:
            step = step / 2
        if not tried < reached:
            break
        parameters, fell, reached = parameters - step, reached - tried, tried
        if fell <= 1e-13 * max(1.0, abs(reached)):
            break
    return parameters
