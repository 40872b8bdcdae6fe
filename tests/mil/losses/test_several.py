import numpy as np
import pytest
import torch

from mil.losses.cox import Cox
from mil.losses.imbalance import CrossEntropy
from mil.losses.ordinal import Coral
from mil.losses.several import Several
from wsi.errors import UsageError

NAN = float("nan")
TARGETS = {
    "grade": {"loss": "coral", "n_classes": 4},
    "mutated": {"loss": "cross_entropy", "n_classes": 2, "weight": 0.5, "options": {"class_counts": [30, 10]}},
    "survival": {"loss": "cox", "weight": 2},
}


def made():
    torch.manual_seed(0)
    loss = Several(TARGETS)
    layer = loss.layer()
    with torch.no_grad():
        layer.layers[0].first.fill_(0.7)
    return loss, layer, torch.randn(5, loss.n_outputs)


def test_loss_is_the_weighted_sum_over_what_is_known():
    loss, layer, outputs = made()
    known = torch.tensor([[0, 1, 3.0, 1], [2, NAN, 1, 1], [-1, 0, NAN, NAN], [NAN, NAN, 2, 0], [3, 0, NAN, NAN]])
    logits = layer(outputs)
    assert loss.n_outputs == 1 + 1 + 1
    assert logits.shape == (5, 3 + 2 + 1)
    expected = (
        3 / 5 * Coral(4)(logits[[0, 1, 4], :3], torch.tensor([0, 2, 3]))
        + 0.5 * 3 / 5 * CrossEntropy(2, [30, 10])(logits[[0, 2, 4], 3:5], torch.tensor([1, 0, 0]))
        + 2 * 3 / 5 * Cox()(logits[[0, 1, 3], 5:], known[[0, 1, 3], 2:])
    )
    torch.testing.assert_close(loss(logits, known), expected)
    assert loss.marks(known).tolist() == [
        [False, True, True],
        [True, False, True],
        [False, False, False],
        [False, False, False],
        [True, False, False],
    ]


def test_answers_are_those_of_the_parts():
    loss, layer, outputs = made()
    logits = layer(outputs).detach().numpy()
    answers = loss.answers(logits)
    np.testing.assert_allclose(answers["grade"], Coral(4).probabilities(logits[:, :3]))
    np.testing.assert_allclose(answers["mutated"], CrossEntropy(2, [30, 10]).probabilities(logits[:, 3:5]))
    np.testing.assert_allclose(answers["survival"], logits[:, 5:])
    np.testing.assert_array_equal(loss.values(logits), np.concatenate(list(answers.values()), axis=1))


def test_a_target_that_nobody_has_leaves_its_outputs_alone():
    loss, layer, outputs = made()
    outputs.requires_grad_()
    value = loss(layer(outputs), torch.tensor([[k % 4, NAN, NAN, NAN] for k in range(5)]))
    (gradient,) = torch.autograd.grad(value, outputs)
    assert (gradient[:, 0] != 0).all()
    assert not gradient[:, 1:].any()


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({}, "no target"),
        ({"a": {"loss": "corn"}}, "target a says no n_classes"),
        ({"a": {"loss": "cornn"}}, "target a has the loss 'cornn'; there are: cross_entropy.*, cox"),
        ({"a": {"loss": "cox", "wieght": 2}}, "target a says 'wieght'"),
    ],
)
def test_targets_that_cannot_be_built_are_refused(targets, said):
    with pytest.raises(UsageError, match=said):
        Several(targets)


def test_too_few_columns_are_refused():
    with pytest.raises(UsageError, match=r"targets of several are \(2, 3\); expected \(B, 4\)"):
        Several(TARGETS)(torch.zeros(2, 6), torch.zeros(2, 3))
