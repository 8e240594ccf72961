"""Bundles captured on the device and on the CPU, by the command, held against each other by it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compare.capture.environment import cores
from tests.cuda.parts import asked
from tests.cuda.runner import emit

TWINS = ("foundations/mlp:MLP", "cnn/lenet:LeNet", "rnn/lstm:LSTMNet")
BACKENDS = {"cuda": ("torch:cuda", "xla:cuda"), "cpu": ("torch:cpu+compile", "xla:cpu")}
REFERENCE = "torch:cpu"
DTYPES = ("float64", "float32")
SECONDS = 60  # of one command


def main() -> None:
    device = asked().device
    twins = TWINS if device == "cuda" else TWINS[:1]
    pairs = [(n, b, d) for n in twins for d in DTYPES for b in BACKENDS[device]]
    emit({"planned": [_row(*each) for each in pairs]})
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(max(2, cores() // 2)) as pool:
        wanted = dict.fromkeys([*((n, REFERENCE, d) for n, _, d in pairs), *pairs])
        made = {each: pool.submit(_capture, Path(folder), *each) for each in wanted}
        for name, backend, dtype in pairs:
            began = time.perf_counter()
            files = [made[name, b, dtype].result() for b in (REFERENCE, backend)]
            row = next((f for f in files if isinstance(f, dict)), None)
            row = row or _diff(*map(str, files))
            seconds = round(time.perf_counter() - began, 1)
            emit({"name": _row(name, backend, dtype), **row, "waited": seconds})


def _row(name: str, backend: str, dtype: str) -> str:
    return f"{name} on {backend} and {REFERENCE}, {dtype}"


def _capture(folder: Path, name: str, backend: str, dtype: str) -> Path | dict[str, str]:
    """The bundle's file; a row, where it could not be made."""
    path = folder / f"{name} {backend} {dtype}.safetensors".replace("/", "-")
    command = ["capture", name, "--backend", backend, "--dtype", dtype, "-q", "-o", str(path)]
    done = _diptych(command)
    if isinstance(done, dict):
        return done
    if done.returncode:
        return {"verdict": "CRASHED", "detail": done.stderr.strip()[-600:]}
    return path


def _diff(ours: str, theirs: str) -> dict[str, object]:
    done = _diptych(["diff", ours, theirs, "--json", "-"])
    if isinstance(done, dict):
        return {**done}
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return {"verdict": "CRASHED", "detail": done.stderr.strip()[-600:]}
    stages = report["twins"][0]["stages"]
    found = "; ".join(str(f) for s in stages for f in s["findings"][:2])[:600]
    return {"verdict": report["verdict"], "detail": found}


def _diptych(arguments: list[str]) -> subprocess.CompletedProcess | dict[str, str]:
    command = [sys.executable, "-m", "compare", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"verdict": "TIMED OUT", "detail": f"{arguments[0]}: {SECONDS} s"}


if __name__ == "__main__":
    main()
