import torch

from mil.models.gated_attention import GatedAttention
from tests.mil.models.oracles import torchmil_pool


def test_scores_are_those_of_torchmil():
    """But for a constant: torchmil, like the paper, has no bias in w, which softmax would cancel."""
    torch.manual_seed(0)
    ours = GatedAttention(7, 5)
    h = torch.randn(9, 7)
    _, scores = torchmil_pool(ours)(h[None], return_att=True)
    torch.testing.assert_close(ours(h)[:, 0] - ours.w.bias, scores[0])


def test_each_head_has_a_w_of_its_own():
    torch.manual_seed(0)
    ours = GatedAttention(7, 5, heads=3)
    h = torch.randn(9, 7)
    gate = torch.tanh(h @ ours.v.weight.T + ours.v.bias) / (1 + torch.exp(-(h @ ours.u.weight.T + ours.u.bias)))
    torch.testing.assert_close(ours(h)[:, 2], gate @ ours.w.weight[2] + ours.w.bias[2])
