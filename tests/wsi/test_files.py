"""Files that are whole or not there."""

import hashlib
import os

import pytest

from wsi.files import file_record, folder_records, fsync_path, to_json, write_atomic, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [part.name for part in tmp_path.iterdir()] == ["a.json"]


def test_equal_values_give_equal_bytes_and_nan_is_no_json(tmp_path):
    assert to_json({"b": 1, "a": [2]}) == to_json({"a": [2], "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", float("nan"))
    assert not list(tmp_path.iterdir())


def test_records_leave_out_hidden_files_and_the_manifest(tmp_path):
    for name in ("zarr.json", "values/c/0/0", ".journal/0.json", "manifest.json", "values/.tmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    records = folder_records(tmp_path)
    assert list(records) == ["values/c/0/0", "zarr.json"]
    assert records["zarr.json"] == {"bytes": 9, "sha256": hashlib.sha256(b"zarr.json").hexdigest()}
    assert file_record(tmp_path / "zarr.json") == records["zarr.json"]
    fsync_path(tmp_path)
