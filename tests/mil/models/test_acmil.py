import pytest
import torch
from torch.nn import functional

from mil.bag import pack
from mil.models.acmil import ACMIL, likeness
from mil.testing import toy_bag
from tests.mil.models.oracles import Classes
from wsi.errors import UsageError


def as_published(model, bag):
    """Branch logits (K, L), slide logits (L,) and attention (N, K) of one bag, as in the authors' ACMIL_GA."""
    h = model.embed(torch.from_numpy(bag.features))
    attention = model.attend(h).softmax(dim=0)
    branches = torch.stack([one(attention[:, k] @ h) for k, one in enumerate(model.classify_branch)])
    return branches, model.classify(attention.mean(dim=1) @ h), attention


def test_objective_is_that_of_the_authors():
    """Without hiding: loss of the slide, of the branches, and mean cosine of each pair of attentions."""
    torch.manual_seed(0)
    model = ACMIL(12, 2, branches=3).eval()
    bags, targets = [toy_bag(9), toy_bag(1, seed=1), toy_bag(40, seed=2)], torch.tensor([2, 0, 1])
    batch = pack(bags, targets.numpy())
    output, criterion = model(batch), Classes(2)
    losses = []
    for number, bag in enumerate(bags):
        branches, slide, attention = as_published(model, bag)
        torch.testing.assert_close(output.logits[number], slide, rtol=1e-5, atol=1e-5)
        found = output.attention[batch.offsets[number] : batch.offsets[number + 1]]
        torch.testing.assert_close(found, attention.mean(dim=1), rtol=1e-5, atol=1e-6)
        target = targets[number : number + 1]
        pairs = [(0, 1), (0, 2), (1, 2)]
        cosines = [functional.cosine_similarity(attention[:, i], attention[:, j], dim=0) for i, j in pairs]
        losses.append(criterion(slide[None], target) + criterion(branches, target.repeat(3)) + sum(cosines) / 3)
    torch.testing.assert_close(model.objective(batch, criterion), sum(losses) / 3, rtol=1e-5, atol=1e-5)


def test_likeness_by_hand():
    """(1, 0) and (0, 1) have cosine 0; (1, 0) and (1, 1) have 1 / sqrt(2); a tile alone has 1."""
    attention = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.5], [0.0, 0.5], [1.0, 1.0]])
    expected = torch.tensor([0.0, 0.5**0.5, 1.0])
    torch.testing.assert_close(likeness(attention, torch.tensor([0, 2, 4, 5])), expected)
    assert likeness(attention[:, :1], torch.tensor([0, 5])).tolist() == pytest.approx([0.0], abs=1e-6)


@pytest.mark.parametrize(("tiles", "top", "hidden"), [(40, 10, 6), (7, 7, 4), (2, 2, 1), (1, 1, 0)])
def test_tiles_are_hidden_from_a_branch_among_its_highest(tiles, top, hidden):
    """With share 0.6 of the 10 highest, or of all in a smaller bag: 6 of 10, 4 of 7, 1 of 2, none of 1."""
    torch.manual_seed(0)
    model = ACMIL(12, 1, branches=1, dropout=0.0)
    batch = pack([toy_bag(30, seed=5), toy_bag(tiles)])
    seen = model.eval()(batch).attention[30:]
    challenged = model.train()(batch).attention[30:]
    gone = (challenged == 0).nonzero()[:, 0]
    assert len(gone) == hidden
    assert set(gone.tolist()) <= set(seen.argsort(descending=True)[:top].tolist())
    kept = challenged > 0
    torch.testing.assert_close(challenged[kept], seen[kept] / seen[kept].sum(), rtol=1e-5, atol=1e-7)


def test_dropout_does_not_change_which_tiles_are_highest():
    torch.manual_seed(0)
    model = ACMIL(12, 1, branches=1, dropout=0.5)
    batch = pack([toy_bag(200)])
    highest = set(model.eval()(batch).attention.argsort(descending=True)[:10].tolist())
    gone = (model.train()(batch).attention == 0).nonzero()[:, 0]
    assert len(gone) == 6
    assert set(gone.tolist()) <= highest


def test_which_tiles_are_hidden_is_drawn_anew_and_repeats_with_the_seed():
    torch.manual_seed(0)
    model = ACMIL(12, 1, branches=1, dropout=0.0).train()
    batch = pack([toy_bag(40)])

    def gone(seed):
        torch.manual_seed(seed)
        return set((model(batch).attention == 0).nonzero()[:, 0].tolist())

    draws = [gone(seed) for seed in range(30)]
    assert draws[3] == gone(3)
    assert len(set().union(*draws)) == 10, "each of the highest ten is hidden at times"
    assert len({frozenset(draw) for draw in draws}) > 20


def test_nothing_is_hidden_in_evaluation_or_without_a_share():
    torch.manual_seed(0)
    model = ACMIL(12, 1, branches=2, dropout=0.0, hidden_share=0.0)
    batch = pack([toy_bag(40)])
    assert (model.eval()(batch).attention > 0).all()
    torch.testing.assert_close(model.train()(batch).attention, model.eval()(batch).attention)


@pytest.mark.parametrize("options", [{"branches": 0}, {"top_tiles": -1}, {"hidden_share": 1.0}])
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(UsageError, match="expected branches >= 1, top_tiles >= 0 and a share from 0 to below 1"):
        ACMIL(12, 1, **options)
