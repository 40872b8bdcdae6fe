"""AnnData files, read back by the package of that name."""

import json
import shutil
from pathlib import Path

import anndata
import numpy as np
import pytest

from tests.wsi.imports.makers import column_order, features_of, write_clam, write_trident
from wsi.exports.anndata import write_anndata
from wsi.imports.intake import FeatureFile, import_features
from wsi.store import FeatureStore


@pytest.fixture
def store(small_store: Path) -> FeatureStore:
    return FeatureStore(small_store)


def exported(store: FeatureStore, folder: Path, encoder: str = "toy"):
    write_anndata(folder / "s.h5ad", store, encoder)
    return anndata.read_h5ad(folder / "s.h5ad")


def test_features_and_places_arrive(store: FeatureStore, tmp_path: Path) -> None:
    found = exported(store, tmp_path)
    assert found.X.dtype == np.float32
    assert np.array_equal(found.X, store.features("toy").astype(np.float32))
    assert np.array_equal(found.obs[["x_px0", "y_px0"]], store.coords)
    assert np.array_equal(found.obs["tissue_fraction"], store.tissue_fraction)
    assert found.obs["slide_id"].unique().tolist() == ["small"]
    assert found.obs_names.is_unique
    side = 224.0  # 224 px at 0.5 um/px, and the slide has 0.5 um/px
    assert np.array_equal(found.obsm["spatial"], store.coords + side / 2)
    assert np.allclose(found.obsm["spatial_um"], 0.5 * (store.coords + side / 2))
    assert found.uns["spatial"]["small"]["scalefactors"] == {"spot_diameter_fullres": side, "tissue_hires_scalef": 1.0}


def test_says_how_it_was_made(store: FeatureStore, tmp_path: Path) -> None:
    about = exported(store, tmp_path).uns["histograde"]
    assert json.loads(about["recipe"]) == store.recipe
    assert json.loads(about["card"]) == store.card("toy")
    assert json.loads(about["slide"])["content_hash"] == store.slide.content_hash
    assert "centre" in about["spatial_unit"]


def test_the_same_store_gives_the_same_bytes(store: FeatureStore, tmp_path: Path) -> None:
    for name in ("a.h5ad", "b.h5ad"):
        write_anndata(tmp_path / name, store, "toy")
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()
    assert sorted(part.name for part in tmp_path.iterdir()) == ["a.h5ad", "b.h5ad"]


def test_bad_tiles_are_left_out_and_the_unknown_stays_unknown(tmp_path: Path) -> None:
    features = features_of(12)
    features[4] = np.nan  # tile 1 in reading order
    path = write_trident(tmp_path / "s.h5", features, column_order())
    import_features(tmp_path, FeatureFile("s", path, "trident", "uni"))
    found = exported(FeatureStore(tmp_path / "s.zarr"), tmp_path, "uni")
    assert found.obs["row"].tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert np.isfinite(found.X).all()
    assert found.obs["tissue_fraction"].isna().all()
    assert "spatial_um" not in found.obsm
    assert found.obsm["spatial"][0].tolist() == [256.0, 256.0]
    assert json.loads(found.uns["histograde"]["card"])["weights_sha256"] is None
    assert json.loads(found.uns["histograde"]["slide"])["mpp"] is None


def test_tiles_of_unknown_size_are_placed_by_their_corner(tmp_path: Path) -> None:
    path = write_clam(tmp_path / "s.h5", features_of(12), column_order())
    import_features(tmp_path, FeatureFile("s", path, "clam", "r50"))
    found = exported(FeatureStore(tmp_path / "s.zarr"), tmp_path, "r50")
    assert found.obsm["spatial"][1].tolist() == [512.0, 0.0]
    assert "corner" in found.uns["histograde"]["spatial_unit"]
    assert "spot_diameter_fullres" not in found.uns["spatial"]["s"]["scalefactors"]


def test_a_crash_leaves_the_old_file(store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.h5ad").write_text("old")

    def dies(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(anndata.AnnData, "write_h5ad", dies)
    with pytest.raises(OSError, match="No space"):
        write_anndata(tmp_path / "s.h5ad", store, "toy")
    assert (tmp_path / "s.h5ad").read_text() == "old"
    assert [part.name for part in tmp_path.iterdir()] == ["s.h5ad"]


def test_a_slide_id_that_would_open_a_group_is_refused(store: FeatureStore, tmp_path: Path) -> None:
    from wsi.errors import UsageError
    from wsi.files import file_record, write_json

    copy = tmp_path / "small.zarr"
    shutil.copytree(store.path, copy)
    head, manifest = copy / "zarr.json", copy / "manifest.json"
    head.write_text(head.read_text().replace('"small"', '"a/../b"'))
    records = json.loads(manifest.read_text())
    records["files"]["zarr.json"] = file_record(head)
    write_json(manifest, records)
    with pytest.raises(UsageError, match="cannot be a file name"):
        write_anndata(tmp_path / "s.h5ad", FeatureStore(copy), "toy")
