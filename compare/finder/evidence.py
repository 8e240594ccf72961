"""What the finder leaves behind: a folder to look at, to send to somebody, and to run again."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.weights.files import unwritable, write_atomic

if TYPE_CHECKING:
    from compare.finder.found import Found
    from compare.report.report import Report

REPRO = '''\
"""{title}

{where}
PyTorch's layer on its own input, and what JAX's layer gave for the same input, in float64.
Needs torch, numpy and safetensors:  python repro.py
"""

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: F401
from safetensors.torch import load_file
from torch import nn  # noqa: F401

torch.set_default_dtype(torch.float64)
kept = load_file(Path(__file__).parent / "tensors.safetensors")
inputs = [kept[name] for name in sorted(kept) if name.startswith("input.")]
{build}
jax = kept["jax"]
print("torch", torch.flatten({ours})[:4].tolist(), "...")
print("jax  ", torch.flatten(jax)[:4].tolist(), "...")
print(f"relative difference {{((({ours}) - jax).norm() / ({ours}).norm()).item():.1e}}")
'''


def name_of(twin: str, seed: int) -> str:
    """The folder's name: the twin's, and a hash of how it was run."""
    short = re.sub(r"\W+", "-", twin.rpartition(":")[2] or "twin").strip("-") or "twin"
    return f"{short}-{hashlib.sha256(f'{twin} {seed}'.encode()).hexdigest()[:4]}"


def leave(folder: str | os.PathLike[str], report: Report, found: Found) -> None:
    """Writes report.html, report.json, tensors.safetensors and repro.py.

    Raises:
      DiptychError: the folder cannot be written.
    """
    from safetensors.numpy import save

    home = Path(folder)
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(home, error) from error
    write_atomic(home / "report.json", report.to_json())
    write_atomic(home / "report.html", report.to_html())
    tensors = {k: np.ascontiguousarray(v) for k, v in found.window.items()}
    write_atomic(home / "tensors.safetensors", save(tensors))
    write_atomic(home / "repro.py", _repro(report, found))


def _repro(report: Report, found: Found) -> str:
    origin: dict[str, Any] = report.origin or {}
    cause: dict[str, Any] = report.cause or {}
    where = f"PyTorch: {origin['torch']} {origin['torch_source']}".rstrip()
    where += f"\nJAX:     {origin['jax']} {origin['jax_source']}".rstrip() + "\n"
    if cause.get("confirmed"):
        where += f"Cause:   {cause['code']} {cause['title']}; write {cause['fix']}\n"
    line = report.first_line().replace("\\", "/").replace('"""', "'''")
    build, ours = 'torch_output = kept["torch"]', "torch_output"
    if layer := _layer(found):
        build = f"layer = {layer}\n"
        build += (
            'state = {name[6:]: t for name, t in kept.items() if name.startswith("state.")}\n'
            f"layer.load_state_dict(state)\nlayer.train({found.sites[0].module.training})\n"
            'torch_output = layer(*inputs)\nassert torch.allclose(torch_output, kept["torch"])'
        )
        ours = "torch_output.detach()"
    return REPRO.format(title=line, where=where, build=build, ours=ours)


def _layer(found: Found) -> str | None:
    """The line that builds PyTorch's layer, if it is one of torch.nn and its output is judged."""
    if not found.sites or found.sites[0].what != "output" or found.sites[0].module is None:
        return None
    module = found.sites[0].module
    if not type(module).__module__.startswith("torch.nn.modules") or any(module.children()):
        return None
    return f"nn.{module!r}"
