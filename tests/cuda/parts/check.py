"""Twins of every kind on every backend of the device, against PyTorch on the CPU."""

from __future__ import annotations

import dataclasses
import gc
import sys
import time
from typing import Any

from compare.capture.environment import cores
from tests.cuda.parts import asked
from tests.cuda.parts.pool import Job, pooled
from tests.cuda.runner import emit

BACKENDS = {
    "cuda": ("torch:cuda", "xla:cuda", "torch:cuda+compile"),
    "cpu": ("xla:cpu", "torch:cpu+compile", "xla:cpu+eager"),
}
LARGE = "cnn/resnet:resnet50"  # on a GPU at its published size
TWINS = (
    "cnn/lenet:LeNet",
    "rnn/lstm:LSTMNet_bidirectional",
    "layers/attention:attention",
    "gan/dcgan:DCGAN",
    "layers/dropout:dropout",
    "layers/norm:norm",
    "layers/convolution:convolution",
    "training/optimizers:optimizers",
    "layers/embedding:Embedding",
    "autoencoder/vae:ConvVAE",
    "foundations/mlp:MLP",
    "training/losses:losses",
    "layers/pooling:pooling",
    "layers/activations:activations",
    "layers/resampling:resampling",
    "rnn/seq2seq:Seq2Seq",
    "linalg/svd:svd",
    "foundations/normalized_mlp:NormalizedMLP",
    "layers/reparametrised:reparametrised",
    "rnn/gru:GRUNet",
    "rnn/char_lm:CharLM_tied",
    "rnn/image_captioner:ImageCaptioner",
    "linalg/elimination:elimination",
    "foundations/bptt:bptt",
)
REHEARSED = {
    "foundations/mlp:MLP": "torch:cpu+compile",
    "layers/embedding:Embedding": "xla:cpu+eager",
    "foundations/bptt:bptt": "xla:cpu+eager",
}
SECONDS = {"cuda": (150, 220), "cpu": (240, 400)}  # of one twin, of the large one
STEPS = 3  # of the trajectory of the large one
PROGRAM = "tests.cuda.parts.check"


def jobs(device: str, precision: str, names: tuple[str, ...], dtype: str) -> list[Job]:
    """A process per twin, for the large one a process per backend; the large one first.

    The rehearsal takes every third twin, and one backend of each: two cores compile no more.
    """
    made = []
    if device == "cpu":
        names = tuple(n for i, n in enumerate(names) if not i % 3 or n in (*REHEARSED, LARGE))
    large = [((LARGE,), (backend,)) for backend in BACKENDS[device]] if LARGE in names else []
    others = [((name,), BACKENDS[device]) for name in names if name != LARGE]
    if device == "cpu":
        large = large[:1]
        others = [((name,), (REHEARSED.get(name, "xla:cpu"),)) for (name,), _ in others]
    for (name,), backends in [*large, *others]:
        command = [sys.executable, "-m", PROGRAM, "--device", device, "--one", name]
        command += ["--backends", ",".join(backends), "--precision", precision, "--dtype", dtype]
        rows = [_row(name, backend, precision, dtype) for backend in backends]
        made.append(Job(command, rows, SECONDS[device][name == LARGE]))
    return made


def _row(name: str, backend: str, precision: str, dtype: str) -> str:
    return f"{name} on {backend}, {precision}, {dtype}"


def one(name: str, backends: list[str], device: str, precision: str, dtype: str) -> None:
    """The rows of one twin; of each backend as it comes."""
    import torch

    from compare.api import check
    from compare.discover import find

    torch.set_num_threads(max(1, cores() // (4 if name == LARGE else 8)))
    (twin,) = find(name)
    twin = twin.published() if device == "cuda" and name == LARGE else twin
    twin, note = _fed(twin)
    for backend in backends:
        began = time.perf_counter()
        steps = STEPS if name == LARGE else 10
        try:
            report = check(
                twin, backends=[backend], precision=precision, steps=steps, dtypes=[dtype]
            )
            row = _summary(report.twins[0]) | {"note": note}
        except (Exception, SystemExit) as error:  # the next backend is still worth asking
            row = {"verdict": "CRASHED", "detail": f"{type(error).__name__}: {error}"[:600]}
        seconds = round(time.perf_counter() - began, 1)
        emit({"name": _row(name, backend, precision, dtype), **row, "seconds": seconds})
        gc.collect()


def _fed(twin: Any) -> tuple[Any, str]:
    """The twin with generic batches where this machine lacks what its data is read with."""
    from compare.errors import DiptychError
    from compare.twin import generator

    try:
        if twin.data is not None:
            next(iter(twin.data(generator(0, "data"))))
    except DiptychError as error:
        return dataclasses.replace(twin, data=None), f"generic batches: {error}"
    return twin, ""


def _summary(entry: dict[str, Any]) -> dict[str, Any]:
    """What a row keeps of an entry: verdicts, the worst ratios, the first findings."""
    stages = entry["stages"]
    shares = [s["worst"] / s["limit"] for s in stages if s["limit"] and s["worst"] is not None]
    numerics = [(dtype, float(x)) for s in stages for dtype, x in s["numerics"].items()]
    return {
        "verdict": entry["verdict"],
        "class": entry.get("class"),
        "stages": {s["name"]: s["verdict"] for s in stages},
        "float64 of the limit": max(shares, default=None),
        **{
            f"{dtype} of what is allowed": max(x for d, x in numerics if d == dtype)
            for dtype, _ in numerics
        },
        "detail": "; ".join(str(f) for s in stages for f in s["findings"][:2])[:800],
    }


def main(
    precision: str = "highest",
    names: tuple[str, ...] = (*TWINS, LARGE),
    dtype: str = "float32",
) -> None:
    args = asked("--one", "--backends", "--precision", "--dtype")
    if args.one:
        one(args.one, args.backends.split(","), args.device, args.precision, args.dtype)
        return
    pooled(jobs(args.device, precision, names, dtype), max(2, cores() - 2))


if __name__ == "__main__":
    main()
