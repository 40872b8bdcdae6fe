"""Gated attention scores, a block of tiles at a time.

Ilse, Tomczak, Welling: Attention-based Deep Multiple Instance Learning, ICML 2018, equation 9.
https://arxiv.org/abs/1802.04712

    s_i = w^T ( tanh(V h_i + b_V) * sigmoid(U h_i + b_U) ) + b_w

On a CPU a block of tiles goes through all of it while it is in the cache: layer by layer each step would take the
embeddings of a large bag from memory and back.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mil.models.embedding import blocks


class GatedAttention(nn.Module):
    """Scores of `heads` attentions side by side that share V and U."""

    def __init__(self, hidden: int, attention_dim: int, heads: int = 1):
        super().__init__()
        self.v = nn.Linear(hidden, attention_dim)
        self.u = nn.Linear(hidden, attention_dim)
        self.w = nn.Linear(attention_dim, heads)

    def forward(self, h: Tensor) -> Tensor:
        """Tile embeddings (n, hidden) to scores (n, heads), of which softmax over a bag makes attention."""
        return gated_scores(h, self.v, self.u, self.w)


def gated_scores(h: Tensor, v: nn.Linear, u: nn.Linear, w: nn.Linear) -> Tensor:
    """(n, hidden) to scores (n, K), of which softmax over a bag makes attention.

    Parameters
    ----------
    v, u : nn.Linear
        hidden to attention_dim A.
    w : nn.Linear
        A to K.
    """
    if h.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        scores: Tensor = w(torch.tanh(v(h)) * torch.sigmoid(u(h)))
        return scores
    gated: Tensor = _GatedScores.apply(h, v.weight, v.bias, u.weight, u.bias, w.weight, w.bias)
    return gated


class _GatedScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h: Tensor, v: Tensor, v_bias: Tensor, u: Tensor, u_bias: Tensor, w: Tensor, w_bias: Tensor
    ) -> Tensor:
        tanh, gate = (h.new_empty((len(h), len(v))) for _ in range(2))  # (n, A)
        scores = h.new_empty((len(h), len(w)))  # (n, K)
        for rows in blocks(len(h)):
            torch.addmm(v_bias, h[rows], v.T, out=tanh[rows]).tanh_()
            torch.addmm(u_bias, h[rows], u.T, out=gate[rows]).sigmoid_()
            torch.addmm(w_bias, tanh[rows] * gate[rows], w.T, out=scores[rows])
        ctx.save_for_backward(h, v, u, w, tanh, gate)
        return scores

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, ...]:
        h, v, u, w, tanhs, gates = ctx.saved_tensors
        d_v, d_u, d_w = torch.zeros_like(v), torch.zeros_like(u), torch.zeros_like(w)
        d_v_bias, d_u_bias = v.new_zeros(len(v)), u.new_zeros(len(u))
        d_h = torch.empty_like(h)
        for rows in blocks(len(h)):
            tanh, gate = tanhs[rows], gates[rows]
            product = tanh * gate  # (n, A)
            d_w.addmm_(slope[rows].T, product)
            d_product = slope[rows] @ w  # (n, A)
            d_tanh = (gate - product * tanh) * d_product  # gate (1 - tanh^2)
            d_gate = (product - product * gate) * d_product  # tanh gate (1 - gate)
            d_v.addmm_(d_tanh.T, h[rows])
            d_u.addmm_(d_gate.T, h[rows])
            d_v_bias += d_tanh.sum(dim=0)
            d_u_bias += d_gate.sum(dim=0)
            torch.mm(d_tanh, v, out=d_h[rows]).addmm_(d_gate, u)
        return d_h, d_v, d_v_bias, d_u, d_u_bias, d_w, slope.sum(dim=0)
