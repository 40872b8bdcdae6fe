import numpy as np

from mil.diverse_choice import SURE, choose_diverse


def greedy_by_determinants(points: np.ndarray, uncertainty: np.ndarray, count: int) -> list[int]:
    """The same greedy choice by determinants of submatrices, as the definition has it."""
    points = (points - points.mean(axis=0)) / points.std(axis=0)
    squared = np.square(points[:, None] - points[None]).sum(axis=2)
    worth = SURE + uncertainty
    kernel = worth[:, None] * np.exp(-squared / squared.mean()) * worth
    chosen: list[int] = []
    for _ in range(count):
        free = [row for row in range(len(points)) if row not in chosen]
        chosen.append(max(free, key=lambda row: np.linalg.det(kernel[np.ix_([*chosen, row], [*chosen, row])])))
    return chosen


def test_equals_determinants() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        points, uncertainty = rng.normal(size=(30, 4)), rng.random(30)
        found = choose_diverse(points, uncertainty, 8)
        assert [one.row for one in found] == greedy_by_determinants(points, uncertainty, 8)


def test_the_most_uncertain_comes_first_and_its_twin_last() -> None:
    points = np.array([[0.0, 0.0], [0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    found = choose_diverse(points, np.array([1.0, 0.99, 0.3, 0.2]), 4)
    assert [one.row for one in found] == [0, 2, 3, 1]
    assert found[0].nearest == -1
    assert (found[3].nearest, found[3].similarity) == (0, 1.0)


def test_slides_that_are_all_alike_go_by_uncertainty() -> None:
    found = choose_diverse(np.ones((4, 3)), np.array([0.1, 0.9, 0.4, 0.9]), 9)
    assert found[0].row == 1
    assert sorted(one.row for one in found) == [0, 1, 2, 3]


def test_one_slide() -> None:
    assert [one.row for one in choose_diverse(np.ones((1, 3)), np.zeros(1), 5)] == [0]
