import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from tests.workflows.prediction_files import out_of_fold, tables
from workflows.evaluate import EvaluateConfig, evaluate
from wsi.errors import UsageError


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


def test_tables_that_do_not_fit_together(tmp_path):
    tables(tmp_path)
    (tmp_path / "labels.csv").write_text("slide_id,label\ns000,7\n")
    with pytest.raises(UsageError, match="slide s000: label '7' is not one of 0, 1, 2, 3"):
        evaluate(config(tmp_path), [].append)
    (tmp_path / "labels.csv").write_text("slide_id,label\nzzz,1\n")
    with pytest.raises(UsageError, match="no slide has both"):
        evaluate(config(tmp_path), [].append)


def test_thresholds_of_a_fold_come_from_the_others(tmp_path):
    targets, p = out_of_fold(tmp_path / "model")
    labels = "".join(f"s{i:03d},{('benign', 'tumour')[k]},P{i // 2}\n" for i, k in enumerate(targets))
    (tmp_path / "labels.csv").write_text("slide_id,label,patient_id\n" + labels)
    said = []
    found = evaluate(EvaluateConfig(tmp_path / "model", tmp_path / "labels.csv", tmp_path / "out", 100), said.append)
    fold, called = np.arange(60) // 2 % 3, np.zeros(60, bool)
    for k in range(3):
        positives = np.sort(p[(fold != k) & (targets == 1), 1])
        called[fold == k] = p[fold == k, 1] >= positives[int(0.05 * len(positives))]
    (point, other) = found.points
    assert point.sensitivity.estimate == called[targets == 1].mean()
    assert point.specificity.estimate == (~called[targets == 0]).mean()
    assert other.specificity.estimate > point.specificity.estimate
    assert any("thresholds from the other folds" in line for line in said)
    kept = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert kept["operating_points"][0]["thresholds"] == list(point.thresholds)
    table = (tmp_path / "out" / "metrics.csv").read_text()
    assert "sensitivity of tumour at sensitivity 0.95" in table


def test_thresholds_for_a_run_come_from_the_model(tmp_path):
    targets, p = out_of_fold(tmp_path / "model", seed=1)
    truth, new = tables(tmp_path, "class", ("benign", "tumour"))
    said = []
    found = evaluate(config(tmp_path, model=tmp_path / "model", sensitivity=0.8), said.append)
    positives = np.sort(p[targets == 1, 1])[::-1]
    threshold = positives[int(np.ceil(0.8 * len(positives))) - 1]
    assert found.points[0].thresholds == (threshold, threshold)
    assert found.points[0].sensitivity.estimate == (new[truth == 1, 1] >= threshold).mean()
    assert any("60 held-out slides of model" in line for line in said)
    assert any("trained on slides that are evaluated here: 60" in note for note in found.notes)


def test_without_other_slides_there_is_no_threshold(graded):
    assert graded[3].points == ()
    assert json.loads((graded[0] / "out" / "metrics.json").read_text())["operating_points"] == []


def test_a_model_of_other_classes_gives_no_threshold(tmp_path):
    tables(tmp_path)
    out_of_fold(tmp_path / "model")
    with pytest.raises(UsageError, match="give the model that made the predictions"):
        evaluate(config(tmp_path, model=tmp_path / "model"), [].append)


@pytest.fixture
def run_with_maps(tmp_path, make_slide, make_run):
    """Four graded slides of five tiles: findings are drawn on two, one is of grade 0, and of one nothing is known."""
    slides = [
        make_slide(name, patient_id=f"P-{name}", predicted=k) for name, k in zip("abcd", (3, 3, 0, 3), strict=True)
    ]
    run = make_run(tmp_path / "run", slides)
    (tmp_path / "labels.csv").write_text("slide_id,label,patient_id\na,3,A\nb,2,B\nc,0,C\nd,4,D\n")
    (tmp_path / "drawn").mkdir()
    for name, box in (("a", (140, 50, 180, 90)), ("b", (100, 50, 140, 90))):
        x, y, u, v = box
        ring = [[x, y], [u, y], [u, v], [x, v], [x, y]]
        one = {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"objectType": "annotation", "classification": {"name": "Tumor"}},
        }
        (tmp_path / "drawn" / f"{name}.geojson").write_text(
            json.dumps({"type": "FeatureCollection", "features": [one]})
        )
    return EvaluateConfig(run, tmp_path / "labels.csv", tmp_path / "out", 100, annotations=tmp_path / "drawn")


def test_maps_of_a_run_against_annotations(run_with_maps, tmp_path):
    said = []
    found = evaluate(run_with_maps, said.append).localisation
    # Attention leads on the second tile: right on a, and on b, where the first is drawn, level with the three others.
    assert found.attention.auroc.estimate == pytest.approx((1 + 3 / 8) / 2)
    assert (found.slides, found.all_slides, found.lesions, found.tiles) == (2, 3, 2, 15)
    kept = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert kept["localisation"]["attention"]["auroc"]["estimate"] == found.attention.auroc.estimate
    assert "not annotated, left out of the maps: 1 (d)" in kept["notes"]
    assert "froc of evidence" in (tmp_path / "out" / "metrics.csv").read_text()
    assert any("FROC over 2 lesions in 3 slides" in line for line in said)


def test_annotations_of_other_slides_are_refused(run_with_maps, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UsageError, match=r"holds no <slide_id>\.geojson of a slide"):
        evaluate(replace(run_with_maps, annotations=tmp_path / "elsewhere"), [].append)


def test_a_class_that_is_not_drawn_finds_nothing(run_with_maps):
    with pytest.raises(UsageError, match="no slide has tiles inside and outside of findings"):
        evaluate(replace(run_with_maps, findings=("necrosis",)), [].append)


def with_sets(folder):
    """The table with sets of 90 %: the predicted grade and the next; and sites beside the labels."""
    rows = [line.split(",") for line in (folder / "predictions.csv").read_text().splitlines()]
    head, body = rows[0], rows[1:]
    head += ["coverage", *(f"holds_{name}" for name in "0123")]
    for row in body:
        row += ["0.9", *("yes" if int(row[2]) <= k <= int(row[2]) + 1 else "no" for k in range(4))]
    (folder / "predictions.csv").write_text("".join(",".join(row) + "\n" for row in (head, *body)))
    labels = (folder / "labels.csv").read_text().splitlines()
    sites = [f"{line},{'AB'[row % 2]}" for row, line in enumerate(labels[1:])]
    (folder / "labels.csv").write_text("\n".join([f"{labels[0]},site", *sites]) + "\n")


def test_sets_are_judged_overall_by_class_and_by_site(tmp_path):
    targets, p = tables(tmp_path)
    with_sets(tmp_path)
    said = []
    found = evaluate(config(tmp_path), said.append)
    best = p.argmax(axis=1)
    right = (best <= targets) & (targets <= best + 1)
    assert found.sets.coverage.estimate == right.mean()
    assert found.sets.by_class["2"].estimate == right[targets == 2].mean()
    assert found.sets.by_site["B"].estimate == right[1::2].mean()
    assert found.sets.size.estimate == np.where(best == 3, 1, 2).mean()
    kept = json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"]
    assert (kept["coverage"]["estimate"], kept["made_for"]) == (right.mean(), 0.9)
    assert any(line.startswith("sets made for 90 %: they hold the truth in 0.") for line in said)
    assert "coverage of site A" in (tmp_path / "out" / "metrics.csv").read_text()


def test_without_sets_nothing_is_said_of_them(graded):
    assert graded[3].sets is None
    assert not any(line.startswith("sets") for line in graded[4])
