import json
import shutil
from dataclasses import replace

import pytest
import torch

from tests.workflows.model_folders import made_up_folder
from workflows.dossier import write_dossier
from workflows.two_models import DossierConfig
from wsi.errors import UsageError


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The model in use, a better one, and one that guesses at site B."""
    root = tmp_path_factory.mktemp("dossier")
    torch.manual_seed(0)
    made_up_folder(root / "old", noise=1.2)
    made_up_folder(root / "better", seed=1, noise=0.4)
    made_up_folder(root / "worse", seed=2, noise=0.4, worse=("B",), fold_by="site")
    return root


def config(folders, new, out, **changes):
    return DossierConfig(folders / "old", folders / new, out, n=100, margin=0.1, **changes)


@pytest.fixture(scope="module")
def better(folders):
    said = []
    return write_dossier(config(folders, "better", folders / "out"), said.append), said


def test_a_better_model_is_non_inferior_everywhere(better, folders):
    done, said = better
    assert done.groups.everywhere
    assert [one.name for one in done.groups.groups] == ["all slides", "site A", "site B"]
    assert "non-inferior at a margin of 0.1 in qwk, for all slides and in every group" in said
    kept = json.loads((folders / "out" / "dossier.json").read_text())
    assert kept["non_inferiority"]["everywhere"] is True
    assert kept["metrics"]["qwk"]["difference"]["estimate"] > 0
    assert kept["slides"] == 120
    page = (folders / "out" / "dossier.html").read_text()
    assert "Berger, Technometrics 1982" in page
    assert (folders / "out" / "card.html").is_file()


def test_a_planted_subgroup_failure_is_found_and_named(folders, tmp_path):
    said = []
    done = write_dossier(config(folders, "worse", tmp_path), said.append)
    by_name = {one.name: one.outcome for one in done.groups.groups}
    assert by_name["site B"] == "inferior"
    assert by_name["site A"] == "non-inferior"
    assert any("the new model is inferior" in line and line.endswith("site B") for line in said)
    assert "site B" in (tmp_path / "dossier.html").read_text()


def test_change_log_names_what_differs_and_nothing_else(folders, tmp_path, better):
    assert better[0].changes == ()
    assert "Nothing differs." in (folders / "out" / "dossier.html").read_text()
    done = write_dossier(config(folders, "worse", tmp_path), [].append)
    changes = {(one.section, one.name): (one.old, one.new) for one in done.changes if one.section != "Calibration"}
    assert changes == {("Folds", "fold by"): ("patient", "site")}
    assert "Data" in done.unchanged


def test_slides_with_other_labels_cannot_be_compared(folders, tmp_path):
    torch.manual_seed(0)
    made_up_folder(tmp_path / "more", slides=126, noise=0.4)
    with pytest.raises(UsageError, match=r"its label is '\d' in .* and '\d' in"):
        write_dossier(config(folders, tmp_path / "more", tmp_path / "out"), [].append)


def test_tables_of_the_same_slides_may_be_given(folders, tmp_path, better):
    tables = (folders / "old" / "out_of_fold.csv", folders / "better" / "out_of_fold.csv")
    done = write_dossier(config(folders, "better", tmp_path, predictions=tables), [].append)
    assert done.groups == better[0].groups
    assert done.judged_on == "of the tables given"
    with pytest.raises(UsageError, match="--predictions is given twice"):
        write_dossier(config(folders, "better", tmp_path, predictions=tables[:1]), [].append)


def test_by_any_column_of_the_labels(folders, tmp_path):
    rows = [line.split(",") for line in (folders / "old" / "out_of_fold.csv").read_text().splitlines()[1:]]
    labels = "".join(f"{row[0]},{row[4]},{row[1]},{'S1' if number < 60 else 'S2'}\n" for number, row in enumerate(rows))
    (tmp_path / "labels.csv").write_text("slide_id,label,patient_id,scanner\n" + labels)
    asked = config(folders, "better", tmp_path / "out", labels=tmp_path / "labels.csv", by=("scanner",), metric="auroc")
    done = write_dossier(asked, [].append)
    assert [one.name for one in done.groups.groups] == ["all slides", "scanner S1", "scanner S2"]
    with pytest.raises(UsageError, match="--metric is 'dice'; it can be qwk, mae"):
        write_dossier(replace(asked, metric="dice"), [].append)


def test_the_same_bytes_again(folders, tmp_path, better):
    shutil.copytree(folders / "out", tmp_path / "first")
    write_dossier(config(folders, "better", folders / "out"), [].append)
    for name in ("dossier.html", "dossier.json", "card.html", "card.json"):
        assert (tmp_path / "first" / name).read_bytes() == (folders / "out" / name).read_bytes()
