"""The first layer that the models share: features to short tile embeddings."""

from torch import nn


def tile_embedding(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    """(sum N, D) to (sum N, hidden): a linear layer, ReLU and dropout."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout))
