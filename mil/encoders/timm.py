"""Any timm architecture with a local file of weights. Nothing here reaches for a model hub."""

import re
from difflib import get_close_matches
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mil.encoders.card import EncoderCard
from wsi.errors import MissingPackageError, UsageError

if TYPE_CHECKING:
    import torch

CPU_BATCH, GPU_BATCH = 8, 256
"""Tiles a forward pass: on a CPU the activations of 8 tiles stay near the caches, a GPU wants many."""


class TimmEncoder:
    """A timm backbone without its head: pooled features in evaluation mode.

    float32 on a CPU, autocast to `half` on a GPU, channels_last for convolutions on both. Batches have one fixed size
    (the last is filled up), so that a tile's feature does not depend on how many tiles came with it. On a CPU each
    call uses one core, because sums split over cores differ in their last bits; run several calls in threads.
    """

    def __init__(self, model: Any, card: EncoderCard, device: str, half: Literal["bfloat16", "float16"] = "bfloat16"):
        torch = import_torch()
        from mil.encoders.folding import fold_batch_norm

        self._half = getattr(torch, half)
        self.card = card
        self.device = device
        self._batch = CPU_BATCH if device == "cpu" else GPU_BATCH
        model = model.eval().requires_grad_(False)
        fold_batch_norm(model)
        self._model = model.to(device, memory_format=torch.channels_last)
        # for whole rows of R G B R G B ..., which a processor multiplies many at a time
        std, mean = (torch.tensor(values, device=device).repeat(card.tile_px) for values in (card.std, card.mean))
        self._gain, self._offset = 1 / (255 * std), -mean / std

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        torch = import_torch()
        features = np.empty((len(tiles), self.card.dim), np.float32)
        side = self.card.tile_px
        if tiles.shape[1:] != (side, side, 3) or tiles.dtype != np.uint8:
            raise ValueError(f"{self.card.name} takes (n, {side}, {side}, 3) uint8, found {tiles.shape} {tiles.dtype}")
        for start in range(0, len(tiles), self._batch):
            part = np.require(tiles[start : start + self._batch], requirements=["C", "W"])
            pixels = torch.from_numpy(part).to(self.device, non_blocking=True).permute(0, 3, 1, 2)
            features[start : start + len(part)] = self._forward(pixels).cpu().numpy()
        return features

    def encode_tensor(self, tiles: "torch.Tensor") -> "torch.Tensor":
        """Features (n, D) float32 of tiles (n, 3, tile_px, tile_px) uint8 on the encoder's device, where they stay."""
        torch = import_torch()
        side = self.card.tile_px
        if tiles.shape[1:] != (3, side, side) or tiles.dtype != torch.uint8:
            raise ValueError(
                f"{self.card.name} takes (n, 3, {side}, {side}) uint8, found {tuple(tiles.shape)} {tiles.dtype}"
            )
        if not len(tiles):
            return torch.empty((0, self.card.dim), device=self.device)
        starts = range(0, len(tiles), self._batch)
        return torch.cat([self._forward(tiles[start : start + self._batch]) for start in starts])

    @property
    def backbone(self) -> Any:
        """The network itself, for who looks inside; its weights want no gradient."""
        return self._model

    def prepared(self, tiles: np.ndarray) -> "torch.Tensor":
        """Tiles (n, tile_px, tile_px, 3) uint8 as the backbone takes them: (n, 3, tile_px, tile_px) float32."""
        torch = import_torch()
        pixels = torch.from_numpy(np.array(tiles)).to(self.device).permute(0, 3, 1, 2)
        return self._normalised(pixels.contiguous(memory_format=torch.channels_last))

    def _forward(self, tiles: "torch.Tensor") -> "torch.Tensor":
        """Features of at most one batch (n, 3, tile_px, tile_px) uint8, which is filled up to its fixed size."""
        torch = import_torch()
        if self.device == "cpu":
            torch.set_num_threads(1)
        count = len(tiles)
        with torch.inference_mode(), torch.autocast("cuda", self._half, enabled=self.device != "cpu"):
            pixels = tiles.contiguous(memory_format=torch.channels_last)
            if count < self._batch:
                pixels = torch.cat([pixels, pixels.new_zeros((self._batch - count, *pixels.shape[1:]))])
            return self._model(self._normalised(pixels))[:count].float()

    def _normalised(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """(pixels / 255 - mean) / std of (n, 3, H, W) uint8 in channels_last, float32 in the same layout."""
        count, channels, height, width = pixels.shape
        rows = pixels.permute(0, 2, 3, 1).reshape(count, height, width * channels).float()
        rows.mul_(self._gain).add_(self._offset)
        return rows.view(count, height, width, channels).permute(0, 3, 1, 2)


def load_timm(name: str, weights: Path | None, device: str) -> TimmEncoder:
    """`timm:ARCHITECTURE` with its weights from a local .safetensors, .pth or .bin file.

    The input size and normalisation are those that timm states for the architecture. Not so the kernel: timm's
    `interpolation` is of photographs brought to the input size, and of the architecture, not of these weights. Who
    knows with which kernel the authors of the weights resampled slides says it with `extract --kernel`.

    Raises
    ------
    UsageError
        If timm has no such architecture, no weights are given, or they do not fit.
    """
    timm = import_timm()
    architecture = name.removeprefix("timm:")
    if not timm.is_model(architecture):
        close = ", ".join(get_close_matches(architecture, timm.list_models(), 6))
        raise UsageError(f"timm has no model {architecture!r}" + (f"; close to it: {close}" if close else ""))
    if weights is None:
        raise UsageError(f"{name} needs a local file of weights: give it with --weights FILE")
    model = timm.create_model(architecture, pretrained=False, num_classes=0)
    load_weights(model, read_weights(weights), name)
    config = model.pretrained_cfg
    card = EncoderCard(
        name=architecture,
        dim=int(getattr(model, "head_hidden_size", None) or model.num_features),
        tile_px=int(config["input_size"][-1]),
        mpp=0.5,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        licence=str(config.get("license") or "not stated"),
        weights_sha256=file_sha256(weights),
        source=f"timm {architecture}, local weights",
    )
    return TimmEncoder(model, card, pick_device(device))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file of any size."""
    with path.open("rb") as handle:
        return file_digest(handle, "sha256").hexdigest()


def read_weights(path: Path) -> dict[str, Any]:
    """Tensors by name out of a .safetensors file or a PyTorch file that holds only tensors."""
    torch = import_torch()
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling and parsing raise many kinds; for the user it is one
        reason = next(iter(str(error).splitlines()), "")
        raise UsageError(f"{path.name}: cannot be read as weights ({type(error).__name__}: {reason})") from error
    for key in ("state_dict", "model", "teacher"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UsageError(
            f"{path.name}: holds no tensors by name, but {type(state).__name__}; save a model's state_dict"
        )
    return dict(state)


def load_weights(model: Any, state: dict[str, Any], name: str) -> None:
    """Load tensors by name; a classifier head that the backbone lacks is left out, nothing else is.

    Raises
    ------
    UsageError
        If tensors are missing, left over, or of another shape.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    wanted = model.state_dict()
    missing = sorted(set(wanted) - set(state))
    extra = sorted(key for key in set(state) - set(wanted) if not key.startswith(("head.", "fc.", "classifier.")))
    shapes = sorted(key for key in set(wanted) & set(state) if wanted[key].shape != state[key].shape)
    for kind, keys in (("lack", missing), ("have too many", extra), ("have other shapes in", shapes)):
        if keys:
            raise UsageError(f"these weights do not fit {name}: they {kind} {', '.join(keys[:3])} ({len(keys)} in all)")
    model.load_state_dict({key: state[key] for key in wanted})


def pick_device(device: str) -> str:
    """`auto` is the first GPU if there is one, else the CPU.

    Raises
    ------
    UsageError
        If it is no such name, or a GPU is asked for and there is none.
    """
    torch = import_torch()
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError(f"--device is auto, cpu, cuda or cuda:N; found {device!r}")
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    number = int(device.partition(":")[2] or 0)
    if not torch.cuda.is_available():
        raise UsageError(f"no GPU is usable here, asked for was --device {device}; use --device cpu")
    if number >= torch.cuda.device_count():
        raise UsageError(f"--device {device}: there are {torch.cuda.device_count()} GPUs, numbered from 0")
    return f"cuda:{number}"


def import_torch() -> Any:
    """torch, or one line that says how to get it."""
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError(f"encoders need torch ({error}); pip install 'histograde[mil]'") from error
    return torch


def import_timm() -> Any:
    """timm, or one line that says how to get it."""
    try:
        import timm
    except ImportError as error:
        raise MissingPackageError(f"this encoder needs timm ({error}); pip install 'histograde[mil]'") from error
    return timm
