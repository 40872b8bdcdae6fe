import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mil.encoders.toy import CARD, ToyEncoder
from tests.hostile.makers import tissue_pixels, write_svs
from workflows.cli import main
from workflows.extract import extract
from workflows.extraction import ExtractConfig
from workflows.sources import find_slides
from wsi.store import FeatureStore
from wsi.tiles import TileSpec

REPOSITORY = Path(__file__).resolve().parents[2]
STRIDE_PX, CHUNK_TILES = 96, 2


def config(root, **changes):
    spec = TileSpec(stride_px=STRIDE_PX)
    return ExtractConfig(**{"store": root, "encoder": "toy", "tiles": spec, "chunk_tiles": CHUNK_TILES, **changes})


def files_of(root):
    """Bytes of every file of the stores; `.source.json` holds time stamps and may differ."""
    stores = [path for path in root.rglob("*") if path.is_file() and ".zarr" in str(path.relative_to(root))]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in stores if path.name != ".source.json"}


def start(slide, root, *options):
    """The command line in a process group of its own, which can be killed as a whole."""
    arguments = ["--encoder", "toy", "--stride-px", STRIDE_PX, "--chunk-tiles", CHUNK_TILES, *options]
    command = [sys.executable, "-m", "workflows.cli", "extract", slide, "--store", root, *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*map(str, command)], cwd=REPOSITORY, start_new_session=True, **quiet)


def kill_after(process, journal, records):
    """SIGKILL once so many chunks are in the journal; gives how many were there in the end."""
    deadline = time.monotonic() + 120
    try:
        while len(list(journal.glob("[0-9]*.json"))) < records:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "no chunk was ever finished"
            time.sleep(0.002)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return len(list(journal.glob("[0-9]*.json")))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, small_svs):
    root = tmp_path_factory.mktemp("uninterrupted")
    return root, extract(find_slides([small_svs]), config(root))


def check_resumes(slide, root, uninterrupted, *options):
    whole, summary = uninterrupted
    stage = root / "small.zarr" / "features" / ".toy.partial"
    kept = kill_after(start(slide, root, *options), stage / ".journal", 2)
    assert 2 <= kept < summary.chunks
    assert not FeatureStore(root / "small.zarr").encoders
    again = extract(find_slides([slide]), config(root))
    assert again.quarantined == []
    assert again.chunks == summary.chunks - kept
    assert not list(root.rglob("*.partial"))
    assert files_of(root) == files_of(whole)


def test_after_sigkill_only_chunks_without_a_record_are_computed(tmp_path, small_svs, uninterrupted):
    assert uninterrupted[1].tiles > 100
    check_resumes(small_svs, tmp_path, uninterrupted)


@pytest.mark.slow
def test_after_sigkill_of_two_workers_only_chunks_without_a_record_are_computed(tmp_path, small_svs, uninterrupted):
    check_resumes(small_svs, tmp_path, uninterrupted, "--workers", "2")


def test_two_runs_are_equal_byte_for_byte(tmp_path, small_svs, uninterrupted):
    extract(find_slides([small_svs]), config(tmp_path))
    assert files_of(tmp_path) == files_of(uninterrupted[0])


def test_second_run_computes_nothing_and_changes_nothing(small_svs, uninterrupted):
    root, first = uninterrupted
    before = files_of(root)
    again = extract(find_slides([small_svs]), config(root))
    assert (again.chunks, again.tiles, again.bad) == (0, first.tiles, 0)
    assert files_of(root) == before


def test_every_tile_is_in_one_chunk_and_counted(uninterrupted):
    root, summary = uninterrupted
    store = FeatureStore(root / "small.zarr")
    assert summary.tiles == len(store.grid) == len(store.features("toy"))
    assert summary.chunks == -(-summary.tiles // CHUNK_TILES)


def run_cli(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    return end.value.code, capsys.readouterr()


def test_one_bad_slide_is_quarantined_by_name_and_the_others_are_done(tmp_path, small_svs, capsys):
    slides = tmp_path / "slides"
    slides.mkdir()
    (slides / "a-text.svs").write_text("not a slide")
    (slides / "b-good.svs").symlink_to(small_svs)
    write_svs(slides / "c-no-mpp.svs", tissue_pixels(600, 600), mpp=None)
    write_svs(slides / "d-good.svs", tissue_pixels(800, 700, seed=1))
    code, shown = run_cli(capsys, "extract", slides, "--store", tmp_path / "stores", "--encoder", "toy")
    assert code == 3
    head, count, *lines = shown.out.splitlines()
    assert head.startswith("2 of 4 slides in ")
    assert count == "2 quarantined:"
    by_slide = {line.split(":")[0].strip(): line for line in lines}
    assert "[unreadable] -> check the file" in by_slide["a-text"]
    assert "[missing_mpp] -> give the pixel size with --slide-mpp" in by_slide["c-no-mpp"]
    assert sorted(path.name for path in (tmp_path / "stores").glob("*.zarr")) == ["b-good.zarr", "d-good.zarr"]
    assert not list((tmp_path / "stores").glob(".*.partial"))


def test_exit_code_0_when_all_is_done(tmp_path, small_svs, capsys):
    code, shown = run_cli(capsys, "extract", small_svs, "--store", tmp_path, "--encoder", "toy")
    assert code == 0
    assert "quarantined" not in shown.out


def test_tiles_that_the_encoder_does_not_take_are_refused_before_any_slide(tmp_path, small_svs, capsys):
    arguments = ("extract", small_svs, "--store", tmp_path, "--encoder", "toy", "--tile-px", "256")
    code, shown = run_cli(capsys, *arguments)
    assert code == 1
    assert "--tile-px 224" in shown.err
    assert not list(tmp_path.glob("*.zarr"))


def test_the_kernel_is_the_cards_unless_said_and_the_recipe_has_it(tmp_path, capsys, monkeypatch):
    slide = write_svs(tmp_path / "a.svs", tissue_pixels(700, 600), mpp="0.4")
    pixels = {}
    for card, options in (("area", ()), ("lanczos", ()), ("lanczos", ("--kernel", "bicubic"))):
        monkeypatch.setattr(ToyEncoder, "card", replace(CARD, kernel=card))
        kernel = options[-1] if options else card
        assert run_cli(capsys, "extract", slide, "--store", tmp_path / kernel, "--encoder", "toy", *options)[0] == 0
        store = FeatureStore(tmp_path / kernel / "a.zarr")
        assert store.recipe["tiles"]["kernel"] == store.grid.spec.kernel == kernel
        assert store.card("toy")["kernel"] == card
        pixels[kernel] = np.asarray(store.features("toy"))
    assert not np.array_equal(pixels["area"], pixels["lanczos"])
    assert not np.array_equal(pixels["bicubic"], pixels["lanczos"])


def test_a_kernel_that_is_none_is_wrong_usage(tmp_path, small_svs, capsys):
    arguments = ("extract", small_svs, "--store", tmp_path, "--encoder", "toy", "--kernel", "nearest")
    code, shown = run_cli(capsys, *arguments)
    assert code == 2
    assert "there are: area, bilinear, bicubic, lanczos" in shown.err


def test_store_that_is_a_file_is_wrong_usage(tmp_path, small_svs, capsys):
    (tmp_path / "file").write_text("")
    code, shown = run_cli(capsys, "extract", small_svs, "--store", tmp_path / "file", "--encoder", "toy")
    assert code == 2
    assert "check --store" in shown.err
