"""What holds for every model that supervises tiles or parts of bags, whatever its objective is."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from mil.bag import Bag, pack
from mil.blockwise import attention_pool
from mil.models import MODELS
from mil.network import Network, NetworkSpec
from mil.testing import toy_bag
from tests.mil.models.oracles import Binary, Classes

OPTIONS = {
    "abmil": {},
    "clam_sb": {"subtyping": True},
    "clam_mb": {"subtyping": True},
    "dsmil": {},
    "dtfd": {"distil": "maxmins"},
    "dtfd afs": {},
    "acmil": {},
    "additive": {},
}
NAMES = list(OPTIONS)


def built(case, n_outputs=1, **options):
    torch.manual_seed(0)
    return MODELS[case.split()[0]](12, n_outputs, **OPTIONS[case], **options)


def step(model, batch, criterion):
    """Value and gradients of a training step."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    value = model.objective(batch, criterion)
    value.backward()
    return value.detach(), {name: one.grad.clone() for name, one in model.named_parameters()}


@pytest.mark.parametrize("case", NAMES)
def test_a_step_block_by_block_is_the_plain_step(case, monkeypatch):
    """In training mode, with what is hidden or dealt at random; in float64, so that only a mistake differs."""
    batch = pack([toy_bag(tiles, seed=tiles) for tiles in (1, 700, 30, 5)], [0, 1, 2, 0])
    batch = replace(batch, stored=batch.stored.double(), mean=torch.full((12,), 0.3), scale=torch.full((12,), 1.7))
    model = built(case, 2, dropout=0.0).double().train()
    plain, plain_grads = step(model, batch, Classes(2))
    module = type(model).__module__
    monkeypatch.setattr(f"{module}.attention_pool", partial(attention_pool, block=64, whole=0))
    found, grads = step(model, batch, Classes(2))
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=1e-8)
    for name, grad in plain_grads.items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("case", NAMES)
def test_outputs_block_by_block_are_the_plain_ones(case, monkeypatch):
    batch = pack([toy_bag(tiles, seed=tiles) for tiles in (1, 300, 30, 5)])
    model = built(case, 2).eval()
    plain = model(batch)
    monkeypatch.setattr(f"{type(model).__module__}.attention_pool", partial(attention_pool, block=64, whole=0))
    with torch.inference_mode():
        found = model(batch)
    for name in ("logits", "attention", "tile_logits"):
        torch.testing.assert_close(getattr(found, name), getattr(plain, name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", NAMES)
def test_a_block_leaves_nothing_behind_but_its_outputs(case, monkeypatch):
    """A view into the tile embeddings would keep those of all blocks alive."""
    model = built(case).train()
    pooled = []

    def watched(module, make, batch):
        outputs = make(batch.tiles_of(slice(None))).outputs
        assert outputs.untyped_storage().nbytes() == outputs.numel() * outputs.element_size()
        pooled.append(len(outputs))
        return attention_pool(module, make, batch)

    monkeypatch.setattr(f"{type(model).__module__}.attention_pool", watched)
    batch = pack([toy_bag(30), toy_bag(5)], [1, 0])
    model.objective(batch, Binary())
    model.logits(batch)
    model(batch)
    assert pooled == [35, 35, 35]


@pytest.mark.parametrize("case", NAMES)
def test_objective_of_a_pack_is_the_mean_of_its_bags(case):
    bags, targets = [toy_bag(tiles, seed=tiles) for tiles in (4, 90, 17)], [1, 0, 1]
    model = built(case).eval()
    alone = [model.objective(pack([bag], [target]), Binary()) for bag, target in zip(bags, targets, strict=True)]
    torch.testing.assert_close(model.objective(pack(bags, targets), Binary()), sum(alone) / 3, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("targets", [[0, 0, 0], [2, 2, 2]])
def test_a_batch_of_one_class_has_a_finite_step(case, targets):
    """Bags of one tile only, and classes that do not come up."""
    for tiles in ((1, 1, 1), (2, 1, 40)):
        batch = pack([toy_bag(count, seed=count) for count in tiles], targets)
        value, grads = step(built(case, 2).train(), batch, Classes(2))
        assert torch.isfinite(value)
        assert all(torch.isfinite(grad).all() for grad in grads.values())


@pytest.mark.parametrize("loss", ["cross_entropy", "corn", "coral"])
@pytest.mark.parametrize("case", NAMES)
def test_every_loss_trains_the_whole_network(case, loss):
    """Their marks differ: one class, all levels below a grade, or the upper half of the grades."""
    torch.manual_seed(0)
    spec = NetworkSpec(case.split()[0], loss, 12, 4, OPTIONS[case])
    network = Network(spec).train()
    batch = pack([toy_bag(tiles, seed=tiles) for tiles in (1, 50, 9, 30)], [0, 1, 2, 3])
    network.objective(batch, spec.build_loss()).backward()
    for name, one in network.named_parameters():
        assert one.grad is not None, name
        assert torch.isfinite(one.grad).all(), name


@pytest.mark.parametrize("case", NAMES)
def test_a_slide_of_one_and_the_same_tile_is_graded_and_trained_on(case):
    """Blank or imported tiles may all be equal: scores tie everywhere."""
    features = np.ones((50, 12), np.float16)
    bag = Bag("blank", features, np.full((50, 2), np.nan, np.float32), np.arange(50))
    batch = pack([bag, bag], [0, 1])
    value, grads = step(built(case).train(), batch, Binary())
    assert torch.isfinite(value)
    assert all(torch.isfinite(grad).all() for grad in grads.values())
    output = built(case).eval()(batch)
    single = built(case).eval()(pack([bag.take(np.arange(1))]))
    torch.testing.assert_close(output.logits, single.logits.expand(2, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", NAMES)
def test_objective_works_under_bfloat16_autocast(case):
    """As on a GPU: what is softmaxed or summed over a bag is float32, and the loss follows the float32 step."""
    batch = pack([toy_bag(tiles, seed=tiles) for tiles in (1, 200, 30)], [0, 1, 0])
    model = built(case).eval()
    plain = model.objective(batch, Binary())
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.objective(batch, Binary())
        output = model(batch)
    assert output.attention.dtype == torch.float32
    rough.backward()
    assert all(torch.isfinite(one.grad).all() for one in model.parameters())
    torch.testing.assert_close(rough.float(), plain, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("case", NAMES)
def test_objective_teaches_what_marks_a_bag(case):
    """Half of the bags have a tenth of marked tiles; after 40 steps unseen bags are told apart."""
    model = built(case)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def bags(first):
        return [toy_bag(20 + seed % 7, seed=seed, signal=3.0 * (seed % 2)) for seed in range(first, first + 40)]

    batch = pack(bags(0), np.arange(40) % 2)
    for _ in range(40):
        optimizer.zero_grad()
        model.train().objective(batch, Binary()).backward()
        optimizer.step()
    logits = model.eval().logits(pack(bags(1000)))[:, 0].detach()
    marked, plain = logits[1::2], logits[::2]
    assert (marked[:, None] > plain).float().mean() > 0.95  # the AUROC
