"""Sealing a folder: a manifest of what was written, and in a bucket none but the first."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import zarr

from wsi import object_store
from wsi.errors import StoreBusyError
from wsi.sealing import seal, write_array, write_files
from wsi.store_url import StoreUrl


def test_what_was_written_is_listed_with_its_digests(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.int32).reshape(3, 2)
    records = write_files(tmp_path, {"a/b": b"12"}) | write_array(tmp_path, "x", values)
    seal(tmp_path, records)
    listed = json.loads((tmp_path / "manifest.json").read_bytes())["files"]
    assert listed["a/b"] == {"bytes": 2, "sha256": sha256(b"12").hexdigest()}
    assert sorted(listed) == ["a/b", "x/c/0/0", "x/zarr.json"]
    for name, record in listed.items():
        data = (tmp_path / name).read_bytes()
        assert record == {"bytes": len(data), "sha256": sha256(data).hexdigest()}
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "x", mode="r")[...], values)


def test_in_a_bucket_the_first_manifest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = pytest.importorskip("obstore.store").MemoryStore()
    monkeypatch.setattr(object_store, "_bucket", lambda name: memory)
    folder = StoreUrl("s3://stores/s.zarr")
    first = write_files(folder, {"a": b"1"})
    seal(folder, first)
    seal(folder, first)  # the answer to the first try was lost
    with pytest.raises(StoreBusyError, match="another run has published it just now"):
        seal(folder, write_files(folder, {"a": b"2"}))
    assert json.loads((folder / "manifest.json").read_bytes()) == {"files": first}
