"""What several tests of models share: a loss of two classes, and weights of ours in modules of torchmil."""

import torch
from torch.nn import functional
from torchmil.nn import AttentionPool


class Binary:
    """Cross-entropy of one logit: class 1 marks it."""

    def __call__(self, outputs, targets):
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.to(outputs.dtype))

    def marks(self, targets):
        return targets[:, None] == 1


class Classes:
    """Cross-entropy with a zero logit for class 0: each other class marks an output."""

    def __init__(self, n_outputs):
        self.n_outputs = n_outputs

    def __call__(self, outputs, targets):
        return functional.cross_entropy(functional.pad(outputs, (1, 0)), targets)

    def marks(self, targets):
        return targets[:, None] == torch.arange(1, self.n_outputs + 1)


class Levels:
    """Binary cross-entropy at each level of a grade: output k is marked for the grades above k."""

    def __init__(self, n_outputs):
        self.n_outputs = n_outputs

    def __call__(self, outputs, targets):
        return functional.binary_cross_entropy_with_logits(outputs, self.marks(targets).to(outputs.dtype))

    def marks(self, targets):
        return targets[:, None] > torch.arange(self.n_outputs)


def torchmil_pool(attend):
    """torchmil's attention pooling with the weights of a `GatedAttention` of one head."""
    hidden, width = attend.v.in_features, attend.v.out_features
    pool = AttentionPool(in_dim=hidden, att_dim=width, gated=True)
    copy_linear(pool.fc1, attend.v)
    copy_linear(pool.fc_gated, attend.u)
    with torch.no_grad():
        pool.fc2.weight.copy_(attend.w.weight)  # it has no bias: softmax would cancel it
    return pool


def copy_linear(theirs, ours):
    layer = getattr(theirs, "module", theirs)  # torchmil's lazy layer holds a linear one
    with torch.no_grad():
        layer.weight.copy_(ours.weight)
        layer.bias.copy_(ours.bias)
