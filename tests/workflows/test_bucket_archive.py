"""An archive in a bucket through the command line: repaired, indexed, exported, and features of others imported."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.s3_server import BUCKET, S3Server, s3_server
from tests.store_places import contents, hidden
from tests.wsi.imports.makers import column_order, features_of, write_trident
from workflows.cli import main
from wsi import lease, object_store
from wsi.errors import CorruptStoreError
from wsi.files import files_below
from wsi.index_file import INDEX
from wsi.store import FeatureStore
from wsi.store_url import StoreUrl

pytest.importorskip("obstore")
pytest.importorskip("moto.server")

pytestmark = pytest.mark.services

ROOT = StoreUrl(f"s3://{BUCKET}/some/cohort")
CodeOf = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Server]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lease, "LEASE_S", 3.0)
    with s3_server(monkeypatch) as running:
        yield running


@pytest.fixture
def code_of(capsys: pytest.CaptureFixture[str]) -> CodeOf:
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return int(stopped.value.code or 0), told.out, told.err

    return run


def copied(store: Path) -> dict[str, bytes]:
    """Put the published files of a store on a disk into the bucket, as any program for copies does."""
    files = contents(store)
    for name, data in files.items():
        (ROOT / store.name / name).write_bytes(data)
    return files


def test_an_archive_is_indexed_exported_and_repaired(
    server: S3Server, small_store: Path, tmp_path: Path, code_of: CodeOf
) -> None:
    pytest.importorskip("anndata")
    files = copied(small_store)
    store = ROOT / "small.zarr"
    assert code_of("repair", ROOT)[:2] == (0, "1 stores: 0 put right, 0 with something left to do\n")
    code, said, _ = code_of("index", ROOT)
    assert (code, said.splitlines()[-1]) == (0, f"1 stores, 1 of them read; {ROOT / INDEX} written")
    assert code_of("index", ROOT)[1].endswith(f"1 stores, 0 of them read; {ROOT / INDEX} unchanged\n")

    for place, name in ((small_store, "near.h5ad"), (ROOT, "far.h5ad")):
        code, said, err = code_of("export", place, "--slide", "small", "--out", tmp_path / name)
        assert (code, err) == (0, "")
    assert (tmp_path / "far.h5ad").read_bytes() == (tmp_path / "near.h5ad").read_bytes()

    (store / "coords/c/0/0").unlink()
    chunk = store / "features/toy/values/c/1/0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    before = contents(ROOT)
    code, said, _ = code_of("repair", ROOT, "--dry-run")
    assert (code, contents(ROOT), hidden(ROOT)) == (3, before, [".index-stamps.json"])
    assert "dry run, nothing was written: 1 stores: 1 put right" in said
    code, said, _ = code_of("repair", ROOT, "--workers", 2)
    assert code == 3
    assert said.splitlines() == [
        "small.zarr: made coords/c/0/0 again; took 1 damaged chunk out of toy; left: 1 chunk of toy for extract",
        f"{INDEX} brought up to date",
        "1 stores: 1 put right, 1 with something left to do",
    ]
    lost = ("features/toy/manifest.json", "features/toy/values/c/1/0")
    assert {name: (store / name).read_bytes() for name in files if name not in lost} == {
        name: data for name, data in files.items() if name not in lost
    }
    code, said, _ = code_of("verify", store)
    assert (code, said.splitlines()[0]) == (0, "small.zarr: has no complete features")
    assert hidden(store / "features/.toy.partial") != []


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """TRIDENT's features of two slides, in three chunks each."""
    for number in range(2):
        features, coords = features_of(1200, seed=number), column_order(40, 30)
        write_trident(tmp_path / "job/features_uni_v1" / f"s{number}.h5", features, coords)
    return tmp_path / "job"


def imported(job: Path, store: object) -> tuple[object, ...]:
    return ("import", job, "--from", "trident", "--encoder", "uni", "--store", store)


KILLED = """
import os, signal, sys
from wsi import lease, store_writer
lease.LEASE_S = 3.0
write = store_writer.FeatureWriter.write
def die(self, chunk, *given):
    if chunk == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, chunk, *given)
store_writer.FeatureWriter.write = die
from workflows.cli import main
main(sys.argv[1:])
"""


def test_features_of_others_are_imported_and_a_killed_import_goes_on(
    server: S3Server, job: Path, tmp_path: Path, code_of: CodeOf
) -> None:
    assert code_of(*imported(job, tmp_path / "near"))[0] == 0
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, imported(job, ROOT))],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not any(name.endswith("features/uni/manifest.json") for name in files_below(ROOT))
    code, said, _ = code_of(*imported(job, ROOT))
    assert code == 0, f"the lease of the dead run is waited for: {said}"
    for number in range(2):
        assert contents(ROOT / f"s{number}.zarr") == contents(tmp_path / "near" / f"s{number}.zarr")
    assert (ROOT / "run.json").is_file()
    assert all(name.endswith(".uni.checked.json") for name in hidden(ROOT))

    (ROOT / "s1.zarr/features/uni/values/c/1/0").unlink()
    with pytest.raises(CorruptStoreError, match="is missing; run `histograde import` on its file again to repair it"):
        FeatureStore(ROOT / "s1.zarr").features("uni")
    assert "left: 1 chunk of uni for import" in code_of("repair", ROOT)[1]
    code, said, _ = code_of(*imported(job, ROOT))
    assert (code, "1 files were there already" in said) == (0, True)
    assert code_of("verify", ROOT)[0] == 0


def test_what_cannot_be_reached_is_said_in_a_line(server: S3Server, job: Path, tmp_path: Path, code_of: CodeOf) -> None:
    def verbs(root: str) -> list[tuple[object, ...]]:
        export = ("export", root, "--slide", "s", "--out", tmp_path / "s.h5ad")
        return [("repair", root), ("index", root), ("verify", root), export, imported(job, root)]

    for verb in verbs("s3://no-such-bucket/x"):
        code, said, err = code_of(*verb)
        assert (code, said, err.count("\n")) == (2, "", 1), verb
        assert "s3://no-such-bucket: there is no such bucket; make it, or check the name" in err
    for verb in verbs(str(ROOT))[:-1]:
        code, said, err = code_of(*verb)
        assert (code, said, err.count("\n")) == (2, "", 1), verb
        assert f"{ROOT}: " in err
    server.stop()
    for verb in verbs(str(ROOT)):
        code, said, err = code_of(*verb)
        assert (code, said, err.count("\n")) == (1, "", 1), verb
        assert f"s3://{BUCKET}: no sound answer from the server in {object_store.TRIES} tries" in err
    server.start()
