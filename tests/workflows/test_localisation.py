"""Tile scores against drawn regions, with AUROCs that can be counted by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely

from mil.testing import toy_card, write_store
from workflows.localisation import localise, localise_maps
from workflows.tile_maps import store_maps
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
    assert found.attention.auroc.estimate == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.evidence.auroc.estimate == pytest.approx((1 + 1 / 2) / 2)
    assert 0 <= found.attention.auroc.low <= found.attention.auroc.estimate <= found.attention.auroc.high <= 1
    # findings 0.3, 0.4, 0.1 against 0.4, 0.2, 0.1 / 0.3, 0.2, ties half: 3 + 0.5 and 4 + 0.5 and 0.5
    assert found.attention.pooled == pytest.approx((3 + 0.5 + 4 + 0.5 + 0.5) / 15)
    assert "attention" in found.lines()[0]
    assert f"{found.evidence.pooled:.3f}" in found.lines()[1]


def test_tiles_on_the_border_are_left_out(tmp_path: Path, stores: dict[str, FeatureStore]) -> None:
    draw(tmp_path / "truth" / "a.geojson", (0, 0, 100, 100), (100, 0, 140, 100))  # tile 1 to 40 %
    found = localise(stores, {"a": scores([0.3, 0.4, 0.2, 0.1], [0.9, 1.0, 0.1, 0.1])}, tmp_path / "truth")
    assert found.tiles == 3
    assert found.attention.auroc.estimate == found.evidence.auroc.estimate == 1


def test_slides_of_one_kind_enter_the_pool_only(tmp_path: Path, stores: dict[str, FeatureStore]) -> None:
    draw(tmp_path / "truth" / "a.geojson", (0, 0, 100, 100))
    draw(tmp_path / "truth" / "b.geojson", (0, 0, 200, 200), name="benign")
    even = scores([0.4, 0.3, 0.2, 0.1], [0.9, 0.1, 0.1, 0.1])
    found = localise(stores, {"a": even, "b": even}, tmp_path / "truth")
    assert (found.slides, found.tiles) == (1, 8)
    assert found.attention.auroc.estimate == 1
    assert found.attention.pooled == pytest.approx(6.5 / 7)


def test_bad_tiles_have_no_score(tmp_path: Path, stores: dict[str, FeatureStore]) -> None:
    draw(tmp_path / "truth" / "a.geojson", (0, 100, 200, 200))  # tiles 2 and 3
    one = scores([0.2, 0.8], [0.1, 0.9]) | {"rows": np.array([1, 3])}
    found = localise(stores, {"a": one}, tmp_path / "truth")
    assert (found.tiles, found.attention.auroc.estimate, found.evidence.auroc.estimate) == (2, 1, 1)


def test_nothing_to_compare(tmp_path: Path, stores: dict[str, FeatureStore]) -> None:
    draw(tmp_path / "truth" / "a.geojson")
    with pytest.raises(UsageError, match="no slide has tiles inside and outside"):
        localise(stores, {"a": scores([0.1] * 4, [0.5] * 4)}, tmp_path / "truth")


def test_peaks_find_lesions(tmp_path: Path) -> None:
    """A slide of 36 tiles of 25 um with two lesions, and one without; a peak silences its eight neighbours."""
    stores = {
        name: write_store(tmp_path / "stores", name, np.zeros((36, 12), np.float32), toy_card(), TileSpec(50, 0.5, 50))
        for name in ("bare", "ill")
    }
    draw(tmp_path / "truth" / "ill.geojson", (0, 0, 200, 100), (400, 400, 600, 600))  # 83 um and more apart
    ill, bare = np.full((2, 36), 0.1)
    ill[[0, 1, 20, 35]] = 0.9, 0.8, 0.7, 0.6  # two tiles of the first lesion, a place outside, the second lesion
    bare[14] = 0.65
    found = localise_maps(
        store_maps(stores, {"ill": scores(ill.tolist(), ill.tolist()), "bare": scores(bare.tolist(), bare.tolist())}),
        tmp_path / "truth",
        bare={"bare"},
        n=50,
    )
    assert (found.lesions, found.all_slides, found.slides) == (2, 2, 1)
    # One of two before any false positive; .7 and .65 are two in two slides, before .6 finds the second.
    assert found.evidence.sensitivities == (0.5, 0.5, 1.0, 1.0, 1.0, 1.0)
    assert found.evidence.froc.estimate == pytest.approx(5 / 6)
    assert found.evidence.froc.low < 5 / 6 < found.evidence.froc.high


def test_overlap_at_a_threshold_from_the_other_patient(tmp_path: Path, stores: dict[str, FeatureStore]) -> None:
    draw(tmp_path / "truth" / "a.geojson", (0, 0, 100, 100))  # tile 0
    draw(tmp_path / "truth" / "b.geojson", (0, 0, 200, 100))  # tiles 0 and 1
    maps = {"a": scores([0.25] * 4, [0.9, 0.6, 0.1, 0.1]), "b": scores([0.25] * 4, [0.9, 0.6, 0.3, 0.1])}
    found = localise(stores, maps, tmp_path / "truth")
    # Best for b is to cut between .3 and .6, where a has 1 of 2; best for a is above .6, where b has 1 of 2.
    assert found.evidence.iou.estimate == pytest.approx(0.5)
    assert found.evidence.iou.n_groups == 2
    alone = localise(stores, maps, tmp_path / "truth", patients={"a": "P", "b": "P"})
    assert np.isnan(alone.evidence.iou.estimate)  # one patient: no threshold from another
    assert alone.evidence.auroc.method == "undefined"


def test_a_file_that_is_missing_is_no_empty_slide(tmp_path: Path, stores: dict[str, FeatureStore]) -> None:
    draw(tmp_path / "truth" / "a.geojson", (0, 0, 100, 100))
    one = scores([0.4, 0.3, 0.2, 0.1], [0.9, 0.1, 0.1, 0.1])
    with pytest.raises(UsageError, match=r"b\.geojson"):
        localise(stores, {"a": one, "b": one}, tmp_path / "truth")


def test_only_the_classes_asked_for_count(tmp_path: Path, stores: dict[str, FeatureStore]) -> None:
    draw(tmp_path / "truth" / "a.geojson", (0, 0, 100, 100), name="Tumor")
    maps = {"a": scores([0.4, 0.3, 0.2, 0.1], [0.9, 0.1, 0.1, 0.1])}
    found = localise_maps(store_maps(stores, maps), tmp_path / "truth", findings=["tumor"], n=50)
    assert found.lesions == 1
    with pytest.raises(UsageError, match="inside and outside"):
        localise_maps(store_maps(stores, maps), tmp_path / "truth", findings=["stroma"], n=50)


def test_plain_values(tmp_path: Path, stores: dict[str, FeatureStore]) -> None:
    draw(tmp_path / "truth" / "a.geojson", (0, 0, 100, 100))
    found = localise(stores, {"a": scores([0.4, 0.3, 0.2, 0.1], [0.9, 0.1, 0.1, 0.1])}, tmp_path / "truth")
    kept = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert list(kept["attention"]["sensitivity_at_false_positives_per_slide"]) == ["0.25", "0.5", "1", "2", "4", "8"]
    assert kept["evidence"]["iou"]["estimate"] is None  # one slide: no threshold from another patient
