"""`check` and `find`, as Python calls them."""

from __future__ import annotations

import gc
import os
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from compare.capture.environment import environment
from compare.discover import told
from compare.errors import DiptychError, lacking, need
from compare.ladder.verdict import DTYPES, worst
from compare.report.entries import twin_dict
from compare.report.report import Report
from compare.twin import Twin

LONGEST = 400  # characters of an error that a report keeps
EVERY = (
    "xla:cpu",
    "xla:cpu+eager",
    "torch:cpu+compile",
    "torch:cuda",
    "torch:cuda+compile",
    "xla:cuda",
)


def prepare() -> None:
    """JAX's persistent cache of compiled programs, unless the user has set one."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:  # pyrefly: ignore[missing-attribute]
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "diptych" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def optimizers(twin: Twin) -> str:
    """The names of the optimizers that a twin trains with."""
    names = [p.optimizer[0] for p in twin.updates]
    return ", ".join(dict.fromkeys(n if isinstance(n, str) else "its own" for n in names))


def installed(backends: Sequence[str]) -> None:
    """Goes on only where torch:cpu can run, and so can a backend that is to be held against it.

    Raises:
      DiptychError: a framework that all of them need is not installed.
    """
    xla = all(name.startswith("xla") for name in backends)
    need("torch", *(["jax"] if xla else []))


def missing(backend: str) -> str | None:
    """Why a backend cannot be run here, or None."""
    from compare.ladder.pair import parse

    framework, device, _ = parse(backend)
    absent = lacking("torch" if framework == "torch" else "jax")
    if absent:
        return absent
    if framework == "torch":
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            return "torch finds no CUDA device"
        return None
    import jax

    if device == "cuda":
        try:
            jax.devices("cuda")
        except RuntimeError:
            return "jax finds no CUDA device"
    return None


def find(
    twin: Twin,
    *,
    seed: int = 0,
    steps: int = 10,
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[str, str], None] = lambda twin, doing: None,
) -> Report:
    """Compares one twin in float64 and, where it differs, names the origin and the cause.

    Args:
      twin: the pair.
      seed, steps, progress: as of `check`.
      folder: where to leave the report, the tensors around the origin and a `repro.py`, if the two
        differ.

    Returns:
      The report, its `origin` and `cause` filled.

    Raises:
      DiptychError: for a twin that cannot be built or run, a folder that cannot be written, or a
        framework that is not installed.
    """
    need("torch", "jax")
    from compare.finder.entry import entry
    from compare.finder.evidence import leave
    from compare.finder.finder import find as search
    from compare.ladder.pair import Pair

    prepare()
    started, name = time.time(), twin.name or "twin"
    progress(name, "building")
    pair = Pair(twin, seed, steps)
    found = search(pair, lambda doing: progress(name, doing))
    where = environment() | {"seed": seed, "matmul": "highest", "size": "small"}
    run = lasted(started)
    if ":" in twin.name:
        run = {"command": f"diptych find {twin.name} --seed {seed} --steps {steps}", **run}
    report = Report([entry(found, optimizers(pair.twin))], [], where, run)
    if folder is not None and found.origin is not None:
        leave(folder, report, found)
    return report


def lasted(started: float) -> dict[str, Any]:
    """When a run began, and how many seconds it has taken."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
        "seconds": round(time.time() - started, 1),
    }


def crash(name: str, error: BaseException) -> dict[str, str]:
    """What a report says of a twin that could not be run to its end."""
    if os.environ.get("DIPTYCH_TRACEBACK") == "1":
        traceback.print_exception(error)
    text = told(error)[:LONGEST].encode("utf-8", "replace").decode()  # as a file can hold it
    return {"twin": name, "error": text}


def check(
    *twins: Twin,
    seed: int = 0,
    backends: Sequence[str] = ("xla:cpu",),
    full: bool = False,
    precision: str = "highest",
    steps: int = 10,
    dtypes: Sequence[str] = ("float32",),
    stages: Iterable[str] | None = None,
    progress: Callable[[str, str], None] = lambda twin, doing: None,
    finished: Callable[[dict], None] = lambda entry: None,
) -> Report:
    """Runs the ladder on every twin and backend, against torch:cpu.

    Args:
      twins: the pairs to compare.
      seed: of weights, inputs, batches and moves.
      backends: candidates, or "all" for every one there is.
      full: the published sizes, where a twin has one.
      precision: "highest", or "default" to measure what TF32 costs.
      steps: the length of the trajectory.
      dtypes: what each backend's own numerics are judged in: "float32", "bfloat16", "float16".
      stages: those to report; default all.
      progress: called with the twin's name and what runs.
      finished: called with each entry of the report as it stands.

    Returns:
      The report; it raises nothing, see `Report.raise_for_verdict`. Of several twins one that
      crashes stands in its `crashed`, and the others are run.

    Raises:
      DiptychError: for a single twin that cannot be built or run, an unknown backend or dtype, or a
        framework that is not installed, unless it is that of one candidate among others.
    """
    from compare.ladder.ladder import Ladder
    from compare.ladder.pair import Pair

    if not twins:
        raise DiptychError("check() has no twin to compare: give it at least one")
    unknown = [name for name in dtypes if name not in DTYPES]
    if unknown:
        raise DiptychError(f"dtypes: {unknown[0]!r} is not among {', '.join(DTYPES)}")
    candidates = list(EVERY) if backends == "all" or list(backends) == ["all"] else list(backends)
    installed(candidates)
    reasons = {name: missing(name) for name in candidates}
    runnable = [name for name, reason in reasons.items() if reason is None]
    skipped = [{"backend": n, "reason": r} for n, r in reasons.items() if r is not None]
    if not runnable:
        raise DiptychError(f"no backend can run: {skipped[0]['backend']}: {skipped[0]['reason']}")
    if any(name.startswith("xla") for name in runnable):
        prepare()
    started, entries, crashed, seconds = time.time(), [], [], {}

    def climb(twin: Twin, name: str) -> list[dict[str, Any]]:
        pair = Pair(twin.published() if full else twin, seed, steps, precision)
        found = []
        for result in Ladder(pair, runnable, lambda doing: progress(name, doing)).run(dtypes):
            entry = twin_dict(result, optimizers(pair.twin))
            if stages is not None:
                entry["stages"] = [s for s in entry["stages"] if s["name"] in set(stages)]
                entry["verdict"] = worst(s["verdict"] for s in entry["stages"])
            found.append(entry)
        return found

    for twin in twins:
        name, began = twin.name or "twin", time.time()
        progress(name, "building")
        try:
            found = climb(twin, name)
        except (Exception, SystemExit) as error:
            if len(twins) == 1:
                raise
            crashed.append(crash(name, error))
            continue
        finally:
            gc.collect()  # runs and their compiled programs refer to each other
        entries += found
        for entry in found:
            finished(entry)
        seconds[name] = round(time.time() - began, 1)
    where = environment() | {"seed": seed, "matmul": precision, "size": "full" if full else "small"}
    return Report(entries, skipped, where, lasted(started) | {"twins": seconds}, crashed)
