"""Losses: how a target becomes a number to minimise, and what logits then say. `mil.loss` has the two kinds.

For classes without an order take cross_entropy, and where a class is rare compare logit_adjusted; for grades corn. The
others say in their own files when they are worth a try.
"""

from wsi.registry import Registry

LOSSES = Registry(
    "loss",
    {
        "cross_entropy": "mil.losses.imbalance:CrossEntropy",
        "class_balanced": "mil.losses.imbalance:ClassBalanced",
        "focal": "mil.losses.focal:Focal",
        "logit_adjusted": "mil.losses.logit_adjusted:LogitAdjusted",
        "ldam": "mil.losses.ldam:LDAM",
        "corn": "mil.losses.ordinal:Corn",
        "coral": "mil.losses.ordinal:Coral",
        "emd": "mil.losses.emd:SquaredEMD",
        "kappa": "mil.losses.kappa:QuadraticKappa",
    },
)
"""Losses of classes: `LOSSES[name](n_classes, **options)`."""

VALUE_LOSSES = Registry(
    "value_loss",
    {
        "cox": "mil.losses.cox:Cox",
        "discrete_time": "mil.losses.discrete_time:DiscreteTime",
        "huber": "mil.losses.huber:Huber",
        "several": "mil.losses.several:Several",
    },
)
"""Losses of times and values: `VALUE_LOSSES[name](**options)`."""
