"""Self-attention in time and memory linear in the tokens, by way of landmarks.

Xiong et al.: Nyströmformer: A Nyström-Based Algorithm for Approximating Self-Attention, AAAI 2021, equations 13 to 15.
https://arxiv.org/abs/2102.03902

    o = F Z (B v) + w * v,    F = softmax(q k~^T),    A = softmax(q~ k~^T),    B = softmax(q~ k^T),    Z ~ A^+
    Z_0 = A^T / (|A|_1 |A|_inf),    Z_{j+1} = Z_j (13 I - A Z_j (15 I - A Z_j (7 I - A Z_j))) / 4

q~ and k~ are means of q and k over m stretches of the sequence, * a convolution along it. The sequence is filled up
to a multiple of m with zeros in front, as by the program that TransMIL's authors used, and zeros have a part in every
softmax. They are all alike, so here one stands for all of them and is counted as often as there are. That gives the
same numbers, and a bag of one tile is a matter of three tokens and not of 256. Z (B v) is multiplied out first, so
that nothing of the size of tokens times landmarks is ever kept.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

CHUNK = 1 << 24
"""Attention weights held at a time, 64 MiB."""


class _Landmarks(NamedTuple):
    """What a layer needs to know of a sequence to say what any of its tokens reads; T is n, or n + 1 with a zero.

    Attributes
    ----------
    q, k, v : Tensor (g, heads, T, d)
        q is scaled.
    q_marks, k_marks : Tensor (g, heads, m', d)
        Of the landmarks that differ.
    marks_counted, tokens_counted : Tensor (m',), (T,)
        How many landmarks and tokens each of them stands for.
    inverse : Tensor (g, heads, m', m')
        Z between tokens and landmarks that are counted so often.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    q_marks: Tensor
    k_marks: Tensor
    marks_counted: Tensor
    tokens_counted: Tensor
    inverse: Tensor


class NystromAttention(nn.Module):
    """Attention among the tokens of g sequences of the same length n.

    Parameters
    ----------
    dim : int
        Length of a token, a multiple of `heads`.
    landmarks : int
        m.
    iterations : int
        Steps towards the inverse.
    kernel : int
        Width of the convolution over the values, odd.
    dropout : float
        Of what comes out.
    """

    def __init__(self, dim: int, heads: int, landmarks: int, iterations: int, kernel: int, dropout: float):
        super().__init__()
        self.heads, self.landmarks, self.iterations = heads, landmarks, iterations
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.residual = nn.Conv2d(heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False)
        self.out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """What each token reads: (g, n, dim) to the same."""
        seen = self._look(x)
        read = self._read(seen, seen.q) + self.residual(seen.v)  # (g, heads, T, d)
        joined = read.transpose(1, 2).flatten(2)  # (g, T, dim)
        return self.out(joined[:, -x.shape[1] :])  # (g, n, dim)

    def first(self, x: Tensor) -> Tensor:
        """What the first token reads, the same as `forward(x)[:, 0]`: (g, n, dim) to (g, dim)."""
        seen, zeros = self._look(x), self._zeros(x.shape[1])
        taps = self.residual.weight[:, 0, self.residual.padding[0] :]  # (heads, reach, 1)
        near = seen.v[:, :, zeros : zeros + taps.shape[1]]  # (g, heads, reach or fewer, d)
        read = self._read(seen, seen.q[:, :, zeros : zeros + 1])  # (g, heads, 1, d)
        read = read[:, :, 0] + (taps[:, : near.shape[2]] * near).sum(dim=2)  # (g, heads, d)
        return self.out(read.flatten(1))  # (g, dim)

    @torch.no_grad()
    def first_weights(self, x: Tensor) -> Tensor:
        """Weight of each token in what the first one reads, mean over the heads: (g, n, dim) to (g, n).

        They are entries of F Z B, of which some may be negative.
        """
        with torch.autocast(x.device.type, enabled=False):
            x, zeros = x.to(self.qkv.weight.dtype), self._zeros(x.shape[1])
            seen = self._look(x)
            first = seen.q[:, :, zeros : zeros + 1] @ seen.k_marks.mT + seen.marks_counted.log().to(
                x.dtype
            )  # (g, heads, 1, m')
            share = first.softmax(dim=3) @ seen.inverse  # (g, heads, 1, m')
            weights = x.new_zeros(len(x), len(seen.tokens_counted), dtype=share.dtype)  # (g, T)
            step = max(1, CHUNK // (weights.numel() * self.heads))
            for part, q in zip(torch.split(share, step, 3), torch.split(seen.q_marks, step, 2), strict=True):
                to_tokens = (q @ seen.k.mT + seen.tokens_counted.log().to(x.dtype)).softmax(
                    dim=3
                )  # (g, heads, step, T)
                weights += (part @ to_tokens).sum(dim=(1, 2))
            return weights[:, zeros:] / self.heads  # (g, n)

    def _zeros(self, n: int) -> int:
        """Zeros that stand in front of n tokens here: one for all, or none."""
        return int(n % self.landmarks > 0)

    def _look(self, x: Tensor) -> _Landmarks:
        n, m = x.shape[1], self.landmarks
        padding, stretch = -n % m, -(-n // m)
        idle, rest = divmod(padding, stretch)  # landmarks that are all zero, zeros in the first one that is not
        zeros = self._zeros(n)
        tokens = functional.pad(x, (0, 0, zeros, 0))  # (g, T, dim)
        parts = self.qkv(tokens).reshape(len(x), n + zeros, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # (g, heads, T, d)
        q = q * q.shape[3] ** -0.5
        front = rest + (stretch if idle else 0)
        q_marks, k_marks = (_means(part[:, :, zeros:], front, stretch) for part in (q, k))  # (g, heads, m', d)
        marks_counted = x.new_ones(q_marks.shape[2], dtype=torch.float64)
        tokens_counted = x.new_ones(n + zeros, dtype=torch.float64)
        if idle:
            marks_counted[0] = idle
        if zeros:
            tokens_counted[0] = padding
        inverse = self._inverse(q_marks, k_marks, marks_counted)
        return _Landmarks(q, k, v, q_marks, k_marks, marks_counted, tokens_counted, inverse)

    def _read(self, seen: _Landmarks, q: Tensor) -> Tensor:
        """(g, heads, t, d) of some queries to what they read."""
        with torch.autocast(q.device.type, enabled=False):
            held = _attend(seen.q_marks, seen.k, seen.v, seen.tokens_counted)  # (g, heads, m', d)
            held = (seen.inverse @ held.to(seen.inverse.dtype)).to(q.dtype)
            return _attend(q, seen.k_marks, held, seen.marks_counted)

    def _inverse(self, q: Tensor, k: Tensor, count: Tensor) -> Tensor:
        """Z of the landmarks that differ, in float32 at least: with root = sqrt(count) all steps are those of

            root A root, whose products and transposes are those of the m landmarks written out,

        and the factors root at both ends are moved to the left in the end.
        """
        with torch.autocast(q.device.type, enabled=False):
            q, k = (part if part.dtype == torch.float64 else part.float() for part in (q, k))
            count = count.to(q.dtype)
            root = count.sqrt()  # (m',)
            a = (q @ k.mT + count.log()).softmax(dim=3)  # (g, heads, m', m'), columns counted
            a = root[:, None] * a / root
            columns = (root[:, None] * a).sum(dim=2) / root  # (g, heads, m')
            # rows sum to 1; one scale for all heads of a bag
            z = a.mT / columns.amax(dim=(1, 2))[:, None, None, None]
            eye = torch.eye(len(count), dtype=q.dtype, device=q.device)
            for _ in range(self.iterations):
                az = a @ z
                z = 0.25 * z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az)))
            return z * root / root[:, None]


def _attend(q: Tensor, k: Tensor, v: Tensor, count: Tensor) -> Tensor:
    """Softmax attention to keys of which each counts `count` times: (g, heads, t, d) to the same."""
    often = count.log().to(q.dtype)[None, None, None]  # (1, 1, 1, T)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=often, scale=1.0)


def _means(tokens: Tensor, front: int, stretch: int) -> Tensor:
    """Means over stretches of a sequence with `front` zeros before it: (g, heads, n, d) to (g, heads, m', d)."""
    filled = functional.pad(tokens, (0, 0, front, 0))
    return filled.reshape(*filled.shape[:2], -1, stretch, filled.shape[3]).mean(dim=3)
