"""Reading stores: what is there, and that no damage reads as a number."""

import json
import random
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from tests.hostile.makers import flip
from wsi.errors import CorruptStoreError, RecipeMismatchError, UsageError, WsiError
from wsi.files import folder_records, write_json
from wsi.store import FeatureStore, open_stores, store_path

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(small_store, tmp_path):
    """A copy of a sound store that may be damaged."""
    return Path(shutil.copytree(small_store, tmp_path / small_store.name))


def everything(path):
    """All numbers and words that a store gives."""
    store = FeatureStore(path)
    grid, tissue = store.grid, store.tissue
    values = [grid.coords, grid.tissue_fraction, grid.side_px0, tissue.mask, tissue.downsample, store.tissue_area_um2]
    values += [store.slide, store.recipe, store.encoders, store.meta]
    for encoder in store.encoders:
        rows = np.arange(len(grid))
        values += [store.features(encoder), store.features(encoder, rows), store.good_rows(encoder)]
        values += [store.bad_tiles(encoder), store.card(encoder), store.encoder_meta(encoder)]
    return values


def same(one, other):
    return all(
        np.array_equal(a, b, equal_nan=True) if isinstance(a, np.ndarray) else a == b
        for a, b in zip(one, other, strict=True)
    )


def files_of(path):
    return sorted(part for part in path.rglob("*") if part.is_file())


def test_the_features_are_those_of_the_tiles(small_store, small_svs):
    from mil.encoders.toy import colour_statistics
    from wsi.slide import open_slide
    from wsi.tiles import TileReader

    store = FeatureStore(small_store)
    slide = open_slide(small_svs)
    assert store.slide == slide.info
    batch = TileReader(slide, store.grid).read(np.arange(len(store.grid)))
    expected = colour_statistics(batch.pixels).astype(np.float16)
    np.testing.assert_array_equal(store.features("toy"), expected)
    np.testing.assert_array_equal(store.features("toy", np.array([7, 2, 2])), expected[[7, 2, 2]])
    assert store.features("toy", np.array([], np.int64)).shape == (0, expected.shape[1])
    assert store.encoders == ["toy"]
    assert store.bad_tiles("toy") == []
    assert store.verify() == []
    assert (store.grid.tissue_fraction >= 0.5).all()
    slide.close()


def test_any_zarr_reader_sees_the_same_numbers(small_store):
    group = zarr.open_group(small_store, mode="r")
    store = FeatureStore(small_store)
    np.testing.assert_array_equal(np.asarray(group["features/toy/values"]), store.features("toy"))
    np.testing.assert_array_equal(np.asarray(group["coords"]), store.grid.coords)


def test_rows_that_do_not_exist_are_an_error(small_store):
    store = FeatureStore(small_store)
    for row in (-1, len(store.grid)):
        with pytest.raises(IndexError):
            store.features("toy", np.array([row]))
    with pytest.raises(CorruptStoreError, match="no complete features by 'lite0' .there are: toy"):
        store.features("lite0")


def test_a_flipped_byte_is_named_and_never_read(store, small_store):
    expected = everything(small_store)
    for file in files_of(store):
        where = file.relative_to(store).as_posix()
        if where in (".source.json", "features/zarr.json"):
            continue  # a cache key, and an empty group
        before = file.read_bytes()
        flip(file, len(before) // 2, bit=3)
        try:
            damage = [one.where for one in FeatureStore(store).verify()]
        except CorruptStoreError as error:
            damage = [str(error)]
        named = (where, Path(where).name) if file.name != "manifest.json" else ("features/toy", "c/0", "json")
        assert any(name in one for one in damage for name in named), (where, damage)
        with suppress(CorruptStoreError):
            assert same(everything(store), expected), where
        file.write_bytes(before)
    assert same(everything(store), expected)


def test_a_damaged_chunk_spoils_no_other(store):
    chunk = store / "features" / "toy" / "values" / "c" / "1" / "0"
    flip(chunk, 10)
    reader = FeatureStore(store)
    with pytest.raises(CorruptStoreError, match=r"features/toy/values/c/1/0 differs from its checksum"):
        reader.features("toy")
    assert np.isfinite(reader.features("toy", np.arange(4))).all()
    chunk.unlink()
    with pytest.raises(CorruptStoreError, match=r"values/c/1/0 is missing"):
        FeatureStore(store).features("toy")
    assert [one.where for one in FeatureStore(store).verify()] == ["features/toy/values/c/1/0"]


def test_a_chunk_of_other_features_is_refused_although_its_own_checksum_agrees(store):
    chunks = store / "features" / "toy" / "values" / "c"
    shutil.copyfile(chunks / "0" / "0", chunks / "1" / "0")
    assert np.isfinite(np.asarray(zarr.open_array(chunks.parent, mode="r")[4:8])).all()
    with pytest.raises(CorruptStoreError, match=r"features/toy/values/c/1/0 differs from its checksum"):
        FeatureStore(store).features("toy", np.arange(4, 8))


def test_the_manifest_has_the_checksum_that_each_chunk_ends_in(store):
    folder = store / "features" / "toy"
    files = json.loads((folder / "manifest.json").read_bytes())["files"]
    chunks = {name: record for name, record in files.items() if name.startswith("values/c/")}
    assert len(chunks) > 1
    for name, record in chunks.items():
        assert record["crc32c"] == int.from_bytes((folder / name).read_bytes()[-4:], "little")
    chunks["values/c/1/0"]["crc32c"] ^= 1
    (folder / "manifest.json").write_text(json.dumps({"files": files}))
    with pytest.raises(CorruptStoreError, match=r"values/c/1/0 differs"):
        FeatureStore(store).features("toy")
    assert [one.where for one in FeatureStore(store).verify()] == ["features/toy/values/c/1/0"]


def rewritten(store, compressors):
    """Store the features anew with other codecs, and the manifest that goes with them."""
    folder = store / "features" / "toy"
    values = np.asarray(zarr.open_array(folder / "values", mode="r")[...])
    shutil.rmtree(folder / "values")
    array = zarr.create_array(
        folder / "values", shape=values.shape, dtype=values.dtype, chunks=(4, values.shape[1]), compressors=compressors
    )
    array[...] = values
    (folder / "manifest.json").write_text(json.dumps({"files": folder_records(folder)}))


@pytest.mark.parametrize("array", ["coords", "tissue", "tissue_fraction", "features/toy/bad"])
@pytest.mark.parametrize("file", ["zarr.json", "chunk"])
def test_damage_of_a_small_array_is_named_on_the_first_read(store, array, file):
    path = next((store / array / "c").rglob("0")) if file == "chunk" else store / array / file
    path = path / "0" if path.is_dir() else path
    flip(path, path.stat().st_size // 2)
    named = path.relative_to(store).as_posix()
    with pytest.raises(CorruptStoreError, match=f"{named} differs from its checksum"):
        everything(store)
    path.unlink()
    with pytest.raises(CorruptStoreError, match=f"{named} is missing"):
        everything(store)


def test_a_small_array_that_changes_under_an_open_store_is_noticed(store):
    reader = FeatureStore(store)
    before = reader.coords
    flip(store / "coords/c/0/0", 20)
    with pytest.raises(CorruptStoreError, match="coords/c/0/0 differs from its checksum"):
        _ = reader.coords
    flip(store / "coords/c/0/0", 20)
    np.testing.assert_array_equal(reader.coords, before)


def test_small_arrays_with_other_codecs_are_read_through_zarr(store, small_store):
    expected = FeatureStore(small_store).coords
    shutil.rmtree(store / "coords")
    half = -(-len(expected) // 2)
    array = zarr.create_array(store / "coords", shape=expected.shape, dtype=expected.dtype, chunks=(half, 2))
    array[...] = expected
    listed = json.loads((store / "manifest.json").read_bytes())["files"]
    kept = {name: record for name, record in listed.items() if not name.startswith("coords/")}
    new = {name: record for name, record in folder_records(store).items() if name.startswith("coords/")}
    assert "coords/c/1/0" in new
    write_json(store / "manifest.json", {"files": kept | new})
    np.testing.assert_array_equal(FeatureStore(store).coords, expected)
    flip(store / "coords/c/1/0", 3)
    with pytest.raises(CorruptStoreError, match="coords/c/1/0 differs from its checksum"):
        _ = FeatureStore(store).coords


def test_features_that_are_not_kept_are_the_same(store):
    reader = FeatureStore(store)
    for rows in (None, np.array([7, 2, 2])):
        np.testing.assert_array_equal(reader.features("toy", rows, keep=False), reader.features("toy", rows))


def test_features_with_other_codecs_are_read_through_zarr(store, small_store):
    rewritten(store, [ZstdCodec(), Crc32cCodec()])
    found, expected = FeatureStore(store), FeatureStore(small_store)
    for rows in (None, np.array([7, 2, 2]), np.array([], np.int64)):
        np.testing.assert_array_equal(found.features("toy", rows), expected.features("toy", rows))
    flip(store / "features" / "toy" / "values" / "c" / "1" / "0", 20)
    with pytest.raises(CorruptStoreError, match=r"values/c/1/0 differs from its checksum"):
        FeatureStore(store).features("toy")


def test_features_published_anew_are_seen_by_a_store_that_is_open(store):
    reader = FeatureStore(store)
    before = reader.features("toy")
    folder = store / "features" / "toy"
    array = zarr.open_array(folder / "values", mode="r+")
    array[...] = before + 1
    with pytest.raises(CorruptStoreError, match="differs from its checksum"):
        reader.features("toy")
    write_json(folder / "manifest.json", {"files": folder_records(folder)})
    np.testing.assert_array_equal(reader.features("toy"), before + 1)


def test_random_damage_is_detected_or_harmless(store, small_store):
    expected = everything(small_store)
    chance = random.Random(20261121)
    files = files_of(store)
    for _ in range(250):
        file = chance.choice(files)
        before = file.read_bytes()
        kind = chance.choice(("flip", "flip", "cut", "grow", "zero", "delete"))
        place = chance.randrange(len(before))
        changed = bytearray(before)
        if kind == "flip":
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == "zero":
            changed[place : place + 64] = bytes(len(changed[place : place + 64]))
        elif kind == "cut":
            del changed[place:]
        elif kind == "grow":
            changed[place:place] = b"7"
        file.unlink()
        if kind != "delete":
            file.write_bytes(changed)
        with suppress(WsiError):
            assert same(everything(store), expected), (file, kind, place)
        file.write_bytes(before)


def test_files_of_others_are_reported_and_disturb_nothing(store):
    (store / "features" / "toy" / "values" / "Thumbs.db").write_bytes(b"x")
    (store / ".DS_Store").write_bytes(b"x")
    found = FeatureStore(store).verify()
    assert [(one.where, one.what[:22]) for one in found] == [
        ("features/toy/values/Thumbs.db", "is not in the manifest")
    ]
    assert np.isfinite(FeatureStore(store).features("toy")).all()


def test_a_newer_format_is_refused_by_its_number(store):
    text = (store / "zarr.json").read_text().replace('"format_version": 1', '"format_version": 2')
    (store / "zarr.json").write_text(text)
    with pytest.raises(RecipeMismatchError, match=r"format version 2, this program reads 1; use a newer"):
        FeatureStore(store)


def test_stores_are_found_by_slide(store, tmp_path):
    assert list(open_stores(tmp_path)) == list(open_stores(store)) == ["small"]
    with pytest.raises(UsageError, match="no feature store"):
        open_stores(tmp_path / "nowhere")
    shutil.copytree(store, tmp_path / "copy.zarr")
    with pytest.raises(UsageError, match="both of small"):
        open_stores(tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\0b", "a\nb"])
def test_a_slide_id_is_one_plain_file_name(name, tmp_path):
    with pytest.raises(UsageError, match="cannot be a file name"):
        store_path(tmp_path, name)
    assert store_path(tmp_path, "Präparat <1> & 2").name == "Präparat <1> & 2.zarr"


def test_version_1_is_read_for_ever():
    """`tests/data/store_v1` was made once by `tests/data/make_store_v1.py`, and must never be made again."""
    folder = REPOSITORY / "tests" / "data" / "store_v1"
    expected = json.loads((folder / "expected.json").read_bytes())
    store = FeatureStore(folder / "v1.zarr")
    assert store.verify() == []
    assert store.slide.content_hash == expected["content_hash"]
    assert store.slide.mpp == tuple(expected["mpp"])
    assert store.recipe == expected["recipe"]
    assert store.grid.coords.tolist() == expected["coords"]
    assert store.tissue_area_um2 == expected["tissue_area_um2"]
    assert store.tissue.mask.sum() == expected["tissue_pixels"]
    assert [[one.row, one.reason] for one in store.bad_tiles("toy")] == expected["bad"]
    assert store.features("toy").astype(float).tolist() == expected["features"]
    assert store.card("toy")["weights_sha256"] == "none"
