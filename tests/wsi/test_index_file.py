"""The index as a file: its bytes, and that nothing but a sound one is believed."""

import json
import sys
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import pytest

from wsi.errors import MissingPackageError
from wsi.index_file import (
    COLUMNS,
    INDEX,
    STAMPS,
    IndexRow,
    from_parquet,
    read_index,
    read_slide_ids,
    to_parquet,
    write_index,
)

parquet = pytest.importorskip("pyarrow.parquet")

WHOLE = IndexRow(
    store="a.zarr",
    slide_id="a",
    content_hash="ab" * 32,
    mpp_x=0.25,
    mpp_y=0.26,
    reader="openslide",
    vendor="aperio",
    tiles=700,
    encoder="toy",
    complete=True,
    bad_tiles=3,
    dim=12,
    dtype="float16",
    weights_sha256="none",
    tile_px=224,
    mpp=0.5,
    stride_px=224,
    min_tissue=0.5,
    kernel="area",
    grid_sha256="cd" * 32,
    feature_bytes=24584,
)
BARE = IndexRow("Präparat <1>.zarr", "Präparat <1>", problem="cannot be read")
STAMP = {".": [10, 11], "toy": [12, 13]}


def test_rows_come_back_as_they_were() -> None:
    assert from_parquet(to_parquet([WHOLE, BARE])) == [WHOLE, BARE]
    assert from_parquet(to_parquet([])) == []
    assert to_parquet([WHOLE, BARE]) == to_parquet([replace(WHOLE), replace(BARE)])


def test_any_parquet_reader_sees_the_columns(tmp_path: Path) -> None:
    write_index(tmp_path, [WHOLE, BARE], {})
    table = parquet.read_table(tmp_path / INDEX)
    assert table.column_names == list(COLUMNS)
    assert table.to_pylist()[0] == asdict(WHOLE)
    assert table.schema.metadata == {b"format": b"histograde-index", b"format_version": b"1"}


def test_what_was_written_is_known_with_its_stamp(tmp_path: Path) -> None:
    assert write_index(tmp_path, [WHOLE, BARE], {"a.zarr": STAMP})
    assert read_index(tmp_path) == {"a.zarr": (STAMP, [WHOLE])}, "a store without a stamp is to be read"
    assert not write_index(tmp_path, [WHOLE, BARE], {"a.zarr": STAMP})
    assert sorted(part.name for part in tmp_path.iterdir()) == [STAMPS, INDEX]


def test_stamps_do_not_enter_the_index(tmp_path: Path) -> None:
    write_index(tmp_path, [WHOLE], {"a.zarr": STAMP})
    before = (tmp_path / INDEX).read_bytes()
    assert not write_index(tmp_path, [WHOLE], {"a.zarr": {".": [1, 1]}})
    assert (tmp_path / INDEX).read_bytes() == before


def test_a_damaged_index_is_none(tmp_path: Path) -> None:
    write_index(tmp_path, [WHOLE], {"a.zarr": STAMP})
    whole = {name: (tmp_path / name).read_bytes() for name in (INDEX, STAMPS)}
    for name, data in whole.items():
        for place in range(0, len(data), 7):
            (tmp_path / name).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            known = read_index(tmp_path)
            assert read_slide_ids(tmp_path) == {name: (stamp, "a") for name, (stamp, _) in known.items()}
            assert all(rows == [WHOLE] for _, rows in known.values()), (name, place)
        for torn in (b"", data[: len(data) // 2]):
            (tmp_path / name).write_bytes(torn)
            assert read_index(tmp_path) == read_slide_ids(tmp_path) == {}
        (tmp_path / name).unlink()
        assert read_index(tmp_path) == {}
        (tmp_path / name).write_bytes(data)
    assert read_index(tmp_path)


def test_an_index_of_another_kind_is_none(tmp_path: Path) -> None:
    def put(data: bytes, **changes: object) -> None:
        kept = {"format_version": 1, "index_sha256": sha256(data).hexdigest(), "stores": {"a.zarr": STAMP}}
        (tmp_path / INDEX).write_bytes(data)
        (tmp_path / STAMPS).write_text(json.dumps(kept | changes))

    put(to_parquet([WHOLE]))
    assert read_index(tmp_path)
    put(to_parquet([WHOLE]), format_version=2)
    assert not read_index(tmp_path)
    table = parquet.read_table(tmp_path / INDEX)
    for other in (table.drop(["mpp"]), table.replace_schema_metadata({"format": "histograde-index"})):
        parquet.write_table(other, tmp_path / "other")
        put((tmp_path / "other").read_bytes())
        assert not read_index(tmp_path)
    put(b"PAR1 but not really")
    assert not read_index(tmp_path)
    for stores in ([], None, 7):
        put(to_parquet([WHOLE]), stores=stores)
        assert not read_index(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"tiles": "7"}, {"tiles": 2**63}, {"tiles": True}, {"mpp": "x"}, {"reader": 3}, {"vendor": "\ud800"}]
)
def test_a_value_of_another_kind_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        replace(WHOLE, **wrong)
    assert replace(WHOLE, mpp=1).mpp == 1.0


def test_without_pyarrow_there_is_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_index(tmp_path, [WHOLE], {"a.zarr": STAMP})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert read_index(tmp_path) == {}
    with pytest.raises(MissingPackageError, match=r'pip install "histograde\[report\]"'):
        write_index(tmp_path, [WHOLE], {})
