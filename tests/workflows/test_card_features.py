"""The way by the card on the CPU device: the same tiles and the same bad ones as the usual way, in the same order."""

import shutil
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mil.encoders import gpu_decode
from mil.encoders.gpu_decode import DeviceDecoder
from mil.encoders.toy import CARD, ToyEncoder
from tests.hostile.makers import damage_tile, overwrite, stored_tile, tissue_pixels, write_svs
from tests.wsi.test_compressed import every_tile
from workflows import card_features as module
from workflows import tasks, worker
from workflows.card_features import CardFeatures, card_features
from workflows.extraction import ExtractConfig
from workflows.listeners import Listener
from workflows.pipeline import run_pipeline
from workflows.sources import find_slides
from wsi.compressed import compressed_reader
from wsi.slide import open_slide
from wsi.store import FeatureStore
from wsi.tiles import TileReader, TileSpec

pytestmark = pytest.mark.filterwarnings("ignore:.*image decoding.*:DeprecationWarning:torchvision")

SPEC = TileSpec(224, 0.5, 100)


@dataclass
class Corner:
    """Sees the top-left pixel and the mean of a tile, and says where it runs."""

    device: str = "cpu"
    card: Any = CARD
    batches: list[int] = field(default_factory=list)

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        return self.encode_tensor(torch.from_numpy(tiles).permute(0, 3, 1, 2)).numpy()

    def encode_tensor(self, tiles: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(tiles))
        return torch.cat([tiles[:, :, 0, 0].float(), tiles.float().mean(dim=(2, 3))], dim=1)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """900 x 700 px at 0.5 um/px, stored in 256 px tiles."""
    return write_svs(tmp_path_factory.mktemp("slide") / "a.svs", tissue_pixels(900, 700))


def by_card(slide: Any, encoder: Corner, colours: Any = ("ycbcr", "rgb")) -> tuple[CardFeatures, TileReader, int]:
    grid = every_tile(slide, SPEC)
    reader = TileReader(slide, grid)
    return (
        CardFeatures(reader, compressed_reader(slide, grid, colours), DeviceDecoder("cpu"), encoder),
        reader,
        len(grid),
    )


def check(path: Path, batch_size: int, colours: Any = ("ycbcr", "rgb")) -> tuple[list[int], int]:
    """Compare both ways over all tiles; the bad rows, and how many tiles there are."""
    encoder = Corner()
    with closing(open_slide(path, reader="jpeg_tiff", content_hash="0")) as slide:
        card, reader, count = by_card(slide, encoder, colours)
        usual = reader.read(np.arange(count))
        found = list(card.batches(np.arange(count), batch_size))
    np.testing.assert_array_equal(np.concatenate([rows for rows, _, _ in found]), usual.rows)
    assert [one for _, _, bad in found for one in bad] == list(usual.bad)
    features = np.concatenate([values for _, values, _ in found])
    np.testing.assert_allclose(features, Corner().encode(usual.pixels), atol=1)
    assert len(encoder.batches) == -(-count // batch_size)
    return [one.row for one in usual.bad], count


@pytest.mark.parametrize("batch_size", [5, 256])
def test_a_sound_slide(sound: Path, batch_size: int) -> None:
    bad, count = check(sound, batch_size)
    assert not bad
    assert count == 35


@pytest.mark.parametrize("batch_size", [5, 256])
def test_damaged_tiles_are_bad_and_the_others_are_right(sound: Path, tmp_path: Path, batch_size: int) -> None:
    path = Path(shutil.copy(sound, tmp_path / "a.svs"))
    damage_tile(path, 0, column=1, row=1)
    bad, count = check(path, batch_size)
    assert 0 < len(bad) < count


def test_a_stream_that_only_the_decoder_refuses_costs_its_batch_the_detour(sound: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(sound, tmp_path / "a.svs"))
    offset, length = stored_tile(path, 0, 1, 1)
    data = path.read_bytes()[offset : offset + length]
    at = data.find(b"\xff\xc4")
    assert at > 0
    overwrite(path, offset + at + 5, b"\xff" * 16)  # code lengths of a Huffman table that cannot be
    bad, count = check(path, 5)
    assert 0 < len(bad) < count


def test_a_slide_whose_colours_the_decoder_gets_wrong_goes_the_usual_way(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("was sent to the card")

    monkeypatch.setattr(DeviceDecoder, "tiles", never)
    assert check(sound, 20, colours=())[0] == []


def test_a_slide_of_which_nothing_can_be_read(sound: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(sound, tmp_path / "a.svs"))
    for column in range(4):
        for row in range(3):
            damage_tile(path, 0, column, row)
    bad, count = check(path, 10)
    assert len(bad) == count


def test_who_goes_by_the_card(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_decode, "DeviceDecoder", lambda device: DeviceDecoder("cpu"))
    monkeypatch.setattr(module, "_decoders", {})
    np.save(tmp_path / "a.npy", tissue_pixels(900, 700))
    with (
        closing(open_slide(sound, content_hash="0")) as slide,
        closing(open_slide(tmp_path / "a.npy", mpp=(0.5, 0.5))) as array,
    ):
        grid = every_tile(slide, SPEC)
        assert card_features(slide, grid, Corner("cpu")) is None
        assert card_features(slide, grid, ToyEncoder()) is None
        assert card_features(array, grid, Corner("cuda:0")) is None
        card = card_features(slide, grid, Corner("cuda:0"))
        assert card is not None
        assert [len(rows) for rows, _, _ in card.batches(np.arange(3))] == [3]


def test_a_store_made_by_the_card_is_complete(
    cluster: Any, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ToyOnCard(ToyEncoder):
        def encode_tensor(self, tiles: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(self.encode(tiles.permute(0, 2, 3, 1).contiguous().numpy()))

    on_card = ToyOnCard()
    on_card.device = "cuda:0"
    monkeypatch.setattr(gpu_decode, "DeviceDecoder", lambda device: DeviceDecoder("cpu"))
    monkeypatch.setattr(module, "_decoders", {})
    path = Path(shutil.copy(sound, tmp_path / "a.svs"))
    damage_tile(path, 0, column=2, row=1)
    stores = []
    for way, encoder in (("usual", ToyEncoder()), ("card", on_card)):
        for where in (tasks, worker):
            monkeypatch.setattr(where, "worker_encoder", lambda config, encoder=encoder: encoder)
        config = ExtractConfig(tmp_path / way, encoder="toy", chunk_tiles=4, max_bad=0.9)
        (result,) = run_pipeline(cluster, find_slides([path]), config, Listener())
        assert result.failure is None
        stores.append(FeatureStore(tmp_path / way / "a.zarr"))
    usual, card = stores
    assert usual.bad_tiles("toy") == card.bad_tiles("toy")
    assert len(card.bad_tiles("toy")) > 0
    assert len(card.features("toy")) == len(usual.features("toy")) > 0
    np.testing.assert_allclose(np.asarray(card.features("toy")), np.asarray(usual.features("toy")), atol=0.01)
