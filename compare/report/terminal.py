"""The terminal: a console, and a bar while something takes long."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Self

from compare.report.lines import clean
from compare.report.styled import Console

DELAY = 2.0  # seconds until the bar appears


def in_notebook() -> bool:
    """Whether this runs in Jupyter, whose streams say that they are a terminal."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def make_console(
    color: str = "auto", *, file: IO[str] | None = None, stderr: bool = False
) -> Console:
    """A console that never wraps and takes no markup.

    Args:
      color: "always", "never", or "auto": on a terminal, unless NO_COLOR is set.
      file: where to write; default standard output.
      stderr: write to standard error instead.
    """
    plain = color == "never" or (color == "auto" and bool(os.environ.get("NO_COLOR")))
    return Console(
        file=file,
        stderr=stderr,
        color_system=None if plain else "standard" if color == "always" else "auto",
        force_terminal=True if color == "always" else False if in_notebook() else None,
        force_jupyter=False,
        no_color=plain,
        soft_wrap=True,
        highlight=False,
        markup=False,
        emoji=False,
    )


def tracked(steps: Iterable, what: str) -> Iterator:
    """The same steps, with a bar on a terminal: on standard error, and gone at the end."""
    console = make_console(stderr=True)
    if not console.is_terminal:
        return iter(steps)
    from rich.progress import track

    return iter(track(steps, what, console=console, transient=True))


@contextmanager
def paused() -> Iterator[None]:
    """Takes the bar off the terminal while something is printed."""
    if not _shown:
        yield
        return
    with _shown[-1].hidden():
        yield


class Progress:
    """A bar on standard error: n of m twins, what runs now, how long it has taken.

    It appears after two seconds, only on a terminal, and leaves nothing behind; what this module
    prints meanwhile goes above it.

    Args:
      total: how many twins there are.
      color: as of `make_console`.
      enabled: False shows nothing.
      console, delay: where, and after how many seconds; for tests.
    """

    def __init__(
        self,
        total: int,
        color: str = "auto",
        *,
        enabled: bool = True,
        console: Console | None = None,
        delay: float = DELAY,
    ):
        console = console or make_console("auto" if color == "always" else color, stderr=True)
        self._enabled = enabled and console.is_terminal and not console.is_dumb_terminal
        self._lock = threading.RLock()
        self._visible = self._done = False
        self._delay = delay
        if self._enabled:
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar
            from rich.table import Column

            console.soft_wrap = False
            text = Column(ratio=1, no_wrap=True, overflow="ellipsis")
            count = [TextColumn("{task.completed:.0f}/{task.total:.0f} twins"), BarColumn(24)]
            self._bar = Bar(
                *(count if total > 1 else []),
                TextColumn("{task.fields[doing]}", markup=False, table_column=text),
                TimeElapsedColumn(),
                console=console,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                refresh_per_second=4,
                expand=True,
            )
            self._task = self._bar.add_task("", total=total, doing="")
            self._timer = threading.Timer(delay, self._show)
            self._timer.daemon = True

    def __enter__(self) -> Self:
        if self._enabled:
            _shown.append(self)
            self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._enabled:
            return
        self._timer.cancel()
        with self._lock:
            self._done = True
            if self._visible:
                self._bar.stop()
                self._visible = False
        if self in _shown:
            _shown.remove(self)

    def update(self, twin: str, doing: str = "") -> None:
        """Says what runs now."""
        if self._enabled:
            self._bar.update(self._task, doing=f"{clean(twin)}  {clean(doing)}".strip())

    def advance(self) -> None:
        """One twin is finished."""
        if self._enabled:
            self._bar.advance(self._task)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Takes the bar off the terminal for a while."""
        if not self._enabled:
            yield
            return
        with self._lock:
            if self._visible:
                self._bar.stop()
            try:
                yield
            finally:
                if self._visible:
                    self._bar.start()

    def _show(self) -> None:
        with self._lock:
            if not self._done:
                self._bar.start()
                self._visible = True


_shown: list[Progress] = []
