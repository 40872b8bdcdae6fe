"""Files that no program should be handed, in one batch: each has the outcome that it should, and ends no other."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.makers import claim_size, damage_tile, overwrite, stored_tile, tissue_pixels, write_svs, write_tiff
from workflows.cli import main
from wsi.store import FeatureStore

TISSUE = tissue_pixels(900, 800)
DONE = "done"


def make_text(folder: Path) -> None:
    (folder / "text.svs").write_text("<script>alert(1)</script>" * 100)


def make_empty(folder: Path) -> None:
    for name in ("empty.svs", "empty.png", "empty.npy", "empty.mrxs", "empty.dcm.tif"):
        (folder / f"{Path(name).stem}-{name.rpartition('.')[2]}.{name.rpartition('.')[2]}").write_bytes(b"")


def make_folder(folder: Path) -> None:
    (folder / "folder.svs").mkdir()


def make_links(folder: Path) -> None:
    (folder / "nowhere.svs").symlink_to(folder / "is-not-there")
    (folder / "loop.svs").symlink_to(folder / "loop2.svs")
    (folder / "loop2.svs").symlink_to(folder / "loop.svs")
    (folder / "up").symlink_to(folder)


def make_cut_off(folder: Path) -> None:
    """The directory of an SVS that tifffile wrote stands behind the data; half of the file is gone with it."""
    path = write_svs(folder / "half.svs", TISSUE)
    os.truncate(path, path.stat().st_size // 2)
    path = write_svs(folder / "header-only.svs", TISSUE)
    os.truncate(path, 8)


def make_noise(folder: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8).tobytes()
    (folder / "noise.svs").write_bytes(data)
    (folder / "noise-behind-magic.svs").write_bytes(b"II*\0\x08\0\0\0" + data)
    (folder / "noise.npy").unlink(missing_ok=True)
    (folder / "noisy-array.npy").write_bytes(b"\x93NUMPY\x01\0" + data)


def make_scales(folder: Path) -> None:
    for name, mpp in (("mpp-none", None), ("mpp-zero", "0"), ("mpp-negative", "-0.25"), ("mpp-word", "n/a")):
        write_svs(folder / f"{name}.svs", TISSUE, mpp=mpp)
    write_svs(folder / "mpp-1000x.svs", TISSUE, mpp="250")
    write_tiff(folder / "mpp-anisotropic.tiff", TISSUE, (0.25, 0.5))
    write_tiff(folder / "mpp-tiny.tiff", TISSUE, (0.00499, 0.00499))


def make_huge(folder: Path) -> None:
    """A header that claims 4 billion pixels a side over a file of a few hundred kB."""
    claim_size(write_svs(folder / "huge.svs", TISSUE, factors=()), 4_000_000_000, 4_000_000_000)
    claim_size(write_svs(folder / "wide.svs", TISSUE, factors=()), 40_000, 800)


def make_damaged(folder: Path) -> None:
    damage_tile(write_svs(folder / "one-tile.svs", TISSUE), 0, 1, 1)
    path = write_svs(folder / "all-tiles.svs", TISSUE)
    for row in range(4):
        for column in range(4):
            damage_tile(path, 0, column, row)
    path = write_svs(folder / "bits.svs", TISSUE)
    rng = np.random.default_rng(4)
    offset, length = stored_tile(path, 0, 1, 2)
    for place in rng.integers(offset, offset + length, 30):
        overwrite(path, int(place), bytes([int(rng.integers(256))]))


def make_names(folder: Path) -> None:
    sound = write_svs(folder / "sound.svs", TISSUE)
    for name in ("Präparat Nr 7 ü", "<script>alert(1)<!--", "a;b&c'd\"e$(f)", "[x]*?", "染色", "🔬"):
        shutil.copy(sound, folder / f"{name}.svs")
    shutil.copy(sound, folder / ("long" * 50 + ".svs"))


def make_blank(folder: Path) -> None:
    write_svs(folder / "blank.svs", np.full((800, 900, 3), 243, np.uint8))
    write_svs(folder / "black.svs", np.zeros((800, 900, 3), np.uint8))
    write_svs(folder / "one-pixel.svs", np.full((1, 1, 3), 243, np.uint8), factors=())


EXPECTED = {
    "text": "unreadable",
    "empty-svs": "unreadable", "empty-png": "unreadable", "empty-npy": "unreadable", "empty-mrxs": "unreadable",
    "empty.dcm-tif": "unreadable",
    "nowhere": "vanished", "loop": "unreadable", "loop2": "unreadable",
    "half": "too_many_bad_tiles", "header-only": "unreadable", "huge": "unreadable",
    "noise": "unreadable", "noise-behind-magic": "unreadable", "noisy-array": "unreadable",
    "mpp-none": "missing_mpp", "mpp-word": "missing_mpp",
    "mpp-zero": "implausible_mpp", "mpp-negative": "implausible_mpp", "mpp-1000x": "implausible_mpp",
    "mpp-anisotropic": "implausible_mpp", "mpp-tiny": "implausible_mpp",
    "one-tile": DONE, "bits": DONE, "sound": DONE,
    "blank": "no_tissue", "one-pixel": "no_tissue",
    "Präparat Nr 7 ü": DONE, "<script>alert(1)<!--": DONE, "a;b&c'd\"e$(f)": DONE, "[x]*?": DONE,
    "染色": DONE, "🔬": DONE,
    "long" * 50: DONE,
}  # fmt: skip
ONE_OF = {
    "all-tiles": {"too_many_bad_tiles"},
    "black": {"no_tissue", "not_brightfield"},
    "wide": {"unreadable", "too_many_bad_tiles", "no_tissue", DONE},  # OpenSlide takes what is there for all there is
}


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], str]:
    """Everything through `extract` at once: the stores, the class of each slide, and what was printed."""
    folder = tmp_path_factory.mktemp("hostile")
    slides, stores = folder / "slides", folder / "stores"
    slides.mkdir()
    for name, make in sorted(globals().items()):
        if name.startswith("make_"):
            make(slides)
    import io
    from contextlib import redirect_stderr, redirect_stdout

    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) as end, redirect_stdout(out), redirect_stderr(err):
        main(
            [
                "extract",
                str(slides),
                str(slides / "folder.svs"),
                "--store",
                str(stores),
                "--encoder",
                "toy",
                "--max-bad",
                "0.6",
            ]
        )
    assert end.value.code == 3, err.getvalue()
    found = {}
    for line in out.getvalue().splitlines()[2:]:
        slide_id, _, rest = line.strip().partition(": ")
        found[slide_id] = rest.rpartition("] -> ")[0].rpartition("[")[2]
    for path in stores.glob("*.zarr"):
        if FeatureStore(path).encoders:
            assert path.stem not in found
            found[path.stem] = DONE
    return stores, found, out.getvalue() + err.getvalue()


def test_each_slide_has_the_outcome_that_it_should(batch: tuple[Path, dict[str, str], str]) -> None:
    _, found, said = batch
    assert {name: found.get(name) for name in EXPECTED} == EXPECTED, said
    for name, outcomes in ONE_OF.items():
        assert found.get(name) in outcomes, (name, found.get(name))
    assert set(found) - set(EXPECTED) - set(ONE_OF) == {"folder.svs"}
    assert not {"unexpected", "worker_killed", "lost", "usage"} & set(found.values()), said


def test_nothing_is_left_but_stores_the_record_and_the_log(batch: tuple[Path, dict[str, str], str]) -> None:
    stores, found, said = batch
    assert "Traceback" not in said
    left = {part.name for part in stores.iterdir() if not part.name.endswith(".zarr")}
    assert left == {"log.jsonl", "run.json", ".quarantine.jsonl"}
    finished = {path.stem for path in stores.glob("*.zarr") if FeatureStore(path).encoders}
    assert finished == {name for name, outcome in found.items() if outcome == DONE}
    assert all(FeatureStore(path).verify() == [] for path in stores.glob("*.zarr"))


def test_only_the_tiles_over_the_damage_are_bad(batch: tuple[Path, dict[str, str], str]) -> None:
    stores, _, _ = batch
    sound, damaged = (FeatureStore(stores / f"{name}.zarr") for name in ("sound", "one-tile"))
    x, y = damaged.grid.coords.T
    hit = (x + 224 > 256) & (x < 512) & (y + 224 > 256) & (y < 512)
    assert [one.row for one in damaged.bad_tiles("toy")] == np.flatnonzero(hit).tolist()
    assert 0 < hit.sum() < len(hit)
    np.testing.assert_array_equal(damaged.grid.coords, sound.grid.coords)
    rows = np.flatnonzero(~hit)
    np.testing.assert_array_equal(damaged.features("toy", rows), sound.features("toy", rows))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", TISSUE)
    path.chmod(0)
    with pytest.raises(SystemExit) as end:
        main(["extract", str(path), "--store", str(tmp_path / "stores"), "--encoder", "toy"])
    assert end.value.code == 3
