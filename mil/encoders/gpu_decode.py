"""Compressed stored tiles to pixels on a card: decoded, put together and resampled without coming back to the host.

Decoding is torchvision's `decode_jpeg`: nvJPEG on a CUDA device; libjpeg-turbo on "cpu", where all of this runs too.

What differs from the CPU path (`wsi.tiles.TileReader`), which stays the reference:

- nvJPEG as torchvision calls it cannot reduce in the DCT domain: tiles are decoded whole and area-averaged.
- It repeats subsampled chroma where libjpeg interpolates. An area mean of 2 x 2 evens that out (4:2:0 decoded so is
  nearer to the CPU path's 1/2 than libjpeg's own full decode: 56 against 52 dB). At full resolution edges of colour
  differ: on real H&E in 4:2:0 by 1.8 grey levels (standard deviation), `lite0` cosine 0.9994 mean, 0.9992 least of 8.
- libjpeg tells the CPU path when coded data are corrupt, and the tile becomes bad. torchvision keeps libjpeg's warnings
  to itself, and what nvJPEG does is not documented. `wsi.jpeg_stream` keeps away what can be seen without decoding
  (no start or end, cut off, other size, stray markers); bits flipped inside of the coded data it cannot see, and such
  a tile may be decoded to wrong pixels here where the CPU path calls it bad.
- nvJPEG's documentation does not say whether it heeds the marker by which a JPEG says that its components are R, G and
  B (Aperio writes such slides). So the decoder is asked first, with a picture whose colours are known.
"""

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

from mil.encoders.timm import import_torch
from wsi.compressed import CompressedBatch, TileStrip
from wsi.errors import MissingPackageError
from wsi.jpeg_stream import Colour

if TYPE_CHECKING:
    import torch

DECODE_BATCH = 512
"""Streams handed to the decoder at once: nvJPEG's work space grows with them."""

COLOUR_TOLERANCE = 12
"""Grey levels by which flat patches may come back changed; a wrong colour space is off by tens."""


class StreamError(ValueError):
    """The decoder refused one of the streams; it does not say which."""


class DeviceDecoder:
    """Decodes and resamples on one device. May be called from several threads; they take turns.

    On CUDA the work is done in a stream of its own, beside an encoder's, and is finished when a call returns.

    Attributes
    ----------
    colours : frozenset of Colour
        Stored colour spaces that this device's decoder was found to get right.
    """

    def __init__(self, device: str):
        self._torch = import_torch()
        self._decode_jpeg, self._mode = _torchvision()
        self._device = self._torch.device(device)
        self._lock = threading.Lock()
        self._cuda = self._device.type == "cuda"
        self._caller: Any = None
        self._stream = self._torch.cuda.Stream(self._device) if self._cuda else None
        colours: tuple[Colour, ...] = ("ycbcr", "rgb")
        self.colours = frozenset(colour for colour in colours if self._gets_right(colour))

    def tiles(self, batch: CompressedBatch) -> "torch.Tensor":
        """Pixels of the tiles of `batch.rows`.

        Returns
        -------
        Tensor (n, 3, tile_px, tile_px) uint8
            On the device.

        Raises
        ------
        StreamError
            If the decoder refuses a stream; nothing of the batch is returned then.
        """
        with self._lock, self._torch.inference_mode(), self._own_stream():
            stored = self._decoded(batch.streams, batch.stored_px)
            parts = [self._cut(stored, strip) for strip in batch.strips]
            del stored
            return self._handed_over(self._torch.cat(parts))

    def upload(self, pixels: np.ndarray) -> "torch.Tensor":
        """Tiles (n, tile_px, tile_px, 3) uint8 of the CPU path as `tiles` gives them."""
        tiles = self._torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        return tiles.to(self._device).permute(0, 3, 1, 2)

    def merge(self, parts: "list[tuple[np.ndarray, torch.Tensor]]") -> "tuple[np.ndarray, torch.Tensor]":
        """Tiles with their rows of the grid, put into the order of the rows."""
        if len(parts) == 1:
            return parts[0]
        rows = np.concatenate([rows for rows, _ in parts])
        order = np.argsort(rows)
        tiles = self._torch.cat([tiles for _, tiles in parts])
        return rows[order], tiles[self._torch.from_numpy(order).to(self._device)]

    def _own_stream(self) -> Any:
        self._caller = self._torch.cuda.current_stream(self._device) if self._cuda else None
        return self._torch.cuda.stream(self._stream) if self._cuda else nullcontext()

    def _handed_over(self, tiles: "torch.Tensor") -> "torch.Tensor":
        """Finished pixels for the caller's stream.

        torchvision writes in a stream of its own into memory of ours that may still be in use by what we queued before;
        so nothing is left in the queue when the next call begins.
        """
        if self._stream is not None:
            self._stream.synchronize()
            tiles.record_stream(self._caller)
        return tiles

    def _decoded(self, streams: tuple[np.ndarray, ...], size_px: tuple[int, int]) -> "torch.Tensor":
        """(n, 3, h, w) uint8 on the device."""
        whole: list[torch.Tensor] = []
        for start in range(0, len(streams), DECODE_BATCH):
            part = [self._torch.from_numpy(one) for one in streams[start : start + DECODE_BATCH]]
            try:
                whole += self._decode_jpeg(part, mode=self._mode, device=self._device)
            except self._torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise StreamError(next(iter(str(error).splitlines()), "")) from error
        expected = (3, size_px[1], size_px[0])
        if any(tuple(one.shape) != expected for one in whole):
            raise StreamError(f"a stored tile was decoded to another shape than {expected}")
        return self._torch.stack(whole)

    def _cut(self, stored: "torch.Tensor", strip: TileStrip) -> "torch.Tensor":
        """The tiles of a strip (n, 3, tile_px, tile_px) uint8: first all rows, then each tile's columns, in float32."""
        torch, device = self._torch, self._device
        count, size, taps = strip.col_index.shape
        _, channels, h, w = stored.shape
        rows, columns = strip.slots.shape
        slots = torch.from_numpy(strip.slots.clip(0).ravel()).to(device)
        image = stored[slots].view(rows, columns, channels, h, w).permute(2, 0, 3, 1, 4)
        image = image.reshape(channels, rows * h, columns * w)
        index, weight = (torch.from_numpy(one).to(device) for one in (strip.row_index, strip.row_weight))
        band = _total(
            image.index_select(1, index[:, tap]).float().mul_(weight[:, tap, None]) for tap in range(index.shape[1])
        )  # (3, tile_px, strip width)
        index, weight = (torch.from_numpy(one).to(device) for one in (strip.col_index, strip.col_weight))
        tiles = _total(
            band.index_select(2, index[..., tap].reshape(-1)).view(channels, size, count, size).mul_(weight[..., tap])
            for tap in range(taps)
        )  # (3, tile_px rows, n, tile_px columns)
        return tiles.permute(2, 0, 1, 3).round().clamp(0, 255).to(torch.uint8)

    def _gets_right(self, colour: Colour) -> bool:
        """Whether a picture of known colours comes back right when it is stored in a colour space."""
        patches = np.array([[[220, 150, 190], [95, 60, 140]], [[200, 40, 60], [243, 243, 243]]], np.uint8)
        picture = np.kron(patches, np.ones((32, 32, 1), np.uint8))
        stream = np.frombuffer(bytearray(_as_jpeg(picture, colour)), np.uint8)
        with self._torch.inference_mode(), self._own_stream():
            try:
                found = self._decoded((stream,), (64, 64))[0].permute(1, 2, 0).cpu().numpy()
            except StreamError:
                return False
        return bool(np.abs(found.astype(int) - picture)[4:28].max() <= COLOUR_TOLERANCE)


def _total(terms: "Iterator[torch.Tensor]") -> "torch.Tensor":
    """Their sum, in the order in which `wsi.resample` adds."""
    total = next(terms)
    for term in terms:
        total += term
    return total


def _as_jpeg(picture: np.ndarray, colour: Colour) -> bytes:
    stored, subsampling = ("RGB", "444") if colour == "rgb" else ("YCBCR", "420")
    return bytes(
        imagecodecs.jpeg8_encode(picture, level=95, colorspace="RGB", outcolorspace=stored, subsampling=subsampling)
    )


def _torchvision() -> tuple[Any, Any]:
    """`decode_jpeg` and the mode RGB."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError as error:
        raise MissingPackageError(
            f"decoding on a card needs torchvision ({error}); pip install 'histograde[mil]'"
        ) from error
    return decode_jpeg, ImageReadMode.RGB


__all__ = ["DeviceDecoder", "StreamError"]
