"""Work on many bytes, shared among a few threads."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from wsi.threads import usable_cores

THREAD_BYTES = 16 << 20
"""For each thread at least, about two milliseconds of copy or checksum: on cores that are busy with other work, waiting
for a helper costs more than it helps."""
MOST_THREADS = 4
"""And at most half of the cores: on two, what a second one copies the first one copies more slowly."""

Part = TypeVar("Part")


def share(parts: Sequence[Part], worker: Callable[[], Callable[[Part], None]], part_bytes: int) -> None:
    """Work on all parts, on several cores where there is enough to do.

    Parameters
    ----------
    worker : callable
        Called by each thread once; gives what is then called with a part.
    part_bytes : int
        About how many bytes a part means.

    Raises
    ------
    Exception
        What a part raised; of several that of the first part.
    """
    todo = deque(enumerate(parts))
    errors: dict[int, Exception] = {}

    def work() -> None:
        do = worker()
        while todo:
            try:
                number, part = todo.popleft()
            except IndexError:
                return
            try:
                do(part)
            except Exception as error:  # raised below, by the thread that was asked
                errors[number] = error
                todo.clear()

    threads = min(usable_cores() // 2, MOST_THREADS, len(parts) * part_bytes // THREAD_BYTES)
    helping = [_helpers().submit(work) for _ in range(threads - 1)]
    work()
    for one in helping:
        if not one.cancel():  # it has begun: other work may keep the cores so busy that it never did
            one.result()
    if errors:
        raise errors[min(errors)]


@cache
def _helpers() -> ThreadPoolExecutor:
    """Threads that wait for work, since starting one costs as much as a chunk."""
    return ThreadPoolExecutor(MOST_THREADS - 1, thread_name_prefix="chunk-reader")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # a child has none of the threads
