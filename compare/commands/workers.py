"""Several twins at a time, each in a process of its own; entries in the order of the twins."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from compare import api
from compare.capture import heap
from compare.capture.environment import cores
from compare.discover import find, rooms
from compare.errors import DiptychError
from compare.report.report import Report
from compare.twin import Twin

MOST = 4  # processes, unless more are asked for: each holds both frameworks and a network


def default(twins: Sequence[Twin], settings: dict[str, Any]) -> int:
    """How many at a time where nobody has said: one, where memory or a GPU would be the limit, or
    an error is likely to be in code of the user's, whose lines it can then name.
    """
    small = settings["backends"] == ["xla:cpu"] and not settings["full"]
    ours = set(rooms()).issuperset(twin.name.partition(":")[0] for twin in twins)
    return min(len(twins), cores(), MOST) if small and ours else 1


def check(
    names: Sequence[str],
    jobs: int,
    settings: dict[str, Any],
    *,
    progress: Callable[[str, str], None],
    finished: Callable[[dict], None],
) -> Report:
    """`api.check` of twins of the catalogue, `jobs` at a time, the cores divided among them.

    Args:
      names: of single twins.
      jobs: processes.
      settings: keywords of `api.check`.
      progress: called with the twin that is waited for, and how many run.
      finished: called with each entry, in the order of `names`.

    Raises:
      DiptychError: a process was killed.
    """
    started, reports = time.time(), []
    # A fork would copy JAX's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, _begin, (max(1, cores() // jobs),))
    try:
        waiting = [pool.submit(_check, name, settings) for name in names]
        for name, future in zip(names, waiting, strict=True):
            progress(name, f"and others, {jobs} at a time")
            try:
                reports.append(future.result())
            except BrokenProcessPool as error:
                raise DiptychError(
                    f"a process was killed near {name}, perhaps for memory; try --jobs 1"
                ) from error
            for entry in reports[-1].twins:
                finished(entry)
    finally:
        for process in multiprocessing.active_children():
            process.terminate()
        pool.shutdown(cancel_futures=True)
    entries = [entry for report in reports for entry in report.twins]
    seconds = {name: spent for report in reports for name, spent in report.run["twins"].items()}
    run = api.lasted(started) | {"twins": seconds}
    whole = next((report for report in reports if not report.crashed), reports[0])
    crashed = [crash for report in reports for crash in report.crashed]
    return Report(entries, whole.skipped, whole.environment, run, crashed)


def _begin(threads: int) -> None:
    """A new process: Ctrl-C is its parent's affair, with which it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # tracing makes much and drops little; what a twin leaves is collected after it
    os.environ["OMP_NUM_THREADS"] = str(threads)  # torch reads it when it is imported
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _check(name: str, settings: dict[str, Any]) -> Report:
    heap.one()
    try:
        report = api.check(*find(name), progress=heap.trimmed(lambda twin, what: None), **settings)
    except (Exception, SystemExit) as error:  # the others go on
        report = Report([], run={"twins": {}}, crashed=[api.crash(name, error)])
    if not gc.get_freeze_count():
        gc.freeze()  # both frameworks, now loaded: every later collection would look through them
    return report
