import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mil
from mil.bag import pack
from mil.calibration_choice import load_calibrator
from mil.cohort import Cohort
from mil.conformal import ConformalSets
from mil.conformal_scores import slide_uniforms
from mil.cross_validation import cross_validate
from mil.lit import FitConfig
from mil.model_folder import ModelCard, load_model, save_model
from mil.model_sets import fit_sets
from mil.network import Network, NetworkSpec, predict
from mil.testing import toy_bag, toy_card, write_store
from wsi.errors import CorruptStoreError, RecipeMismatchError, UsageError
from wsi.files import folder_records
from wsi.tiles import TileSpec

NAMES = tuple(f"s{number:02d}" for number in range(9))
RECIPE = {"tiles": TileSpec().to_dict(), "tissue": {"mpp": 8.0}}


@pytest.fixture(scope="module")
def trained():
    """Everything that goes into a folder: card, cross-validation, cohort and bags."""
    label = tuple(str(number % 3) for number in range(9))
    cohort = Cohort(NAMES, NAMES, ("x",) * 9, label, np.arange(9) // 3)
    bags = [toy_bag(10, seed=number, signal=number % 3, name=name) for number, name in enumerate(NAMES)]
    spec = NetworkSpec("abmil", "corn", 12, 3).complete()
    targets = cohort.targets(("0", "1", "2"))
    fit = FitConfig(epochs=2, device="cpu")
    done = cross_validate(spec, bags, targets, cohort.fold, fit, task="grade", classes=("0", "1", "2"))
    training = {"slides": 9, "seed": 0}
    raw = spec.build_class_loss().probabilities(done.logits)
    sets = fit_sets("grade", ("0", "1", "2"), raw, targets, cohort.fold, NAMES, NAMES, coverage=0.7)
    card = ModelCard(
        "grade", ("0", "1", "2"), spec, toy_card().to_dict(), RECIPE, done.calibration, training, sets=sets
    )
    return card, done, cohort, bags


def save(path, trained, **changes):
    card, done, cohort, _ = trained
    return save_model(path, replace(card, **changes), done.networks, cohort, done.held_out)


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m"
    save(path, trained)
    return path


def test_a_loaded_model_says_what_its_networks_say(folder, trained):
    card, done, _, bags = trained
    model = load_model(folder)
    assert model.card == card
    assert model.calibrated
    assert model.encoder == "made-up"
    found = model.predict(bags[0])
    scaled = load_calibrator(card.calibration, card.network.build_loss().probabilities).transform
    with torch.inference_mode():
        outputs = [network(pack([bags[0]])) for network in done.networks]
    each = np.stack([scaled(output.logits[0].double().numpy()) for output in outputs])
    np.testing.assert_allclose(found.probabilities, each.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.fold_spread, each.std(axis=0).max(), rtol=1e-4)
    attention = np.mean([output.attention.numpy() for output in outputs], axis=0)
    np.testing.assert_allclose(found.attention, attention, rtol=1e-5)
    np.testing.assert_allclose(found.tile_evidence.sum(axis=1), 1, rtol=1e-5)
    assert found.model_id == model.model_id
    assert found.rows.tolist() == bags[0].rows.tolist()


def test_one_fold_alone_gives_the_held_out_logits(folder, trained):
    card, done, cohort, bags = trained
    found = load_model(folder).predict(bags[4], folds=[int(cohort.fold[4])])
    link = card.network.build_loss().probabilities
    expected = load_calibrator(card.calibration, link).transform(done.logits[4])
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-9)
    assert found.fold_spread == 0
    assert found.class_set is None  # one network of three cannot say it
    np.testing.assert_allclose(found.tile_evidence, done.held_out[4].tile_evidence, rtol=1e-5)


def test_held_out_files(folder, trained):
    _, done, _, _ = trained
    lines = (folder / "out_of_fold.csv").read_text().splitlines()
    assert lines[0] == "slide_id,patient_id,site,fold,label,grade,p_0,p_1,p_2,calibrated"
    assert len(lines) == 10
    cells = lines[5].split(",")
    assert cells[:5] == ["s04", "s04", "x", "1", "1"]
    np.testing.assert_allclose([float(cell) for cell in cells[6:9]], done.probabilities[4], atol=1e-6)
    with np.load(folder / "out_of_fold" / "s04.npz") as kept:
        np.testing.assert_array_equal(kept["rows"], done.held_out[4].rows)
        np.testing.assert_array_equal(kept["attention"], done.held_out[4].attention)
        np.testing.assert_array_equal(kept["tile_evidence"], done.held_out[4].tile_evidence)


def test_same_content_same_bytes_and_identity(folder, trained, tmp_path):
    model_id = save(tmp_path / "again", trained)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(folder)).read_bytes() == path.read_bytes()
    assert load_model(folder).model_id == model_id
    assert len(model_id) == 12
    assert save(tmp_path / "v", trained, versions={"torch": "9"}) == model_id
    assert save(tmp_path / "c", trained, calibration=None) != model_id


def test_the_set_is_that_of_every_fold_model_as_it_is(folder, trained):
    card, done, cohort, _ = trained
    model, bag = load_model(folder), toy_bag(10, seed=31, signal=1.0, name="new")
    link = card.network.build_loss().probabilities
    targets = cohort.targets(("0", "1", "2"))
    sets = ConformalSets("ordinal", 0.7).fit(
        link(done.logits), targets, cohort.fold, patients=NAMES, uniform=slide_uniforms(NAMES, 0)
    )
    each = np.stack([link(predict(network, bag)[0]) for network in done.networks])
    found = model.predict(bag)
    best = np.array([found.classes.index(found.label)])
    held = sets.sets(each[None], uniform=slide_uniforms(["new"], 0), best=best)[0]
    assert found.class_set.held == tuple(name for name, inside in zip("012", held, strict=True) if inside)
    assert found.class_set.coverage == 0.7


TEMPERATURE = {
    "method": "temperature", "temperature": 1.7, "n_slides": 9, "nll_before": 1.2, "nll_after": 1.1, "ece_before": 0.3,
    "ece_after": 0.2, "at_bound": False,
}  # fmt: skip


def test_folders_that_know_temperature_only_still_grade_and_have_no_sets(trained, tmp_path):
    """As they were written before other methods and sets: by hand, without the keys that came later."""
    _, done, _, bags = trained
    save(tmp_path / "m", trained, calibration=TEMPERATURE)
    path = tmp_path / "m" / "model.json"
    value = json.loads(path.read_text())
    del value["sets"]
    path.write_text(json.dumps(value))
    (tmp_path / "m" / "manifest.json").write_text(json.dumps({"files": folder_records(tmp_path / "m")}))
    assert value["format_version"] == 1
    found = load_model(tmp_path / "m").predict(bags[0])
    each = []
    for network in done.networks:
        higher = np.cumprod(1 / (1 + np.exp(-predict(network, bags[0])[0] / 1.7)))  # CORN
        each.append([1 - higher[0], higher[0] - higher[1], higher[1]])
    np.testing.assert_allclose(found.probabilities, np.mean(each, axis=0), rtol=1e-9)
    assert found.calibrated
    assert found.class_set is None


def test_another_method_needs_a_program_that_knows_it(trained, tmp_path):
    ordinal = TEMPERATURE | {"method": "ordinal", "slope": 0.5, "offset": [1.0, -1.0], "n_slides": 9}
    save(tmp_path / "m", trained, calibration=ordinal)
    assert json.loads((tmp_path / "m" / "model.json").read_text())["format_version"] == 3
    model, bag = load_model(tmp_path / "m"), trained[3][0]
    each = []
    for network in trained[1].networks:
        odds = np.cumprod(1 / (1 + np.exp(-predict(network, bag)[0])))
        higher = 1 / (1 + np.exp(-(0.5 * np.log(odds / (1 - odds)) + [1.0, -1.0])))
        each.append((9 * np.array([1 - higher[0], higher[0] - higher[1], higher[1]]) + 1 / 3) / 10)
    np.testing.assert_allclose(model.predict(bag).probabilities, np.mean(each, axis=0), rtol=1e-9)
    save(tmp_path / "m", trained, calibration=ordinal | {"method": "beta"})
    with pytest.raises(RecipeMismatchError, match="calibration by 'beta'; this program knows temperature, ordinal"):
        load_model(tmp_path / "m")


def test_without_calibration_it_says_so(trained, tmp_path):
    save(tmp_path / "m", trained, calibration=None)
    model = load_model(tmp_path / "m")
    assert not model.calibrated
    assert not model.predict(trained[3][0]).calibrated


@pytest.mark.parametrize("name", ["weights/fold-1.safetensors", "model.json", "out_of_fold.csv", "manifest.json"])
def test_flipped_byte_is_refused_by_name(trained, tmp_path, name):
    save(tmp_path / "m", trained)
    path = tmp_path / "m" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptStoreError) as caught:
        load_model(tmp_path / "m")
    assert "\n" not in str(caught.value)
    if name != "manifest.json":
        assert f"{name} differs from its checksum" in str(caught.value)


def test_missing_and_foreign_files_are_refused(trained, tmp_path):
    save(tmp_path / "m", trained)
    (tmp_path / "m" / "weights" / "fold-9.safetensors").write_bytes(b"x")
    with pytest.raises(CorruptStoreError, match=r"fold-9.safetensors does not belong"):
        load_model(tmp_path / "m")
    (tmp_path / "m" / "weights" / "fold-9.safetensors").rename(tmp_path / "gone")
    (tmp_path / "m" / "run.json").write_text("{}")
    load_model(tmp_path / "m")
    (tmp_path / "m" / "out_of_fold" / "s00.npz").unlink()
    with pytest.raises(CorruptStoreError, match=r"out_of_fold/s00.npz is missing"):
        load_model(tmp_path / "m")
    with pytest.raises(UsageError, match="not a model folder"):
        load_model(tmp_path)


def test_folders_without_logs_and_networks_of_their_own_stay_readable(trained, tmp_path):
    """As version 0.1.0 wrote them: no `training/`, no key `fold_networks`."""
    save(tmp_path / "m", trained)
    path = tmp_path / "m" / "model.json"
    value = json.loads(path.read_text())
    assert value["format_version"] == 1
    assert value.pop("fold_networks") is None
    path.write_text(json.dumps(value))
    (tmp_path / "m" / "manifest.json").write_text(json.dumps({"files": folder_records(tmp_path / "m")}))
    assert load_model(tmp_path / "m").card == trained[0]


def test_networks_of_the_folds_are_built_as_they_were_trained(trained, tmp_path):
    card, done, cohort, bags = trained
    specs = tuple(replace(card.network, model_options={**card.network.model_options, "hidden": n}) for n in (4, 8, 16))
    networks = [Network(spec).eval() for spec in specs]
    save_model(tmp_path / "m", replace(card, fold_networks=specs), networks, cohort, done.held_out, ["epoch\n"] * 3)
    model = load_model(tmp_path / "m")
    assert model.card.fold_networks == specs
    assert json.loads((tmp_path / "m" / "model.json").read_text())["format_version"] == 2
    assert [network.model.classify.in_features for network in model.networks] == [4, 8, 16]
    np.testing.assert_array_equal(predict(networks[1], bags[0])[0], predict(model.networks[1], bags[0])[0])
    assert (tmp_path / "m" / "training" / "fold-2.csv").read_text() == "epoch\n"


def test_newer_format_is_refused(trained, tmp_path):
    save(tmp_path / "m", trained)
    for name, change in (("model.json", {"format_version": 99}), ("manifest.json", {})):
        path = tmp_path / "m" / name
        value = json.loads(path.read_text()) | change
        if name == "manifest.json":
            value = {"files": folder_records(tmp_path / "m")}
        path.write_text(json.dumps(value))
    with pytest.raises(RecipeMismatchError, match="version 99"):
        load_model(tmp_path / "m")


def test_replaces_a_model_and_nothing_else(trained, tmp_path):
    save(tmp_path / "m", trained)
    save(tmp_path / "m", trained)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").write_text("dear")
    with pytest.raises(UsageError, match="not a model folder"):
        save(tmp_path / "own", trained)
    assert (tmp_path / "own" / "thesis.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("card", "spec", "said"),
    [
        ({"weights_sha256": "abc"}, {}, "encoder weights_sha256 is abc, but none for the model"),
        ({}, {"tile_px": 256}, "recipe tiles.tile_px is 256, but 224 for the model"),
        ({}, {"mpp": 0.25}, "recipe tiles.mpp is 0.25, but 0.5 for the model"),
        ({"name": "other"}, {}, "takes features by 'made-up', the store holds: other"),
    ],
)
def test_store_made_another_way_is_refused_by_name(folder, tmp_path, card, spec, said):
    values = toy_bag(4).features
    store = write_store(tmp_path, "S", values, replace(toy_card(), **card), replace(TileSpec(), **spec))
    with pytest.raises(RecipeMismatchError, match=f"slide S: .*{said}"):
        load_model(folder).check_store(store)


def test_fitting_store_passes_and_wrong_length_does_not(folder, tmp_path):
    model = load_model(folder)
    model.check_store(write_store(tmp_path, "S", toy_bag(4).features, toy_card()))
    with pytest.raises(RecipeMismatchError, match="7 numbers, the model takes 12"):
        model.predict(toy_bag(3, dim=7))


def test_grading_needs_no_trainer():
    """Lightning takes seconds to import, and a worker that grades has no use for it."""
    for name in ("model_folder", "network", "bag", "segments", "prediction", "cohort", "links"):
        tree = ast.parse((Path(mil.__file__).parent / f"{name}.py").read_text())
        imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not {"lightning", "mil.lit", "mil.cross_validation"} & set(imported), name
