"""`diptych convert`: checkpoints from one framework to the other."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import gc
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from compare.commands.options import Subparsers, busy, command, dump, emit, one, say, writable
from compare.errors import DiptychError

if TYPE_CHECKING:
    from compare.twin import Twin
    from compare.weights.map import WeightMap

NOTES = """\
PyTorch: .pt .pth .bin .safetensors, the index of several (model.safetensors.index.json), or the
folder that holds it. Flax: .msgpack .safetensors, or an Orbax folder (no suffix, or
.orbax). The direction follows from SRC; of a .safetensors file it is read from the names in it.
Flax's names may be flat, with dots or slashes, without the collection, or those of boxed leaves,
an NNX state, a TrainState; tied tensors may be there once; query, key and value packed or split.
The weights are those of the published size; --small and --config say otherwise. Every number keeps
its bits, and the line that is printed says what cannot return: Flax's one bias is the sum of
PyTorch's two, of which the way back gives one the sum and the other 0. The type stays as it is
unless --dtype asks for another. A pickle that holds more than tensors is refused."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "convert",
        run,
        "turn a checkpoint into the other framework's, bit for bit",
        [
            ("diptych convert cnn/resnet:resnet50 resnet50.pth resnet50.msgpack", ""),
            ("diptych convert cnn/resnet:resnet50 resnet50.msgpack back.safetensors", ""),
            ("diptych convert cnn/resnet:resnet18 tuned.pt tuned --config num_classes=10", ""),
        ],
        NOTES,
    )
    parser.add_argument("name", metavar="NAME", help="the twin whose weights these are")
    parser.add_argument("source", metavar="SRC", help="the checkpoint")
    parser.add_argument("target", metavar="DST", help="what to write")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_true", help="the published size; the default")
    size.add_argument("--small", action="store_true", help="the size that `diptych check` runs")
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a constructor keyword that differs, for example num_classes=10",
    )
    parser.add_argument("--dtype", help="write another type: float64, float32, bfloat16, float16")
    parser.add_argument("--force", action="store_true", help="replace DST if it exists")


def run(args: argparse.Namespace) -> int:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # only shapes are asked for
    from compare.weights.convert import convert

    named = one(args.name)
    twin = (named if args.small else named.published()).configured(_config(args.config))
    for path in (args.target, args.json):
        writable(path, folder=bool(path) and os.path.isdir(path) and path == args.target)
    gc.disable()  # importing two frameworks makes much and drops nothing: a fifth of the time
    try:
        with busy(args, twin.name, "converting"):
            done = convert(
                partial(_map, twin), args.source, args.target, force=args.force, dtype=args.dtype
            )
    finally:
        gc.enable()
    emit(args, lambda: dump({"twin": twin.name, **dataclasses.asdict(done)}))
    console = say(args)
    if console is not None and not args.quiet:
        size = f"{done.read} {done.source} tensors -> {done.written} {done.target} tensors"
        exact = f"bit for bit but for {done.changed}" if done.changed else "bit for bit"
        lines = [f"{args.source} -> {args.target}   {done.elements} numbers, {size}, {exact}"]
        for line in [*lines, *(f"note: {note}" for note in done.notes)]:
            console.print(line)
    return 0


def _map(twin: Twin) -> WeightMap:
    from compare.ladder.weight_map import weight_map

    found = weight_map(twin)
    if not found.links:
        raise DiptychError(f"{twin.name} has no weights to convert")
    return found


def _config(pairs: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise DiptychError(f"--config {pair!r} is not KEY=VALUE")
        try:
            config[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            config[key] = text
    return config
