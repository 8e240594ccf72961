"""The pytest plug-in: the fixture `parity` and the marker of the same name.

    def test_encoder(parity):
        parity.check(encoder)

Every pytest of an environment that has this package loads it, so it imports next to nothing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import diptych

MARKER = (
    "parity(stages=None, steps=10): options of every `parity.check` of the test;"
    " any option of `diptych.check` is taken"
)


class Parity:
    """What the fixture gives.

    Attributes:
      options: those of the marker; a call's own come before them.
      compared, crashed: what report.json has of the twins that were compared, and that crashed.
    """

    def __init__(self, name: str, options: dict[str, Any], artifacts: Path | None = None):
        self.name, self.options, self.artifacts = name, options, artifacts
        self.compared: list[dict[str, Any]] = []
        self.crashed: list[dict[str, str]] = []
        diptych.ours()

    def check(self, *twins: Any, **options: Any) -> Any:
        """Compares twins, or the twins of names (`"cnn/lenet"`), and fails unless they are SAME.

        Args:
          twins: `Twin`s, or names as `diptych check` takes them.
          options: as those of `diptych.check`.

        Returns:
          The report.

        Raises:
          AssertionError: something is not SAME; the first line says what, in 120 characters.
          DiptychError: a twin cannot be built or run, or a name is unknown.
        """
        __tracebackhide__ = True
        from compare.api import check
        from compare.errors import DiptychError
        from compare.ladder.result import STAGES

        chosen = {**self.options, **options}
        stages = chosen.get("stages")
        if stages is not None:
            stages = chosen["stages"] = [stages] if isinstance(stages, str) else list(stages)
            if not stages or not set(stages) <= set(STAGES):
                raise DiptychError(f"stages={stages}: name some of {', '.join(STAGES)}")
        these = self._twins(twins)
        report = check(*these, **chosen)
        self.compared += report.twins
        self.crashed += report.crashed
        try:
            report.raise_for_verdict()
        except AssertionError as error:
            _show(report)
            self._leave(these, report, chosen)
            raise AssertionError(str(error)) from None
        return report

    def _leave(self, twins: list[Any], report: Any, options: dict[str, Any]) -> None:
        """The finder's evidence on every twin that diverged, where `--parity-artifacts` asks."""
        if self.artifacts is None:
            return
        from compare.api import find
        from compare.finder.evidence import name_of

        seed = options.get("seed", 0)
        diverged = {entry["name"] for entry in report.twins if entry["verdict"] == "DIVERGED"}
        for twin in twins:
            if (twin.name or "twin") in diverged:
                folder = self.artifacts / f"{_slug(self.name)}-{name_of(twin.name, seed)}"
                found = find(twin, seed=seed, steps=options.get("steps", 10), folder=folder)
                print(f"evidence in {folder}; cause: {_cause(found.cause)}")

    def _twins(self, given: tuple[Any, ...]) -> list[Any]:
        __tracebackhide__ = True
        from compare.discover import find
        from compare.errors import DiptychError
        from compare.twin import Twin

        twins: list[Twin] = []
        for each in given:
            if isinstance(each, str):
                twins += find(each)
            elif not isinstance(each, Twin):
                raise DiptychError(
                    f"parity.check() takes Twins or names, not {type(each).__name__}"
                )
            elif each.name or each.torch is None or each.jax is None:
                twins.append(each)
            else:  # a name, for the failure's first line
                twins.append(dataclasses.replace(each, name=self.name))
        return twins


def _show(report: Any) -> None:
    """What failed, for "Captured stdout" below the failure."""
    from compare.report.console import entry
    from compare.report.terminal import make_console

    console = make_console("never")
    for each in report.twins:
        if each["verdict"] != "SAME":
            entry(console, each)


def _slug(name: str) -> str:
    return re.sub(r"\W+", "-", name).strip("-")


def _cause(cause: dict[str, Any] | None) -> str:
    if not cause or not cause["confirmed"]:
        return "unknown"
    return f"{cause['code']} {cause['title']}; write {cause['fix']}"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("parity", "parity of PyTorch and JAX (diptych)")
    for option, metavar, text in (
        ("--parity-html", "FILE", "write a page of all that `parity` compared"),
        ("--parity-json", "FILE", "write the same for machines"),
        ("--parity-artifacts", "DIR", "of what diverges leave origin, cause and a repro.py there"),
    ):
        group.addoption(option, metavar=metavar, type=Path, help=text)
    group.addoption(
        "--parity-github", action="store_true", help="annotate failures in GitHub's workflow log"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    if not hasattr(config, "workerinput"):  # the workers of pytest-xdist send theirs here
        config.pluginmanager.register(Gathered(config), "parity-gathered")


class Gathered:
    """All that the tests compared, those of other processes too; written when the session ends."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.entries: list[dict[str, Any]] = []
        self.crashed: list[dict[str, str]] = []
        self.failures: list[tuple[str, int, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        made = getattr(report, "parity", {})
        if not any(made.values()):
            return
        self.entries += made["compared"]
        self.crashed += made["crashed"]
        if report.failed:
            file, line, _ = report.location
            self.failures.append((file, (line or 0) + 1, _first_line(report)))

    def pytest_sessionfinish(self) -> None:
        html, json = (self.config.getoption(f"--parity-{kind}") for kind in ("html", "json"))
        if not (html or json):
            return
        diptych.ours()
        from compare.report.report import Report
        from compare.weights.files import write_atomic

        report = Report(self.entries, crashed=self.crashed)
        for path, text in ((html, report.to_html), (json, report.to_json)):
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, text())

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.config.getoption("--parity-github"):
            for file, line, text in self.failures:
                terminalreporter.line(f"::error file={file},line={line},title=parity::{text}")


def _first_line(report: pytest.TestReport) -> str:
    """The failure's first line, as a workflow command can carry it."""
    crash = getattr(report.longrepr, "reprcrash", None)
    message = crash.message if crash else str(report.longrepr)
    line = message.removeprefix("AssertionError: ").splitlines()[0]
    return line.replace("%", "%25").replace("\r", "%0D")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test compared goes with its report, which pytest-xdist carries over."""
    report = yield
    used = getattr(item, "funcargs", {}).get("parity")
    if call.when == "call" and isinstance(used, Parity):
        vars(report)["parity"] = {"compared": used.compared, "crashed": used.crashed}
    return report


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Parity:
    """`parity.check(twin)`: fails unless both sides of the twin are the same network."""
    options: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("parity"))):
        if marker.args:
            raise pytest.UsageError("the marker takes keywords: parity(stages=..., steps=...)")
        options |= marker.kwargs
    return Parity(request.node.name, options, request.config.getoption("--parity-artifacts"))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A test that asked for `parity` and compared nothing has not passed."""
    result = yield
    used = pyfuncitem.funcargs.get("parity")
    if isinstance(used, Parity) and not (used.compared or used.crashed):
        pytest.fail("INCONCLUSIVE: the test uses parity and compared nothing", pytrace=False)
    return result
