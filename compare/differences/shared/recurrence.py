"""PyTorch's recurrent layers, imitated step by step, with something done otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from compare.differences.catalogue import Edit, Site
from compare.differences.shared.frameworks import torch
from compare.differences.shared.layers import rewritten

KINDS = "RNN|LSTM|GRU|RNNCell|LSTMCell|GRUCell"
GATES = {"LSTM": "ifgo", "GRU": "rzn", "RNN": "h"}


def rows_of(module: Any, cell: str = "_l0") -> dict[str, Any]:
    """Input kernel, hidden kernel, and the two biases of a cell, per gate."""
    rows = {name: getattr(module, name + cell) for name in ("weight_ih", "weight_hh")}
    for name in ("bias_ih", "bias_hh"):
        bias = getattr(module, name + cell, None)
        rows[name] = rows["weight_hh"].new_zeros(len(rows["weight_hh"])) if bias is None else bias
    return rows


How = dict[str, Any]


def stem_of(site: Site) -> str:
    return site.kind.removesuffix("Cell")


def cells_of(module: Any) -> list[str]:
    """The ends of the names of each cell's parameters."""
    if hasattr(module, "weight_ih"):
        return [""]
    sides = ("", "_reverse")[: 1 + module.bidirectional]
    return [f"_l{level}{side}" for level in range(module.num_layers) for side in sides]


def _rnn_step(gi: Any, h: Any, c: Any, rows: Any, how: How) -> tuple[Any, Any]:
    return how["activation"](gi + _linear(h, rows)), c


def _lstm_step(gi: Any, h: Any, c: Any, rows: Any, how: How) -> tuple[Any, Any]:
    i, f, g, o = (gi + _linear(h, rows)).chunk(4, -1)
    c = (f + how.get("forget", 0.0)).sigmoid() * c + i.sigmoid() * g.tanh()
    c = c.detach() if how.get("stop") == "new cell" else c
    return o.sigmoid() * c.tanh(), c


def _gru_step(gi: Any, h: Any, c: Any, rows: Any, how: How) -> tuple[Any, Any]:
    (r, z, outer), (rh, zh, inner) = gi.chunk(3, -1), _linear(h, rows).chunk(3, -1)
    r, z = (r + rh).sigmoid(), (z + zh).sigmoid()
    weight, bias = rows["weight_hh"].chunk(3)[2], rows["bias_hh"].chunk(3)[2]
    inner = {
        "bias outside": lambda: r * (inner - bias) + bias,
        "no bias": lambda: r * (inner - bias),
        "reset before": lambda: (r * h) @ weight.T + bias,
        "reset before, bias too": lambda: (r * h) @ weight.T + r * bias,
    }.get(how.get("candidate", ""), lambda: r * inner)()
    z = 1 - z if how.get("update") == "1 - z" else z
    kept = h.detach() if how.get("stop") == "kept share" else h
    return (1 - z) * (outer + inner).tanh() + z * kept, c


def _linear(h: Any, rows: Any) -> Any:
    return h @ rows["weight_hh"].T + rows["bias_hh"]


STEPS = {"RNN": _rnn_step, "LSTM": _lstm_step, "GRU": _gru_step}


def _loop(
    kind: str, x: Any, h: Any, c: Any, rows: Any, how: How, back: bool, valid: Any
) -> tuple[Any, Any, Any]:
    """One direction of one layer over (time, batch, features): outputs, h, c."""
    gi, stop, outputs = x @ rows["weight_ih"].T + rows["bias_ih"], how.get("stop"), []
    for t in range(len(x))[:: -1 if back else 1]:
        kept = (
            h.detach() if stop in ("state", "hidden state") else h,
            c.detach() if stop in ("state", "cell state") else c,
        )
        new, cell = STEPS[kind](gi[t], *kept, rows, how)
        new = new if how["project"] is None else new @ how["project"].T
        if valid is None:
            h, c = new, cell
            outputs.append(h)
        else:  # beyond the end the state stays and the output is zero
            h, c = torch.where(valid[t], new, h), torch.where(valid[t], cell, c)
            outputs.append(h * valid[t])
    turned = back and how.get("reads") != "left reversed"
    return torch.stack(outputs[::-1] if turned else outputs), h, c


def imitation(
    module: Any,
    x: Any,
    state: Any = None,
    *,
    how: Callable[[str], How] = lambda cell: {},
    join: Callable[..., tuple[Any, ...]] = lambda *sides: sides,
    packed: bool = True,
) -> Any:
    """PyTorch's recurrent layer by hand, with what others do otherwise.

    Args:
      module: nn.RNN, LSTM, GRU, or one of their cells.
      x: the input, as the module takes it; of a packed sequence the output is padded, time first.
      state: h, or (h, c) of an LSTM.
      how: what a cell (the end of its parameters' names) does otherwise:
        rows: its parameters by name -> those that it uses; cell: whose parameters it takes;
        reads: of a reverse cell, "forwards", or "left reversed": its outputs;
        stop: where the gradient ends: "state", "hidden state", "cell state", and in the step;
        activation, forget, candidate, update: of the steps above.
      join: the outputs of both directions -> what is concatenated.
      packed: whether a packed sequence's ends are heeded.

    Returns:
      What the module gives.
    """
    from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

    kind, valid = type(module).__name__.removesuffix("Cell"), None
    single, ragged = hasattr(module, "weight_ih"), isinstance(x, PackedSequence)
    given = list(state) if isinstance(state, (tuple, list)) else [state, None]
    if ragged:
        x, lengths = pad_packed_sequence(x)
        valid = (torch.arange(len(x))[:, None] < lengths)[..., None] if packed else None
    alone, swapped = not single and x.ndim == 2, not single and not ragged and module.batch_first
    if alone:
        x, given = x[:, None], [s if s is None else s[:, None] for s in given]
    elif swapped:
        x = x.transpose(0, 1)
    elif single:
        x, given = x[None], [s if s is None else s[None] for s in given]
    activation = getattr(torch, getattr(module, "nonlinearity", "tanh"))
    sides, ends = [], []
    for index, name in enumerate(cells_of(module)):
        project = getattr(module, f"weight_hr{name}", None)
        own: How = {"activation": activation, "project": project, **how(name)}
        rows = own.get("rows", lambda r: r)(rows_of(module, own.get("cell", name)))
        sizes = rows["weight_hh"].shape[1], module.hidden_size
        h, c = (
            x.new_zeros(*x.shape[1:-1], size) if s is None else s[index]
            for s, size in zip(given, sizes, strict=True)
        )
        back = "_reverse" in name and own.get("reads") != "forwards"
        y, *end = _loop(kind, x, h, c, rows, own, back, valid)
        sides.append(y)
        ends.append(end)
        if len(sides) == 2 or single or not module.bidirectional:
            x, sides = torch.cat(join(*sides), -1), []
    h, c = (torch.stack(s) for s in zip(*ends, strict=True))
    if single:
        return (h[0], c[0]) if kind == "LSTM" else h[0]
    if alone:
        x, h, c = x[:, 0], h[:, 0], c[:, 0]
    elif swapped:
        x = x.transpose(0, 1)
    return x, (h, c) if kind == "LSTM" else h


def imitated(site: Site, **how: Any) -> Callable[[], Any]:
    """The result of the imitation with its keywords."""

    def forward(module: Any, x: Any, state: Any = None) -> Any:
        return imitation(module, x, site.kwargs.get("hx", state), **how)

    return rewritten(site, forward)


def habit(site: Site, jax: str, torch: str, **how: Any) -> Iterator[Edit]:
    """One edit for all cells that do something otherwise, and one for each that does it alone."""
    yield Edit(jax, torch, imitated(site, how=lambda _: how))
    cells = cells_of(site.module)
    for one in cells if len(cells) > 1 else ():
        line = f"{torch}: {one.removeprefix('_')} alone"
        yield Edit(jax, line, imitated(site, how=lambda c, one=one: how if c == one else {}))


def stopped(site: Site) -> Iterator[Edit]:
    """Edits that end the gradient on its way back through time."""
    for where, kinds in {
        "state": "RNN LSTM GRU",
        "hidden state": "LSTM",
        "cell state": "LSTM",
        "new cell": "LSTM",
        "kept share": "GRU",
    }.items():
        if stem_of(site) in kinds.split():
            line = f"the {where} detached in each step"
            yield from habit(site, "no stop_gradient of the state", line, stop=where)
