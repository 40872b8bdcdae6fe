"""Maps of a small trained model: the table in its folder, and what commands say of it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from mil.bag import Bag
from mil.model_folder import add_faithfulness, load_model
from mil.testing import toy_bag, toy_card, write_store
from workflows.cli import main
from workflows.explaining import ExplainConfig, chosen_rows, explain_model, try_slide
from workflows.prediction_table import read_predictions
from workflows.tile_maps import held_out_scores
from workflows.train import TrainConfig, train
from wsi.cohort_index import open_cohort
from wsi.errors import CorruptStoreError, UsageError

TILES = 16


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Slides whose first tile has the signal, the stronger the higher the grade, and a square drawn around it."""
    root = tmp_path_factory.mktemp("explained")
    (root / "truth").mkdir()
    lines = ["slide_id,label,patient_id"]
    for number in range(12):
        name, grade = f"s{number:02d}", number % 2
        store = write_store(root / "stores", name, toy_bag(TILES, seed=number, signal=6.0 * grade).features, toy_card())
        lines.append(f"{name},{grade},P{number // 2}")
        x, y = store.coords[0].tolist()
        w, h = store.grid.side_px0
        ring = [[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]]
        region = {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"classification": {"name": "Tumor"}},
        }
        if grade:
            text = json.dumps({"type": "FeatureCollection", "features": [region]})
            (root / "truth" / f"{name}.geojson").write_text(text)
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    config = TrainConfig(root / "stores", root / "labels.csv", root / "model", folds=3, epochs=40, device="cpu")
    train(config, lambda line: None)
    return root


def test_the_table_lies_in_the_model_folder_and_the_model_is_the_same(trained):
    before, said = load_model(trained / "model"), []
    assert before.faithfulness is None
    record = (trained / "model" / "run.json").read_bytes()
    config = ExplainConfig(trained / "model", annotations=trained / "truth", repeats=3)
    found = explain_model(config, said.append)
    after = load_model(trained / "model")
    assert after.model_id == before.model_id
    assert after.faithfulness["chosen"] == found.chosen
    assert after.faithfulness["model_id"] == before.model_id
    assert after.faithfulness["asked"] == {"slides": 12, "most_tiles": 1024, "repeats": 3, "seed": 0}
    assert (trained / "model" / "run.json").read_bytes() == record
    assert found.figures["attention"].agreement.n_groups == 6  # patients; each has one slide with a finding
    assert found.figures["evidence"].agreement.estimate > 0.8
    assert any(found.reason in line for line in said)
    again = explain_model(config, lambda line: None)
    assert again.to_dict() == found.to_dict()


def test_a_damaged_table_is_found(trained, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(trained / "model", copy)
    add_faithfulness(copy, {"chosen": None})
    assert load_model(copy).faithfulness == {"chosen": None}
    (copy / "faithfulness.json").write_text("{}")
    with pytest.raises(CorruptStoreError, match=r"faithfulness\.json differs from its checksum"):
        load_model(copy)


def test_each_slide_is_asked_of_the_network_that_did_not_see_it(trained, monkeypatch):
    asked = {}

    def note(network, spec, bag, **known):
        asked[bag.slide_id] = (known["fold"], network)
        raise InterruptedError

    monkeypatch.setattr("mil.map_trial.try_maps", note)
    table, model = read_predictions(trained / "model"), load_model(trained / "model")
    stores, kept = open_cohort(trained / "stores"), held_out_scores(trained / "model")
    for row, name in enumerate(table.slide_id):
        with pytest.raises(InterruptedError):
            try_slide(model, table, row, stores[name], ExplainConfig(trained / "model"))
        # the attention that training kept of the slide is that of this network
        fold, network = asked[name]
        assert network is model.networks[fold]
        found = model.predict(Bag.from_store(stores[name], model.encoder), folds=[fold])
        np.testing.assert_allclose(found.attention, kept[name]["attention"], rtol=1e-5)
    assert {fold for fold, _ in asked.values()} == {0, 1, 2}


def test_a_draw_of_many_slides_depends_on_the_seed_alone(trained):
    table = read_predictions(trained / "model")
    first, again, other = (chosen_rows(table, 5, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 5
    order = np.array([4, 2, 0, 1, 3, 5, 6, 7, 8, 9, 11, 10])
    mixed = replace(table, slide_id=tuple(np.array(table.slide_id)[order]), fold=tuple(np.array(table.fold)[order]))
    assert {mixed.slide_id[row] for row in chosen_rows(mixed, 5, 0)} == {table.slide_id[row] for row in first}
    with pytest.raises(UsageError, match="in which fold each slide was held out"):
        chosen_rows(replace(table, fold=None), 5, 0)


def test_what_is_missing_is_named(trained, tmp_path, capsys):
    write_store(tmp_path / "none", "other", toy_bag(3).features, toy_card())
    with pytest.raises(UsageError, match=r"without feature store: 12 \(s00, .* say where the stores are with --store"):
        explain_model(ExplainConfig(trained / "model", store=tmp_path / "none"), lambda line: None)
    with pytest.raises(UsageError, match=r"s01"):
        explain_model(ExplainConfig(trained / "model", annotations=tmp_path), lambda line: None)
    with pytest.raises(SystemExit) as ended:
        main(["explain", str(tmp_path)])
    assert ended.value.code == 2
    assert "is not a model folder" in capsys.readouterr().err


def test_the_command_prints_the_table(trained, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["explain", str(trained / "model"), "--repeats", "2", "--slides", "6", "--tiles", "16"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "on 6 of 12 held-out slides" in said
    assert "random order" in said
    assert "gradient x input" in said
