"""Slides to a run folder: what is in it, what a second run does, and what one damaged slide costs."""

import csv
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from mil.bag import Bag
from mil.model_folder import add_faithfulness, load_model
from tests.hostile.makers import flip, tissue_pixels, write_svs
from tests.range_server import RangeServer
from tests.workflows.dask_processes import dask_processes
from workflows.cli import main
from workflows.extraction import ExtractConfig
from workflows.grade import GradeConfig, GradeSummary, grade
from workflows.listeners import Listener
from workflows.pipeline import run_pipeline
from workflows.results import load_slide
from workflows.run_state import RunLogReader
from workflows.sources import find_slides
from workflows.train import TrainConfig, train
from workflows.watch import WatchConfig
from wsi.errors import RecipeMismatchError, UsageError
from wsi.files import folder_records, write_json
from wsi.store import FeatureStore

GRADES = 3
NBSP = "\u00a0"
PATIENTS = {"mild": "P-7", "severe": "P-8", "torn": "P-8"}


def write_stained(path: Path, grade_group: int, seed: int) -> Path:
    """A slide of 1050 x 1000 px at 0.5 um/px that is darker with its grade."""
    return write_svs(path, (tissue_pixels(1050, 1000, seed) * (1 - 0.08 * grade_group)).astype(np.uint8))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, cluster: object) -> list[Path]:
    """Two models of toy features, alike but for the seed."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "slides").mkdir()
    lines = ["slide_id,label,patient_id,site"]
    for number in range(6):
        write_stained(folder / "slides" / f"t{number}.svs", number % GRADES, seed=number)
        lines.append(f"t{number},{number % GRADES},Q{number},S{number % 2}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    config = ExtractConfig(store=folder / "stores", encoder="toy")
    assert all(
        one.failure is None for one in run_pipeline(cluster, find_slides([folder / "slides"]), config, Listener())
    )
    made = []
    for seed in range(2):
        settings = TrainConfig(
            folder / "stores",
            folder / "labels.csv",
            folder / f"model-{seed}",
            folds=2,
            epochs=2,
            seed=seed,
            device="cpu",
            coverage=0.6,
        )
        made.append(train(settings, lambda line: None).path)
    return made


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of two sound slides and one that ends early."""
    folder = tmp_path_factory.mktemp("new")
    write_stained(folder / "mild.svs", 0, seed=10)
    whole = write_stained(folder / "severe.svs", 2, seed=11).read_bytes()
    (folder / "torn.svs").write_bytes(whole[: len(whole) // 3])
    rows = [f"{name},{name}.svs,{patient}" for name, patient in PATIENTS.items()]
    (folder / "slides.csv").write_text("\n".join(["slide_id,path,patient_id", *rows]) + "\n")
    return folder / "slides.csv"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, models: list[Path], slides: Path) -> tuple[Path, GradeSummary]:
    """A run of the three slides. Do not write to it."""
    out = tmp_path_factory.mktemp("run") / "graded"
    return out, grade(find_slides([slides]), GradeConfig(models[0], out, out / "features", device="cpu"))


@pytest.fixture
def copied(first: tuple[Path, GradeSummary], tmp_path: Path) -> Path:
    """The run, to write to."""
    return Path(shutil.copytree(first[0], tmp_path / "graded"))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_run_folder_is_complete(first: tuple[Path, GradeSummary]) -> None:
    out, summary = first
    assert [one.slide_id for one in summary.gradings] == ["mild", "severe"]
    assert [one.slide_id for one in summary.quarantined] == ["torn"]
    for name in ("mild", "severe"):
        drawn = {path.name for path in (out / "heatmaps" / name).iterdir()}
        assert drawn == {"attention.png", "evidence.png", "tiles.geojson", "heatmap.ome.tif"}
    assert not (out / "heatmaps" / "torn").exists()
    page = (out / "report" / "index.html").read_text(encoding="utf-8")
    assert all(name in page for name in PATIENTS)
    assert "2 of 3 slides graded" in summary.text(out)


def test_predictions_are_those_of_the_model(first: tuple[Path, GradeSummary], models: list[Path]) -> None:
    from pyarrow import parquet

    out, _ = first
    model = load_model(models[0])
    found = rows(out / "predictions.csv")
    assert [row["slide_id"] for row in found] == ["mild", "severe"]
    for row in found:
        store = FeatureStore(out / "features" / f"{row['slide_id']}.zarr")
        expected = model.predict(Bag.from_store(store, "toy"))
        assert row["patient_id"] == PATIENTS[row["slide_id"]]
        assert row["grade"] == expected.label
        assert row["model_id"] == model.model_id
        assert int(row["tiles"]) == len(expected.rows) == len(store.grid) > 4
        assert row["bad_tiles"] == "0"
        probabilities = [float(row[f"p_{name}"]) for name in model.card.classes]
        np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-6)
        assert row["set"] == expected.class_set.text(model.card.classes, "grade")
        held = [name for name in model.card.classes if row[f"holds_{name}"] == "yes"]
        assert tuple(held) == expected.class_set.held
        assert row["coverage"] == "0.6"
    again = parquet.read_table(out / "predictions.parquet").to_pylist()
    said = [{name: "" if value is None else str(value) for name, value in row.items()} for row in again]
    assert said == found


def test_slides_are_held_against_the_training_slides(first: tuple[Path, GradeSummary], models: list[Path]) -> None:
    out, summary = first
    model = load_model(models[0])
    assert model.card.outliers["n_patients"] == 6
    for row in rows(out / "predictions.csv"):
        store = FeatureStore(out / "features" / f"{row['slide_id']}.zarr")
        check = model.check_outlier(Bag.from_store(store, "toy"), store)
        assert (row["flagged"], float(row["outlier_p"]), row["training_patients"]) == ("not judged", check.p_value, "6")
        assert float(row["odd_tiles"]) == check.oddness["tiles"]
        assert float(row["input_stain_density"]) > 0
        kept = json.loads((out / "slides" / row["slide_id"] / "slide.json").read_bytes())["outlier"]
        assert (kept["p_value"], kept["oddness"]) == (check.p_value, check.oddness)
        page = (out / "report" / "slides" / f"{row['slide_id']}.html").read_text(encoding="utf-8")
        assert "not judged whether it is like the training slides" in page
    assert "6 training patients are too few to flag a slide at 5 % false alarms" in summary.text(out)


def test_the_set_and_what_it_rests_on_are_in_every_output(first: tuple[Path, GradeSummary], models: list[Path]) -> None:
    out, summary = first
    said, page = summary.text(out), (out / "report" / "index.html").read_text(encoding="utf-8")
    kept = json.loads((out / "model.json").read_bytes())
    ranked = {row["slide_id"]: row for row in rows(out / "worklist.csv")}
    assert load_model(models[0]).card.sets["coverage"] == kept["coverage"] == 0.6
    for text in (kept["calibration"], kept["sets"]):
        assert "on 6 held-out slides of 6 patients" in text
        assert text in said
        assert text in page
    for row in rows(out / "predictions.csv"):
        name, text = row["slide_id"], row["set"]
        assert text.endswith(" at 60 %")
        own = (out / "report" / "slides" / f"{name}.html").read_text(encoding="utf-8")
        assert f"{name}: Grade group {row['grade']}" in said
        assert f", set {text}" in said
        assert f"set {text}".replace(" %", NBSP + "%") in page
        assert f"<b>{text}</b>".replace(" %", NBSP + "%") in own
        assert kept["calibration"] in own
        assert kept["sets"] in own
        assert (ranked[name]["set"], ranked[name]["calibrated"]) == (text, "yes")
        held = json.loads((out / "slides" / name / "slide.json").read_bytes())["set"]["held"]
        assert held == [grade for grade in "012" if row[f"holds_{grade}"] == "yes"]


OLD_CALIBRATION = {
    "method": "temperature", "temperature": 1.5, "n_slides": 6, "nll_before": 1.2, "nll_after": 1.1, "ece_before": 0.3,
    "ece_after": 0.2, "at_bound": False,
}  # fmt: skip


def old_model(new: Path, path: Path, calibration: dict[str, object] | None) -> Path:
    """A model folder as it was written before there were sets and other calibrations than by temperature."""
    shutil.copytree(new, path)
    card = json.loads((path / "model.json").read_bytes())
    del card["sets"], card["outliers"]
    (path / "outliers.npz").unlink()
    write_json(path / "model.json", card | {"calibration": calibration, "format_version": 1, "model_id": "0ld"})
    (path / "manifest.json").unlink()
    files = folder_records(path)
    files.pop("run.json", None)
    write_json(path / "manifest.json", {"files": files})
    return path


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        (OLD_CALIBRATION, "calibrated by temperature scaling (T = 1.50) on 6 held-out slides: expected"),
        (None, "Probabilities are not calibrated"),
    ],
    ids=["temperature", "none"],
)
def test_an_older_model_grades_and_says_in_each_output_that_it_has_no_sets(
    copied: Path, models: list[Path], slides: Path, tmp_path: Path, calibration: dict[str, object] | None, said: str
) -> None:
    old, out = old_model(models[0], tmp_path / "old", calibration), tmp_path / "run"
    done = grade(find_slides([slides.parent / "mild.svs"]), GradeConfig(old, out, copied / "features", device="cpu"))
    (row,) = rows(out / "predictions.csv")
    (place,) = rows(out / "worklist.csv")
    assert (row["set"], row["coverage"], row["holds_0"]) == (place["set"], "", "") == ("none", "", "")
    assert (row["flagged"], row["outlier_p"]) == (place["flagged"], "") == ("not checked", "")
    assert row["calibrated"] == place["calibrated"] == ("yes" if calibration else "no")
    assert json.loads((out / "slides" / "mild" / "slide.json").read_bytes())["set"] is None
    report = [(out / "report" / name).read_text(encoding="utf-8") for name in ("index.html", "slides/mild.html")]
    for text in (done.text(out), *report):
        assert "The model has no sets" in text
        assert "The model does not know slides unlike its training slides" in text
        assert said in text
        assert calibration or "not calibrated" in text


def test_a_slide_graded_before_its_model_had_sets_is_graded_again(
    copied: Path, models: list[Path], slides: Path
) -> None:
    """By a program that knew no sets, into a run that goes on with one that does."""
    path = copied / "slides" / "mild" / "slide.json"
    kept = json.loads(path.read_bytes())
    write_json(path, {name: value for name, value in kept.items() if name != "set"})
    grade(find_slides([slides]), GradeConfig(models[0], copied, copied / "features", device="cpu"))
    assert json.loads(path.read_bytes())["set"] == kept["set"]


def test_worklist_ranks_every_graded_slide(first: tuple[Path, GradeSummary]) -> None:
    found = rows(first[0] / "worklist.csv")
    assert [row["rank"] for row in found] == ["1", "2"]
    assert {row["slide_id"] for row in found} == {"mild", "severe"}
    assert float(found[0]["urgency"]) >= float(found[1]["urgency"])


def test_damaged_slide_is_in_quarantine_with_its_remedy(first: tuple[Path, GradeSummary]) -> None:
    (row,) = rows(first[0] / "quarantine.csv")
    assert row["slide_id"] == "torn"
    assert row["error_class"] in ("unreadable", "tile_unreadable", "too_many_bad_tiles")
    assert row["message"]
    assert "copy" in row["remedy"]
    assert "\n" not in row["message"]


def test_record(first: tuple[Path, GradeSummary], slides: Path, models: list[Path]) -> None:
    from hashlib import sha256

    out, summary = first
    record = json.loads((out / "run.json").read_bytes())
    assert record["command"] == "grade"
    assert record["inputs"]["mild"] == sha256((slides.parent / "mild.svs").read_bytes()).hexdigest()
    assert record["inputs"]["model"] == load_model(models[0]).model_id
    for name, digest in record["outputs"].items():
        assert sha256((out / name).read_bytes()).hexdigest() == digest
    assert (record["counts"]["slides"], record["counts"]["graded"], record["counts"]["quarantined"]) == (3, 2, 1)
    assert record["counts"]["tiles"] == sum(one.tiles for one in summary.gradings)
    assert record["counts"]["chunks_computed"] > 0
    timings, throughput = record["timings_s"], record["throughput"]
    assert throughput["slides_per_hour"] == pytest.approx(2 * 3600 / timings["wall"], rel=1e-3)
    assert throughput["seconds_per_slide"]["grade"] == pytest.approx(timings["grade"] / 2, abs=1e-3)


def test_log_covers_the_run_until_the_report_is_written(first: tuple[Path, GradeSummary]) -> None:
    log = first[0] / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert (lines[0]["event"], lines[0]["command"], lines[0]["slides"]) == ("begin", "grade", 3)
    assert (lines[-1]["event"], lines[-1]["outcome"]) == ("end", "finished")
    assert not any(name in log.read_text() for pair in PATIENTS.items() for name in pair)
    status = RunLogReader(first[0]).status(0.0)
    assert (status.state, status.slides_done) == ("finished", 2)
    assert status.quarantined == {rows(first[0] / "quarantine.csv")[0]["error_class"]: 1}
    assert status.stages["grade"]["seconds"] > 0


def test_again_computes_nothing_and_exits_with_3(
    copied: Path, models: list[Path], slides: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(copied)
    with pytest.raises(SystemExit) as stopped:
        main(["grade", str(slides), "--model", str(models[0]), "--out", str(copied), "--device", "cpu"])
    assert stopped.value.code == 3
    said = capsys.readouterr().out
    assert "2 of 3 slides graded" in said
    assert "torn" in said
    after = contents(copied)
    assert json.loads(after.pop("run.json"))["counts"]["chunks_computed"] == 0
    before.pop("run.json")
    before.pop("log.jsonl")
    after.pop("log.jsonl")
    differing = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert not {name for name in differing if not name.startswith("report/")}
    assert before["predictions.csv"] == after["predictions.csv"]


def test_only_sound_slides_exit_with_0(
    copied: Path, models: list[Path], slides: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(slides.parent / f"{name}.svs") for name in ("mild", "severe")]
    with pytest.raises(SystemExit) as stopped:
        main(["grade", *paths, "--model", str(models[0]), "--out", str(copied), "--device", "cpu"])
    assert stopped.value.code == 0
    assert not rows(copied / "quarantine.csv")
    assert [row["patient_id"] for row in rows(copied / "predictions.csv")] == ["mild", "severe"]


def test_what_is_lost_or_damaged_is_made_anew(copied: Path, models: list[Path], slides: Path) -> None:
    store = copied / "features" / "severe.zarr" / "features" / "toy"
    chunk = max((path for path in store.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    flip(chunk, chunk.stat().st_size // 2)
    expected = contents(copied / "heatmaps")
    (copied / "heatmaps" / "mild" / "attention.png").unlink()
    before = {row["slide_id"]: row for row in rows(copied / "predictions.csv")}
    grade(find_slides([slides]), GradeConfig(models[0], copied, copied / "features", device="cpu"))
    assert json.loads((copied / "run.json").read_bytes())["counts"]["chunks_computed"] == 1
    assert not FeatureStore(copied / "features" / "severe.zarr").verify()
    assert contents(copied / "heatmaps") == expected
    for row in rows(copied / "predictions.csv"):
        assert row | {"seconds": ""} == before[row["slide_id"]] | {"seconds": ""}


def test_chunks_are_as_small_as_asked_for(tmp_path: Path, models: list[Path], slides: Path) -> None:
    out = tmp_path / "graded"
    options = ["--chunk-tiles", "3", "--device", "cpu"]
    with pytest.raises(SystemExit):
        main(["grade", str(slides.parent / "mild.svs"), "--model", str(models[0]), "--out", str(out), *options])
    store = FeatureStore(out / "features" / "mild.zarr")
    assert store.encoder_meta("toy")["chunk_tiles"] == 3
    chunks = list((store.path / "features" / "toy" / "values" / "c").iterdir())
    assert len(chunks) == -(-len(store.grid) // 3) > 1


def test_another_model_is_refused(copied: Path, models: list[Path], slides: Path) -> None:
    before = contents(copied)
    with pytest.raises(RecipeMismatchError, match="another --out"):
        grade(find_slides([slides]), GradeConfig(models[1], copied, copied / "features", device="cpu"))
    assert contents(copied) == before


def test_render_and_report_again_give_the_same_bytes(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, folder in (("render", copied / "heatmaps"), ("report", copied / "report")):
        expected = contents(folder)
        shutil.rmtree(folder)
        with pytest.raises(SystemExit) as stopped:
            main([command, str(copied)])
        assert stopped.value.code == 0
        assert contents(folder) == expected, command


def test_another_model_in_the_same_folder_is_taken_though_the_process_lives_on(
    tmp_path: Path, models: list[Path], slides: Path, first: tuple[Path, GradeSummary]
) -> None:
    folder = tmp_path / "model"
    found = []
    for number, model in enumerate(models):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(model, folder)
        config = GradeConfig(folder, tmp_path / f"run-{number}", first[0] / "features", device="cpu")
        found.append(grade(find_slides([slides]), config).gradings[0])
    assert found[0].model_id != found[1].model_id
    assert found[0].probabilities != found[1].probabilities


def test_tiles_are_resampled_as_the_models_recipe_says(tmp_path: Path, models: list[Path]) -> None:
    from workflows.grade import extract_config
    from workflows.worker import check_encoder_takes

    model = load_model(models[0])
    recipe = model.card.recipe | {"tiles": model.card.recipe["tiles"] | {"kernel": "bicubic"}}
    other = replace(model, card=replace(model.card, recipe=recipe))
    config = extract_config(other, GradeConfig(models[0], tmp_path, tmp_path / "features"))
    check_encoder_takes(config)
    assert config.recipe["tiles"] == recipe["tiles"]


def test_model_of_another_recipe_is_refused(
    tmp_path: Path, models: list[Path], slides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workflows.grade import extract_config

    model = load_model(models[0])
    config = GradeConfig(models[0], tmp_path, tmp_path / "features")
    assert extract_config(model, config).encoder == "toy"
    recipe = model.card.recipe | {"tissue": model.card.recipe["tissue"] | {"mpp": 4.0}}
    other = replace(model, card=replace(model.card, recipe=recipe))
    with pytest.raises(RecipeMismatchError, match=r"tissue\.mpp"):
        extract_config(other, config)


def test_slides_on_a_server_get_the_same_grades_heatmaps_and_pages(
    tmp_path: Path, models: list[Path], slides: Path, first: tuple[Path, GradeSummary]
) -> None:
    pytest.importorskip("aiohttp")
    with RangeServer(slides.parent) as server:
        lines = [f"{name},{server.root}/{name}.svs?token=secret,{patient}" for name, patient in PATIENTS.items()]
        (tmp_path / "urls.csv").write_text("\n".join(["slide_id,path,patient_id", *lines]) + "\n")
        out = tmp_path / "graded"
        done = grade(find_slides([tmp_path / "urls.csv"]), GradeConfig(models[0], out, out / "features", device="cpu"))
    assert [one.slide_id for one in done.quarantined] == ["torn"]
    mine, local = rows(out / "predictions.csv"), rows(first[0] / "predictions.csv")
    assert [{**row, "seconds": ""} for row in mine] == [{**row, "seconds": ""} for row in local]
    drawn = [path.relative_to(out) for path in sorted((out / "heatmaps").rglob("*")) if path.is_file()]
    assert len(drawn) > 4
    assert all((out / name).read_bytes() == (first[0] / name).read_bytes() for name in drawn)
    assert not [path for path in out.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


@pytest.mark.services
def test_workers_of_an_existing_scheduler_give_the_same_though_all_paths_are_relative(
    tmp_path: Path, models: list[Path], slides: Path, first: tuple[Path, GradeSummary], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model").symlink_to(models[0])
    Path("new").symlink_to(slides.parent)
    out = Path("graded")
    with dask_processes(tmp_path, workers=1) as running:
        config = GradeConfig(Path("model"), out, out / "features", device="cpu", scheduler=running.address)
        done = grade(find_slides(["new/slides.csv"]), config)
        assert not list(running.elsewhere.iterdir())
    assert [one.slide_id for one in done.quarantined] == ["torn"]
    mine, local = rows(out / "predictions.csv"), rows(first[0] / "predictions.csv")
    assert [{**row, "seconds": ""} for row in mine] == [{**row, "seconds": ""} for row in local]
    drawn = [path.relative_to(out) for path in sorted((out / "heatmaps").rglob("*")) if path.is_file()]
    assert len(drawn) > 4
    assert all((out / name).read_bytes() == (first[0] / name).read_bytes() for name in drawn)


# --- a folder that is watched


def watched(model: Path, folder: Path, **settings: object) -> GradeConfig:
    """Grade what arrives in folder/inbox, with little waiting."""
    out = folder / "graded"
    (folder / "inbox").mkdir(exist_ok=True)
    quick = {"scan_every_s": 0.05, "stable_s": 0.4, "give_up_s": 1.0, "rewrite_every_s": 0.2}
    watch = WatchConfig((folder / "inbox",), **{**quick, **settings})
    return GradeConfig(model, out, out / "features", device="cpu", watch=watch)


def listed(run: Path, table: str) -> list[str]:
    """Slides in a table of a run that may not be there yet."""
    path = run / table
    return [row["slide_id"] for row in rows(path)] if path.exists() else []


def events(run: Path, event: str) -> list[dict]:
    return [line for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if line["event"] == event]


class Operator(threading.Thread):
    """Does something with the folder while it is watched, and ends the watch with Ctrl-C."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._act = act
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._act()
        except BaseException as error:
            self.error = error
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    def check(self) -> None:
        self.join()
        if self.error is not None:
            raise self.error


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, f"not within 90 s: {what}"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_slide_that_is_copied_slowly_is_graded_once_when_it_is_whole(
    tmp_path: Path, models: list[Path], slides: Path
) -> None:
    config = watched(models[0], tmp_path)
    inbox, run = tmp_path / "inbox", config.out
    whole: dict[str, datetime] = {}

    def act() -> None:
        data = (slides.parent / "mild.svs").read_bytes()
        with (inbox / "mild.svs").open("wb") as copy:
            for start in range(0, len(data), len(data) // 12 + 1):
                copy.write(data[start : start + len(data) // 12 + 1])
                copy.flush()
                time.sleep(0.2)
        whole["mild"] = datetime.now(UTC)
        (inbox / "torn.svs.part").write_bytes(data[:1000])
        until(lambda: listed(run, "worklist.csv") == ["mild"], "the first slide in the worklist")
        until((run / "report" / "slides" / "mild.html").exists, "its page in the report")
        status = RunLogReader(run).status(time.time())
        assert (status.state, status.watching, status.slides_total) == ("running", [str(inbox)], 1)
        shutil.copy(slides.parent / "severe.svs", inbox / ".severe.svs.Ab3dE6")
        time.sleep(0.5)
        whole["severe"] = datetime.now(UTC)
        (inbox / ".severe.svs.Ab3dE6").rename(inbox / "severe.svs")
        until(lambda: sorted(listed(run, "worklist.csv")) == ["mild", "severe"], "the second slide in the worklist")
        assert listed(run, "quarantine.csv") == []
        time.sleep(1)  # for what must not happen again

    operator = Operator(act)
    summary = grade([], config)
    operator.check()
    assert [one.slide_id for one in summary.gradings] == ["mild", "severe"]
    assert summary.quarantined == []
    assert listed(run, "quarantine.csv") == []
    begun = [datetime.fromisoformat(line["time"]) for line in events(run, "planned")]
    assert len(begun) == 2
    assert begun[0] > whole["mild"]
    assert begun[1] > whole["severe"]
    assert [line["outcome"] for line in events(run, "slide")] == ["done", "done"]
    assert [line["slides"] for line in events(run, "found")] == [1, 2]
    assert [line["outcome"] for line in events(run, "end")] == ["finished"]
    record = json.loads((run / "run.json").read_text())
    for name in ("mild", "severe"):
        assert record["inputs"][name] == sha256((slides.parent / f"{name}.svs").read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_slide_in_quarantine_is_graded_when_a_better_copy_comes(
    tmp_path: Path, models: list[Path], slides: Path
) -> None:
    config = watched(models[0], tmp_path)
    inbox, run = tmp_path / "inbox", config.out

    def act() -> None:
        shutil.copy(slides.parent / "torn.svs", inbox / "a.svs")
        until(lambda: listed(run, "quarantine.csv") == ["a"], "the torn slide in quarantine")
        shutil.copy(slides.parent / "severe.svs", inbox / "a.svs")
        until(lambda: listed(run, "worklist.csv") == ["a"], "the slide in the worklist")

    operator = Operator(act)
    summary = grade([], config)
    operator.check()
    assert [one.slide_id for one in summary.gradings] == ["a"]
    assert summary.quarantined == []
    assert listed(run, "quarantine.csv") == []


@pytest.mark.slow
def test_a_second_watch_does_only_what_is_new_and_keeps_what_has_left(
    tmp_path: Path, models: list[Path], slides: Path
) -> None:
    config = watched(models[0], tmp_path, idle_s=0.0)
    for name in ("mild", "torn"):
        shutil.copy(slides.parent / f"{name}.svs", tmp_path / "inbox")
    summary = grade([], config, Listener())
    assert [one.slide_id for one in summary.gradings] == ["mild"]
    assert [(one.slide_id, one.error_class) for one in summary.quarantined] == [("torn", "too_many_bad_tiles")]
    before = (config.out / "heatmaps" / "mild" / "attention.png").stat()
    shutil.copy(slides.parent / "severe.svs", tmp_path / "inbox")
    summary = grade([], config, Listener())
    assert [one.slide_id for one in summary.gradings] == ["mild", "severe"]
    assert summary.remembered == 1
    assert (config.out / "heatmaps" / "mild" / "attention.png").stat().st_mtime_ns == before.st_mtime_ns
    (tmp_path / "inbox" / "mild.svs").unlink()
    (tmp_path / "inbox" / "torn.svs").unlink()
    summary = grade([], config, Listener())
    assert [one.slide_id for one in summary.gradings] == ["mild", "severe"]
    assert summary.quarantined == []
    assert sorted(listed(config.out, "worklist.csv")) == ["mild", "severe"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either SLIDES or --watch"),
        (["a.svs", "--watch", "inbox"], "not both"),
        (["--watch", "absent"], "no such folder"),
        (["--watch", "run"], "what this run writes"),
        (["--watch", "inbox", "--watch-idle", "-1"], "watch-idle"),
    ],
)
def test_wrong_ways_to_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("inbox", "run"):
        (tmp_path / name).mkdir()
    with pytest.raises(SystemExit) as stopped:
        main(["grade", *arguments, "--model", "model", "--out", "run"])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_watch_on_the_command_line(tmp_path: Path, models: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    options = ["--watch", tmp_path / "a", "--watch", tmp_path / "b", "--watch-idle", "0", "--watch-stable", "0.1"]
    write_stained(tmp_path / "b" / "mild.svs", 0, seed=10)
    with pytest.raises(SystemExit) as stopped:
        main([str(part) for part in ("grade", *options, "--model", models[0], "--out", tmp_path / "a" / "run")])
    told = capsys.readouterr()
    assert stopped.value.code == 0, told.err
    assert "1 of 1 slides graded" in told.out
    record = json.loads((tmp_path / "a" / "run" / "run.json").read_text())
    assert record["config"]["watch"]["folders"] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert record["config"]["watch"]["stable_s"] == 0.1


def test_the_map_that_was_measured_to_be_the_best_is_kept_and_shown(
    first: tuple[Path, GradeSummary], models: list[Path], slides: Path, tmp_path: Path
) -> None:
    out, measured = tmp_path / "graded", Path(shutil.copytree(models[0], tmp_path / "model"))
    number = {"estimate": 0.3, "low": 0.1, "high": 0.4}
    line = dict.fromkeys(("deletion", "gain", "control_gain", "stability"), number)
    add_faithfulness(
        measured,
        {"chosen": "gradient", "reason": "Because.", "maps": {"gradient": line | {"control_failed": True, "limit": 2}}},
    )
    sources = [one for one in find_slides([slides]) if one.slide_id == "severe"]
    config = GradeConfig(measured, out, first[0] / "features", device="cpu")
    grade(sources, config)
    kept, model = load_slide(out, "severe"), load_model(measured)
    bag = Bag.from_store(FeatureStore(first[0] / "features" / "severe.zarr"), model.encoder)
    np.testing.assert_array_equal(kept.shown, model.tile_map(bag, "gradient"))
    assert kept.shown_name == "gradient"
    page = (out / "report" / "slides" / "severe.html").read_text(encoding="utf-8")
    assert "Because." in page
    assert "gradient x input, against" in page
    written = (out / "slides" / "severe" / "slide.json").stat().st_mtime_ns
    grade(sources, config)
    assert (out / "slides" / "severe" / "slide.json").stat().st_mtime_ns == written
    # measured anew with another outcome: the slide is graded again
    add_faithfulness(measured, {"chosen": None, "reason": "None is good.", "maps": {}})
    grade(sources, config)
    assert load_slide(out, "severe").shown is None
    with pytest.raises(UsageError, match="toy has no layers to look into"):
        grade(sources, replace(config, inside_tiles=True))
