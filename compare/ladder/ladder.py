"""The ladder: weights, forward, gradients, step, trajectory; each rung judged on both tiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compare.capture.distance import distance, norm
from compare.capture.taps import Section
from compare.ladder import verdict as V
from compare.ladder.branches import branches, judge_flips
from compare.ladder.coverage import judge_movement, summarise
from compare.ladder.dropout import findings, suspicions
from compare.ladder.judge import Judge
from compare.ladder.noise import mathematical_noise, moved, numerical_noise, together
from compare.ladder.pair import REFERENCE, Pair, parse
from compare.ladder.result import Result
from compare.ladder.unpaired import leftovers
from compare.twin import DEFAULT, TAME, generator

UNCOMPILED = "operation by operation JAX's numbers are right: the difference is the compiler's"


def _met(leaf: str, names: Sequence[str]) -> str:
    both = " and ".join(names)
    return f"{both} meet in {leaf}: their sum is right for the forward pass, not for training"


class Ladder:
    """Runs the ladder of one pair, every candidate backend against torch:cpu in float64.

    Args:
      candidates: backends, as `parse` takes them.
      progress: called with a word on what runs now.
    """

    def __init__(
        self,
        pair: Pair,
        candidates: list[str],
        progress: Callable[[str], None] = lambda _: None,
    ):
        self.pair, self.progress = pair, progress
        self.judges = {name: self._judge(name) for name in candidates}

    def _judge(self, name: str) -> Judge:
        pair, twin = self.pair, self.pair.twin
        return Judge(
            Result(twin.name, REFERENCE, name),
            twin.layout,
            pair.rename,
            self._naming(name),
            pair.uncounted(name),
            pair.weights.modules if parse(name)[0] == "xla" else {},
            pair.frozen,
            pair.weights.ignored if parse(name)[0] == "xla" else (),
            any(callable(phase.optimizer[0]) for phase in twin.updates),
        )

    def _naming(self, candidate: str) -> Callable[[str], str]:
        if parse(candidate)[0] == "torch":
            return lambda name: name
        return lambda name: self.pair.weights.jax_name(name)

    def run(self, dtypes: Sequence[str] = ("float32",), seeking: bool = False) -> list[Result]:
        """Climbs it, in float64 and then in the dtypes of tier 2.

        Args:
          dtypes: "float32", "bfloat16", "float16"; none for float64 alone.
          seeking: the origin of a difference: go on where JAX lacks some of PyTorch's tensors, if
            it can run without them, and train no further than a rung that differs.
        """
        for name, judge in self.judges.items():
            self._weights(name, judge.result)
        weights = self.pair.weights
        able = seeking and not set(weights.unfilled) - self.pair.given.alone.keys()
        able &= not weights.undecided
        ready = {
            name: judge
            for name, judge in self.judges.items()
            if able or not judge.result.stages["weights"].findings
        }
        if ready:
            # One at a time: that the reference runs again costs less than all in memory at once.
            kinks = [self._mathematics(name, judge, seeking) for name, judge in ready.items()]
            chaotic = any(judge.chaotic for judge in ready.values())
            if chaotic and self.pair.twin.optimizer is DEFAULT and not self.pair.twin.phases:
                return self._tamed(dtypes, seeking)
            autocast = self.pair.twin.autocast
            alike = {name: judge for name, judge in ready.items() if not judge.unlike}
            for dtype in (autocast,) if autocast and dtypes else dtypes:
                if alike:
                    self._numerics(alike, kinks[0], dtype)
        for name, judge in self.judges.items():
            if parse(name)[0] == "xla" and (seeking or judge.result.verdict != V.SAME):
                judge.result.unpaired = leftovers(self.pair, judge.result)
        return [judge.result for judge in self.judges.values()]

    def _tamed(self, dtypes: Sequence[str], seeking: bool) -> list[Result]:
        """The ladder once more, with an optimizer under which rounding does not grow as fast."""
        self.pair.train_by(TAME)
        self.judges = {name: self._judge(name) for name in self.judges}
        for judge in self.judges.values():
            judge.result.notes.append("trained by SGD at 0.01: at 0.1, the default, it is chaotic")
        return self.run(dtypes, seeking)

    def _weights(self, name: str, result: Result) -> None:
        """Tier 0: every tensor goes over and comes back bit for bit."""
        stage, given = result.stages["weights"], self.pair.given.state
        if parse(name)[0] == "torch":
            stage.applicable = False  # the same tensors, nothing is carried over
            return
        weights = self.pair.weights
        missing = V.INCONCLUSIVE if weights.undecided else V.DIVERGED
        stage.findings += [(missing, text) for text in weights.differences]
        stage.findings += [(V.DIVERGED, slip.line) for slip in self.pair.given.slips]
        stage.applicable = bool(weights.links or stage.findings)
        stage.findings += [(V.DIVERGED, _met(*each)) for each in weights.summed.items()]
        result.skipped += weights.uncounted
        back = weights.to_torch(weights.to_jax(given))
        lost = {name for names in weights.summed.values() for name in names}
        for key in (name for name in weights.named if name not in lost):
            same = back[key].dtype == given[key].dtype
            same = same and back[key].tobytes() == given[key].tobytes()
            verdict = V.SAME if same else V.DIVERGED
            difference = 0.0 if same else distance(given[key], back[key])
            size, shape = norm(given[key]), given[key].shape
            other = weights.jax_name(key)
            stage.judged.append(V.Judged(key, other, verdict, difference, size, 0.0, shape=shape))
        stage.compared = f"{len(stage.judged)} tensors" + (", yours" if self.pair.own else "")
        result.by_order = [f"{name} = {weights.jax_name(name)}" for name in weights.by_order]
        if result.by_order:
            stage.compared += f", {len(weights.by_order)} by order"

    def _mathematics(
        self, name: str, judge: Judge, seeking: bool
    ) -> dict[str, dict[str, tuple[int, ...]]]:
        """Tier 1 of one candidate; gives the shapes of what the functions with a kink are given."""
        pair = self.pair
        run = pair.run(name)
        if parse(name)[0] == "xla":
            judge.result.rounded = pair.rounded(run)
            pair.given.shared |= run.shared()
        plain = pair.run(REFERENCE, watch=True)
        runs = (plain, run, *moved(pair))
        self._climb(name, judge, runs, [each.sections(trajectory=False) for each in runs])
        if parse(name)[0] == "xla":
            judge.result.notes += run.notes
        parted = any(stage.verdict == V.DIVERGED for stage in judge.result.stages.values())
        trained = pair.compared(name)
        if judge.unlike or (seeking and parted):
            summarise(judge.result, trained)
        else:
            if pair.twin.updates:
                self._climb(name, judge, runs, [each.trajectory() for each in runs])
                judge.trained()
            else:
                text = "Twin(modes=('eval',)): gradients, steps and training were not compared"
                judge.result.notes.append(text)
            summarise(judge.result, trained, self._visible)
        if judge.unlike or not any(pair.given.gradients.values()):  # or all of them are frozen
            for stage in ("step", "trajectory"):
                judge.result.stages[stage].applicable = False
        judge.result.stages["forward"].findings += [
            (
                V.INCONCLUSIVE,
                f"{side} computes below float64: {text}; write the type of its input there",
            )
            for side, narrow in (("PyTorch", plain.narrow), ("JAX", run.narrow))
            for text in narrow
        ]
        self._dropout(name, run, judge)
        judge.result.lifted = [f"torch {text}" for text in plain.lifted]
        judge.result.lifted += [f"jax {text}" for text in run.lifted]
        return plain.kinks

    def _climb(
        self, name: str, judge: Judge, runs: Sequence[Any], sections: list[Iterator[Section]]
    ) -> None:
        """Judges the sections of the reference and the candidate; the other runs were moved."""
        (plain, stream, *shaken), given = sections, self.pair.given
        for section in plain:
            self.progress(" ".join(filter(None, (section.stage, str(section.step or ""), name))))
            noise = mathematical_noise(section, shaken)
            theirs = next(stream)
            if section.stage == "forward":
                judge.meet(runs[0].info, runs[1].info)
                if parse(name)[0] == "xla":
                    self.pair.refuse_places(runs[1].info)
                judge.unlike = set(getattr(runs[1], "unlike", ()))
            judge.judge(section, theirs, noise)
            given.still |= judge.still
            if section.stage == "trajectory" and section.step == given.steps:
                judge_movement(judge.result.stages["trajectory"], section, given.state)
            del section, theirs  # before the next are made

    def _dropout(self, name: str, run: Any, judge: Judge) -> None:
        """What the two sides' masks tell, and random numbers that nobody controls."""
        stage = judge.result.stages["forward"]
        uncontrolled = list(self.pair.noise)
        if parse(name)[0] == "xla":
            for plan in run.plans.values():
                stage.findings += findings(plan)
                if stage.verdict == V.DIVERGED:
                    stage.findings += suspicions(plan)
                uncontrolled += [f"{plan.mode}: JAX draws at {text}" for text in plan.noise]
            if any(plan.ours or plan.theirs for plan in run.plans.values()):
                judge.result.dropout, found = self.pair.own_masks
                stage.findings += found
        elif run.compiled:
            dropped = [mode for mode, draws in self.pair.given.draws.items() if draws]
            stage.findings += [
                (V.INCONCLUSIVE, f"{mode}: torch.compile takes no masks, so dropout ran eagerly")
                for mode in dropped
            ]
        stage.findings += [
            (V.INCONCLUSIVE, f"{text}: noise that is compared has to be an input")
            for text in uncontrolled
        ]

    def _visible(self, name: str) -> bool:
        """Whether a parameter without a gradient moves some value of a forward pass."""
        given = self.pair.given
        rng = generator(self.pair.seed, "visible", name)
        value = given.state[name]
        push = 0.1 * rng.standard_normal(value.shape).astype(value.dtype)
        plain, run = self.pair.run(REFERENCE), self.pair.run(REFERENCE)
        run.replace({**given.state, name: value + push})
        return any(
            distance(base.tensors[key], x) > V.RELATIVE * norm(base.tensors[key])
            for base, moved in together(plain, run)
            if base.stage == "forward"
            for key, x in moved.tensors.items()
            if x.dtype.kind == "f"
        )

    def _numerics(
        self,
        judges: dict[str, Judge],
        kinks: dict[str, dict[str, tuple[int, ...]]],
        dtype: str,
    ) -> None:
        """Tier 2, against the float64 runs on each run's own branches."""
        noise = numerical_noise(self.pair, dtype, self.progress)

        def judged(name: str, judge: Judge) -> bool:
            """Whether some tensor of the run is farther off than rounding takes it."""
            self.progress(f"{dtype} {name}")
            run = self.pair.run(name, noise.stored)

            def taken(mode: str) -> dict[str, np.ndarray]:
                return branches(
                    run.branches[mode], kinks[mode], judge.result.pairing[mode], judge.layout
                )

            truth = self.pair.run(REFERENCE, impose=taken)
            coarser = self.pair.precision == "default" and "cuda" in name
            rounding = replace(noise, least=V.UNIT["tf32"]) if coarser else noise
            for section, exact in together(run, truth):
                judge.judge_numerics(section, exact, rounding)
                del section, exact
            judge_flips(judge.result.stages["forward"], truth.flips, rounding)
            numerics = [j for stage in judge.result.stages.values() for j in stage.numerics]
            return any(j.verdict == V.DIVERGED for j in numerics if j.dtype == dtype)

        for name, judge in judges.items():
            framework, _, mode = parse(name)
            if judged(name, judge) and framework == "xla" and mode != "eager":
                apart = self._judge(f"{name}+eager")
                apart.meet(judge.result.info, judge.result.others)
                if not judged(f"{name}+eager", apart):
                    judge.result.compiler = True
                    judge.result.stages["forward"].findings.append((V.DIVERGED, UNCOMPILED))
