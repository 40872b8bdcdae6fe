"""How far each row lies from the others, by a covariance that holds where columns outnumber rows. Numpy only.

Lee et al.: A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks, NeurIPS 2018.
https://arxiv.org/abs/1807.03888: Mahalanobis distance in the space of features,

    d^2 = (x - m)^T C^-1 (x - m)

Ledoit, Wolf: A well-conditioned estimator for large-dimensional covariance matrices, Journal of Multivariate Analysis
2004: C = (1 - w) S + w mu I, with mu = tr(S) / D and the w that is best on average,

    w = min(b, d) / d,    d = |S - mu I|^2 / D,    b = (sum_i |x_i|^4 / n - |S|^2) / (n D)

Each row is taken out of S before its own distance is measured: with fewer rows than columns a row that helped to make
S is never far from it. All of it comes from the (n, n) products of the rows, so that no (D, D) matrix is made.
"""

import numpy as np


def shrinkage(products: np.ndarray, columns: int) -> tuple[float, float]:
    """Ledoit and Wolf's weight w, 0 to 1, and mu, from the products (n, n) of centred rows of `columns` numbers."""
    n = len(products)
    mu = float(np.trace(products)) / n / columns
    square = float((products**2).sum()) / n**2
    distance = square / columns - mu**2
    noise = (float((np.diag(products) ** 2).sum()) / n - square) / (n * columns)
    if distance <= 0:
        return 1.0, mu
    return min(max(noise, 0.0), distance) / distance, mu


def distances_left_out(rows: np.ndarray) -> np.ndarray:
    """Mahalanobis distance (n,) of each row of (n, D) from the mean, by a covariance without that row.

    Mean and shrinkage are those of all rows, so the order of rows changes nothing, and rows that are drawn alike have
    distances that are drawn alike. 0 for all where all rows are equal.
    """
    centred = np.asarray(rows, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    products = centred @ centred.T  # (n, n)
    n = len(products)
    weight, mu = shrinkage(products, centred.shape[1])
    if n < 2 or mu <= 0:
        return np.zeros(n)
    # By Woodbury's identity, and then Sherman and Morrison's for the row that is left out.
    values, vectors = np.linalg.eigh(products)
    share = (1 - weight) / n
    values = np.clip(values, 0, None)
    within = np.square(vectors) @ (values / (share * values + max(weight, 1e-9) * mu))  # (n,)
    return np.sqrt(within / np.maximum(1 - share * within, 1e-12))
