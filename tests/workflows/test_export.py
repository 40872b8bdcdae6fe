"""`histograde export`: which store, whose features, and what is refused."""

import shutil
from pathlib import Path

import anndata
import pytest

from workflows.cli import main
from wsi.store import FeatureStore


@pytest.fixture
def code_of(capsys: pytest.CaptureFixture[str]):
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return int(stopped.value.code or 0), told.out, told.err

    return run


def test_one_slide_of_a_folder(code_of, small_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.h5ad"
    options = ("--slide", "small", "--encoder", "toy", "--to", "anndata", "--out", out)
    code, said, err = code_of("export", small_store.parent, *options)
    assert (code, err) == (0, "")
    tiles = len(FeatureStore(small_store).coords)
    assert f"{tiles} tiles of small by toy, 0 bad ones left out" in said
    assert anndata.read_h5ad(out).n_obs == tiles


def test_slide_and_encoder_may_be_left_out_where_there_is_one(code_of, small_store: Path, tmp_path: Path) -> None:
    for number, store in enumerate((small_store, small_store.parent)):
        assert code_of("export", store, "--out", tmp_path / f"{number}.h5ad")[0] == 0
    assert (tmp_path / "0.h5ad").read_bytes() == (tmp_path / "1.h5ad").read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--slide", "large", "--out", "s.h5ad"), "found no 'large'"),
        (("--slide", "../small", "--out", "s.h5ad"), "cannot be a file name"),
        (("--encoder", "uni", "--out", "s.h5ad"), "holds features by toy; say whose with --encoder"),
        (("--to", "loom", "--out", "s.h5ad"), "--to is 'loom'"),
        (("--out", "s.csv"), "end in .h5ad"),
        (("--out", "absent/s.h5ad"), "absent: no such folder"),
    ],
)
def test_wrong_usage(
    code_of, small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = code_of("export", small_store.parent, *options)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert said in err
    assert not list(tmp_path.iterdir())


def test_a_damaged_store_is_not_exported(code_of, small_store: Path, tmp_path: Path) -> None:
    from tests.hostile.makers import flip

    copy = tmp_path / "small.zarr"
    shutil.copytree(small_store, copy)
    flip(copy / "features" / "toy" / "values" / "c" / "0" / "0", 50)
    code, _, err = code_of("export", copy, "--out", tmp_path / "s.h5ad")
    assert code == 1
    assert "values/c/0/0 differs from its checksum" in err
    assert not (tmp_path / "s.h5ad").exists()
