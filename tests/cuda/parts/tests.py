"""The tests that are marked `cuda`, a row each."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from tests.cuda.parts import asked
from tests.cuda.runner import emit

FOLDER = Path(__file__).parents[1]
# pyproject's own, without --strict-config: pytest-timeout may not be there to know its `timeout`.
OPTIONS = "addopts=--strict-markers -ra --import-mode=importlib"
VERDICTS = {"passed": "PASSED", "failed": "FAILED", "skipped": "SKIPPED"}


class Rows:
    """A plug-in of pytest that prints a row for each test.

    Args:
      stream: where to; pytest has the standard output for its own words.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def pytest_collection_finish(self, session: Any) -> None:
        emit({"planned": [_name(item.nodeid) for item in session.items]}, self.stream)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != "call" and (report.passed or report.when == "teardown"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        row = {"name": _name(report.nodeid), "verdict": VERDICTS[report.outcome]}
        row |= {"detail": str(reason or "")[-600:], "seconds": round(report.duration, 2)}
        emit(row, self.stream)


def _name(node: str) -> str:
    return node.partition("tests/cuda/")[2]


def main() -> int:
    asked()
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # pytest's own words go to the standard error
    arguments = [str(FOLDER), "-m", "cuda", "-q", "-s", "-p", "no:cacheprovider", "-o", OPTIONS]
    code = pytest.main([*arguments, "--tb=short"], plugins=[Rows(stream)])
    return 0 if code in (0, 1) else int(code)  # 1: a test failed, which its row says


if __name__ == "__main__":
    sys.exit(main())
