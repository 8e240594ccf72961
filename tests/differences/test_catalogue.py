"""The catalogue of differences: each is real, and its edit makes it go away."""

from __future__ import annotations

from importlib import metadata

import numpy as np
import pytest
import torch

from compare.differences.catalogue import Site, catalogue
from compare.share import to_numpy
from tests.differences import (
    test_activations,
    test_dtypes,
    test_images,
    test_linalg,
    test_losses,
    test_optimizers,
)

CATALOGUE = catalogue()
VISIBLE, GONE = 1e-8, 1e-12
RULES = (test_activations, test_dtypes, test_images, test_linalg, test_losses)


@pytest.mark.parametrize("code", CATALOGUE)
def test_it_is_seen_and_goes_away(code: str):
    before, after = CATALOGUE[code].measure()
    assert before > VISIBLE if CATALOGUE[code].here else before < GONE
    assert after < GONE


@pytest.mark.parametrize(
    ("installed", "here"), [("0.9", True), ("0.11.1", True), ("0.11.2", False), ("0.12.0.1", False)]
)
def test_what_is_gone_depends_on_the_version(installed: str, here: bool, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda package: installed)
    assert CATALOGUE["DT-11"].here is here
    assert CATALOGUE["DT-10"].here


@pytest.mark.parametrize("code", CATALOGUE)
def test_it_is_told_in_one_line_each(code: str):
    one = CATALOGUE[code]
    for text in (one.title, one.torch, one.jax, one.fix_torch, one.fix_jax):
        assert 0 < len(text) <= 100
        assert "\n" not in text
        assert not text.endswith(".")


def confirmed(code: str, site: Site) -> bool:
    """Whether one of a difference's edits gives JAX's value."""
    edits = CATALOGUE[code].edits
    assert edits is not None
    values = [to_numpy(edit.compute()) for edit in edits(site)]
    fitting = (value for value in values if value.shape == site.theirs.shape)
    return any(np.allclose(value, site.theirs, 1e-12, 0) for value in fitting)


def test_gelu_is_recognised():
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    gelu = torch.nn.functional.gelu
    theirs = to_numpy(gelu(x, approximate="tanh"))
    site = Site("gelu", "output", theirs, to_numpy(gelu(x)), (x,), None, gelu, (x,), {})
    assert confirmed("ACT-01", site)
    site.theirs = theirs * 1.01
    assert not confirmed("ACT-01", site)


def test_every_entry_with_candidates_is_tested():
    """Of functions, losses and optimizers; each file of layers' mistakes asks for its own."""
    rows = [*test_optimizers.UPDATES]
    for module in RULES:
        rows += [*module.PLACES, *getattr(module, "GRADIENTS", ())]
    tested = {row[0] for row in rows} | {"DROP-01", "LA-10"}
    families = ("ACT", "GRAD", "LOSS", "OPT", "SCH", "DT", "IDX", "IMG", "LA", "INIT", "DROP")
    owned = {
        code
        for code, entry in CATALOGUE.items()
        if entry.edits is not None and code.split("-")[0] in families
    }
    assert owned == tested
