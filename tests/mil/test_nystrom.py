"""Against the equations written out for one sequence, with every zero in its place, in float64."""

import numpy as np
import pytest
import torch

from mil.nystrom import NystromAttention

SETTINGS = [
    (1, 4),  # fewer tokens than landmarks: each is one
    (3, 4),
    (4, 4),  # nothing to fill up
    (8, 4),
    (9, 4),  # stretches of 3; 3 zeros are one landmark
    (10, 4),  # 2 zeros share a landmark with a token
    (33, 8),  # stretches of 5; 7 zeros are one landmark and a part of the next
    (50, 16),
]


def written_out(layer, x):
    """What each token of one sequence (n, dim) reads, and F Z B (n, n) mean over the heads."""
    n, m, heads = len(x), layer.landmarks, layer.heads
    x = np.concatenate([np.zeros((-n % m, x.shape[1])), x])
    q, k, v = np.split(x @ layer.qkv.weight.detach().numpy().T, 3, axis=1)
    q, k, v = (part.reshape(len(x), heads, -1).transpose(1, 0, 2) for part in (q, k, v))
    q = q / np.sqrt(q.shape[2])
    q_marks, k_marks = (part.reshape(heads, m, -1, part.shape[2]).mean(axis=2) for part in (q, k))
    f, a, b = (
        softmax(one @ other.transpose(0, 2, 1)) for one, other in ((q, k_marks), (q_marks, k_marks), (q_marks, k))
    )
    z = a.transpose(0, 2, 1) / (a.sum(axis=2).max() * a.sum(axis=1).max())
    eye = np.eye(m)
    for _ in range(layer.iterations):
        z = 0.25 * z @ (13 * eye - a @ z @ (15 * eye - a @ z @ (7 * eye - a @ z)))
    taps = layer.residual.weight.detach().numpy()[:, 0, :, 0]
    weights = f @ z @ b
    read = weights @ v
    for head in range(heads):
        for axis in range(v.shape[2]):
            read[head, :, axis] += np.convolve(v[head, :, axis], taps[head][::-1], "full")[len(taps[head]) // 2 :][
                : len(x)
            ]
    joined = read.transpose(1, 0, 2).reshape(len(x), -1)[-n:]
    out = joined @ layer.out[0].weight.detach().numpy().T + layer.out[0].bias.detach().numpy()
    return out, weights.mean(axis=0)[-n:, -n:]


def softmax(scores):
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    return weights / weights.sum(axis=2, keepdims=True)


def made(m, dim=6):
    torch.manual_seed(0)
    layer = NystromAttention(dim, heads=2, landmarks=m, iterations=6, kernel=5, dropout=0.1).double().eval()
    with torch.no_grad():
        layer.qkv.weight *= 3
    return layer


@pytest.mark.parametrize(("n", "m"), SETTINGS)
def test_equals_the_equations_with_all_zeros_in_place(n, m):
    layer = made(m)
    x = torch.randn(3, n, 6, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    with torch.no_grad():
        found, first, weights = layer(x), layer.first(x), layer.first_weights(x)
    for number in range(3):
        expected, expected_weights = written_out(layer, x[number].numpy())
        np.testing.assert_allclose(found[number].numpy(), expected, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(first[number].numpy(), expected[0], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(weights[number].numpy(), expected_weights[0], rtol=1e-7, atol=1e-9)


def test_weights_found_in_parts_are_the_same(monkeypatch):
    layer, x = made(8), torch.randn(2, 50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = layer.first_weights(x)
    monkeypatch.setattr("mil.nystrom.CHUNK", 1)
    torch.testing.assert_close(layer.first_weights(x), whole)


def test_the_first_token_alone_has_the_gradients_of_the_whole():
    layer = made(4)
    x = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    inputs = [x, *layer.parameters()]
    expected = torch.autograd.grad(layer(x)[:, 0].sin().sum(), inputs)
    for one, other in zip(torch.autograd.grad(layer.first(x).sin().sum(), inputs), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_near_softmax_attention_when_each_token_is_a_landmark():
    """F Z B is then A A^+ A = A, as far as six steps come towards the inverse."""
    layer = made(12)
    with torch.no_grad():
        layer.residual.weight.zero_()
        x = torch.randn(1, 12, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        q, k, _ = layer.qkv(x[0]).reshape(12, 3, 2, 3).permute(1, 2, 0, 3)
        exact = torch.softmax(q @ k.mT / 3**0.5, dim=2).mean(dim=0)[0]
        layer.iterations = 40
        torch.testing.assert_close(layer.first_weights(x)[0], exact, rtol=1e-5, atol=1e-7)
