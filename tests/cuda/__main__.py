"""`make cuda`: everything that only a GPU can tell, in at most eight minutes; installs nothing.

`--device cpu` rehearses it, with smaller sizes: every path but the GPU's own is then taken.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compare.capture.environment import cores, environment
from tests.cuda.reading import counted, problems
from tests.cuda.runner import Part, run

ROOT = Path(__file__).parents[2]
# The cheapest and most telling first: name -> seconds, on a GPU and in the rehearsal.
PARTS = {
    "device": (60, 90),
    "tests": (90, 150),
    "check": (230, 420),
    "bundles": (70, 120),
    "steps": (150, 230),
    "default": (120, 120),
    "bfloat16": (150, 240),
}
SECONDS = (480, 1200)


def main() -> int:
    args = _arguments()
    on_cuda = args.device == "cuda"
    out = args.out or ROOT / ("results/cuda" if on_cuda else ".diptych/cuda")
    parts = [
        Part(
            name,
            [sys.executable, "-m", f"tests.cuda.parts.{name}", "--device", args.device],
            PARTS[name][not on_cuda],
        )
        for name in args.parts
    ]
    header = {"device": device(args.device), "versions": environment()["versions"]}
    header["versions"]["python"] = platform.python_version()
    print(f"{header['device']}  ->  {out}", file=sys.stderr)
    run(parts, out, header, seconds=SECONDS[not on_cuda], env=variables(args.device, args.wheels))
    found = problems(out, args.parts)
    for line in found:
        print(f"problem  {line}", file=sys.stderr)
    print(f"{out}: {counted(out, args.parts)}, {len(found)} problems")
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cuda", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default results/cuda for a GPU")
    parser.add_argument(
        "--wheels", type=Path, metavar="DIR", help="importable beside what is there"
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default {' '.join(PARTS)}")
    args = parser.parse_args()
    args.parts = args.parts or list(PARTS)
    if unknown := [name for name in args.parts if name not in PARTS]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return args


def variables(kind: str, wheels: Path | None) -> dict[str, str]:
    """The environment of every part."""
    paths = [str(ROOT), *(map(str, sorted(wheels.resolve().glob("*.whl"))) if wheels else ())]
    if find_spec("rich") is None and not any("/rich-" in path for path in paths):
        paths.append(str(ROOT / "tests" / "cuda" / "stand_in"))
    given = {
        "PYTHONPATH": os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "DIPTYCH_DEVICE": kind,
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # PyTorch and other processes want memory, too
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # or PyTorch refuses deterministic products
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONWARNINGS": "ignore",
        "TORCHINDUCTOR_COMPILE_THREADS": "4",  # several processes compile at a time
    }
    if kind == "cpu":
        given |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **given}


def device(kind: str) -> dict[str, Any]:
    """Which device it is: the driver's words, so that no framework is needed."""
    found: dict[str, Any] = {"kind": kind, "cores": cores(), "name": platform.processor() or "CPU"}
    if kind == "cuda" and shutil.which("nvidia-smi"):
        query = "--query-gpu=name,driver_version,memory.total"
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True
        )
        fields = [field.strip() for field in (done.stdout.splitlines() or [""])[0].split(",")]
        found |= dict(zip(("name", "driver", "memory"), fields, strict=False))
    return found


if __name__ == "__main__":
    sys.exit(main())
