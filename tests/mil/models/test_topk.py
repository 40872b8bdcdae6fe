import numpy as np
import torch

from mil.bag import pack
from mil.models.topk import TopK
from mil.testing import toy_bag


def test_logits_are_means_of_the_highest_tiles():
    torch.manual_seed(0)
    model = TopK(12, 3, k=4).eval()
    bags = [toy_bag(30), toy_bag(2, seed=1)]
    output = model(pack(bags))
    for number, scores in enumerate(output.tile_logits.split([30, 2])):
        expected = np.sort(scores.detach().numpy(), axis=0)[::-1][:4].mean(axis=0)
        np.testing.assert_allclose(output.logits[number].detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_attention_is_the_share_in_the_means():
    torch.manual_seed(0)
    model = TopK(12, 1, k=4).eval()
    output = model(pack([toy_bag(30)]))
    chosen = set(np.argsort(-output.tile_logits[:, 0].detach().numpy())[:4].tolist())
    expected = [0.25 if tile in chosen else 0.0 for tile in range(30)]
    np.testing.assert_allclose(output.attention.numpy(), expected)
