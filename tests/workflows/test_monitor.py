"""Runs made up of gradings: drift that was put in is told by its name, and none is told where there is none."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mil.outliers import OutlierCheck
from mil.prediction import ClassSet
from workflows.cli import main
from workflows.control_chart import control_chart
from workflows.gradings import Grading, Quarantined, save_model, save_predictions, save_quarantine
from workflows.monitor import EXIT_DRIFT, monitor
from workflows.monitored import read_runs
from wsi.errors import RecipeMismatchError, UsageError

Make = Callable[..., Path]
GRADES = ("0", "1", "2", "3", "4", "5")


def grading(slide_id: str, patient: str, rng: np.random.Generator, focus: float, checked: bool) -> Grading:
    probabilities = rng.dirichlet(np.ones(6))
    best = GRADES[int(probabilities.argmax())]
    p = float(rng.integers(1, 61)) / 61
    check = OutlierCheck(p, 0.05, 60, ("blur",) if p <= 0.05 else (), {"tiles": float(rng.normal())})
    return Grading(
        slide_id, patient, "grade", GRADES, tuple(probabilities.tolist()), best, True, 50, 0, float(rng.gamma(9)),
        "abc123def456", 1.0, ClassSet((best,), 0.9), check if checked else None,
        {"focus": focus + 0.02 * float(rng.normal()), "stain_x": 0.1 * float(rng.normal())},
    )  # fmt: skip


@pytest.fixture
def make(tmp_path: Path, model: object) -> Make:
    def made(
        name: str, patients: int = 30, focus: float = 0.2, model_id: str = "", refused: int = 0, checked: bool = True
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        rng = np.random.default_rng(sum(map(ord, name)))
        slides = [
            grading(f"{name}-{k}-{part}", f"{name}-P{k}", rng, focus, checked)
            for k in range(patients)
            for part in range(1 + k % 2)
        ]
        save_predictions(folder, slides)
        save_quarantine(
            folder, [Quarantined(f"{name}-bad-{k}", "plan", "not_brightfield", "dark", "-") for k in range(refused)]
        )
        save_model(folder, replace(model, model_id=model_id) if model_id else model)  # type: ignore[type-var]
        return folder

    return made


def names(found: object) -> set[str]:
    return {one.name for one in found.drifted}  # type: ignore[attr-defined]


def test_runs_like_the_reference_have_no_drift(make: Make, tmp_path: Path) -> None:
    found = monitor(make("reference", 60), [make("june"), make("july")], tmp_path / "out", permutations=199)
    assert not found.drifted
    assert found.lines()[0].startswith("no drift found: 90 slides of 2 runs against 90")
    said = json.loads((tmp_path / "out" / "monitor.json").read_bytes())
    assert (said["drift"], said["runs"][1]) == (False, {"name": "june", "slides": 45})
    assert {one["name"] for one in said["measures"]} >= {"grade", "confidence", "set width", "focus", "unlike training"}
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "No drift found" in page
    assert (tmp_path / "out" / "style.css").is_file()


def test_a_change_of_focus_is_told_by_its_name_and_seen_on_its_chart(make: Make, tmp_path: Path) -> None:
    runs = [make("june"), make("july", focus=0.1)]
    found = monitor(make("reference", 60), runs, tmp_path / "out", permutations=999)
    assert {"focus", "all inputs together"} >= names(found) >= {"focus"}
    assert {chart.name: chart.out for chart in found.charts if chart.out} == {"focus": ("july",)}
    assert any("runs out of control limits: july (focus)" in line for line in found.lines())
    assert "Drift in" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_slides_that_are_refused_count_as_unlike(make: Make, tmp_path: Path) -> None:
    found = monitor(make("reference", 60), [make("june", refused=30)], tmp_path / "out", permutations=999)
    assert names(found) == {"unlike training"}
    assert ("june",) in {chart.out for chart in found.charts if chart.name == "share unlike training"}


def test_a_model_that_checks_nothing_is_monitored_all_the_same(make: Make, tmp_path: Path) -> None:
    reference, june = make("reference", 60, checked=False), make("june", checked=False, refused=2)
    found = monitor(reference, [june], tmp_path / "out", permutations=99)
    (flags,) = (one for one in found.changes if one.name == "unlike training")
    assert flags.labels == ("graded", "refused")
    assert not any("oddness" in one.name for one in found.changes)


def test_too_few_patients_are_named_and_not_judged(make: Make, tmp_path: Path) -> None:
    found = monitor(make("reference", 60), [make("june", 4, focus=0.01)], tmp_path / "out", permutations=99)
    assert not found.drifted
    assert found.lines()[0].startswith("nothing could be judged")
    assert "focus (60 and 4)" in found.lines()[1]
    assert not any(chart.out for chart in found.charts)
    measures = json.loads((tmp_path / "out" / "monitor.json").read_bytes())["measures"]
    assert {(one["judged"], one["p_value"]) for one in measures} == {(False, None)}


def test_exit_codes(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, june, july = make("reference", 40), make("june"), make("july", focus=0.05)
    codes = []
    for run in (june, july):
        with pytest.raises(SystemExit) as end:
            main(["monitor", str(reference), str(run), "--out", str(tmp_path / "out"), "--permutations", "499"])
        codes.append(end.value.code)
    assert codes == [0, EXIT_DRIFT]
    assert "focus: adjusted p" in capsys.readouterr().out


def test_a_slide_in_two_runs_counts_once(make: Make) -> None:
    reference, june = make("reference", 20), make("june", 20)
    watched, _ = read_runs(reference, [june, june])
    assert len(watched.slide_id) == len(set(watched.slide_id)) == 60
    assert watched.notes == (f"{june.parent.name}/june: 30 slides are in an earlier run as well and count there",)
    with pytest.raises(UsageError, match="nothing to compare"):
        read_runs(reference, [reference])


def test_runs_of_another_model_and_foreign_folders_are_refused(make: Make, tmp_path: Path) -> None:
    reference = make("reference", 12)
    with pytest.raises(RecipeMismatchError, match="is by model other, the reference by abc123def456"):
        monitor(reference, [make("june", model_id="other")], tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds no comparison of runs"):
        monitor(reference, [make("july")], tmp_path / "full")
    with pytest.raises(UsageError, match="--alpha is 5"):
        monitor(reference, [reference], tmp_path / "out", alpha=5)


def test_limits_of_a_chart_by_hand() -> None:
    values = np.array([1.0, 3, 2, 4, 0, 2, 100, 100, 100, 100, 100])
    run = np.array([0] * 6 + [1] * 5)
    patients = np.array(["a", "a", "b", "c", "d", "e", *"fghij"])
    chart = control_chart("x", values, run, patients, ("reference", "june"))
    assert chart is not None
    reference = np.array([2.0, 2, 4, 0, 2])  # patient a by the mean of two slides
    (point,) = chart.points
    assert chart.mean == reference.mean() == 2
    assert point.high == pytest.approx(2 + 3 * reference.std(ddof=1) * (1 / 5 + 1 / 5) ** 0.5)
    assert (point.value, point.patients, chart.out) == (100, 5, ("june",))
    bounded = control_chart("x", values, run, patients, ("reference", "june"), (0, 3))
    assert bounded is not None
    assert (bounded.points[0].low, bounded.points[0].high) == (0, 3)
    assert control_chart("x", values[2:], run[2:], patients[2:], ("reference", "june")) is None
