import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from mil.model_folder import load_model
from mil.testing import toy_bag, toy_card, write_store
from workflows.cli import main
from workflows.sweep import SweepConfig, sweep
from workflows.training import train
from workflows.training_config import TrainConfig
from wsi.errors import UsageError


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Twelve slides with features by two encoders; the second knows nothing."""
    root = tmp_path_factory.mktemp("stores")
    for number in range(12):
        for name, signal in (("good", 4.0), ("blind", 0.0)):
            features = toy_bag(10, seed=number).features
            features[:, :3] += signal * (number % 2)
            write_store(root, f"s{number:02d}", features, toy_card(name))
    (root.parent / "labels.csv").write_text(
        "slide_id,label,patient_id\n" + "".join(f"s{n:02d},{n % 2},P{n // 4}{n % 2}\n" for n in range(12))
    )
    return root


@pytest.fixture
def config(stores, tmp_path):
    base = TrainConfig(
        stores,
        stores.parent / "labels.csv",
        tmp_path / "sweep",
        folds=2,
        epochs=15,
        device="cpu",
        settings={"lr": 1e-2},
    )
    return SweepConfig(base, ("mean", "abmil"), ("good", "blind"), (0, 1), {"abmil": {"hidden": 8}})


def rows(folder):
    with (folder / "sweep.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_cell_is_the_model_that_train_makes(config):
    said = []
    cells = sweep(config, said.append)
    assert [cell.name for cell in cells[:3]] == ["mean__good__seed-0", "mean__good__seed-1", "mean__blind__seed-0"]
    assert not any(cell.error for cell in cells)
    assert said[-1].startswith("8 of 8 cells")
    found = rows(config.base.out)
    assert [(row["model"], row["encoder"], row["seed"]) for row in found] == [
        (model, encoder, seed) for model in ("mean", "abmil") for encoder in ("good", "blind") for seed in "01"
    ]
    good, blind = (
        np.mean([float(row["auroc"]) for row in found if row["encoder"] == encoder]) for encoder in ("good", "blind")
    )
    assert good > blind + 0.2
    models = [load_model(config.base.out / "cells" / cell.name) for cell in cells]
    assert len({model.card.training["cohort_sha256"] for model in models}) == 1, "all cells have the same folds"
    assert len({model.model_id for model in models}) == 8
    assert models[4].card.network.model_options["hidden"] == 8
    alone = replace(
        config.base, model="abmil", encoder="blind", seed=1, fold_seed=0, out=config.base.out.with_name("alone"),
        model_options={"hidden": 8},
    )  # fmt: skip
    assert train(alone, [].append).model_id == cells[-1].model_id


def test_goes_on_with_the_cells_that_are_not_done(config):
    small = replace(config, models=("mean",), encoders=("good",))
    first = sweep(small, [].append)
    stamp = (config.base.out / "cells" / first[0].name / "model.json").stat().st_mtime_ns
    said = []
    again = sweep(replace(small, models=("mean", "max")), said.append)
    assert [cell.was_kept for cell in again] == [True, True, False, False]
    assert (config.base.out / "cells" / first[0].name / "model.json").stat().st_mtime_ns == stamp
    assert any("kept from an earlier run" in line for line in said)
    assert again[0].metrics == first[0].metrics
    assert (again[0].parameters, again[0].model_id) == (first[0].parameters, first[0].model_id)
    other = replace(small, base=replace(config.base, epochs=3), seeds=(0,))
    assert [cell.was_kept for cell in sweep(other, [].append)] == [False], "other options, another model"


def test_a_cell_that_fails_is_named_and_ends_no_other(config):
    said = []
    cells = sweep(
        replace(config, models=("mean",), encoders=("lite9", "good"), seeds=(0,), model_options={}), said.append
    )
    assert "has no features by 'lite9'" in cells[0].error
    assert cells[1].error == ""
    assert [row["error"] == "" for row in rows(config.base.out)] == [False, True]
    assert json.loads((config.base.out / "sweep.json").read_text())["cells"][0]["error"] == cells[0].error
    assert any(line.startswith("mean__lite9__seed-0: failed: slide s00 has no features") for line in said)
    assert said[-1].startswith("1 of 2 cells")


def test_command_line(stores, tmp_path, capsys):
    words = ["sweep", "--store", stores, "--labels", stores.parent / "labels.csv", "--out", tmp_path / "s"]
    words += ["--folds", 2, "--epochs", 1, "--models", "mean", "--device", "cpu", "--lr", "0.01"]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == 0
    assert [row["encoder"] for row in rows(tmp_path / "s")] == ["blind", "good"], "those that all slides have"
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in [*words, "--encoders", "good,lite9"]])
    assert ended.value.code == 1
    assert "mean__lite9__seed-0: failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "mean,mena"], "no model is called 'mena'"),
        (["--models", "mean,mean"], "--models mean,mean: expected one or more, each once"),
        (["--seeds", "0,x"], "--seeds 0,x: expected whole numbers"),
        (["--option", "hidden=3"], "--option hidden=3: expected MODEL.NAME=VALUE"),
        (["--option", "abmil.hidden=wide"], "--option hidden is 'wide'"),
        (["--out", "STORES"], "is not empty and holds no sweep"),
    ],
)
def test_wrong_usage(stores, tmp_path, capsys, words, said):
    named = [str(stores) if word == "STORES" else word for word in words]
    start = [
        "sweep",
        "--store",
        str(stores),
        "--labels",
        str(stores.parent / "labels.csv"),
        "--out",
        str(tmp_path / "s"),
    ]
    with pytest.raises(SystemExit) as ended:
        main([*start, *named])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_bad_seeds_are_refused_by_the_library(config):
    with pytest.raises(UsageError, match="--seeds"):
        replace(config, seeds=())


@pytest.mark.slow
def test_a_worker_process_makes_the_same_model(config):
    small = replace(config, models=("abmil",), encoders=("good",), seeds=(1,))
    here = sweep(small, [].append)
    base = replace(config.base, out=config.base.out.with_name("away"))
    away = sweep(replace(small, base=base, place=(1, None, None, None)), [].append)
    assert [cell.model_id for cell in away] == [cell.model_id for cell in here]


def test_a_labelled_slide_without_features_is_named_before_any_cell_is_trained(config):
    labels = config.base.out.parent / "labels.csv"
    labels.write_text((config.base.labels).read_text() + "absent,1,P9\n")
    with pytest.raises(UsageError, match=r"without feature store: 1 slide \(absent\)"):
        sweep(replace(config, base=replace(config.base, labels=labels)), print)
    assert not (config.base.out / "cells").exists()
