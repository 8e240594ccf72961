"""Long short-term memory in JAX and in PyTorch: the cell, its gradient, its gates, forecasts.

Run it as a program (`python examples/neural_networks/lstm.py --out figures`), or cell by cell in an
editor that knows `# %%`. In the figures broad lines are JAX's, dashed ones PyTorch's. `--full`
trains longer: about 60 s on two cores.
"""

# %% Set-up
import copy
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from compare.data.batches import shuffled
from compare.data.series import gaps, series, windows
from compare.share import to_jax, to_numpy, to_torch
from compare.study.figures import overlay, twice
from compare.study.lessons import lesson
from compare.study.networks import Networks
from compare.study.scripts import script
from jaxnn.layers.recurrent import LSTM as JaxLSTM
from jaxnn.layers.recurrent import RNN as JaxRNN
from jaxnn.rnn import peephole as jax_peephole
from jaxnn.rnn.bilstm import BiLSTM as JaxBiLSTM
from jaxnn.rnn.lstm import LSTMNet as JaxLSTMNet
from jaxnn.rnn.lstm import lstm_cell as jax_lstm_cell
from jaxnn.training.losses import mse as jax_mse
from jaxnn.training.optimizers import adam as jax_adam
from torchref.layers.recurrent import LSTM, RNN
from torchref.rnn import peephole
from torchref.rnn.bilstm import BiLSTM
from torchref.rnn.lstm import LSTMNet, lstm_cell
from torchref.training.losses import mse
from torchref.training.optimizers import adam

script(__name__)

CROSS = to_jax, to_torch
PACKED = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def trained(nets, batches, steps, rules):
    """Losses of so many steps, (steps, 2): JAX's, PyTorch's."""
    return np.array([*nets.train(itertools.islice(batches, steps), (jax_mse, mse), rules)])


def adams(lr):
    return jax_adam(lr=lr), lambda parameters: adam(parameters, lr=lr)


def packed(nets, prefix="lstm."):
    """The four arrays of the first LSTM layer."""
    weights = nets.state()[1]
    return [weights[f"{prefix}{name}_l0"] for name in PACKED]


def gates(x, h, c, w_ih, w_hh, b_ih, b_hh) -> tuple[Any, ...]:
    """Input, forget and output gate and candidate of one step, in either framework."""
    sigmoid, tanh = (
        (nn.sigmoid, jnp.tanh) if isinstance(x, jax.Array) else (torch.sigmoid, torch.tanh)
    )
    a, size = x @ w_ih.T + b_ih + h @ w_hh.T + b_hh, h.shape[-1]
    i, f, g, o = (a[..., k * size : (k + 1) * size] for k in range(4))
    return sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)


def traces(x, weights) -> tuple[Any, Any]:
    """A layer's i, f, g, o, c and h, (L, N, H), along sequences (N, L, D): JAX's, PyTorch's."""
    found = []
    sides: Any = (to_jax, jax_lstm_cell), (to_torch, lstm_cell)
    for cross, cell in sides:
        own = [cross(w) for w in weights]
        h = c = cross(np.zeros((len(x), weights[1].shape[1])))
        steps = []
        for t in range(x.shape[1]):
            now = gates(cross(x[:, t]), h, c, *own)
            h, c = cell(cross(x[:, t]), h, c, *own)
            steps.append([to_numpy(each) for each in (*now, c, h)])
        found.append(dict(zip("ifgoch", map(np.stack, zip(*steps, strict=True)), strict=True)))
    return found[0], found[1]


def rmse(found, wanted):
    return float(np.sqrt(np.mean((np.asarray(found) - wanted) ** 2)))


# %% [introduction] Introduction to LSTM
#   i, f, o = sigmoid(W x + U h + b)     g = tanh(W_g x + U_g h + b_g)
#   c' = f c + i g                       h' = o tanh(c')
# Four blocks of rows in one matrix, one product a step. PyTorch has them in the order i, f, g, o
# with two biases; Flax has eight small layers and one bias; ONNX has the order i, o, f, g.
with lesson("introduction") as same:
    size, x = 5, same.rng.standard_normal((4, 9, 3))
    nets = Networks(JaxLSTM, LSTM, same.rng, x, input_size=3, hidden_size=size)
    (outputs, _), (toutputs, _) = nets(x)
    same("the layer", outputs, toutputs)
    weights = packed(nets, "")
    found = traces(x, weights)
    same("the equations, step by step", *found)
    same("are the layer", found[0]["h"].swapaxes(0, 1), toutputs)

    # torch.nn's own fused layer, as it comes.
    fused = torch.nn.LSTM(3, size, batch_first=True)
    fused.load_state_dict(nets.torch.state_dict())
    same("torch.nn.LSTM", outputs, fused(to_torch(x))[0])

    def flax_params(w_ih, w_hh, b_ih, b_hh, order="ifgo"):
        """The parameters of Flax's cells from packed rows in some order of the gates."""
        params = {}
        for k, gate in enumerate(order):
            rows = slice(k * size, (k + 1) * size)
            params["i" + gate] = {"kernel": to_jax(w_ih[rows].T)}
            bias = to_jax(b_ih[rows] + b_hh[rows])
            params["h" + gate] = {"kernel": to_jax(w_hh[rows].T), "bias": bias}
        return {"params": {"cell": params}}

    for cell in (nn.LSTMCell, nn.OptimizedLSTMCell):
        # Flax's carry has the type of the parameters that it would draw, not that of its inputs.
        layer = nn.RNN(cell(size, param_dtype=jnp.float64, parent=None))
        name = cell.__name__
        same(f"Flax's {name}", layer.apply(flax_params(*weights), to_jax(x)), toutputs)
        wrong = layer.apply(flax_params(*weights, order="iofg"), to_jax(x))
        same.holds(
            f"{name}: another order runs, too, and is wrong", abs(wrong - outputs).max() > 0.01
        )

    # Two biases that are added get the same gradient: in a step their sum moves twice as far.
    slopes = jax.grad(lambda v: (nets.jax.apply(v, to_jax(x))[0] ** 2).sum())(nets.variables)
    fused.zero_grad()
    (fused(to_torch(x))[0] ** 2).sum().backward()
    tslopes = [parameter.grad for parameter in fused.parameters()]
    same("gradients", [slopes["params"][f"{name}_l0"] for name in PACKED], tslopes)
    same("of both biases", slopes["params"]["bias_ih_l0"], tslopes[3])

# %% [vanishing_gradient] Vanishing Gradient Problem
# Elman: dh_T/dh_t is a product of matrices diag(1 - h^2) W. LSTM: along the cell state it is a
# product of forget gates, near sigmoid(b_f) each: 0.5 with a bias of 0, 0.73 with 1, 0.95 with 3.
with lesson("vanishing_gradient") as same:
    size, length = 24, 60
    x = same.rng.standard_normal((16, length, 1))
    ask = same.rng.standard_normal((16, size))

    def by_lag(nets):
        """Norms of the gradients of one question to the last output, the last input first."""

        def loss(x):
            return (nets.jax.apply(nets.variables, x)[0][:, -1] * to_jax(ask)).sum()

        tx = to_torch(x).requires_grad_()
        (nets.torch(tx)[0][:, -1] * to_torch(ask)).sum().backward()
        pair = jax.jit(jax.grad(loss))(to_jax(x)), tx.grad
        return [np.linalg.norm(to_numpy(each), axis=(0, 2))[::-1] for each in pair]

    found = {}
    config = {"input_size": 1, "hidden_size": size}
    nets = Networks(JaxRNN, RNN, same.rng, x, **config)
    found["Elman"] = by_lag(nets)
    nets = Networks(JaxLSTM, LSTM, same.rng, x, **config)
    for bias in (0.0, 1.0, 3.0):
        rows = nets.torch.bias_ih_l0.detach().numpy().copy()
        rows[size : 2 * size] = bias  # of i, f, g, o
        with torch.no_grad():
            nets.torch.bias_ih_l0.copy_(to_torch(rows))
            nets.torch.bias_hh_l0[size : 2 * size] = 0
        hidden = nets.torch.bias_hh_l0.detach().numpy()
        params = {"bias_ih_l0": to_jax(rows), "bias_hh_l0": to_jax(hidden)}
        nets.variables = {"params": nets.variables["params"] | params}
        name = f"LSTM, forget bias {bias:.0f}"
        found[name] = by_lag(nets)
        forget = traces(x, packed(nets, ""))[1]["f"].mean()
        rate = (found[name][1][50] / found[name][1][10]) ** (1 / 40)
        print(f"{name}: gate {forget:.2f} on average, gradient times {rate:.2f} a step")
        # The path through the gates, which see h, comes on top.
        same.holds(f"{name}: no faster than by the gate", rate > 0.95 * forget)
    for name, pair in found.items():
        same(name, np.log(pair[0]), np.log(pair[1]))
    kept = [pair[1][50] / pair[1][0] for pair in found.values()]
    same.holds("Elman's vanishes first, bias 3 last", kept[0] < kept[1] < kept[2] < kept[3])
    same.holds("of ten powers of ten, one is left", kept[0] < 1e-8 and kept[3] > 1e-2)
    if (axis := same.axes()) is not None:
        for i, (name, pair) in enumerate(found.items()):
            twice(axis, range(length), pair, f"C{i}", name)
        axis.set(yscale="log", xlabel="lag", ylabel="gradient to the input", ylim=(1e-18, 10))
        axis.set(title="how far back the last output's gradient reaches")
        axis.legend(fontsize=8)

# %% [cell_state] LSTM Cell State
# A task of memory: of 30 numbers one is marked; at the end it is asked for.
with lesson("cell_state") as same:

    def marked(rng, batch=64, length=30):
        while True:
            x = np.zeros((batch, length, 2))
            x[..., 0] = rng.uniform(-1, 1, (batch, length))
            place = rng.integers(length // 2, size=batch)
            x[np.arange(batch), place, 1] = 1
            yield (x,), (x[np.arange(batch), place, :1],)

    (x,), (wanted,) = next(marked(same.rng, batch=200))
    config = {"input_size": 2, "hidden_size": 8, "output_size": 1}
    nets = Networks(JaxLSTMNet, LSTMNet, same.rng, x[:2], **config)
    with torch.no_grad():
        nets.torch.lstm.bias_ih_l0[8:16] = 4.0
    layer = nets.variables["params"]["lstm"]
    layer["bias_ih_l0"] = to_jax(nets.torch.lstm.bias_ih_l0.detach().numpy())
    losses = trained(nets, marked(same.rng), 1000 if same.full else 400, adams(0.01))
    same("losses", *losses.T, limit=1e-6)
    errors = [rmse(found, wanted) for found in nets(x)]
    print(f"held out, off by {errors[1]:.3f}; numbers spread by {wanted.std():.3f}")
    same.holds("it remembers", max(errors) < 0.3 * wanted.std())

    # Who remembers? Over all sequences, the cell state that goes with the number.
    weights = packed(nets)
    found = traces(x, weights)
    same("traces", *found)
    last = found[1]["c"][-1]
    share = [abs(np.corrcoef(unit, wanted[:, 0])[0, 1]) for unit in last.T]
    keeper = int(np.argmax(share * found[1]["f"][15:, 0].prod(0)))
    print(f"unit {keeper}'s cell state at the end: correlation {share[keeper]:.3f} with the number")
    same.holds("a cell state holds the number", share[keeper] > 0.8)

    # The conveyor belt: dc_T / dc_t, with the gates as given, or with all that they see of h.
    first = int(x[0, :, 1].argmax()) + 1
    states = [found[1][name][first - 1, :1] for name in "ch"]

    def belt(c, args, given) -> Any:
        """The last cell state from one before it, step by step, in either framework."""
        ours, (h, rest, *weights) = isinstance(c, jax.Array), args
        stop: Any = jax.lax.stop_gradient if ours else torch.Tensor.detach
        tanh: Any = jnp.tanh if ours else torch.tanh
        for each in rest:
            now = gates(each, h, c, *weights)
            i, f, g, o = map(stop, now) if given else now
            c = f * c + i * g
            h = o * tanh(c)
        return c[0]

    def jacobians(given):
        (c, *args), (tc, *targs) = (
            [cross(v) for v in [*states, x[0, first:, None], *weights]] for cross in CROSS
        )
        ours = jax.jit(jax.jacobian(lambda c: belt(c, args, given)))(c)
        theirs = torch.autograd.functional.jacobian(lambda c: belt(c, targs, given), tc)
        return ours[:, 0], theirs[:, 0]

    alone, every = jacobians(True), jacobians(False)
    same("dc_T / dc_t, gates given", *alone)
    same("dc_T / dc_t, gates that see h", *every)
    product = found[1]["f"][first:, 0].prod(0)
    same("the belt is the product of the forget gates", np.diag(product), alone[1])
    print(
        f"over {30 - first} steps the keeper's belt passes {product[keeper]:.2f}, all paths "
        f"{every[1][keeper, keeper]:.2f}"
    )
    same.holds("the keeper's belt passes most", product[keeper] > 0.5)
    if (axes := same.axes(3, 1, height=2.8)) is not None:
        for axis, name in zip(axes[:2], "ch", strict=True):
            for unit in range(8):
                line, tline = ((range(30), side[name][:, 0, unit]) for side in found)
                label = f"unit {unit}" + (", the keeper" if unit == keeper else "")
                overlay(axis, line, tline, f"C{unit}", label if name == "c" else None)
            axis.axvline(first - 1, color="k", ls=":")
            axis.set(xlabel="step", ylabel=name)
        axes[0].set_ylim(-2, 2)
        axes[0].set_title(f"cell state and output; {wanted[0, 0]:.2f} is marked at the dotted line")
        axes[0].legend(fontsize=7, ncols=2)
        for i, n in enumerate(wanted[:, 0].argsort()[19::40]):
            line, tline = ((range(30), side["c"][:, n, keeper]) for side in found)
            overlay(axes[2], line, tline, f"C{i}", f"{wanted[n, 0]:.2f}")
            place = x[n, :, 1].argmax()
            axes[2].plot(place, line[1][place], f"C{i}o", ms=8)
        axes[2].set(
            xlabel="step",
            ylabel="c",
            title="the keeper in five sequences; a dot where the number is",
        )
        axes[2].legend(fontsize=7, ncols=2)

# %% [gates] LSTM Gates
with lesson("gates") as same:
    # What the gates of a network that forecasts sunspots do.
    raw, cut, length = series("sunspots"), 230, 24
    values = (raw - raw[:cut].mean()) / raw[:cut].std()
    whole, count = windows(values, length), cut - length
    config = {"input_size": 1, "hidden_size": 12, "output_size": 1}
    naive, nets, runs = rmse(whole["x"][count:, -1], whole["y"][count:]), {}, {}
    for name, sides in (
        ("LSTM", (JaxLSTMNet, LSTMNet)),
        ("peephole", (jax_peephole.PeepholeLSTMNet, peephole.PeepholeLSTMNet)),
    ):
        nets[name] = Networks(*sides, same.rng, whole["x"][:2], **config)
        batches = shuffled(same.rng, (whole["x"][:count],), (whole["y"][:count],), 32)
        runs[name] = trained(nets[name], batches, 500 if same.full else 200, adams(0.02))
        same(f"{name}: losses", *runs[name].T)
        errors = [rmse(found, whole["y"][count:]) for found in nets[name](whole["x"][count:])]
        print(f"{name}: error {errors[1] / naive:.2f} of the naive")
        same.holds(f"{name}: better than the year before", max(errors) < 0.8 * naive)
    weights = packed(nets["LSTM"])
    found = traces(values[None, :, None], weights)
    same("all gates, all years", *found)
    same.holds(
        "gates lie in (0, 1)", all(found[1][n].min() > 0 and found[1][n].max() < 1 for n in "ifo")
    )

    # Peepholes: the gates see c, too. Without weight they are not there.
    size, x = 12, same.rng.standard_normal((4, 1))
    h, c = same.rng.standard_normal((2, 4, size))
    w_ih, w_hh, b_ih, b_hh = weights
    none, holes = np.zeros((3, size)), same.rng.standard_normal((3, size))

    def run(cells, *args):
        return [cell(*map(cross, args)) for cell, cross in zip(cells, CROSS, strict=True)]

    cells = jax_peephole.peephole_lstm_cell, peephole.peephole_lstm_cell
    plain = run((jax_lstm_cell, lstm_cell), x, h, c, *weights)
    blind = run(cells, x, h, c, w_ih, w_hh, b_ih + b_hh, *none)
    seeing = run(cells, x, h, c, w_ih, w_hh, b_ih + b_hh, *holes)
    same("peepholes", *seeing)
    same("peepholes of weight 0: the LSTM", blind[0], plain[1])
    # With h = 0, as behind a shut output gate, the gates of an LSTM do not know c.
    for name, weight in (("without", none), ("with", holes)):
        one, other = (
            run(cells, x, 0 * h, each, w_ih, w_hh, b_ih + b_hh, *weight)[1][1]
            for each in (c, c + 1)
        )
        forget = one - other  # c' is linear in c where no gate sees it
        again = run(cells, x, 0 * h, c + 2, w_ih, w_hh, b_ih + b_hh, *weight)[1][1]
        bent = float(abs((other - again) - forget).max())
        same.holds(f"{name} peepholes", (bent < 1e-12) == (name == "without"))

    # Coupled: f = 1 - i, three blocks of rows in place of four. sigmoid(-a) = 1 - sigmoid(a), so an
    # LSTM whose forget rows are the negative input rows does the same.
    cells = jax_peephole.coupled_lstm_cell, peephole.coupled_lstm_cell
    rows = [w.reshape(4, size, -1)[[0, 2, 3]].reshape(3 * size, -1) for w in (w_ih, w_hh)]
    bias = (b_ih + b_hh).reshape(4, size)
    coupled = run(cells, x, h, c, *rows, bias[[0, 2, 3]].ravel())
    tied = [w.reshape(4, size, -1).copy() for w in (w_ih, w_hh)]
    for w in tied:
        w[1] = -w[0]
    bias[1] = -bias[0]
    as_lstm = run(
        (jax_lstm_cell, lstm_cell),
        x,
        h,
        c,
        *(w.reshape(4 * size, -1) for w in tied),
        bias.ravel(),
        0 * bias.ravel(),
    )
    same("coupled gates", *coupled)
    same("coupled gates are an LSTM's with tied rows", coupled[0], as_lstm[1])
    c_, h_ = np.tanh(c), h
    for _ in range(100):
        h_, c_ = map(to_numpy, run(cells, x, h_, c_, *rows, bias[[0, 2, 3]].ravel())[1])
    same.holds("a mean of what was: |c| <= 1", abs(c_).max() <= 1)
    if (axes := same.axes(5, 1, height=1.6)) is not None:
        years = range(1700, 2009)
        axes[0].plot(years, raw, "k-", lw=0.8)
        axes[0].set(ylabel="sunspots", xlim=(1900, 2008))
        names = {"i": "input", "f": "forget", "g": "candidate", "o": "output"}
        for axis, (gate, name) in zip(axes[1:], names.items(), strict=True):
            for unit in range(3):
                line, tline = ((years, side[gate][:, 0, unit]) for side in found)
                overlay(axis, line, tline, f"C{unit}", None)
            axis.set(ylabel=name, xlim=(1900, 2008))

# %% [bidirectional] Bidirectional LSTM
# Two layers, one of which reads from the end; each step's output sees both. In a padded batch the
# one from the end must not begin in the padding.
with lesson("bidirectional") as same:
    x, lengths = same.rng.standard_normal((5, 9, 3)), np.array([9, 2, 5, 1, 7])
    config = {"input_size": 3, "hidden_size": 4, "output_size": 2}
    nets = Networks(JaxBiLSTM, BiLSTM, same.rng, x, lengths, **config)
    outputs, toutputs = (to_numpy(found) for found in nets(x, lengths))
    same("masked scan and packed sequence", outputs, toutputs)

    # Packed: of each time step the sequences that reach it, one time step after the other.
    plain = torch.nn.LSTM(3, 4, batch_first=True, bidirectional=True)
    plain.load_state_dict(nets.torch.lstm.state_dict())
    pack = pack_padded_sequence(to_torch(x), to_torch(lengths), True, enforce_sorted=False)
    print(
        f"packed: batches of {pack.batch_sizes.tolist()}, {len(pack.data)} steps; padded: {5 * 9}"
    )
    same.holds("as many steps as there are", len(pack.data) == lengths.sum())
    by_hand = nets.torch.fc(pad_packed_sequence(plain(pack)[0], True)[0])
    inside = np.arange(9) < lengths[:, None]
    same("packed by hand", outputs[inside], by_hand[to_torch(inside)])
    # One by one, without any padding: JAX's mask does the same.
    for n, length in enumerate(lengths):
        alone = nets.torch(to_torch(x[n : n + 1, :length]))[0]
        same(f"sequence {n} alone", outputs[n, :length], alone)
    same.holds("padding gives zeros", not outputs[~inside].any() and not toutputs[~inside].any())
    unmasked = nets(x, np.full(5, 9))
    same("without lengths", *unmasked)
    gap = abs(to_numpy(unmasked[1]) - toutputs).max((1, 2), where=inside[..., None], initial=0)
    same.holds("all but the longest are wrong", (gap[lengths < 9] > 1e-3).all() and gap[0] < 1e-12)

    # What it is for: gaps in the sunspots, which both sides of a gap tell of.
    stream = gaps(same.rng, batch=32, length=24)
    test = next(gaps(same.rng, batch=128, length=24))
    given = (((b["x"], b["lengths"]), (b["y"],)) for b in stream)
    config = {"input_size": 2, "hidden_size": 12, "output_size": 1}
    nets = Networks(JaxBiLSTM, BiLSTM, same.rng, test["x"], test["lengths"], **config)
    losses = trained(nets, given, 1000 if same.full else 300, adams(0.02))
    same("losses", *losses.T)
    filled, tfilled = (to_numpy(found)[..., 0] for found in nets(test["x"], test["lengths"]))
    same("filled", filled, tfilled)
    truth, (value, seen) = test["y"][..., 0], np.moveaxis(test["x"], -1, 0)
    missing = (np.arange(24) < test["lengths"][:, None]) & (seen == 0)
    steps = np.arange(24)
    lines = np.stack(
        [np.interp(steps, steps[s == 1], v[s == 1]) for v, s in zip(value, seen, strict=True)]
    )
    before = np.stack(
        [
            v[np.maximum.accumulate(np.where(s == 1, steps, 0))]
            for v, s in zip(value, seen, strict=True)
        ]
    )
    errors = {"the network": tfilled, "a straight line": lines, "the value before": before}
    errors = {name: rmse(found[missing], truth[missing]) for name, found in errors.items()}
    print(", ".join(f"{name}: off by {error:.2f}" for name, error in errors.items()))
    same.holds("better than a straight line", errors["the network"] < errors["a straight line"])
    if (axis := same.axes()) is not None:
        steps = np.arange(test["lengths"][0])
        axis.plot(steps, truth[0][steps], "k-", lw=0.8, label="sunspots")
        shown = steps[seen[0][steps] == 1]
        axis.plot(shown, truth[0][shown], "ko", label="given")
        twice(axis, steps, (filled[0][steps], tfilled[0][steps]), "C0", "filled")
        axis.set(xlabel="year", ylabel="standardised", title="gaps, filled from both sides")
        axis.legend(fontsize=8)

# %% [forecasting] Time Series Prediction with LSTM
# Walk-forward validation: train on all that lies before a block, forecast the block, one step after
# the other; then the block joins what is trained on. Nothing of the future is seen, its mean
# and its spread included.
with lesson("forecasting") as same:
    tasks = {  # window, season, first month or year to forecast, length of a block, differences
        "sunspots": (24, 11, 219, 30, False),
        "co2": (24, 12, 406, 40, True),
    }
    axes = same.axes(2, 1)
    for row, (name, (length, season, cut, block, differ)) in enumerate(tasks.items()):
        raw = series(name)
        moves = np.diff(raw) if differ else raw  # the trend of CO2 lies in its level
        offset = len(raw) - len(moves)
        config = {"input_size": 1, "hidden_size": 16, "output_size": 1}
        nets = Networks(JaxLSTMNet, LSTMNet, same.rng, np.zeros((2, length, 1)), **config)
        start, rules = (nets.variables, copy.deepcopy(nets.torch.state_dict())), adams(0.02)
        forecasts, past, values, first = ([], []), moves, moves, 0
        for begin in range(cut, cut + 3 * block, block):
            past = moves[: begin - offset]
            values = (moves - past.mean()) / past.std()
            whole = windows(values, length)
            first = begin - offset - length  # the window whose forecast is that of `begin`
            nets.variables = start[0]
            nets.torch.load_state_dict(start[1])
            batches = shuffled(same.rng, (whole["x"][:first],), (whole["y"][:first],), 32)
            losses = trained(nets, batches, 600 if same.full else 150, rules)
            same(f"{name} from {begin}: losses", *losses.T, limit=1e-6)
            for side, found in zip(forecasts, nets(whole["x"][first : first + block]), strict=True):
                found = to_numpy(found)[:, 0] * past.std() + past.mean()
                side.append(found + raw[begin - 1 : begin + block - 1] if differ else found)
        ours, theirs = map(np.concatenate, forecasts)
        same(f"{name}: forecasts", ours, theirs, limit=1e-6)
        at = np.arange(cut, cut + 3 * block)
        rivals = {"LSTM": theirs, "the last value": raw[at - 1], "a season ago": raw[at - season]}
        if differ:
            rivals["a season ago, and its trend"] = (
                raw[at - season] + raw[at - 1] - raw[at - season - 1]
            )
        errors = {rival: rmse(found, raw[at]) for rival, found in rivals.items()}
        print(f"{name}: " + ", ".join(f"{rival} {error:.2f}" for rival, error in errors.items()))
        for rival in ("the last value", "a season ago"):
            same.holds(f"{name}: better than {rival}", errors["LSTM"] < 0.8 * errors[rival])

        # Further ahead it reads its own forecasts, which add up what they miss.
        frees = []
        for side in range(2):
            window = values[first : first + length].tolist()
            for _ in range(block):
                window.append(float(nets(np.array(window[-length:])[None, :, None])[side][0, 0]))
            found = np.array(window[length:]) * past.std() + past.mean()
            frees.append(raw[begin - 1] + found.cumsum() if differ else found)
        same(f"{name}: {block} steps on its own", *frees, limit=1e-6)
        if axes is not None:
            dates = 1958 + (2 + at) / 12 if differ else 1700 + at
            axes[row].plot(dates, raw[at], "k-", lw=0.8, label=name)
            twice(axes[row], dates, (ours, theirs), "C0", "one step ahead")
            ahead = dates[-block:]
            twice(axes[row], ahead, frees, "C1", "on its own")
            for date in dates[::block]:
                axes[row].axvline(date, color="k", ls=":", lw=0.8)
            axes[row].set(xlabel="year", ylabel="parts per million" if differ else "sunspots")
            axes[row].legend(fontsize=8)
