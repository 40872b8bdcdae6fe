import numpy as np

from mil.prediction import Prediction, score_columns


def test_label_confidence_and_expected_grade():
    one = Prediction(
        slide_id="S",
        task="grade",
        classes=("1", "2", "3"),
        probabilities=np.array([0.5, 0.2, 0.3]),
        attention=np.ones(1, np.float32),
        tile_evidence=np.full((1, 3), 1 / 3, np.float32),
        rows=np.arange(1),
        model_id="m",
        calibrated=True,
        fold_spread=0.0,
    )
    assert one.label == "1"
    assert one.confidence == 0.5
    np.testing.assert_allclose(one.expected_grade, 0.2 + 2 * 0.3)
    assert score_columns(one.classes) == ["p_1", "p_2", "p_3"]
