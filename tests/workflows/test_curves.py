import io

import numpy as np
from PIL import Image

from mil.intervals import Interval
from workflows.curves import _wilson, draw_confusion, draw_reliability, draw_roc


def size(data):
    with Image.open(io.BytesIO(data)) as picture:
        return picture.size


def test_wilson_interval_by_hand():
    # Eight of ten at z = 1.96: Wilson's interval is .490 to .943 (Newcombe 1998 gives such cases).
    low, high = _wilson(np.array([0.8]), np.array([10]))
    np.testing.assert_allclose([low[0], high[0]], [0.4901, 0.9433], atol=5e-4)
    low, high = _wilson(np.array([0.0, 1.0]), np.array([5, 5]))
    np.testing.assert_allclose([low[0], high[1]], [0, 1], atol=1e-12)


def test_confusion_grows_with_the_classes():
    few = size(draw_confusion(np.array([0, 1]), np.array([0, 0]), ("a", "b"), "class"))
    names = tuple(f"class number {number}" for number in range(9))
    many = size(draw_confusion(np.arange(9), np.arange(9), names, "class"))
    assert many[0] > few[0]


def test_question_with_one_answer_is_left_out():
    scores = np.array([0.1, 0.4, 0.8])
    known = {"both": (np.array([False, True, True]), scores)}
    every = {**known, "never": (np.zeros(3, bool), scores)}
    interval = Interval(1.0, 1.0, 1.0, 0.95, 3, "made up")
    assert draw_roc(every, {"both": interval}) == draw_roc(known, {"both": interval})


def test_reliability_of_few_slides():
    probabilities = np.array([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])
    assert min(size(draw_reliability(np.array([0, 1, 1]), probabilities, calibrated=False))) > 500
