import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mil.bag import Bag
from mil.model_folder import load_model
from mil.testing import toy_bag, toy_card, write_store
from workflows.cli import main
from workflows.train import TrainConfig, train
from wsi.errors import CorruptStoreError, PatientLeakError, RecipeMismatchError, UsageError
from wsi.store import FeatureStore

REPOSITORY = Path(__file__).resolve().parents[2]
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
    assert said[1].startswith("audit: nothing found; no patient in two folds")
    assert said[2] == "fold 1 of 3: trained on 12 slides, 6 held out"
    text = "\n".join(said)
    for part in (
        "95 % interval by patient (9 patients", "qwk", "calibration: Probabilities are calibrated by",
        "on 18 held-out slides of 9 patients", "the plainest within one standard error",
        "sets: Sets are made to hold the true grade of 90 % of slides", result.model_id,
    ):  # fmt: skip
        assert part in text


def test_sets_are_of_the_coverage_that_was_asked_for(config):
    model = load_model(train(replace(config, coverage=0.6), [].append).path)
    assert model.card.sets["coverage"] == 0.6
    assert model.card.sets["score"] == "ordinal"
    assert (model.card.sets["n_slides"], model.card.sets["n_patients"]) == (18, 9)
    with pytest.raises(UsageError, match=r"--coverage is 1.5; it lies between 0 and 1"):
        replace(config, coverage=1.5)


def test_new_slides_are_held_against_one_slide_of_each_patient(done, stores):
    result, said = done
    model = load_model(result.path)
    assert (model.card.outliers["n_patients"], model.card.outliers["false_alarms"]) == (9, 0.05)
    assert len(model.reference) == 9
    assert any("9 training patients are too few to flag a slide at 5 % false alarms" in line for line in said)
    assert 0 < model.check_outlier(toy_bag(14, seed=1), FeatureStore(stores / "s01.zarr")).p_value <= 1


def test_false_alarms_are_as_asked_for(config):
    reference = load_model(train(replace(config, false_alarms=0.1, epochs=1), [].append).path).reference
    assert reference.false_alarms == 0.1
    with pytest.raises(UsageError, match=r"--false-alarms is 0; it lies between 0 and 1"):
        replace(config, false_alarms=0)


def test_classes_without_order_have_sets_too(config):
    model = load_model(train(replace(config, task="class", coverage=0.6), [].append).path)
    assert model.card.sets["score"] == "lac"
    found = model.predict(toy_bag(14, seed=50, name="new"))
    assert found.label in found.class_set.held


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


def files(folder):
    """Every file of a model folder but the record of its run."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def test_log_of_each_fold_lies_beside_its_weights(done):
    for fold in range(3):
        lines = (done[0].path / "training" / f"fold-{fold}.csv").read_text().splitlines()
        assert lines[0] == "epoch,loss,lr,metric,log_loss"
        assert [line.split(",")[0] for line in lines[1:]] == ["0", "1", "2"]
        assert all(line.endswith(",,") for line in lines[1:]), "nothing was watched"


def test_every_choice_is_recorded(config):
    settings = {"lr": 3e-3, "weight_decay": 0.1, "bag_tiles": 9, "ema": 0.5, "patience": 2, "watched": 0.3}
    full = replace(config, settings=settings, model_options={"hidden": 8}, stratify="site", fold_seed=4, seed=1)
    card = load_model(train(full, [].append).path).card
    fit = card.training["fit"]
    assert (fit["lr"], fit["weight_decay"], fit["packing"]["bag_tiles"], fit["ema"]) == (3e-3, 0.1, 9, 0.5)
    assert (fit["patience"], fit["watched"], fit["epochs"]) == (2, 0.3, 3)
    assert card.network.model_options["hidden"] == 8
    training = card.training
    assert (training["stratify"], training["seed"], training["fold_seed"]) == ("site", 1, 4)
    assert training["chosen_by"] == "qwk"
    assert all(0 <= one["best_epoch"] < one["epochs"] for one in training["networks"])
    assert training["parameters"] == sum(part.numel() for part in load_model(config.out).networks[0].parameters())


def test_each_fold_has_the_network_that_it_chose(config, stores):
    said = []
    tuned = replace(config, tune={"model.hidden": (4, 8), "lr": (1e-9, 1e-2)}, inner_folds=2)
    result = train(tuned, said.append)
    model = load_model(result.path)
    record = model.card.training["networks"]
    assert len(record) == 3
    for one, network in zip(record, model.networks, strict=True):
        assert len(one["tried"]) == 4
        assert network.model.classify.in_features == one["settings"]["model.hidden"]
        assert one["lr"] == one["settings"]["lr"]
    assert model.card.training["tuning"] == {
        "values": {"model.hidden": [4, 8], "lr": [1e-9, 1e-2]}, "folds": 2
    }  # fmt: skip
    assert sum("log loss" in line and line.startswith("  model.hidden") for line in said) == 12
    store = FeatureStore(stores / "s01.zarr")
    assert model.predict(Bag.from_store(store, "made-up")).probabilities.sum() == pytest.approx(1)


def test_folds_by_a_column_of_the_labels(config):
    head = HEAD.replace("site", "site,scanner")
    rows = [row(number).rstrip() + f",{'abc'[number // 6]}\n" for number in range(18)]
    config.labels.write_text(head + "".join(rows))
    train(replace(config, fold_by="scanner"), [].append)
    lines = (config.out / "out_of_fold.csv").read_text().splitlines()[1:]
    assert len({(int(line[1:3]) // 6, line.split(",")[3]) for line in lines}) == 3
    with pytest.raises(UsageError, match="--stratify is 'moon'; it can be a column of the labels: patient, site, sca"):
        train(replace(config, stratify="moon"), [].append)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": {"speed": 1}}, "'speed' cannot be tuned; there are"),
        ({"settings": {"bag_tiles": 2.5}}, "bag_tiles is '2.5'; expected a whole number"),
        ({"tune": {"model.wings": (1, 2)}}, "abmil has no option 'wings'"),
        ({"tune": {"model.hidden": (1.5, 2)}}, "model.hidden is '1.5'; expected a whole number"),
        ({"tune": {"lr": (0.1, 0.2)}, "settings": {"find_lr": True}}, "leave one of them out"),
        ({"loss_options": {"gamma": 2}}, "corn has no option 'gamma'"),
        ({"tune": {"lr": (0.1, 0.2)}, "inner_folds": 7}, "7 inner folds cannot be made of 6 patients"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(config, change, said):
    with pytest.raises(UsageError, match=said):
        train(replace(config, **change), [].append)
    assert not config.out.exists()
    assert [path.name for path in config.out.parent.iterdir()] == ["labels.csv"]


@pytest.mark.parametrize(
    "asked", [{"site_balance": 1.0}, {"class_balance": 1.0}, {"class_balance": 1.0, "smote": True}, {"mixing": 1.0}]
)
def test_epochs_may_even_out_classes_and_sites_and_mix_slides(config, asked):
    """Classes and sites are uneven, so each way makes another model."""
    uneven = [row(number).replace(f",{number % 3},P", f",{number % 3 * (number > 9)},P") for number in range(18)]
    config.labels.write_text(HEAD + "".join(uneven).replace("site-1", "site-0", 5))
    weights = []
    for settings in ({}, asked):
        train(replace(config, epochs=1, settings=settings), [].append)
        assert load_model(config.out).card.training["fit"]["packing"].items() >= settings.items()
        weights.append(sorted((config.out / "weights").iterdir())[0].read_bytes())
    assert weights[0] != weights[1]


def test_sites_that_nobody_named_cannot_be_evened_out(config):
    rows = config.labels.read_text().splitlines()
    at = rows[0].split(",").index("site")
    without = [",".join(part for place, part in enumerate(row.split(",")) if place != at) for row in rows]
    config.labels.write_text("\n".join(without) + "\n")
    with pytest.raises(UsageError, match="says of no slide where it is from; add a site column"):
        train(replace(config, settings={"site_balance": 1.0}), [].append)
    assert not config.out.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from mil.checkpoints import FitFolder
from workflows.train import TrainConfig, train

begin, save, saves = FitFolder.__init__, FitFolder.save, 0

def at_every_epoch(self, path, every_s=0.0):
    begin(self, path, 0.0)

def killing(self, state):
    global saves
    save(self, state)
    saves += 1
    if saves == last:
        os.kill(os.getpid(), signal.SIGKILL)

FitFolder.__init__, FitFolder.save = at_every_epoch, killing
store, labels, out = map(Path, sys.argv[1:4])
config = TrainConfig(store, labels, out, folds=3, epochs=3, device="cpu", settings={"patience": 2, "ema": 0.9})
for last in (2, 3):
    child = os.fork()
    if not child:
        train(config, lambda line: print(line, flush=True))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("ended by", os.WTERMSIG(status), out.exists(), flush=True)
"""


@pytest.mark.slow
def test_killed_and_started_again_gives_the_same_bytes(config, stores):
    """SIGKILL in the first fold, then in the second; the fold that is done is not trained again."""
    command = [sys.executable, "-c", KILLED, str(stores), str(config.labels), str(config.out)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.count(f"ended by {signal.SIGKILL:d} False") == 2, done.stdout
    assert "\ngoes on with a training that was cut off\n" in done.stdout
    asked = replace(config, settings={"patience": 2, "ema": 0.9})
    said = []
    train(asked, said.append)
    assert said[2] == "goes on with a training that was cut off; done: fold-0"
    train(replace(asked, out=config.out.with_name("whole")), [].append)
    assert files(config.out) == files(config.out.with_name("whole"))
    assert sorted(path.name for path in config.out.parent.iterdir()) == ["labels.csv", "model", "whole"]


def test_options_from_the_command_line_and_from_toml(config):
    file = config.out.with_name("defaults.toml")
    file.write_text(
        "[train]\nepochs = 2\nlr = 'auto'\noption = ['hidden=8', 'dropout=0']\ntune = ['ema=0.5']\n"
        "inner-folds = 2\nbatch-slides = 4\nfolds = 2\n"
    )
    words = ["--config", file, "train", "--store", config.store, "--labels", config.labels, "--out", config.out]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in [*words, "--epochs", 3, "--device", "cpu", "--patience", 2]])
    assert ended.value.code == 0
    card = load_model(config.out).card
    assert (card.network.model_options["hidden"], card.network.model_options["dropout"]) == (8, 0.0)
    fit = card.training["fit"]
    assert (fit["epochs"], fit["patience"], fit["find_lr"], fit["packing"]["slides"]) == (3, 2, True, 4)
    assert card.training["tuning"] == {"values": {"ema": [0.5]}, "folds": 2}
    assert [one["settings"] for one in card.training["networks"]] == [{"ema": 0.5}] * 2
    assert all(one["lr"] != 1e-3 for one in card.training["networks"]), "a rate was found"
