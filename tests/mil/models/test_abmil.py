from dataclasses import replace

import torch

from mil.bag import pack
from mil.models.abmil import GatedABMIL
from mil.testing import toy_bag


def test_equals_the_equations_written_out_for_one_bag():
    torch.manual_seed(0)
    model = GatedABMIL(12, 3).eval()
    bag = toy_bag(9)
    h = torch.relu(torch.from_numpy(bag.features) @ model.embed[0].weight.T + model.embed[0].bias)
    gate = torch.tanh(h @ model.v.weight.T + model.v.bias) / (1 + torch.exp(-(h @ model.u.weight.T + model.u.bias)))
    scores = (gate @ model.w.weight.T)[:, 0]  # equation 9 has no bias there, and softmax would cancel it
    attention = torch.exp(scores) / torch.exp(scores).sum()
    z = (attention[:, None] * h).sum(dim=0)
    output = model(pack([toy_bag(4, seed=1), bag]))
    torch.testing.assert_close(output.attention[4:], attention, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        output.logits[1], z @ model.classify.weight.T + model.classify.bias, rtol=1e-4, atol=1e-5
    )


def test_gradients_of_a_pack_are_the_sum_of_those_of_its_bags():
    torch.manual_seed(0)
    model = GatedABMIL(12, 3, dropout=0.0).double()
    bags = [toy_bag(tiles, seed=tiles) for tiles in (1, 30, 7)]

    def gradients(*packs):
        model.zero_grad()
        for bags in packs:
            batch = pack(bags)
            model(replace(batch, stored=batch.stored.double())).logits.square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    for together, alone in zip(gradients(bags), gradients(*([bag] for bag in bags)), strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-9)
