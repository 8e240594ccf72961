"""The pytest plug-in, as the tests of a porter's project use it."""

import json
import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

PAIRS = """
import flax.linen as linen
import torch
from torch import nn

from compare import Array, Twin

right = Twin(
    torch=lambda: nn.LayerNorm(6),
    jax=lambda: linen.LayerNorm(epsilon=1e-5),
    inputs={"x": Array((3, 6))},
)
slipped = Twin(
    torch=lambda: nn.LayerNorm(6),
    jax=lambda: linen.LayerNorm(),
    inputs={"x": Array((3, 6))},
)
"""


@pytest.fixture
def project(pytester):
    pytester.makepyfile(pairs=PAIRS)
    return pytester


def test_outcomes(project):
    project.makepyfile(
        """
        import pytest
        from pairs import right, slipped

        def test_right(parity):
            report = parity.check(right, steps=2)
            assert report.verdict == "SAME"

        @pytest.mark.parity(steps=2)
        def test_slipped(parity):
            parity.check(slipped)

        def test_that_compares_nothing(parity):
            pass

        def test_that_is_skipped(parity):
            pytest.skip("no reason")

        @pytest.mark.parity(stages="weights", steps=1)
        def test_one_rung(parity):
            report = parity.check(slipped)
            assert [stage["name"] for stage in report.twins[0]["stages"]] == ["weights"]

        @pytest.mark.parity(steps=1)
        class TestClass:
            @pytest.mark.parity(stages=["forward", "gradients"])
            def test_two_rungs_by_name(self, parity):
                report = parity.check("foundations/perceptron:rosenblatt")
                assert len(report.twins[0]["stages"]) == 2

        @pytest.mark.parity(stages="backward")
        def test_unknown_rung(parity):
            parity.check(right)

        def test_no_twin(parity):
            parity.check(3)
        """
    )
    result = project.runpytest_subprocess("-n2", "-p", "no:cacheprovider", "-rA")
    result.assert_outcomes(passed=3, failed=4, skipped=1)
    result.stdout.fnmatch_lines_random(
        [
            "E *AssertionError: DIVERGED test_slipped forward: *",
            "INCONCLUSIVE: the test uses parity and compared nothing",
            "E *DiptychError: stages=[[]'backward']: name some of weights, *",
            "E *DiptychError: parity.check() takes Twins or names, not int",
            "*stage *compared *float64 worst*",
        ]
    )
    first = next(line for line in result.outlines if "AssertionError: DIVERGED" in line)
    assert len(first.partition("AssertionError: ")[2]) <= 120
    # The user's own line is the last that is shown, not one of this package's.
    assert not [line for line in result.outlines if "def raise_for_verdict" in line]


def test_the_marker_is_known_and_takes_keywords_only(project):
    project.makepyfile(
        """
        import pytest

        @pytest.mark.parity(3)
        def test_it(parity):
            pass
        """
    )
    result = project.runpytest_subprocess("--strict-markers")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the marker takes keywords*"])
    project.runpytest_subprocess("--markers").stdout.fnmatch_lines(["@pytest.mark.parity(*"])


@pytest.mark.parametrize("processes", [[], ["-n", "1"]])
def test_what_crashed_is_in_the_report_of_the_session(project, processes):
    project.makepyfile(
        """
        import torch
        from diptych import Array, Twin
        from pairs import right

        def fails(x):
            raise RuntimeError("enough")

        def test_two(parity):
            inputs = {"x": Array((2, 3))}
            other = Twin(torch=torch.tanh, jax=fails, inputs=inputs, name="the other")
            parity.check(right, other)
        """
    )
    result = project.runpytest_subprocess("--parity-json", "all.json", *processes)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*CRASHED the other: *RuntimeError: enough*"])
    report = json.loads((project.path / "all.json").read_text())
    assert report["verdict"] == "INCONCLUSIVE"
    assert [crash["twin"] for crash in report["crashed"]] == ["the other"]


def test_it_imports_neither_framework():
    code = (
        "import sys, compare.pytest_plugin\n"
        "print(sorted({'torch', 'jax', 'flax', 'optax', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reports_artifacts_and_annotations(project):
    project.makepyfile(
        """
        import pytest
        from pairs import right, slipped

        @pytest.mark.parity(steps=1)
        @pytest.mark.parametrize("twin", [right, slipped], ids=["right", "slipped"])
        def test_pair(parity, twin):
            parity.check(twin)
        """
    )
    options = "--parity-html=out/p.html --parity-json=out/p.json --parity-artifacts=left"
    done = project.runpytest_subprocess("-n", "2", "--parity-github", *options.split())
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines("::error file=*.py,line=*,title=parity::DIVERGED test_pair[[]slip*")
    written = json.loads((project.path / "out" / "p.json").read_text())
    assert sorted(twin["verdict"] for twin in written["twins"]) == ["DIVERGED", "SAME"]
    assert "test_pair[slipped]" in (project.path / "out" / "p.html").read_text()
    (folder,) = (project.path / "left").iterdir()
    kept = {"report.html", "report.json", "tensors.safetensors", "repro.py"}
    assert {file.name for file in folder.iterdir()} == kept
    repro = subprocess.run(
        [sys.executable, "repro.py"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert "relative difference" in repro.stdout
