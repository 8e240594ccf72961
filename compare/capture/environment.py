"""What a run may depend on: versions, platform, threads."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

PACKAGES = ("diptych", "jax", "jaxlib", "flax", "optax", "torch", "numpy")


def environment() -> dict[str, Any]:
    """Versions, platform and thread counts: what a figure may depend on."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    found: dict[str, Any] = {
        "versions": versions,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    if "torch" in sys.modules:
        import torch

        found["torch_threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["cuda"] = torch.cuda.get_device_name()
    return found


def cores() -> int:
    """How many cores this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1
