"""The pytest plug-in: the fixture `parity` and the marker of the same name.

    def test_encoder(parity):
        parity.check(encoder)

Every pytest of an environment that has this package loads it, so it imports next to nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Any

import pytest

MARKER = (
    "parity(stages=None, steps=10): options of every `parity.check` of the test;"
    " any option of `compare.api.check` is taken"
)


class Parity:
    """What the fixture gives.

    Attributes:
      options: those of the marker; a call's own come before them.
      compared: how many twins were compared.
    """

    def __init__(self, name: str, options: dict[str, Any]):
        self.name, self.options, self.compared = name, options, 0

    def check(self, *twins: Any, **options: Any) -> Any:
        """Compares twins, or the twins of names (`"cnn/lenet"`), and fails unless they are SAME.

        Args:
          twins: `Twin`s, or names as `diptych check` takes them.
          options: as those of `compare.api.check`.

        Returns:
          The report.

        Raises:
          AssertionError: something is not SAME; the first line says what, in 120 characters.
          DiptychError: a twin cannot be built or run, or a name is unknown.
        """
        __tracebackhide__ = True
        from compare.api import check
        from compare.errors import DiptychError
        from compare.judge import STAGES

        chosen = {**self.options, **options}
        stages = chosen.get("stages")
        if stages is not None:
            stages = chosen["stages"] = [stages] if isinstance(stages, str) else list(stages)
            if not stages or not set(stages) <= set(STAGES):
                raise DiptychError(f"stages={stages}: name some of {', '.join(STAGES)}")
        report = check(*self._twins(twins), **chosen)
        self.compared += len(report.twins)
        try:
            report.raise_for_verdict()
        except AssertionError as error:
            _show(report)
            raise AssertionError(str(error)) from None
        return report

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
    from compare.console import entry, make_console

    console = make_console("never")
    for each in report.twins:
        if each["verdict"] != "SAME":
            entry(console, each)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Parity:
    """`parity.check(twin)`: fails unless both sides of the twin are the same network."""
    options: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("parity"))):
        if marker.args:
            raise pytest.UsageError("the marker takes keywords: parity(stages=..., steps=...)")
        options |= marker.kwargs
    return Parity(request.node.name, options)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A test that asked for `parity` and compared nothing has not passed."""
    result = yield
    used = pyfuncitem.funcargs.get("parity")
    if isinstance(used, Parity) and not used.compared:
        pytest.fail("INCONCLUSIVE: the test uses parity and compared nothing", pytrace=False)
    return result
