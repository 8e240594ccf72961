"""The terminal: colours where they are wanted, and a bar that leaves nothing."""

import io
import os
import re
import subprocess
import sys
import time

import pytest
from rich.console import Console

from compare.report import console, terminal
from tests.report.samples import diverged, said, twin


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("color", "file", "variable", "coloured"),
    [
        ("auto", io.StringIO, "", False),
        ("auto", Terminal, "", True),
        ("auto", Terminal, "1", False),
        ("never", Terminal, "", False),
        ("always", io.StringIO, "", True),
        ("always", io.StringIO, "1", True),
    ],
)
def test_colour(color, file, variable, coloured, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", variable)
    text = said(diverged(), color=color, file=file())
    assert ("\x1b[" in text) == coloured
    bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert bare == said(diverged(), color="never")


def test_names_cannot_command_the_terminal():
    text = said(diverged("[red]x\x1b]0;owned\x07\x1b[31m\nnew"))
    assert "[red]x" in text
    assert "\x1b" not in text
    assert "\x07" not in text


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_progress_shows_on_a_terminal_and_leaves_nothing(error):
    file, out = Terminal(), io.StringIO()
    bar = Console(file=file, force_terminal=True, width=100, _environ={"TERM": "xterm"})
    try:
        with terminal.Progress(3, console=bar, delay=0) as progress:
            progress.update("cnn/[b]lenet", "float64 forward")
            time.sleep(0.6)
            console.entry(terminal.make_console(file=out), twin())
            progress.advance()
            time.sleep(0.6)
            if error:
                raise error
    except KeyboardInterrupt:
        pass
    text = file.getvalue()
    assert "cnn/[b]lenet float64 forward" in " ".join(text.split())
    assert re.search(r"1/3\S* twins", re.sub(r"\x1b\[[0-9;?]*\w", "", text))
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") > 0  # the cursor is back
    assert text.rstrip("\r\n").endswith("\x1b[2K")  # the line is empty again
    assert out.getvalue().startswith("cnn/lenet:LeNet")
    assert not terminal._shown


@pytest.mark.parametrize("options", [{"enabled": False}, {"delay": 60}, {}])
def test_progress_is_silent_otherwise(options, capfd):
    with terminal.Progress(3, **options) as progress:
        progress.update("a", "b")
        progress.advance()
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_on_a_terminal_alone(terminal):
    code = "from compare.report.terminal import tracked; print(sum(tracked(range(4), 'training')))"
    line = [sys.executable, "-c", code]
    there, here = os.openpty() if terminal else os.pipe()
    environment = os.environ | {"TERM": "xterm"}
    done = subprocess.run(line, stdout=subprocess.PIPE, stderr=here, env=environment, check=True)
    os.close(here)
    assert done.stdout.split() == [b"6"]
    assert (b"training" in os.read(there, 10000)) is terminal
    os.close(there)
