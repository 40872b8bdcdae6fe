import json
import re
import shutil

import pytest
import torch

from tests.workflows.model_folders import made_up_folder
from workflows.card import write_card
from wsi.errors import CorruptStoreError, UsageError
from wsi.files import file_record, to_json

AUDIT = {
    "warnings": ["the label can be guessed from the <site> alone. Train with --fold-by site"],
    "findings": ["the features tell the site of a slide"],
    "looked_at": "no patient in two folds",
    "label_from": [{"column": "site", "explained": 0.9, "p_value": 0.001}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    return made_up_folder(tmp_path_factory.mktemp("card") / "model", audit=AUDIT)


@pytest.fixture(scope="module")
def written(folder):
    said = []
    described = write_card(folder, None, 100, 0, said.append)
    place = folder.with_name("model-card")
    return described, (place / "card.html").read_text(), json.loads((place / "card.json").read_text()), said


def test_card_has_all_that_the_folder_knows(written):
    described, page, kept, said = written
    assert said == [f"card of model {described.model_id} in {described.path.with_name('model-card') / 'card.html'}"]
    for heading in (
        "What it is for", "Where it ends", "What it was trained on", "What could have given the labels away",
        "How it did on slides that it had not seen", "Whether its probabilities are to be believed",
        "Whether its sets hold the truth", "Who is worse off", "Whether its maps show what it goes by",
        "Whether it notices slides unlike its own", "Hashes of everything",
    ):  # fmt: skip
        assert heading in page
    assert page.count('tag warn">not measured') == 2  # faithfulness, and slides unlike its own
    assert kept["training"]["held_out"]["qwk"]["estimate"] > 0.5
    assert "the label can be guessed from the &lt;site&gt; alone" in page
    assert kept["limits"][0].startswith("Warning: the label can be guessed")


def test_figures_are_those_of_the_table(written, folder):
    described, _, kept, _ = written
    rows = [line.split(",") for line in (folder / "out_of_fold.csv").read_text().splitlines()[1:]]
    right = sum(row[4] == row[5] for row in rows)
    assert sum(kept["held_out"]["confusion"][k][k] for k in range(3)) == right
    curve = kept["held_out"]["reliability"]["the predicted class"]
    assert sum(curve["slides"]) == 120
    assert sum(n * share for n, share in zip(curve["slides"], curve["observed"])) == pytest.approx(right)
    brier = kept["held_out"]["brier"]
    assert brier["miscalibration"] - brier["discrimination"] + brier["uncertainty"] == pytest.approx(brier["brier"])
    assert abs(kept["held_out"]["coverage_of_sets"]["all slides"]["estimate"] - 0.9) < 0.03
    assert described.held_out.subgroups.columns[0].groups[0].patients == 30


def test_hashes_are_those_of_the_files(written, folder):
    _, page, kept, _ = written
    for name in ("model.json", "out_of_fold.csv", "weights/fold-0.safetensors", "manifest.json"):
        digest = file_record(folder / name)["sha256"]
        assert kept["sha256"][name] == digest
        assert digest in page
    assert any(name.startswith("out_of_fold/ (120 files") for name in kept["sha256"])


def test_page_is_one_file_that_asks_for_nothing(written):
    page = written[1]
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
    assert "@import" not in page
    assert "url(" not in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert page.count("<svg") > 10


def test_the_same_bytes_again(written, folder, tmp_path):
    write_card(folder, tmp_path, 100, 0, [].append)
    place = folder.with_name("model-card")
    for name in ("card.html", "card.json"):
        assert (tmp_path / name).read_bytes() == (place / name).read_bytes()


def test_what_other_parts_measured_is_shown(folder, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    section = {
        "reason": "Evidence is shown.",
        "maps": {"evidence": {"deletion": {"estimate": 0.2, "low": 0.1, "high": 0.3}}},
    }
    (copy / "faithfulness.json").write_bytes(to_json(section))
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["faithfulness.json"] = file_record(copy / "faithfulness.json")
    (copy / "manifest.json").write_bytes(to_json(manifest))
    write_card(copy, tmp_path / "card", 100, 0, [].append)
    page = (tmp_path / "card" / "card.html").read_text()
    assert "Evidence is shown." in page
    assert "0.200 (0.100 to 0.300)" in page
    assert json.loads((tmp_path / "card" / "card.json").read_text())["faithfulness"] == section


def test_a_folder_of_an_older_program_has_a_card(tmp_path):
    torch.manual_seed(0)
    folder = made_up_folder(tmp_path / "model", sites=("",))
    write_card(folder, tmp_path / "card", 100, 0, [].append)
    page = (tmp_path / "card" / "card.html").read_text()
    assert "The model was trained without an audit of its slides." in page
    assert "The labels name no site." in page


def test_a_damaged_folder_has_none(folder, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    (copy / "out_of_fold.csv").write_text("slide_id\n")
    with pytest.raises(CorruptStoreError, match="out_of_fold.csv differs from its checksum"):
        write_card(copy, tmp_path / "card", 100, 0, [].append)
    with pytest.raises(UsageError, match="is not a model folder"):
        write_card(tmp_path, tmp_path / "card", 100, 0, [].append)
