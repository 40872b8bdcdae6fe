"""The scores of gated attention, as several models use them.

Ilse, Tomczak, Welling: Attention-based Deep Multiple Instance Learning, ICML 2018, equation 9.
https://arxiv.org/abs/1802.04712

    s_i = w^T ( tanh(V h_i) * sigmoid(U h_i) )
"""

import torch
from torch import Tensor, nn


class GatedAttention(nn.Module):
    """Scores of `heads` attentions side by side that share V and U; what is softmaxed over a bag."""

    def __init__(self, hidden: int, attention_dim: int, heads: int = 1):
        super().__init__()
        self.v = nn.Linear(hidden, attention_dim)
        self.u = nn.Linear(hidden, attention_dim)
        self.w = nn.Linear(attention_dim, heads)

    def forward(self, h: Tensor) -> Tensor:
        """Tile embeddings (n, hidden) to scores (n, heads)."""
        scores: Tensor = self.w(torch.tanh(self.v(h)) * torch.sigmoid(self.u(h)))
        return scores
