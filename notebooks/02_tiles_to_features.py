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
# # 2. Tiles to features
#
# A slide is too large for a network and its label belongs to the whole of it. The usual way out has two steps: a
# frozen **encoder** turns every tile into a short vector, its *feature*; a small model then learns from the bag of
# features of a slide ([next page](03_train_grade_and_explain.ipynb)). Encoding is by far the dearest part, so it is
# done once and kept.
#
# This page follows the tiles of three synthetic slides through an encoder into a feature store, damages the store,
# repairs it, and looks at what the features know. The functions are those of `histograde extract` and
# `histograde verify`.

# %%
import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display

from mil.encoders import load_encoder
from workflows.extract import extract
from workflows.extraction import ExtractConfig
from workflows.listeners import Listener
from workflows.sources import find_slides
from workflows.verify import verify
from wsi.annotations import read_regions, tile_coverage
from wsi.errors import CorruptStoreError, MissingPackageError
from wsi.slide import open_slide
from wsi.store import open_stores
from wsi.synthetic import write_slide
from wsi.tiles import TileReader, TileSpec, tile_grid
from wsi.tissue import find_tissue

# %config InlineBackend.figure_formats = ["jpeg"]
# %config InlineBackend.print_figure_kwargs = {"bbox_inches": "tight", "pil_kwargs": {"quality": 80, "subsampling": 0}}
plt.rcParams.update({"figure.dpi": 84, "figure.constrained_layout.use": True})
plt.rcParams["axes.titlelocation"] = "left"
warnings.filterwarnings("ignore", message="IProgress not found")  # a widget of tqdm, not used here
scratch = TemporaryDirectory()
work = Path(scratch.name)


def show_table(header, rows):
    """Show rows of values as a table."""
    lines = [header, ["---"] * len(header), *rows]
    display(Markdown("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)))


# %% [markdown]
# ## Three slides with a known truth
#
# One slide each of ISUP grade group 2, 3 and 5, from one laboratory. The outlines of the growth patterns go into
# GeoJSON files beside them, in the form that QuPath reads and writes; a pathologist's annotations would come the
# same way.

# %%
slides = work / "slides"
slides.mkdir()
for name, grade in (("group-2", 2), ("group-3", 3), ("group-5", 5)):
    path = slides / f"{name}.svs"
    truth = write_slide(path, seed=20 + grade, size_px0=(1920, 1920), grade=grade, mpp=0.5)
    (work / f"{name}.geojson").write_text(json.dumps(truth.to_geojson()))
    shares = ", ".join(f"{region} {share:.0%}" for region, share in truth.pattern_fraction.items())
    print(f"{name}: Gleason {truth.primary}+{truth.secondary}; of the tissue {shares}")

# %% [markdown]
# ## Tiles
#
# The [first page](01_open_a_slide_and_find_tissue.ipynb) ended with a `TileGrid`: the place of each tile, in pixels of
# level 0, and its share of tissue. A `TileReader` turns rows of the grid into pixels, batch by batch, so that memory
# does not grow with the slide. A tile that cannot be decoded is *not* a white tile: it is listed as bad, with the
# reason, and left out.

# %%
slide = open_slide(slides / "group-3.svs")
grid = tile_grid(slide.info, find_tissue(slide), TileSpec(tile_px=224, mpp=0.5))
reader = TileReader(slide, grid)

for batch in reader.batches(np.arange(len(grid)), batch_size=12):
    where = f"rows {batch.rows[0]} to {batch.rows[-1]}"
    print(f"{where}: pixels {batch.pixels.shape} {batch.pixels.dtype}, {len(batch.bad)} bad")


# %%
def show_tile(axes, pixels, title="", bar_um=50, mpp=0.5):
    """A tile with a scale bar."""
    axes.imshow(pixels)
    left, low, length = 12, len(pixels) - 14, bar_um / mpp
    axes.plot([left, left + length], [low, low], color="black", lw=3, solid_capstyle="butt")
    axes.text(left + length / 2, low - 6, f"{bar_um} µm", ha="center", va="bottom", fontsize=8)
    axes.set_title(title, fontsize=9)
    axes.set(xticks=[], yticks=[])


some = np.linspace(0, len(grid) - 1, 10).astype(int)
tiles = reader.read(some)
figure, places = plt.subplots(2, 5, figsize=(9, 3.9))
for axes, row, pixels in zip(places.flat, tiles.rows, tiles.pixels, strict=True):
    show_tile(axes, pixels, f"row {row}, {grid.tissue_fraction[row]:.0%} tissue")
slide.close()

# %% [markdown]
# ## The encoder and its card
#
# `lite0` is EfficientNet-Lite0 with ImageNet weights, small enough for a laptop and installed with the `lite0` extra.
# It has never seen a slide; encoders trained on pathology are larger, better, and loaded the same way from a local
# file (`timm:NAME` with `--weights`). If the weights are not installed, this page falls back to `toy`, which knows
# only colour statistics and is there for tests.
#
# The **card** holds everything that must be equal for two features to be comparable. It is kept with the features;
# a model refuses features made in any other way, by name of the field that differs.

# %%
try:
    encoder = load_encoder("lite0", device="cpu")
except MissingPackageError as error:
    encoder = load_encoder("toy")
    print(f"using toy instead of lite0: {error}")

card = encoder.card.to_dict()
card["weights_sha256"] = f"{card['weights_sha256'][:16]}…"
show_table(["", ""], card.items())

# %%
features = encoder.encode(tiles.pixels)
print(f"{tiles.pixels.shape} {tiles.pixels.dtype}  ->  {features.shape} {features.dtype}")

# %% [markdown]
# ## Extraction
#
# The same for all slides, through the function behind `histograde extract`: tissue, tiles, features, one Zarr v3
# store per slide. Work is cut into chunks of tiles, each of which is written once and noted with its checksum, so
# that a crash costs one chunk. The default is 512 tiles; these slides are small, so here it is 16. (Progress would say
# on this page how fast the machine is; `Listener()` hears of it and shows nothing.)

# %%
name = encoder.card.name
config = ExtractConfig(store=work / "features", encoder=name, device="cpu", chunk_tiles=16)
summary = extract(find_slides([slides]), config, Listener())

print(f"{summary.slides} slides, {len(summary.quarantined)} in quarantine")
print(f"{summary.tiles} tiles in {summary.chunks} chunks, {summary.bad} of them bad")

# %% [markdown]
# ## What is in a store
#
# One folder per slide; `FORMAT.md` is its specification. Besides the features it holds the grid and the tissue mask,
# the recipe, the encoder's card and the slide's hash, so nobody has to remember how they were made.

# %%
stores = open_stores(work / "features")
store = stores["group-3"]
for file in sorted(store.path.rglob("*")):
    if file.is_file() and not file.name.startswith("."):
        print(f"{file.stat().st_size:>8,} B  {file.relative_to(store.path.parent)}")

# %%
values = store.features(name)
kept = store.slide
print(f"slide     {kept.slide_id}, {kept.require_mpp()[0]:g} µm/px ({kept.mpp_source})")
print(f"content   {kept.content_hash}")
print(f"tiles     {store.recipe['tiles']}")
print(f"mask      {store.recipe['tissue']}")
print(f"tissue    {store.tissue_area_um2 / 1e6:.2f} mm²")
print(f"coords    {store.grid.coords.shape} {store.grid.coords.dtype}, level-0 px")
print(f"features  {values.shape} {values.dtype} by {store.encoders}")
print(f"bad tiles {store.bad_tiles(name)}")

# %% [markdown]
# ## A flipped byte
#
# Disks and copies lose bits. In a folder of numbers that goes unseen: a flipped byte in a float is another float.
# Here one byte in the second chunk of features is inverted.

# %%
before = store.features(name)
chunk = store.path / "features" / name / "values" / "c" / "1" / "0"
data = bytearray(chunk.read_bytes())
data[1000] ^= 0xFF
chunk.write_bytes(data)

report, damaged = verify(work / "features")
print("\n".join(report))

# %% [markdown]
# Whoever reads the features, training above all, gets an error and not a wrong number:

# %%
try:
    open_stores(work / "features")["group-3"].features(name)
except CorruptStoreError as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# The cure is the command that made the store. It checks what is there, and computes again only the chunk that is
# damaged; the result is the same to the byte.

# %%
repair = extract(find_slides([slides]), config, Listener())

print(f"{repair.chunks} of {summary.chunks} chunks computed again")
print(verify(work / "features")[0][-1])
stores = open_stores(work / "features")
print("equal to before:", np.array_equal(stores["group-3"].features(name), before))

# %% [markdown]
# ## What the features know
#
# Each tile gets the growth pattern that covers most of it, out of the GeoJSON truth; tiles with less than half of it
# in any one region are left out. Then all features are put on their two leading principal components. The encoder was
# not trained on these slides, nor on any slide.

# %%
COLOURS = {
    "benign": "#9A9A9A",
    "pattern 3": "#0072B2",
    "pattern 4": "#E69F00",
    "pattern 5": "#000000",
}
MARKS = {"group-2": "o", "group-3": "s", "group-5": "^"}
NAMES = np.array(list(COLOURS))

slide_of, row_of, region_of, vectors = [], [], [], []
for slide_id, store in stores.items():
    regions = read_regions(work / f"{slide_id}.geojson")
    by_name = [[region for region in regions if region.name == one] for one in NAMES]
    cover = np.stack([tile_coverage(store.grid, some, benign=()) for some in by_name])
    rows = store.good_rows(name)
    clear = rows[cover[:, rows].max(axis=0) >= 0.5]
    print(f"{slide_id}: {len(clear)} of {len(rows)} tiles lie mostly in one region")
    slide_of += [slide_id] * len(clear)
    row_of += clear.tolist()
    region_of += NAMES[cover[:, clear].argmax(axis=0)].tolist()
    vectors.append(store.features(name, clear).astype(np.float32))

slide_of, row_of, region_of = np.array(slide_of), np.array(row_of), np.array(region_of)
vectors = np.concatenate(vectors)

# %%
left, scale, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
places, explained = left[:, :2] * scale[:2], scale**2 / (scale**2).sum()

figure, axes = plt.subplots(figsize=(6.8, 4.4))
for region, colour in COLOURS.items():
    for slide_id, mark in MARKS.items():
        here = (region_of == region) & (slide_of == slide_id)
        axes.scatter(*places[here].T, color=colour, marker=mark, s=36, edgecolor="white", lw=0.5)
for region, colour in COLOURS.items():
    axes.scatter([], [], color=colour, s=36, label=region)
for slide_id, mark in MARKS.items():
    axes.scatter([], [], color="white", edgecolor="black", marker=mark, s=36, label=slide_id)
axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
axes.set_xlabel(f"first component ({explained[0]:.0%} of the variance)")
axes.set_ylabel(f"second component ({explained[1]:.0%} of the variance)")
axes.set_title(f"{len(vectors)} tiles by {name}: colour is the pattern, shape the slide")
axes.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# Tiles of one pattern lie together, and so, to a degree, do tiles of one slide: its stain is in the features as well.
# That is why models are tested on other patients and other laboratories, never on other tiles of the same slides.
#
# A harder look than a projection: for each tile the nearest tile *of another slide*, in all dimensions. How often
# does it show the same pattern, against a tile of the other slides drawn at random?

# %%
unit = vectors - vectors.mean(axis=0)
unit /= np.linalg.norm(unit, axis=1, keepdims=True)
likeness = unit @ unit.T
likeness[slide_of[:, None] == slide_of[None]] = -np.inf
nearest = np.argsort(-likeness, axis=1, kind="stable")

rows = []
for region in COLOURS:
    of = np.flatnonzero(region_of == region)
    same = np.mean(region_of[nearest[of, 0]] == region)
    chance = np.mean([np.mean(region_of[slide_of != slide_of[one]] == region) for one in of])
    found = [f"{same:.0%}", f"{chance:.0%}"] if chance else ["on one slide only", ""]
    rows.append([region, len(of), *found])
show_table(["pattern", "tiles", "nearest tile shows the same", "a random tile would"], rows)

# %% [markdown]
# The same by eye: on the left the most typical tile of a pattern (nearest to the mean of all), then the tiles
# of other slides that are nearest to it. Stroma looks the same inside a tumour's outline and out of it, so a neighbour
# may be right and yet have another name: the label of a region is not the label of each of its tiles.

# %%
opened = {one: open_slide(slides / f"{one}.svs") for one in stores}
readers = {one: TileReader(opened[one], stores[one].grid) for one in stores}


def pixels_of(tile):
    """Pixels of a tile by its number in the tables above."""
    return readers[slide_of[tile]].read(row_of[[tile]]).pixels[0]


figure, table = plt.subplots(3, 5, figsize=(8.2, 5.5))
for line, region in zip(table, NAMES[[0, 1, 2]], strict=True):
    of = np.flatnonzero(region_of == region)
    query = of[(unit[of] @ unit[of].mean(axis=0)).argmax()]
    for axes, tile in zip(line, [query, *nearest[query, :4]], strict=True):
        show_tile(axes, pixels_of(tile), f"{region_of[tile]}, {slide_of[tile]}")
    line[0].spines[:].set(linewidth=3, color=COLOURS[region])
for one in opened.values():
    one.close()

# %% [markdown]
# ## On the command line
#
# ```
# histograde extract slides/ --store features/ --encoder lite0
# histograde verify features/
# ```
#
# [The next page](03_train_grade_and_explain.ipynb) learns to grade slides from such features.
