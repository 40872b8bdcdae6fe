"""Losses: how a target becomes a number to minimise, and logits become class probabilities."""

from wsi.registry import Registry

LOSSES = Registry(
    "loss",
    {
        "cross_entropy": "mil.losses.imbalance:CrossEntropy",
        "corn": "mil.losses.ordinal:Corn",
        "coral": "mil.losses.ordinal:Coral",
    },
)
