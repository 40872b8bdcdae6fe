from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchmil.models import DTFDMIL

from mil.bag import Bag, pack
from mil.models.dtfd import DTFD
from mil.testing import toy_bag
from tests.mil.models.oracles import Binary, copy_linear, torchmil_pool
from wsi.errors import UsageError

GROUPS = 4


def torchmil_twin(model):
    theirs = DTFDMIL(in_shape=(model.classify.in_features,), n_groups=GROUPS, distill_mode="afs")
    theirs.attention_pool = torchmil_pool(model.attend)
    theirs.u_attention_pool = torchmil_pool(model.attend_distilled)
    copy_linear(theirs.classifier, model.classify)
    copy_linear(theirs.u_classifier, model.classify_distilled)
    return theirs.eval()


def test_feature_distillation_is_that_of_torchmil(monkeypatch):
    """torchmil always shuffles. For a prediction ours deals tiles in the order of their attention: so is it shuffled.

    torchmil has plain attention by default, the authors gated; it lets the loss of tier 2 flow back into tier 1, which
    changes gradients but no value. Its `maxmin` takes all tiles of a pseudo-bag, and is no oracle.
    """
    torch.manual_seed(0)
    model = DTFD(12, 1, groups=GROUPS).eval()
    theirs = torchmil_twin(model)
    bags, targets = [toy_bag(tiles, seed=tiles) for tiles in (9, 40, 4)], [1, 0, 1]
    batch = pack(bags, targets)
    output, losses = model(batch), []
    for number, (bag, target) in enumerate(zip(bags, targets, strict=True)):
        h = model.embed(torch.from_numpy(bag.features))[None]
        _, scores = theirs.attention_pool(h, return_att=True)
        falling = scores[0].argsort(descending=True).numpy()
        hands = np.concatenate([falling[start::GROUPS] for start in range(GROUPS)])
        monkeypatch.setattr("numpy.random.shuffle", lambda index, hands=hands: index.__setitem__(slice(None), hands))
        torch.testing.assert_close(output.logits[number], theirs(h), rtol=1e-5, atol=1e-5)
        losses.append(sum(theirs.compute_loss(torch.tensor([float(target)]), h)[1].values()))
    torch.testing.assert_close(model.objective(batch, Binary()), sum(losses) / 3, rtol=1e-5, atol=1e-5)


def test_attention_of_both_tiers_gives_what_tier_2_sees():
    torch.manual_seed(0)
    model = DTFD(12, 2, groups=3).eval()
    batch = pack([toy_bag(17), toy_bag(2, seed=1)])
    output = model(batch)
    h = model.embed(batch.features)
    z = torch.stack([output.attention[:17] @ h[:17], output.attention[17:] @ h[17:]])
    torch.testing.assert_close(output.logits, model.classify_distilled(z), rtol=1e-5, atol=1e-5)


def plain(distil, groups, k=1):
    """Embedding is the identity, attention is even; signals are the first feature, the answer is the second."""
    model = DTFD(2, 1, hidden=2, dropout=0.0, groups=groups, distil=distil, k=k).eval()
    copy_linear(model.embed[0], SimpleNamespace(weight=torch.eye(2), bias=torch.zeros(2)))
    copy_linear(model.classify, SimpleNamespace(weight=torch.tensor([[1.0, 0.0]]), bias=torch.tensor([5.0])))
    copy_linear(model.classify_distilled, SimpleNamespace(weight=torch.tensor([[0.0, 1.0]]), bias=torch.zeros(1)))
    with torch.no_grad():
        model.attend.w.weight.zero_()
        model.attend_distilled.w.weight.zero_()
    return model


def small_bag(*features):
    values = np.array(features, dtype=np.float32)
    return Bag("small", values, np.zeros((len(values), 2), np.float32), np.arange(len(values)))


@pytest.mark.parametrize(
    ("distil", "k", "logit", "attention"),
    [
        ("maxs", 1, 30.0, [0, 0, 1, 0, 0]),
        ("maxmins", 1, 25.0, [0, 0.5, 0.5, 0, 0]),
        ("maxs", 2, 20.0, [0.5, 0, 0.5, 0, 0]),
        ("maxmins", 2, 30.0, [0.25, 0.25, 0.25, 0, 0.25]),
        ("maxmins", 3, 32.0, [0.2, 0.2, 0.2, 0.2, 0.2]),  # the middle tile is at both ends and counts once
    ],
)
def test_tiles_that_say_most_and_least_are_distilled(distil, k, logit, attention):
    """First features 6, 1, 7, 3, 2 rank the tiles 2, 0, 3, 4, 1; the logit is the mean of the second features."""
    bag = small_bag((6, 10), (1, 20), (7, 30), (3, 40), (2, 60))
    output = plain(distil, 1, k)(pack([small_bag((9, 9)), bag]))
    assert output.logits[:, 0].tolist() == pytest.approx([9.0, logit])
    assert output.attention.tolist() == pytest.approx([1.0, *attention])
    assert output.tile_logits[1:, 0].tolist() == pytest.approx([10, 20, 30, 40, 60])


def test_each_pseudo_bag_distils_a_tile():
    """Dealt in order (attention is even): pseudo-bags of tiles 0, 2, 4 and 1, 3; the highest are 2 and 3."""
    bag = small_bag((6, 10), (1, 20), (7, 30), (3, 40), (2, 60))
    output = plain("maxs", 2)(pack([bag]))
    assert output.attention.tolist() == pytest.approx([0, 0, 0.5, 0.5, 0])


def test_several_outputs_distil_tiles_each():
    """Output 0 speaks by the first feature and output 1 by the second: tiles 2 and 4."""
    model = plain("maxs", 1)
    model.classify = torch.nn.Linear(2, 2)
    copy_linear(model.classify, SimpleNamespace(weight=torch.eye(2), bias=torch.zeros(2)))
    output = model(pack([small_bag((6, 10), (1, 20), (7, 30), (3, 40), (2, 60))]))
    assert output.attention.tolist() == pytest.approx([0, 0, 0.5, 0, 0.5])


class Recorder(Binary):
    def __init__(self):
        self.seen = []

    def __call__(self, outputs, targets):
        self.seen.append((len(outputs), targets.tolist()))
        return super().__call__(outputs, targets)


def test_pseudo_bags_have_the_targets_of_their_bag():
    """Bags of 1, 2 and 9 tiles make 1, 2 and 4 pseudo-bags."""
    recorder = Recorder()
    DTFD(12, 1).train().objective(pack([toy_bag(1), toy_bag(2), toy_bag(9)], [1, 0, 1]), recorder)
    assert recorder.seen == [(7, [1, 0, 0, 1, 1, 1, 1]), (3, [1, 0, 1])]


def test_tiles_are_dealt_evenly_and_at_random_in_training():
    model = DTFD(12, 1, dropout=0.0).train()
    batch = pack([toy_bag(9), toy_bag(3)])

    def dealt(seed):
        torch.manual_seed(seed)
        order, pseudo = model._dealt(batch)
        assert sorted(order[:9].tolist()) == list(range(9))
        assert sorted(order[9:].tolist()) == [9, 10, 11]
        assert pseudo.offsets.diff().tolist() == [3, 2, 2, 2, 1, 1, 1]
        return tuple(order.tolist())

    assert dealt(1) == dealt(1)
    assert len({dealt(seed) for seed in range(10)}) == 10
    first = [dealt(seed)[:3] for seed in range(40)]
    assert {tile for hand in first for tile in hand} == set(range(9)), "each tile may come into the first pseudo-bag"


@pytest.mark.parametrize("distil", ["afs", "maxmins", "maxs"])
def test_tier_2_teaches_itself_only(distil):
    """What tier 2 is does not change the gradients of tier 1, as the paper trains them."""
    torch.manual_seed(0)
    model = DTFD(12, 1, dropout=0.0, distil=distil).eval()
    batch = pack([toy_bag(20), toy_bag(7)], [1, 0])

    def gradients():
        model.zero_grad()
        model.objective(batch, Binary()).backward()
        return {name: one.grad.clone() for name, one in model.named_parameters()}

    before = gradients()
    with torch.no_grad():
        model.classify_distilled.weight += 1
    after = gradients()
    second = {name for name in before if "distilled" in name}
    assert before["embed.0.weight"].any()
    assert {name for name in before if not torch.equal(before[name], after[name])} <= second
    assert not torch.equal(before["classify_distilled.weight"], after["classify_distilled.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distil": "max"}, "distil is 'max'; it can be: afs, maxmins, maxs"),
        ({"groups": 0}, "groups 0 and k 1; expected at least 1 of each"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        DTFD(12, 1, **options)
