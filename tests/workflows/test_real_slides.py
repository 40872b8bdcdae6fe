"""Every real slide of the shared data, in one batch: which are accepted, and why the others are not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workflows.extraction import ExtractConfig
from workflows.listeners import Listener
from workflows.pipeline import run_pipeline
from workflows.sources import find_slides
from wsi.store import FeatureStore, store_path

pytestmark = pytest.mark.slow

DONE = "done"
NO_MPP = ["TCGA-CR-7395-01A-01-TS1"]
WRONG_MPP = [f"CMU-1-Small-Region.{codec}" for codec in ("jpeg", "jp2", "webp")]
STATED_MPP = {
    "CMU-1-Small-Region": 0.499,
    "cmu1_dicom": 0.499,
    "OS-2-ndpi": 0.2271,
    "TCGA-DU-6399-01A-01-TS1": 0.2457,
}
FLUORESCENCE = ["test3-DAPI", "Mirax2-Fluorescence-2"]
OUTCOMES = (
    dict.fromkeys(STATED_MPP, DONE)
    | dict.fromkeys(NO_MPP, "missing_mpp")
    | dict.fromkeys(WRONG_MPP, "implausible_mpp")
    | {"kidney-blank": "missing_mpp"}
    | dict.fromkeys(FLUORESCENCE, "not_brightfield")
)

Batch = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def batch(shared_data: Path, cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Batch]:
    def run(fallback_mpp: tuple[float, float] | None) -> Batch:
        root = tmp_path_factory.mktemp("stores")
        sources = find_slides([shared_data / "slides"], fallback_mpp)
        results = run_pipeline(cluster, sources, ExtractConfig(store=root, encoder="toy"), Listener())
        return root, {result.source.slide_id: result for result in results}

    return run


@pytest.fixture(scope="module")
def as_they_are(batch: Callable[..., Batch]) -> Batch:
    return batch(None)


@pytest.fixture(scope="module")
def with_fallback(batch: Callable[..., Batch]) -> Batch:
    return batch((0.499, 0.499))


def outcomes(batch: Batch) -> dict[str, str]:
    return {slide_id: one.failure.error_class if one.failure else DONE for slide_id, one in batch[1].items()}


def store_of(batch: Batch, slide_id: str) -> FeatureStore:
    return FeatureStore(store_path(batch[0], slide_id))


def test_each_slide_is_accepted_or_refused_for_its_reason(as_they_are):
    assert outcomes(as_they_are) == OUTCOMES


def test_with_a_pixel_size_by_the_user_only_blank_and_fluorescent_slides_are_refused(with_fallback):
    expected = OUTCOMES | dict.fromkeys(NO_MPP + WRONG_MPP, DONE) | {"kidney-blank": "no_tissue"}
    assert outcomes(with_fallback) == expected


def test_a_plausible_pixel_size_in_the_file_holds(as_they_are, with_fallback):
    for batch in (as_they_are, with_fallback):
        for slide_id, mpp in STATED_MPP.items():
            slide = store_of(batch, slide_id).slide
            assert slide.mpp == pytest.approx((mpp, mpp), abs=5e-5)
            assert "user" not in slide.mpp_source


def test_where_the_user_gave_the_pixel_size_the_store_says_so_and_what_the_file_said(with_fallback):
    for slide_id in NO_MPP + WRONG_MPP:
        slide = store_of(with_fallback, slide_id).slide
        assert slide.mpp == (0.499, 0.499)
        said = "nothing" if slide_id in NO_MPP else "0.00499"
        assert slide.mpp_source == f"user (the file says {said})"


def test_a_refused_slide_leaves_nothing(as_they_are):
    refused = [slide_id for slide_id, outcome in OUTCOMES.items() if outcome != DONE]
    assert not [path.name for slide_id in refused for path in as_they_are[0].glob(f"*{slide_id}.zarr*")]
    assert not list(as_they_are[0].rglob("*.partial"))


def test_stores_of_real_slides_agree_with_their_manifests_and_have_no_bad_tile(with_fallback):
    for slide_id, outcome in outcomes(with_fallback).items():
        if outcome == DONE:
            store = store_of(with_fallback, slide_id)
            assert store.verify() == []
            assert store.bad_tiles("toy") == []
            assert np.isfinite(store.features("toy")).all()


@pytest.mark.parametrize(("other", "most"), [("cmu1_dicom", 1), *zip(WRONG_MPP, (1, 1, 2.5))])
def test_one_region_in_five_formats_gives_the_same_tiles(with_fallback, other, most):
    """Each copy was compressed once more. As OpenSlide (DICOM) and tifffile decode them, that moves the mean colour of
    224 px by up to 0.9 grey levels, in WebP by 2.3."""
    one, two = (store_of(with_fallback, slide_id) for slide_id in ("CMU-1-Small-Region", other))
    np.testing.assert_array_equal(one.grid.coords, two.grid.coords)
    means = [store.features("toy")[:, [0, 7, 14]].astype(float) * 255 for store in (one, two)]
    assert np.abs(means[0] - means[1]).max() < most
