"""What is minimised: the loss of the logits, or what a model says itself."""

import torch
from torch import nn

from mil.bag import MILOutput, pack
from mil.losses.ordinal import Corn
from mil.model import MILModel
from mil.models import MODELS
from mil.network import Network, NetworkSpec
from mil.segments import segment_mean
from mil.testing import toy_bag


class Plain(nn.Module):
    """A model from elsewhere, without an objective."""

    def __init__(self, dim, n_outputs):
        super().__init__()
        self.classify = nn.Linear(dim, n_outputs)

    def forward(self, batch):
        scores = self.classify(batch.features)
        attention = (1 / batch.offsets.diff()).repeat_interleave(batch.offsets.diff())
        return MILOutput(segment_mean(scores, batch.offsets), attention, scores)


class Doubled(MILModel, Plain):
    def __init__(self, dim, n_outputs):
        Plain.__init__(self, dim, n_outputs)

    def forward(self, batch):
        return Plain.forward(self, batch)

    def objective(self, batch, criterion):
        marks = criterion.marks(batch.targets)
        assert marks.tolist() == [[True, False], [True, True]]
        return 2 * criterion(self.logits(batch), batch.targets)


def test_network_minimises_the_loss_or_the_models_own_objective(monkeypatch):
    monkeypatch.setattr("mil.network.MODELS", {"plain": Plain, "doubled": Doubled})
    batch = pack([toy_bag(5), toy_bag(9)], [1, 2])
    values = []
    for name in ("plain", "doubled"):
        torch.manual_seed(0)
        network = Network(NetworkSpec(name, "corn", 12, 3))
        values.append(network.objective(batch, Corn(3)))
        expected = Corn(3)(network(batch).logits, batch.targets)
        torch.testing.assert_close(values[-1], expected * len(values))


def test_logits_alone_are_those_of_the_whole_output():
    batch = pack([toy_bag(5), toy_bag(9)])
    for name in MODELS:
        torch.manual_seed(0)
        model = MODELS[name](12, 3).eval()
        torch.testing.assert_close(model.logits(batch), model(batch).logits)
