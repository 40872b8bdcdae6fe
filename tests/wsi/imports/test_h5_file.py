"""Hostile and damaged HDF5 files: one line that says what is wrong, and no byte of another file."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.wsi.imports.makers import column_order, features_of, write_trident
from wsi.errors import NoTissueError, UnreadableFeaturesError
from wsi.imports.h5_file import FeatureRows, open_h5, read_places

COORDS = column_order()
FEATURES = features_of(len(COORDS))


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return write_trident(tmp_path / "s.h5", FEATURES, COORDS)


def look(path: Path) -> np.ndarray:
    """Read all that a reader would."""
    with open_h5(path) as file:
        values = FeatureRows(file, "features")
        read_places(file, "coords", len(values))
        file.attributes("coords")
        file.attributes("features")
        return values.read(np.arange(len(values)))


def make(path: Path, **datasets: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


def test_a_sound_file(sound: Path) -> None:
    assert np.array_equal(look(sound), FEATURES)


def test_rows_in_any_order(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsi.imports.h5_file.WHOLE_BYTES", 0)
    rows = np.array([7, 8, 9, 0, 3, 2, 11])
    with open_h5(sound) as file:
        assert np.array_equal(FeatureRows(file, "features").read(rows), FEATURES[rows])


@pytest.mark.parametrize(
    ("datasets", "said"),
    [
        ({"coords": COORDS}, r"no dataset 'features' \(there are: coords\)"),
        ({"features": FEATURES}, "no dataset 'coords'"),
        ({}, "there are: nothing"),
        ({"features": FEATURES[:, 0], "coords": COORDS}, "features of single tiles"),
        ({"features": FEATURES[None, None], "coords": COORDS}, "features of single tiles"),
        ({"features": FEATURES[:, :0], "coords": COORDS}, "12 tiles of 0 numbers"),
        ({"features": FEATURES, "coords": COORDS[:11]}, "there are features of 12 tiles"),
        ({"features": FEATURES, "coords": COORDS.ravel()}, "there are features of 12 tiles"),
        ({"features": FEATURES, "coords": np.full((12, 2), np.nan)}, "not numbers"),
        ({"features": FEATURES.astype(int), "coords": COORDS}, "expected plain numbers"),
        ({"features": FEATURES.astype("S4"), "coords": COORDS}, "expected plain numbers"),
        ({"features": FEATURES.astype(complex), "coords": COORDS}, "expected plain numbers"),
    ],
)
def test_wrong_contents(tmp_path: Path, datasets: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(UnreadableFeaturesError, match=rf"^s\.h5: .*{said}"):
        look(make(tmp_path / "s.h5", **datasets))


def test_no_tile_is_no_fault(tmp_path: Path) -> None:
    with pytest.raises(NoTissueError, match="no tile"):
        look(make(tmp_path / "s.h5", features=FEATURES[:0], coords=COORDS[:0]))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_no_hdf5(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "s.h5").write_bytes(data)
    with pytest.raises(UnreadableFeaturesError, match=r"^s\.h5: cannot be opened as HDF5"):
        look(tmp_path / "s.h5")


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_file_that_was_cut_short(sound: Path, share: float) -> None:
    data = sound.read_bytes()
    sound.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadableFeaturesError):
        look(sound)


def test_a_group_or_a_named_type_is_no_array(tmp_path: Path) -> None:
    for make_other in (
        lambda file: file.create_group("features"),
        lambda file: file.__setitem__("features", np.dtype("f4")),
    ):
        with h5py.File(tmp_path / "s.h5", "w") as file:
            make_other(file)
        with pytest.raises(UnreadableFeaturesError, match="not an array"):
            look(tmp_path / "s.h5")


def test_an_empty_dataspace_is_no_array(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["features"] = h5py.Empty("f4")
    with pytest.raises(UnreadableFeaturesError, match="not an array"):
        look(tmp_path / "s.h5")


class TestOtherFiles:
    """What lies elsewhere is not read, though it is there and sound."""

    @pytest.mark.parametrize("link", [h5py.ExternalLink("other.h5", "/features"), h5py.SoftLink("/real")])
    def test_links(self, tmp_path: Path, link: object) -> None:
        write_trident(tmp_path / "other.h5", FEATURES, COORDS)
        with h5py.File(make(tmp_path / "s.h5", real=FEATURES, coords=COORDS), "a") as file:
            file["features"] = link
        with pytest.raises(UnreadableFeaturesError, match="a link to somewhere else"):
            look(tmp_path / "s.h5")

    def test_external_values(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(FEATURES.tobytes())
        with h5py.File(tmp_path / "s.h5", "w") as file:
            external = [(str(tmp_path / "secret"), 0, FEATURES.nbytes)]
            file.create_dataset("features", FEATURES.shape, "f4", external=external)
            file["coords"] = COORDS
        with pytest.raises(UnreadableFeaturesError, match="in another file"):
            look(tmp_path / "s.h5")

    def test_virtual_values(self, tmp_path: Path) -> None:
        write_trident(tmp_path / "other.h5", FEATURES, COORDS)
        layout = h5py.VirtualLayout(FEATURES.shape, "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "features", FEATURES.shape)
        with h5py.File(tmp_path / "s.h5", "w") as file:
            file.create_virtual_dataset("features", layout)
            file["coords"] = COORDS
        with pytest.raises(UnreadableFeaturesError, match="in another file"):
            look(tmp_path / "s.h5")


class TestClaims:
    def claim(self, path: Path, shape: tuple[int, ...], **how: object) -> Path:
        with h5py.File(path, "w") as file:
            file.create_dataset("features", shape, "f4", **how)
            file["coords"] = COORDS
        return path

    @pytest.mark.parametrize("shape", [(1 << 40, 1024), (12, 1 << 50)])
    def test_a_huge_shape(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        with pytest.raises(UnreadableFeaturesError, match=r"claims [\d,]+ bytes in a file of"):
            look(self.claim(tmp_path / "s.h5", shape, chunks=(1, 1024)))

    def test_a_bomb_of_zeros(self, tmp_path: Path) -> None:
        path = tmp_path / "s.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("features", data=np.zeros((4096, 1024), "f4"), chunks=(1024, 1024), compression="gzip")
            file["coords"] = COORDS
        with pytest.raises(UnreadableFeaturesError, match="claims 16,777,216 bytes"):
            look(path)

    def test_a_chunk_that_memory_cannot_hold(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wsi.imports.h5_file.MAX_CHUNK_BYTES", 64)
        with pytest.raises(UnreadableFeaturesError, match="too large to be read"):
            look(self.claim(tmp_path / "s.h5", FEATURES.shape, chunks=FEATURES.shape))

    @pytest.mark.parametrize("how", [{}, {"chunks": (1, 5)}, {"chunks": (4, 5), "compression": "gzip"}])
    def test_what_was_never_written_is_not_read_as_zeros(self, tmp_path: Path, how: dict[str, object]) -> None:
        with pytest.raises(UnreadableFeaturesError, match="never written to its end"):
            look(self.claim(tmp_path / "s.h5", FEATURES.shape, **how))

    def test_nor_is_a_part_of_it(self, tmp_path: Path) -> None:
        path = self.claim(tmp_path / "s.h5", FEATURES.shape, chunks=(1, 5))
        with h5py.File(path, "a") as file:
            file["features"][:11] = FEATURES[:11]
        with pytest.raises(UnreadableFeaturesError, match="never written to its end"):
            look(path)

    def test_compressed_features_are_read(self, tmp_path: Path) -> None:
        path = tmp_path / "s.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("features", data=FEATURES, chunks=(5, 5), compression="gzip", shuffle=True)
            file["coords"] = COORDS
        assert np.array_equal(look(path), FEATURES)


class TestAttributes:
    def test_what_is_kept(self, sound: Path) -> None:
        with h5py.File(sound, "a") as file:
            attributes = file["coords"].attrs
            attributes["bytes"] = np.bytes_(b"text")
            attributes["pair"] = (4.0, 4.0)
            attributes["long"] = "x" * 201
            attributes["control"] = "a\x1b[31m"
            attributes["nan"] = np.nan
            attributes["many"] = np.arange(9)
            attributes["reference"] = file["features"].ref
        with open_h5(sound) as file:
            found = file.attributes("coords")
        assert found["bytes"] == "text"
        assert found["pair"] == [4.0, 4.0]
        assert found["patch_size"] == 256
        assert not {"long", "control", "nan", "many", "reference"} & set(found)

    @pytest.mark.parametrize("value", ["wide", -1, 1e300, [256, 256], True])
    def test_a_number_that_is_none(self, sound: Path, value: object) -> None:
        with open_h5(sound) as file, pytest.raises(UnreadableFeaturesError, match="patch_size is"):
            file.whole({"patch_size": value}, "patch_size", 1)

    def test_half_a_pixel(self, sound: Path) -> None:
        with open_h5(sound) as file:
            assert file.number({"side": 2.5}, "side") == 2.5
            assert file.number({}, "side") is None
            assert file.number({"side": "None"}, "side") is None
            with pytest.raises(UnreadableFeaturesError, match="whole number"):
                file.whole({"side": 2.5}, "side")
