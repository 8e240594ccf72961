"""Lessons: what the scripts of `examples/` are written with.

    with lesson("train_eval") as same:
        x, _, unseen, _ = split_digits(same.rng, flat=True)
        batches = same.batches(100, 32, x)
        ours, theirs = same.run(run_jax, run_torch, batches, unseen[:2])
        same.row("running variance", ours["variance"][-1], theirs["variance"][-1])
        same.holds("it has moved", abs(theirs["variance"][-1] - 1) > 0.1)

`run` hands both sides the same numbers, each as its framework's arrays, and holds every entry of
what they return to each other; `row` fills a table with a column for each. A lesson fails if its
sides differ, if a claim does not hold, or if it compared nothing.
"""

from __future__ import annotations

import contextlib
import io
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from compare.capture.distance import distance, norm
from compare.data.batches import epochs
from compare.errors import DiptychError
from compare.ladder.verdict import RELATIVE
from compare.report.styled import Text
from compare.report.terminal import in_notebook, make_console
from compare.study.sides import Images, Steps, Weights, carried, gathered, laid_out, stacked

WIDTH, DPI = 8.0, 100  # inches and dots per inch: 800 pixels
NAMED = 8  # comparisons that are named where a lesson says what it held equal


@dataclass
class Options:
    """How lessons are run: the folder for figures, the seed, whether at full length.

    Attributes:
      script: the file's name, which its figures bear.
      key: what the draws of its lessons begin with; "" in scripts whose cells have sides.
    """

    out: Path | None = None
    seed: int = 0
    full: bool = False
    script: str = "notebook"
    key: str = ""


@dataclass
class Lesson:
    """What a lesson has compared; calling it compares one more pair.

    Args:
      cell: the lesson's name.
      options: of the script.

    Attributes:
      rng: NumPy's generator, from which everything random is drawn; both sides get what it gives.
      rows: of the table: name, JAX's number, PyTorch's.
      held: what was held equal: name, relative difference.
      claims: what `holds` was asked, and whether it does.
    """

    cell: str
    options: Options
    compared: int = 0
    worst: float = 0.0
    failures: list[str] = field(default_factory=list)
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    held: list[tuple[str, float]] = field(default_factory=list)
    claims: list[tuple[str, bool]] = field(default_factory=list)
    figure: Path | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        named = f"{self.options.key}:{self.cell}" if self.options.key else self.cell
        key = zlib.crc32(named.encode())
        self.rng = np.random.default_rng(np.random.SeedSequence([self.options.seed, key]))
        self._drawn: Any = None

    @property
    def full(self) -> bool:
        """Whether to run at full length (`--full`)."""
        return self.options.full

    def weights(
        self,
        jax: Any,
        torch: Callable[[], Any],
        *inputs: np.ndarray,
        rename: Mapping[str, str] | None = None,
    ) -> Weights:
        r"""The same starting weights for both sides, drawn by PyTorch's initialisation from `rng`.

        `run` hands JAX's function variables for `net.apply`, and PyTorch's a state for
        `net.load_state_dict`.

        Args:
          jax: the Linen module, or a function that makes it.
          torch: a class or function that makes PyTorch's.
          inputs: an example of what the networks take; images are (N, C, H, W), and Flax's module
            is given them as (N, H, W, C).
          rename: where the layers have other names: patterns of PyTorch's, such as
            `r"layers\.(\d+)"`, and what Flax calls them, `r"Dense_\1"`.
        """
        return Weights(jax, torch, int(self.rng.integers(2**63)), *inputs, rename=rename)

    def images(self, array: np.ndarray) -> Images:
        """Images (N, C, H, W) for `run` and `batches`: JAX is given them with channels last."""
        return Images(array)

    def batches(self, steps: int, size: int, *arrays: Any) -> Steps:
        """Shuffled batches for a training loop: `for x, labels in batches`, with a bar.

        Args:
          steps: how many batches.
          size: examples in each.
          arrays: of one length, an example a row, or `images`; of a single one the batches are
            arrays, of several tuples of them.
        """
        drawn = islice(epochs(self.rng, len(arrays[0]), size), steps)
        batches = [tuple(array[index] for array in arrays) for index in drawn]
        return Steps(batches if len(arrays) > 1 else [batch[0] for batch in batches])

    def steps(self, count: int) -> Steps:
        """The numbers from 0 for a training loop on the same data: `for _ in steps`, with a bar."""
        return Steps(range(count))

    def run(
        self, jax: Callable, torch: Callable, *given: Any, limit: float = RELATIVE
    ) -> tuple[Any, Any]:
        """Runs both sides on the same numbers and holds every entry of what they return equal.

        Args:
          jax, torch: the two functions; each returns a dict. What they return as "weights", Flax's
            variables and a state dict, is compared by PyTorch's names if they were given `weights`.
          given: NumPy arrays, alone or in tuples, lists and dicts, what `weights`, `images`,
            `batches` or `steps` returned, or anything else, which is handed on as it is.
          limit: relative, as of a comparison.

        Returns: what JAX's function returned, and PyTorch's, as NumPy arrays; a list of equal
          shapes is one array, and images are (N, C, H, W).
        """
        ours = jax(*(carried(each, "jax") for each in given))
        theirs = torch(*(carried(each, "torch") for each in given))
        for start in (each for each in given if isinstance(each, Weights)):
            if "weights" in ours:
                named = start.named(ours["weights"])
                ours = ours | {"weights": named}
                theirs = theirs | {"weights": {name: theirs["weights"][name] for name in named}}
        theirs = gathered(theirs)
        ours, theirs = stacked(laid_out(gathered(ours), theirs)), stacked(theirs)
        self("", ours, theirs, limit)
        return ours, theirs

    def __call__(self, name: str, jax: Any, torch: Any, limit: float = RELATIVE) -> None:
        """Holds a value of JAX's to PyTorch's: ||jax - torch|| <= limit ||torch||.

        Args:
          name: what it is.
          jax, torch: arrays or numbers of one shape, or tuples, lists or dicts of them.
          limit: relative; the default is that of `diptych check`, for float64.
        """
        for each, ours, theirs in list(_pairs(name, jax, torch)):
            self.compared += 1
            if ours.shape != theirs.shape:
                self.failures.append(f"{each}: shapes {ours.shape} and {theirs.shape}")
                continue
            difference, size = distance(theirs, ours), norm(theirs)
            relative = difference / size if size else difference
            self.held.append((each, relative))
            self.worst = max(self.worst, relative)
            if not relative <= limit:
                self.failures.append(f"{each}: differs by {relative:.1e}, allowed {limit:.0e}")

    def holds(self, claim: str, truth: Any) -> None:
        """Counts a claim that is no equality of the two: a quality that is reached, a bound."""
        self.compared += 1
        self.claims.append((claim, bool(truth)))
        if not bool(truth):
            self.failures.append(f"does not hold: {claim}")

    def row(self, name: str, jax: Any, torch: Any) -> None:
        """Adds a line to the table of results.

        Args:
          name: what it is.
          jax, torch: a number or a word of each framework.

        Raises: DiptychError for an array of several numbers.
        """
        for value in (jax, torch):
            if not isinstance(value, str) and np.size(value) != 1:
                raise DiptychError(f"row {name!r} takes one number, not {np.shape(value)}")
        self.rows.append((name, _shown(jax), _shown(torch)))

    def axes(self, rows: int = 1, columns: int = 1, height: float = 3.2) -> Any:
        """The axes of the lesson's figure.

        Args:
          rows, columns: of panels; one panel comes by itself, more as an array.
          height: of a row, in inches; the figure is 8 inches (800 pixels) wide.
        """
        from matplotlib.figure import Figure

        self._drawn = Figure(figsize=(WIDTH, height * rows))
        return self._drawn.subplots(rows, columns)

    def result(self) -> dict[str, Any]:
        """What machines are told of it."""
        return {
            "lesson": self.cell,
            "compared": self.compared,
            "worst": _finite(self.worst),
            "failures": self.failures,
            "table": self.rows,
            "held": [[name, _finite(relative)] for name, relative in self.held],
            "claims": self.claims,
            "seconds": round(self.seconds, 1),
            "figure": self.figure.name if self.figure else None,
        }

    def report(self) -> None:
        """Prints, for people, the table, what was held equal, and what failed."""
        console = make_console()
        if self.rows:
            lines = [("", "JAX", "PyTorch"), *self.rows]
            wide = [max(len(line[place]) for line in lines) for place in range(3)]
            for line in lines:
                numbers = "".join(f"{line[place]:>{wide[place] + 3}}" for place in (1, 2))
                console.print(Text(f"  {line[0]:{wide[0]}}{numbers}", "" if line[0] else "bold"))
        if self.held:
            every = list(dict.fromkeys(name for name, _ in self.held))
            names, more = every[:NAMED], len(every) - NAMED
            said = ", ".join(names) + (f" and {more} more" if more > 0 else "")
            console.print(Text(f"  held equal, to {self.worst:.0e}: {said}"))
        for claim, truth in dict.fromkeys(self.claims):
            if truth:
                console.print(Text(f"  holds: {claim}"))
        for failure in self.failures:
            console.print(Text(f"  {failure}", "bold red"))

    def close(self) -> None:
        """Saves the figure, or shows it where the lesson runs in a notebook."""
        if self._drawn is None:
            return
        self._drawn.tight_layout()
        if in_notebook():
            from IPython.display import Image, display

            self._drawn.savefig(drawn := io.BytesIO(), dpi=DPI, format="png")
            display(Image(drawn.getvalue()))
        elif self.options.out is not None:
            self.options.out.mkdir(parents=True, exist_ok=True)
            self.figure = self.options.out / f"{self.options.script}_{self.cell}.png"
            self._drawn.savefig(self.figure, dpi=DPI)


options, ran = Options(), []


def both(array: Any) -> tuple[Any, Any]:
    """The same numbers, once for each framework: JAX's, PyTorch's."""
    from compare.share import to_jax, to_torch

    return to_jax(array), to_torch(array)


@contextlib.contextmanager
def lesson(cell: str) -> Iterator[Lesson]:
    """A lesson, in float64 on both sides; it fails if what it compares differs, or is nothing.

    Args:
      cell: its name, that of its prose.

    Raises: in a notebook, DiptychError where it fails; a script goes on to the next.
    """
    import jax
    import torch

    same = Lesson(cell, options)
    ran.append(same)
    began, default = time.perf_counter(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with jax.enable_x64(True):
            yield same
        same.close()
    except Exception as error:
        same.failures.append(f"{type(error).__name__}: {error}")
        raise
    finally:
        torch.set_default_dtype(default)
        same.seconds = time.perf_counter() - began
    if not same.compared:
        same.failures.append("compared nothing")
    same.report()
    if same.failures and in_notebook():
        raise DiptychError(f"{cell}: {'; '.join(same.failures)}")


def _shown(value: Any) -> str:
    """A number to six digits; anything else as it is."""
    if isinstance(value, str):
        return value
    number = np.asarray(value).item()
    return str(number) if isinstance(number, (bool, int)) else f"{number:.6g}"


def _finite(value: float) -> float | str:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else str(value)


def _pairs(name: str, jax: Any, torch: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The arrays of two nested values, side by side."""
    if isinstance(torch, dict):
        if set(torch) != set(jax):
            raise ValueError(f"{name}: the names differ: {sorted(jax)} and {sorted(torch)}")
        for key in torch:
            yield from _pairs(f"{name}.{key}" if name else str(key), jax[key], torch[key])
    elif isinstance(torch, (tuple, list)):
        for index, (ours, theirs) in enumerate(zip(jax, torch, strict=True)):
            yield from _pairs(f"{name}.{index}", ours, theirs)
    else:
        detached = torch.detach() if hasattr(torch, "detach") else torch
        yield name, np.asarray(jax), np.asarray(detached)
