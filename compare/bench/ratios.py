"""Benchmarks: what the harness costs beside what a user would run instead, as ratios."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import Any, NoReturn

from compare.capture.environment import cores
from compare.errors import DiptychError

# A process of `by_hand`, also where the folder it starts in has a compare.py.
START = "import diptych; diptych.ours(); from compare.bench.by_hand import main; main()"
BY_HAND = (sys.executable, "-c", START)
COLUMNS = {"seconds": "seconds", "cpu": "CPU seconds", "gigabytes": "peak GB"}


def overhead(name: str) -> dict[str, Any]:
    """Seconds and peak memory of `check` and of the same computations written by hand.

    Each runs in a process of its own, with an empty compilation cache.

    Returns: {"check": {"seconds", "cpu", "gigabytes"}, "by_hand": the same, "ratio": the same}.
    """
    check = _measured([sys.executable, "-m", "diptych", "check", name, "-q"])
    by_hand = _measured([*BY_HAND, "by_hand", name])
    return {"name": name, "check": check, "by_hand": by_hand, "ratio": _ratio(check, by_hand)}


def finding(name: str) -> dict[str, Any]:
    """Seconds and peak memory of `find`, and of one training step of both models by hand; what of
    it is the alignment by value.

    What is found is a loss with twice its gradient: the pass that trains is replayed, and aligned
    forward and back, which costs the most. Each runs in a process of its own, in float64; those of
    the two steps are summed.

    Returns: {"find": {"seconds", "cpu", "gigabytes"}, "without_alignment": the same,
      "alignment": the same, "by_hand": the same}, and as ratios "find_by_hand",
      "find_without_alignment" and "alignment_by_hand".
    """
    find, without, alone, ours, theirs = (
        _measured([*BY_HAND, what, name])
        for what in ("slipped", "unaligned", "aligned", "torch_step", "jax_step")
    )
    by_hand = {key: ours[key] + theirs[key] for key in ours}
    return {
        "name": name,
        "find": find,
        "without_alignment": without,
        "alignment": alone,
        "by_hand": by_hand,
        "find_by_hand": _ratio(find, by_hand),
        "find_without_alignment": _ratio(find, without),
        "alignment_by_hand": _ratio(alone, by_hand),
    }


def stepping(name: str) -> dict[str, Any]:
    """Seconds of one training step of either model on the CPU in float32, at the published size.

    ResNet-18 takes 16 images of 64 pixels. Each side runs in a process of its own, on all cores
    that this one may use; in JAX the step is one program, whose compilation is not counted.

    Returns: {"threads", "jax": {"seconds"}, "torch": the same, "ratio": the same}.
    """
    threads = cores()
    ours, theirs = (
        {"seconds": float(_output([*BY_HAND, what, name], threads))}
        for what in ("jax_steps", "torch_steps")
    )
    return {
        "name": name,
        "threads": threads,
        "jax": ours,
        "torch": theirs,
        "ratio": _ratio(ours, theirs),
    }


def _output(command: list[str], threads: int) -> str:
    """What a command prints; PyTorch is given as many threads as XLA takes by itself."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        _failed(command, done.stderr)
    return done.stdout


def _ratio(measured: dict[str, float], by_hand: dict[str, float]) -> dict[str, float]:
    return {key: measured[key] / by_hand[key] for key in measured}


def _measured(command: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as cache:
        started = time.perf_counter()
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                command,
                env={**os.environ, "JAX_COMPILATION_CACHE_DIR": cache},
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            errors.seek(0)
            text = errors.read().decode(errors="replace")
    if os.waitstatus_to_exitcode(status):
        _failed(command, text)
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu": cpu, "gigabytes": usage.ru_maxrss / 2**20}


def _failed(command: list[str], errors: str) -> NoReturn:
    """Raises:
    DiptychError: the child's own, or its last line and which child it was.
    """
    last = (errors.strip().splitlines() or ["no reason given"])[-1]
    clear = last.removeprefix("diptych: ")
    raise DiptychError(clear if clear != last else f"{' '.join(command[-2:])} failed: {last}")


def rendered(measured: dict[str, Any]) -> str:
    """The table of `overhead`, `finding` and `stepping` as text."""
    rows = {key: row for key, row in measured.items() if isinstance(row, dict)}
    columns = next(iter(rows.values()))
    heading = "".join(f"{COLUMNS[column]:>13}" for column in columns)
    lines = [f"{measured['name']:24}{heading}"]
    for key, row in rows.items():
        lines.append(f"{key.replace('_', ' '):24}" + "".join(f"{row[c]:>13.4g}" for c in columns))
    return "\n".join(lines)
