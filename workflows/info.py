"""`histograde info`: what a slide file holds, and whether it would be accepted."""

import json
import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflows.options import ReaderName, SlideMpp

if TYPE_CHECKING:
    from wsi.errors import WsiError
    from wsi.slide import Slide


def command(
    slide: Annotated[
        str, typer.Argument(metavar="SLIDE", help="A slide file or its URL, or the folder of a DICOM slide.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.", metavar="")] = False,
    slide_mpp: SlideMpp = None,
    reader: ReaderName = None,
) -> None:
    """What a slide file holds, and whether `grade` would accept it; if not, why, and what would help.

    Exit code 0: it would be accepted. 3: it would be quarantined.

    Example: `histograde info slide.svs`
    """
    from wsi.errors import UnreadableSlideError
    from wsi.slide import open_slide, path_slide_id
    from wsi.slide_url import slide_location
    from wsi.units import parse_mpp

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it finds odd is not for the terminal
    path, fallback_mpp = slide_location(slide), None if slide_mpp is None else parse_mpp(slide_mpp)
    try:
        opened = open_slide(path, reader=reader, fallback_mpp=fallback_mpp)
    except UnreadableSlideError as error:
        facts: dict[str, Any] = {"slide_id": path_slide_id(path)} | _refused(error)
    else:
        try:
            facts = describe(opened)
        finally:
            opened.close()
    typer.echo(json.dumps(facts, indent=1) if as_json else text(facts))
    if not facts["accepted"]:
        raise typer.Exit(3)


def describe(slide: "Slide") -> dict[str, Any]:
    """Everything `info` prints, as JSON values."""
    from dataclasses import asdict

    from workflows.options import MAX_BAD
    from wsi.errors import NoTissueError, WsiError
    from wsi.glass import check_brightfield
    from wsi.overview import check_readable, read_overview
    from wsi.tissue import find_tissue

    facts: dict[str, Any] = json.loads(json.dumps(asdict(slide.info)))
    facts["associated_images"] = sorted(slide.associated_images)
    facts |= {"accepted": True, "refusal": None, "error_class": None, "remedy": None, "tissue_mm2": None}
    try:
        slide.info.require_mpp()
        overview = read_overview(slide)
        facts["unreadable_share"] = round(overview.unreadable_share, 6)
        check_brightfield(overview)
        check_readable(overview, MAX_BAD)
        probe_level0(slide)
        facts["tissue_mm2"] = round(find_tissue(overview).area_um2 / 1e6, 3)
        if not facts["tissue_mm2"]:
            raise NoTissueError("no tissue on it")
    except WsiError as error:
        facts |= _refused(error)
    return facts


def _refused(error: "WsiError") -> dict[str, Any]:
    return {"accepted": False, "refusal": str(error), "error_class": error.code, "remedy": error.remedy}


def probe_level0(slide: "Slide") -> None:
    """Try one small region in the middle of each quarter of the scanned bounds at full resolution.

    Raises
    ------
    TileReadError
        If none of them can be read: the level is absent or destroyed.
    """
    from wsi.errors import TileReadError

    x, y, w, h = slide.info.bounds_px0
    places = [(x + w * i // 4, y + h * j // 4) for i in (1, 3) for j in (1, 3)]
    first: TileReadError | None = None
    for place in places:
        try:
            slide.read_region(place, 0, (16, 16))
        except TileReadError as error:
            first = first or error
        else:
            return
    raise first or TileReadError("level 0 is empty")


def text(facts: dict[str, Any]) -> str:
    """The facts for people."""
    verdict = "yes" if facts["accepted"] else f"no [{facts['error_class']}]: {facts['refusal']}"
    if "reader" not in facts:
        return f"{'slide':<10}  {facts['slide_id']}\n{'accepted':<10}  {verdict}"
    mpp = facts["mpp"]
    w, h = facts["level_sizes_px"][0]
    power = facts["objective_power"]
    size = f", {w * mpp[0] / 1000:.2f} x {h * mpp[1] / 1000:.2f} mm" if mpp and facts["error_class"] is None else ""
    levels = [
        f"{number}: {level[0]:,} x {level[1]:,} px, downsample {factor:.4g}"
        for number, (level, factor) in enumerate(zip(facts["level_sizes_px"], facts["downsamples"], strict=True))
    ]
    x, y, bw, bh = facts["bounds_px0"]
    whole = [x, y, bw, bh] == [0, 0, w, h]
    rows = [
        ("slide", facts["slide_id"]),
        ("vendor", f"{facts['vendor']} (read by {facts['reader']})"),
        ("size", f"{w:,} x {h:,} px{size}"),
        ("levels", ("\n" + " " * 12).join(levels)),
        ("mpp", f"{mpp[0]:.6g} x {mpp[1]:.6g} um/px, from {facts['mpp_source']}" if mpp else "not stated"),
        ("objective", f"{power:g}x" if power else "not stated"),
        ("bounds", "the whole slide" if whole else f"{bw:,} x {bh:,} px at ({x:,}, {y:,})"),
        ("images", ", ".join(facts["associated_images"]) or "none"),
        ("sha256", facts["content_hash"]),
        ("tissue", "not looked for" if facts["tissue_mm2"] is None else f"{facts['tissue_mm2']:.1f} mm2"),
        ("accepted", verdict),
    ]
    return "\n".join(f"{name:<10}  {value}" for name, value in rows)
