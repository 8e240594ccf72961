"""The ladder: weights, forward, gradients, step, trajectory; each rung judged on both tiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from compare import verdict as V
from compare.capture import Section
from compare.capture.given import Given, forced, jittered, mode_name
from compare.errors import DiptychError
from compare.judge import Judge, Result
from compare.optim import START
from compare.twin import Twin, generator
from compare.weights import Order, WeightMap
from compare.weights import build as build_map

STEPS = 10
REFERENCE = "torch:cpu"


def _seed(seed: int, *purpose: object) -> int:
    return int(generator(seed, *purpose).integers(2**31))


class Pair:
    """A twin made ready: both models, their weight map, and what every run is given.

    Raises:
      DiptychError: if a model cannot be built or called.
    """

    def __init__(self, twin: Twin, seed: int = 0, steps: int = STEPS, precision: str = "highest"):
        from compare.capture import torch_side

        self.twin, self.seed, self.precision = twin, seed, precision
        self.model = torch_side.construct(twin, _seed(seed, "torch"))
        self.leaves, aliases = torch_side.specification(self.model)
        batch = twin.draw(generator(seed, "inputs"))
        own = torch_side.values(self.model)
        self.given = Given(jittered(own, self.leaves, seed), batch, seed, steps)
        self._aliases = aliases
        self.noise: dict[str, None] = {}
        self._draw()

    def _draw(self) -> None:
        """The cotangents of default losses, the gradients and states of the forced updates."""
        from compare import optim
        from compare.capture import torch_side

        run = self.run("torch:cpu", "float32")
        self._rehearsed("eval", run.rehearse(None)[1])
        for phase in self.twin.updates:
            shapes, masks = run.rehearse(phase)
            self._rehearsed(mode_name(phase), masks)
            if phase.loss is None or (phase.loss == "mse" and not self.twin.targets):
                rng = generator(self.seed, "cotangent", phase.name)
                self.given.cotangents[phase.name] = [
                    rng.standard_normal(shape, np.float32) for shape in shapes
                ]
            names = [n for n, leaf in self.leaves.items() if leaf.trains]
            trained = torch_side.trained(self.model, phase)
            slots = optim.slots(phase.optimizer) if names else []
            gradients, state = forced(
                self.given.state, [n for n in names if n in trained], slots, self.seed, START
            )
            self.given.gradients[phase.name] = gradients
            self.given.optimizer[phase.name] = state

    def _rehearsed(self, mode: str, masks: Any) -> None:
        self.given.draws[mode] = masks.draws
        self.noise |= {f"{mode}: PyTorch draws at {text}": None for text in masks.noise}

    @cached_property
    def jax_model(self) -> Any:
        return self.twin.build("jax")

    @cached_property
    def weights(self) -> WeightMap:
        from compare.capture import jax_side

        twin, model, batch = self.twin, self.jax_model, self.given.batch

        def order() -> Order:
            ours = self.run(REFERENCE, "float32").order()
            return Order(ours, *jax_side.order(twin, model, batch))

        return build_map(
            self.leaves,
            jax_side.shapes(twin, model, batch),
            twin.rename,
            self._aliases,
            jax_side.kinds(twin, model, batch, self.leaves),
            None if twin.room else order,  # the catalogue's names are equal
            jax_side.is_bare(model),
        )

    @cached_property
    def own_masks(self) -> tuple[str, list[tuple[str, str]]]:
        """What the sampler of each side does by itself, that is without the masks it is given."""
        from compare.capture.samplers import sampler

        return sampler(self)

    def uncounted(self, backend: str) -> list[str]:
        """Tensors of PyTorch's that a backend has not, and need not have."""
        if parse(backend)[0] == "torch":
            return []
        named = set(self.weights.named)
        return [name for name in self.leaves if name not in named]

    def run(self, backend: str, dtype: str = "float64", **options: Any) -> Any:
        """A run of one backend, not yet started: see `TorchRun` and `JaxRun`."""
        framework, device, mode = parse(backend)
        if framework == "torch":
            from compare.capture.torch_side import TorchRun

            compiled = mode == "compile"
            return TorchRun(
                self.twin,
                self.model,
                self.given,
                dtype=dtype,
                device=device,
                compiled=compiled,
                **options,
            )
        from compare.capture.jax_side import JaxRun

        return JaxRun(
            self.twin,
            self.jax_model,
            self.weights,
            self.given,
            dtype=dtype,
            device=device,
            jit=mode != "eager",
            precision=self.precision,
            **options,
        )


def parse(backend: str) -> tuple[str, str, str]:
    """ "torch:cpu+compile" -> ("torch", "cpu", "compile").

    Raises:
      DiptychError: for a name that is no backend.
    """
    place, _, mode = backend.partition("+")
    framework, _, device = place.partition(":")
    modes = {"torch": ("", "compile"), "xla": ("", "eager")}
    if framework not in modes or device not in ("cpu", "cuda") or mode not in modes[framework]:
        known = "torch:cpu, torch:cuda (+compile), xla:cpu, xla:cuda (+eager)"
        raise DiptychError(f"backend {backend!r} is unknown: {known}")
    return framework, device, mode


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
        twin = pair.twin
        self.judges = {
            name: Judge(
                Result(twin.name, REFERENCE, name),
                twin.layout,
                twin.rename,
                self._naming(name),
                pair.uncounted(name),
                pair.weights.modules if parse(name)[0] == "xla" else {},
            )
            for name in candidates
        }

    def _naming(self, candidate: str) -> Callable[[str], str]:
        if parse(candidate)[0] == "torch":
            return lambda name: name
        return lambda name: self.pair.weights.jax_name(name)

    def run(self, numerics: bool = True, seeking: bool = False) -> list[Result]:
        """Climbs it; without `numerics` in float64 alone.

        Args:
          seeking: the origin of a difference: go on where JAX lacks some of PyTorch's tensors, if
            it can run without them, and train no further than a rung that differs.
        """
        for name, judge in self.judges.items():
            self._weights(name, judge.result)
        able = seeking and not self.pair.weights.unfilled
        ready = {
            name: judge
            for name, judge in self.judges.items()
            if able or not judge.result.stages["weights"].findings
        }
        if ready:
            # One at a time: that the reference runs again costs less than all in memory at once.
            kinks = [self._mathematics(name, judge, seeking) for name, judge in ready.items()]
            if numerics:
                self._numerics(ready, kinks[0])
        return [judge.result for judge in self.judges.values()]

    def _weights(self, name: str, result: Result) -> None:
        """Tier 0: every tensor goes over and comes back bit for bit."""
        stage, given = result.stages["weights"], self.pair.given.state
        if parse(name)[0] == "torch":
            stage.applicable = False  # the same tensors, nothing is carried over
            return
        weights = self.pair.weights
        stage.findings += [(V.DIVERGED, text) for text in weights.differences]
        stage.applicable = bool(weights.links or stage.findings)
        result.skipped += weights.uncounted
        back = weights.to_torch(weights.to_jax(given))
        for key in weights.named:
            same = back[key].dtype == given[key].dtype
            same = same and back[key].tobytes() == given[key].tobytes()
            verdict = V.SAME if same else V.DIVERGED
            difference = 0.0 if same else V.distance(given[key], back[key])
            size, shape = V.norm(given[key]), given[key].shape
            other = weights.jax_name(key)
            stage.judged.append(V.Judged(key, other, verdict, difference, size, 0.0, shape=shape))
        stage.compared = f"{len(stage.judged)} tensors"
        result.by_order = [f"{name} = {weights.jax_name(name)}" for name in weights.by_order]
        if result.by_order:
            stage.compared += f", {len(weights.by_order)} by order"

    def _mathematics(
        self, name: str, judge: Judge, seeking: bool
    ) -> dict[str, dict[str, tuple[int, ...]]]:
        """Tier 1 of one candidate; gives the shapes of what the functions with a kink are given."""
        pair = self.pair
        plain, run = pair.run(REFERENCE, watch=True), pair.run(name)
        if parse(name)[0] == "xla":
            pair.given.shared |= run.shared()
        runs = (plain, run, *moved(pair))
        self._climb(name, judge, runs, [each.sections(trajectory=False) for each in runs])
        parted = any(stage.verdict == V.DIVERGED for stage in judge.result.stages.values())
        trained = [n for n, leaf in pair.leaves.items() if leaf.trains]
        if seeking and parted:
            judge.summarise(trained)
        else:
            self._climb(name, judge, runs, [each.trajectory() for each in runs])
            judge.summarise(trained, self._visible)
        judge.result.stages["forward"].findings += [
            (V.INCONCLUSIVE, f"{side} computes below float64: {text}")
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
            judge.judge(section, theirs, noise)
            given.still |= judge.zero
            if section.stage == "trajectory" and section.step == given.steps:
                judge.judge_movement(section, given.state)
            del section, theirs  # before the next are made

    def _dropout(self, name: str, run: Any, judge: Judge) -> None:
        """What the two sides' masks tell, and random numbers that nobody controls."""
        stage = judge.result.stages["forward"]
        uncontrolled = list(self.pair.noise)
        if parse(name)[0] == "xla":
            for plan in run.plans.values():
                stage.findings += plan.findings()
                if stage.verdict == V.DIVERGED:
                    stage.findings += plan.suspicions()
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
            V.distance(base.tensors[key], x) > V.RELATIVE * V.norm(base.tensors[key])
            for base, moved in _together(plain, run)
            if base.stage == "forward"
            for key, x in moved.tensors.items()
            if x.dtype.kind == "f"
        )

    def _numerics(
        self,
        judges: dict[str, Judge],
        kinks: dict[str, dict[str, tuple[int, ...]]],
        dtype: str = "float32",
    ) -> None:
        """Tier 2, against the float64 runs on each run's own branches."""
        noise, flips = numerical_noise(self.pair, dtype, self.progress)
        for name, judge in judges.items():
            self.progress(f"{dtype} {name}")
            run = self.pair.run(name, dtype)

            def taken(mode: str, run: Any = run, judge: Judge = judge) -> dict[str, np.ndarray]:
                return judge.branches(run.branches[mode], kinks[mode], mode)

            truth = self.pair.run(REFERENCE, impose=taken)
            unit = V.UNIT["tf32" if self.pair.precision == "default" and "cuda" in name else dtype]
            for section, exact in _together(run, truth):
                judge.judge_numerics(section, exact, noise, unit)
                del section, exact
            judge.judge_flips(truth.flips, flips, unit)


def _together(run: Any, truth: Any) -> Iterator[tuple[Section, Section]]:
    """Sections of a run and of the float64 run on its branches, side by side, none kept."""
    others = truth.sections(False)
    return map(lambda section: (section, next(others)), run.sections(False))  # noqa: C417


def moved(pair: Pair) -> list[Any]:
    """Two float64 reference runs with weights and inputs moved by one random ulp."""
    return [pair.run(REFERENCE, moved=("moved", i)) for i in range(2)]


def mathematical_noise(section: Section, streams: list[Iterator[Section]]) -> dict[str, float]:
    """N64: how far the worst of the moved runs is from the plain one, by tensor."""
    noise = dict.fromkeys(section.tensors, 0.0)
    for stream in streams:
        other = next(stream).tensors
        for name, t in section.tensors.items():
            if name in other:
                noise[name] = max(noise[name], V.distance(t, other[name]))
        del other  # before the next is made
    return noise


def numerical_noise(
    pair: Pair, dtype: str, progress: Callable[[str], None]
) -> tuple[dict[str, float], dict[str, list[Any]]]:
    """N: the worst error of five reference runs of a dtype, by tensor; and their branch flips."""
    noise: dict[str, float] = {}
    flips: dict[str, list[Any]] = {}
    for index in range(5):
        progress(f"{dtype} reference {index + 1} of 5")
        move = {"moved": ("reference", index)} if index else {}
        run = pair.run(REFERENCE, dtype, **move)
        truth = pair.run(REFERENCE, impose=run.branches.__getitem__)
        for section, exact in _together(run, truth):
            errors = {
                name: V.distance(exact.tensors[name], value)
                for name, value in section.tensors.items()
                if value.dtype.kind == "f"
            }
            noise |= {name: max(noise.get(name, 0.0), error) for name, error in errors.items()}
            del section, exact
        for key, flip in truth.flips.items():
            flips.setdefault(key, []).append(flip)
    return noise, flips
