"""Contracts that a plug-in must keep, shipped so that its author can run them: `check_export`, `check_reader`."""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from shapely import MultiPolygon, box

from wsi.errors import UnreadableSlideError
from wsi.exports import Export
from wsi.heatmap import Channel, SlideMaps
from wsi.scales import attention_scale, evidence_scale
from wsi.slide import Slide, SlideInfo
from wsi.tiles import TileSpec, tile_grid
from wsi.tissue import TissueMask


def example_maps(
    *,
    mpp: tuple[float, float] = (0.2457, 0.2457),
    size_px0: tuple[int, int] = (6000, 4000),
    bounds_px0: tuple[int, int, int, int] = (700, 300, 4500, 3200),
    spec: TileSpec | None = None,
    marked_px0: tuple[float, float] = (2345.0, 1234.0),
    unscored: int = 1,
    slide_id: str = "example",
) -> SlideMaps:
    """Maps of a slide that is all tissue within its bounds, of two classes, with one place marked.

    Tiles over `marked_px0` have evidence 1 for the second class and ten times the attention of the others, which have
    evidence 0. The last `unscored` tiles have no score.
    """
    x, y, w, h = bounds_px0
    info = SlideInfo(slide_id, "array", "png", (size_px0,), (1.0,), mpp, "user", None, bounds_px0, "0" * 64)
    tissue = TissueMask(np.ones((8, 8), bool), (w / 8, h / 8), (x, y), mpp)
    grid = tile_grid(info, tissue, spec or TileSpec(64, 0.5, 64))
    rows = np.arange(len(grid) - unscored)
    offset = np.array(marked_px0) - grid.coords[rows]
    marked = ((offset >= 0) & (offset < grid.side_px0)).all(axis=1)
    attention = np.where(marked, 10.0, 1.0)
    evidence = np.stack([1.0 - marked, marked.astype(float)], axis=1)
    labels = ("benign", "tumour")
    return SlideMaps(
        info,
        grid,
        rows,
        Channel("attention", attention / attention.mean(), attention_scale()),
        tuple(Channel(name, evidence[:, k], evidence_scale(name, "probability")) for k, name in enumerate(labels)),
        labels,
        1,
        MultiPolygon([box(x, y, x + w, y + h)]),
        np.full((round(h / 8), round(w / 8), 3), 230, np.uint8),
    )


def check_export(export: Export, folder: Path) -> None:
    """Write example maps, and raise `AssertionError` where the export breaks its contract.

    It writes exactly the files that it names, leaves nothing else behind, replaces older ones, gives the same bytes
    for equal maps wherever they are written, other bytes for other scores, and takes any slide name.
    """
    maps = example_maps(slide_id='<b>&"\u00e9')
    first, second, other = (folder / name for name in ("first", "second", "other"))
    for place in (first, second, other):
        place.mkdir()
    for name in export.file_names:
        (second / name).write_bytes(b"older")
    export.write(first, maps)
    export.write(second, example_maps(slide_id='<b>&"\u00e9'))
    export.write(other, example_maps(slide_id='<b>&"\u00e9', marked_px0=(3456.0, 2345.0)))
    for place in (first, second, other):
        found = sorted(path.name for path in place.iterdir())
        assert found == sorted(export.file_names), f"expected {sorted(export.file_names)}, found {found}"
    for name in export.file_names:
        assert (first / name).stat().st_size > 0, f"{name} is empty"
        assert (first / name).read_bytes() == (second / name).read_bytes(), f"{name} differs between equal maps"
        assert (first / name).read_bytes() != (other / name).read_bytes(), f"{name} does not depend on the scores"


__all__ = ["check_export", "example_maps"]


def check_reader(reader: Callable[[Path], Slide], path: Path, pixels: np.ndarray | None = None) -> None:
    """Open a slide, and raise `AssertionError` where the reader breaks its contract.

    Its description is consistent; regions have the size asked for and do not depend on how they are cut, on the thread
    or on what was read before; outside of a level is white; what is no slide is declined with `UnreadableSlideError`.

    Parameters
    ----------
    reader : callable
        As in `wsi.slide.READERS`: takes a path.
    path : path
        A sound slide that it knows.
    pixels : ndarray (H, W, 3) uint8, optional
        Level 0 as it has to be, exactly.
    """
    slide = reader(path)
    try:
        _check_info(slide.info)
        for level in range(len(slide.info.level_sizes_px)):
            _check_level(slide, level)
        w, h = slide.info.size_px0
        if pixels is not None:
            assert pixels.shape == (h, w, 3), f"{w} x {h} px, expected {pixels.shape}"
            assert np.array_equal(slide.read_region((0, 0), 0, (w, h)), pixels), "level 0 has other pixels"
        for name, image in slide.associated_images.items():
            assert image.dtype == np.uint8, f"associated image {name!r} is {image.dtype}, expected uint8"
            assert image.ndim == 3, f"associated image {name!r} has shape {image.shape}, expected (H, W, 3)"
            assert image.shape[2] == 3, f"associated image {name!r} has shape {image.shape}, expected (H, W, 3)"
        slide.info = replace(slide.info, slide_id="another")  # type: ignore[misc]  # as `open_slide` does
        assert slide.info.slide_id == "another", "info cannot be replaced"
    finally:
        slide.close()
    _check_declines(reader)


def _check_info(info: SlideInfo) -> None:
    assert info.slide_id == info.content_hash == "", "the name and the hash are open_slide's to give"
    assert info.downsamples[0] == 1, f"level 0 has downsample {info.downsamples[0]}"
    assert list(info.downsamples) == sorted(info.downsamples), f"downsamples {info.downsamples} do not ascend"
    assert len(info.level_sizes_px) == len(info.downsamples), "not one downsample a level"
    assert all(w > 0 and h > 0 for w, h in info.level_sizes_px), f"levels {info.level_sizes_px}"
    x, y, w, h = info.bounds_px0
    inside = 0 <= x < x + w <= info.size_px0[0] and 0 <= y < y + h <= info.size_px0[1]
    assert inside, f"bounds {info.bounds_px0} are not inside level 0 of {info.size_px0}"
    assert (info.mpp is None) == (info.mpp_source == "none"), f"mpp {info.mpp} from {info.mpp_source!r}"


def _check_level(slide: Slide, level: int) -> None:
    w, h = slide.info.level_sizes_px[level]

    def read(left: int, top: int, width: int, height: int) -> np.ndarray:
        return slide.read_region(slide.info.level_location(level, (left, top)), level, (width, height))

    side = (min(w, 150), min(h, 130))
    left, top = (w - side[0]) // 2, (h - side[1]) // 2
    region = read(left, top, *side)
    assert region.shape == (side[1], side[0], 3), f"level {level}: asked for {side}, got an array {region.shape}"
    assert region.dtype == np.uint8, f"level {level}: {region.dtype}, expected uint8"
    whole = float(slide.info.downsamples[level]).is_integer()
    part = read(left + side[0] // 3, top + side[1] // 4, side[0] // 2, side[1] // 2)
    cut = region[side[1] // 4 :, side[0] // 3 :][: part.shape[0], : part.shape[1]].astype(int)
    off = np.abs(part - cut)
    assert off.max(initial=0) == 0 or (not whole and off.mean() < 8), f"level {level}: a part differs from the whole"
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda _: read(left, top, *side), range(8)))
    assert all(np.array_equal(region, one) for one in again), f"level {level}: threads read other pixels"
    over = read(w - 8, h - 8, 24, 24)
    assert (over[10:] == 255).all(), f"level {level}: not white below the last row"
    assert (over[:, 10:] == 255).all(), f"level {level}: not white right of the last column"
    assert (read(-50, -50, 40, 40) == 255).all(), f"level {level}: not white outside"


def _check_declines(reader: Callable[[Path], Slide]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for suffix in (".svs", ".tif", ".png", ".npy", ".mrxs", ".dcm", ""):
            for kind, data in (("empty", b""), ("text", b"<script>no slide</script>\n" * 50)):
                path = folder / f"{kind}{suffix}"
                path.write_bytes(data)
                _check_declined(reader, path)
        (folder / "folder.svs").mkdir()
        _check_declined(reader, folder / "folder.svs")
        _check_declined(reader, folder / "absent.svs")


def _check_declined(reader: Callable[[Path], Slide], path: Path) -> None:
    try:
        reader(path)
    except UnreadableSlideError:
        return
    raise AssertionError(f"{path.name} is no slide and was not declined with UnreadableSlideError")
