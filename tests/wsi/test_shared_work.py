"""All parts are worked on once, and of several errors the first is raised."""

import os
import threading
from collections import Counter

import pytest

from wsi.shared_work import MOST_THREADS, THREAD_BYTES, _helpers, share


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))


@pytest.mark.parametrize(("part_bytes", "threads"), [(THREAD_BYTES, 3), (THREAD_BYTES // 4, 2), (1, 1)])
def test_each_part_is_done_once_by_as_many_threads_as_are_worth_it(part_bytes, threads):
    done: list[int] = []
    workers: list[int] = []
    together = threading.Barrier(threads)

    def worker():
        together.wait(timeout=60)
        workers.append(threading.get_ident())
        return done.append

    share(range(10), worker, part_bytes)
    assert Counter(done) == Counter(range(10))
    assert len(set(workers)) == threads


def test_a_helper_that_does_not_begin_is_not_waited_for(monkeypatch):
    """All helpers are busy for as long as the work takes."""
    release = threading.Event()
    busy = [_helpers().submit(release.wait, 60) for _ in range(MOST_THREADS)]
    done: list[int] = []
    share(range(10), lambda: done.append, THREAD_BYTES)
    assert done == list(range(10))
    assert not release.is_set()
    release.set()
    assert all(one.result() for one in busy)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_has_helpers_of_its_own():
    share(range(3), lambda: lambda part: None, THREAD_BYTES)
    parents = _helpers()
    child = os.fork()
    if child == 0:
        os._exit(0 if _helpers() is not parents else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_no_parts_are_no_error():
    share([], lambda: lambda part: 1 / 0, THREAD_BYTES)


def test_of_several_errors_that_of_the_first_part_is_raised():
    """All three threads have their part in hand before one of them fails."""
    together = threading.Barrier(3)

    def fail(part):
        together.wait(timeout=60)
        raise ValueError(f"part {part}")

    for _ in range(10):
        with pytest.raises(ValueError, match="part 0"):
            share(range(3), lambda: fail, THREAD_BYTES)
