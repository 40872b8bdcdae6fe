import torch

from mil.losses.reference import AgainstReference, Reference


def test_first_class_is_the_reference():
    logits = Reference()(torch.tensor([[2.0, -1.0]]))
    assert logits.tolist() == [[0.0, 2.0, -1.0]]
    assert AgainstReference(3).n_outputs == 2
    assert AgainstReference(3).marks(torch.tensor([0, 1, 2])).tolist() == [[False, False], [True, False], [False, True]]
