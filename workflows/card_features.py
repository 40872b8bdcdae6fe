"""Features by way of the card: compressed tiles go there, features come back, and pixels only where they have to.

While one batch is encoded the next is read, decoded and resampled. Tiles that must not or cannot be decoded on the card
are read by `TileReader`, which is the reference, and which alone calls a tile bad.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from mil.encoders import Encoder, TensorEncoder
from wsi.compressed import CompressedReader, compressed_reader
from wsi.slide import Slide
from wsi.tiles import BadTile, TileGrid, TileReader

if TYPE_CHECKING:
    import torch

    from mil.encoders.gpu_decode import DeviceDecoder

CARD_BATCH = 256
"""Tiles decoded and encoded at once; as many as `mil.encoders.timm` gives to a GPU."""

_decoders: "dict[str, DeviceDecoder]" = {}
_decoders_lock = threading.Lock()


class CardFeatures:
    """Features of tiles of one slide, read, decoded and encoded with the next batch under way."""

    def __init__(
        self, reader: TileReader, compressed: CompressedReader, decoder: "DeviceDecoder", encoder: TensorEncoder
    ):
        self._reader, self._compressed, self._decoder, self._encoder = reader, compressed, decoder, encoder

    def batches(
        self, rows: np.ndarray, batch_size: int = CARD_BATCH
    ) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[BadTile, ...]]]:
        """Rows of the grid (ascending) with their features (n, D) float32, and the bad tiles among them."""
        parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        queued: list[tuple[np.ndarray, torch.Tensor, tuple[BadTile, ...]]] = []
        with ThreadPoolExecutor(1) as ahead:
            coming = [ahead.submit(self.pixels, part) for part in parts[:1]]
            for number in range(len(parts)):
                good, tiles, bad = coming.pop().result()
                coming += [ahead.submit(self.pixels, part) for part in parts[number + 1 : number + 2]]
                queued.append((good, self._encoder.encode_tensor(tiles), bad))
                if number:  # the card has the next batch in its queue before anyone waits for this one
                    yield _fetched(*queued.pop(0))
        for one in queued:
            yield _fetched(*one)

    def pixels(self, rows: np.ndarray) -> "tuple[np.ndarray, torch.Tensor, tuple[BadTile, ...]]":
        """Rows that could be read, their tiles (n, 3, tile_px, tile_px) uint8 on the device, and the bad ones."""
        from mil.encoders.gpu_decode import StreamError

        batch = self._compressed.read(rows)
        left = np.array(list(batch.doubts), np.int64)
        parts: list[tuple[np.ndarray, torch.Tensor]] = []
        if len(batch.rows):
            try:
                parts.append((batch.rows, self._decoder.tiles(batch)))
            except StreamError:  # it does not say which tile it was: the reference finds it, and reads the others
                left = np.asarray(rows, np.int64)
        if not len(left):
            return *self._decoder.merge(parts), ()
        usual = self._reader.read(left)
        parts.append((usual.rows, self._decoder.upload(usual.pixels)))
        return *self._decoder.merge(parts), usual.bad


def _fetched(
    rows: np.ndarray, features: "torch.Tensor", bad: tuple[BadTile, ...]
) -> tuple[np.ndarray, np.ndarray, tuple[BadTile, ...]]:
    return rows, features.cpu().numpy(), bad


def card_features(slide: Slide, grid: TileGrid, encoder: Encoder) -> CardFeatures | None:
    """The way by the card, or None for an encoder on a CPU, for tiles that are no JPEGs, and where nvJPEG is absent."""
    if encoder.device == "cpu" or not isinstance(encoder, TensorEncoder):
        return None
    decoder = _decoder(encoder.device)
    if not decoder.colours:
        return None
    compressed = compressed_reader(slide, grid, decoder.colours)
    return None if compressed is None else CardFeatures(TileReader(slide, grid), compressed, decoder, encoder)


def _decoder(device: str) -> "DeviceDecoder":
    """One for a device and process."""
    from mil.encoders.gpu_decode import DeviceDecoder

    with _decoders_lock:
        if device not in _decoders:
            _decoders[device] = DeviceDecoder(device)
        return _decoders[device]


__all__ = ["CARD_BATCH", "CardFeatures", "card_features"]
