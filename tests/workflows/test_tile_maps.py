"""Maps out of runs and model folders, on the places that runs and stores know."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mil.testing import toy_card, write_store
from workflows.tile_maps import finding_score, held_out_scores, kept_maps
from wsi.errors import UsageError
from wsi.tiles import TileSpec


def model_folder(folder: Path, *slides: str) -> Path:
    (folder / "out_of_fold").mkdir(parents=True)
    for slide_id in slides:
        np.savez(
            folder / "out_of_fold" / f"{slide_id}.npz",
            rows=np.arange(3),
            attention=np.array([0.2, 0.3, 0.5]),
            tile_evidence=np.eye(3)[:, :2],
        )
    return folder


def stores(folder: Path, *slides: str) -> Path:
    for slide_id in slides:
        write_store(folder, slide_id, np.zeros((4, 12), np.float32), toy_card(), TileSpec(50, 0.5, 50))
    return folder


def test_expected_class() -> None:
    assert finding_score(np.array([[0.5, 0.25, 0.25], [0, 0, 1], [1, 0, 0]])).tolist() == [0.75, 2, 0]


def test_scores_out_of_a_model_folder(tmp_path: Path) -> None:
    found = held_out_scores(model_folder(tmp_path, "s.1"))
    assert list(found) == ["s.1"]
    assert found["s.1"]["rows"].tolist() == [0, 1, 2]


def test_maps_of_a_model_folder(tmp_path: Path) -> None:
    model, places = model_folder(tmp_path / "model", "a", "b"), stores(tmp_path / "features", "a", "b")
    (one,) = kept_maps(model, ["b"], places)
    assert (one.slide_id, one.mpp, len(one.grid)) == ("b", (0.25, 0.25), 4)
    assert one.scores()["attention"].tolist() == pytest.approx([0.6, 0.9, 1.5])  # times three tiles
    (model / "run.json").write_text(json.dumps({"config": {"store": str(places)}}))
    assert [one.slide_id for one in kept_maps(model, ["a", "b"])] == ["a", "b"]


def test_what_a_model_folder_does_not_know(tmp_path: Path) -> None:
    model, places = model_folder(tmp_path / "model", "a", "b"), stores(tmp_path / "features", "a")
    with pytest.raises(UsageError, match=r"holds no tile scores of 1 \(c\)"):
        kept_maps(model, ["a", "c"], places)
    with pytest.raises(UsageError, match=r"without feature store: 1 \(b\)"):
        kept_maps(model, ["a", "b"], places)
    with pytest.raises(UsageError, match="give them with --store"):
        kept_maps(model, ["a"])


def test_maps_of_a_run(tmp_path: Path, make_slide: Callable, make_run: Callable) -> None:
    run = make_run(tmp_path / "run", [make_slide("s1"), make_slide("s2")])
    found = list(kept_maps(run, ["s1", "s2"]))
    assert [one.slide_id for one in found] == ["s1", "s2"]
    assert found[0].mpp == (0.5, 0.5)
    assert found[0].scores()["attention"].tolist() == pytest.approx([0.5, 3, 0.5, 0.5, 0.5])
    assert found[0].scores()["evidence"].tolist() == [0, 3, 0, 0, 0]
