import json

import numpy as np

from mil.set_report import report_sets


def test_by_hand():
    held = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1]], dtype=bool)
    found = report_sets(held, np.array([0, 0, 2, 2]), ["a", "b", "c"], sites=["X", "X", "Y", "Y"])
    assert found.coverage.estimate == 0.75
    assert found.size.estimate == 1.5
    assert found.single.estimate == 0.5
    assert {name: one.estimate for name, one in found.by_class.items()} == {"a": 1, "c": 0.5}  # no slide is b
    assert {name: one.estimate for name, one in found.by_site.items()} == {"X": 1, "Y": 0.5}
    assert {size: one.estimate for size, one in found.by_size.items()} == {1: 0.5, 2: 1}
    assert found.coverage.n_groups == 4
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["by_size"]["2"]["estimate"] == 1


def test_intervals_are_by_patient():
    held = np.tile([[1, 0], [0, 1]], (20, 1)).astype(bool)
    targets = np.repeat([0, 1], [30, 10])
    lone = report_sets(held, targets, ["a", "b"])
    joined = report_sets(held, np.zeros(40, int), ["a", "b"], patients=np.tile(["P", "Q"], 20))
    assert joined.coverage.n_groups == 2
    assert joined.coverage.high - joined.coverage.low > 2 * (lone.coverage.high - lone.coverage.low)
