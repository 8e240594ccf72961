"""The ladder: weights, forward, gradients, step, trajectory; each rung judged on both tiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compare import verdict as V
from compare.capture import Section
from compare.capture.given import Given, forced, jittered, mode_name
from compare.errors import DiptychError
from compare.layout import align
from compare.optim import START
from compare.pairing import Pairing, pair
from compare.twin import Phase, Twin, generator
from compare.verdict import Judged
from compare.weights import WeightMap
from compare.weights import build as build_map

STAGES = ("weights", "forward", "gradients", "step", "trajectory")
STEPS = 10
MOVED = 1e-3  # what a trajectory must move the parameters by, relative


@dataclass
class Stage:
    """One rung of the ladder.

    Args:
      judged: tier 1, in float64.
      numerics: tier 2, in the backend's own dtype.
      findings: what no tensor's verdict says, with the verdict that it makes.
    """

    name: str
    judged: list[Judged] = field(default_factory=list)
    numerics: list[Judged] = field(default_factory=list)
    findings: list[tuple[str, str]] = field(default_factory=list)
    compared: str = ""
    applicable: bool = True

    @property
    def verdict(self) -> str:
        if not self.applicable:
            return V.NOT_APPLICABLE
        tensors = [j.verdict for j in (*self.judged, *self.numerics)]
        return V.worst([*tensors, *(v for v, _ in self.findings)])

    @property
    def worst(self) -> Judged | None:
        """The tensor that came nearest to its limit, or went farthest beyond it."""
        counted = [j for j in self.judged if j.label not in ("zero", "nan")]
        return max(counted, key=lambda j: j.ratio, default=None)


@dataclass
class Result:
    """What one candidate backend of one twin came to."""

    twin: Twin
    reference: str
    candidate: str
    stages: dict[str, Stage]
    pairing: dict[str, Pairing] = field(default_factory=dict)
    info: dict[str, dict] = field(default_factory=dict)
    others: dict[str, dict] = field(default_factory=dict)
    losses: list[tuple[int, str, float, float]] = field(default_factory=list)
    leaves: int = 0
    moved: int = 0
    buffers: int = 0
    skipped: list[str] = field(default_factory=list)
    lifted: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return V.worst(stage.verdict for stage in self.stages.values())


def _seed(seed: int, *purpose: object) -> int:
    return int(generator(seed, *purpose).integers(2**31))


class Pair:
    """A twin made ready: both models, their weight map, and what every run is given.

    Raises:
      DiptychError: if a model cannot be built or called.
    """

    def __init__(self, twin: Twin, seed: int = 0, steps: int = STEPS):
        from compare.capture import torch_side

        self.twin, self.seed = twin, seed
        self.model = torch_side.construct(twin, _seed(seed, "torch"))
        self.leaves, aliases = torch_side.specification(self.model)
        batch = twin.draw(generator(seed, "inputs"))
        own = torch_side.values(self.model)
        self.given = Given(jittered(own, self.leaves, seed), batch, seed, steps)
        self._aliases = aliases
        self._jax: Any = None
        self._map: WeightMap | None = None
        self._draw()

    def _draw(self) -> None:
        """The cotangents of default losses, the gradients and states of the forced updates."""
        from compare import optim
        from compare.capture import torch_side

        for phase in self.twin.updates:
            if phase.loss is None or (phase.loss == "mse" and not self.twin.targets):
                shapes = self.run("torch:cpu", "float32").shapes(phase)
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

    @property
    def jax_model(self) -> Any:
        if self._jax is None:
            self._jax = self.twin.build("jax")
        return self._jax

    @property
    def weights(self) -> WeightMap:
        if self._map is None:
            from compare.capture import jax_side

            shapes = jax_side.shapes(self.twin, self.jax_model, self.given.batch)
            self._map = build_map(self.leaves, shapes, self.twin.rename, self._aliases)
        return self._map

    def run(self, backend: str, dtype: str = "float64", **options: Any) -> Any:
        """A run of one backend, not yet started: see `TorchRun` and `JaxRun`."""
        framework, device, mode = parse(backend)
        if framework == "torch":
            from compare.capture.torch_side import TorchRun

            compiled = mode == "compile"
            return TorchRun(
                self.twin, self.model, self.given, dtype=dtype, device=device, compiled=compiled, **options
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
        raise DiptychError(
            f"backend {backend!r} is unknown: torch:cpu, torch:cuda (+compile), xla:cpu, xla:cuda (+eager)"
        )
    return framework, device, mode


class Ladder:
    """Runs the ladder of one pair, every candidate backend against torch:cpu in float64.

    Args:
      progress: called with a word on what runs now.
      numerics: whether tier 2 runs.
    """

    reference = "torch:cpu"

    def __init__(
        self,
        pair: Pair,
        candidates: list[str],
        *,
        numerics: bool = True,
        precision: str = "highest",
        progress: Callable[[str], None] = lambda _: None,
    ):
        self.pair, self.candidates, self.numerics = pair, candidates, numerics
        self.precision, self.progress = precision, progress
        self.results = {name: self._blank(name) for name in candidates}
        self._zero: set[str] = set()
        self._kept: dict[str, Section] = {}
        self._branches: dict[str, dict[str, np.ndarray]] = {}

    def _blank(self, candidate: str) -> Result:
        stages = {name: Stage(name) for name in STAGES}
        return Result(self.pair.twin, self.reference, candidate, stages)

    def run(self) -> list[Result]:
        for name, result in self.results.items():
            self._weights(name, result)
        runnable = [n for n, r in self.results.items() if not r.stages["weights"].findings]
        if runnable:
            self._mathematics(runnable)
            if self.numerics:
                self._numerics(runnable)
        return list(self.results.values())

    # Weights.

    def _weights(self, name: str, result: Result) -> None:
        stage = result.stages["weights"]
        framework, _, _ = parse(name)
        given = self.pair.given.state
        if not self.pair.leaves and framework == "torch":
            stage.applicable = False
            return
        weights = self.pair.weights
        stage.findings += [(V.DIVERGED, text) for text in weights.differences]
        result.skipped += weights.uncounted
        if not weights.links:
            stage.applicable = bool(stage.findings)
            return
        back = weights.to_torch(weights.to_jax(given))
        for key in weights.named:
            same = back[key].dtype == given[key].dtype and np.array_equal(back[key], given[key])
            difference = 0.0 if same else V.distance(given[key], back[key])
            stage.judged.append(
                Judged(
                    key,
                    weights.jax_name(key),
                    V.SAME if same else V.DIVERGED,
                    difference,
                    V.norm(given[key]),
                    0.0,
                    shape=given[key].shape,
                )
            )
        stage.compared = f"{len(stage.judged)} tensors"

    # Tier 1.

    def _mathematics(self, names: list[str]) -> None:
        pair = self.pair
        plain = pair.run(self.reference, watch=True)
        moved = [
            pair.run(self.reference, moved=generator(pair.seed, "moved", index)) for index in range(2)
        ]
        others = {name: pair.run(name) for name in names}
        streams = {name: run.sections() for name, run in others.items()}
        shaken = [run.sections() for run in moved]
        chaotic = False
        first = None
        for section in plain.sections():
            self.progress(f"{section.stage} {section.step or ''}".strip())
            noise = _noise(section, [next(stream) for stream in shaken])
            scale = self._label(section, noise)
            for name, stream in streams.items():
                result, theirs = self.results[name], next(stream)
                if section.stage == "forward":
                    self._meet(result, plain, others[name])
                if not chaotic or section.stage not in ("trajectory", "final"):
                    self._judge(result, section, theirs, noise, scale)
            if section.stage == "trajectory":
                first = first or section
                last = section
                chaotic = chaotic or any(
                    j.verdict == V.INCONCLUSIVE
                    for name in names
                    for j in self.results[name].stages["trajectory"].judged
                )
            elif section.stage != "final":
                self._branches = plain.branches
                self._kept[section.stage] = section
        for name in names:
            result = self.results[name]
            self._summarise(result, plain, others[name])
            if first is not None:
                self._movement(result, last)

    def _meet(self, result: Result, plain: Any, other: Any) -> None:
        """Pairs the places that the two runs recorded, in every mode."""
        for mode, info in plain.info.items():
            theirs = other.info.get(mode, {})
            rename = self.pair.twin.rename
            if parse(result.candidate)[0] == "torch":
                both = [key for key in info if key in theirs]
                result.pairing[mode] = Pairing(
                    {k: k for k in both},
                    frozenset(),
                    tuple(k for k in info if k not in theirs),
                    tuple(k for k in theirs if k not in info),
                )
            else:
                result.pairing[mode] = pair(info, theirs, rename)
        result.info, result.others = plain.info, other.info

    def _label(self, section: Section, noise: Mapping[str, float]) -> dict[str, float]:
        """The gradient scale of each mode; remembers parameters whose gradient is zero by analysis."""
        scale: dict[str, float] = {}
        if section.stage != "gradients":
            return scale
        for name, array in section.tensors.items():
            mode, _, rest = name.partition("/")
            if rest.startswith("gradient/param/"):
                scale[mode] = max(scale.get(mode, 0.0), V.norm(array))
        for name, array in section.tensors.items():
            mode, _, rest = name.partition("/")
            if rest.startswith("gradient/param/"):
                size, shake = V.norm(array), noise[name]
                if size < V.ZERO * scale[mode] and V.NOISE * shake > V.RELATIVE * size:
                    self._zero.add(f"{mode}/{rest.removeprefix('gradient/param/')}")
        return scale

    def _inherits(self, name: str) -> bool:
        """Whether a tensor belongs to a parameter whose gradient is analytically zero."""
        if not self._zero or "/forced/" in name:
            return False
        mode, _, rest = name.partition("/")
        if name.startswith("param/"):
            return any(z.partition("/")[2] == rest for z in self._zero)
        for kind in ("gradient/param/", "free/param/", "free/state/", "state/"):
            if rest.startswith(kind):
                leaf = rest.removeprefix(kind)
                leaf = leaf.partition("/")[2] if kind.endswith("state/") else leaf
                return f"{mode}/{leaf}" in self._zero
        return False

    def _counterpart(self, result: Result, name: str) -> str | None:
        """The other side's name for a tensor; None for a layer without a pair."""
        mode, _, rest = name.partition("/")
        for kind in ("layer/", "gradient/layer/"):
            if rest.startswith(kind):
                pairing = result.pairing.get(mode) or result.pairing.get("eval")
                key = pairing.pairs.get(rest.removeprefix(kind)) if pairing else None
                return None if key is None else f"{mode}/{kind}{key}"
        return name

    def _aligned(self, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
        """What the models computed has each side's own layout; all else is in PyTorch's already."""
        if "/out" in name or "/layer/" in name:
            return align(array, shape, self.pair.twin.layout)
        return array if array.shape == shape else None

    def _shown(self, name: str) -> str:
        """A tensor's name on JAX's side, for people."""
        leaf = name.rpartition("/")[2]
        if "/param/" in f"/{name}" and self.pair._map:
            return self.pair.weights.jax_name(leaf) or leaf
        return name

    def _judge(
        self,
        result: Result,
        ours: Section,
        theirs: Section,
        noise: Mapping[str, float],
        scale: Mapping[str, float],
    ) -> None:
        stage = result.stages["trajectory" if ours.stage == "final" else ours.stage]
        step = f"step {ours.step}: " if ours.step else ""
        expected = set()
        for name, t in ours.tensors.items():
            other = self._counterpart(result, name)
            if other is None:
                continue
            expected.add(other)
            j = theirs.tensors.get(other)
            if j is None:
                if "/layer/" not in name:
                    stage.findings.append((V.DIVERGED, f"{step}{name} is missing on the other side"))
                continue
            j = self._aligned(name, j, t.shape)
            if j is None:
                shape = theirs.tensors[other].shape
                stage.findings.append(
                    (V.DIVERGED, f"{step}{name} has shape {t.shape} in PyTorch, {shape} in JAX")
                )
                continue
            judged = V.tier1(
                step + name,
                self._shown(other),
                t,
                j,
                noise[name],
                scale=scale.get(name.partition("/")[0], 0.0),
                zero=self._inherits(name),
            )
            stage.judged.append(judged)
            if name.endswith("/loss") and ours.stage == "trajectory":
                result.losses.append((ours.step, name.removesuffix("/loss"), float(t), float(j)))
        for name in theirs.tensors:
            if name not in expected and "/layer/" not in name and not name.endswith(":in"):
                stage.findings.append((V.DIVERGED, f"{step}{name} has no counterpart in PyTorch"))

    def _movement(self, result: Result, last: Section) -> None:
        """A trajectory counts only if it moved the parameters."""
        stage, state = result.stages["trajectory"], self.pair.given.state
        names = [n.removeprefix("param/") for n in last.tensors if n.startswith("param/")]
        moved = np.hypot.reduce([V.distance(last.tensors[f"param/{n}"], state[n]) for n in names])
        size = np.hypot.reduce([V.norm(state[n]) for n in names])
        if not moved >= MOVED * size:
            stage.findings.append(
                (V.INCONCLUSIVE, f"the parameters moved by {moved / size:.1e} only: raise the learning rate")
            )

    def _summarise(self, result: Result, plain: Any, other: Any) -> None:
        """Coverage, and the words in the column 'compared'."""
        stages = result.stages
        forward, gradients, step = (stages[n] for n in ("forward", "gradients", "step"))
        layers = sum(1 for j in forward.judged if j.name.startswith("eval/layer/"))
        modes = len({j.name.partition("/")[0] for j in forward.judged})
        forward.compared = f"{layers} layers, {modes} modes" if layers else f"outputs, {modes} modes"
        names = [j.name.partition("/")[2] for j in gradients.judged]
        params = sum(n.startswith("gradient/param/") for n in names)
        inputs = sum(n.startswith("gradient/input/") for n in names)
        gradients.compared = f"{params} + {inputs} + {len(names) - params - inputs} tensors"
        if not names:
            gradients.applicable = False
        trains = [n for n, leaf in self.pair.leaves.items() if leaf.trains]
        if trains:
            states = sum("/free/state/" in j.name for j in step.judged)
            free = sum("/free/param/" in j.name for j in step.judged)
            step.compared = f"{free} params, {states} states"
            steps = len({j.name.partition(":")[0] for j in stages["trajectory"].judged if ":" in j.name})
            stages["trajectory"].compared = f"{steps} steps"
        else:
            step.applicable = stages["trajectory"].applicable = False
        result.leaves = len(trains)
        reached = {
            j.name.rpartition("/")[2]
            for j in gradients.judged
            if "/gradient/param/" in j.name and j.size > 0 and j.label != "zero"
        }
        still = [n for n in trains if n not in reached]
        silent = [n for n in still if not self._visible(n)]
        result.moved = result.leaves - len(silent)
        gradients.findings += [
            (V.INCONCLUSIVE, f"{n} has no gradient and moves no output: nothing was shown of it") for n in silent
        ]
        buffers = {j.name.rpartition("/")[2] for j in forward.judged if "/buffer/" in j.name}
        result.buffers = len(buffers)
        forward.findings += [
            (V.INCONCLUSIVE, f"PyTorch computes in {text}") for text in plain.narrow
        ]
        result.lifted = [f"torch {x}" for x in plain.lifted] + [f"jax {x}" for x in other.lifted]

    def _visible(self, name: str) -> bool:
        """Whether a parameter without a gradient moves some value of a forward pass."""
        given = self.pair.given
        rng = generator(self.pair.seed, "visible", name)
        value = given.state[name]
        changed = {**given.state, name: value + 0.1 * rng.standard_normal(value.shape).astype(value.dtype)}
        run = self.pair.run(self.reference)
        run.replace(changed)
        section = next(run.sections(trajectory=False))
        base = self._kept["forward"].tensors
        return any(
            V.distance(base[k], x) > V.RELATIVE * V.norm(base[k])
            for k, x in section.tensors.items()
            if k in base and base[k].dtype.kind == "f"
        )

    # Tier 2.

    def _numerics(self, names: list[str], dtype: str = "float32") -> None:
        pair = self.pair
        unit = V.UNIT[dtype]
        noise: dict[str, float] = {}
        flips: dict[str, list[Any]] = {}
        for index in range(5):
            self.progress(f"{dtype} reference {index + 1} of 5")
            options = {"moved": generator(pair.seed, "reference", index)} if index else {}
            run = pair.run(self.reference, dtype, **options)
            sections = list(run.sections(trajectory=False))
            truth, flipped = self._truth(run.branches)
            for key, flip in flipped.items():
                flips.setdefault(key, []).append(flip)
            for section in sections:
                for name, value in section.tensors.items():
                    if value.dtype.kind == "f":
                        error = V.distance(truth[section.stage].tensors[name], value)
                        noise[name] = max(noise.get(name, 0.0), error)
        for name in names:
            self.progress(f"{dtype} {name}")
            self._numerics_of(name, dtype, unit, noise, flips)

    def _truth(self, branches: Mapping[str, Mapping[str, np.ndarray]]) -> tuple[dict, dict]:
        """The float64 run on the given branches: the plain one, where it takes them by itself."""
        run = self.pair.run(self.reference, impose=branches)
        truth = {section.stage: section for section in run.sections(trajectory=False)}
        return truth, run.flips

    def _numerics_of(
        self, name: str, dtype: str, unit: float, noise: Mapping[str, float], flips: Mapping[str, list]
    ) -> None:
        pair, result = self.pair, self.results[name]
        run = pair.run(name, dtype)
        sections = {s.stage: s for s in run.sections(trajectory=False)}
        truth, flipped = self._truth(self._in_torch_terms(result, run.branches))
        self._flips(result, flipped, flips, unit)
        for stage_name, section in sections.items():
            stage, ours = result.stages[stage_name], truth[stage_name]
            known = [
                noise[n] / size
                for n, t in ours.tensors.items()
                if t.dtype.kind == "f" and (size := V.norm(t)) and not self._inherits(n)
            ]
            median = float(np.median(known)) if known else 0.0
            for key, t in ours.tensors.items():
                other = self._counterpart(result, key)
                r = section.tensors.get(other) if other else None
                if r is None or t.dtype.kind != "f" or self._inherits(key):
                    continue
                r = self._aligned(key, r, t.shape)
                if r is not None:
                    judged = V.tier2(key, self._shown(other), r, t, noise[key], median, unit)
                    stage.numerics.append(judged)

    def _in_torch_terms(self, result: Result, branches: Mapping[str, Mapping]) -> dict[str, dict]:
        """A run's branches under PyTorch's keys and axes."""
        found: dict[str, dict] = {}
        for mode, ours in result.pairing.items():
            for key, other in ours.pairs.items():
                theirs = branches.get(mode, {}).get(other)
                if theirs is not None and key in self._branches.get(mode, {}):
                    theirs = align(theirs, self._branches[mode][key].shape, self.pair.twin.layout)
                    if theirs is not None:
                        found.setdefault(mode, {})[key] = theirs
        return found

    def _flips(self, result: Result, flipped: Mapping, references: Mapping, unit: float) -> None:
        for key, flip in flipped.items():
            others = references.get(key, [])
            most = max((f.count for f in others), default=0)
            error = max((f.error for f in others), default=0.0)
            reach = 4 * max(error, 4 * unit * flip.scale)
            if flip.count > 4 * max(most, 1):
                text = f"{key}: {flip.count} branches differ from float64's, the references' worst is {most}"
                result.stages["forward"].findings.append((V.DIVERGED, text))
            elif flip.farthest > reach:
                text = f"{key}: a branch differs {flip.farthest:.1e} from the kink, rounding reaches {reach:.1e}"
                result.stages["forward"].findings.append((V.DIVERGED, text))


def _noise(section: Section, moved: list[Section]) -> dict[str, float]:
    """N64: how far the worst of the moved runs is from the plain one, by tensor."""
    noise = {}
    for name, t in section.tensors.items():
        others = [m.tensors[name] for m in moved if name in m.tensors]
        noise[name] = max((V.distance(t, o) for o in others), default=0.0)
    return noise
