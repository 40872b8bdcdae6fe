import numpy as np
import torch

from mil.bag import pack
from mil.models.rnn import RNN
from mil.testing import toy_bag

LENGTHS = (30, 1, 3, 12)


def packed():
    return pack([toy_bag(tiles, seed=tiles) for tiles in LENGTHS], [1, 0, 2, 1])


def written_out(model, features):
    """Logits of one bag, its tiles from the highest down, and the scores of the highest."""
    h = torch.relu(features @ model.embed[0].weight.T + model.embed[0].bias)
    scores = h @ model.classify_tile.weight.T + model.classify_tile.bias
    order = np.argsort(-scores.detach().numpy().max(axis=1))
    state = torch.zeros(model.keep.in_features)
    for tile in order[: model.top]:
        read = h[tile] @ model.read.weight.T + model.read.bias
        state = torch.relu(read + state @ model.keep.weight.T + model.keep.bias)
    return state @ model.classify.weight.T + model.classify.bias, order, scores[order[0]]


def test_equals_the_equations_written_out_for_each_bag():
    torch.manual_seed(0)
    model, batch = RNN(12, 3, top=5).eval(), packed()
    output = model(batch)
    shares = output.attention.split(LENGTHS)
    for features, logits, share in zip(batch.features.split(LENGTHS), output.logits, shares, strict=True):
        expected, order, _ = written_out(model, features)
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
        seen = order[:5]
        np.testing.assert_allclose(share[seen].numpy(), 1 / len(seen), rtol=1e-6)
        assert float(share.sum()) - float(share[seen].sum()) == 0


def test_tiles_are_read_from_the_highest_down():
    torch.manual_seed(0)
    model, bag = RNN(12, 1, top=6).eval(), toy_bag(40)
    answers = model(pack([bag])).logits
    highest = written_out(model, torch.from_numpy(bag.features))[1][:6]
    torch.testing.assert_close(model(pack([bag.take(highest)])).logits, answers)
    with torch.no_grad():
        model.classify_tile.weight.neg_()  # the same six from the lowest up
        assert (model(pack([bag.take(highest)])).logits - answers).abs() > 1e-4


def test_of_equal_tiles_the_first_are_read():
    torch.manual_seed(0)
    model, bag = RNN(12, 2, top=3).eval(), toy_bag(5).take(np.zeros(5, dtype=np.int64))
    third = torch.tensor(1 / 3)
    torch.testing.assert_close(model(pack([bag])).attention, torch.stack([third] * 3 + [third * 0] * 2))


class Squares:
    def __call__(self, outputs, targets):
        return (outputs - targets[:, None]).square().mean()


def test_objective_is_the_loss_of_the_highest_tiles_and_of_the_bags():
    torch.manual_seed(0)
    model, batch = RNN(12, 3, top=5).eval(), packed()
    found = [written_out(model, features) for features in batch.features.split(LENGTHS)]
    bags, tiles = (torch.stack([one[part] for one in found]) for part in (0, 2))
    expected = sum((part - batch.targets[:, None]).square().mean() for part in (bags, tiles))
    torch.testing.assert_close(model.objective(batch, Squares()), expected)


def test_what_the_network_learns_leaves_the_tile_classifier_alone():
    torch.manual_seed(0)
    model, batch = RNN(12, 3, top=5).eval(), packed()
    model.objective(batch, Squares()).backward()
    whole = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    tiles = [written_out(model, features)[2] for features in batch.features.split(LENGTHS)]
    Squares()(torch.stack(tiles), batch.targets).backward()
    for part in (model.embed[0], model.classify_tile):
        for name, parameter in part.named_parameters():
            prefix = "embed.0" if part is model.embed[0] else "classify_tile"
            torch.testing.assert_close(whole[f"{prefix}.{name}"], parameter.grad, rtol=1e-5, atol=1e-7)
    assert all(whole[f"{part}.weight"].any() for part in ("read", "keep", "classify"))


def test_neither_dropout_nor_half_precision_choose_the_tiles():
    torch.manual_seed(0)
    model, batch = RNN(12, 3, top=200, dropout=0.5), pack([toy_bag(3000), toy_bag(2)])
    expected = model.eval()._highest(batch)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.train()._highest(batch)[0], expected)


def test_nothing_is_kept_of_the_tiles_that_are_not_read():
    model, batch = RNN(12, 1), pack([toy_bag(30_000)], [1])
    kept = []

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.objective(batch, Squares()).backward()
    assert kept
    assert max(kept) < 30_000
