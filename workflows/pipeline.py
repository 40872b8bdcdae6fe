"""From slides to feature stores, and on: one loop over Dask futures.

Each slide goes plan -> chunks -> publish -> finish. Planning (tissue, tiles), every chunk of tiles (read, encode,
write) and finishing (say, grading) are tasks; publishing is a rename that this process does. A bounded number of
slides is in flight, so that neither the graph nor memory grows with the archive.

What goes wrong ends its slide at most. What can pass is tried again after a while; work that needs room on a disk, or
an archive that is away, waits until it is there. A slide whose tasks end their workers is set aside and tried once more
by itself when all others are through.
"""

import queue
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from workflows.cluster import check_store_is_shared
from workflows.deaths import Deaths
from workflows.extraction import ExtractConfig
from workflows.failures import TRIES, Failure, failure, failure_of
from workflows.in_work import InWork
from workflows.intake import Intake, as_intake
from workflows.listeners import ChunkDone, Listener, Listeners, Plan, SlideResult
from workflows.quarantine_ledger import Ledger
from workflows.slide_way import Job, SlideWay, check_unchanged, chunk_bytes
from workflows.sources import SlideSource
from workflows.tasks import check_bad, check_bad_of, extract_chunk, finish_slide, plan_slide
from workflows.waiting import ArchiveGate, DiskGate, Gate, StoreGate, WaitingRoom, device_of, is_away
from workflows.worker import Start, close_slides, encoder_name, guarded
from wsi.errors import LostSchedulerError, StoreBusyError, TaskLimitError, UsageError
from wsi.store import FeatureStore, store_path
from wsi.store_url import StoreUrl
from wsi.store_writer import slide_lock

if TYPE_CHECKING:
    from distributed import Client

COUNT_WORKERS_EVERY_S = 5.0
STOPS_ALL = (DiskGate.reason, StoreGate.reason)
"""Gates before which no slide is taken up: no other would fare better."""

LOOK_UP_S = 1.0
"""So often the loop looks at clocks and gates when nothing else happens."""

BUSY_EVERY_S = 2.0
NO_WORKERS_S = 60.0
MOST_HELD = 200
"""Slides that may wait for something outside, each with its lock, before no more are taken up."""

BESIDE_BYTES = 16 * 10**6
"""What a slide leaves beside its features: grid, heatmaps, pictures, tables; generously."""


def run_pipeline(
    client: "Client",
    sources: Iterable[SlideSource] | Intake,
    config: ExtractConfig,
    listener: Listener,
    finish: Callable[[SlideSource, FeatureStore, float], Any] | None = None,
    *,
    folder: Path | None = None,
) -> Iterator[SlideResult]:
    """Take every slide through, and yield each as it is done.

    Parameters
    ----------
    sources : iterable of SlideSource, or Intake
        An intake may have no slide for a while; the run ends when it is over and all its slides are through.
    finish : callable, optional
        Called in a task with the slide, its published store and the seconds spent on it so far; must travel to
        workers. What it returns is the result's `value`.
    folder : Path, optional
        Where `finish` writes, and where is remembered what is quarantined; the stores' folder if not given. Needed
        where the stores are in a bucket.

    Raises
    ------
    LostSchedulerError
        If no task can be done any more.
    TaskLimitError
        If every thread of this process hangs in a task.
    """
    config = config.absolute()
    if isinstance(config.store, Path):
        config.store.mkdir(parents=True, exist_ok=True)
    if config.scheduler or config.cluster:
        check_store_is_shared(client, config.store)
    run_folder = config.store if folder is None else folder.absolute()
    if not isinstance(run_folder, Path):
        raise UsageError(f"{run_folder}: stores in a bucket need a folder on this machine beside them; give `folder`")
    yield from _Loop(client, config, listener, finish, run_folder).run(as_intake(sources))
    client.run(close_slides, on_error="ignore")


def absolute_source(source: SlideSource) -> SlideSource:
    """The same with an absolute path, as workers need it: their working directory is another."""
    return replace(source, path=source.path.absolute()) if isinstance(source.path, Path) else source


class _Loop:
    def __init__(self, client: "Client", config: ExtractConfig, listener: Listener, finish: Any, folder: Path) -> None:
        self._client, self._config, self._listener, self._finish = client, config, listener, finish
        self._folders = tuple(dict.fromkeys(one for one in (config.store, folder) if isinstance(one, Path)))
        self._ledger, self._in_work = Ledger(folder), InWork(folder)
        self._topic = f"histograde-{uuid4().hex}"
        self._most_slides, self._threads, self._counted_s = 0, 1, -np.inf
        self._without_workers_s, self._had_workers_s = 0.0, time.monotonic()
        self._ways: dict[str, SlideWay] = {}
        self._jobs: dict[str, Job] = {}
        self._heard: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()
        self._waiting: WaitingRoom[Job] = WaitingRoom(config.policy.patience_s)
        self._aside: list[SlideWay] = []
        self._deaths = Deaths(client)
        self._done: list[SlideResult] = []
        self._again: list[SlideSource] = []

    def run(self, intake: Intake) -> Iterator[SlideResult]:
        self._client.subscribe_topic(self._topic, self._hear_start)
        try:
            while True:
                self._let_through()
                self._admit(intake)
                self._take_one_from_aside()
                yield from self._taken()
                if not (self._ways or self._again) and intake.over:
                    return
                self._listen()
                self._end_overdue()
                yield from self._taken()
        finally:
            if self._client.status == "running":
                self._client.unsubscribe_topic(self._topic)
            for way in self._ways.values():
                self._in_work.end(way.slide_id)
                way.lock.close()

    def _taken(self) -> Iterator[SlideResult]:
        """Results since the last call."""
        done, self._done = self._done, []
        yield from done

    # --- admission

    def _admit(self, intake: Intake) -> None:
        while self._may_admit() and (source := self._next(intake)) is not None:
            source = absolute_source(source)
            device = device_of(source.path.parent) if isinstance(source.path, Path) else 0
            way = SlideWay(source, SlideResult(source), device)
            self._ways[source.slide_id] = way
            self._begin(way)

    def _next(self, intake: Intake) -> SlideSource | None:
        """A slide that is not in work: one that an intake gives again waits for tasks that outlived its failure."""
        for number, waiting in enumerate(self._again):
            if waiting.slide_id not in self._ways:
                return self._again.pop(number)
        while (source := intake.take()) is not None and source.slide_id in self._ways:
            self._again.append(source)
        return source

    def _may_admit(self) -> bool:
        """Slides in flight are bounded by the workers, which come and go; those that wait by `MOST_HELD`."""
        if time.monotonic() - self._counted_s > COUNT_WORKERS_EVERY_S:
            self._threads = sum(self._client.nthreads().values())
            self._look_for_workers()
            self._most_slides = 2 * self._threads + 1
            self._counted_s = time.monotonic()
        in_flight = sum(way.under_way > 0 for way in self._ways.values())
        if in_flight >= self._most_slides or len(self._ways) - in_flight >= MOST_HELD:
            return False
        if any(way.alone for way in self._ways.values()) or any(one.reason in STOPS_ALL for one in self._closed):
            return False
        gate = DiskGate(self._folders, lambda: self._config.policy.keep_free)
        return gate.has_room() or not self._close_gate(gate)

    def _look_for_workers(self) -> None:
        """Say so when there has been no worker for a while, and when one is back."""
        now_s = time.monotonic()
        if self._threads:
            if self._without_workers_s > NO_WORKERS_S:
                self._listener.resumed("no_workers")
            self._without_workers_s, self._had_workers_s = 0.0, now_s
            return
        before, self._without_workers_s = self._without_workers_s, now_s - self._had_workers_s
        if before <= NO_WORKERS_S < self._without_workers_s:
            message = f"paused: no worker for {NO_WORKERS_S:g} s; it goes on by itself when one is there"
            self._listener.paused("no_workers", message)

    @property
    def _closed(self) -> list[Gate]:
        return self._waiting.closed

    def _begin(self, way: SlideWay, job: "Job | None" = None) -> None:
        """Take the slide's lock, and plan it unless it is known to be in vain. `job` is an earlier try."""
        try:
            way.lock.enter_context(slide_lock(self._config.store, way.slide_id))
        except StoreBusyError as error:
            if not way.told_busy:
                self._listener.retried(failure_of(way.slide_id, "plan", error), BUSY_EVERY_S)
            way.told_busy = True
            self._waiting.later(Job(way, "lock", None), BUSY_EVERY_S)
            return
        except Exception as error:  # whatever it is, it ends this slide only
            self._failed(job or Job(way, "lock", None), failure_of(way.slide_id, "plan", error))
            return
        known = None if self._config.policy.retry_quarantined else self._ledger.known(way.source, self._config)
        if known is not None:
            way.result.remembered = True
            self._close(way, known)
            self._free_if_idle(way)
            return
        if self._in_work.died_alone(way.slide_id) and not self._config.policy.retry_quarantined:
            self._close(way, failure(way.slide_id, "plan", "worker_killed", DIED["process"]))
            self._free_if_idle(way)
        elif self._in_work.begin(way.slide_id) >= DEATHS_BORNE:
            self._set_aside(way, failure(way.slide_id, "plan", "worker_killed", DIED["process"]))
        else:
            self._plan(way)

    def _plan(self, way: SlideWay) -> None:
        self._go(Job(way, "plan", plan_slide, (way.source, self._config)))

    # --- jobs

    def _go(self, job: Job) -> None:
        if not job.counts:
            self._free_if_idle(job.way)
            return
        if job.function is None:
            self._begin(job.way, job) if job.stage == "lock" else self._publish(job)
            return
        said = Start(self._topic, surely=job.way.alone or job.deaths + job.failed > 0)
        job.began_s, job.worker = None, ""
        job.future = self._client.submit(
            guarded,
            job.function,
            job.way.slide_id,
            job.stage,
            said,
            *job.arguments,
            pure=False,
            priority=job.priority,
        )
        key = str(job.future.key)
        self._jobs[key] = job
        job.way.under_way += 1
        job.future.add_done_callback(lambda future: self._heard.put((str(future.key), None)))

    def _hear_start(self, event: tuple[float, Any]) -> None:
        """Called by the client's thread; the rest of the loop hears of it in its own."""
        self._heard.put((event[1]["key"], event[1]["worker"]))

    def _listen(self) -> None:
        """Take up what was heard; wait for it as long as nothing else is due."""
        wait_s = self._waiting.wait_s()
        wait_s = LOOK_UP_S if wait_s is None else min(LOOK_UP_S, wait_s)
        while True:
            try:
                key, worker = self._heard.get(timeout=wait_s)
            except queue.Empty:
                if self._client.status in ("closed", "closing"):
                    raise LostSchedulerError(GONE) from None
                return
            wait_s = 0.0
            job = self._jobs.get(key)
            if job is None:  # of another run, or given up
                continue
            if worker is not None:
                job.worker, job.began_s = worker, time.monotonic()
                continue
            del self._jobs[key]
            job.way.under_way -= 1
            self._take(job)
            return

    def _take(self, job: Job) -> None:
        """Go on with what a task gave."""
        from distributed import CancelledError, KilledWorker

        assert job.future is not None
        outcome: Any
        try:
            outcome = job.future.result(timeout=RESULT_S)
        except KilledWorker:
            self._killed(job)
            return
        except CancelledError as error:
            raise LostSchedulerError(GONE) from error
        except Exception as error:  # such as a task that cannot be unpacked
            outcome = failure(job.way.slide_id, job.stage, "lost", f"the task was lost ({error})")
        job.future.release()
        way = job.way
        if not job.counts:
            self._free_if_idle(way)
        elif isinstance(outcome, Failure):
            self._failed(job, outcome)
        elif isinstance(outcome, Plan):
            self._take_plan(way, outcome)
        elif isinstance(outcome, ChunkDone):
            self._take_chunk(way, outcome)
        else:
            way.result.value, seconds = outcome
            way.result.add(seconds)
            self._close(way, None)
            self._free_if_idle(way)

    def _take_plan(self, way: SlideWay, plan: Plan) -> None:
        way.plan, way.left = plan, len(plan.chunks)
        way.result.content_hash, way.result.tiles = plan.content_hash, plan.tiles
        way.result.add(plan.seconds)
        self._listener.planned(plan)
        jobs = [
            Job(way, "extract", extract_chunk, (way.source, plan.writer, chunk, self._config), priority=1)
            for chunk in plan.chunks
        ] or [Job(way, "publish", None)]
        way.owed_bytes = BESIDE_BYTES + (chunk_bytes(plan.writer) * len(plan.chunks) if plan.writer else 0)
        needed = self._config.policy.keep_free + way.owed_bytes
        others = sum(other.owed_bytes for other in self._ways.values() if other is not way and not other.aside)
        gate = DiskGate(self._folders, lambda: needed)
        if not gate.has_room(others) and self._close_gate(gate, *jobs):
            return
        for job in jobs:
            self._go(job)

    def _take_chunk(self, way: SlideWay, done: ChunkDone) -> None:
        way.result.add(done.seconds)
        way.result.chunks += done.computed
        way.left -= 1
        if way.plan is not None and way.plan.writer is not None:
            way.owed_bytes -= chunk_bytes(way.plan.writer)
        self._listener.chunk(done)
        if way.left == 0:
            self._publish(Job(way, "publish", None))

    def _publish(self, job: Job) -> None:
        way = job.way
        assert way.plan is not None
        try:
            writer = way.plan.writer
            if writer is not None:
                check_unchanged(way.source, way.plan)
                check_bad_of(writer, self._config.max_bad)
                writer.publish()
            store = FeatureStore(store_path(self._config.store, way.slide_id))
            bad = store.bad_tiles(encoder_name(self._config))
            check_bad(way.slide_id, bad, way.result.tiles, self._config.max_bad)
            way.result.bad = len(bad)
        except Exception as error:  # whatever it is, it ends this slide only
            self._failed(job, failure_of(way.slide_id, "publish", error))
            return
        if self._finish is None:
            self._close(way, None)
            self._free_if_idle(way)
            return
        spent = sum(way.result.seconds.values())
        self._go(Job(way, "grade", finish_slide, (self._finish, way.source, store.path, spent), priority=2))

    # --- trouble

    def _failed(self, job: Job, failed: Failure) -> None:
        """Try again what can pass, wait for what is away, and end the slide otherwise."""
        way, name = job.way, failed.error_class
        job.failed += 1
        if name == "disk_full":
            gate = DiskGate(self._folders, lambda: self._config.policy.keep_free)
            if not gate.opens() and self._close_gate(gate, job):
                return
        if name == "vanished" and isinstance(way.source.path, Path):
            folder = way.source.path.parent
            if is_away(folder, way.device) and self._close_gate(ArchiveGate(folder, way.device), job):
                return
        if name == "unreachable" and isinstance(self._config.store, StoreUrl):
            away = StoreGate(self._config.store, failed.message)
            if not away.opens() and self._close_gate(away, job):
                return
        if job.failed < TRIES.get(name, 1):
            after_s = self._config.policy.backoff_s(job.failed)
            self._listener.retried(failed, after_s)
            if name == "changed":
                way.round += 1
                job = Job(way, "plan", plan_slide, (way.source, self._config), failed=job.failed)
            self._waiting.later(job, after_s)
            return
        self._close(way, failed)
        self._free_if_idle(way)

    def _killed(self, job: Job) -> None:
        """A worker ended. Was it this task? One that ran there twice when that happened is set aside."""
        way = job.way
        job.deaths += job.began_s is not None
        job.failed += job.began_s is None
        name = "out_of_memory" if self._deaths.out_of_memory() else "worker_killed"
        failed = failure(way.slide_id, job.stage, name, DIED[name])
        if not job.counts:
            self._free_if_idle(way)
        elif way.alone and job.deaths:
            self._close(way, failed)
            self._free_if_idle(way)
        elif job.deaths >= DEATHS_BORNE or job.failed >= LOSSES_BORNE:
            self._set_aside(way, failed)
        else:
            self._go(job)

    def _set_aside(self, way: SlideWay, failed: Failure) -> None:
        way.aside, way.owed_bytes = True, 0
        way.round += 1
        self._listener.retried(failed, None)
        self._free_if_idle(way)

    def _take_one_from_aside(self) -> None:
        """Try a slide by itself that may have ended workers, so that no other suffers, and none is blamed for it."""
        if self._jobs or not self._aside:
            return
        way = self._aside.pop(0)
        way.aside, way.alone = False, True
        self._in_work.alone(way.slide_id)
        self._plan(way)

    def _end_overdue(self) -> None:
        """Give up tasks that run longer than they may, with their worker processes."""
        limit_s = self._config.policy.task_limit_s
        now_s = time.monotonic()
        overdue = [key for key, job in self._jobs.items() if job.began_s is not None and now_s - job.began_s > limit_s]
        for key in overdue:
            job = self._jobs.pop(key)
            job.way.under_way -= 1
            assert job.future is not None
            job.future.cancel()
            if not self._deaths.end(job.worker) and self._deaths.hanging >= self._threads:
                raise TaskLimitError("every thread hangs in a task past its limit; start again with --workers N")
            error = TaskLimitError(f"{job.way.slide_id}: a task ran longer than {limit_s:g} s")
            if job.counts:
                self._failed(job, failure_of(job.way.slide_id, job.stage, error))
            else:
                self._free_if_idle(job.way)

    def _let_through(self) -> None:
        """Go on with what has waited long enough."""
        before = {one.reason for one in self._closed}
        for job in self._waiting.due():
            self._go(job)
        for reason in sorted(before - {one.reason for one in self._closed}):
            self._listener.resumed(reason)

    def _close_gate(self, gate: Gate, *jobs: Job) -> bool:
        """Let work wait at a gate; False where patience has ended with what it is about."""
        if self._waiting.has_given_up(gate):
            return False
        already = {one.reason for one in self._closed}
        self._waiting.close(gate, *jobs)
        if gate.reason not in already:
            self._listener.paused(gate.reason, gate.message)
        return True

    # --- the end of a slide

    def _close(self, way: SlideWay, failed: Failure | None) -> None:
        way.closed, way.owed_bytes = True, 0
        way.result.failure = failed
        if failed is not None and not way.result.remembered:
            self._ledger.add(way.source, self._config, failed)
        self._listener.slide(way.result)
        self._done.append(way.result)

    def _free_if_idle(self, way: SlideWay) -> None:
        """Let go of a slide that is through, but not while tasks that outlived its failure may still write."""
        if way.under_way:
            return
        if way.closed:
            if self._ways.pop(way.slide_id, None) is not None:
                self._in_work.end(way.slide_id)
                way.lock.close()
        elif way.aside and way not in self._aside:
            self._aside.append(way)


GONE = "the Dask scheduler is gone; start it and run the same command again"
RESULT_S = 60.0
DEATHS_BORNE, LOSSES_BORNE = 2, 10
DIED = {
    "process": "whole runs ended while it was in work, the last time with no other slide beside it",
    "worker_killed": "its task ended several worker processes, the last time with no other slide beside it",
    "out_of_memory": "its task ended several worker processes: the kernel stopped them for want of memory",
}


__all__ = ["ExtractConfig", "Failure", "Listener", "Listeners", "Plan", "SlideResult", "run_pipeline"]
