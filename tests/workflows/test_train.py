import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from mil.bag import Bag
from mil.model_folder import load_model
from mil.testing import toy_bag, toy_card, write_store
from workflows.train import TrainConfig, train
from wsi.errors import CorruptStoreError, PatientLeakError, RecipeMismatchError, UsageError
from wsi.store import FeatureStore

HEAD = "slide_id,label,patient_id,site\n"


def row(number):
    return f"s{number:02d},{number % 3},P{number // 2:02d},site-{number % 2}\n"


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    root = tmp_path_factory.mktemp("stores")
    for number in range(18):
        write_store(root, f"s{number:02d}", toy_bag(14, seed=number, signal=2.0 * (number % 3)).features, toy_card())
    return root


@pytest.fixture
def config(stores, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(HEAD + "".join(row(number) for number in range(18)))
    return TrainConfig(stores, labels, tmp_path / "model", folds=3, epochs=3, device="cpu")


@pytest.fixture(scope="module")
def done(stores, tmp_path_factory):
    """One trained model and what was said about it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "labels.csv").write_text(HEAD + "".join(row(number) for number in range(17, -1, -1)))
    said = []
    settings = TrainConfig(stores, folder / "labels.csv", folder / "model", folds=3, epochs=3, device="cpu")
    return train(settings, said.append), said


def test_model_folder_is_complete_and_grades(done, stores):
    result, _ = done
    model = load_model(result.path)
    assert model.model_id == result.model_id
    assert model.card.classes == ("0", "1", "2")
    assert len(model.networks) == 3
    training = model.card.training
    assert (training["slides"], training["patients"], training["sites"]) == (18, 9, ["site-0", "site-1"])
    assert training["held_out"]["qwk"]["estimate"] == result.metrics["qwk"].estimate
    assert training["held_out"]["qwk"]["n_groups"] == 9
    store = FeatureStore(stores / "s01.zarr")
    model.check_store(store)
    assert model.predict(Bag.from_store(store, "made-up")).probabilities.shape == (3,)
    assert json.loads((result.path / "run.json").read_text())["command"] == "train"


def test_what_is_said(done):
    result, said = done
    assert said[0].startswith("18 slides of 9 patients at 2 sites; grade 0: 6, 1: 6, 2: 6; features by made-up (12)")
    assert said[1] == "fold 1 of 3: trained on 12 slides, 6 held out"
    text = "\n".join(said)
    for part in ("95 % interval by patient (9 patients", "qwk", "calibration: temperature", result.model_id):
        assert part in text


def test_no_patient_is_in_two_folds(done):
    lines = (done[0].path / "out_of_fold.csv").read_text().splitlines()[1:]
    folds = {}
    for line in lines:
        _, patient, _, fold, *_ = line.split(",")
        folds.setdefault(patient, set()).add(fold)
    assert len(lines) == 18
    assert all(len(fold) == 1 for fold in folds.values())


def test_same_model_from_rows_in_another_order(done, config):
    assert train(config, [].append).model_id == done[0].model_id


def test_planted_leak_is_refused_by_name(config):
    rows = "".join(f"s{number:02d},{number % 3},P{number // 2:02d},{number % 2}\n" for number in range(18))
    config.labels.write_text("slide_id,label,patient_id,fold\n" + rows)
    with pytest.raises(PatientLeakError, match="patient P00 is in fold 0 and in fold 1"):
        train(config, [].append)
    assert not config.out.exists()


def test_given_folds_are_kept(config):
    rows = "".join(f"s{number:02d},{number % 3},P{number // 2:02d},{5 + number // 9}\n" for number in range(18))
    config.labels.write_text("slide_id,label,patient_id,fold\n" + rows.replace("P04,5", "P99,5"))
    train(config, [].append)
    kept = [line.split(",")[3] for line in (config.out / "out_of_fold.csv").read_text().splitlines()[1:]]
    assert kept == ["0"] * 9 + ["1"] * 9


def test_missing_stores_are_an_error_unless_allowed(config):
    config.labels.write_text(config.labels.read_text() + "s77,0,P77,site-0\ns78,0,P78,site-0\n")
    with pytest.raises(UsageError, match=r"2 slides \(s77, s78\).*--allow-missing"):
        train(config, [].append)
    said = []
    result = train(replace(config, allow_missing=True), said.append)
    assert "left out, no feature store: 2 slides (s77, s78)" in said
    assert any("s77" in note for note in result.notes)


def test_stores_without_label_are_listed(config):
    config.labels.write_text(HEAD + "".join(row(number) for number in range(16)))
    said = []
    train(config, said.append)
    assert "left out, no label: 2 slides (s16, s17)" in said


def test_class_task_with_words(config):
    config.labels.write_text(HEAD + "".join(row(n).replace(f",{n % 3},P", f",{'abc'[n % 3]},P") for n in range(18)))
    result = train(replace(config, task="class", model="topk"), [].append)
    assert result.classes == ("a", "b", "c")
    assert next(iter(result.metrics)) == "auroc"
    model = load_model(result.path)
    assert model.card.network.loss == "cross_entropy"
    assert model.card.network.loss_options == {"class_counts": [6, 6, 6], "label_smoothing": 0.0}


@pytest.mark.parametrize("loss", ["ldam", "emd"])
def test_losses_that_ask_for_the_counts_of_classes_are_told(config, loss):
    result = train(replace(config, loss=loss, epochs=1), [].append)
    options = load_model(result.path).card.network.loss_options
    assert options == ({"class_counts": [6, 6, 6], "max_margin": 1.0, "beta": 0.0} if loss == "ldam" else {})


def test_damaged_store_is_refused(config, stores, tmp_path):
    shutil.copytree(stores, tmp_path / "copy")
    chunk = tmp_path / "copy" / "s03.zarr" / "features" / "made-up" / "values" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[50] ^= 4
    chunk.write_bytes(bytes(data))
    with pytest.raises(CorruptStoreError, match=r"s03.zarr.*differs from its checksum"):
        train(replace(config, store=tmp_path / "copy"), [].append)
    assert not config.out.exists()


def test_other_recipe_is_refused(config, stores, tmp_path):
    shutil.copytree(stores, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "s05.zarr")
    write_store(tmp_path / "copy", "s05", toy_bag(5).features, replace(toy_card(), weights_sha256="f00"))
    with pytest.raises(RecipeMismatchError, match="slide s05: encoder weights_sha256 is f00, but none for slide s00"):
        train(replace(config, store=tmp_path / "copy"), [].append)


def test_which_encoder(config, stores, tmp_path):
    with pytest.raises(UsageError, match="slide s00 has no features by 'lite9'"):
        train(replace(config, encoder="lite9"), [].append)
    for number in range(18):
        write_store(tmp_path / "two", f"s{number:02d}", toy_bag(4).features, toy_card(f"e{number % 2}"))
    with pytest.raises(UsageError, match=r"no encoder for all slides.*--encoder"):
        train(replace(config, store=tmp_path / "two"), [].append)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "rank"}, "--task is 'rank'; it can be grade, class"),
        ({"fold_by": "slide"}, "--fold-by is 'slide'"),
        ({"device": "tpu"}, "--device is 'tpu'"),
        ({"model": "abmill"}, "no model is called 'abmill'; there are: abmil"),
        ({"loss": "corm"}, "no loss is called 'corm'"),
        ({"loss": "cox"}, "no loss is called 'cox'; there are: cross_entropy"),
        ({"folds": 12}, "12 folds cannot be made of 9 patients"),
        ({"model_options": {"wings": 1}}, "abmil has no option 'wings'"),
    ],
)
def test_bad_options_are_refused(config, change, said):
    with pytest.raises(UsageError, match=said):
        train(replace(config, **change), [].append)


def test_foreign_folder_is_not_overwritten(config):
    config.out.mkdir()
    (config.out / "thesis.txt").write_text("dear")
    with pytest.raises(UsageError, match="not a model folder"):
        train(config, [].append)


def test_held_out_maps_are_kept(done):
    with np.load(done[0].path / "out_of_fold" / "s00.npz") as kept:
        assert kept["attention"].shape == (14,)
        assert kept["tile_evidence"].shape == (14, 3)
        np.testing.assert_allclose(kept["attention"].sum(), 1, rtol=1e-5)
