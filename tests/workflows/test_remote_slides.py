"""Slides at URLs through the command line: the same stores as of local ones, and no word of what a URL hides."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.range_server import RangeServer
from workflows.cli import main
from workflows.extract import extract
from workflows.extraction import ExtractConfig
from workflows.source_hash import source_hash, source_stamp
from workflows.sources import find_slides, read_slide_list
from wsi import remote_bytes, sampled_hash
from wsi.errors import UsageError
from wsi.slide_url import SlideUrl
from wsi.store import FeatureStore
from wsi.tiles import TileSpec

pytest.importorskip("aiohttp")

QUERY = "X-Amz-Credential=anna&X-Amz-Signature=deadbeef"
SECRETS = ("anna", "deadbeef", "X-Amz")


@pytest.fixture
def server(small_svs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """Gives `small.svs` to whom has the query string."""
    monkeypatch.setattr(remote_bytes, "BACKOFF_S", (0.01, 0.01))
    with RangeServer(small_svs.parent) as running:
        running.query = QUERY
        yield running


def url(server: RangeServer) -> str:
    return f"{server.root}/small.svs?{QUERY}"


def config(root: Path) -> ExtractConfig:
    return ExtractConfig(store=root, encoder="toy", tiles=TileSpec(stride_px=96), chunk_tiles=16)


def files_of(root: Path) -> dict[str, bytes]:
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    of_the_run = (".source.json", "run.json", "log.jsonl")
    return {name: path.read_bytes() for name, path in found.items() if not name.endswith(of_the_run)}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, small_svs: Path) -> Path:
    """Stores of the same slide from the disk."""
    root = tmp_path_factory.mktemp("local")
    assert not extract(find_slides([small_svs]), config(root)).quarantined
    return root


def test_store_is_equal_byte_for_byte_and_holds_no_secret(
    tmp_path: Path, server: RangeServer, local: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--store", tmp_path, "--encoder", "toy", "--stride-px", 96, "--chunk-tiles", 16]
    with pytest.raises(SystemExit) as end:
        main(["extract", url(server), *map(str, arguments)])
    assert end.value.code == 0
    assert files_of(tmp_path) == files_of(local)
    shown = capsys.readouterr()
    texts = [shown.out, shown.err, *(path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file())]
    assert not [secret for secret in SECRETS for text in texts if secret in text]


def test_with_a_sampled_identity_the_features_are_the_same(
    tmp_path: Path, server: RangeServer, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampled_hash, "WHOLE_BYTES", 0)
    monkeypatch.setattr(sampled_hash, "EDGE_BYTES", 4096)
    monkeypatch.setattr(sampled_hash, "SAMPLE_BYTES", 512)
    assert not extract(find_slides([url(server)]), config(tmp_path)).quarantined
    mine, other = files_of(tmp_path), files_of(local)
    differ = {name.removeprefix("small.zarr/") for name in mine if mine[name] != other[name]}
    features = {"features/toy/zarr.json", "features/toy/manifest.json"}  # they name the grid, and so the identity
    assert differ == {"zarr.json", "manifest.json"} | features
    kept, expected = (FeatureStore(root / "small.zarr") for root in (tmp_path, local))
    assert kept.slide.content_hash.startswith("sampled-1:")
    assert kept.verify() == []
    assert (kept.features("toy") == expected.features("toy")).all()


def test_second_run_reads_nothing_but_the_version(tmp_path: Path, server: RangeServer) -> None:
    (source,) = find_slides([url(server)])
    extract([source], config(tmp_path))
    stamp = source_stamp(source)
    assert stamp == [[(server.folder / "small.svs").stat().st_size, '"v1"']]
    before = len(server.requests)
    store = FeatureStore(tmp_path / "small.zarr")
    assert source_hash(source, store, stamp) == store.slide.content_hash
    assert len(server.requests) == before
    server.etag = ""
    assert source_stamp(source) == []
    assert source_hash(source, store, []) == store.slide.content_hash
    assert len(server.requests) > before + 1


def test_server_that_goes_away_is_a_quarantine_and_the_same_command_goes_on(
    tmp_path: Path, server: RangeServer, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workflows import tasks

    journal = tmp_path / "small.zarr" / "features" / ".toy.partial" / ".journal"
    server.gone = lambda: any(journal.glob("[0-9]*.json"))
    monkeypatch.setattr(tasks, "READ_BATCH", 4)
    monkeypatch.setattr(remote_bytes, "MEMORY_BYTES", 50_000)
    first = extract(find_slides([url(server)]), config(tmp_path))
    (failure,) = first.quarantined
    assert (failure.stage, failure.error_class) == ("extract", "unreachable")
    assert failure.message == "small.svs: no sound answer from the server in 3 tries (HTTP 503)"
    assert "same command" in failure.remedy
    assert failure.detail == ""
    server.gone = lambda: False
    again = extract(find_slides([url(server)]), config(tmp_path))
    assert again.quarantined == []
    assert again.bad == 0
    assert again.chunks < len(list((local / "small.zarr/features/toy/values/c").iterdir()))
    assert files_of(tmp_path) == files_of(local)


def test_info_of_a_url(server: RangeServer, small_svs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = []
    for argument in (url(server), str(small_svs)):
        with pytest.raises(SystemExit) as end:
            main(["info", argument, "--json"])
        assert end.value.code == 0
        facts.append(json.loads(capsys.readouterr().out))
    assert facts[0] == facts[1]
    with pytest.raises(SystemExit) as end:
        main(["info", f"{server.root}/small.svs?token=deadbeef"])
    assert end.value.code == 3
    shown = capsys.readouterr()
    assert "no [unreachable]: small.svs: access denied" in shown.out
    assert "deadbeef" not in shown.out + shown.err


def test_urls_in_arguments_and_lists(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(
        "slide_id,path,patient_id,site,mpp\n"
        f"one,https://h.example/download?id=1&{QUERY},p1,A,0.25\n"
        "two,s3://bucket/x/two.svs,,,\n"
        "three,sub/three.svs,,,\n"
    )
    listed = read_slide_list(tmp_path / "list.csv")
    assert [one.path for one in listed] == [
        SlideUrl(f"https://h.example/download?id=1&{QUERY}"),
        SlideUrl("s3://bucket/x/two.svs"),
        tmp_path / "sub/three.svs",
    ]
    found = find_slides([tmp_path / "list.csv", "s3://bucket/x/two.svs", "s3://bucket/x/four.ome.tif"])
    assert [one.slide_id for one in found] == ["four", "one", "three", "two"]
    assert not any(secret in repr(found) for secret in SECRETS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["https://h.example/a/x.svs?k=deadbeef", "https://h.example/b/x.svs?k=deadbeef"], "two slides are called 'x'"),
        (["https://h.example/slides.csv?k=deadbeef"], "read from a local file"),
        (["s3://bucket/folder/"], "names no file"),
    ],
)
def test_urls_that_are_wrong_usage(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        find_slides(arguments)
    assert "deadbeef" not in str(caught.value)
