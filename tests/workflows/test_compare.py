import json
from math import erfc, sqrt

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from tests.workflows.prediction_files import out_of_fold, tables
from workflows.cli import main
from workflows.compare import CompareConfig, compare
from wsi.errors import UsageError


@pytest.fixture
def models(tmp_path):
    targets, a = out_of_fold(tmp_path / "a", seed=1, better=0.2)
    _, b = out_of_fold(tmp_path / "b", seed=2, better=2.5)
    return targets, a, b


def test_metrics_are_those_of_scikit_learn(tmp_path, models):
    targets, a, b = models
    found = compare(CompareConfig(tmp_path / "a", tmp_path / "b", n=100))
    assert (found.slides, found.patients) == (60, 30)
    one = found.metrics["auroc"]
    expected = [roc_auc_score(targets, p[:, 1]) for p in (a, b)]
    np.testing.assert_allclose([one.first.estimate, one.second.estimate], expected)
    assert one.difference.low > 0
    assert one.p < 0.05
    losses = [log_loss(targets, p / p.sum(axis=1, keepdims=True)) for p in (a, b)]
    np.testing.assert_allclose(found.metrics["log_loss"].difference.estimate, losses[1] - losses[0], atol=1e-4)
    two = found.detections["tumour"]
    np.testing.assert_allclose([two.first, two.second], expected)
    assert two.p == pytest.approx(erfc((two.second - two.first) / two.standard_error / sqrt(2)))


def test_tables_and_json(tmp_path, models, capsys):
    found = compare(CompareConfig(tmp_path / "a", tmp_path / "b", out=tmp_path / "out", n=100))
    kept = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert kept == json.loads(json.dumps(found.to_dict()))
    head, *rows = (tmp_path / "out" / "comparison.csv").read_text().splitlines()
    assert head == "metric,first,second,difference,low,high,p,test"
    assert len(rows) == len(found.metrics) + 1
    assert rows[-1].startswith('"AUROC of tumour"')
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--resamples", "100", "--json"])
    assert stopped.value.code == 0
    assert json.loads(capsys.readouterr().out) == kept


def test_people_read_a_table(tmp_path, models):
    lines = compare(CompareConfig(tmp_path / "a", tmp_path / "b", n=100)).lines()
    assert lines[0].endswith("a")
    assert "60 slides of 30 patients" in lines[2]
    assert any("log_loss (less is better)" in line for line in lines)
    assert lines[-2].split()[-1] == "DeLong"


def test_a_model_against_itself(tmp_path, models):
    found = compare(CompareConfig(tmp_path / "a", tmp_path / "a" / "out_of_fold.csv", n=100))
    for one in found.metrics.values():
        assert (one.difference.estimate, one.p) == (0, 1)


def test_runs_need_labels(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        tables(tmp_path / name)
    with pytest.raises(UsageError, match="holds no labels"):
        compare(CompareConfig(tmp_path / "a", tmp_path / "b", n=100))
    found = compare(CompareConfig(tmp_path / "a", tmp_path / "b", labels=tmp_path / "a" / "labels.csv", n=100))
    assert next(iter(found.metrics)) == "qwk"
    assert list(found.detections) == ["grade ≥ 1", "grade ≥ 2", "grade ≥ 3"]


def change(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def test_slides_that_differ_are_named(tmp_path, models):
    change(tmp_path / "b" / "out_of_fold.csv", "s007,", "x007,")
    with pytest.raises(
        UsageError, match=r"not of the same slides; only in .*a.*: 1 \(s007\); only in .*b.*: 1 \(x007\)"
    ):
        compare(CompareConfig(tmp_path / "a", tmp_path / "b"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("p_tumour", "p_cancer", "the classes benign, cancer; only models for the same classes"),
        ("s000,P0,,0,benign", "s000,P0,,0,tumour", "slide s000: its label is"),
        ("s000,P0,", "s000,P9,", "slide s000: its patient is 'P0' in .* and 'P9'"),
    ],
)
def test_what_does_not_fit_together(tmp_path, models, old, new, said):
    path = tmp_path / "b" / "out_of_fold.csv"
    if old not in path.read_text():
        old, new = new, old
    change(path, old, new)
    if "cancer" in new:
        change(path, ",tumour,", ",cancer,")
        change(path, ",tumour,", ",cancer,")
    with pytest.raises(UsageError, match=said):
        compare(CompareConfig(tmp_path / "a", tmp_path / "b"))


def test_other_folds_are_said(tmp_path, models):
    change(tmp_path / "b" / "out_of_fold.csv", "s000,P0,,0", "s000,P0,,2")
    folds, few = compare(CompareConfig(tmp_path / "a", tmp_path / "b", n=100)).notes
    assert "not held out in the same folds" in folds
    assert few == "DeLong's p is a hint only, fewer than 30 patients on a side: tumour"


def test_slides_without_a_label_are_left_out(tmp_path, models):
    rows = (tmp_path / "a" / "out_of_fold.csv").read_text().splitlines()[1:]
    known = [",".join([row.split(",")[0], row.split(",")[4], row.split(",")[1]]) for row in rows[:-1]]
    (tmp_path / "labels.csv").write_text("slide_id,label,patient_id\n" + "\n".join(known) + "\n")
    found = compare(CompareConfig(tmp_path / "a", tmp_path / "b", labels=tmp_path / "labels.csv", n=100))
    assert found.slides == 59
    assert found.notes[0] == "left out, no label: 1 (s059)"
