"""`histograde encoders`: which encoders there are, whose they are, and whether their weights are here."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

Where = Literal["with its package", "none needed", "here", "to fetch", "behind a gate"]


@dataclass(frozen=True, slots=True)
class Known:
    """A line of the list.

    Attributes
    ----------
    dim : int
        Length of a feature.
    parameters_m : float
        Millions.
    weights : str
        Where they are.
    hub_id : str
        Empty for those that are on no hub.
    """

    name: str
    dim: int
    tile_px: int
    mpp: float
    parameters_m: float
    licence: str
    weights: Where
    file: str
    hub_id: str
    source: str


def command(
    action: Annotated[str | None, typer.Argument(metavar="[fetch]", help="fetch: bring weights from the hub.")] = None,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Whose.")] = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="The list as JSON.")] = False,
) -> None:
    """Which encoders there are, with licence, size, and whether their weights are here.

    `encoders fetch NAME` is the one command that goes to a model hub. It takes a token from HF_TOKEN where the authors
    ask who uses their model, and keeps the weights in HISTOGRADE_WEIGHTS, or in the user's cache. Everything else takes
    them from there, or from --weights FILE. Any architecture of timm can be had as timm:NAME with --weights FILE.

    Example: `histograde encoders fetch h0-mini`, then `histograde extract slides/ --out features/ --encoder h0-mini`
    """
    from wsi.errors import UsageError

    if action is None:
        typer.echo(json.dumps([_plain(one) for one in known()], indent=2) if as_json else "\n".join(lines(known())))
        return
    if action != "fetch":
        raise UsageError(f"encoders {action}: not known; there is `histograde encoders fetch NAME`")
    if not names:
        raise UsageError("fetch whose weights? `histograde encoders` lists the names")
    from mil.encoders.hub import fetch
    from mil.encoders.timm import file_sha256

    for name in names:
        typer.echo(f"fetching {name}", err=True)
        path = fetch(name)
        typer.echo(f"{name}: {path} ({path.stat().st_size / 1e6:,.0f} MB, sha256 {file_sha256(path)[:16]}...)")


def known() -> list[Known]:
    """Every encoder that can be named, without loading one."""
    from mil.encoders.published import PUBLISHED
    from mil.encoders.toy import CARD as TOY
    from mil.encoders.weights_folder import weights_file

    own = [
        Known("toy", TOY.dim, TOY.tile_px, TOY.mpp, 0.0, TOY.licence, "none needed", "", "", TOY.source),
        Known(
            "lite0", 1280, 224, 0.5, 3.4, "Apache-2.0", "with its package", "", "",
            "EfficientNet-Lite0 trained on ImageNet",
        ),
    ]  # fmt: skip
    for one in PUBLISHED.values():
        file = weights_file(one.name)
        where: Where = "here" if file else "behind a gate" if one.gated else "to fetch"
        own.append(
            Known(
                one.name, one.dim, one.tile_px, one.mpp, one.parameters_m, one.licence, where, str(file or ""),
                one.hub_id, one.paper,
            )
        )  # fmt: skip
    return own


def lines(found: list[Known]) -> list[str]:
    """The list for people."""
    from mil.encoders.published import UNAVAILABLE
    from mil.encoders.weights_folder import weights_folder

    rows = [("encoder", "feature", "input", "size", "weights", "licence")]
    rows += [
        (
            one.name,
            str(one.dim),
            f"{one.tile_px} px at {one.mpp:g} um/px",
            f"{one.parameters_m:,.0f} M" if one.parameters_m >= 10 else f"{one.parameters_m:,.1f} M",
            one.weights,
            one.licence,
        )
        for one in found
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    right = (1, 3)
    table = [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [
        *table,
        "",
        f"weights folder: {weights_folder()}",
        "any other architecture of timm (ResNet, EfficientNet, DenseNet, ConvNeXt, ViT, DINOv2 ...): "
        "--encoder timm:NAME --weights FILE",
        *(f"{name}: {why}" for name, why in UNAVAILABLE.items()),
    ]


def _plain(one: Known) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Known.__dataclass_fields__}
