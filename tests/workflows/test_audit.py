import csv
import json

import numpy as np
import pytest

from mil.testing import toy_card, write_store
from tests.workflows.model_folders import made_up_folder
from workflows.audit import AuditConfig, audit_predictions, band_limits
from wsi.errors import UsageError


def write_tables(folder, n=160, seed=0, sets=True):
    """predictions.csv of a run, and cohort.csv: on scanner S2 the model guesses, and its sets are one grade."""
    rng = np.random.default_rng(seed)
    y, scanner = rng.integers(0, 3, n), rng.choice(["S1", "S2"], n)
    age, site = rng.integers(30, 90, n), rng.choice(["A", "B"], n)
    logits = 2.5 * np.eye(3)[np.where(scanner == "S2", rng.integers(0, 3, n), y)] + rng.normal(size=(n, 3))
    p = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 6)
    best = p.argmax(axis=1)
    head = "slide_id,patient_id,grade,p_0,p_1,p_2,calibrated"
    rows = [f"s{i:03d},P{i},{best[i]},{','.join(map(str, p[i]))},yes" for i in range(n)]
    if sets:
        head += ",coverage,holds_0,holds_1,holds_2"
        held = (np.arange(3) == best[:, None]) | (scanner == "S1")[:, None]
        rows = [
            f"{row},0.9,{','.join('yes' if inside else 'no' for inside in one)}"
            for row, one in zip(rows, held, strict=True)
        ]
    (folder / "predictions.csv").write_text("\n".join([head, *rows]) + "\n")
    cohort = [f"s{i:03d},{y[i]},P{i},{site[i]},{scanner[i]},{age[i]}" for i in range(n)]
    (folder / "cohort.csv").write_text("\n".join(["slide_id,label,patient_id,site,scanner,age", *cohort]) + "\n")
    return y, best, scanner


def config(folder, **changes):
    return AuditConfig(folder / "predictions.csv", folder / "cohort.csv", folder / "out", **{"n": 199} | changes)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    truth = write_tables(folder)
    said = []
    return folder, truth, audit_predictions(config(folder, by=("site", "scanner", "age")), said.append), said


def test_a_planted_subgroup_failure_is_found_and_named_and_nothing_else(planted):
    folder, _, done, said = planted
    found = [line for line in said if line.startswith("FOUND") and "sets made for" not in line]
    assert found
    assert all(line.startswith("FOUND scanner: ") for line in found)
    assert any("accuracy" in line and "for S2 and" in line for line in found)
    kept = json.loads((folder / "out" / "audit.json").read_text())
    assert kept["findings"] == done.groups.findings()
    page = (folder / "out" / "audit.html").read_text()
    assert "scanner S2 is worse off." in page
    assert "site A is worse off." not in page
    assert "site B is worse off." not in page


def test_sets_that_hold_the_truth_too_seldom_are_named(planted):
    _, (y, best, scanner), done, said = planted
    assert any(line.startswith("FOUND scanner: sets made for 90 % hold the truth in 0.") for line in said)
    covered = done.groups.coverage["scanner"]
    assert covered["S1"].estimate == 1
    assert covered["S2"].estimate == (best == y)[scanner == "S2"].mean()
    assert covered["S2"].level == 0.975  # two groups together at 95 %


def test_numbers_are_cut_into_bands(planted, tmp_path):
    _, _, done, said = planted
    age = next(one for one in done.groups.columns if one.column == "age")
    assert len(age.groups) == 3
    assert sum(group.slides for group in age.groups) == 160
    assert any(line.startswith("note: age: numbers, cut into thirds at ") for line in said)
    write_tables(tmp_path)
    again = audit_predictions(config(tmp_path, by=("age",), bands={"age": (50.0, 70.0)}), [].append)
    assert [group.value for group in again.groups.columns[0].groups] == ["50 to below 70", "70 and above", "below 50"]


def test_table_has_every_group_and_metric(planted):
    folder, (y, best, scanner), _, _ = planted
    with (folder / "out" / "audit.csv").open(newline="") as handle:
        rows = {(row["column"], row["group"], row["metric"]): row for row in csv.DictReader(handle)}
    assert float(rows["scanner", "S1", "accuracy"]["estimate"]) == pytest.approx(
        (best == y)[scanner == "S1"].mean(), abs=1e-6
    )
    assert ("scanner", "S2", "coverage of sets") in rows


def test_the_same_bytes_again(planted, tmp_path):
    folder = planted[0]
    write_tables(tmp_path)
    audit_predictions(config(tmp_path, by=("site", "scanner", "age")), [].append)
    for name in ("audit.html", "audit.json", "audit.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / "out" / name).read_bytes()


def test_small_groups_are_named(tmp_path):
    write_tables(tmp_path, n=50, sets=False)
    said = []
    done = audit_predictions(config(tmp_path, by=("age", "site"), bands={"age": (89.0,)}, n=100), said.append)
    assert any("age: fewer than 20 patients, not judged: 89 and above (" in line for line in said)
    assert done.groups.coverage == {}


def test_a_model_folder_is_audited_by_its_own_sites(tmp_path):
    folder = made_up_folder(tmp_path / "model", noise=0.5, worse=("B",))
    done = audit_predictions(AuditConfig(folder, n=199), [].append)
    assert [one.column for one in done.groups.columns] == ["site"]
    assert all(" for B and" in line for line in done.groups.findings() if "ece" not in line)
    assert done.groups.findings()


def test_features_that_tell_the_scanner(tmp_path):
    _, _, scanner = write_tables(tmp_path, n=60, sets=False)
    rng = np.random.default_rng(0)
    for row, name in enumerate(scanner):
        write_store(tmp_path / "stores", f"s{row:03d}", rng.normal(size=(4, 12)) + 3.0 * (name == "S2"), toy_card())
    said = []
    done = audit_predictions(config(tmp_path, by=("scanner", "site"), store=tmp_path / "stores", n=100), said.append)
    scanner_probe, site_probe = done.probes
    assert scanner_probe.accuracy.estimate == 1
    assert not site_probe.found()
    assert any(line.startswith("the features tell the scanner of a slide: balanced accuracy 1.000") for line in said)
    assert "What the features tell" in (tmp_path / "out" / "audit.html").read_text()


def test_what_is_asked_for_must_be_there(tmp_path):
    write_tables(tmp_path, n=40)
    with pytest.raises(UsageError, match="the labels have no column 'sex'; they have: patient, site, scanner, age"):
        audit_predictions(config(tmp_path, by=("sex",)), [].append)
    with pytest.raises(UsageError, match="--band cuts 'age', which is not audited"):
        audit_predictions(config(tmp_path, by=("site",), bands={"age": (50.0,)}), [].append)
    with pytest.raises(UsageError, match="--band cuts 'site', which holds no number"):
        audit_predictions(config(tmp_path, by=("site",), bands={"site": (50.0,)}), [].append)
    (tmp_path / "cohort.csv").write_text("slide_id,label\ns000,1\n")
    with pytest.raises(UsageError, match="no column to audit by"):
        audit_predictions(config(tmp_path), [].append)


def test_bands_as_they_are_written():
    assert band_limits(["age=70,50", "size=2.5"]) == {"age": (50.0, 70.0), "size": (2.5,)}
    with pytest.raises(UsageError, match="is not of the form age=50,70"):
        band_limits(["age"])
