"""`histograde import`: a folder of another program's files to stores that the other commands take."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.wsi.imports.makers import (
    column_order,
    features_of,
    write_clam,
    write_clam_patches,
    write_stamp,
    write_trident,
)
from workflows.cli import main
from workflows.import_features import find_files
from wsi.errors import UsageError
from wsi.slide import hash_files
from wsi.store import FeatureStore

COORDS = column_order()


@pytest.fixture
def code_of(capsys: pytest.CaptureFixture[str]):
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return int(stopped.value.code or 0), told.out, told.err

    return run


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A TRIDENT job of six slides, with the patches beside the features."""
    folder = tmp_path / "job" / "20x_256px_0px_overlap"
    for number in range(6):
        features = features_of(12, seed=number) + 2 * (number % 2)
        write_trident(folder / "features_uni_v1" / f"s{number}.h5", features, COORDS)
        write_clam_patches(folder / "patches" / f"s{number}_patches.h5", COORDS)
    return folder


def take(code_of, job: Path, store: Path, *more: object) -> tuple[int, str, str]:
    return code_of("import", job, "--from", "trident", "--encoder", "uni", "--store", store, *more)


def test_a_job_becomes_stores_that_verify_and_train_take(code_of, job: Path, tmp_path: Path) -> None:
    store = tmp_path / "stores"
    code, out, err = take(code_of, job, store)
    assert (code, err) == (0, "")
    assert "6 of 6 files" in out
    assert "72 tiles" in out
    assert code_of("verify", store)[0] == 0
    labels = tmp_path / "labels.csv"
    labels.write_text("slide_id,label\n" + "".join(f"s{number},{number % 2}\n" for number in range(6)))
    model = tmp_path / "model"
    options = ("--folds", 2, "--epochs", 2, "--device", "cpu", "--task", "class", "--classes", "0,1")
    code, out, err = code_of("train", "--store", store, "--labels", labels, "--out", model, *options)
    assert code == 0, err
    card = json.loads((model / "model.json").read_text())["encoder_card"]
    assert (card["name"], card["weights_sha256"], card["stated_encoder"]) == ("uni", None, "uni_v1")
    assert "file_sha256" not in card


def test_a_model_of_imported_features_does_not_grade(
    code_of, job: Path, tmp_path: Path, small_svs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mil.model_folder import GradingModel, ModelCard
    from mil.network import NetworkSpec

    take(code_of, job, tmp_path / "stores")
    store = FeatureStore(tmp_path / "stores" / "s0.zarr")
    spec = NetworkSpec("abmil", "corn", 5, 2, {}, {})
    card = ModelCard("grade", ("0", "1"), spec, store.card("uni"), store.recipe, None, {}, {})
    monkeypatch.setattr("mil.model_folder.load_model", lambda path: GradingModel("m", card, ()))
    code, _, err = code_of("grade", small_svs, "--model", tmp_path, "--out", tmp_path / "run")
    assert code == 1
    assert err.count("\n") == 1
    for unknown in ("trident", "encoder.weights_sha256", "encoder.mean", "tiles.mpp", "tiles.kernel", "tissue.method"):
        assert unknown in err
    assert not (tmp_path / "run").exists()


def test_one_bad_file_is_quarantined_and_the_rest_goes_on(code_of, job: Path, tmp_path: Path) -> None:
    folder = job / "features_uni_v1"
    (folder / "s1.h5").write_bytes(b"not HDF5")
    (folder / "s2.h5").write_bytes((folder / "s2.h5").read_bytes()[:3000])
    with h5py.File(folder / "s3.h5", "w") as file:
        file["features"] = h5py.ExternalLink("s0.h5", "/features")
    write_trident(folder / "s4.h5", features_of(12), COORDS, encoder="conch_v1")
    code, out, err = take(code_of, job, tmp_path / "stores")
    assert (code, err) == (3, "")
    assert "2 of 6 files" in out
    said = [line.split(":")[0].strip() for line in out.splitlines() if " -> " in line]
    assert said == ["s1", "s2", "s3", "s4"]
    assert "[recipe_mismatch]" in out
    assert sorted(path.name for path in (tmp_path / "stores").glob("*.zarr")) == ["s0.zarr", "s5.zarr"]
    counts = json.loads((tmp_path / "stores" / "run.json").read_text())["counts"]
    assert (counts["files"], counts["quarantined"], counts["tiles"]) == (6, 4, 24)
    assert not [part for part in (tmp_path / "stores").iterdir() if part.name.startswith(".")]


def test_a_second_time_there_is_nothing_to_do(code_of, job: Path, tmp_path: Path) -> None:
    take(code_of, job, tmp_path / "stores")
    before = {path: path.read_bytes() for path in (tmp_path / "stores").rglob("c/*/0")}
    code, out, _ = take(code_of, job, tmp_path / "stores")
    assert code == 0
    assert "6 files were there already" in out
    assert {path: path.read_bytes() for path in (tmp_path / "stores").rglob("c/*/0")} == before


def test_slides_give_what_the_files_do_not(code_of, small_svs: Path, tmp_path: Path) -> None:
    coords = column_order(step=224)
    size = {"level0_width": 1500, "level0_height": 1400}
    write_trident(tmp_path / "features" / "small.h5", features_of(12), coords, **size)
    write_trident(tmp_path / "features" / "other.h5", features_of(12), coords, **size)
    code, out, _ = take(code_of, tmp_path / "features", tmp_path / "stores", "--slides", small_svs)
    assert code == 3
    assert "no slide is called 'other' among --slides" in out
    slide = FeatureStore(tmp_path / "stores" / "small.zarr").slide
    assert slide.content_hash == hash_files([small_svs])
    assert (slide.mpp, slide.size_px0) == ((0.5, 0.5), (1500, 1400))


def test_an_extraction_into_imported_stores_is_refused(code_of, small_svs: Path, tmp_path: Path) -> None:
    coords = column_order(step=224)
    path = write_trident(tmp_path / "small.h5", features_of(12), coords, level0_width=1500, level0_height=1400)
    for more in ((), ("--slides", small_svs)):
        store = tmp_path / f"stores-{len(more)}"
        assert take(code_of, path, store, *more)[0] == 0
        before = {part: part.read_bytes() for part in store.rglob("*") if part.is_file() and ".zarr" in str(part)}
        code, out, _ = code_of("extract", small_svs, "--store", store, "--encoder", "toy")
        assert code == 3
        assert "[recipe_mismatch]" in out
        after = {part: part.read_bytes() for part in store.rglob("*") if part.is_file() and ".zarr" in str(part)}
        assert after == before


def test_clam_with_patches(code_of, tmp_path: Path) -> None:
    write_clam(tmp_path / "h5_files" / "s.h5", features_of(12), COORDS)
    write_clam(tmp_path / "h5_files" / "t.h5", features_of(12), COORDS)
    write_clam_patches(tmp_path / "patches" / "s.h5", COORDS, level=0)
    options = ("--from", "clam", "--encoder", "r50", "--store", tmp_path / "stores", "--patches", tmp_path / "patches")
    code, out, _ = code_of("import", tmp_path / "h5_files", *options)
    assert code == 3
    assert "has no t.h5" in out
    assert FeatureStore(tmp_path / "stores" / "s.zarr").side_px0 == (256.0, 256.0)


def test_stamp_needs_the_pixel_size(code_of, tmp_path: Path) -> None:
    write_stamp(tmp_path / "f" / "s.h5", features_of(12), COORDS * 0.5)
    options = ("--from", "stamp", "--encoder", "uni", "--store", tmp_path / "stores")
    code, out, _ = code_of("import", tmp_path / "f", *options)
    assert code == 3
    assert "[missing_mpp]" in out
    assert code_of("import", tmp_path / "f", *options, "--slide-mpp", "0.5")[0] == 0
    assert np.array_equal(np.unique(FeatureStore(tmp_path / "stores" / "s.zarr").coords[:, 0]), [0, 512, 1024])


class TestFiles:
    def test_patches_and_hidden_files_are_passed_over(self, job: Path) -> None:
        (job / "features_uni_v1" / ".s9.h5").write_bytes(b"")
        assert list(find_files([job])) == [f"s{number}" for number in range(6)]

    def test_two_files_of_one_slide(self, job: Path) -> None:
        write_trident(job / "features_conch" / "s0.h5", features_of(12), COORDS)
        with pytest.raises(UsageError, match="two files are of 's0'"):
            find_files([job])

    def test_the_same_file_twice(self, job: Path) -> None:
        path = job / "features_uni_v1" / "s0.h5"
        assert find_files([path, path]) == {"s0": path}

    @pytest.mark.parametrize("name", ["absent.h5", "empty"])
    def test_nothing(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(UsageError, match=name):
            find_files([tmp_path / name])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--from", "qupath", "--encoder", "uni"), "--from is 'qupath'; it can be trident, clam, stamp"),
        (("--from", "clam", "--encoder", "../uni"), "--encoder is '../uni'"),
        (("--from", "clam", "--encoder", ".uni"), "--encoder is '.uni'"),
        (("--from", "clam", "--encoder", "uni", "--axes", "zx"), "--axes is 'zx'"),
        (("--from", "clam", "--encoder", "uni", "--patches", "absent"), "absent: no such folder"),
        (("--from", "clam", "--encoder", "uni", "--slide-mpp", "fine"), "fine"),
    ],
)
def test_wrong_usage(code_of, job: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    code, out, err = code_of("import", job, "--store", tmp_path / "stores", *options)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert said in err
    assert not (tmp_path / "stores").exists()
