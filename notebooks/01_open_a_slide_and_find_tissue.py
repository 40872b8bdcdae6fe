# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. Open a slide and find its tissue
#
# A whole-slide image is a microscope slide scanned at 20x or 40x: gigapixels of colour, most of it empty glass. Before
# any model sees it, three questions have to be settled, and each can go wrong without a sound:
#
# 1. **How large is a pixel?** Everything a pathologist measures is in micrometres. A network that learned nuclei of
#    16 px across at 0.5 µm/px sees other cells altogether when it is fed pixels of 0.25 µm.
# 2. **Where is the tissue?** Not where it is merely dark: pen marks, shadows and dust are dark as well.
# 3. **Which tiles are cut from it?** They are what the network gets, so their size on the glass must be exact.
#
# This page answers them with the functions that `histograde info` and `histograde extract` call. The slide is
# synthetic, drawn here from a seed, so that there is a truth to compare with. To look at one of your own, put its
# path into `path` below; everything but the comparison with the truth stays the same.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from matplotlib.patches import Rectangle
from PIL import Image
from shapely import MultiPolygon

from wsi.errors import MissingMppError
from wsi.overview import read_overview
from wsi.qc import find_tissue_with_qc
from wsi.resample import read_scaled
from wsi.scales import round_length_um
from wsi.slide import open_slide, thumbnail
from wsi.synthetic import write_slide
from wsi.tiles import TileSpec, tile_grid, tile_polygons

# %config InlineBackend.figure_formats = ["jpeg"]
# %config InlineBackend.print_figure_kwargs = {"bbox_inches": "tight", "pil_kwargs": {"quality": 80, "subsampling": 0}}
plt.rcParams.update({"figure.dpi": 84, "figure.constrained_layout.use": True})
plt.rcParams["axes.titlelocation"] = "left"
scratch = TemporaryDirectory()
work = Path(scratch.name)


def show_table(header, rows):
    """Show rows of values as a table."""
    lines = [header, ["---"] * len(header), *rows]
    display(Markdown("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)))


# %% [markdown]
# ## A slide
#
# `write_slide` draws tissue with prostate-like glands of a known ISUP grade group and writes it as a scanner would: a
# pyramid of JPEG tiles in an Aperio SVS file. This one is 1.5 mm wide, with a pen mark and a shadow on the glass. What
# it returns is the truth; nothing below looks at it until the end of the tissue section.

# %%
path = work / "biopsy.svs"
dirt = ("pen-blue", "shadow")
truth = write_slide(path, seed=12, size_px0=(6144, 5120), grade=3, mpp=0.25, artefacts=dirt)
pixels_mb = np.prod(truth.size_px0) * 3 / 1e6
print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB on disk, {pixels_mb:.0f} MB of pixels")

# %% [markdown]
# `open_slide` tries one reader after the other until one knows the file; if none does, the error lists every attempt.
# Opening decodes no pixels. It does read the file once, for its SHA-256: a slide is identified by its content, so a
# renamed copy is the same slide and a rescan under the old name is not.

# %%
slide = open_slide(path)
info = slide.info

facts = {
    "slide_id": info.slide_id,
    "reader, format": f"{info.reader}, {info.vendor}",
    "size of level 0": "{:,} x {:,} px".format(*info.size_px0),
    "pixel size": "{:g} x {:g} µm/px".format(*info.require_mpp()),
    "where that came from": f"`{info.mpp_source}`",
    "objective": f"{info.objective_power:g}x (for people; nothing is computed from it)",
    "scanned bounds": "x {}, y {}, {:,} x {:,} px".format(*info.bounds_px0),
    "associated images": ", ".join(sorted(slide.associated_images)) or "none",
    "SHA-256 of the content": f"`{info.content_hash[:16]}…`",
}
show_table(["", ""], facts.items())

# %% [markdown]
# The pyramid holds the same picture several times, so that a viewer (or the search for tissue) need not decode
# gigapixels to see the whole. Coordinates are always (x, y) in pixels of level 0, whatever level is read.

# %%
levels = [
    [level, f"{w:,} x {h:,}", f"{factor:g}", f"{factor * info.require_mpp()[0]:g}"]
    for level, ((w, h), factor) in enumerate(zip(info.level_sizes_px, info.downsamples, strict=True))
]
show_table(["level", "size (px)", "downsample", "µm/px"], levels)

# %% [markdown]
# ## Looking at it
#
# Pictures on this page are drawn in micrometres from the slide's top-left corner, and their scale bars follow from
# the pixel size alone.


# %%
def show_um(axes, pixels, rect_um):
    """Draw pixels over the rectangle (x, y, w, h) of the slide, in um, with a scale bar."""
    x, y, w, h = rect_um
    axes.imshow(pixels, extent=(x, x + w, y + h, y))
    left, low, length = x + 0.05 * w, y + 0.95 * h, round_length_um(w / 4)
    axes.plot([left, left + length], [low, low], color="black", lw=3, solid_capstyle="butt")
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length} µm"
    axes.text(left + length / 2, low - 0.015 * h, text, ha="center", va="bottom", fontsize=9)
    axes.set(xticks=[], yticks=[], xlim=(x, x + w), ylim=(y + h, y))


mpp_x, mpp_y = info.require_mpp()
whole_um = (0, 0, info.size_px0[0] * mpp_x, info.size_px0[1] * mpp_y)
small = thumbnail(slide, 640)

figure, axes = plt.subplots(figsize=(6.4, 4.9))
show_um(axes, small, whole_um)
_ = axes.set_title("The whole slide")

# %% [markdown]
# ## Where the tissue is
#
# Tissue is what has **colour**: haematoxylin and eosin absorb the three channels unequally, so the optical density
# relative to the slide's own glass differs between them. A shadow or the edge of the glass darkens all three alike,
# and ink has a hue that no stain has. The search works on an overview of about 8 µm/px, which is a few megapixels
# even for the largest slides, and needs no training. The same overview gives the quality report.

# %%
overview = read_overview(slide)
tissue, quality = find_tissue_with_qc(slide, overview)

h, w = overview.pixels.shape[:2]
print(f"overview: {w} x {h} px at {overview.side_um:g} µm/px")
print(f"tissue:   {len(tissue.polygons())} piece(s), {tissue.area_um2 / 1e6:.2f} mm²")

# %%
outline = MultiPolygon(tissue.polygons())


def draw_outline(axes, shape, **style):
    """Outline of polygons in level-0 px, holes included, on axes in um."""
    label = style.pop("label", None)
    for polygon in shape.geoms:
        for ring in (polygon.exterior, *polygon.interiors):
            x, y = np.asarray(ring.coords).T[:2]
            axes.plot(x * mpp_x, y * mpp_y, label=label, **style)
            label = None


figure, axes = plt.subplots(figsize=(6.4, 4.9))
show_um(axes, small, whole_um)
draw_outline(axes, outline, color="#0072B2", lw=1.8, label="tissue found")
axes.set_title(f"Tissue: {tissue.area_um2 / 1e6:.2f} mm²; the pen mark and the shadow are none")
_ = axes.legend(loc="lower right", framealpha=0.9)

# %% [markdown]
# The quality report goes into the store and from there into the report of every graded slide: how much of the scanned
# area is ink or black surround or cannot be decoded, the colour of the glass, and how sharp the tissue is. Focus has
# no unit (variance of the Laplacian over the variance); it falls with blur and does not change with the depth of the
# stain, so it compares slides of one laboratory.

# %%
measures = quality.to_dict().items()
rows = [[name, f"{value:.1%}" if name.endswith("share") else value] for name, value in measures]
show_table(["measure", "value"], [[name.replace("_", " "), value] for name, value in rows])

# %% [markdown]
# Since this slide was drawn, its tissue is known to the pixel. Intersection over union with the truth:

# %%
found, drawn = tissue.mask, truth.tissue_mask
assert found.shape == drawn.shape, "both masks lie on 8 µm pixels"
iou = (found & drawn).sum() / (found | drawn).sum()
extra, missed = np.mean(found & ~drawn), np.mean(drawn & ~found)
print(f"IoU {iou:.3f}; {extra:.1%} of the slide wrongly found, {missed:.1%} missed")

# %% [markdown]
# ## When the slide does not say how large a pixel is
#
# A plain PNG, or an SVS that somebody converted, often carries no pixel size. Guessing one would give a grade for a
# tissue of giants or dwarfs, and nobody would notice. So it is refused, in one line that says what to do:

# %%
export = work / "export.png"
Image.fromarray(thumbnail(slide, 1024)).save(export)

unscaled = open_slide(export)
try:
    read_overview(unscaled)
except MissingMppError as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# Who knows the pixel size may state it. That is recorded with the slide, in the store and in every result:

# %%
stated = open_slide(export, mpp=(0.5, 0.5)).info
print(f"{stated.require_mpp()[0]:g} µm/px, from: {stated.mpp_source}")

# %% [markdown]
# ## Tiles of true scale
#
# A `TileSpec` is the whole recipe: 224 px at 0.5 µm/px, side by side, at least half of it tissue. On the glass such a
# tile is 112 µm wide, always. How many pixels of level 0 that takes depends on the scanner, and need not be a whole
# number; reading averages over the exact area.

# %%
spec = TileSpec(tile_px=224, mpp=0.5, stride_px=224, min_tissue=0.5)
grid = tile_grid(info, tissue, spec)
print(f"{len(grid)} tiles of {spec.tile_px * spec.mpp:g} µm, each {grid.side_px0[0]:g} px of level 0")

scanners = []
for mpp in (0.2457, 0.25, 0.4984):
    side_px0, _ = tile_grid(open_slide(path, mpp=(mpp, mpp)).info, tissue, spec).side_px0
    scanners.append([mpp, f"{side_px0:.2f}", f"{side_px0 * mpp:g}"])
show_table(["if a pixel were (µm)", "a tile is (px of level 0)", "and still (µm)"], scanners)

# %% [markdown]
# Each tile knows its share of tissue. Tiles with less than `min_tissue` are not in the grid; here the grid is laid
# once more without that limit, to show what it leaves out.

# %%
every = tile_grid(info, tissue, TileSpec(min_tissue=1e-6))
kept = every.tissue_fraction >= spec.min_tissue
tile_um = np.array(grid.side_px0) * (mpp_x, mpp_y)

figure, axes = plt.subplots(figsize=(6.4, 4.9))
show_um(axes, small, whole_um)
for tiles, colour, dash, label in (
    (~kept, "black", ":", "with too little tissue"),
    (kept, "#0072B2", "-", "tiles"),
):
    for corners in tile_polygons(every)[tiles]:
        corner_um = corners[0] * (mpp_x, mpp_y)
        axes.add_patch(Rectangle(corner_um, *tile_um, fill=False, ec=colour, ls=dash, lw=1.2))
    axes.plot([], [], color=colour, ls=dash, label=f"{tiles.sum()} {label}")
axes.set_title(f"Tiles of {tile_um[0]:g} µm, side by side")
_ = axes.legend(loc="lower right", framealpha=0.9)

# %%
figure, axes = plt.subplots(figsize=(7, 2.6))
axes.hist(every.tissue_fraction, bins=np.linspace(0, 1, 21), color="#56B4E9", edgecolor="white")
axes.axvline(spec.min_tissue, color="#D55E00", ls="--", label=f"min_tissue = {spec.min_tissue:g}")
axes.set(xlabel="share of the tile that is tissue", ylabel="tiles")
axes.set_title("Most tiles lie well inside the tissue")
axes.spines[["top", "right"]].set_visible(False)
_ = axes.legend(frameon=False)

# %% [markdown]
# One tile at four scales. At 0.25 µm/px the chromatin of a nucleus shows, at 0.5 µm/px (what the network gets) its
# outline, at 2 µm/px the gland, at 8 µm/px only that there is tissue. "20x" and "40x" are names that vendors give to
# different pixel sizes, which is why nothing here is computed from them.

# %%
x, y = grid.coords[np.argmax(grid.tissue_fraction)].tolist()
rect_px0 = (x, y, *grid.side_px0)
rect_um = (x * mpp_x, y * mpp_y, *tile_um)
figure, row = plt.subplots(1, 4, figsize=(9, 2.7))
for axes, mpp in zip(row, (0.25, 0.5, 2.0, 8.0), strict=True):
    side_px = round(112 / mpp)
    show_um(axes, read_scaled(slide, rect_px0, (side_px, side_px)), rect_um)
    axes.set_title(f"{mpp:g} µm/px: {side_px} x {side_px} px", fontsize=10)

# %% [markdown]
# ## On the command line
#
# ```
# histograde info biopsy.svs
# histograde extract biopsy.svs --store features/ --tile-px 224 --mpp 0.5 --min-tissue 0.5
# histograde extract export.png --store features/ --slide-mpp 0.5
# ```
#
# [The next page](02_tiles_to_features.ipynb) turns the tiles into features.

# %%
slide.close()
