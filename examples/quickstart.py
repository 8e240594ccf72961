"""A PyTorch encoder, a Flax port of it, and the question whether the port is right.

Both models are in this file as a porter has them: written by hand, names and all. `encoder` joins
them; it is all that has to be written. From the root of the repository:

    python examples/quickstart.py                   this file: proves the port, then plants a slip
    diptych check examples.quickstart:encoder       the same check as a command

The slip is the commonest one of all: `jax.nn.gelu` and `flax.linen.gelu` are the approximation by
tanh unless told otherwise, `torch.nn.GELU` is exact. The outputs then differ by less than 1e-3, so
that a test with a loose tolerance passes; the check says DIVERGED and where the two part.
"""

import sys
from dataclasses import replace
from functools import partial

import flax.linen as fnn
import jax
import torch
from torch import nn

from compare.report.console import entry
from compare.report.terminal import make_console
from diptych import Array, Twin, check


class TorchBlock(nn.Module):
    """x + fc2(gelu(fc1(norm(x)))): maps (N, L, D) to (N, L, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 2 * dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(2 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc2(self.act(self.fc1(self.norm(x))))


class TorchEncoder(nn.Module):
    """The original: blocks, and a linear head on the mean over the L steps."""

    def __init__(self, dim: int = 16, blocks: int = 3, classes: int = 4) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(TorchBlock(dim) for _ in range(blocks))
        self.head = nn.Linear(dim, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


class FlaxBlock(fnn.Module):
    """The port. Flax's LayerNorm has an epsilon of 1e-6 unless told otherwise, PyTorch's 1e-5."""

    dim: int
    approximate: bool = False

    @fnn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = fnn.LayerNorm(epsilon=1e-5, name="norm")(x)
        y = fnn.Dense(2 * self.dim, name="fc1")(y)
        y = fnn.gelu(y, approximate=self.approximate)
        return x + fnn.Dense(self.dim, name="fc2")(y)


class FlaxEncoder(fnn.Module):
    """The port of the whole; `approximate` is where the slip goes in."""

    dim: int = 16
    blocks: int = 3
    classes: int = 4
    approximate: bool = False

    @fnn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for index in range(self.blocks):
            x = FlaxBlock(self.dim, self.approximate, name=f"blocks_{index}")(x)
        return fnn.Dense(self.classes, name="head")(x.mean(1))


encoder = Twin(
    torch=TorchEncoder,
    jax=FlaxEncoder,
    inputs={"x": Array((2, 12, 16))},
    rename={r"blocks\.(\d+)": r"blocks_\1"},
    optimizer=("adamw", {"lr": 1e-3}),
    name="encoder",
)

slipped = replace(encoder, jax=partial(FlaxEncoder, approximate=True), name="slipped")


def main() -> int:
    """Checks both; 0 if the port is SAME and the slip is found, in the first block."""
    console = make_console()
    right, wrong = check(encoder), check(slipped)
    for report in (right, wrong):
        entry(console, report.twins[0])
        console.print()
    origin = wrong.origin or {}
    console.print(f"the port is {right.verdict}, with the slip it is {wrong.verdict}")
    console.print(f"they part at {origin.get('torch')} ({origin.get('jax_source')})")
    found = wrong.verdict == "DIVERGED" and str(origin.get("torch")).startswith("blocks.0.")
    return 0 if right.verdict == "SAME" and found else 1


if __name__ == "__main__":
    sys.exit(main())
