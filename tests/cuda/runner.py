"""Parts, each a process of its own that prints rows; what they print is kept as it comes."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

SCHEMA = 1
COMPLETE, CRASHED, LATE, NOT_RUN = "complete", "crashed", "timed out", "not run"
LINES = 12  # of a part's standard error that are kept where it crashed


@dataclass(frozen=True)
class Part:
    """One process: a command that prints JSON, a line an object.

    `{"planned": [names]}` says which rows there will be, `{"name": …, "verdict": …, …}` is a row;
    every other line is passed on to the standard error.

    Args:
      name: of the part, and of its file.
      command: what runs.
      seconds: how long it may take.
    """

    name: str
    command: Sequence[str]
    seconds: float


def run(
    parts: Sequence[Part],
    out: Path,
    header: Mapping[str, Any],
    *,
    seconds: float,
    env: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> list[dict[str, Any]]:
    """Runs parts in turn and writes `out/<part>.json` after every row of each.

    Args:
      out: a folder; made where it is missing.
      header: stands at the head of every file: device, versions.
      seconds: for all of them; a part for which less than its own is left gets what is left.
      env: the environment of the processes; default this one's.
      say: is told every row.

    Returns: what was written of each part.
    """
    out.mkdir(parents=True, exist_ok=True)
    end, records = time.monotonic() + seconds, []
    for part in parts:
        left = min(part.seconds, end - time.monotonic())
        record = {
            "schema": SCHEMA,
            "part": part.name,
            **header,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "seconds": 0.0,
            "limit": round(max(0.0, left), 1),
            "status": NOT_RUN,
            "detail": "",
            "planned": [],
            "rows": [],
        }
        records.append(record)
        path = out / f"{part.name}.json"
        if left < 1:
            record["detail"] = f"the {seconds:.0f} s for all parts were over"
            _write(path, record)
        else:
            _run(part, record, path, left, env, say)
        say(f"{part.name}: {record['status']} after {record['seconds']} s {record['detail']}")
    return records


def _run(
    part: Part, record: dict, path: Path, left: float, env: Mapping[str, str] | None, say: Callable
) -> None:
    began = time.monotonic()
    record["status"] = LATE  # unless it ends: whoever ends this program finds the file so
    _write(path, record)
    process = subprocess.Popen(
        part.command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # its own children end with it
    )
    ended = threading.Event()
    timer = threading.Timer(left, lambda: (ended.set(), end(process)))
    timer.start()
    try:
        errors: collections.deque[str] = collections.deque(maxlen=LINES)
        drain = threading.Thread(target=_pass_on, args=(process.stderr, errors, say), daemon=True)
        drain.start()
        assert process.stdout is not None
        for line in process.stdout:
            row = _object(line)
            if row is None:
                say(f"  {line.rstrip()}")
            elif "planned" in row:
                record["planned"] = row["planned"]
            else:
                record["rows"].append(row)
                say(f"  {part.name}: {shown(row)}")
            record["seconds"] = round(time.monotonic() - began, 1)
            _write(path, record)
        code = process.wait()
        drain.join(5)
    finally:
        timer.cancel()
        end(process)
    record["seconds"] = round(time.monotonic() - began, 1)
    if not ended.is_set():
        record["status"] = CRASHED if code else COMPLETE
        record["detail"] = f"exit code {code}: {' | '.join(errors)}"[:2000] if code else ""
    _write(path, record)


def end(process: subprocess.Popen) -> None:
    """Ends a process of a session of its own, with all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def shown(row: Mapping[str, Any]) -> str:
    """A row as a line of text."""
    rest = {k: v for k, v in row.items() if k not in ("name", "verdict") and v not in (None, "")}
    return f"{row['name']}  {row['verdict']}  " + "  ".join(f"{k} {v}" for k, v in rest.items())


def _pass_on(stream: IO[str], kept: collections.deque[str], say: Callable[[str], None]) -> None:
    for line in stream:
        if line.strip():
            kept.append(line.strip())
            say(f"    {line.rstrip()}")


def _object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    known = isinstance(value, dict) and ("planned" in value or {"name", "verdict"} <= set(value))
    return value if known else None


def _write(path: Path, record: Mapping[str, Any]) -> None:
    whole = path.with_suffix(".part")
    whole.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(whole, path)


def emit(value: Mapping[str, Any], stream: IO[str] | None = None) -> None:
    """Prints a row, or what is planned, from inside a part."""
    print(json.dumps(value), file=stream, flush=True)
