"""Contracts that every model, loss and encoder keeps, and small made-up bags: for our tests and for plug-in authors.

from mil.testing import check_encoder, check_loss, check_model
check_model(MyModel)        # MyModel(dim, n_outputs, **options) -> nn.Module
check_loss(MyLoss)          # MyLoss(n_classes, **options), a loss of classes
check_value_loss(MyCox, targets)  # MyCox(**options), a loss of times or values
check_encoder(my_encoder)   # what `mil.encoders.load_encoder` gives
"""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import nn

from mil.bag import Bag, MILOutput, pack
from mil.encoders import Encoder, TensorEncoder
from mil.encoders.card import EncoderCard
from mil.loss import ClassLoss, ValueLoss
from mil.model import MILModel
from wsi.kernels import KERNELS
from wsi.slide import SlideInfo
from wsi.store import FeatureStore
from wsi.store_url import StorePath
from wsi.store_writer import begin_features, publish_grid, slide_lock
from wsi.tiles import BadTile, TileGrid, TileSpec
from wsi.tissue import TissueMask


def toy_bag(tiles: int, dim: int = 12, seed: int = 0, signal: float = 0.0, name: str | None = None) -> Bag:
    """A bag of normal noise; `signal` is added to the first three features of a tenth of its tiles (one at least)."""
    rng = np.random.default_rng([seed, tiles])
    features = rng.normal(size=(tiles, dim)).astype(np.float32)
    features[: max(1, tiles // 10), :3] += signal
    side = int(np.ceil(np.sqrt(tiles)))
    rows = np.arange(tiles)
    coords_um = 112.0 * np.stack([rows % side, rows // side], axis=1)
    return Bag(name or f"toy-{seed}-{tiles}", features, coords_um.astype(np.float32), rows)


def toy_card(name: str = "made-up", dim: int = 12) -> EncoderCard:
    """The card of an encoder that does not exist."""
    return EncoderCard(name, dim, 224, 0.5, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "none", "none", dtype="float16")


def write_store(
    root: StorePath,
    slide_id: str,
    features: np.ndarray,
    card: EncoderCard,
    spec: TileSpec | None = None,
    bad: tuple[int, ...] = (),
    mpp: float = 0.25,
) -> FeatureStore:
    """A real feature store that holds given features (N, D), on a square grid without a slide behind it.

    Parameters
    ----------
    bad : tuple of int
        Rows that count as unreadable.
    mpp : float
        Pixel size of the slide that is not there, um/px.
    """
    spec = spec or TileSpec()
    tiles = len(features)
    side = int(np.ceil(np.sqrt(max(tiles, 1))))
    side_px0 = spec.tile_px * spec.mpp / mpp
    coords = np.rint(np.stack([np.arange(tiles) % side, np.arange(tiles) // side], axis=1) * side_px0).astype(np.int32)
    whole = int(side * side_px0) + 1
    size = ((whole, whole),)
    info = SlideInfo(slide_id, "none", "none", size, (1.0,), (mpp, mpp), "user", None, (0, 0, whole, whole), slide_id)
    tissue = TissueMask(np.ones((side, side), bool), (side_px0, side_px0), (0, 0), (mpp, mpp))
    grid = TileGrid(spec, coords, np.ones(tiles, np.float32), (side_px0, side_px0))
    with slide_lock(root, slide_id):
        store = publish_grid(root, info, tissue, grid, {"tiles": spec.to_dict(), "tissue": {"mpp": 8.0}})
        writer = begin_features(store, card.to_dict())
        for chunk in writer.todo():
            rows = writer.rows(chunk)
            good = rows[~np.isin(rows, bad)]
            broken = tuple(BadTile(int(row), "made up") for row in rows if row in bad)
            writer.write(chunk, good, features[good], broken)
        writer.publish()
    return FeatureStore(store.path)


def check_model(model: Callable[..., nn.Module], dim: int = 12, n_outputs: int = 3, **options: Any) -> None:
    """Raise `AssertionError`, in words, unless a MIL model keeps the contract.

    Shapes; attention that is not negative and sums to 1 in each bag; a bag alone equals the bag in a pack; no
    dependence on the order of tiles; a bag of one tile; tile_logits equal to the logits of one-tile bags; finite
    results for huge features; an objective with gradients for every parameter, and the same bits for the same seed; the
    same on a GPU, where there is one.
    """
    torch.manual_seed(0)
    built = model(dim, n_outputs, **options).eval()
    bags = [toy_bag(tiles, dim, seed) for seed, tiles in enumerate((1, 2, 7, 40, 3))]
    packed = built(pack(bags))
    _check_shapes(packed, [len(bag) for bag in bags], n_outputs)
    _check_alone(built, bags, packed)
    _check_order(built, bags[3])
    _check_tiles(built, bags[2])
    huge = Bag("huge", bags[3].features * 1e4, bags[3].coords_um, bags[3].rows)
    for part in _parts(built(pack([huge]))):
        assert torch.isfinite(part).all(), "huge features give results that are not finite"
    _check_training(model, dim, n_outputs, options)
    if torch.cuda.is_available():
        _check_device(built, bags, packed)


def check_loss(loss: Callable[..., ClassLoss], n_classes: int = 4, **options: Any) -> None:
    """Raise `AssertionError`, in words, unless a loss keeps the contract.

    Probabilities are right in shape, not negative and sum to 1, also for huge logits; the loss is a finite scalar with
    finite gradients, also for huge logits and for a batch of one class; minimising it finds the targets; its marks are
    (B, n_outputs) bool; it does not depend on the order of slides.
    """
    built = loss(n_classes, **options)
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(9, built.n_outputs, generator=generator)
    targets = torch.arange(9) % n_classes
    logits = built.layer()(outputs)
    for scaled in (logits, logits * 1e4):
        found = built.probabilities(scaled.detach().numpy())
        assert found.shape == (9, n_classes), f"probabilities are {found.shape}, expected {(9, n_classes)}"
        assert (found >= -1e-12).all(), "a probability is negative"
        assert np.allclose(found.sum(axis=1), 1), "probabilities do not sum to 1"
        for answers in (targets, torch.zeros_like(targets), torch.full_like(targets, n_classes - 1)):
            leaf = scaled.detach().requires_grad_()
            value = built(leaf, answers)
            assert value.ndim == 0, "the loss is not a scalar"
            assert torch.isfinite(value), "the loss is not finite"
            torch.autograd.backward(value)
            assert leaf.grad is not None, "the loss has no gradient"
            assert torch.isfinite(leaf.grad).all(), "a gradient is not finite"
    marks = built.marks(targets)
    assert marks.dtype == torch.bool, "marks are not bool"
    assert tuple(marks.shape) == (9, built.n_outputs), f"marks are {tuple(marks.shape)}"
    turned = built(logits.flip(0), targets.flip(0))
    assert torch.allclose(turned, built(logits, targets)), "the loss depends on the order of slides"
    _check_minimum(built, targets)


def check_value_loss(loss: Callable[..., ValueLoss], wanted: torch.Tensor, /, **options: Any) -> None:
    """Raise `AssertionError`, in words, unless a loss of times or values keeps the contract.

    The loss is a finite scalar with finite gradients, also for huge logits, one bag, and bags whose target is not known
    (NaN): these are left out. Values are finite, one row a bag; marks are (B, n_outputs) bool; minimising the loss
    lowers it; it does not depend on the order of slides.

    Parameters
    ----------
    wanted : Tensor (B, n_targets) float32
        Targets of several bags, all known.
    """
    built, targets = loss(**options), wanted
    bags = len(targets)
    assert tuple(targets.shape) == (bags, built.n_targets), f"targets are {tuple(targets.shape)}"
    assert built.known(targets).all(), "a target counts as not known"
    logits = built.layer()(torch.randn(bags, built.n_outputs, generator=torch.Generator().manual_seed(0))).detach()
    unknown = torch.full_like(targets, torch.nan)
    mixed = torch.cat([targets[:-1], unknown[-1:]])
    for scaled in (logits, logits * 1e4):
        found = built.values(scaled.numpy())
        assert found.shape[:-1] == (bags,), f"values are {found.shape}, expected ({bags}, ...)"
        assert np.isfinite(found).all(), "a value is not finite"
        for some in (targets, targets[:1], mixed, unknown):
            gradient = _slope(built, scaled[: len(some)], some)
            assert not gradient[~built.known(some)].any(), "a bag without a target has a gradient"
    assert built.known(mixed).tolist() == [True] * (bags - 1) + [False], "a target of NaN counts as known"
    for some in (targets, mixed):
        marks = built.marks(some)
        assert marks.dtype == torch.bool, "marks are not bool"
        assert tuple(marks.shape) == (bags, built.n_outputs), f"marks are {tuple(marks.shape)}"
    turned = built(logits.flip(0), targets.flip(0))
    assert torch.allclose(turned, built(logits, targets)), "the loss depends on the order of slides"
    before, after = _minimised(built, targets)
    assert after < before, "minimising the loss does not lower it"


def check_encoder(encoder: Encoder, seed: int = 0) -> None:
    """Raise `AssertionError`, in words, unless an encoder keeps the contract.

    A card that can be stored and compared; features (n, D) float32 and finite, also for n = 0; a tile's feature is the
    same bits whichever tiles come with it, wherever it stands among them and on whichever thread; the tiles are left as
    they are; tiles of another shape or type are refused with `ValueError`. Where it has `encode_tensor`, that gives the
    same features, and leaves them on the device.
    """
    card = encoder.card
    _check_card(card)
    side = card.tile_px
    tiles = np.random.default_rng(seed).integers(0, 256, (9, side, side, 3), dtype=np.uint8)
    tiles[1], tiles[2] = 0, 255
    before = tiles.copy()
    features = encoder.encode(tiles)
    assert np.array_equal(tiles, before), "the encoder writes into its tiles"
    assert features.shape == (9, card.dim), f"features are {features.shape}, expected {(9, card.dim)}"
    assert features.dtype == np.float32, f"features are {features.dtype}, expected float32"
    assert np.isfinite(features).all(), "a feature is not finite"
    assert not np.array_equal(features[1], features[2]), "black and white have the same feature"
    none = encoder.encode(tiles[:0])
    assert none.shape == (0, card.dim), f"no tiles give {none.shape}, expected {(0, card.dim)}"
    order = np.random.default_rng(seed + 1).permutation(9)
    assert np.array_equal(encoder.encode(tiles[order]), features[order]), "a feature depends on the tile's place"
    for row in (0, 8):
        alone = encoder.encode(tiles[row : row + 1])[0]
        assert np.array_equal(alone, features[row]), "a feature depends on the other tiles"
    with ThreadPoolExecutor(3) as pool:
        again = list(pool.map(encoder.encode, (tiles[row:] for row in range(3))))
    for row, part in enumerate(again):
        assert np.array_equal(part, features[row:]), "threads give other features"
    if isinstance(encoder, TensorEncoder):
        _check_tensors(encoder, tiles[:3], features[:3])
    wrong = tiles[0], tiles[:, :-1], tiles[..., :2], tiles.astype(np.float32), tiles.transpose(0, 3, 1, 2)
    for one in wrong:
        try:
            encoder.encode(one)
        except ValueError:
            continue
        raise AssertionError(f"tiles {one.shape} {one.dtype} are not refused with ValueError")


def _check_tensors(encoder: TensorEncoder, tiles: np.ndarray, features: np.ndarray) -> None:
    tensor = torch.from_numpy(tiles).to(encoder.device).permute(0, 3, 1, 2)
    found = encoder.encode_tensor(tensor.contiguous())
    assert found.device.type == tensor.device.type, f"features are on {found.device}, tiles on {tensor.device}"
    assert np.array_equal(found.cpu().numpy(), features), "a tensor of tiles gives other features than the tiles"
    assert tuple(encoder.encode_tensor(tensor[:0]).shape) == (0, encoder.card.dim), "no tiles give features"
    try:
        encoder.encode_tensor(tensor.permute(0, 2, 3, 1))
    except ValueError:
        return
    raise AssertionError("a tensor of another shape is not refused with ValueError")


def _check_card(card: EncoderCard) -> None:
    said = card.to_dict()
    assert json.loads(json.dumps(said)) == said, "the card does not survive JSON"
    assert re.fullmatch(r"[\w.-]+", card.name), f"the name {card.name!r} cannot be that of a folder"
    assert card.dim > 0, f"dim is {card.dim}"
    assert card.tile_px > 0, f"tile_px is {card.tile_px}"
    assert 0.05 <= card.mpp <= 20, f"mpp is {card.mpp}"
    assert len(card.mean) == len(card.std) == 3, "mean and std are not of three channels"
    assert min(card.std) > 0, f"std is {card.std}"
    assert re.fullmatch(r"none|[0-9a-f]{64}", card.weights_sha256), "weights_sha256 is neither a SHA-256 nor none"
    assert card.kernel in KERNELS, f"kernel is {card.kernel}"
    assert card.dtype in ("float16", "float32"), f"dtype is {card.dtype}"
    assert card.licence, "no licence is stated"
    assert card.source, "no source is stated"


def _parts(output: MILOutput) -> tuple[torch.Tensor, ...]:
    return output.logits, output.attention, output.tile_logits


def _check_shapes(output: MILOutput, lengths: list[int], n_outputs: int) -> None:
    expected = ((len(lengths), n_outputs), (sum(lengths),), (sum(lengths), n_outputs))
    for name, part, shape in zip(("logits", "attention", "tile_logits"), _parts(output), expected, strict=True):
        assert tuple(part.shape) == shape, f"{name} is {tuple(part.shape)}, expected {shape}"
    assert (output.attention >= 0).all(), "attention is negative"
    for part in torch.split(output.attention.detach(), lengths):
        assert abs(float(part.sum()) - 1) < 1e-5, "attention does not sum to 1 within a bag"


def _check_alone(built: nn.Module, bags: list[Bag], packed: MILOutput) -> None:
    alone = [built(pack([bag])) for bag in bags]
    for part, joined in zip(zip(*map(_parts, alone), strict=True), _parts(packed), strict=True):
        assert torch.allclose(torch.cat(part), joined, atol=1e-6), "a bag in a pack differs from the bag alone"


def _check_order(built: nn.Module, bag: Bag) -> None:
    order = np.random.default_rng(0).permutation(len(bag))
    straight, turned = built(pack([bag])), built(pack([bag.take(order)]))
    assert torch.allclose(straight.logits, turned.logits, atol=1e-5), "logits depend on the order of tiles"
    for name in ("attention", "tile_logits"):
        before, after = getattr(straight, name)[order], getattr(turned, name)
        assert torch.allclose(before, after, atol=1e-5), f"{name} does not follow its tile"


def _check_tiles(built: nn.Module, bag: Bag) -> None:
    whole = built(pack([bag])).tile_logits
    single = torch.cat([built(pack([bag.take(np.array([tile]))])).logits for tile in range(len(bag))])
    assert torch.allclose(whole, single, atol=1e-5), "tile_logits are not the logits of one-tile bags"


def _check_device(built: nn.Module, bags: list[Bag], packed: MILOutput) -> None:
    moved = built.cuda()(pack(bags).to("cuda"))
    for here, there in zip(_parts(packed), _parts(moved), strict=True):
        assert torch.allclose(here, there.cpu(), atol=1e-4), "a GPU gives other results"


def _check_training(model: Callable[..., nn.Module], dim: int, n_outputs: int, options: dict[str, Any]) -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(1)
        built = model(dim, n_outputs, **options).train()
        batch = pack([toy_bag(tiles, dim, tiles) for tiles in (5, 30, 1)], [0, 1, 0])
        if isinstance(built, MILModel):
            value = built.objective(batch, _Squares(n_outputs))
            assert value.ndim == 0, "the objective is not a scalar"
            assert torch.isfinite(value), "the objective is not finite"
        else:
            value = built(batch).logits.square().sum()
        torch.autograd.backward(value)
        results.append(value.detach())
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None, f"parameter {name} has no gradient"
        assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"
    assert torch.equal(*results), "the same seed gives other results"


class _Squares:
    """A criterion for models: outputs towards 1 for the second class, else towards 0."""

    def __init__(self, n_outputs: int):
        self._n_outputs = n_outputs

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs - self.marks(targets).to(outputs.dtype)).square().mean()

    def marks(self, targets: torch.Tensor) -> torch.Tensor:
        return (targets > 0)[:, None].expand(-1, self._n_outputs)


def _slope(built: ValueLoss, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The gradient at some logits."""
    leaf = logits.clone().requires_grad_()
    value = built(leaf, targets)
    assert value.ndim == 0, "the loss is not a scalar"
    assert torch.isfinite(value), "the loss is not finite"
    (gradient,) = torch.autograd.grad(value, leaf)
    assert torch.isfinite(gradient).all(), "a gradient is not finite"
    return gradient


def _minimised(built: ValueLoss, targets: torch.Tensor) -> tuple[float, float]:
    """The loss at outputs of 0, and after some steps of gradient descent."""
    outputs, layer = torch.zeros(len(targets), built.n_outputs, requires_grad=True), built.layer()
    before = built(layer(outputs), targets).item()
    for _ in range(100):
        (gradient,) = torch.autograd.grad(built(layer(outputs), targets), outputs)
        outputs = (outputs - 0.5 * gradient).detach().requires_grad_()
    return before, built(layer(outputs), targets).item()


def _check_minimum(built: ClassLoss, targets: torch.Tensor) -> None:
    outputs = nn.Parameter(torch.zeros(len(targets), built.n_outputs))
    layer = built.layer()
    parameters = [outputs, *layer.parameters()]
    for _ in range(400):
        gradients = torch.autograd.grad(built(layer(outputs), targets), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient)
    found = built.probabilities(layer(outputs).detach().numpy()).argmax(axis=1)
    assert (found == targets.numpy()).all(), "minimising the loss does not find the targets"
