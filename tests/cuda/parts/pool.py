"""Several processes at a time, each with a limit; what one of them lacks is said in its rows."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.cuda.runner import emit

_lock = threading.Lock()


@dataclass(frozen=True)
class Job:
    """A process that prints rows.

    Args:
      command: what runs.
      rows: the names of the rows that it ought to print.
      seconds: how long it may take.
    """

    command: Sequence[str]
    rows: Sequence[str]
    seconds: float


def pooled(jobs: Sequence[Job], at_a_time: int) -> None:
    """Runs jobs, the first ones first, and prints their rows; one that is missing is made up."""
    emit({"planned": [name for job in jobs for name in job.rows]})
    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(_run, jobs))


def _run(job: Job) -> None:
    left = dict.fromkeys(job.rows)
    late = threading.Event()
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(job.command, stdout=subprocess.PIPE, stderr=errors, text=True)
        timer = threading.Timer(job.seconds, lambda: (late.set(), process.kill()))
        timer.start()
        assert process.stdout is not None
        for line in process.stdout:
            try:
                row = json.loads(line)
                left.pop(row["name"])
            except (ValueError, TypeError, KeyError):
                print(line, end="", file=sys.stderr)  # a library's own words
                continue
            with _lock:
                emit(row)
        code = process.wait()
        timer.cancel()
        errors.seek(0)
        said = [line.strip() for line in errors if line.strip()]
    for name in left:
        verdict = "TIMED OUT" if late.is_set() else "CRASHED"
        detail = f"{job.seconds:.0f} s" if late.is_set() else f"exit code {code}"
        with _lock:
            emit(
                {"name": name, "verdict": verdict, "detail": "; ".join([detail, *said[-1:]])[:600]}
            )
