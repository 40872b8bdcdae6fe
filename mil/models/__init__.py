"""MIL models, one paper a file. Each is built as `Model(dim, n_outputs, **options)` and maps a batch to `MILOutput`."""

from wsi.registry import Registry

MODELS = Registry(
    "model",
    {
        "abmil": "mil.models.abmil:GatedABMIL",
        "abmil_plain": "mil.models.abmil:ABMIL",
        "autopool": "mil.models.autopool:AutoPool",
        "topk": "mil.models.topk:TopK",
        "mean": "mil.models.pooling:MeanPooling",
        "max": "mil.models.pooling:MaxPooling",
        "clam_sb": "mil.models.clam:ClamSB",
        "clam_mb": "mil.models.clam:ClamMB",
        "dsmil": "mil.models.dsmil:DSMIL",
        "dtfd": "mil.models.dtfd:DTFD",
        "acmil": "mil.models.acmil:ACMIL",
        "additive": "mil.models.additive:AdditiveMIL",
        "transmil": "mil.models.transmil:TransMIL",
        "transformer": "mil.models.transformer:Transformer",
        "rnn": "mil.models.rnn:RNN",
        "lse": "mil.models.pooling:LogSumExpPooling",
        "patch_gcn": "mil.models.patch_gcn:PatchGCN",
        "dissimilarity": "mil.models.dissimilarity:BagDissimilarity",
        "prototype": "mil.models.prototype:NearestPrototype",
    },
)
