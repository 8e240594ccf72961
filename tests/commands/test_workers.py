"""Several twins at a time: the same report as one after the other."""

import json
import subprocess
import sys
from pathlib import Path

from compare.capture.environment import cores
from compare.commands.cli import main


def test_two_at_a_time_are_the_same_report():
    """The order, the figures and the exit code are those of one after the other."""
    names = ["porter_pairs:right", "porter_pairs:slipped", "foundations/perceptron"]
    reports = []
    for jobs in ("1", "2"):
        path = Path(f"{jobs}.json")
        line = ["check", *names, "--steps", "1", "--jobs", jobs, "-q", "--json", str(path)]
        assert main(line) == 1
        reports.append(json.loads(path.read_text()))
    one, two = reports
    assert [t["verdict"] for t in two["twins"]] == ["SAME", "DIVERGED", "SAME", "SAME"]
    assert one["twins"] == two["twins"]
    assert two["environment"]["torch_threads"] == max(1, cores() // 2)


def test_a_process_that_is_killed_names_a_remedy(capsys):
    Path("killed.py").write_text("import os\n\n\ndef twin():\n    os._exit(9)\n")
    line = (
        "from compare.commands import workers\n"
        "workers.check(['killed:twin'], 2, {}, progress=print, finished=print)"
    )
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=False)
    assert "a process was killed near killed:twin, perhaps for memory; try --jobs 1" in done.stderr
    assert main(["check", "porter_pairs:right", "--jobs", "0"]) == 2
    assert "--jobs 0 checks nothing" in capsys.readouterr().err
