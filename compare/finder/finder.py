"""The finder: the first place where two models part, and why.

Every layer of the JAX model is run alone, on the inputs that PyTorch's layer had, all of them in
one pass: at each named place the value that was computed is recorded, and PyTorch's goes on. What
then differs differs by itself; every other difference was inherited. Backwards it is the same: each
layer gets the gradient that PyTorch's layer got. Between two named layers lies glue, which is
checked like a layer: a layer's input, as the outputs before it make it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from compare.finder.cause import cause
from compare.finder.compiler import compiled, excused
from compare.finder.found import Found, Origin
from compare.finder.lint import lint
from compare.finder.origin import locate
from compare.finder.replay import Replay
from compare.finder.settled import settled
from compare.finder.sites import sites
from compare.finder.slipped import slipped, summed
from compare.finder.trials import trial
from compare.ladder import verdict as V
from compare.ladder.ladder import Ladder
from compare.ladder.pair import Pair


def find(pair: Pair, progress: Callable[[str], None] = lambda _: None) -> Found:
    """Compares a pair, and where it differs names the origin and the cause.

    Args:
      pair: the twin made ready.
      progress: called with a word on what runs.
    """
    progress("lint")
    hints = lint(pair)
    ladder = Ladder(pair, ["xla:cpu"], progress)
    # What differs in float64 is no rounding; a leaf that JAX lacks is found where it is missed.
    (result,) = ladder.run((), seeking=True)
    found = Found(result, lint=hints)
    if result.verdict != V.DIVERGED:
        if not pair.weights.unfilled:
            compiled(pair, found, progress)
        return found
    judge = ladder.judges["xla:cpu"]
    replay, replayed = Replay(pair, judge, progress), None
    wrong = result.stages["weights"].verdict == V.DIVERGED
    ran = not wrong or bool(result.stages["forward"].judged)
    if ran:
        replayed, found.rows = locate(replay)
    slips, change = pair.given.slips, None
    if not wrong and pair.own and result.stages["forward"].verdict == V.DIVERGED:
        slips, change = trial(pair, progress)
        result.stages["weights"].findings += [(V.DIVERGED, slip.line) for slip in slips]
    if slips:
        slipped(found, slips[0], pair.leaves[slips[0].link.torch].layer, change)
        return found
    reached = [result.stages[name].verdict for name in ("forward", "gradients")]
    if pair.weights.summed and not pair.weights.differences and V.DIVERGED not in reached:
        summed(found, replay)
        return found
    if ran:
        found.origin = settled(replay, replayed)
    if wrong:
        stage = result.stages["weights"]
        names = [re.split("[ ,:]", text)[0] for _, text in stage.findings]
        names += [j.name for j in stage.judged if j.verdict == V.DIVERGED]
        theirs = names[0] in ["/".join(path[1:]) for path in pair.weights.unfilled]
        both = ("", names[0]) if theirs else (names[0], "")
        if found.origin and found.origin.stage in ("step", "trajectory"):  # that it is not there
            found.origin = None
        found.origin = found.origin or Origin("weights", *both, what="weights")
        found.origin.stage = "weights"
    if found.origin is not None:
        progress("cause")
        # The values of a smaller place are not at hand; what it may be is tried in the whole.
        found.sites = list(sites(replay, replayed or found.origin))
        found.cause, found.tried = cause(found.sites)
        if found.cause is None and not wrong:
            excused(replay, found, progress)
    return found
