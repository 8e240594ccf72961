"""The parts, one program each: `python -m tests.cuda.parts.check --device cuda`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def asked(*options: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of a part: the device, and further ones that it gives to its own processes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    for option in options:
        parser.add_argument(option)
    return parser.parse_args(argv)
