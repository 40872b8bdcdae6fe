"""`histograde index`: what the table says, and what is written."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from workflows.cli import main
from workflows.index import summary
from wsi.index_file import INDEX, STAMPS, IndexRow

ROW = IndexRow(
    "a.zarr", "a", "ab" * 32, 0.25, 0.25, "openslide", "aperio", 1000, "lite0", True, 2, 1280, "float16", "cd" * 32,
    224, 0.5, 224, 0.5, "area", "ef" * 32, 2_560_000,
)  # fmt: skip


@pytest.fixture
def root(small_store: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_store, tmp_path / "stores" / small_store.name)
    return tmp_path / "stores"


def code_of(*arguments: object) -> object:
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    return end.value.code


def another(row: IndexRow, name: str, **changes: object) -> IndexRow:
    return replace(row, store=f"{name}.zarr", slide_id=name, content_hash=name, **changes)


def test_the_table_sums_up_by_encoder_and_recipe() -> None:
    rows = [ROW, another(ROW, "b"), another(ROW, "c", encoder="uni", dim=1024, stride_px=112, feature_bytes=10**9)]
    assert summary(rows) == [
        "encoder  recipe                                                   slides  tiles  bad     GB",
        "lite0    224 px at 0.5 um/px, area, 1280 x float16                     2  2,000    4  0.005",
        "uni      224 px at 0.5 um/px, every 112 px, area, 1024 x float16       1  1,000    2  1.000",
    ]


def test_what_is_mixed_is_said() -> None:
    rows = [ROW, another(ROW, "b", weights_sha256="99" * 32), another(ROW, "c", mpp=0.25, kernel=None)]
    (said,) = [line for line in summary(rows) if line.startswith("mixed")]
    assert said == (
        "mixed: features by lite0 were made in 3 ways (weights_sha256 999999999999, cdcdcdcdcdcd; mpp 0.25, 0.5; "
        "kernel ?, area); they do not go together"
    )


def test_a_slide_that_lies_there_twice_is_said() -> None:
    twice = [ROW, replace(ROW, store="b.zarr"), replace(ROW, store="c.zarr", slide_id="c")]
    assert [line for line in summary(twice) if line.startswith("mixed")] == [
        "mixed: 2 stores (a.zarr, b.zarr) are all of the slide a",
        "mixed: 3 stores (a.zarr, b.zarr, c.zarr) hold the same slide: their content_hash is one",
    ]
    two_encoders = [ROW, replace(ROW, encoder="uni")]
    assert not [line for line in summary(two_encoders) if line.startswith("mixed")]


def test_what_is_not_complete_is_said() -> None:
    rows = [
        another(ROW, "b", complete=False),
        IndexRow("c.zarr", "c"),
        *(IndexRow(f"{number}.zarr", str(number), problem="x") for number in range(7)),
    ]
    assert summary(rows)[1:] == [
        "unfinished: b.zarr; `histograde extract` goes on with them",
        "without features: c.zarr",
        "cannot be read: 7 stores (0.zarr, 1.zarr, 2.zarr, 3.zarr, 4.zarr and 2 more); `histograde verify` says why",
    ]


def test_the_index_is_written_and_stays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("index", root) == 0
    said = capsys.readouterr().out
    assert "toy" in said
    assert said.splitlines()[-1] == f"1 stores, 1 of them read; {root / INDEX} written"
    before = (root / INDEX).read_bytes()
    assert code_of("index", root, "--rebuild") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"1 stores, 1 of them read; {root / INDEX} unchanged"
    assert (root / INDEX).read_bytes() == before
    assert sorted(part.name for part in root.iterdir()) == [STAMPS, INDEX, "small.zarr"]


def test_a_run_has_its_stores_inside(root: Path) -> None:
    run = root.parent / "run"
    shutil.copytree(root, run / "features")
    assert code_of("index", run) == 0
    assert (run / "features" / INDEX).is_file()


def test_without_pyarrow_the_table_is_shown(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert code_of("index", root) == 1
    said = capsys.readouterr()
    assert "toy" in said.out
    assert 'pip install "histograde[report]"' in said.err


def test_nothing_to_index_is_wrong_usage(tmp_path: Path) -> None:
    assert code_of("index", tmp_path) == 2
    assert code_of("index", tmp_path / "absent") == 2
