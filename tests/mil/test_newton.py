import numpy as np

from mil.newton import minimum


def test_a_parabola_takes_one_step():
    curvature, centre = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([4.0, -1.0])
    asked = []

    def derivatives(x):
        asked.append(x)
        return curvature @ (x - centre), curvature

    found = minimum(lambda x: (x - centre) @ curvature @ (x - centre) / 2, derivatives, np.zeros(2))
    np.testing.assert_allclose(found, centre, atol=1e-12)
    assert len(asked) <= 2


def test_whole_steps_that_would_run_away_are_halved():
    """log cosh: from 2 a whole step goes to -11.6, and from there ever further."""
    found = minimum(
        lambda x: float(np.log(np.cosh(x[0]))),
        lambda x: (np.tanh(x), np.array([[1 / np.cosh(x[0]) ** 2]])),
        np.array([2.0]),
    )
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_a_start_at_the_minimum_stays():
    found = minimum(lambda x: float(x @ x), lambda x: (2 * x, 2 * np.eye(3)), np.zeros(3))
    assert found.tolist() == [0, 0, 0]
