import torch

from mil.bag import pack
from mil.models.pooling import MaxPooling, MeanPooling
from mil.testing import toy_bag


def embedded(model, bag):
    return model.embed(torch.from_numpy(bag.features))


def test_mean_is_the_mean():
    model = MeanPooling(12, 2).eval()
    bags = [toy_bag(5), toy_bag(1, seed=1)]
    output = model(pack(bags))
    for number, bag in enumerate(bags):
        expected = model.classify(embedded(model, bag).mean(dim=0))
        torch.testing.assert_close(output.logits[number], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(output.attention, torch.tensor([0.2] * 5 + [1.0]))


def test_max_is_the_maximum_and_attention_counts_the_axes_won():
    torch.manual_seed(0)
    model = MaxPooling(12, 2, hidden=8).eval()
    bag = toy_bag(5)
    h = embedded(model, bag)
    output = model(pack([bag]))
    torch.testing.assert_close(output.logits[0], model.classify(h.amax(dim=0)), rtol=1e-5, atol=1e-6)
    expected = torch.zeros(5)
    for axis in range(8):
        winners = h[:, axis] == h[:, axis].max()
        expected[winners] += 1 / 8 / winners.sum()
    torch.testing.assert_close(output.attention, expected)


def test_equal_tiles_share_attention():
    model = MaxPooling(12, 2).eval()
    bag = toy_bag(1)
    same = bag.take(torch.zeros(4, dtype=torch.int64).numpy())
    torch.testing.assert_close(model(pack([same])).attention, torch.full((4,), 0.25))
