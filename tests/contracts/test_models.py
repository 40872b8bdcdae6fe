import pytest
import torch
from torch import nn

from mil.bag import MILOutput
from mil.models import MODELS
from mil.segments import segment_sum
from mil.testing import check_model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_model_keeps_the_contract(name, n_outputs):
    check_model(MODELS[name], n_outputs=n_outputs)


class Sloppy(nn.Module):
    """Attention that does not sum to 1."""

    def __init__(self, dim, n_outputs):
        super().__init__()
        self.classify = nn.Linear(dim, n_outputs)

    def forward(self, batch):
        scores = self.classify(batch.features)
        return MILOutput(segment_sum(scores, batch.offsets), torch.ones(len(scores)), scores)


class Mixing(nn.Module):
    """A bag that depends on its neighbours in the pack."""

    def __init__(self, dim, n_outputs):
        super().__init__()
        self.classify = nn.Linear(dim, n_outputs)

    def forward(self, batch):
        scores = self.classify(batch.features - batch.features.mean(dim=0))
        lengths = batch.offsets.diff()
        attention = (1 / lengths).repeat_interleave(lengths)
        return MILOutput(segment_sum(scores * attention[:, None], batch.offsets), attention, scores)


def test_contract_finds_faults():
    with pytest.raises(AssertionError, match="attention does not sum to 1"):
        check_model(Sloppy)
    with pytest.raises(AssertionError, match="differs from the bag alone"):
        check_model(Mixing)
