"""What the loop keeps of a slide: jobs that still count, what features take on a disk, whether the file is the same."""

import os
from pathlib import Path

import pytest

from workflows.listeners import Plan, SlideResult
from workflows.slide_way import Job, SlideWay, check_unchanged, chunk_bytes
from workflows.source_hash import source_stamp
from workflows.sources import SlideSource
from wsi.errors import SlideChangedError
from wsi.store_writer import FeatureWriter


@pytest.fixture
def source(tmp_path: Path) -> SlideSource:
    (tmp_path / "a.svs").write_bytes(b"slide")
    return SlideSource("a", tmp_path / "a.svs", "a")


def test_jobs_of_an_earlier_round_or_of_a_slide_that_is_through_count_no_more(source: SlideSource) -> None:
    way = SlideWay(source, SlideResult(source), 0)
    first = Job(way, "plan", None)
    assert first.counts
    way.round += 1
    second = Job(way, "plan", None)
    assert (first.counts, second.counts) == (False, True)
    way.aside = True
    assert not second.counts
    way.aside, way.closed = False, True
    assert not second.counts


def test_a_chunk_takes_its_features_and_room_for_its_record(tmp_path: Path) -> None:
    writer = FeatureWriter(tmp_path / "a.zarr", "toy", 1000, 512, 1024, "float16")
    assert 512 * 1024 * 2 < chunk_bytes(writer) <= 512 * 1024 * 2 + 8192


def test_a_file_with_another_stamp_is_refused_and_one_that_is_away_is_not(source: SlideSource) -> None:
    plan = Plan("a", "00", 1, None, (), {}, source_stamp(source))
    check_unchanged(source, plan)
    os.utime(source.path, ns=(5, 5))
    with pytest.raises(SlideChangedError, match="a: its file has changed"):
        check_unchanged(source, plan)
    source.path.unlink()
    check_unchanged(source, plan)
