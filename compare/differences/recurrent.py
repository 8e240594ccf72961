"""Recurrent layers: gate orders, biases, carries, directions and padded sequences."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import flax64, gap, gaps, jax64, normal
from compare.differences.shared.frameworks import fnn, jax, jnp, nn, torch
from compare.differences.shared.layers import Variant, rewritten
from compare.differences.shared.recurrence import (
    GATES,
    KINDS,
    habit,
    imitated,
    rows_of,
    stem_of,
)

B, T, I, H = 2, 5, 3, 4


def _layer(kind: str, **options: Any) -> Any:
    """A PyTorch layer with batch_first and generic float64 weights."""
    module = getattr(nn, kind)(I, H, **{"batch_first": True, **options}).double()
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=index, scale=0.6))
    return module.requires_grad_(False)


def _lstm(module: Any, cell: str = "_l0", gates: str = "ifgo", bias: Any = None) -> dict[str, Any]:
    """flax.linen's parameters of an LSTM; `gates` is the order the rows are taken to be in."""
    rows = rows_of(module, cell)
    bias = rows["bias_ih"] + rows["bias_hh"] if bias is None else bias
    params = {}
    for k, gate in enumerate(gates):
        at = slice(k * H, (k + 1) * H)
        params[f"i{gate}"] = {"kernel": rows["weight_ih"][at].T}
        params[f"h{gate}"] = {"kernel": rows["weight_hh"][at].T, "bias": bias[at]}
    return {"cell": params}


def _gru(module: Any, summed: bool = False, gates: str = "rzn") -> dict[str, Any]:
    """flax.linen's parameters of a GRU; `summed`: the candidate's two biases in one."""
    rows = rows_of(module)
    params: dict[str, Any] = {}
    for k, gate in enumerate(gates):
        at = slice(k * H, (k + 1) * H)
        both, inner = rows["bias_ih"][at] + rows["bias_hh"][at], rows["bias_hh"][at]
        apart = gate == "n" and not summed
        bias = rows["bias_ih"][at] if apart else both
        params[f"i{gate}"] = {"kernel": rows["weight_ih"][at].T, "bias": bias}
        params[f"h{gate}"] = {"kernel": rows["weight_hh"][at].T}
        if gate == "n":
            params["hn"]["bias"] = inner if apart else 0 * inner
    return {"cell": params}


def _run(cell: str, params: Any, x: Any, call: Any = None, **options: Any) -> Any:
    """flax.linen.RNN's outputs, from zeros."""
    module = fnn.RNN(getattr(fnn, cell)(H, param_dtype=np.float64), **options)
    return flax64(module, params, x, **(call or {}))


def _gate_order() -> tuple[float, float]:
    module, x = _layer("LSTM"), normal(B, T, I)
    naive = _run("OptimizedLSTMCell", _lstm(module, gates="igfo"), x)
    mended = _run("OptimizedLSTMCell", _lstm(module), x)
    return gaps(module(x)[0], naive, mended)


def _gate_orders(site: Site) -> Iterator[Edit]:
    gates = GATES[stem_of(site)]
    for touched, names in {
        "": "weight bias",
        " of the input's side": "_ih",
        " of the hidden side": "_hh",
        " of the biases": "bias",
        " of the input's weight": "weight_ih",
        " of the hidden weight": "weight_hh",
    }.items():
        for order in itertools.permutations(range(len(gates))):
            if order == tuple(sorted(order)):
                continue

            def rows(own: dict[str, Any], order: Any = order, names: str = names) -> Any:
                def moved(value: Any) -> Any:
                    parts = value.chunk(len(order))
                    return torch.cat([parts[k] for k in order])

                chosen = [name for name in own if any(n in name for n in names.split())]
                return own | {name: moved(own[name]) for name in chosen}

            said = ", ".join(gates[k] for k in order)
            right, line = (f"the rows{touched} in the order {o}" for o in (", ".join(gates), said))
            if touched:
                yield Edit(right, line, imitated(site, how=lambda _, r=rows: {"rows": r}))
            else:
                yield from habit(site, right, line, rows=rows)


gate_order = Difference(
    code="RNN-01",
    title="Order of the LSTM's gates",
    torch="nn.LSTM: rows in the order i, f, g, o",
    jax="nn.LSTMCell: the same; haiku i, g, f, o",
    fix_torch="the rows of weights and biases permuted",
    fix_jax="split the rows as i, f, g, o",
    kinds="LSTM|LSTMCell",
    measure=_gate_order,
    edits=_gate_orders,
)


def _two_biases() -> tuple[float, float]:
    module, x = _layer("LSTM"), normal(B, T, I)
    ours = module(x)[0]
    one = _lstm(module, bias=module.bias_hh_l0)
    return gaps(
        ours, _run("OptimizedLSTMCell", one, x), _run("OptimizedLSTMCell", _lstm(module), x)
    )


def _bias_counts(site: Site) -> Iterator[Edit]:
    for what, factors in {
        "bias_ih alone": (1, 0),
        "bias_hh alone": (0, 1),
        "no bias": (0, 0),
        "bias_ih twice": (2, 0),
        "bias_hh twice": (0, 2),
        "bias_ih + 2 * bias_hh": (1, 2),
        "2 * bias_ih + bias_hh": (2, 1),
        "both biases twice": (2, 2),
    }.items():

        def rows(own: dict[str, Any], factors: Any = factors) -> dict[str, Any]:
            names = ("bias_ih", "bias_hh")
            return own | {n: f * own[n] for n, f in zip(names, factors, strict=True)}

        yield from habit(site, "bias = bias_ih + bias_hh", what, rows=rows)


two_biases = Difference(
    code="RNN-02",
    title="Two biases or one",
    torch="nn.LSTM, nn.RNN: bias_ih + bias_hh",
    jax="nn.LSTMCell, nn.SimpleCell: one bias",
    fix_torch="bias_hh set to 0",
    fix_jax="bias = bias_ih + bias_hh",
    kinds=KINDS,
    measure=_two_biases,
    edits=_bias_counts,
)


def _carry() -> tuple[float, float]:
    module, x = _layer("LSTM"), normal(B, T, I)
    hidden = module(x)[1][0][0]
    (c, h), _ = _run("OptimizedLSTMCell", _lstm(module), x, return_carry=True)
    return gaps(hidden, c, h)


def _carries(site: Site) -> Iterator[Edit]:
    line = "(c, h) is flax's carry, (h, c) PyTorch's state"
    if site.kind == "glue":
        if len(site.inputs) == 2:  # a state alone
            for index, value in enumerate(site.inputs):
                yield Edit(line, f"state[{index}]", lambda v=value: v)
        return
    x, *rest = site.inputs
    pair = rest[0] if rest and isinstance(rest[0], (tuple, list)) else tuple(rest)
    if len(pair) == 2:
        swapped = tuple(pair)[::-1]
        yield Edit(line, "(c, h) as the state", lambda: site.result(site.module, x, swapped))
    given = (tuple(pair),) if pair else ()
    cell = site.kind.endswith("Cell")

    def other(index: int) -> Callable[[], Any]:
        def forward(module: Any, *inputs: Any) -> Any:
            output = module(*inputs)
            return output[index] if cell else output[1][index]

        return lambda: site.result(Variant(site.module, forward), x, *given)

    for index, name in enumerate("hc"):
        yield Edit(line, f"the state's {name}", other(index))


carry = Difference(
    code="RNN-03",
    title="Order of the carry",
    torch="nn.LSTM: state (h, c)",
    jax="nn.LSTMCell: carry (c, h)",
    fix_torch="c, h = state[1], state[0]",
    fix_jax="c, h = carry",
    kinds="LSTM|LSTMCell|glue",
    measure=_carry,
    edits=_carries,
)


def _bias_step() -> tuple[float, float]:
    module, x, rate = _layer("LSTM").requires_grad_(), normal(B, T, I), 0.1
    module(x)[0].sum().backward()
    first, second = module.bias_ih_l0, module.bias_hh_l0
    total = (first + second).detach()
    ours = total - rate * (first.grad + second.grad)
    params = _lstm(module, bias=total)
    cell: Any = fnn.RNN(fnn.OptimizedLSTMCell(H, param_dtype=np.float64))

    def gradient(x: Any, *leaves: Any) -> Any:
        tree = jax.tree.unflatten(jax.tree.structure(params), leaves)
        found = jax.grad(lambda p: cell.apply({"params": p}, x).sum())(tree)["cell"]
        return [found[f"h{gate}"]["bias"] for gate in "ifgo"]

    theirs = np.concatenate(jax64(gradient, x, *jax.tree.leaves(params)))
    return gaps(ours, total.numpy() - rate * theirs, total.numpy() - 2 * rate * theirs)


bias_step = Difference(
    code="RNN-04",
    title="Two biases move twice as far",
    torch="nn.LSTM: bias_ih and bias_hh both move by the same step",
    jax="nn.LSTMCell: one bias, one step",
    fix_torch="bias_hh frozen at 0",
    fix_jax="twice the learning rate for the bias",
    kinds="",  # a parameter that meets two: the weight map names it
    measure=_bias_step,
)


def _forget_bias() -> tuple[float, float]:
    module, x = _layer("LSTM"), normal(B, T, I)
    ours = module(x)[0]
    bias = module.bias_ih_l0 + module.bias_hh_l0
    more = bias.clone()
    more[H : 2 * H] += 1
    naive = _run("OptimizedLSTMCell", _lstm(module, bias=more), x)
    mended = _run("OptimizedLSTMCell", _lstm(module, bias=bias), x)
    return gaps(ours, naive, mended)


def _forget_biases(site: Site) -> Iterator[Edit]:
    line = "no 1 added to the forget gate's bias"
    for amount in (1.0, -1.0, 2.0):
        yield from habit(site, line, f"{amount:+g}", forget=amount)


forget_bias = Difference(
    code="RNN-05",
    title="1 added to the forget gate",
    torch="nn.LSTM: sigmoid(f)",
    jax="nn.LSTMCell: the same; haiku and older TensorFlow use sigmoid(f + 1)",
    fix_torch="bias_hh[h:2 * h] += 1",
    fix_jax="no 1 added to the forget gate's bias",
    kinds="LSTM|LSTMCell",
    measure=_forget_bias,
    edits=_forget_biases,
)


def _candidate() -> tuple[float, float]:
    module, x = _layer("GRU"), normal(B, T, I)
    naive = _run("GRUCell", _gru(module, summed=True), x)
    mended = _run("GRUCell", _gru(module), x)
    return gaps(module(x)[0], naive, mended)


def _candidates(site: Site) -> Iterator[Edit]:
    line = "tanh(W_in x + b_in + r * (W_hn h + b_hn))"
    outside = "b_in + b_hn outside the product with r"
    yield from habit(site, line, outside, candidate="bias outside")
    yield from habit(site, line, "b_hn left out", candidate="no bias")


candidate = Difference(
    code="RNN-06",
    title="The GRU candidate's bias",
    torch="nn.GRU: r * (W_hn h + b_hn)",
    jax="nn.GRUCell: a bias of its own for hn; summed with the others it leaves the product",
    fix_torch="b_hn outside the product with r",
    fix_jax="{'hn': {'bias': b_hn}, 'in': {'bias': b_in}}, only r's and z's biases summed",
    kinds="GRU|GRUCell",
    measure=_candidate,
    edits=_candidates,
)


def _reset_before() -> tuple[float, float]:
    module, x = _layer("GRU"), normal(B, T, I)
    ours = module(x)[0]

    def theirs(before: bool) -> Any:
        def run(x: Any, wi: Any, wh: Any, bi: Any, bh: Any) -> Any:
            h, outputs = jnp.zeros((B, H)), []
            for t in range(T):
                gi, gh = x[:, t] @ wi.T + bi, h @ wh.T + bh
                r = jax.nn.sigmoid(gi[:, :H] + gh[:, :H])
                z = jax.nn.sigmoid(gi[:, H : 2 * H] + gh[:, H : 2 * H])
                inner = r * gh[:, 2 * H :]
                if before:
                    inner = (r * h) @ wh[2 * H :].T + bh[2 * H :]
                h = (1 - z) * jnp.tanh(gi[:, 2 * H :] + inner) + z * h
                outputs.append(h)
            return jnp.stack(outputs, 1)

        return jax64(run, x, *rows_of(module).values())

    return gaps(ours, theirs(True), theirs(False))


def _resets(site: Site) -> Iterator[Edit]:
    line = "r * (W_hn h + b_hn): the reset after the product"
    yield from habit(site, line, "W_hn (r * h) + b_hn", candidate="reset before")
    yield from habit(site, line, "W_hn (r * h) + r * b_hn", candidate="reset before, bias too")


reset = Difference(
    code="RNN-07",
    title="When the GRU resets",
    torch="nn.GRU: r * (W h + b), after the product",
    jax="nn.GRUCell: the same; haiku and the first paper: W (r * h)",
    fix_torch="W_hn @ (r * h)",
    fix_jax="nn.GRUCell, or r * (W h + b)",
    kinds="GRU|GRUCell",
    measure=_reset_before,
    edits=_resets,
)


def _nnx_gru() -> tuple[float, float]:
    from flax import nnx

    module, x = _layer("GRU"), normal(B, T, I)
    ours = module(x)[0]
    rows = rows_of(module)
    bias = rows["bias_ih"].clone()
    bias[: 2 * H] += rows["bias_hh"][: 2 * H]

    def run(x: Any, wi: Any, wh: Any, b: Any) -> Any:
        cell = nnx.GRUCell(I, H, rngs=nnx.Rngs(0), param_dtype=np.float64)
        cell.dense_i.kernel = nnx.Param(wi)
        cell.dense_h.kernel = nnx.Param(wh)
        cell.dense_i.bias = nnx.Param(b)
        return nnx.RNN(cell)(x, initial_carry=jax.numpy.zeros((B, H)))

    theirs = jax64(run, x, rows["weight_ih"].T, rows["weight_hh"].T, bias)
    with torch.no_grad():
        module.bias_hh_l0[2 * H :] = 0
    return gap(ours, theirs), gap(module(x)[0], theirs)


nnx_gru = Difference(
    code="RNN-08",
    title="nnx.GRUCell has no b_hn",
    torch="nn.GRU: four biases' worth of rows, b_hn inside the product with r",
    jax="nnx.GRUCell: no bias on the hidden side (flax's omission)",
    fix_torch="bias_hh[2 * h:] = 0",
    fix_jax="nn.GRUCell of Linen, or a cell by hand",
    kinds="GRU|GRUCell",
    measure=_nnx_gru,
    edits=lambda site: habit(
        site, "a cell with b_hn: Linen's nn.GRUCell", "bias_hh[2 * h:] = 0", candidate="no bias"
    ),
)


def _gru_gates() -> tuple[float, float]:
    module, x = _layer("GRU"), normal(B, T, I)
    naive = _run("GRUCell", _gru(module, gates="zrn"), x)
    mended = _run("GRUCell", _gru(module), x)
    return gaps(module(x)[0], naive, mended)


def _gru_orders(site: Site) -> Iterator[Edit]:
    yield from _gate_orders(site)
    yield from habit(site, "(1 - z) * n + z * h", "(1 - z) * h + z * n", update="1 - z")


gru_gates = Difference(
    code="RNN-09",
    title="Order and meaning of the GRU's gates",
    torch="nn.GRU: rows r, z, n; z keeps the old state",
    jax="nn.GRUCell: the same; Keras and haiku z, r, n; the first paper has 1 - z",
    fix_torch="the rows of weights and biases permuted",
    fix_jax="split the rows as r, z, n; (1 - z) * n + z * h",
    kinds="GRU|GRUCell",
    measure=_gru_gates,
    edits=_gru_orders,
)


def _reverse() -> tuple[float, float]:
    module, x = _layer("LSTM", bidirectional=True), normal(B, T, I)
    ours = module(x)[0][..., H:]
    params = _lstm(module, "_l0_reverse")
    naive = _run("OptimizedLSTMCell", params, x, reverse=True)
    mended = _run("OptimizedLSTMCell", params, x, reverse=True, keep_order=True)
    return gaps(ours, naive, mended)


def _directions(site: Site) -> Iterator[Edit]:
    if not getattr(site.module, "bidirectional", False):
        return
    joined, own = "concatenate (forward, backward)", "each direction's own weights"
    for line, join in {
        "backward first": lambda one, two: (two, one),
        "their sum": lambda one, two: (one + two,),
        "their mean": lambda one, two: ((one + two) / 2,),
    }.items():
        yield Edit(joined, line, imitated(site, join=join))

    def other(cell: str) -> str:
        return cell.removesuffix("_reverse") if "_reverse" in cell else f"{cell}_reverse"

    for right, line, how in (
        ("keep_order=True", "backward outputs in reversed time", {"reads": "left reversed"}),
        ("reverse=True, keep_order=True", "both forwards in time", {"reads": "forwards"}),
    ):
        yield Edit(right, line, imitated(site, how=lambda _, h=how: h))
    yield Edit(own, "weights swapped", imitated(site, how=lambda c: {"cell": other(c)}))
    one = imitated(site, how=lambda c: {"cell": c.removesuffix("_reverse")})
    yield Edit(own, "one set for both", one)


reverse = Difference(
    code="RNN-10",
    title="The backward direction's outputs",
    torch="bidirectional=True: outputs in the order of time",
    jax="nn.RNN(reverse=True): outputs in reversed time",
    fix_torch="y.flip(1)",
    fix_jax="nn.RNN(reverse=True, keep_order=True)",
    kinds="RNN|LSTM|GRU",
    measure=_reverse,
    edits=_directions,
)


def _packed() -> tuple[float, float]:
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    module, x, lengths = _layer("LSTM"), normal(B, T, I), torch.tensor([5, 3])
    packed = pack_padded_sequence(x, lengths, batch_first=True)
    ours = pad_packed_sequence(module(packed)[0], batch_first=True)[0]
    theirs = _run("OptimizedLSTMCell", _lstm(module), x, {"seq_lengths": lengths.numpy()})
    valid = (np.arange(T) < lengths.numpy()[:, None])[..., None]
    return gaps(ours, theirs, np.where(valid, theirs, 0))


def _unheeded(site: Site, state: bool) -> Iterator[Edit]:
    if hasattr(site.inputs[0], "batch_sizes") and state == (site.output > 0):
        fix = final_state.fix_jax if state else packed.fix_jax
        yield Edit(fix, "no pack_padded_sequence", imitated(site, packed=False))


packed = Difference(
    code="RNN-11",
    title="Outputs beyond a sequence's end",
    torch="pad_packed_sequence: zeros",
    jax="nn.RNN(seq_lengths=): the cell goes on, the outputs are not zeroed",
    fix_torch="no pack_padded_sequence",
    fix_jax="jnp.where(step < length, y, 0)",
    kinds="RNN|LSTM|GRU",
    measure=_packed,
    edits=lambda site: _unheeded(site, state=False),
    whats=("output",),
)


def _final_state() -> tuple[float, float]:
    from torch.nn.utils.rnn import pack_padded_sequence

    module, x, lengths = _layer("LSTM"), normal(B, T, I), torch.tensor([5, 3])
    ours = module(pack_padded_sequence(x, lengths, batch_first=True))[1][0][0]

    def theirs(**call: Any) -> Any:
        (_, h), _ = _run("OptimizedLSTMCell", _lstm(module), x, call, return_carry=True)
        return h

    return gaps(ours, theirs(), theirs(seq_lengths=lengths.numpy()))


final_state = Difference(
    code="RNN-12",
    title="The state at a sequence's end",
    torch="nn.LSTM of a packed sequence: the state at its last valid step",
    jax="nn.RNN without seq_lengths: the state after the padding",
    fix_torch="no pack_padded_sequence",
    fix_jax="seq_lengths=lengths",
    kinds="RNN|LSTM|GRU",
    measure=_final_state,
    edits=lambda site: _unheeded(site, state=True),
    whats=("output",),
)


def _time_axis() -> tuple[float, float]:
    module, x = _layer("LSTM", batch_first=False), normal(T, T, I)
    naive = _run("OptimizedLSTMCell", _lstm(module), x)
    mended = _run("OptimizedLSTMCell", _lstm(module), x, time_major=True)
    return gaps(module(x)[0], naive, mended)


def _time_axes(site: Site) -> Iterator[Edit]:
    own = site.module.batch_first
    line = f"time_major={not own}"
    yield Edit(line, f"batch_first={not own}", site.changed(batch_first=not own))
    axis = 1 if own else 0
    for line, after in {
        "the input in reversed time": lambda y: y,
        "input and output in reversed time": lambda y: y.flip(axis),
    }.items():

        def forward(module: Any, x: Any, *state: Any, after: Any = after) -> Any:
            return after(module(x.flip(axis), *state)[0])

        yield Edit("the steps from first to last", line, rewritten(site, forward))


time_axis = Difference(
    code="RNN-13",
    title="Time or batch first",
    torch="nn.LSTM: (time, batch, features) unless batch_first=True",
    jax="nn.RNN: (batch, time, features) unless time_major=True",
    fix_torch="batch_first=True",
    fix_jax="time_major=True",
    kinds="RNN|LSTM|GRU",
    measure=_time_axis,
    edits=_time_axes,
)


def _activation() -> tuple[float, float]:
    module, x = _layer("RNN", nonlinearity="relu"), normal(B, T, I)
    ours = module(x)[0]
    rows = rows_of(module)
    params = {
        "cell": {
            "i": {"kernel": rows["weight_ih"].T, "bias": rows["bias_ih"] + rows["bias_hh"]},
            "h": {"kernel": rows["weight_hh"].T},
        }
    }

    def theirs(activation: Any) -> Any:
        cell = fnn.SimpleCell(H, activation_fn=activation, param_dtype=np.float64)
        return flax64(fnn.RNN(cell), params, x)

    return gaps(ours, theirs(jax.numpy.tanh), theirs(jax.nn.relu))


def _activations(site: Site) -> Iterator[Edit]:
    own = site.module.nonlinearity
    other = "tanh" if own == "relu" else "relu"
    for name, function in {other: getattr(torch, other), "no activation": lambda v: v}.items():
        right, line = f"activation_fn={own}", f"nonlinearity={name!r}"
        yield from habit(site, right, line, activation=function)


activation = Difference(
    code="RNN-14",
    title="The simple cell's activation",
    torch="nn.RNN: nonlinearity='tanh' or 'relu'",
    jax="nn.SimpleCell: activation_fn=tanh, whatever PyTorch was told",
    fix_torch="nonlinearity='tanh'",
    fix_jax="activation_fn=jax.nn.relu",
    kinds="RNN|RNNCell",
    measure=_activation,
    edits=_activations,
)
