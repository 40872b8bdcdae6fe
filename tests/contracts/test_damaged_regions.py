"""Readers on a slide with one stored tile that cannot be decoded: it is said, and the rest stays readable."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.makers import damage_tile, tissue_pixels, write_svs
from wsi.errors import TileReadError
from wsi.slide import READERS

READERS_OF_TIFFS = [name for name in ("jpeg_tiff", "openslide", "tiffslide") if name in READERS]


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A sound slide of 3 x 3 tiles of 256 px, and the same with the middle tile destroyed."""
    folder = tmp_path_factory.mktemp("slides")
    sound = write_svs(folder / "sound.svs", tissue_pixels(768, 768), factors=(2,))
    damaged = folder / "damaged.svs"
    damaged.write_bytes(sound.read_bytes())
    damage_tile(damaged, 0, 1, 1)
    return sound, damaged


@pytest.mark.parametrize("name", READERS_OF_TIFFS)
def test_a_damaged_region_raises_and_the_slide_stays_usable(name: str, slides: tuple[Path, Path]) -> None:
    with closing(READERS[name](slides[0])) as sound, closing(READERS[name](slides[1])) as damaged:
        corner = sound.read_region((0, 0), 0, (256, 256))
        coarse = sound.read_region((0, 0), 1, (384, 384))
        for place, size in (((300, 300), (64, 64)), ((0, 0), (768, 768)), ((510, 400), (20, 20))):
            with pytest.raises(TileReadError):
                damaged.read_region(place, 0, size)
            assert np.array_equal(damaged.read_region((0, 0), 0, (256, 256)), corner)
            assert np.array_equal(damaged.read_region((0, 0), 1, (384, 384)), coarse)


@pytest.mark.parametrize("name", READERS_OF_TIFFS)
def test_another_threads_damage_is_not_ones_own(name: str, slides: tuple[Path, Path]) -> None:
    with closing(READERS[name](slides[0])) as sound:
        corner = sound.read_region((520, 8), 0, (200, 200))

    with closing(READERS[name](slides[1])) as damaged:

        def read(number: int) -> bool:
            if number % 3:
                return np.array_equal(damaged.read_region((520, 8), 0, (200, 200)), corner)
            with pytest.raises(TileReadError):
                damaged.read_region((300, 300), 0, (40, 40))
            return True

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, range(30)))
