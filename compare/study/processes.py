"""Processes for the lessons on several devices: PyTorch wants one for each."""

from __future__ import annotations

import inspect
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from compare.errors import DiptychError

TIMEOUT = 300  # seconds
MAIN = """

if __name__ == "__main__":
    import os

    import numpy as np

    given = dict(np.load("given.npz"))
    np.savez(f"found{{os.environ['RANK']}}.npz", **{name}(**given))
"""


def torchrun(
    function: Callable[..., dict], processes: int, **given: np.ndarray
) -> list[dict[str, np.ndarray]]:
    """Calls a function in several processes, as a program that `torchrun` starts: with the same
    variables in their environment. (It needs a build of PyTorch with libuv, which not all are.)

    A function of a cell is in no module that another process could import: its source is written to
    a file. So it uses nothing but what it is given and imports itself.

    Args:
      function: returns a dict of arrays.
      processes: how many, all on this machine.
      given: the function's arguments, arrays.

    Returns:
      What each process has returned.

    Raises:
      DiptychError: if one fails, or they are not done in five minutes.
    """
    program = textwrap.dedent(inspect.getsource(function)) + MAIN.format(name=function.__name__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "program.py").write_text(program, encoding="utf-8")
        np.savez(folder / "given.npz", **given)  # pyrefly: ignore[bad-argument-type]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        paths = [*sys.path, os.environ.get("PYTHONPATH", "")]
        shared = {
            "OMP_NUM_THREADS": "1",
            "USE_LIBUV": "0",  # some builds of PyTorch, Debian's for one, have none
            "WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "PYTHONPATH": os.pathsep.join(paths),
        }
        started, end = [], time.monotonic() + TIMEOUT
        try:
            for rank in range(processes):
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                with open(folder / f"{rank}.log", "w") as log:
                    process = subprocess.Popen(
                        [sys.executable, "program.py"],
                        cwd=folder,
                        env={**os.environ, **shared, **own},
                        stdout=log,
                        stderr=log,
                    )
                started.append(process)
            _wait(started, end)
        except subprocess.TimeoutExpired as error:
            raise DiptychError(f"{function.__name__} was not done in {TIMEOUT} s") from error
        finally:
            for process in started:
                process.kill()
                process.wait()
        # Not those that were killed for another's sake.
        failed = [rank for rank, process in enumerate(started) if process.returncode > 0]
        if failed:
            logs = [(folder / f"{rank}.log").read_text(errors="replace") for rank in failed]
            said = "\n".join(logs)
            raise DiptychError(f"{function.__name__} failed in a process of its own:\n{said}")
        found = [np.load(folder / f"found{rank}.npz") for rank in range(processes)]
        return [dict(each) for each in found]


def _wait(started: list[subprocess.Popen], end: float) -> None:
    """Until all are done, or one has failed: the others would wait for it."""
    while any(process.poll() is None for process in started):
        if any(process.returncode for process in started):
            return
        if time.monotonic() > end:
            raise subprocess.TimeoutExpired(started[0].args, TIMEOUT)
        time.sleep(0.05)
