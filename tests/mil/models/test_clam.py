from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchmil.models import CLAM_SB

from mil.bag import pack
from mil.models.clam import ClamMB, ClamSB
from mil.testing import toy_bag
from tests.mil.models.oracles import Binary, Classes, Levels, copy_linear, torchmil_pool
from wsi.errors import UsageError


def smooth_svm(scores, answers):
    """Berrada 2018 with alpha = tau = 1, for any number of classes: scores (n, C), answers (n,)."""
    others = torch.arange(scores.shape[1]) != answers[:, None]
    return torch.logsumexp(scores + others.float() - scores.gather(1, answers[:, None]), dim=1).mean()


LOSSES = {"svm": smooth_svm, "cross_entropy": functional.cross_entropy}


class InstanceLoss(nn.Module):
    """In the place of torchmil's, which takes answers (n, 1) and mixes tiles with classes when it broadcasts them."""

    def __init__(self, name):
        super().__init__()
        self.loss = LOSSES[name]

    def forward(self, scores, answers):
        return self.loss(scores, answers[:, 0].long())


def torchmil_twin(model, k, name):
    theirs = CLAM_SB(in_shape=(model.classify.in_features,), k_sample=k, gated=True)
    theirs.pool = torchmil_pool(model.attend)
    copy_linear(theirs.classifier, model.classify)
    for branch, classifier in enumerate(theirs.inst_classifiers):
        rows = slice(2 * branch, 2 * branch + 2)
        copy_linear(classifier, SimpleNamespace(weight=model.instances.weight[rows], bias=model.instances.bias[rows]))
    theirs.inst_loss_fn = InstanceLoss(name)
    return theirs.eval()


@pytest.mark.parametrize("name", LOSSES)
def test_single_branch_is_that_of_torchmil(name):
    """Bags of two classes; torchmil asks both branches and adds them up, the authors take their mean."""
    torch.manual_seed(0)
    model = ClamSB(12, 1, dropout=0.0, k=4, instance_loss=name, subtyping=True).eval()
    theirs = torchmil_twin(model, 4, name)
    bags, targets = [toy_bag(tiles, seed=tiles) for tiles in (9, 30, 8)], [1, 0, 1]
    batch = pack(bags, targets)
    losses, instance_losses = [], []
    output = model(batch)
    for number, (bag, target) in enumerate(zip(bags, targets, strict=True)):
        h = model.embed(torch.from_numpy(bag.features))[None]
        logit, scores = theirs(h, return_att=True)
        torch.testing.assert_close(output.logits[number], logit, rtol=1e-5, atol=1e-5)
        found = output.attention[batch.offsets[number] : batch.offsets[number + 1]]
        torch.testing.assert_close(found, scores[0].softmax(0), rtol=1e-5, atol=1e-6)
        losses.append(functional.binary_cross_entropy_with_logits(logit, torch.tensor([float(target)])))
        instance_losses.append(theirs.compute_inst_loss(scores, h, torch.tensor([target])) / 2)
    expected = 0.7 * sum(losses) / 3 + 0.3 * sum(instance_losses) / 3
    torch.testing.assert_close(model.objective(batch, Binary()), expected, rtol=1e-5, atol=1e-5)


def as_published(model, bag, marks, k, name, subtyping):
    """Logits (C,) and instance loss of one bag, branch by branch as in the authors' code; `marks` (C,)."""
    h = model.embed(torch.from_numpy(bag.features))
    attention = model.attend(h).softmax(dim=0)  # (N, K)
    z = attention.T @ h  # (K, hidden)
    many = attention.shape[1] > 1
    logits = (model.classify.weight * z).sum(dim=1) + model.classify.bias if many else model.classify(z)[0]
    losses = []
    for branch, marked in enumerate(marks):
        column = attention[:, branch if many else 0]
        weight = model.instances.weight[2 * branch : 2 * branch + 2]
        bias = model.instances.bias[2 * branch : 2 * branch + 2]
        top, bottom = (functional.linear(h[torch.topk(one, k).indices], weight, bias) for one in (column, -column))
        if marked:
            answers = torch.tensor([1] * k + [0] * k)
            losses.append(LOSSES[name](torch.cat([top, bottom]), answers))
        elif subtyping:
            losses.append(LOSSES[name](top, torch.zeros(k, dtype=torch.long)))
    return logits, sum(losses) / len(losses)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("subtyping", [False, True])
@pytest.mark.parametrize("kind", [ClamSB, ClamMB])
def test_both_are_as_published_for_three_classes(kind, subtyping, name):
    torch.manual_seed(0)
    model = kind(12, 2, dropout=0.0, k=3, bag_weight=0.6, instance_loss=name, subtyping=subtyping).eval()
    bags, targets = [toy_bag(tiles, seed=tiles) for tiles in (6, 40, 11)], [2, 0, 1]
    classes = torch.eye(3, dtype=torch.bool)[targets]
    published = [as_published(model, bag, marks, 3, name, subtyping) for bag, marks in zip(bags, classes, strict=True)]
    batch = pack(bags, targets)
    logits = torch.stack([one for one, _ in published])
    if kind is ClamMB:
        found = functional.pad(model(batch).logits, (1, 0)).softmax(dim=1)
        torch.testing.assert_close(found, logits.softmax(dim=1), rtol=1e-5, atol=1e-6)
        bag_loss = functional.cross_entropy(logits, torch.tensor(targets))
    else:
        torch.testing.assert_close(model(batch).logits, logits, rtol=1e-5, atol=1e-5)
        bag_loss = Classes(2)(logits, torch.tensor(targets))
    expected = 0.6 * bag_loss + 0.4 * sum(loss for _, loss in published) / 3
    torch.testing.assert_close(model.objective(batch, Classes(2)), expected, rtol=1e-5, atol=1e-5)


def test_a_grade_asks_the_branches_of_all_levels_below_it():
    """Where a bag marks several outputs, its instance loss is the mean of theirs."""
    torch.manual_seed(0)
    model = ClamMB(12, 3, dropout=0.0, k=3, bag_weight=0.0).eval()
    bags, targets = [toy_bag(20), toy_bag(15, seed=1)], [2, 0]
    marks = torch.tensor([[False, True, True, False], [True, False, False, False]])
    losses = [as_published(model, bag, one, 3, "svm", False)[1] for bag, one in zip(bags, marks, strict=True)]
    torch.testing.assert_close(model.objective(pack(bags, targets), Levels(3)), sum(losses) / 2, rtol=1e-5, atol=1e-6)


def test_no_tile_of_a_small_bag_is_asked_to_be_both():
    """Of five tiles and k = 8 two are positive and two negative; of one tile none."""
    torch.manual_seed(0)
    model = ClamSB(12, 1, dropout=0.0, bag_weight=0.0).eval()
    five, one = toy_bag(5), toy_bag(1)
    marks = torch.tensor([False, True])
    expected = as_published(model, five, marks, 2, "svm", False)[1]
    torch.testing.assert_close(model.objective(pack([five], [1]), Binary()), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.objective(pack([five, one], [1, 1]), Binary()), expected / 2, rtol=1e-5, atol=1e-6)
    alone = model.objective(pack([one, one], [1, 0]), Binary())
    assert alone.item() == 0
    alone.backward()
    assert not model.instances.weight.grad.any()


def test_tiles_are_told_apart_where_attention_underflows_to_zero():
    """Scores so far apart that all but one weight are zero still have a lowest tile."""
    torch.manual_seed(0)
    model = ClamSB(12, 1, dropout=0.0, k=1, bag_weight=0.0).eval()
    with torch.no_grad():
        model.attend.w.weight *= 1e4
    bag = toy_bag(9)
    h = model.embed(torch.from_numpy(bag.features))
    scores = model.attend(h)[:, 0]
    assert int((scores.softmax(0) == 0).sum()) > 1
    pairs = model.instances(h[torch.stack([scores.argmax(), scores.argmin()])])[:, 2:]
    expected = smooth_svm(pairs, torch.tensor([1, 0]))
    torch.testing.assert_close(model.objective(pack([bag], [1]), Binary()), expected, rtol=1e-5, atol=1e-6)


def test_instance_loss_of_a_margin_by_hand():
    """A lead of 3 costs log(1 + exp(1 - 3)) by the SVM and log(1 + exp(-3)) by cross-entropy."""
    bag = toy_bag(2)
    for name, expected in (("svm", 0.126928), ("cross_entropy", 0.0485874)):
        model = ClamSB(12, 1, k=1, bag_weight=0.0, instance_loss=name, subtyping=True).eval()
        with torch.no_grad():
            model.instances.weight.zero_()
            model.instances.bias.copy_(torch.tensor([3.0, 0.0, 1.0, 4.0]))
        # branch 1 is in-class: its lead for positive is 3 at the top tile and -3 at the bottom tile;
        # branch 0 is not: its lead for negative is 3 at the top tile
        wrong = expected + 3 if name == "cross_entropy" else 4 + 0.0181499  # log(1 + exp(4)) = 4 + log(1 + exp(-4))
        total = ((expected + wrong) / 2 + expected) / 2
        assert model.objective(pack([bag], [1]), Binary()).item() == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instance_loss": "hinge"}, "instance_loss is 'hinge'; it can be: svm, cross_entropy"),
        ({"k": 0}, "k is 0"),
        ({"bag_weight": 1.5}, "bag_weight 1.5"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        ClamSB(12, 1, **options)
