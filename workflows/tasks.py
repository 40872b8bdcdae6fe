"""The tasks that a slide's way is made of: plan, extract chunk by chunk, finish. They run on workers."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from mil.encoders import Encoder
from workflows.card_features import card_features
from workflows.extraction import ExtractConfig
from workflows.listeners import ChunkDone, Plan
from workflows.source_hash import check_there, missed_by_name, remember_hash, source_hash, source_stamp
from workflows.sources import SlideSource
from workflows.worker import encoder_place, slide_and_grid, worker_encoder
from wsi.errors import NoTissueError, RecipeMismatchError, TooManyBadTilesError, UnreachableStoreError, WsiError
from wsi.files import sweep_temporaries
from wsi.glass import check_brightfield
from wsi.overview import check_readable, read_overview
from wsi.qc import find_tissue_with_qc
from wsi.slide import Slide
from wsi.store import FeatureStore, store_path, verify_folder
from wsi.store_url import StorePath
from wsi.store_writer import (
    FeatureWriter,
    begin_features,
    check_recipe,
    feature_folders,
    publish_grid,
    reopen_damaged,
    settle,
)
from wsi.tiles import BadTile, TileGrid, TileReader, tile_grid
from wsi.tissue import TissueMask

READ_BATCH = 64


def plan_slide(source: SlideSource, config: ExtractConfig) -> Plan:
    """Open a slide, find its tissue, lay its tiles and publish the grid, or take up what an earlier run left."""
    with missed_by_name(source):
        return _plan(source, config)


def _plan(source: SlideSource, config: ExtractConfig) -> Plan:
    clock = _Clock()
    encoder = worker_encoder(config)
    path = store_path(config.store, source.slide_id)
    settle(path)
    sweep_temporaries(path)
    store = _published(path)
    stamp = source_stamp(source)
    with ThreadPoolExecutor(1, thread_name_prefix="hash") as aside:
        hashing = aside.submit(source_hash, source, store, stamp)
        if store is not None:  # what is there is not trusted before the slide is known
            hashing.result()
        clock.lap("hash")
        slide = source.open(reader=config.reader, content_hash=hashing.result() if store is not None else "pending")
        try:
            slide.info.require_mpp()
            if store is not None and not _still_fits(store, slide, config):
                store = None
            if store is None or verify_folder(path):
                found = _find_tiles(slide, config)
                clock.lap("tissue")
                info = replace(slide.info, content_hash=hashing.result())
                clock.lap("hash")
                store = publish_grid(config.store, info, *found)
        finally:
            slide.close()
        content_hash = hashing.result()
    remember_hash(path, content_hash, stamp)
    clock.lap("tissue")
    card = encoder.card.to_dict()
    if encoder.card.name in store.encoders and not reopen_damaged(store, card):
        clock.lap("verify")
        return Plan(source.slide_id, content_hash, store.meta["tiles"], None, (), clock.seconds, stamp)
    writer = begin_features(store, card, chunk_tiles=config.chunk_tiles)
    chunks = tuple(writer.todo())
    clock.lap("verify")
    return Plan(source.slide_id, content_hash, writer.tiles, writer, chunks, clock.seconds, stamp)


def _find_tiles(
    slide: Slide, config: ExtractConfig
) -> tuple[TissueMask, TileGrid, dict[str, Any], dict[str, Any] | None]:
    """Tissue, tiles, recipe and quality of a slide, as `publish_grid` takes them."""
    overview = read_overview(slide)
    check_brightfield(overview)
    check_readable(overview, config.max_bad)
    tissue, quality = find_tissue_with_qc(slide, overview)
    grid = tile_grid(slide.info, tissue, config.tiles)
    if not len(grid):
        area_mm2 = tissue.area_um2 / 1e6
        found = f"{area_mm2:.2f} mm2 of tissue" if area_mm2 else "no tissue"
        raise NoTissueError(
            f"{slide.info.slide_id}: {found}, and no tile of {config.tiles.tile_px} px at {config.tiles.mpp:g} um/px "
            f"that is at least {config.tiles.min_tissue:.0%} tissue"
        )
    return tissue, grid, config.recipe, quality.to_dict()


def _still_fits(store: FeatureStore, slide: Slide, config: ExtractConfig) -> bool:
    """Whether the store is of this slide and recipe. False if not, where it holds nothing but a grid to lose.

    Raises
    ------
    RecipeMismatchError
        If it is not, and holds features, finished or begun.
    """
    try:
        check_recipe(store, slide.info, config.recipe)
    except RecipeMismatchError:
        if feature_folders(store.path):
            raise
        return False
    return True


def _published(path: StorePath) -> FeatureStore | None:
    """The store if there is one whose description can be read; what cannot be is planned anew."""
    if not path.exists():
        return None
    try:
        return FeatureStore(path)
    except (RecipeMismatchError, UnreachableStoreError):
        raise
    except WsiError:
        return None


def extract_chunk(source: SlideSource, writer: FeatureWriter, chunk: int, config: ExtractConfig) -> ChunkDone:
    """Read, encode and write one chunk of tiles, unless it is there: a worker may have ended before it said so."""
    clock = _Clock()
    encoder = worker_encoder(config)
    place = encoder_place(encoder)
    if (bad_before := writer.done_before(chunk)) is not None:
        tiles = len(writer.rows(chunk)) - bad_before
        return ChunkDone(source.slide_id, chunk, tiles, bad_before, clock.seconds, place, computed=False)
    with missed_by_name(source):
        rows, values, bad = _features(source, writer, chunk, config, encoder, clock)
    writer.write(chunk, rows, values, tuple(bad))
    clock.lap("write")
    return ChunkDone(source.slide_id, chunk, len(rows), len(bad), clock.seconds, place)


def _features(
    source: SlideSource, writer: FeatureWriter, chunk: int, config: ExtractConfig, encoder: Encoder, clock: "_Clock"
) -> tuple[np.ndarray, np.ndarray, list[BadTile]]:
    """Rows (n,) of a chunk, their features (n, D), and the tiles that could not be read, twice."""
    slide, grid = slide_and_grid(source, writer.store, config)
    clock.lap("open")
    rows: list[np.ndarray] = []
    values: list[np.ndarray] = []
    bad: list[BadTile] = []
    card = card_features(slide, grid, encoder)
    if card is not None:
        for good, features, lost in card.batches(writer.rows(chunk)):
            rows.append(good)
            values.append(features)
            bad += lost
        clock.lap("encode")
    else:
        bad += _read_and_encode(TileReader(slide, grid), writer.rows(chunk), encoder, rows, values, clock)
    if bad:
        slide, grid = slide_and_grid(source, writer.store, config, anew=True)
        again = np.array(sorted(one.row for one in bad))
        bad = _read_and_encode(TileReader(slide, grid), again, encoder, rows, values, clock)
        check_there(source)
    return np.concatenate(rows), np.concatenate(values), bad


def _read_and_encode(
    reader: TileReader,
    wanted: np.ndarray,
    encoder: Encoder,
    rows: list[np.ndarray],
    values: list[np.ndarray],
    clock: "_Clock",
) -> list[BadTile]:
    """Add what can be read of the rows `wanted` to `rows` and `values`; the others."""
    bad: list[BadTile] = []
    for batch in reader.batches(wanted, READ_BATCH):
        clock.lap("read")
        rows.append(batch.rows)
        bad += batch.bad
        values.append(encoder.encode(batch.pixels))
        clock.lap("encode")
    return bad


def finish_slide(finish: Any, source: SlideSource, path: StorePath, spent_s: float) -> tuple[Any, dict[str, float]]:
    """Run what follows extraction, and say how long it took."""
    clock = _Clock()
    with missed_by_name(source):
        value = finish(source, FeatureStore(path), spent_s)
    clock.lap("grade")
    return value, clock.seconds


def check_bad(slide_id: str, bad: Sequence[BadTile], tiles: int, max_bad: float) -> None:
    """Refuse a slide of which too much is unreadable.

    Raises
    ------
    TooManyBadTilesError
    """
    share = len(bad) / tiles
    if bad and (share > max_bad or len(bad) == tiles):
        raise TooManyBadTilesError(
            f"{slide_id}: {len(bad)} of {tiles} tiles ({share:.0%}) cannot be read, "
            f"at most {max_bad:.0%} is borne; the first: {bad[0].reason}"
        )


def check_bad_of(writer: FeatureWriter, max_bad: float) -> None:
    """`check_bad` before publishing; the stage of a slide that is refused is removed, so that a better copy fits."""
    try:
        check_bad(writer.store.stem, writer.bad_tiles(), writer.tiles, max_bad)
    except TooManyBadTilesError:
        writer.discard()
        raise


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
