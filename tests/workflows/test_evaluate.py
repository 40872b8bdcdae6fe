import csv
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from workflows.evaluate import EvaluateConfig, detections, evaluate, read_predictions
from wsi.errors import UsageError


def tables(folder, task="grade", classes=("0", "1", "2", "3"), n=60, seed=0):
    """predictions.csv as `grade` writes it, and labels.csv; gives the truth and the probabilities as well."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, len(classes), n)
    logits = rng.normal(size=(n, len(classes))) + 2 * np.eye(len(classes))[targets]
    p = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 6)
    head = f"slide_id,patient_id,{task},{','.join(f'p_{name}' for name in classes)},calibrated,tiles\n"
    rows = [f"s{i:03d},P{i // 2},{classes[p[i].argmax()]},{','.join(str(v) for v in p[i])},yes,40\n" for i in range(n)]
    (folder / "predictions.csv").write_text(head + "".join(rows))
    labels = "".join(f"s{i:03d},{classes[targets[i]]},P{i // 2}\n" for i in range(n))
    (folder / "labels.csv").write_text("slide_id,label,patient_id\n" + labels)
    return targets, p


def config(folder, **changes):
    return EvaluateConfig(folder / "predictions.csv", folder / "labels.csv", folder / "out", 100, **changes)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graded")
    targets, p = tables(folder)
    said = []
    return folder, targets, p, evaluate(config(folder), said.append), said


def test_metrics_are_those_of_scikit_learn(graded):
    folder, targets, p, found, _ = graded
    kappa = cohen_kappa_score(targets, p.argmax(axis=1), weights="quadratic")
    np.testing.assert_allclose(found.metrics["qwk"].estimate, kappa, rtol=1e-12)
    kept = json.loads((folder / "out" / "metrics.json").read_text())
    assert kept["metrics"]["qwk"]["estimate"] == found.metrics["qwk"].estimate
    assert kept["slides"] == 60
    assert kept["patients"] == 30
    assert np.sum(kept["confusion"]) == 60
    for k in (1, 2, 3):
        expected = roc_auc_score(targets >= k, p[:, k:].sum(axis=1))
        np.testing.assert_allclose(found.detections[f"grade ≥ {k}"].estimate, expected, rtol=1e-12)


def test_table_has_every_metric_with_its_interval(graded):
    folder, _, _, found, said = graded
    with (folder / "out" / "metrics.csv").open(newline="") as handle:
        rows = {row["metric"]: row for row in csv.DictReader(handle)}
    assert set(found.metrics) < set(rows)
    for row in rows.values():
        assert float(row["low"]) <= float(row["estimate"]) <= float(row["high"])
        assert (row["slides"], row["patients"]) == ("60", "30")
    assert "60 slides of 30 patients" in said[0]
    assert "probabilities calibrated" in said[0]


@pytest.mark.parametrize("name", ["confusion.png", "roc.png", "reliability.png"])
def test_pictures_are_pictures(graded, name):
    with Image.open(graded[0] / "out" / name) as picture:
        assert min(picture.size) > 500
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 50


def test_same_bytes_again(graded, tmp_path):
    folder = graded[0]
    evaluate(EvaluateConfig(folder / "predictions.csv", folder / "labels.csv", tmp_path, 100), [].append)
    for name in ("metrics.json", "metrics.csv", "roc.png", "confusion.png", "reliability.png"):
        assert (tmp_path / name).read_bytes() == (folder / "out" / name).read_bytes()


def test_two_classes(tmp_path):
    targets, p = tables(tmp_path, "class", ("benign", "tumour"))
    found = evaluate(config(tmp_path), [].append)
    assert list(found.detections) == ["tumour"]
    np.testing.assert_allclose(found.metrics["auroc"].estimate, roc_auc_score(targets, p[:, 1]), rtol=1e-12)
    assert "average_precision" in found.metrics


def test_questions_of_classes_are_one_against_the_rest():
    found = detections("class", ("a", "b", "c"), np.array([0, 1, 2]), np.eye(3))
    assert list(found) == ["a", "b", "c"]
    assert found["b"][0].tolist() == [False, True, False]


def test_slides_on_one_side_are_listed(tmp_path):
    tables(tmp_path)
    lines = (tmp_path / "labels.csv").read_text().splitlines(keepends=True)
    (tmp_path / "labels.csv").write_text("".join(lines[:-3]) + "x1,0,P\n")
    said = []
    found = evaluate(config(tmp_path), said.append)
    assert found.only_predicted == ("s057", "s058", "s059")
    assert found.only_labelled == ("x1",)
    assert "left out, no prediction: 1 (x1)" in said
    assert "left out, no label: 3 (s057, s058, s059)" in said
    assert len(found.targets) == 57


def test_patients_come_from_either_table(tmp_path):
    tables(tmp_path)
    text = (tmp_path / "labels.csv").read_text().splitlines()
    (tmp_path / "labels.csv").write_text("\n".join(",".join(line.split(",")[:2]) for line in text) + "\n")
    assert len(set(evaluate(config(tmp_path), [].append).patients)) == 30


def test_one_class_only_still_gives_tables_and_pictures(tmp_path):
    tables(tmp_path)
    rows = (tmp_path / "labels.csv").read_text().splitlines()
    only = [rows[0], *(line for line in rows[1:] if line.split(",")[1] == "2")]
    (tmp_path / "labels.csv").write_text("\n".join(only) + "\n")
    found = evaluate(config(tmp_path), [].append)
    assert np.isnan(found.metrics["auroc"].estimate)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"]["auroc"]["estimate"] is None


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text.replace("grade", "score"), "need the columns slide_id, grade or class"),
        (lambda text: text.replace("p_", "q_"), "need the columns"),
        (lambda text: text.splitlines()[0] + "\n", "no rows"),
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


def test_tables_that_do_not_fit_together(tmp_path):
    tables(tmp_path)
    (tmp_path / "labels.csv").write_text("slide_id,label\ns000,7\n")
    with pytest.raises(UsageError, match="slide s000: label '7' is not one of 0, 1, 2, 3"):
        evaluate(config(tmp_path), [].append)
    (tmp_path / "labels.csv").write_text("slide_id,label\nzzz,1\n")
    with pytest.raises(UsageError, match="no slide has both"):
        evaluate(config(tmp_path), [].append)
