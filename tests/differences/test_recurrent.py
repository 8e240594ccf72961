"""Recurrent layers: mistakes made in JAX are recognised, and nothing near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax
from torch import nn

from compare.differences.catalogue import Site
from compare.differences.measuring import flax64, jax64, normal
from compare.differences.shared.recurrence import imitation as recurrent_imitation
from compare.share import to_numpy
from tests.differences.sites import Places, filled, glue_site, module_site, numbers, recognised

PLACES = Places()
case, cases = PLACES.case, PLACES.cases


SERIES = normal(2, 5, 3)


def recurrent(kind: str, **options: Any) -> Any:
    return filled(getattr(nn, kind)(3, 4, **{"batch_first": True, **options}))


def scan(step: Callable[..., Any], reverse: bool = False) -> Callable[..., Any]:
    """A loop over time, written by hand: `step(x, (h, c), w_ih, w_hh, b_ih, b_hh)`."""

    def run(x: Any, *rows: Any) -> Any:
        carry, outputs = (jnp.zeros((x.shape[0], 4)),) * 2, []
        for t in range(x.shape[1]):
            carry = step(x[:, -1 - t if reverse else t], carry, *rows)
            outputs.append(carry[0])
        return jnp.stack(outputs[::-1] if reverse else outputs, 1)

    return run


def lstm(order: tuple[int, ...] = (0, 1, 2, 3), factors=(1, 1), forget: float = 0.0) -> Any:
    """An LSTM that takes the gates i, f, g, o from these rows."""

    def step(x: Any, carry: Any, wi: Any, wh: Any, bi: Any, bh: Any) -> Any:
        rows = jnp.split(x @ wi.T + carry[0] @ wh.T + factors[0] * bi + factors[1] * bh, 4, -1)
        i, f, g, o = (rows[k] for k in order)
        c = jax.nn.sigmoid(f + forget) * carry[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    return step


def recurrent_site(kind: str, step: Callable[..., Any], **options: Any) -> Site:
    module = recurrent(kind, **options)
    return module_site(module, jax64(scan(step), SERIES, *numbers(module)), SERIES)


def lstm_site(*args: Any) -> Site:
    return recurrent_site("LSTM", lstm(*args))


cases(
    "RNN-01",
    lstm_site,
    haiku=((0, 2, 1, 3),),
    onnx=((0, 2, 3, 1),),
    output_first=((1, 2, 3, 0),),
)


@case("RNN-01", "the input's side")
def _lstm_input_order() -> Site:
    module = recurrent("LSTM")
    wi, wh, bi, bh = numbers(module)
    mixed = torch.cat([wi.chunk(4)[k] for k in (0, 2, 1, 3)])
    bias = torch.cat([bi.chunk(4)[k] for k in (0, 2, 1, 3)])
    return module_site(module, jax64(scan(lstm()), SERIES, mixed, wh, bias, bh), SERIES)


FORWARD = (0, 1, 2, 3)
cases(
    "RNN-02",
    lstm_site,
    hidden_missing=(FORWARD, (1, 0)),
    input_missing=(FORWARD, (0, 1)),
    none=(FORWARD, (0, 0)),
    doubled=(FORWARD, (2, 2)),
)
cases("RNN-05", lstm_site, forget=(FORWARD, (1, 1), 1.0))


def gru(how: str = "", order: tuple[int, ...] = (0, 1, 2)) -> Any:
    def step(x: Any, carry: Any, wi: Any, wh: Any, bi: Any, bh: Any) -> Any:
        h = carry[0]
        gi, gh = jnp.split(x @ wi.T + bi, 3, -1), jnp.split(h @ wh.T + bh, 3, -1)
        r = jax.nn.sigmoid(gi[order[0]] + gh[order[0]])
        z = jax.nn.sigmoid(gi[order[1]] + gh[order[1]])
        k = order[2]
        inner = r * gh[k]
        if how == "before":
            inner = (r * h) @ wh[8:].T + bh[8:]
        elif how == "summed":
            inner = r * (gh[2] - bh[8:]) + bh[8:]
        elif how == "missing":
            inner = r * (gh[2] - bh[8:])
        n = jnp.tanh(gi[k] + inner)
        h = (1 - z) * h + z * n if how == "update" else (1 - z) * n + z * h
        return h, h

    return step


def gru_site(*args: Any) -> Site:
    return recurrent_site("GRU", gru(*args))


cases("RNN-06", gru_site, summed=("summed",), missing=("missing",))
cases("RNN-07", gru_site, before=("before",))
cases("RNN-08", gru_site, missing=("missing",))
cases("RNN-09", gru_site, keras=("", (1, 0, 2)), update=("update",), last=("", (2, 1, 0)))


@case("RNN-07", "cell")
def _gru_cell() -> Site:
    module, h = filled(nn.GRUCell(3, 4)), normal(2, 4)

    def wrong(x: Any, h: Any, *rows: Any) -> Any:
        return gru("before")(x, (h, h), *rows)[0]

    x = SERIES[:, 0]
    return module_site(module, jax64(wrong, x, h, *numbers(module)), x, h)


@case("RNN-02", "flax's simple cell")
def _simple_bias() -> Site:
    module = recurrent("RNN")
    wi, wh, bi, _ = numbers(module)
    params = {"cell": {"i": {"kernel": wi.T, "bias": bi}, "h": {"kernel": wh.T}}}
    y = flax64(fnn.RNN(fnn.SimpleCell(4, param_dtype=np.float64)), params, SERIES)
    return module_site(module, y, SERIES)


@case("RNN-07", "from a state")
def _gru_from_state() -> Site:
    module, h = recurrent("GRU"), normal(1, 2, 4)

    def wrong(x: Any, h: Any, *rows: Any) -> Any:
        carry, outputs = (h[0], h[0]), []
        for t in range(5):
            carry = gru("before")(x[:, t], carry, *rows)
            outputs.append(carry[0])
        return jnp.stack(outputs, 1)

    return module_site(module, jax64(wrong, SERIES, h, *numbers(module)), SERIES, h)


@case("RNN-14", "relu")
def _relu_cell() -> Site:
    def step(x: Any, carry: Any, wi: Any, wh: Any, bi: Any, bh: Any) -> Any:
        h = jnp.tanh(x @ wi.T + carry[0] @ wh.T + bi + bh)
        return h, h

    return recurrent_site("RNN", step, nonlinearity="relu")


@case("RNN-14", "cell")
def _relu_one() -> Site:
    module, h, x = filled(nn.RNNCell(3, 4)), normal(2, 4), SERIES[:, 0]

    def wrong(x: Any, h: Any, wi: Any, wh: Any, bi: Any, bh: Any) -> Any:
        return jax.nn.relu(x @ wi.T + h @ wh.T + bi + bh)

    return module_site(module, jax64(wrong, x, h, *numbers(module)), x, h)


@case("RNN-03", "swapped states")
def _swapped_states() -> Site:
    module, h, c, x = filled(nn.LSTMCell(3, 4)), normal(2, 4), normal(2, 4, seed=3), SERIES[:, 0]

    def wrong(x: Any, h: Any, c: Any, *rows: Any) -> Any:
        return lstm()(x, (c, h), *rows)[0]

    return module_site(module, jax64(wrong, x, h, c, *numbers(module)), x, (h, c))


@case("RNN-03", "the other state")
def _other_state() -> Site:
    module, h, c, x = filled(nn.LSTMCell(3, 4)), normal(2, 4), normal(2, 4, seed=3), SERIES[:, 0]

    def wrong(x: Any, h: Any, c: Any, *rows: Any) -> Any:
        return lstm()(x, (h, c), *rows)[1]

    return module_site(module, jax64(wrong, x, h, c, *numbers(module)), x, (h, c))


@case("RNN-03", "glue")
def _glue_state() -> Site:
    h, c = normal(2, 4), normal(2, 4, seed=3)
    return glue_site(h, c.numpy(), h, c)


def both_ways(combine: Callable[..., Any]) -> Site:
    module = recurrent("LSTM", bidirectional=True)

    def wrong(x: Any, *rows: Any) -> Any:
        straight, back = scan(lstm()), scan(lstm(), reverse=True)
        one = straight(x, *rows[:4])
        return combine(one, back(x, *rows[4:]), straight(x, *rows[4:]))

    return module_site(module, jax64(wrong, SERIES, *numbers(module)), SERIES)


cases(
    "RNN-10",
    both_ways,
    reversed_time=(lambda a, b, _: jnp.concatenate([a, b[:, ::-1]], -1),),
    order=(lambda a, b, _: jnp.concatenate([b, a], -1),),
    total=(lambda a, b, _: a + b,),
    no_reversal=(lambda a, _, c: jnp.concatenate([a, c], -1),),
)


@case("RNN-13", "batch first")
def _batch_first() -> Site:
    module, x = recurrent("LSTM", batch_first=False), normal(4, 4, 3)
    return module_site(module, jax64(scan(lstm()), x, *numbers(module)), x)


@case("RNN-13", "reversed time")
def _reversed_time() -> Site:
    module = recurrent("GRU")
    wrong = jax64(scan(gru(), reverse=True), SERIES, *numbers(module))
    return module_site(module, wrong, SERIES)


def stacked(kind: str, one: Callable[..., Any]) -> Site:
    """Two layers, of which the second alone has the mistake."""
    module, right = recurrent(kind, num_layers=2), lstm() if kind == "LSTM" else gru()

    def wrong(x: Any, *rows: Any) -> Any:
        return scan(one)(scan(right)(x, *rows[:4]), *rows[4:])

    return module_site(module, jax64(wrong, SERIES, *numbers(module)), SERIES)


cases("RNN-01", stacked, second_layer=("LSTM", lstm((0, 2, 1, 3))))
cases("RNN-02", stacked, second_layer=("LSTM", lstm(factors=(1, 0))))
cases("RNN-05", stacked, second_layer=("LSTM", lstm(forget=1.0)))
cases("RNN-07", stacked, second_layer=("GRU", gru("before")))
cases("RNN-09", stacked, second_layer=("GRU", gru("update")))


def padded(output: int, seen: Callable[[Any, Any], Any]) -> Site:
    """A packed sequence beside flax's layer, which is not told the lengths."""
    module, lengths = recurrent("GRU"), torch.tensor([5, 3])
    given = nn.utils.rnn.pack_padded_sequence(SERIES, lengths, batch_first=True)
    ours, state = module(given)
    ours = (nn.utils.rnn.pad_packed_sequence(ours)[0], state)[output]
    x = nn.utils.rnn.pad_packed_sequence(given, batch_first=True)[0]
    y = jax64(scan(gru()), x, *numbers(module))
    theirs = seen(y, lengths)
    return Site("GRU", "output", theirs, to_numpy(ours), (given,), module, output=output)


cases("RNN-11", padded, padding=(0, lambda y, _: y.swapaxes(0, 1)))
cases("RNN-12", padded, state=(1, lambda y, _: y[None, :, -1]))


def detached(kind: str, what: str, step: Callable[..., Any], name: str = "") -> Site:
    """A loop that stops the gradient of its state; outputs and last cell state are used."""
    module, pull = recurrent(kind), (normal(2, 5, 4, seed=9), None, normal(1, 2, 4, seed=8))
    pull = pull if kind == "LSTM" else pull[:2]

    def value(x: Any, pulls: Any, *rows: Any) -> Any:
        carry, total = (jnp.zeros((2, 4)),) * 2, 0.0
        for t in range(5):
            carry = step(x[:, t], carry, *rows)
            total = total + (carry[0] * pulls[0][:, t]).sum()
        return total + (carry[1] * pulls[1][0]).sum() if kind == "LSTM" else total

    which = [n for n, _ in module.named_parameters()].index(name) + 2 if name else 0
    pulls = [p for p in pull if p is not None]
    theirs = jax64(
        lambda x, *a: jax.grad(value, which)(x, a[: len(pulls)], *a[len(pulls) :]),
        *(SERIES, *pulls, *numbers(module)),
    )
    site = Site(kind, what, theirs, theirs, (SERIES,), module, cotangent=pull, name=name)
    site.ours = to_numpy(site.result(module, SERIES))
    return site


def truncated(x: Any, carry: Any, *rows: Any) -> Any:
    return gru()(x, lax.stop_gradient(carry), *rows)


def cell_detached(x: Any, carry: Any, *rows: Any) -> Any:
    return lstm()(x, (carry[0], lax.stop_gradient(carry[1])), *rows)


cases(
    "GRAD-13",
    detached,
    state=("GRU", "gradient", truncated),
    state_parameter=("GRU", "param", truncated, "weight_ih_l0"),
    cell_state=("LSTM", "gradient", cell_detached),
    cell_state_parameter=("LSTM", "param", cell_detached, "bias_hh_l0"),
)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("given", ["batch first", "time first", "one sequence", "packed", "state"])
def test_the_imitation_is_pytorch_s(kind: str, layers: int, both: bool, given: str):
    options: dict[str, Any] = {"num_layers": layers, "bidirectional": both}
    module, x = recurrent(kind, batch_first=given != "time first", **options), normal(3, 5, 3)
    sizes = torch.tensor([5, 2, 3])
    pack = nn.utils.rnn.pack_padded_sequence(x, sizes, batch_first=True, enforce_sorted=False)
    x = {"packed": pack, "one sequence": x[0]}.get(given, x)
    h = normal(layers * (1 + both), 3, 4)
    state = () if given != "state" else ((h, h + 1),) if kind == "LSTM" else (h,)
    with torch.no_grad():
        ours, theirs = module(x, *state), recurrent_imitation(module, x, *state)
    if given == "packed":
        ours = nn.utils.rnn.pad_packed_sequence(ours[0])[0], ours[1]
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("bias", [False, True])
def test_the_imitated_cell_is_pytorch_s(kind: str, bias: bool):
    module, x, h = filled(getattr(nn, kind)(3, 4, bias=bias)), normal(2, 3), normal(2, 4)
    with torch.no_grad():
        ours = module(x, (h, h + 1) if kind == "LSTMCell" else h)
        theirs = recurrent_imitation(module, x, (h, h + 1) if kind == "LSTMCell" else h)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-14)


def test_the_imitation_projects_the_state():
    module = recurrent("LSTM", proj_size=2, num_layers=2)
    with torch.no_grad():
        imitated = recurrent_imitation(module, SERIES)
        torch.testing.assert_close(imitated, module(SERIES), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("code", "name", "build"), PLACES, ids=PLACES.names)
def test_the_mistake_is_recognised(code: str, name: str, build: Callable[[], Site]):
    recognised(code, build())


@pytest.mark.parametrize("family", ["RNN"])
def test_every_difference_with_candidates_has_a_place(family: str):
    assert PLACES.have(family)
