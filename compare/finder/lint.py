"""What the layers say of themselves: hyper-parameters that differ, found before anything runs.

Both models are built and JAX's is traced for its modules; no value is computed.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compare.twin import Twin, generator

if TYPE_CHECKING:
    from compare.ladder.pair import Pair

Fields = dict[str, Any]
UNKNOWN = object()  # a value that says nothing that can be compared


@dataclass(frozen=True)
class Finding:
    """One hyper-parameter that differs between two layers that are paired.

    Args:
      torch, jax: the layers' names.
      what: PyTorch's name for it.
      ours, theirs: the values as each side has them.
      line: all of it, for people.
    """

    torch: str
    jax: str
    what: str
    ours: Any
    theirs: Any
    line: str


@dataclass(frozen=True)
class Rule:
    """One of torch's attributes and what it is called elsewhere.

    Args:
      what: torch's attribute.
      fields: the other libraries' names for it.
      layers: the torch layers that it belongs to, by the beginnings of their names; default all.
      ours, theirs: `ours(value, module)` and `theirs(value, fields, kind)` give a common form.
    """

    what: str
    fields: tuple[str, ...]
    layers: tuple[str, ...] = ()
    ours: Callable[[Any, Any], Any] = lambda value, module: value
    theirs: Callable[[Any, Fields, str], Any] = lambda value, fields, kind: value


def hyperparameters(twin: Twin, model: Any) -> dict[str, tuple[str, Fields]]:
    """What JAX's layers say of themselves: by path, "library class" and the values of their fields.

    Args:
      model: JAX's side of the twin; a plain function has no layers.
    """
    from flax import linen as nn

    from compare.capture import bring, jax_model

    found: dict[str, tuple[str, Fields]] = {}
    if bring.is_module(model):
        for path, module in bring.modules(model):
            found["/".join(path)] = bring.kind(module), _fields(module)
        return found
    if isinstance(model, tuple):
        model = getattr(model[0], "__self__", None)
    if not isinstance(model, nn.Module):
        return {}

    def record(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        module = context.module
        found.setdefault("/".join(module.path), (bring.kind(module), _fields(module)))
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        jax_model.shapes(twin, model, twin.draw(generator(0, "inputs")))
    return found


def _fields(module: Any) -> Fields:
    if dataclasses.is_dataclass(module):
        names = [f.name for f in dataclasses.fields(module)]
    else:
        names = list(vars(module))
    hidden = ("parent", "name")
    return {n: getattr(module, n) for n in names if n not in hidden and hasattr(module, n)}


def _each(value: Any, rank: int, default: int = 1) -> tuple[int, ...]:
    """A value for every axis of the window."""
    if value is None:
        value = default
    return (int(value),) * rank if isinstance(value, int) else tuple(int(v) for v in value)


def _window(fields: Fields, kind: str) -> tuple[int, ...]:
    """The kernel's size, which says how many axes there are; one number means two of a Conv2d."""
    size = fields.get("kernel_size", ())
    axes = re.search(r"([123])d$", kind)
    return _each(size, int(axes[1]) if axes else 1)


def _per_axis(name: str) -> Rule:
    def theirs(value: Any, fields: Fields, kind: str) -> Any:
        return _each(value, len(_window(fields, kind)))

    names = {"stride": ("strides", "stride"), "dilation": ("kernel_dilation", "dilation")}
    return Rule(name, names[name], ("Conv",), lambda v, module: tuple(v), theirs)


def _torch_padding(value: Any, module: Any) -> Any:
    extra = module.output_padding if "Transpose" in type(module).__name__ else None
    return _padding(value, module.kernel_size, module.dilation, extra)


def _padding(value: Any, size: tuple, dilation: tuple, extra: Any = None) -> Any:
    """Pairs of paddings by axis, of what PyTorch is told; with `extra` of a transposed one."""
    if value == "valid":
        return ((0, 0),) * len(size)
    spans = [d * (k - 1) for k, d in zip(size, dilation, strict=True)]
    if value == "same":
        return tuple((span // 2, span - span // 2) for span in spans)
    pads = _each(value, len(size))
    if extra is None:
        return tuple((p, p) for p in pads)
    more = _each(extra, len(size))
    return tuple((s - p, s - p + m) for s, p, m in zip(spans, pads, more, strict=True))


def _jax_padding(value: Any, fields: Fields, kind: str) -> Any:
    """Pairs of paddings by axis; "SAME" itself where the input's size decides."""
    size = _window(fields, kind)
    rank = len(size)
    strides = _each(fields.get("strides", fields.get("stride")), rank)
    dilation = _each(fields.get("kernel_dilation", fields.get("dilation")), rank)
    spans = [d * (k - 1) for k, d in zip(size, dilation, strict=True)]
    transposed = "Transpose" in kind
    if re.fullmatch(r"Conv(Transpose)?[123]d", kind):  # PyTorch's own name, and so its terms
        extra = fields.get("output_padding", 0) if transposed else None
        return _padding(value, size, dilation, extra)
    if isinstance(value, str):
        if value not in ("SAME", "VALID"):
            return value
        if not transposed:
            if value == "VALID":
                return ((0, 0),) * rank
            if max(strides) > 1:
                return f"{value!r} at stride {max(strides)}"
            return tuple((span // 2, span - span // 2) for span in spans)
        if kind.startswith("Equinox"):
            return UNKNOWN
        pads = []
        for span, stride in zip(spans, strides, strict=True):
            total = span + stride - 1 + (max(span + 1 - stride, 0) if value == "VALID" else 0)
            short = value == "SAME" and stride <= span
            first = math.ceil(total / 2) if short else span
            pads.append((first, total - first))
        return tuple(pads)
    given = (value,) * rank if isinstance(value, int) else tuple(value)
    pairs = tuple((p, p) if isinstance(p, int) else tuple(p) for p in given)
    if transposed and kind.startswith("Equinox"):
        extra = _each(fields.get("output_padding"), rank, 0)
        return tuple(
            (s - a, s - b + more) for s, (a, b), more in zip(spans, pairs, extra, strict=True)
        )
    return pairs


def _jax_momentum(value: Any, fields: Fields, kind: str) -> Any:
    """Flax keeps what torch takes; a layer of the user's own may mean either, or None."""
    if value is None:
        return Either(None)
    return 1 - value if kind.startswith(("Linen", "NNX")) else Either(value, 1 - value)


class Either(tuple):
    """Values of which one must be the other side's."""

    def __new__(cls, *values: Any) -> Either:
        return super().__new__(cls, values)


def _axes(value: Any, *_: Any) -> tuple[int, ...]:
    return tuple(sorted((value,) if isinstance(value, int) else value))


def _whole(value: Any, module: Any) -> tuple[int, ...]:
    return tuple(value)


def _trailing(value: Any, *_: Any) -> tuple[int, ...]:
    return tuple(range(-len(value), 0))


def _present(value: Any, module: Any) -> bool:
    return value is not None and value is not False


NORMS = ("LayerNorm", "GroupNorm", "BatchNorm", "InstanceNorm", "RMSNorm")
WEIGHTED = ("Linear", "Conv", *NORMS)
RECURRENT = ("LSTM", "GRU", "RNN")
RULES = (
    Rule("eps", ("eps", "epsilon"), NORMS),
    Rule("momentum", ("momentum",), ("BatchNorm", "InstanceNorm"), theirs=_jax_momentum),
    _per_axis("stride"),
    _per_axis("dilation"),
    Rule(
        "kernel_size",
        ("kernel_size",),
        ("Conv",),
        lambda v, m: tuple(v),
        lambda v, f, k: _window(f, k),
    ),
    Rule("padding", ("padding",), ("Conv",), _torch_padding, _jax_padding),
    Rule("groups", ("feature_group_count", "groups"), ("Conv",)),
    Rule("num_groups", ("num_groups", "groups"), ("GroupNorm",)),
    Rule("bias", ("use_bias",), WEIGHTED, _present),
    Rule("in_proj_bias", ("use_bias", "use_query_bias"), ("MultiheadAttention",), _present),
    Rule("weight", ("use_scale", "use_weight"), NORMS, _present),
    Rule("normalized_shape", ("reduction_axes",), ("LayerNorm",), _trailing, _axes),
    Rule("normalized_shape", ("shape",), ("LayerNorm",), _whole),
    Rule("num_heads", ("num_heads",), ("MultiheadAttention",)),
    Rule("p", ("rate", "p"), ("Dropout", "AlphaDropout", "FeatureAlphaDropout")),
    Rule("dropout", ("dropout_rate", "dropout"), ("MultiheadAttention",)),
    Rule("hidden_size", ("hidden_size", "hidden_features", "features"), RECURRENT),
    Rule("num_layers", ("num_layers",), RECURRENT),
    Rule("bidirectional", ("bidirectional",), RECURRENT),
    Rule("nonlinearity", ("nonlinearity",), RECURRENT),
    Rule("batch_first", ("time_major",), RECURRENT, theirs=lambda v, f, k: not v),
    Rule("bias", ("use_bias",), RECURRENT),
    Rule("negative_slope", ("negative_slope",), ("LeakyReLU",)),
    Rule("approximate", ("approximate",), ("GELU",), lambda v, m: v == "tanh"),
    Rule("ceil_mode", ("use_ceil",), ("AvgPool", "MaxPool")),
    Rule("dim", ("axis", "dim"), ("Softmax", "LogSoftmax")),
)


def lint(pair: Pair) -> list[Finding]:
    """The hyper-parameters that differ between paired layers, in the order of PyTorch's modules.

    Args:
      pair: both models, made ready; neither is run.
    """
    import torch

    if not isinstance(pair.model, torch.nn.Module):
        return []
    layers = hyperparameters(pair.twin, pair.jax_model)
    findings = []
    for name, module in pair.model.named_modules():
        base = _base(module)
        path = _path(pair, name, module, layers) if base else None
        if base is None or path is None:
            continue
        known = [layers[p] for p in (path, f"{path}/cell".lstrip("/")) if p in layers]
        for rule in RULES:
            if rule.layers and not base.startswith(rule.layers):
                continue
            if hasattr(module, rule.what):
                findings += _compared(name, path, module, rule, known)
    return findings


def _base(module: Any) -> str | None:
    """The class of torch.nn that a module is, or is derived from."""
    for cls in type(module).__mro__:
        if cls.__module__.startswith("torch.nn.modules.") and cls.__name__ != "Module":
            return cls.__name__
    return None


def _path(pair: Pair, name: str, module: Any, layers: dict[str, tuple[str, Fields]]) -> str | None:
    """JAX's layer beside one of PyTorch's: by name, else by the weights that they share."""
    from compare.weights.link import renamed

    path = renamed(name, pair.rename)
    if path in layers:
        return path
    if not any(True for _ in module.parameters(recurse=False)):
        return None
    shared = {
        "/".join(link.jax[1:-1])
        for link in pair.weights.links
        if link.torch.rpartition(".")[0] == name
    }
    path = shared.pop() if len(shared) == 1 else None
    return path if path in layers else None


def _compared(
    name: str, path: str, module: Any, rule: Rule, known: list[tuple[str, Fields]]
) -> Iterator[Finding]:
    """The finding of one rule on two layers, if they differ."""
    raw = getattr(module, rule.what)
    ours = rule.ours(raw, module)
    for kind, fields in known:
        field = next((f for f in rule.fields if f in fields), None)
        if field is None:
            continue
        value = fields[field]
        if rule.what == "dropout" and not isinstance(value, float):
            value = getattr(value, "p", value)  # Equinox's attention holds a Dropout
        theirs = rule.theirs(value, fields, kind)
        if theirs is UNKNOWN or _same(ours, theirs):
            return
        if rule.what in ("bias", "weight", "in_proj_bias"):
            raw = ours
        line = (
            f"{name} / {path}: {rule.what}={raw!r} in PyTorch, {field}={value!r} in JAX"
            f"{_because(rule, theirs)}"
        )
        yield Finding(name, path, rule.what, raw, value, line)
        return


def _because(rule: Rule, theirs: Any) -> str:
    if rule.what == "momentum" and not isinstance(theirs, Either):
        return "; Flax's is the share of the old value, PyTorch's that of the new one"
    if rule.what == "padding" and isinstance(theirs, str):
        return f"; {theirs} pads as the input's size has it, more after than before"
    return ""


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, Either):
        return any(_same(ours, value) for value in theirs)
    if isinstance(ours, float) and isinstance(theirs, (int, float)):
        return math.isclose(ours, theirs, rel_tol=1e-9)
    return bool(ours == theirs)
