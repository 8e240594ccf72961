"""Training steps: torch.compile against jitted JAX, each in a process of its own, warm.

All are compiled and warmed first, some at a time; then they are timed, one after the other, while
the others wait.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from compare.bench import steps
from compare.capture.environment import cores
from tests.cuda.parts import asked
from tests.cuda.runner import emit

COUNT = 20
SECONDS = {"cuda": 120, "cpu": 200}  # until the first is timed; what is not ready then is left out
DTYPES = ("float32", "bfloat16")


def _found(name: str) -> Any:
    from compare.discover import find

    return find(name)[0]


def _lstm(batch: int, length: int, hidden: int) -> Any:
    import dataclasses

    from compare import Array

    return dataclasses.replace(
        _found("rnn/lstm:LSTMNet"),
        config={"input_size": 1, "hidden_size": hidden, "output_size": 1},
        inputs={"x": Array((batch, length, 1))},
        targets={"y": Array((batch, 1))},
    )


def _dcgan(batch: int) -> Any:
    import dataclasses

    from compare import Array, Image

    twin = _found("gan/dcgan:DCGAN").published()
    return dataclasses.replace(
        twin, inputs={"x": Image(batch, 3, 64, 64), "z": Array((batch, 100))}
    )


NETWORKS: dict[str, dict[str, Callable[[], Any]]] = {
    "cuda": {
        "ResNet-50, 64 images of 224": lambda: steps.pictured(
            _found("cnn/resnet:resnet50"), 64, 224
        ),
        "LSTM, 64 sequences of 128, 512 wide": lambda: _lstm(64, 128, 512),
        "attention, 32 sequences of 512, 1024 wide": lambda: steps.attention(32, 512, 1024, 16),
        "DCGAN, 128 images of 64": lambda: _dcgan(128),
    },
    "cpu": {
        "LSTM, 8 sequences of 9, 8 wide": lambda: _found("rnn/lstm:LSTMNet"),
        "attention, 2 sequences of 16, 32 wide": lambda: steps.attention(2, 16, 32, 4),
        "DCGAN, 32 images of 16": lambda: _found("gan/dcgan:DCGAN"),
    },
}


def one(side: str, network: str, dtype: str, device: str) -> None:
    """Compiles, says that it is ready, waits for a line, and prints its row."""
    twin, began = NETWORKS[device][network](), time.perf_counter()
    if side == "torch":
        step = steps.torch_training(twin, dtype, device, compiled=True)
    else:
        step = steps.jax_training(twin, dtype, device)
    for _ in range(3):
        step()
    compiling = round(time.perf_counter() - began, 1)
    print("ready", flush=True)
    sys.stdin.readline()
    clock = device if side == "torch" else "cpu"
    row = {
        "name": _row(side, network, dtype),
        "verdict": "MEASURED",
        "milliseconds": round(1e3 * steps.median(step, COUNT, clock), 3),
        "peak GB": round(steps.gigabytes(side, device), 3),
        "compiled and warm after": compiling,
    }
    emit(row)


def _row(side: str, network: str, dtype: str) -> str:
    return f"{network}: {'torch.compile' if side == 'torch' else 'jax.jit'}, {dtype}"


class Child:
    """One process: started, waited for until it is ready, timed."""

    def __init__(self, side: str, network: str, dtype: str, device: str):
        self.name = _row(side, network, dtype)
        self.command = [sys.executable, "-m", "tests.cuda.parts.steps", "--device", device]
        self.command += ["--side", side, "--network", network, "--dtype", dtype]
        self.said = ""

    def warm(self, end: float) -> None:
        if time.monotonic() > end:
            self.said = "there was no time left to start it"
            return
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(self.command, **pipes)
        timer = threading.Timer(end - time.monotonic(), self.process.kill)
        timer.start()
        assert self.process.stdout is not None
        line = next((line for line in self.process.stdout if line == "ready\n"), "")
        timer.cancel()
        if not line:
            late = time.monotonic() > end
            self.said = "it was not compiled in time" if late else f"exit {self.process.wait()}"

    def timed(self) -> dict[str, Any]:
        verdict = "TIMED OUT" if "time" in self.said else "CRASHED"
        if self.said:
            return {"name": self.name, "verdict": verdict, "detail": self.said}
        try:
            text, _ = self.process.communicate("go\n", timeout=60)
            return json.loads(text.splitlines()[-1])
        except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
            self.process.kill()
            return {"name": self.name, "verdict": "CRASHED", "detail": f"{error!r}"[:300]}


def main() -> None:
    args = asked("--side", "--network", "--dtype")
    if args.side:
        one(args.side, args.network, args.dtype, args.device)
        return
    children = [
        Child(side, network, dtype, args.device)
        for dtype in DTYPES
        for network in NETWORKS[args.device]
        for side in ("torch", "jax")
        if args.device == "cuda" or dtype == "float32" or network.startswith("attention")
    ]  # a CPU compiles too slowly for all, and has no LSTM of bfloat16
    emit({"planned": [child.name for child in children]})
    end = time.monotonic() + SECONDS[args.device]
    with ThreadPoolExecutor(max(1, cores() // 2)) as pool:
        list(pool.map(lambda child: child.warm(end), children))
    for child in children:
        emit(child.timed())


if __name__ == "__main__":
    main()
