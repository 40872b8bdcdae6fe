"""Encoders that others have published: what their weights are, and how their authors use them. No weights are here.

Each line says what must be the same for features to be those of the authors: architecture, input, normalisation, and
what is taken of the tokens. It was written down from the model cards on the hub (`hub_id`); `parameters_m` is the count
that is published, against which a test counts the architecture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from wsi.kernels import Kernel

Pooling = Literal["class", "class+mean", "mean"]
"""The class token; it and the mean of the patch tokens side by side; the mean alone. Registers are never part of it."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
H_OPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
LUNIT = ((0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464))
HIBOU = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))

SWIGLU: Mapping[str, Any] = {"mlp_layer": "swiglu", "act_layer": "silu"}
"""The gated layers of DINOv2's giants; `mil.encoders.foundation` has the classes behind the words."""

NON_COMMERCIAL = "CC-BY-NC-ND-4.0"


@dataclass(frozen=True, slots=True)
class Published:
    """A published encoder of tiles.

    Attributes
    ----------
    name : str
        As it is called here: `extract --encoder NAME`.
    hub_id : str
        Repository on the Hugging Face hub.
    architecture : str
        Of timm.
    dim : int
        Length D of a feature.
    parameters_m : float
        Millions, without any head.
    licence : str
        Of the weights.
    gated : bool
        Whether the hub asks for consent, or a word with the authors, before it gives the weights.
    arguments : mapping
        Of `timm.create_model`, beside the architecture and the input's size.
    pooling : str
    mean, std : (r, g, b)
    tile_px : int
        Side of the input. Authors who crop the middle out of a larger tile see the same pixels in a tile of this size.
    mpp : float
        um/px that the authors name, or train at most.
    kernel : str
        See `EncoderCard`.
    file : str
        Of the weights in the repository; empty where it has a usual name (`mil.encoders.hub.USUAL_FILES`).
    paper : str
    """

    name: str
    hub_id: str
    architecture: str
    dim: int
    parameters_m: float
    licence: str
    gated: bool
    norm: tuple[tuple[float, float, float], tuple[float, float, float]]
    paper: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    pooling: Pooling = "class"
    tile_px: int = 224
    mpp: float = 0.5
    kernel: Kernel = "area"
    file: str = ""

    @property
    def mean(self) -> tuple[float, float, float]:
        """Of RGB in 0..1."""
        return self.norm[0]

    @property
    def std(self) -> tuple[float, float, float]:
        """Of RGB in 0..1."""
        return self.norm[1]


_GIANT: Mapping[str, Any] = {"init_values": 1e-5, "depth": 24, "num_heads": 24, "embed_dim": 1536, "mlp_ratio": 5.33334}
_VIRCHOW: Mapping[str, Any] = {**SWIGLU, "mlp_ratio": 5.3375, "init_values": 1e-5}

_UNI = "Chen et al.: Towards a general-purpose foundation model for computational pathology, Nature Medicine 2024"
_VIRCHOW_PAPER = "Vorontsov et al.: A foundation model for clinical-grade computational pathology, Nature Medicine 2024"
_VIRCHOW2_PAPER = "Zimmermann et al.: Virchow2, arXiv:2408.00738"
_OPTIMUS_PAPER = "Saillard et al.: H-optimus-0, 2024, github.com/bioptimus/releases"
_MINI_PAPER = "Filiot et al.: Distilling foundation models for robust and efficient models in digital pathology, 2025"
_GIGAPATH_PAPER = "Xu et al.: A whole-slide foundation model for digital pathology from real-world data, Nature 2024"
_PHIKON_PAPER = "Filiot et al.: Scaling self-supervised learning for histopathology with masked image modeling, 2023"
_PHIKON2_PAPER = "Filiot et al.: Phikon-v2, arXiv:2409.09173"
_LUNIT_PAPER = "Kang et al.: Benchmarking self-supervised learning on diverse pathology datasets, CVPR 2023"
_KAIKO_PAPER = "Aben et al.: Towards large-scale training of pathology foundation models, arXiv:2404.15217"
_MIDNIGHT_PAPER = (
    "Karasikov et al.: Training state-of-the-art pathology foundation models with orders of magnitude less data, 2025"
)
_OPENMIDNIGHT_PAPER = "Kaplan et al.: How to train a state-of-the-art pathology foundation model with $1.6k, 2025"
_HIBOU_PAPER = "Nechaev et al.: Hibou: a family of foundational vision transformers for pathology, arXiv:2406.05074"

_optimus_0 = Published(
    "h-optimus-0", "bioptimus/H-optimus-0", "vit_giant_patch14_reg4_dinov2", 1536, 1134.8, "Apache-2.0", True,
    H_OPTIMUS, _OPTIMUS_PAPER, {"init_values": 1e-5},
)  # fmt: skip
_virchow = Published(
    "virchow", "paige-ai/Virchow", "vit_huge_patch14_224", 2560, 631.2, "Apache-2.0", True, IMAGENET, _VIRCHOW_PAPER,
    _VIRCHOW, "class+mean",
)  # fmt: skip


def _lunit(patch: int) -> Published:
    return Published(
        f"lunit-vits{patch}", f"1aurent/vit_small_patch{patch}_224.lunit_dino", f"vit_small_patch{patch}_224", 384,
        21.7, "CC-BY-NC (see the repository)", False, LUNIT, _LUNIT_PAPER,
    )  # fmt: skip


def _kaiko(short: str, architecture: str, hub: str, dim: int, parameters_m: float) -> Published:
    return Published(
        f"kaiko-{short}", f"1aurent/{hub}.kaiko_ai_towards_large_pathology_fms", architecture, dim, parameters_m,
        "non-commercial (see the repository)", False, HALF, _KAIKO_PAPER,
    )  # fmt: skip


PUBLISHED: Mapping[str, Published] = {
    one.name: one
    for one in (
        Published(
            "uni", "MahmoodLab/UNI", "vit_large_patch16_224", 1024, 303.4, NON_COMMERCIAL, True, IMAGENET, _UNI,
            {"init_values": 1e-5},
        ),
        Published(
            "uni2-h", "MahmoodLab/UNI2-h", "vit_giant_patch14_224", 1536, 681.4, NON_COMMERCIAL, True, IMAGENET, _UNI,
            {**_GIANT, **SWIGLU, "reg_tokens": 8, "no_embed_class": True},
        ),
        _virchow,
        replace(
            _virchow, name="virchow2", hub_id="paige-ai/Virchow2", licence=NON_COMMERCIAL, paper=_VIRCHOW2_PAPER,
            arguments={**_VIRCHOW, "reg_tokens": 4},
        ),
        _optimus_0,
        replace(_optimus_0, name="h-optimus-1", hub_id="bioptimus/H-optimus-1", licence=NON_COMMERCIAL),
        Published(
            "h0-mini", "bioptimus/H0-mini", "vit_base_patch14_reg4_dinov2", 1536, 85.7, NON_COMMERCIAL, True,
            H_OPTIMUS, _MINI_PAPER, {**SWIGLU, "mlp_ratio": 5.33334}, "class+mean",
        ),
        Published(
            "prov-gigapath", "prov-gigapath/prov-gigapath", "vit_giant_patch14_dinov2", 1536, 1134.95,
            "Apache-2.0, for research", True, IMAGENET, _GIGAPATH_PAPER,
            {**_GIANT, "depth": 40, "patch_size": 16}, kernel="lanczos",
        ),
        Published(
            "phikon", "owkin/phikon", "vit_base_patch16_224", 768, 85.8, "Owkin non-commercial", False, IMAGENET,
            _PHIKON_PAPER, {"norm_layer": "layer_norm_1e-12"},
        ),
        Published(
            "phikon-v2", "owkin/phikon-v2", "vit_large_patch16_224", 1024, 303.4, "Owkin non-commercial", False,
            IMAGENET, _PHIKON2_PAPER, {"init_values": 1e-5},
        ),
        _lunit(8),
        _lunit(16),
        _kaiko("vits8", "vit_small_patch8_224", "vit_small_patch8_224", 384, 21.7),
        _kaiko("vits16", "vit_small_patch16_224", "vit_small_patch16_224", 384, 21.7),
        _kaiko("vitb8", "vit_base_patch8_224", "vit_base_patch8_224", 768, 85.8),
        _kaiko("vitb16", "vit_base_patch16_224", "vit_base_patch16_224", 768, 85.8),
        _kaiko("vitl14", "vit_large_patch14_reg4_dinov2", "vit_large_patch14_reg4_224", 1024, 303.2),
        Published(
            "midnight", "kaiko-ai/midnight", "vit_giant_patch14_dinov2", 3072, 1134.8, "MIT", False, HALF,
            _MIDNIGHT_PAPER, {}, "class+mean",
        ),
        Published(
            "openmidnight", "SophontAI/OpenMidnight", "vit_giant_patch14_reg4_dinov2", 1536, 1134.8, "Apache-2.0",
            False, IMAGENET, _OPENMIDNIGHT_PAPER, {}, file="teacher_checkpoint_load.pt",
        ),
        Published(
            "hibou-b", "histai/hibou-b", "vit_base_patch14_reg4_dinov2", 768, 85.7, "Apache-2.0", False, HIBOU,
            _HIBOU_PAPER,
        ),
    )
}  # fmt: skip
"""By name, in the order in which `histograde encoders` lists them."""

UNAVAILABLE: Mapping[str, str] = {
    "conch": "CONCH (MahmoodLab/CONCH) is a vision-language model whose image tower is built by its authors' own "
    "package; extract with that, and `histograde import` takes the features from there",
    "hibou-l": "Hibou-L (histai/hibou-L) has terms of its own, which its repository states behind a gate; ask there",
}
"""Known, and not to be had as a plain file of weights: what to do."""
