"""`diptych doctor`: what is installed, and what is missing."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from compare.capture.environment import cores
from compare.commands.options import Subparsers, busy, command, dump, emit, say
from compare.errors import install, reason

# Distribution -> the extra that brings it; "" is the core.
PACKAGES = {
    "diptych": "",
    "numpy": "",
    "safetensors": "",
    "rich": "",
    "jinja2": "",
    "pygments": "",
    "markdown-it-py": "",
    "torch": "torch",
    "jax": "jax",
    "jaxlib": "jax",
    "flax": "jax",
    "optax": "jax",
    "chex": "jax",
    "orbax-checkpoint": "jax",
    "scikit-learn": "data",
    "statsmodels": "data",
    "optuna": "tune",
    "tensorboard": "tensorboard",
    "pytest": "test",
    "pytest-xdist": "test",
    "pytest-timeout": "test",
    "hypothesis": "test",
}
NEEDED = ("", "torch", "jax")  # without these, nothing can be checked
SPARED = {"rich"}  # but for this: without it everything is printed plainly
VARIABLES = (
    "JAX_PLATFORMS",
    "XLA_FLAGS",
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
)


def add(subparsers: Subparsers) -> None:
    command(
        subparsers,
        "doctor",
        run,
        "say what is installed, and what is missing",
        [("diptych doctor", ""), ("diptych doctor -q", "only what is wrong")],
        "The exit code is 0 where checks can run, else 2.",
    )


def run(args: argparse.Namespace) -> int:
    with busy(args, "torch and jax", "importing"):
        found = examine()
    emit(args, lambda: dump(found))
    console = say(args)
    if console is not None:
        for line in _lines(found, args.quiet):
            console.print(line)
    return 0 if found["complete"] else 2


def _lines(found: dict, quiet: bool) -> list[str]:
    wrong = [f"problem    {line}" for line in found["problems"]]
    wrong += [f"compiled   {line}" for line in found["canaries"]]
    wrong += [f"missing    {line}" for line in found["missing"]]
    verdict = "checks can run" if found["complete"] else "checks cannot run"
    if quiet:
        return wrong
    lines = [f"python     {found['python']}", f"machine    {found['machine']}"]
    versions = [f"{name} {version}" for name, version in found["packages"].items() if version]
    for start in range(0, len(versions), 6):
        lines.append(f"{'' if start else 'packages':10} {', '.join(versions[start : start + 6])}")
    for name in ("torch", "jax"):
        for key, value in (found[name] or {}).items():
            shown = ", ".join(value) if isinstance(value, list) else value
            lines.append(f"{name:10} {key}: {shown}")
    lines.append("pinned     matmul highest, TF32 off and float64, within a check")
    lines += [f"variable   {name}={value}" for name, value in found["variables"].items()]
    return [*lines, *wrong, verdict]


def examine() -> dict[str, Any]:
    """Everything, as JSON can hold it; `problems` and `missing` are lists of lines."""
    versions = {name: _version(name) for name in PACKAGES}
    problems: list[str] = []
    return {
        "python": f"{platform.python_version()} ({sys.executable})",
        "machine": f"{platform.system()} {platform.machine()}, {cores()} CPUs",
        "packages": versions,
        "torch": _framework("torch", versions, problems, _torch),
        "jax": _framework("jax", versions, problems, _jax),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "canaries": _canaries() if versions["jaxlib"] and not problems else [],
        "problems": problems,
        "missing": _missing(versions),
        "complete": not problems and SPARED.issuperset(_lacking(versions, NEEDED)),
    }


def _canaries() -> list[str]:
    """A line for each small program that compiled gives something else than uncompiled."""
    from compare.capture.compiler import DTYPES, REMEDY, failing
    from compare.differences.compiler import fused

    lines = []
    for canary, dtype, apart in failing():
        mended = canary.apart(dtype, REMEDY) <= DTYPES[dtype]
        mend = f"{fused.fix_jax}, as a check does" if mended else "run it without jax.jit"
        newer = f"{fused.gone} or newer" if mended and fused.here else "another jaxlib"
        what = f"{canary.name}, {dtype}: {apart:.1e} off on jaxlib {_version('jaxlib')}"
        lines.append(f"{what}; {mend}; or {newer}")
    return lines


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _lacking(versions: dict[str, str | None], extras: tuple[str, ...]) -> list[str]:
    """Those of some extras that are not installed; diptych itself runs, so that it is there."""
    wanted = (name for name, extra in PACKAGES.items() if extra in extras and name != "diptych")
    return [name for name in wanted if versions[name] is None]


def _missing(versions: dict[str, str | None]) -> list[str]:
    """A line for each extra that is not whole, with what installs it."""
    lines = []
    for extra in dict.fromkeys(PACKAGES.values()):
        lacking = _lacking(versions, (extra,))
        if lacking:
            lines.append(f"{', '.join(lacking)}: {install(*lacking)}")
    return lines


def _framework(name: str, versions: dict, problems: list[str], look: Any) -> dict[str, Any] | None:
    if versions[name] is None:
        return None
    try:
        return look(importlib.import_module(name))
    except Exception as error:  # a broken installation raises anything
        problems.append(f"{name} {versions[name]} fails: {type(error).__name__}: {reason(error)}")
        return None


def _torch(torch: Any) -> dict[str, Any]:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    devices = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(count)]
    return {
        "devices": ["cpu", *devices],
        "threads": torch.get_num_threads(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "TF32 in cuDNN": bool(torch.backends.cudnn.allow_tf32),
        "default dtype": str(torch.get_default_dtype()).removeprefix("torch."),
    }


def _jax(jax: Any) -> dict[str, Any]:
    from compare.api import prepare

    prepare()
    config = jax.config
    folder = config.jax_compilation_cache_dir
    return {
        "devices": [str(device) for device in jax.devices()],
        "threads": f"XLA's own, {cores()} CPUs",
        "matmul precision": config.jax_default_matmul_precision or "default",
        "x64": bool(config.jax_enable_x64),
        "cache": folder,
        "cache size": _size(Path(folder)) if folder else None,
    }


def _size(folder: Path) -> str:
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return f"{sum(sizes) / 2**20:.1f} MiB in {len(sizes)} files"
