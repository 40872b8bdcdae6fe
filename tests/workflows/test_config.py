"""`run.json` and files of defaults."""

import json
import platform
from dataclasses import dataclass
from pathlib import Path

import pytest

from workflows.config import RunRecord, plain, read_defaults, throughput, versions
from wsi.errors import UsageError


@dataclass
class Options:
    store: Path
    size: tuple[int, int]


def test_plain_values() -> None:
    found = plain({"options": Options(Path("a/b"), (1, 2)), 3: [Path("c"), None, 0.5, True]})
    assert found == {"options": {"store": "a/b", "size": [1, 2]}, "3": ["c", None, 0.5, True]}
    assert json.loads(json.dumps(found)) == found


def test_record_is_written(tmp_path: Path) -> None:
    record = RunRecord("extract", {"store": Path("s")}, inputs={"a": "00"}, timings_s={"wall": 1.23456})
    record.counts["slides"] = 1
    record.write(tmp_path / "new")
    found = json.loads((tmp_path / "new" / "run.json").read_bytes())
    assert found.pop("versions")["python"] == platform.python_version()
    assert found == {
        "command": "extract",
        "config": {"store": "s"},
        "inputs": {"a": "00"},
        "outputs": {},
        "counts": {"slides": 1},
        "timings_s": {"wall": 1.235},
        "throughput": {},
    }


def test_throughput_is_by_slides_that_went_through() -> None:
    timings_s = {"read": 6.0, "encode": 10.0, "wall": 72.0}
    cost = {"read": 1.5, "encode": 2.5}
    assert throughput(4, timings_s) == {"slides_per_hour": 200.0, "seconds_per_slide": cost}
    assert throughput(0, timings_s) == {}


def test_versions_of_what_can_change_a_result() -> None:
    import numpy as np

    assert versions()["numpy"] == np.__version__
    assert {"histograde", "zarr", "openslide-bin"} <= set(versions())


def test_defaults(tmp_path: Path) -> None:
    path = tmp_path / "defaults.toml"
    path.write_text("[extract]\nmin-tissue = 0.3\nworkers = 2\n[train]\nclasses = 'a,b'\n", encoding="utf-8")
    assert read_defaults(path) == {"extract": {"min_tissue": 0.3, "workers": 2}, "train": {"classes": "a,b"}}


@pytest.mark.parametrize("content", [b"workers = 2\n", b"[extract\n", b"\xff\xfe[extract]\n"])
def test_defaults_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "defaults.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"defaults\.toml"):
        read_defaults(path)
