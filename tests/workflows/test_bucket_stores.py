"""Stores in a bucket through the command line: extracted, killed, resumed, verified, trained on, graded."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hostile.makers import tissue_pixels, write_svs
from tests.s3_server import BUCKET, S3Server, s3_server
from workflows.cli import main
from workflows.cluster import check_store_is_shared, connect
from workflows.extract import extract
from workflows.extraction import ExtractConfig
from workflows.listeners import Listener
from workflows.sources import find_slides
from workflows.verify import verify
from wsi import lease
from wsi.errors import UnreachableStoreError, UsageError
from wsi.files import files_below, is_hidden
from wsi.store import open_stores
from wsi.store_url import StorePath, StoreUrl
from wsi.tiles import TileSpec

pytest.importorskip("obstore")
pytest.importorskip("moto.server")

pytestmark = pytest.mark.services

OPTIONS = ["--encoder", "toy", "--stride-px", "96", "--chunk-tiles", "16"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Server]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lease, "LEASE_S", 3.0)
    with s3_server(monkeypatch) as running:
        yield running


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, small_svs: Path) -> dict[str, bytes]:
    """The files of the same store on a disk."""
    root = tmp_path_factory.mktemp("local")
    assert not extract(find_slides([small_svs]), config(root), Listener()).quarantined
    return published(root)


def config(root: StorePath) -> ExtractConfig:
    return ExtractConfig(store=root, encoder="toy", tiles=TileSpec(stride_px=96), chunk_tiles=16)


def published(root: StorePath) -> dict[str, bytes]:
    """All files of stores that are published, hidden ones and those of the run aside."""
    names = [name for name in files_below(root) if not is_hidden(name) and ".zarr/" in name]
    return {name: (root / name).read_bytes() for name in names}


def leftovers(root: StoreUrl) -> list[str]:
    kept = ("/.source.json", "/.toy.checked.json")
    return [name for name in files_below(root) if is_hidden(name) and not name.endswith(kept)]


def run_main(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    assert isinstance(end.value.code, int)
    return end.value.code


def test_extract_verify_repair(
    server: S3Server, small_svs: Path, local: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = StoreUrl(f"s3://{BUCKET}/some/cohort")
    assert run_main("extract", small_svs, "--store", root, *OPTIONS) == 0
    said = capsys.readouterr().out
    assert f"1 of 1 slides in {root}" in said
    assert "log: cohort-log/log.jsonl" in said
    assert published(root) == local
    assert leftovers(root) == []
    assert json.loads((root / "run.json").read_bytes())["config"]["store"] == str(root)
    assert [path.name for path in tmp_path.iterdir()] == ["cohort-log"]
    assert run_main("status", "cohort-log") == 0
    assert run_main("verify", root) == 0
    assert "1 stores, 1 complete sets of features: all chunks agree" in capsys.readouterr().out

    chunk = root / "small.zarr/features/toy/values/c/2/0"
    data = bytearray(chunk.read_bytes())
    data[7] ^= 1
    chunk.write_bytes(bytes(data))
    (root / "small.zarr/coords/c/0/0").unlink()
    assert run_main("verify", root) == 1
    said = capsys.readouterr().out
    assert "small.zarr: coords/c/0/0 is missing" in said
    assert "small.zarr: features/toy/values/c/2/0 differs from its checksum" in said
    assert run_main("extract", small_svs, "--store", root, *OPTIONS) == 0
    assert " 1 chunks computed in this run" in capsys.readouterr().out
    assert published(root) == local
    assert run_main("verify", f"{root}/small.zarr") == 0


KILLED = """
import os, signal, sys
from wsi import lease, object_store, store_writer
lease.LEASE_S = 3.0
write, left = store_writer.FeatureWriter.write, int(sys.argv.pop(1))
def count(*given):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write(*given)
store_writer.FeatureWriter.write = count
from workflows.cli import main
from workflows.cluster import check_store_is_shared
main(sys.argv[1:])
"""


def test_a_killed_extraction_goes_on_and_ends_in_the_same_bytes(
    server: S3Server, small_svs: Path, local: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    root = StoreUrl(f"s3://{BUCKET}/killed")
    command = ["extract", str(small_svs), "--store", str(root), *OPTIONS]
    repository = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "3", *command],
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert any(name.endswith(".lock") for name in files_below(root)), "the dead run's lease is there"
    assert not any(name.endswith("features/toy/manifest.json") for name in files_below(root))
    finished = sum(".journal/0" in name for name in files_below(root))
    assert finished >= 2, "three chunks were begun, and two threads were at work"
    assert run_main(*command) == 0
    chunks = sum("values/c/" in name for name in local)
    assert f" {chunks - finished} chunks computed in this run" in capsys.readouterr().out
    assert published(root) == local
    assert leftovers(root) == []


def test_two_runs_at_once_write_nothing_twice(
    server: S3Server, small_svs: Path, local: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = StoreUrl(f"s3://{BUCKET}/both")
    # Without bokeh each scheduler tries this import anew and fails, in which two threads disturb each other.
    monkeypatch.setitem(sys.modules, "distributed.dashboard.scheduler", None)
    with connect(0):  # Dask's own imports are not made for two threads at once
        pass
    summaries = []

    def one(number: int) -> None:
        summaries.append(extract(find_slides([small_svs]), config(root), Listener(), log=tmp_path / str(number)))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [summary.quarantined for summary in summaries] == [[], []]
    assert sum(summary.chunks for summary in summaries) == sum("values/c/" in name for name in local)
    assert published(root) == local
    assert leftovers(root) == []


class GoesAway(Listener):
    """Stops the server at the first chunk, and starts it again when the run has said that it waits."""

    def __init__(self, server: S3Server) -> None:
        self.server, self.said = server, []

    def chunk(self, done: object) -> None:
        if not self.said:
            self.server.stop()
            self.said.append("stopped")

    def paused(self, reason: str, message: str) -> None:
        self.said.append(reason)
        assert "no sound answer from the server" in message
        self.server.start()

    def resumed(self, reason: str) -> None:
        self.said.append("resumed")


def test_a_server_that_goes_away_is_waited_for(
    server: S3Server, small_svs: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    root = StoreUrl(f"s3://{BUCKET}/away")
    listener = GoesAway(server)
    summary = extract(find_slides([small_svs]), config(root), listener, log=tmp_path / "log")
    assert summary.quarantined == []
    assert listener.said == ["stopped", "unreachable", "resumed"]
    assert published(root) == local
    assert leftovers(root) == []


@pytest.mark.slow
def test_models_and_grades_are_those_of_stores_on_a_disk(server: S3Server, tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    lines = ["slide_id,label,patient_id"]
    for number in range(6):
        write_svs(slides / f"t{number}.svs", (tissue_pixels(900, 900, number) * (1 - 0.1 * (number % 3))).astype("u1"))
        lines.append(f"t{number},{number % 3},P{number}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    found = []
    for name, store in (("near", tmp_path / "stores"), ("far", StoreUrl(f"s3://{BUCKET}/cohort"))):
        model, run = tmp_path / name / "model", tmp_path / name / "run"
        assert run_main("extract", slides, "--store", store, "--encoder", "toy", "--workers", 2) == 0
        options = ["--folds", 2, "--epochs", 2, "--device", "cpu"]
        assert run_main("train", "--store", store, "--labels", tmp_path / "labels.csv", "--out", model, *options) == 0
        assert (
            run_main("grade", slides / "t1.svs", slides / "t2.svs", "--model", model, "--out", run, "--store", store)
            == 0
        )
        assert json.loads((run / "run.json").read_bytes())["config"]["store"] == str(store)
        with (run / "predictions.csv").open(newline="") as handle:
            rows = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(handle)]
        assert len(rows) == 2
        found.append((rows, published(store)))
    assert found[0] == found[1], "the model's id, made of its weights, is among them"


def test_a_store_that_cannot_be_reached_is_said_before_any_work(
    server: S3Server, small_svs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main("extract", small_svs, "--store", "s3://no-such-bucket/x", *OPTIONS) == 2
    assert "s3://no-such-bucket: there is no such bucket" in capsys.readouterr().err
    assert run_main("verify", f"s3://{BUCKET}/nothing") == 2
    server.stop()
    assert run_main("verify", f"s3://{BUCKET}/x") != 0
    assert "no sound answer from the server in 7 tries (no connection)" in capsys.readouterr().err
    server.start()


def test_workers_that_do_not_reach_the_bucket_are_refused(server: S3Server) -> None:
    class Workers:
        def run(self, job: Callable, *given: object) -> dict[str, object]:
            return {"tcp://w1": job(*given)}

    check_store_is_shared(Workers(), StoreUrl(f"s3://{BUCKET}/x"))
    with pytest.raises(UsageError, match="the worker tcp://w1 does not reach it .s3://none-such: there is no such"):
        check_store_is_shared(Workers(), StoreUrl("s3://none-such/x"))


def test_stores_found_nowhere_are_not_confused_with_stores_that_are_away(server: S3Server) -> None:
    with pytest.raises(UsageError, match="no feature store"):
        open_stores(f"s3://{BUCKET}/nothing")
    server.stop()
    try:
        with pytest.raises(UnreachableStoreError):
            open_stores(f"s3://{BUCKET}/nothing")
        with pytest.raises(UnreachableStoreError):
            verify(StoreUrl(f"s3://{BUCKET}/nothing"))
    finally:
        server.start()
        time.sleep(0.05)
