"""Tile scores against drawn regions, with AUROCs that can be counted by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely

from mil.testing import toy_card, write_store
from workflows.localisation import finding_score, held_out_scores, localise
from wsi.errors import UsageError
from wsi.store import FeatureStore
from wsi.tiles import TileSpec

SIDE_PX0 = 100  # tiles of 50 px at 0.5 um/px on a slide of 0.25 um/px


def draw(path: Path, *boxes: tuple[float, float, float, float], name: str = "tumour") -> None:
    features = [
        {
            "type": "Feature",
            "geometry": json.loads(shapely.to_geojson(shapely.box(*box))),
            "properties": {"classification": {"name": name}},
        }
        for box in boxes
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def scores(attention: list[float], finding: list[float]) -> dict[str, np.ndarray]:
    second = np.array(finding)
    return {
        "rows": np.arange(len(attention)),
        "attention": np.array(attention),
        "tile_evidence": np.stack([1 - second, second], axis=1),
    }


@pytest.fixture
def stores(tmp_path: Path) -> dict[str, FeatureStore]:
    """Slides of four tiles in a square: 0 1 / 2 3."""
    features = np.zeros((4, 12), np.float32)
    spec = TileSpec(50, 0.5, 50)
    return {name: write_store(tmp_path / "stores", name, features, toy_card(), spec) for name in ("a", "b")}


def test_expected_class() -> None:
    assert finding_score(np.array([[0.5, 0.25, 0.25], [0, 0, 1], [1, 0, 0]])).tolist() == [0.75, 2, 0]


def test_known_areas_under_the_curve(tmp_path: Path, stores: dict[str, FeatureStore]) -> None:
    draw(tmp_path / "truth" / "a.geojson", (0, 0, 100, 100))  # tile 0
    draw(tmp_path / "truth" / "b.geojson", (0, 0, 200, 60))  # tiles 0 and 1 to 60 %
    found = localise(
        stores,
        {
            "a": scores([0.3, 0.4, 0.2, 0.1], [0.9, 0.8, 0.1, 0.1]),  # attention: 2 of 3 pairs; evidence: 3 of 3
            "b": scores([0.4, 0.1, 0.3, 0.2], [0.2, 0.6, 0.3, 0.4]),  # 2 of 4 pairs; 2 of 4
        },
        tmp_path / "truth",
    )
    assert (found.slides, found.tiles) == (2, 8)
    assert found.attention[0] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.evidence[0] == pytest.approx((1 + 1 / 2) / 2)
    assert 1 / 2 <= found.attention[1] <= found.attention[0] <= found.attention[2] <= 2 / 3 + 1e-12
    # findings 0.3, 0.4, 0.1 against 0.4, 0.2, 0.1 / 0.3, 0.2, ties half: 3 + 0.5 and 4 + 0.5 and 0.5
    assert found.attention_pooled == pytest.approx((3 + 0.5 + 4 + 0.5 + 0.5) / 15)
    assert "attention" in found.lines()[0]
    assert f"{found.evidence_pooled:.3f}" in found.lines()[1]


def test_tiles_on_the_border_are_left_out(tmp_path: Path, stores: dict[str, FeatureStore]) -> None:
    draw(tmp_path / "truth" / "a.geojson", (0, 0, 100, 100), (100, 0, 140, 100))  # tile 1 to 40 %
    found = localise(stores, {"a": scores([0.3, 0.4, 0.2, 0.1], [0.9, 1.0, 0.1, 0.1])}, tmp_path / "truth")
    assert found.tiles == 3
    assert found.attention[0] == found.evidence[0] == 1


def test_slides_of_one_kind_enter_the_pool_only(tmp_path: Path, stores: dict[str, FeatureStore]) -> None:
    draw(tmp_path / "truth" / "a.geojson", (0, 0, 100, 100))
    draw(tmp_path / "truth" / "b.geojson", (0, 0, 200, 200), name="benign")
    even = scores([0.4, 0.3, 0.2, 0.1], [0.9, 0.1, 0.1, 0.1])
    found = localise(stores, {"a": even, "b": even}, tmp_path / "truth")
    assert (found.slides, found.tiles) == (1, 8)
    assert found.attention[0] == 1
    assert found.attention_pooled == pytest.approx(6.5 / 7)


def test_bad_tiles_have_no_score(tmp_path: Path, stores: dict[str, FeatureStore]) -> None:
    draw(tmp_path / "truth" / "a.geojson", (0, 100, 200, 200))  # tiles 2 and 3
    one = scores([0.2, 0.8], [0.1, 0.9]) | {"rows": np.array([1, 3])}
    found = localise(stores, {"a": one}, tmp_path / "truth")
    assert (found.tiles, found.attention[0], found.evidence[0]) == (2, 1, 1)


def test_nothing_to_compare(tmp_path: Path, stores: dict[str, FeatureStore]) -> None:
    draw(tmp_path / "truth" / "a.geojson")
    with pytest.raises(UsageError, match="no slide has tiles inside and outside"):
        localise(stores, {"a": scores([0.1] * 4, [0.5] * 4)}, tmp_path / "truth")


def test_scores_out_of_a_model_folder(tmp_path: Path) -> None:
    (tmp_path / "out_of_fold").mkdir()
    np.savez(tmp_path / "out_of_fold" / "s.1.npz", rows=np.arange(2), attention=np.ones(2))
    found = held_out_scores(tmp_path)
    assert list(found) == ["s.1"]
    assert found["s.1"]["rows"].tolist() == [0, 1]
