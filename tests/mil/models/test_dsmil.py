from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchmil import models as torchmil

from mil.bag import Bag, pack
from mil.models.dsmil import DSMIL
from mil.testing import toy_bag
from tests.mil.models.oracles import Binary, Classes, copy_linear


def test_is_that_of_torchmil():
    """torchmil has one output, v_i = h_i where the paper has v_i = W_v h_i, and leaves its two losses apart."""
    torch.manual_seed(0)
    model = DSMIL(12, 1, hidden=16, query_dim=8).eval()
    copy_linear(model.value[1], SimpleNamespace(weight=torch.eye(16), bias=torch.zeros(16)))
    theirs = torchmil.DSMIL(in_shape=(16,), att_dim=8).eval()
    copy_linear(theirs.q_nn, model.query)
    copy_linear(theirs.inst_classifier, model.classify_tile)
    copy_linear(theirs.bag_classifier, model.classify_bag)
    bags, targets = [toy_bag(tiles, seed=tiles) for tiles in (9, 1, 40)], [1, 0, 1]
    batch = pack(bags, targets)
    output, losses = model(batch), []
    for number, (bag, target) in enumerate(zip(bags, targets, strict=True)):
        h = model.embed(torch.from_numpy(bag.features))[None]
        torch.testing.assert_close(output.logits[number], theirs.predict(h), rtol=1e-5, atol=1e-5)
        _, attention = theirs(h, return_att=True)
        found = output.attention[batch.offsets[number] : batch.offsets[number + 1]]
        torch.testing.assert_close(found, attention[0, :, 0], rtol=1e-5, atol=1e-6)
        losses.append(sum(theirs.compute_loss(torch.tensor([target]), h)[1].values()) / 2)
    torch.testing.assert_close(model.objective(batch, Binary()), sum(losses) / 3, rtol=1e-5, atol=1e-5)


def as_published(model, bag):
    """Max stream (L,), bag stream (L,) and attention (N, L) of one bag; the authors' last layer is a convolution."""
    h = model.embed(torch.from_numpy(bag.features))
    scores, queries = model.classify_tile(h), model.query(h)
    leading = queries[scores.argmax(dim=0)]  # (L, query_dim)
    attention = (queries @ leading.T / queries.shape[1] ** 0.5).softmax(dim=0)
    pooled = attention.T @ model.value(h)  # (L, width)
    outputs = scores.shape[1]
    kernel = model.classify_bag.weight.reshape(outputs, outputs, -1)
    stream = functional.conv1d(pooled[None], kernel, model.classify_bag.bias)[0, :, 0]
    return scores.amax(dim=0), stream, attention


@pytest.mark.parametrize("hidden", [16, 0])
def test_several_outputs_are_as_published(hidden):
    torch.manual_seed(0)
    model = DSMIL(12, 3, hidden=hidden).eval()
    bags, targets = [toy_bag(tiles, seed=tiles) for tiles in (30, 2, 7)], torch.tensor([3, 0, 1])
    highest, pooled, attention = zip(*(as_published(model, bag) for bag in bags), strict=True)
    highest, pooled = torch.stack(highest), torch.stack(pooled)
    batch = pack(bags, targets.numpy())
    output, criterion = model(batch), Classes(3)
    torch.testing.assert_close(output.logits, (highest + pooled) / 2, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.attention, torch.cat(attention).mean(dim=1), rtol=1e-5, atol=1e-6)
    expected = (criterion(highest, targets) + criterion(pooled, targets)) / 2
    torch.testing.assert_close(model.objective(batch, criterion), expected, rtol=1e-5, atol=1e-5)


def test_equal_critical_tiles_are_one_answer():
    """A slide with the same tile twice: whichever is taken, the logits are the same."""
    torch.manual_seed(0)
    model, bag = DSMIL(12, 2).eval(), toy_bag(6)
    twice = bag.take(np.array([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]))
    assert isinstance(twice, Bag)
    turned = twice.take(np.arange(12)[::-1].copy())
    torch.testing.assert_close(model(pack([twice])).logits, model(pack([turned])).logits, rtol=1e-5, atol=1e-5)


def test_dropout_leaves_the_critical_tile_alone():
    """In training the max stream is that of evaluation, and attention to it as well."""
    torch.manual_seed(0)
    model, batch = DSMIL(12, 1, dropout=0.5), pack([toy_bag(20)])
    plain, noisy = model.eval()(batch), model.train()(batch)
    torch.testing.assert_close(plain.attention, noisy.attention)
    assert not torch.allclose(plain.logits, noisy.logits)
