"""Files made again: of a real extraction they are the same bytes, and only those are taken."""

import json
import shutil
from pathlib import Path

import pytest

from wsi.store_remake import (
    GRID_FILES,
    SMALL_FILES,
    agrees,
    chunk_names,
    manifest_records,
    proved,
    remade_features,
    remade_grid,
    salvage_manifest,
    salvaged_records,
)


@pytest.fixture
def store(small_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_store, tmp_path / "small.zarr"))


def test_the_files_of_a_manifest_are_those_that_are_known(store: Path) -> None:
    assert set(manifest_records(store) or {}) == set(GRID_FILES)
    records = manifest_records(store / "features" / "toy") or {}
    chunks = [name for name in records if name not in SMALL_FILES]
    assert sorted(chunks) == sorted(chunk_names(len(chunks) * 4, 4))
    assert set(records) == {*SMALL_FILES, *chunks}


def test_a_real_grid_is_made_again_to_the_same_bytes(store: Path) -> None:
    made = remade_grid(store)
    assert sorted(made) == ["coords/c/0/0", "coords/zarr.json", "tissue_fraction/c/0", "tissue_fraction/zarr.json"]
    assert all((store / name).read_bytes() == data for name, data in made.items())
    assert proved(made, manifest_records(store) or {}) == made
    (store / "tissue" / "c" / "0" / "0").unlink()
    assert remade_grid(store) == {}


def test_real_features_are_described_again_in_the_same_bytes(store: Path) -> None:
    folder = store / "features" / "toy"
    records = manifest_records(folder) or {}
    made = remade_features(folder, records)
    assert sorted(made) == ["bad/c/0", "bad/zarr.json", "values/zarr.json"]
    assert all((folder / name).read_bytes() == data for name, data in made.items())
    (folder / "values" / "c" / "0" / "0").unlink()
    assert sorted(remade_features(folder, records)) == ["values/zarr.json"], "a missing chunk may hide bad tiles"
    (folder / "zarr.json").unlink()
    assert remade_features(folder, records) == {}


def test_only_listed_bytes_are_proved() -> None:
    records = {"a": {"bytes": 1, "sha256": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}}
    assert proved({"a": b"a"}, records) == {"a": b"a"}, "SHA-256 of the letter a, from FIPS 180's implementations"
    assert proved({"a": b"b", "other": b"a"}, records) == {}


def test_records_are_saved_from_a_damaged_manifest(store: Path) -> None:
    folder = store / "features" / "toy"
    file = folder / "manifest.json"
    records = json.loads(file.read_bytes())["files"]
    assert salvaged_records(folder) == records
    data = file.read_bytes()
    file.write_bytes(data[:1] + b"\xff" + data[2:])
    assert manifest_records(folder) is None
    assert salvaged_records(folder) == records
    place = data.index(b'"values/c/1/0"')
    file.write_bytes(data[:place] + b"\x00" * 40 + data[place + 40 :])
    assert salvaged_records(folder) == {name: one for name, one in records.items() if name != "values/c/1/0"}
    file.unlink()
    assert salvaged_records(folder) == {}


def test_a_manifest_is_written_again_only_of_what_is_proved(store: Path) -> None:
    folder = store / "features" / "toy"
    chunks = [name for name in manifest_records(folder) or {} if name.startswith("values/") and name[7] == "c"]
    before = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(before[1:])
    assert salvage_manifest(folder, SMALL_FILES, chunks)
    assert (folder / "manifest.json").read_bytes() == before
    (folder / "values" / "c" / "1" / "0").write_bytes(b"other")
    assert salvage_manifest(folder, SMALL_FILES, chunks)
    assert not agrees(folder / "values/c/1/0", (manifest_records(folder) or {})["values/c/1/0"])
    (folder / "bad" / "zarr.json").write_bytes(b"{}")
    kept = (folder / "manifest.json").read_bytes()
    assert not salvage_manifest(folder, SMALL_FILES, chunks)
    assert (folder / "manifest.json").read_bytes() == kept
