"""Fixtures that several tests share. Nothing here reaches for the network."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.makers import tissue_pixels, write_svs

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real slides; the test is skipped where it is absent."""
    folder = Path(os.environ.get("HISTOGRADE_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("shared data absent")
    return folder


@pytest.fixture(scope="session")
def small_pixels() -> np.ndarray:
    """(1400, 1500, 3) uint8: tissue on glass."""
    return tissue_pixels(1500, 1400)


@pytest.fixture(scope="session")
def small_svs(tmp_path_factory: pytest.TempPathFactory, small_pixels: np.ndarray) -> Path:
    """A sound SVS of 1500 x 1400 px at 0.5 um/px with a level at 1/4. Do not write to it."""
    return write_svs(tmp_path_factory.mktemp("slide") / "small.svs", small_pixels)


@pytest.fixture(scope="session")
def cluster() -> object:
    """A Dask client in this process, made once."""
    from workflows.cluster import connect

    with connect(0) as client:
        yield client


@pytest.fixture(scope="session")
def extracted(cluster: object) -> Callable[..., Path]:
    """Make a store of a slide with the toy encoder: `extracted(slide, root, chunk_tiles=4)` gives the store's path."""
    from workflows.extraction import ExtractConfig
    from workflows.listeners import Listener
    from workflows.pipeline import run_pipeline
    from workflows.sources import find_slides
    from wsi.store import store_path

    def extract(slide: Path, root: Path, **settings: object) -> Path:
        config = ExtractConfig(**{"store": root, "encoder": "toy", "chunk_tiles": 4, **settings})
        (result,) = run_pipeline(cluster, find_slides([slide]), config, Listener())
        assert result.failure is None, result.failure
        return store_path(root, result.source.slide_id)

    return extract


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory, small_svs: Path, extracted: Callable[..., Path]) -> Path:
    """A sound store of `small_svs` with toy features in chunks of 4 tiles. Do not write to it; copy it."""
    return extracted(small_svs, tmp_path_factory.mktemp("stores"))
