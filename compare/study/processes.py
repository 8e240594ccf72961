"""Processes for the lessons on several devices: PyTorch wants one for each."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import tempfile
import textwrap
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
    """Calls a function in several processes, as a program that `torchrun` starts.

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
        launch = "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"
        path = {"PYTHONPATH": os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])}
        launcher = subprocess.Popen(
            [sys.executable, "-m", *launch, "program.py"],
            cwd=folder,
            env={"OMP_NUM_THREADS": "1"} | os.environ | path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            said, _ = launcher.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise DiptychError(f"{function.__name__} was not done in {TIMEOUT} s") from error
        finally:
            launcher.terminate()  # it ends the processes that it has started
            launcher.wait()
        if launcher.returncode:
            raise DiptychError(f"{function.__name__} failed in a process of its own:\n{said}")
        found = [np.load(folder / f"found{rank}.npz") for rank in range(processes)]
        return [dict(each) for each in found]
