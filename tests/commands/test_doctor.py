"""`diptych doctor`: what is there, and what is missing."""

import json

from jaxlib import version

from compare.capture import compiler
from compare.commands.cli import main
from tests.capture.test_compiler import WRONG
from tests.miscompiled import betrayed


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for word in ("torch", "jax", "cache", "threads", "x64", "checks can run"):
        assert word in shown
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["complete"] is True


def test_doctor_names_what_is_missing(capsys, monkeypatch):
    from compare.commands import doctor

    found = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "flax" else found(name))
    assert main(["doctor", "-q"]) == 2
    assert "flax: pip install flax\n" in capsys.readouterr().out


def test_a_canary_that_fails_is_named_with_versions_and_remedy(capsys, monkeypatch):
    dead = compiler.Canary("three times a number", lambda x: betrayed("doctor")(3 * x), ((4,),))
    monkeypatch.setattr(compiler, "CANARIES", (dead, *compiler.CANARIES[1:]))
    assert main(["doctor", "-q"]) == 0  # checks can run
    lines = [line for line in capsys.readouterr().out.splitlines() if "compiled" in line]
    assert [line.split(":")[0] for line in lines] == [
        "compiled   three times a number, float64",
        "compiled   three times a number, float32",
    ]
    assert all(f"jaxlib {version.__version__}; run it without jax.jit" in line for line in lines)


def test_what_the_pinned_version_gets_wrong_is_named(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["canaries"]
    assert len(found) == (2 if WRONG else 0)
    assert all("xla_cpu_experimental_ynn_fusion_type" in line for line in found)
