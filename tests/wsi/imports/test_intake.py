"""Taking features over: what arrives, what stays unknown, what is refused, and that a crash changes nothing."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from mil.bag import Bag, StoreBags
from mil.testing import toy_bag, toy_card, write_store
from tests.hostile.makers import flip
from tests.wsi.imports.makers import (
    NAME_OF_PATIENT,
    column_order,
    features_of,
    write_clam,
    write_clam_patches,
    write_stamp,
    write_stamp_1,
    write_trident,
)
from wsi.errors import (
    CorruptStoreError,
    MissingMppError,
    RecipeMismatchError,
    TooManyBadTilesError,
    UnreadableFeaturesError,
    UsageError,
)
from wsi.files import file_record
from wsi.imports import Hints
from wsi.imports.intake import NOT_FINITE, FeatureFile, import_features
from wsi.slide import SlideInfo
from wsi.store import FeatureStore
from wsi.store_repair import repair_slide
from wsi.store_writer import FeatureWriter, check_recipe
from wsi.tiles import TileSpec

COORDS = column_order()
FEATURES = features_of(len(COORDS))
READING_ORDER = [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
"""Rows of a file that lists 3 columns of 4 tiles each, when the slide is read line by line."""
SLIDE = SlideInfo(
    "s",
    "openslide",
    "aperio",
    ((40000, 30000),),
    (1.0,),
    (0.25, 0.25),
    "aperio.MPP",
    40.0,
    (0, 0, 40000, 30000),
    "ab" * 32,
)


def one(path: Path, tool: str = "trident", **changes) -> FeatureFile:
    return replace(FeatureFile("s", path, tool, "uni"), **changes)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        part.relative_to(folder).as_posix(): part.read_bytes() for part in sorted(folder.rglob("*")) if part.is_file()
    }


@pytest.fixture
def trident(tmp_path: Path) -> Path:
    return write_trident(tmp_path / "features_uni_v1" / "s.h5", FEATURES, COORDS, overlap=32)


def test_a_trident_file_arrives_in_reading_order(trident: Path, tmp_path: Path) -> None:
    done = import_features(tmp_path / "stores", one(trident))
    assert (done.tiles, done.bad, done.chunks, done.stated_encoder) == (12, 0, 1, "uni_v1")
    store = FeatureStore(tmp_path / "stores" / "s.zarr")
    assert store.verify() == []
    assert store.coords.tolist() == [[x, y] for y in (0, 512, 1024, 1536) for x in (0, 512, 1024)]
    assert np.array_equal(store.features("uni"), FEATURES[READING_ORDER])
    assert store.side_px0 == (512.0, 512.0)
    assert store.recipe["tiles"]["tile_px"] == 256
    assert store.recipe["tiles"]["stride_px"] == 224
    assert store.recipe["imported"]["target_magnification"] == 20


def test_what_the_file_does_not_say_is_unknown(trident: Path, tmp_path: Path) -> None:
    import_features(tmp_path / "stores", one(trident))
    store = FeatureStore(tmp_path / "stores" / "s.zarr")
    slide, card = store.slide, store.card("uni")
    assert slide.content_hash == "imported-1:" + file_record(trident)["sha256"]
    assert (slide.mpp, slide.level_sizes_px, slide.objective_power) == (None, (), None)
    assert (slide.reader, slide.mpp_source, slide.bounds_px0) == ("unknown", "unknown", (0, 0, 0, 0))
    for name in ("tile_px", "mpp", "mean", "std", "licence", "weights_sha256", "kernel", "source"):
        assert card[name] is None, name
    assert {name for name, value in store.recipe["tiles"].items() if value is None} == {"kernel", "min_tissue", "mpp"}
    assert store.recipe["tissue"] == {"method": None, "mpp": None}
    assert set(store.meta["tissue"].values()) == {None}
    assert np.isnan(store.tissue_fraction).all()
    for asked, of in (("grid", "tiles were cut"), ("tissue", "tissue"), ("tissue_area_um2", "area")):
        with pytest.raises(RecipeMismatchError, match=f"{of}.* unknown.* imported from trident"):
            getattr(store, asked)


def test_no_name_of_a_person_and_no_path_is_kept(trident: Path, tmp_path: Path) -> None:
    import_features(tmp_path / "stores", one(trident))
    kept = b"".join(contents(tmp_path / "stores").values())
    assert b"level0_magnification" in kept
    assert NAME_OF_PATIENT.encode() not in kept
    assert b"/data" not in kept


def test_a_leading_axis_is_taken_off(tmp_path: Path) -> None:
    path = write_trident(tmp_path / "s.h5", FEATURES[None], COORDS)
    import_features(tmp_path / "stores", one(path))
    assert np.array_equal(FeatureStore(tmp_path / "stores" / "s.zarr").features("uni"), FEATURES[READING_ORDER])


@pytest.mark.parametrize(("stored", "kept"), [(np.float16, "float16"), (np.float64, "float32"), (">f4", "float32")])
def test_numbers_of_other_kinds(tmp_path: Path, stored: object, kept: str) -> None:
    path = write_trident(tmp_path / "s.h5", FEATURES.astype(stored), COORDS)
    import_features(tmp_path / "stores", one(path))
    found = FeatureStore(tmp_path / "stores" / "s.zarr").features("uni")
    assert found.dtype == kept
    assert np.array_equal(found, FEATURES.astype(kept)[READING_ORDER])


def test_with_the_slide_its_hash_size_and_scale_are_known(trident: Path, tmp_path: Path) -> None:
    import_features(tmp_path / "stores", one(trident, slide=SLIDE))
    store = FeatureStore(tmp_path / "stores" / "s.zarr")
    assert store.slide == SLIDE
    assert Bag.from_store(store, "uni").coords_um[4].tolist() == [128, 128]  # 512 px at 0.25 um


def test_a_slide_without_pixel_size_leaves_it_unknown(trident: Path, tmp_path: Path) -> None:
    import_features(tmp_path / "stores", one(trident, slide=replace(SLIDE, mpp=(0.0, 0.0))))
    assert FeatureStore(tmp_path / "stores" / "s.zarr").slide.mpp is None


def test_without_pixel_size_a_bag_has_features_and_no_places(trident: Path, tmp_path: Path) -> None:
    import_features(tmp_path / "stores", one(trident))
    bag = Bag.from_store(FeatureStore(tmp_path / "stores" / "s.zarr"), "uni")
    assert len(bag) == 12
    assert np.isnan(bag.coords_um).all()


def test_two_encoders_of_a_slide_share_its_store(trident: Path, tmp_path: Path) -> None:
    other = write_trident(tmp_path / "features_conch" / "s.h5", features_of(12, 7, seed=1), COORDS, overlap=32)
    import_features(tmp_path / "stores", one(trident, slide=SLIDE))
    import_features(tmp_path / "stores", one(other, slide=SLIDE, encoder="conch"))
    store = FeatureStore(tmp_path / "stores" / "s.zarr")
    assert store.encoders == ["conch", "uni"]
    assert store.verify() == []


class TestClam:
    def test_without_patches_the_size_of_tiles_is_unknown(self, tmp_path: Path) -> None:
        path = write_clam(tmp_path / "h5_files" / "s.h5", FEATURES, COORDS)
        import_features(tmp_path / "stores", one(path, "clam"))
        store = FeatureStore(tmp_path / "stores" / "s.zarr")
        assert np.array_equal(store.features("uni"), FEATURES[READING_ORDER])
        assert store.side_px0 == (0.0, 0.0)
        assert set(store.recipe["tiles"].values()) == {None}
        assert store.verify() == []

    def test_patches_say_how_tiles_were_cut(self, tmp_path: Path) -> None:
        path = write_clam(tmp_path / "h5_files" / "s.h5", FEATURES, COORDS)
        patches = write_clam_patches(tmp_path / "patches" / "s.h5", COORDS, 256, level=1)
        import_features(tmp_path / "stores", one(path, "clam", patches=patches))
        store = FeatureStore(tmp_path / "stores" / "s.zarr")
        assert store.side_px0 == (1024.0, 1024.0)  # 256 px of a level at 1/4
        assert store.recipe["tiles"]["tile_px"] == 256
        assert store.recipe["imported"]["patch_level"] == 1

    def test_patches_of_another_slide_are_refused(self, tmp_path: Path) -> None:
        path = write_clam(tmp_path / "h5_files" / "s.h5", FEATURES, COORDS)
        patches = write_clam_patches(tmp_path / "patches" / "s.h5", COORDS + 1)
        with pytest.raises(UnreadableFeaturesError, match="not those of the features"):
            import_features(tmp_path / "stores", one(path, "clam", patches=patches))


class TestStamp:
    UM = COORDS * 0.5  # 256 um apart, as tiles are wide

    def test_places_in_um_become_pixels(self, tmp_path: Path) -> None:
        path = write_stamp(tmp_path / "s.h5", FEATURES, self.UM)
        import_features(tmp_path / "stores", one(path, "stamp", mpp=(0.5, 0.5)))
        store = FeatureStore(tmp_path / "stores" / "s.zarr")
        assert store.coords.tolist() == COORDS[READING_ORDER].tolist()
        assert store.side_px0 == (512.0, 512.0)
        tiles = store.recipe["tiles"]
        assert (tiles["tile_px"], tiles["stride_px"], tiles["mpp"]) == (224, 224, 256 / 224)
        assert (store.slide.mpp, store.slide.mpp_source) == ((0.5, 0.5), "user")
        assert store.features("uni").dtype == np.float16

    def test_2_0_states_the_size_in_um_only(self, tmp_path: Path) -> None:
        path = write_stamp(tmp_path / "s.h5", FEATURES, self.UM, version="2.0.0")
        import_features(tmp_path / "stores", one(path, "stamp", slide=SLIDE))
        store = FeatureStore(tmp_path / "stores" / "s.zarr")
        assert store.side_px0 == (1024.0, 1024.0)  # 256 um at 0.25 um/px
        assert store.recipe["tiles"]["tile_px"] is None

    def test_without_pixel_size_it_is_refused(self, tmp_path: Path) -> None:
        path = write_stamp(tmp_path / "s.h5", FEATURES, self.UM)
        with pytest.raises(MissingMppError, match="--slide-mpp"):
            import_features(tmp_path / "stores", one(path, "stamp"))
        assert not (tmp_path / "stores").exists()

    def test_before_2_0_the_user_says_what_the_file_leaves_open(self, tmp_path: Path) -> None:
        flags = np.arange(12) == 11
        row_column = COORDS[:, ::-1] // 512 * 224
        path = write_stamp_1(tmp_path / "s.h5", FEATURES, row_column, flags)
        with pytest.raises(UsageError, match="--tile-mpp.*--axes"):
            import_features(tmp_path / "stores", one(path, "stamp", mpp=(0.5, 0.5)))
        hints = Hints(256 / 224, "yx")
        done = import_features(tmp_path / "stores", one(path, "stamp", mpp=(0.5, 0.5), hints=hints))
        assert done.tiles == 11  # one row was an augmented copy
        store = FeatureStore(tmp_path / "stores" / "s.zarr")
        assert store.coords.tolist() == COORDS[READING_ORDER[:-1]].tolist()
        assert store.card("uni")["imported"]["rows_left_out"] == 1

    def test_features_of_a_slide_are_no_tiles(self, tmp_path: Path) -> None:
        path = write_stamp(tmp_path / "s.h5", FEATURES, self.UM)
        with h5py.File(path, "a") as file:
            file.attrs["feat_type"] = "slide"
        with pytest.raises(UnreadableFeaturesError, match="whole slide"):
            import_features(tmp_path / "stores", one(path, "stamp", mpp=(0.5, 0.5)))


def test_features_that_are_no_numbers_make_bad_tiles(tmp_path: Path) -> None:
    features = FEATURES.copy()
    features[4, 2] = np.nan  # row 4 of the file is row 1 of the grid
    features[11, 0] = np.inf
    path = write_trident(tmp_path / "s.h5", features, COORDS)
    done = import_features(tmp_path / "stores", one(path))
    assert done.bad == 2
    store = FeatureStore(tmp_path / "stores" / "s.zarr")
    assert [(bad.row, bad.reason) for bad in store.bad_tiles("uni")] == [(1, NOT_FINITE), (11, NOT_FINITE)]
    assert len(Bag.from_store(store, "uni")) == 10
    assert store.verify() == []


def test_a_chunk_may_hold_nothing_but_bad_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = features_of(1200)
    features[:520] = np.nan
    path = write_trident(tmp_path / "s.h5", features, column_order(1, 1200, 20))
    monkeypatch.setattr("wsi.imports.h5_file.WHOLE_BYTES", 0)
    assert import_features(tmp_path / "stores", one(path, max_bad=0.5)).bad == 520
    store = FeatureStore(tmp_path / "stores" / "s.zarr")
    assert np.array_equal(store.features("uni"), features[520:])


def test_too_many_of_them_are_refused(tmp_path: Path) -> None:
    features = FEATURES.copy()
    features[:3] = np.nan
    path = write_trident(tmp_path / "s.h5", features, COORDS)
    with pytest.raises(TooManyBadTilesError, match="3 of 12"):
        import_features(tmp_path / "stores", one(path))
    assert not (tmp_path / "stores").exists()
    assert import_features(tmp_path / "stores", one(path, max_bad=0.25)).bad == 3


@pytest.mark.parametrize(
    ("coords", "changes", "said"),
    [
        (COORDS - 1, {}, "outside"),
        (COORDS + 40000 - 1024, {}, "4 of 12|8 of 12|outside"),
        (COORDS + (1 << 22), {"level0_width": None}, "outside"),
        (COORDS, {"level0_width": 39999}, "is of a slide of 39999 x 30000 px"),
    ],
)
def test_places_outside_of_the_slide_are_refused(tmp_path: Path, coords, changes, said: str) -> None:
    path = write_trident(tmp_path / "s.h5", FEATURES, coords, **changes)
    linked = SLIDE if changes.get("level0_width") else None
    with pytest.raises(UnreadableFeaturesError, match=said):
        import_features(tmp_path / "stores", one(path, slide=linked))


def test_again_is_nothing_and_the_bytes_are_the_same(trident: Path, tmp_path: Path) -> None:
    import_features(tmp_path / "a", one(trident))
    import_features(tmp_path / "b", one(trident))
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert import_features(tmp_path / "a", one(trident)).chunks == 0
    assert contents(tmp_path / "a") == first


def test_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coords = column_order(40, 30, 256)  # 1,200 tiles: three chunks
    path = write_trident(tmp_path / "s.h5", features_of(1200), coords)
    import_features(tmp_path / "whole", one(path))
    write, wrote = FeatureWriter.write, []

    def dies(self, chunk, *rest):
        if wrote == [0, 1]:
            raise KeyboardInterrupt
        wrote.append(chunk)
        write(self, chunk, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(FeatureWriter, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            import_features(tmp_path / "cut", one(path))
    assert FeatureStore(tmp_path / "cut" / "s.zarr").encoders == []
    assert import_features(tmp_path / "cut", one(path)).chunks == 1
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


@pytest.mark.parametrize("damaged", ["features/uni/values/c/0/0", "coords/c/0/0", "zarr.json"])
def test_damage_is_repaired_from_the_file(trident: Path, tmp_path: Path, damaged: str) -> None:
    import_features(tmp_path / "stores", one(trident))
    before = contents(tmp_path / "stores")
    flip(tmp_path / "stores" / "s.zarr" / damaged, 9)
    import_features(tmp_path / "stores", one(trident))
    assert contents(tmp_path / "stores") == before


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        ("zarr.json", "its grid is damaged (zarr.json): import makes it again and keeps the features"),
        ("coords/c/0/0", "its grid is damaged (coords/c/0/0): import makes it again and keeps the features"),
        ("features/uni/zarr.json", "uni is damaged (zarr.json): import computes it again"),
        ("features/uni/values/c/0/0", "uni for import"),
    ],
)
def test_import_is_named_as_the_cure(trident: Path, tmp_path: Path, damaged: str, said: str) -> None:
    import_features(tmp_path / "stores", one(trident))
    before = contents(tmp_path / "stores")
    flip(tmp_path / "stores" / "s.zarr" / damaged, 9)
    if "/c/" in damaged:
        store = FeatureStore(tmp_path / "stores" / "s.zarr")
        with pytest.raises(CorruptStoreError, match="run `histograde import` on its file again to repair it"):
            _ = store.coords, store.features("uni")
    assert repair_slide(tmp_path / "stores", "s").left == [said]
    import_features(tmp_path / "stores", one(trident))
    assert contents(tmp_path / "stores") == before


def test_large_files_are_read_by_rows(trident: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_features(tmp_path / "whole", one(trident))
    monkeypatch.setattr("wsi.imports.h5_file.WHOLE_BYTES", 0)
    import_features(tmp_path / "rows", one(trident))
    assert contents(tmp_path / "rows") == contents(tmp_path / "whole")


class TestNothingIsMixed:
    def test_another_file_of_the_same_slide(self, trident: Path, tmp_path: Path) -> None:
        other = write_trident(tmp_path / "other" / "s.h5", features_of(12, seed=1), COORDS, overlap=32)
        import_features(tmp_path / "alone", one(trident))
        with pytest.raises(RecipeMismatchError, match="imported-1:"):
            import_features(tmp_path / "alone", one(other))
        import_features(tmp_path / "linked", one(trident, slide=SLIDE))
        with pytest.raises(RecipeMismatchError, match="file_sha256"):
            import_features(tmp_path / "linked", one(other, slide=SLIDE))

    def test_tiles_that_lie_elsewhere(self, trident: Path, tmp_path: Path) -> None:
        other = write_trident(tmp_path / "other" / "s.h5", FEATURES, COORDS + 7, overlap=32)
        import_features(tmp_path / "stores", one(trident, slide=SLIDE))
        with pytest.raises(RecipeMismatchError, match="lie elsewhere"):
            import_features(tmp_path / "stores", one(other, slide=SLIDE, encoder="conch"))

    def test_an_extraction_of_the_same_slide(self, trident: Path, tmp_path: Path) -> None:
        import_features(tmp_path / "stores", one(trident, slide=SLIDE))
        store = FeatureStore(tmp_path / "stores" / "s.zarr")
        recipe = {"tiles": TileSpec(256, 0.5, 224).to_dict(), "tissue": {"method": "optical-density-1", "mpp": 8.0}}
        with pytest.raises(RecipeMismatchError, match=r"tiles\.mpp = None"):
            check_recipe(store, SLIDE, recipe)

    def test_a_bag_of_ours(self, trident: Path, tmp_path: Path) -> None:
        import_features(tmp_path / "stores", one(trident))
        ours = write_store(tmp_path / "ours", "t", toy_bag(6).features, toy_card("uni"))
        stores = [ours, FeatureStore(tmp_path / "stores" / "s.zarr")]
        for pair in (stores, stores[::-1]):
            with pytest.raises(RecipeMismatchError, match="extract all slides in one way"):
                StoreBags(pair, "uni")

    def test_files_that_call_their_encoder_otherwise(self, trident: Path, tmp_path: Path) -> None:
        with pytest.raises(RecipeMismatchError, match="'uni_v1', that of the files before is 'conch_v1'"):
            import_features(tmp_path / "stores", one(trident), "conch_v1")

    def test_bags_of_files_that_call_it_otherwise(self, trident: Path, tmp_path: Path) -> None:
        other = write_trident(tmp_path / "t.h5", FEATURES, COORDS, overlap=32, encoder="conch_v1")
        import_features(tmp_path / "stores", one(trident))
        import_features(tmp_path / "stores", one(other, slide_id="t"))
        stores = [FeatureStore(tmp_path / "stores" / f"{name}.zarr") for name in "st"]
        with pytest.raises(RecipeMismatchError, match="stated_encoder is conch_v1, but uni_v1"):
            StoreBags(stores, "uni")

    def test_bags_of_one_cohort_go_together(self, trident: Path, tmp_path: Path) -> None:
        other = write_trident(
            tmp_path / "t.h5", FEATURES, COORDS, overlap=32, level0_magnification=20, patch_size_level0=256
        )
        import_features(tmp_path / "stores", one(trident))
        import_features(tmp_path / "stores", one(other, slide_id="t"))
        bags = StoreBags([FeatureStore(tmp_path / "stores" / f"{name}.zarr") for name in "st"], "uni")
        assert len(bags) == 2
        assert "file_sha256" not in bags.card


def test_the_description_has_null_and_not_nan(trident: Path, tmp_path: Path) -> None:
    import_features(tmp_path / "stores", one(trident))
    text = (tmp_path / "stores" / "s.zarr" / "zarr.json").read_text()
    json.loads(text, parse_constant=pytest.fail)
    assert '"kernel": null' in text
