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
# # 3. Train, grade and explain
#
# A slide has one label, its grade, and a bag of tiles of which only some show why. Multiple-instance learning (MIL)
# learns from the bag: gated attention (Ilse et al. 2018) gives each tile a weight, the slide's prediction is made
# from the weighted mean of the features, and nobody has to mark tiles by hand. The weights also say where the model
# looked, which can be wrong, and therefore is measured below.
#
# This page trains on a small synthetic cohort with the functions of `histograde train`, `evaluate` and `grade`.
#
# **A cohort this small shows the way, not how well it works.** With a dozen patients every figure comes with a wide
# interval, and another draw of slides gives another figure: five cohorts of this size, from the seeds 0 to 4, gave an
# agreement with the truth (QWK) of 0.28, -0.20, 0.91, 0.82 and 0.48 when this page was written. It shows the middle
# one, seed 4. For figures that mean something run `make demo`, which trains on 60 larger slides of three sites in a
# few minutes.

# %%
import csv
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from shapely import get_parts

from mil.encoders import load_encoder
from mil.metrics import calibration_bins
from workflows.evaluate import EvaluateConfig, evaluate, read_predictions
from workflows.extract import extract
from workflows.extraction import ExtractConfig
from workflows.grade import GradeConfig, grade
from workflows.listeners import Listener
from workflows.localisation import held_out_scores, localise
from workflows.results import load_run, load_slide
from workflows.sources import find_slides
from workflows.train import TrainConfig, train
from wsi.annotations import read_regions, tile_coverage
from wsi.errors import MissingPackageError
from wsi.scales import round_length_um
from wsi.store import open_stores
from wsi.synthetic import make_cohort

# %config InlineBackend.figure_formats = ["jpeg"]
# %config InlineBackend.print_figure_kwargs = {"bbox_inches": "tight", "pil_kwargs": {"quality": 80, "subsampling": 0}}
plt.rcParams.update({"figure.dpi": 84, "figure.constrained_layout.use": True})
plt.rcParams["axes.titlelocation"] = "left"
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
warnings.filterwarnings("ignore", message="IProgress not found")  # a widget of tqdm, not used here
scratch = TemporaryDirectory()
work = Path(scratch.name)


def show_table(header, rows):
    """Show rows of values as a table."""
    lines = [header, ["---"] * len(header), *rows]
    display(Markdown("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)))


# %% [markdown]
# ## The cohort
#
# Eighteen slides from three laboratories whose stain and scanner differ more than the grades do; every second patient
# has two slides. The label is the ISUP grade group, 0 (benign) to 5. `labels.csv` is what any cohort needs: slide_id
# and label, and patient_id and site where they are known.

# %%
cohort = make_cohort(work / "train", slides=18, sites=3, seed=4, size_px0=(1792, 1792), mpp=0.5)

rows = []
for site in sorted({one.site for one in cohort}):
    grade_of, slides_of = {}, {}
    for one in cohort:
        if one.site == site:
            grade_of[one.patient_id] = one.grade
            slides_of[one.patient_id] = slides_of.get(one.patient_id, 0) + 1
    twice = {patient: " (2 slides)" if count == 2 else "" for patient, count in slides_of.items()}
    here = [f"{patient}: {grade}{twice[patient]}" for patient, grade in sorted(grade_of.items())]
    rows.append([site, ", ".join(here)])
show_table(["site", "patients with the ISUP grade group of their slides"], rows)

# %% [markdown]
# ## Features
#
# As on the [page before](02_tiles_to_features.ipynb): `lite0` where its weights are installed, else `toy`, with
# which the figures below are those of colour alone.

# %%
try:
    encoder = load_encoder("lite0", device="cpu").card.name
except MissingPackageError as error:
    encoder = "toy"
    print(f"using toy instead of lite0: {error}")

sources = find_slides([work / "train" / "slides"])
quiet = Listener()  # instead of progress, which says how fast this machine is
features = extract(sources, ExtractConfig(work / "features", encoder, device="cpu"), quiet)
print(f"{features.tiles} tiles of {features.slides} slides by {encoder}")

# %% [markdown]
# ## Training
#
# The patients are dealt into three folds, and one network is trained without each of them. All slides of a patient
# are in one fold: slides of one patient resemble each other in more than the disease, and a network that has seen
# one of them knows more about the other than it ever will about a new patient. A table of labels whose fold column
# splits a patient is refused (`PatientLeakError`).
#
# Grades have an order, so the loss is ordinal (CORN): to call a 5 a 0 is worse than to call it a 4.

# %%
lines = []
config = TrainConfig(
    store=work / "features",
    labels=work / "train" / "labels.csv",
    out=work / "model",
    model="abmil",
    task="grade",
    folds=3,
    seed=0,
    device="cpu",
)
result = train(config, lines.append)
print("\n".join(line for line in lines if line.startswith((f"{len(cohort)} slides", "fold"))))
print(f"{len(result.notes)} notes; the first: {result.notes[0]}" if result.notes else "no notes")

# %% [markdown]
# The model folder has all that is needed to use the model and to judge it: the three networks, which together are the
# model, the encoder's card and the recipe of the tiles, a log of each network's training, and the predictions for every
# training slide by the network that had not seen it.

# %%
print("\n".join(sorted(str(file.relative_to(work)) for file in result.path.glob("*"))))

# %% [markdown]
# ## How good is it on patients it has not seen?
#
# Only these held-out predictions count; on the slides that it was trained on any such network is right. Each row
# is a slide, its colours the probabilities it was given. A good model is dark along the true grades.

# %%
held_out = read_predictions(work / "model" / "out_of_fold.csv")
truth = {one.slide_id: one.grade for one in cohort}
true_grade = np.array([truth[slide_id] for slide_id in held_out.slide_id])
order = np.argsort(true_grade, kind="stable")
names = [f"{held_out.slide_id[row]} ({held_out.patient_id[row]})" for row in order]
places = range(len(order))

figure, axes = plt.subplots(figsize=(6, 5))
image = axes.imshow(held_out.probabilities[order], cmap="Blues", vmin=0, aspect="auto")
ring = {"facecolor": "none", "edgecolor": "#D55E00", "lw": 1.6}
axes.scatter(true_grade[order], places, s=70, label="true grade", **ring)
axes.scatter(held_out.predicted[order], places, s=12, color="black", label="predicted grade")
axes.set_yticks(places, names, fontsize=8)
axes.set(xlabel="ISUP grade group", ylabel="slide (patient), sorted by true grade")
axes.set_title(f"Held-out probabilities of {len(order)} slides")
axes.legend(loc="lower left", bbox_to_anchor=(0, -0.24), ncols=2, frameon=False)
figure.colorbar(image, ax=axes, shrink=0.7).set_label("probability")

# %% [markdown]
# One number needs an interval beside it. Patients, not slides, are resampled, because two slides of one patient are
# not two independent pieces of evidence. QWK, the quadratic weighted kappa, is 1 for perfect agreement and 0 for
# chance; it counts a miss by two grades four times as much as one by a single grade. With a dozen patients even the
# interval is itself a guess.

# %%
out_of_fold = work / "model" / "out_of_fold.csv"
found = evaluate(EvaluateConfig(out_of_fold, config.labels, work / "evaluation"), lambda line: None)
commonest = max(np.bincount(found.targets)) / len(found.targets)
shown = (("qwk", "QWK", 0), ("auroc", "AUROC, mean of grades", 0.5), ("accuracy", "accuracy", commonest))

figure, axes = plt.subplots(figsize=(6.6, 2.2))
for place, (key, _, chance) in enumerate(shown):
    one = found.metrics[key]
    reach = [[one.estimate - one.low], [one.high - one.estimate]]
    axes.errorbar(one.estimate, place, xerr=reach, fmt="o", color="#0072B2", capsize=4, lw=2)
    axes.scatter(chance, place, marker="x", color="#D55E00", zorder=3)
    axes.text(1.04, place, str(one), va="center")
axes.scatter([], [], marker="x", color="#D55E00", label="chance")
axes.set_yticks(range(len(shown)), [label for _, label, _ in shown])
axes.set(xlim=(min(-0.1, found.metrics["qwk"].low - 0.05), 1), ylim=(len(shown) - 0.5, -0.5))
axes.set_xlabel("value, with 95 % interval by patient")
axes.set_title(f"{len(found.targets)} slides of {len(set(found.patients))} patients: wide intervals")
_ = axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(1.02, -0.3), fontsize=8)

# %% [markdown]
# ## Does 70 % mean 70 %?
#
# A probability that a person reads should be a frequency: of all slides that are called with 70 %, seven in ten should
# be right. `train` fits a calibration to the held-out predictions: of several ways the plainest that does as well as
# any, judged by slides that it was not fitted on. It says which, why, and what that changed. The plot puts the slides
# into three groups by confidence; its bars are 95 % intervals of a share (Wilson 1927), and with six slides in a group
# they reach over half the axis. This says what was done, not yet whether it holds.

# %%
fitted = result.calibration
print(f"{fitted['n_slides']} held-out slides; {fitted['note']}")
print(f"log loss {fitted['nll_before']:.2f} -> {fitted['nll_after']:.2f}")
print(f"expected calibration error {fitted['ece_before']:.2f} -> {fitted['ece_after']:.2f}")

confidence, share, count = calibration_bins(found.targets, found.probabilities, 3)
z = 1.96
centre = (share + z**2 / 2 / count) / (1 + z**2 / count)
half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / 4 / count**2)
reach = np.clip([share - centre + half, centre + half - share], 0, 1)

figure, axes = plt.subplots(figsize=(6.8, 4))
axes.plot([0, 1], [0, 1], ls=":", color="#555555", label="calibrated")
label = f"groups of {count.min()} slides, 95 % interval"
axes.errorbar(confidence, share, yerr=reach, fmt="o-", color="#0072B2", capsize=4, label=label)
axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
axes.set(xlabel="confidence (probability of the predicted grade)", ylabel="share that is right")
axes.set_title("Reliability on held-out slides")
_ = axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))

# %% [markdown]
# ## Grading new slides
#
# Two slides of new patients, and a copy of one that was cut off in transfer. `grade` extracts what is missing,
# predicts, and writes a run folder with the worklist, the heatmaps and a report. The damaged slide goes into
# quarantine with its reason; it does not end the batch.

# %%
new = make_cohort(work / "new", slides=3, sites=3, seed=1004, size_px0=(1792, 1792), mpp=0.5)[1:]
whole = new[0].path.read_bytes()
cut_off = work / "new" / "cut-off.svs"
cut_off.write_bytes(whole[: len(whole) // 3])

run = work / "run"
sources = find_slides([*(one.path for one in new), cut_off])
done = grade(sources, GradeConfig(work / "model", run, run / "features", device="cpu"), quiet)

print(f"{len(done.gradings)} graded, {len(done.quarantined)} in quarantine")
for one in done.quarantined:
    print(f"  {one.slide_id} [{one.error_class}]: {one.message}")
    print(f"  -> {one.remedy}")

# %% [markdown]
# The worklist is the order in which to look at the slides, most urgent first, with the reason for each place. The
# last column is the truth, which a real archive would not have.

# %%
true_new = {one.slide_id: one.grade for one in new}
with (run / "worklist.csv").open(newline="") as handle:
    worklist = list(csv.DictReader(handle))
rows = [[one["rank"], one["slide_id"], one["reason"], true_new[one["slide_id"]]] for one in worklist]
show_table(["rank", "slide", "reason", "true grade group"], rows)

# %% [markdown]
# ## Where did it look?
#
# Two maps for the most urgent slide. **Attention** is the weight of each tile in the slide's prediction, here as a
# multiple of the mean tile's, so that it compares between slides of any size. **Evidence** is what the model says of
# each tile alone. They answer different questions: a tile may be looked at a great deal because it speaks *against*
# a high grade.


# %%
def scale_bar(axes, width, height, um_per_px, length_um):
    """A bar of a known length at the lower left of a picture."""
    left, low, length = 0.04 * width, 0.95 * height, length_um / um_per_px
    axes.plot([left, left + length], [low, low], color="black", lw=3, solid_capstyle="butt")
    text = f"{length_um} µm"
    axes.text(left + length / 2, low - 0.02 * height, text, ha="center", va="bottom", fontsize=8)


def show_map(axes, maps, pixels, title):
    """A picture on the slide's thumbnail, in pixels of the thumbnail."""
    height, width = pixels.shape[:2]
    um_per_px = maps.thumbnail_pitch_px0[0] * maps.info.require_mpp()[0]
    axes.imshow(pixels)
    scale_bar(axes, width, height, um_per_px, round_length_um(width * um_per_px / 3))
    axes.set_title(title, fontsize=10)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def show_scale(axes, scale):
    """The legend of a map, in the colours in which it lies over the tissue."""
    steps = np.geomspace if scale.log else np.linspace
    colours = scale.over(steps(scale.low, scale.high, 256)[None], np.full((1, 256, 3), 255, np.uint8))
    bar = axes.inset_axes((0, -0.12, 1, 0.05))
    bar.imshow(colours, aspect="auto", extent=(0, 1, 0, 1))
    values, texts = zip(*scale.ticks, strict=True)
    bar.set_xticks(scale.position(np.array(values)), texts, fontsize=8)
    bar.set(yticks=[], xlabel=scale.unit)


# %%
slide_id = worklist[0]["slide_id"]
graded = load_slide(run, slide_id)
maps = graded.maps(load_run(run).model)
regions = read_regions(work / "new" / "truth" / f"{slide_id}.geojson")
colours = {"pattern 3": "#0072B2", "pattern 4": "#E69F00", "pattern 5": "#000000"}

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9.6, 4.1))
show_map(left, maps, maps.thumbnail, f"{slide_id}, true grade group {true_new[slide_id]}")
for name in sorted({region.name for region in regions} & colours.keys()):
    for part in get_parts([region.polygon for region in regions if region.name == name]):
        x, y = (np.asarray(part.exterior.coords) / maps.thumbnail_pitch_px0).T
        left.plot(x, y, color=colours[name], lw=2)
    left.plot([], [], color=colours[name], lw=2, label=f"{name} (truth)")
left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, frameon=False, fontsize=8)
for axes, channel in ((middle, maps.attention), (right, maps.evidence[maps.predicted])):
    scores = maps.on_thumbnail(channel)
    show_map(axes, maps, channel.scale.over(scores, maps.thumbnail), channel.scale.title)
    show_scale(axes, channel.scale)

# %% [markdown]
# The tiles it looked at most, as the report shows them, with the share of each that truly lies in tumour:

# %%
tumour = tile_coverage(graded.grid, regions)
weight = dict(zip(graded.rows.tolist(), graded.attention * len(graded.rows), strict=True))

figure, places = plt.subplots(1, 5, figsize=(9.4, 2.3))
for axes, tile in zip(places, graded.top_tiles, strict=False):
    axes.imshow(tile.pixels)
    scale_bar(axes, *tile.pixels.shape[1::-1], maps.info.require_mpp()[0], 50)
    axes.set_title(f"{weight[tile.row]:.1f} x mean, {tumour[tile.row]:.0%} tumour", fontsize=8)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)

# %% [markdown]
# ## Is it the right place?
#
# One good-looking map proves nothing. Over all held-out slides: how often has a tile inside the tumour more attention
# (or a higher expected grade by its own evidence) than one outside? That is the AUROC over tiles; 0.5 is chance.
# Tiles across the border are left out, each slide counts once, and the interval is by slide.
#
# FROC asks for regions instead of tiles: the share of the drawn tumours that a peak of the map hits, as a mean over 1/4
# to 8 peaks a slide that hit none. IoU asks for the outline: the map cut at a threshold, which is chosen on the slides
# of other patients, and its overlap with what was drawn, 1 for the very same.

# %%
stores = open_stores(work / "features")
scores = held_out_scores(work / "model")
located = localise(stores, scores, work / "train" / "truth")
print(f"{located.tiles} tiles; {located.slides} slides with tiles inside and outside of tumour")
print("\n".join(located.lines()))

# %%
inside, outside = [], []
for slide_id, score in scores.items():
    regions = read_regions(work / "train" / "truth" / f"{slide_id}.geojson")
    cover = tile_coverage(stores[slide_id].grid, regions)[score["rows"]]
    times_mean = score["attention"] * len(cover)
    inside += times_mean[cover >= 0.5].tolist()
    outside += times_mean[cover == 0].tolist()

figure, axes = plt.subplots(figsize=(6.6, 3.2))
axes.axvline(1, color="#BBBBBB", lw=1)
for values, colour, dash, label in (
    (outside, "#555555", "--", "outside"),
    (inside, "#D55E00", "-", "inside"),
):
    axes.ecdf(values, color=colour, ls=dash, lw=2, label=f"{len(values)} tiles {label} tumour")
axes.set(xscale="log", xlim=(0.01, 20), ylim=(0, 1))
axes.set_xticks([0.01, 0.1, 1, 10], ["0.01", "0.1", "1", "10"])
axes.set(xlabel="attention (times the mean tile of its slide)", ylabel="share of tiles below")
axes.set_title("Tiles inside tumour get more of the attention of held-out slides")
_ = axes.legend(frameon=False, loc="upper left")

# %% [markdown]
# ## On the command line
#
# ```
# histograde train    --store features/ --labels labels.csv --out model/ --folds 3
# histograde evaluate --predictions model/out_of_fold.csv --labels labels.csv --out evaluation/
# histograde grade new/ --model model/ --out run/
# ```
#
# `run/report/index.html` is the report for a pathologist: worklist, slides with their maps, tiles at full resolution,
# the model's card and its limits. Research use only.
