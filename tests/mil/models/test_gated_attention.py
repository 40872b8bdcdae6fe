import torch
from torch import nn

from mil.models.gated_attention import GatedAttention, gated_scores
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


def test_scores_and_gradients_are_those_of_the_layers_written_out():
    torch.manual_seed(0)
    v, u, w = nn.Linear(7, 5).double(), nn.Linear(7, 5).double(), nn.Linear(5, 2).double()
    h = torch.randn(30, 7, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(30, 2, dtype=torch.float64)
    leaves = [h, *v.parameters(), *u.parameters(), *w.parameters()]
    fused = gated_scores(h, v, u, w)
    written_out = w(torch.tanh(v(h)) * torch.sigmoid(u(h)))
    torch.testing.assert_close(fused, written_out)
    found = torch.autograd.grad((fused * direction).sum(), leaves)
    for one, other in zip(found, torch.autograd.grad((written_out * direction).sum(), leaves), strict=True):
        torch.testing.assert_close(one, other)


def test_extreme_activities_have_finite_gradients():
    v, u, w = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(2, 1)
    h = torch.tensor([[1e6, -1e6, 1e6], [0.0, 0.0, 0.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(gated_scores(h, v, u, w).sum(), [h])
    assert torch.isfinite(slope).all()
