import numpy as np
import pytest

from mil.cohort import Cohort, read_labels
from tests.workflows.prediction_files import out_of_fold, tables
from workflows.prediction_table import Judged, find_table, judge, named, read_predictions
from wsi.errors import UsageError


def judged(task, classes, targets, probabilities):
    names = tuple(f"s{i}" for i in range(len(targets)))
    cohort = Cohort(names, names, ("",) * len(names), tuple(classes[k] for k in targets))
    return Judged(task, classes, names, names, np.array(targets), np.array(targets), probabilities, None, cohort)


def test_questions_of_classes_are_one_against_the_rest():
    found = judged("class", ("a", "b", "c"), [0, 1, 2], np.eye(3)).questions()
    assert list(found) == ["a", "b", "c"]
    assert found["b"][0].tolist() == [False, True, False]
    assert list(judged("class", ("no", "yes"), [0, 1], np.eye(2)).questions()) == ["yes"]


def test_questions_of_grades_are_at_least():
    found = judged("grade", ("1", "2", "3"), [0, 1, 2], np.array([[0.5, 0.3, 0.2]] * 3)).questions()
    assert list(found) == ["grade ≥ 2", "grade ≥ 3"]
    assert found["grade ≥ 2"][0].tolist() == [False, True, True]
    np.testing.assert_allclose(found["grade ≥ 2"][1], 0.5)


def test_a_table_in_its_folder(tmp_path):
    targets, p = out_of_fold(tmp_path / "model")
    found = read_predictions(tmp_path / "model")
    assert found.path == tmp_path / "model" / "out_of_fold.csv"
    assert found.fold[:6] == ("0", "0", "1", "1", "2", "2")
    np.testing.assert_array_equal(found.probabilities, p)
    own = found.own_cohort()
    np.testing.assert_array_equal(own.targets(found.classes), targets)
    tables(tmp_path)
    assert find_table(tmp_path) == tmp_path / "predictions.csv"
    assert read_predictions(tmp_path).fold is None
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"holds neither out_of_fold\.csv nor predictions\.csv"):
        read_predictions(tmp_path / "empty")


def test_a_table_without_labels_says_so(tmp_path):
    tables(tmp_path)
    with pytest.raises(UsageError, match="holds no labels; give them with --labels"):
        read_predictions(tmp_path).own_cohort()


def test_order_of_rows_does_not_matter(tmp_path):
    tables(tmp_path)
    cohort = read_labels(tmp_path / "labels.csv")
    first = judge(read_predictions(tmp_path), cohort)
    head, *rows = (tmp_path / "predictions.csv").read_text().splitlines()
    (tmp_path / "predictions.csv").write_text("\n".join([head, *reversed(rows)]) + "\n")
    second = judge(read_predictions(tmp_path), cohort)
    assert first.slide_id == second.slide_id
    assert first.patients == second.patients
    np.testing.assert_array_equal(first.probabilities, second.probabilities)


def test_names_of_many_slides():
    assert named(["a"]) == "1 (a)"
    assert named(list("abcdef"), most=2) == "6 (a, b and 4 more)"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text.replace("grade", "score"), "need the columns slide_id, grade or class"),
        (lambda text: text.replace("p_", "q_"), "need the columns"),
        (lambda text: text.splitlines()[0] + "\n", "holds no prediction; no slide was graded there"),
        (lambda text: text + text.splitlines()[1] + "\n", "slide s000 occurs twice"),
        (lambda text: text.replace("s000,P0,", "s000,P0,9"), "slide s000 has a value that does not fit"),
        (lambda text: text.replace(",yes,40", ",yes,40", 1).replace(",0.", ",5.", 1), "do not sum to 1"),
    ],
)
def test_bad_predictions_are_refused_in_one_line(tmp_path, edit, said):
    tables(tmp_path)
    path = tmp_path / "predictions.csv"
    path.write_text(edit(path.read_text()))
    with pytest.raises(UsageError, match=said) as caught:
        read_predictions(path)
    assert "\n" not in str(caught.value)
