"""Recurrent networks in JAX and in PyTorch: the recurrence, its gradient, its gates, its uses.

Run it as a program (`python examples/neural_networks/recurrent.py --out figures`), or cell by cell
in an editor that knows `# %%`. In the figures broad lines are JAX's, dashed ones PyTorch's.
`--full` trains longer: about 70 s on two cores.
"""

# %% Set-up
import copy
import itertools
import time
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from compare.data import captions, frames, text, translation
from compare.data.batches import shuffled
from compare.data.folds import hold_out
from compare.data.series import series, windows
from compare.share import to_jax, to_numpy, to_torch
from compare.study.figures import overlay, picture, twice
from compare.study.lessons import both, lesson
from compare.study.networks import Networks
from compare.study.scripts import script
from jaxnn.foundations import bptt as jax_bptt
from jaxnn.layers.recurrent import GRU as JaxGRU
from jaxnn.layers.recurrent import LSTM as JaxLSTM
from jaxnn.layers.recurrent import RNN as JaxRNN
from jaxnn.rnn import char_lm as jax_char_lm
from jaxnn.rnn import image_captioner as jax_captioner
from jaxnn.rnn import seq2seq as jax_seq2seq
from jaxnn.rnn import speech_tagger as jax_tagger
from jaxnn.rnn.elman import ElmanNet as JaxElmanNet
from jaxnn.rnn.elman import elman_cell as jax_elman_cell
from jaxnn.rnn.gru import GRUNet as JaxGRUNet
from jaxnn.rnn.gru import gru_cell as jax_gru_cell
from jaxnn.rnn.lstm import LSTMNet as JaxLSTMNet
from jaxnn.training.gradients import clip_grad_norm as jax_clip_grad_norm
from jaxnn.training.losses import mse as jax_mse
from jaxnn.training.optimizers import adam as jax_adam
from jaxnn.training.optimizers import sgd as jax_sgd
from torchref.foundations import bptt
from torchref.layers.recurrent import GRU, LSTM, RNN
from torchref.rnn import char_lm, image_captioner, seq2seq, speech_tagger
from torchref.rnn.elman import ElmanNet, elman_cell
from torchref.rnn.gru import GRUNet, gru_cell
from torchref.rnn.lstm import LSTMNet
from torchref.training.gradients import clip_grad_norm
from torchref.training.losses import mse
from torchref.training.optimizers import adam, sgd

script(__name__)

MSE = jax_mse, mse


def trained(nets, batches, losses, steps, lr):
    """Losses of so many steps of Adam, (steps, 2): JAX's, PyTorch's."""
    rules = jax_adam(lr=lr), lambda parameters: adam(parameters, lr=lr)
    return np.array([*nets.train(itertools.islice(batches, steps), losses, rules)])


def given(stream, *targets):
    """Batches of a stream of dicts, whose targets are named, as `Networks.train` takes them."""
    for batch in stream:
        wanted = tuple(batch.pop(name) for name in targets)
        yield tuple(batch.values()), wanted


def rmse(found, wanted):
    return float(np.sqrt(np.mean((np.asarray(found) - wanted) ** 2)))


def smooth(losses, over=20) -> tuple[Any, Any]:
    """Running means of losses (steps, 2), over their steps: JAX's, PyTorch's."""
    means = [np.convolve(each, np.ones(over) / over, "valid") for each in losses.T]
    steps = np.arange(len(means[0])) + over // 2
    return (steps, means[0]), (steps, means[1])


# %% [introduction] Introduction to Recurrent Neural Networks (RNNs)
# One layer, used at every step: h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh). The state h is
# all that it knows of the past, and the weights are the same at every step, however many there are.
with lesson("introduction") as same:
    x = same.rng.standard_normal((4, 12, 3))
    for name, acts in {"tanh": (jnp.tanh, torch.tanh), "relu": (nn.relu, torch.relu)}.items():
        nets = Networks(JaxRNN, RNN, same.rng, x, input_size=3, hidden_size=5, nonlinearity=name)
        (outputs, last), (toutputs, tlast) = nets(x)
        same(f"{name}: outputs of every step", outputs, toutputs)
        same(f"{name}: the last is the state", outputs[:, -1], tlast[0])
        # Unrolled: a loop of the cell, with the layer's weights.
        loops = []
        for cross, act in zip((to_jax, to_torch), acts, strict=True):
            w_ih, w_hh, b_ih, b_hh = map(cross, nets.state()[1].values())
            h, states = cross(np.zeros((4, 5))), []
            for step in range(12):
                h = act(cross(x[:, step]) @ w_ih.T + b_ih + h @ w_hh.T + b_hh)
                states.append(h)
            loops.append(states)
        same(f"{name}: unrolled", loops[0], loops[1])
        same(f"{name}: the loop is the layer", jnp.stack(loops[0], 1), toutputs)

    class JaxEveryStep(nn.Module):
        """Many to many: an output for each step."""

        hidden_size: int

        @nn.compact
        def __call__(self, x, *, train=False):
            return nn.Dense(1, name="fc")(JaxRNN(1, self.hidden_size, name="rnn")(x)[0])

    class EveryStep(torch.nn.Module):
        def __init__(self, hidden_size):
            super().__init__()
            self.rnn, self.fc = RNN(1, hidden_size), torch.nn.Linear(hidden_size, 1)

        def forward(self, x):
            return self.fc(self.rnn(x)[0])

    # Sunspots: from 24 years the next one (many to one), or after each year the next (many to
    # many). Trained on the years before 1930, judged by those after.
    years, length, cut = np.arange(1700, 2009), 24, 1930 - 1700
    raw = series("sunspots")
    scale = raw[:cut].std()
    values = (raw - raw[:cut].mean()) / scale
    whole = windows(values, length)
    count = cut - length  # windows whose next year lies before the cut
    pairs = {
        "many to one": (whole["x"], whole["y"]),
        "many to many": (
            whole["x"],
            np.concatenate([whole["x"][:, 1:], whole["y"][:, None]], axis=1),
        ),
    }
    makers = {
        "many to one": (JaxElmanNet, ElmanNet, {"input_size": 1, "output_size": 1}),
        "many to many": (JaxEveryStep, EveryStep, {}),
    }
    naive = rmse(whole["x"][count:, -1], whole["y"][count:]) * scale
    forecasts = {}
    for name, (x, y) in pairs.items():
        ours, theirs, config = makers[name]
        nets = Networks(ours, theirs, same.rng, x[:2], hidden_size=16, **config)
        batches = shuffled(same.rng, (x[:count],), (y[:count],), 32)
        losses = trained(nets, batches, MSE, 600 if same.full else 300, 0.01)
        same(f"{name}: losses", *losses.T)
        same(f"{name}: parameters", *nets.state())
        forecasts[name] = [to_numpy(f).reshape(len(x), -1)[count:, -1:] for f in nets(x)]
        same(f"{name}: forecasts", forecasts[name][0], forecasts[name][1])
        errors = [rmse(f, whole["y"][count:]) * scale for f in forecasts[name]]
        print(f"{name}: held out, off by {errors[1]:.1f} sunspots; the year before: {naive:.1f}")
        same.holds(f"{name}: better than the year before", max(errors) < 0.8 * naive)
    if (axis := same.axes()) is not None:
        axis.plot(years[cut:], raw[cut:], "k-", lw=0.8, label="sunspots")
        for i, (name, pair) in enumerate(forecasts.items()):
            pair = [f[:, 0] * scale + raw[:cut].mean() for f in pair]
            twice(axis, years[cut:], pair, f"C{i}", name)
        axis.set(xlabel="year", ylabel="sunspots", title="one year ahead, from 24 years")
        axis.legend(fontsize=8)

# %% [bptt] Backpropagation Through Time (BPTT)
# The chain rule on the unrolled loop, from the last step to the first. With a_t inside the tanh:
#   da_t = (1 - h_t^2) (dy_t + W_hh^T da_(t+1))      dW_hh = sum_t da_t h_(t-1)^T
# Truncated to k steps, what comes back from the step behind is dropped at every k-th.
with lesson("bptt") as same:
    size, length = 8, 36
    raw = series("sunspots")
    shapes = {"h": (1, size), "weight_ih": (size, 1), "weight_hh": (size, size)}
    shapes |= {"bias_ih": (size,), "bias_hh": (size,)}
    names = list(shapes)[1:]
    args = {"x": ((raw - raw.mean()) / raw.std())[:length].reshape(1, length, 1)}
    args |= {name: same.rng.uniform(-1, 1, s) / size**0.5 for name, s in shapes.items()}
    ours, theirs = ({k: cross(v) for k, v in args.items()} for cross in (to_jax, to_torch))
    dy, tdy = both(same.rng.standard_normal((1, length, size)))  # a loss of every state

    def by_scan(args, every):
        """The loss of a scan; `stop_gradient` cuts."""
        h, weights = args["h"], [args[name] for name in names]

        def step(h, inputs):
            x, t = inputs
            h = jnp.where((t > 0) & (t % every == 0), jax.lax.stop_gradient(h), h)
            h = jax_elman_cell(x, h, *weights)
            return h, h

        _, y = jax.lax.scan(step, h, (jnp.swapaxes(args["x"], 0, 1), jnp.arange(length)))
        return (jnp.swapaxes(y, 0, 1) * dy).sum()

    def by_loop(args, every, cell=elman_cell, cut=torch.Tensor.detach, dy=tdy) -> Any:
        """The loss of a Python loop; `detach` cuts."""
        h, weights, total = args["h"], [args[name] for name in names], 0.0
        for t in range(length):
            h = cell(args["x"][:, t], cut(h) if t and t % every == 0 else h, *weights)
            total = total + (h * dy[:, t]).sum()
        return total

    y, cache = jax_bptt.elman_forward(**ours)
    ty, tcache = bptt.elman_forward(**theirs)
    same("states", y, ty)
    by_hand, auto = {}, jax.jit(jax.grad(by_scan))
    for every in (1, 2, 4, 9, 18, length):
        cut = None if every == length else every
        hand = jax_bptt.elman_backward(dy, cache, cut), bptt.elman_backward(tdy, tcache, cut)
        leaves = {k: v.clone().requires_grad_() for k, v in theirs.items()}
        slopes = torch.autograd.grad(by_loop(leaves, every), list(leaves.values()))
        same(f"by hand, {every} steps", *hand)
        same(f"torch.autograd, {every} steps", hand[0], dict(zip(leaves, slopes, strict=True)))
        same(f"jax.grad, {every} steps", auto(ours, every), hand[1])
        by_hand[every] = [to_numpy(side["weight_hh"]) for side in hand]
    full, miss = by_hand[length], {}
    for every, pair in by_hand.items():
        miss[every] = [
            np.linalg.norm(g - f) / np.linalg.norm(f) for g, f in zip(pair, full, strict=True)
        ]
        print(f"truncated to {every:2} steps: gradient of W_hh off by {miss[every][1]:.1%}")
    errors = [error for _, error in miss.values()]
    same.holds("one step alone is far off", errors[0] > 0.1)
    same.holds("half of the steps come near", errors[-2] < errors[0] / 2)

    # A scan is one loop in the program; a Python loop is traced step by step, and compiled so.
    loops = {
        "scan": lambda args: by_scan(args, length),
        "loop": lambda args: by_loop(args, length, jax_elman_cell, dy=dy),
    }
    counts = {name: len(jax.make_jaxpr(loop)(ours).eqns) for name, loop in loops.items()}
    for name, loop in loops.items():
        began = time.perf_counter()
        same(f"the gradient of the {name}", jax.jit(jax.grad(loop))(ours), hand[1])
        print(
            f"{name}: {counts[name]} equations, {time.perf_counter() - began:.1f} s at first call"
        )
    same.holds("the loop's program grows with the length", counts["loop"] > 10 * counts["scan"])
    if (axis := same.axes()) is not None:
        steps, (found, tfound) = [*miss], zip(*miss.values(), strict=True)
        twice(axis, steps, (found, tfound), "C0", "gradient of W_hh")
        axis.set(xscale="log", xlabel="steps k that the gradient goes back", xticks=steps)
        axis.set(ylabel="relative error", xticklabels=steps)
        axis.set(title=f"truncated BPTT against the whole, {length} years of sunspots")
        axis.legend()

# %% [vanishing_exploding] Vanishing and Exploding Gradients
# dh_T / dh_t is a product of T - t factors diag(1 - h^2) W_hh. At h = 0 it is a power of W_hh, and
# goes as the lag-th power of its spectral radius; tanh' < 1 takes from it wherever h is large.
with lesson("vanishing_exploding") as same:
    size, length = 24, 60
    gaussian = same.rng.standard_normal((size, size))
    gaussian /= abs(np.linalg.eigvals(gaussian)).max()
    turning = np.linalg.qr(same.rng.standard_normal((size, size)))[0]
    w_ih = np.eye(size)
    ask = same.rng.standard_normal((1, size))  # the loss: one direction of the last state

    @jax.jit
    def by_lag(x, w_hh):
        """The norm of the loss's gradient to each step's input, the last step first."""
        zeros = jnp.zeros(size)

        def loss(x):
            def step(h, x):
                return jax_elman_cell(x, h, to_jax(w_ih), w_hh, zeros, zeros), None

            return (jax.lax.scan(step, jnp.zeros((1, size)), x)[0] * to_jax(ask)).sum()

        return jnp.linalg.norm(jax.grad(loss)(x), axis=(1, 2))[::-1]

    def tby_lag(x, w_hh):
        x, h, zeros = x.clone().requires_grad_(), torch.zeros(1, size), torch.zeros(size)
        for each in x:
            h = elman_cell(each, h, to_torch(w_ih), w_hh, zeros, zeros)
        (slope,) = torch.autograd.grad((h * to_torch(ask)).sum(), x)
        return torch.linalg.matrix_norm(slope).flip(0)

    found, lags = {}, np.arange(length)
    loud = same.rng.standard_normal((length, 1, size))
    for kind, matrix in (("orthogonal", turning), ("Gaussian", gaussian)):
        for radius in (0.8, 1.0, 1.2):
            (w, tw), (x, tx) = both(radius * matrix), both(0 * loud)
            pair = by_lag(x, w), tby_lag(tx, tw)
            same(f"{kind} of radius {radius}", *(np.log(each) for each in pair))
            found[kind, radius] = pair
            rate = np.exp((np.log(pair[1][-1]) - np.log(pair[1][0])) / (length - 1))
            print(f"{kind}, spectral radius {radius}: times {rate:.3f} a step")
            same.holds(f"{kind}: by the radius {radius}", abs(rate / radius - 1) < 0.05)
    wanted = np.linalg.norm(ask) * 1.2**lags
    same("an orthogonal matrix: exactly", found["orthogonal", 1.2][0], torch.tensor(wanted))
    (w, tw), (x, tx) = both(1.2 * turning), both(loud)
    found["orthogonal, inputs of size 1", 1.2] = pair = by_lag(x, w), tby_lag(tx, tw)
    same("with inputs", *(np.log(each) for each in pair))
    same.holds("tanh' < 1 makes it vanish after all", pair[1][-1] < 1e-3 * pair[1][0])

    # To be remembered: the sign of the first input, over 30 steps of small noise.
    def signs(rng, batch=32, length=30):
        while True:
            x = 0.1 * rng.standard_normal((batch, length, 1))
            x[:, 0, 0] = rng.choice([-1.0, 1.0], batch)
            yield (x,), (x[:, 0],)

    rate, clip = 0.1, 0.2
    plain = jax_sgd(lr=rate), lambda parameters: sgd(parameters, lr=rate)

    def clipped(parameters):
        parameters = list(parameters)

        def before(*_):
            clip_grad_norm(parameters, clip)

        optimizer = sgd(parameters, lr=rate)
        optimizer.register_step_pre_hook(before)
        return optimizer

    clipping = optax.chain(jax_clip_grad_norm(clip), jax_sgd(lr=rate)), clipped
    config = {"input_size": 1, "hidden_size": size, "output_size": 1}
    nets = Networks(JaxElmanNet, ElmanNet, same.rng, np.zeros((2, 30, 1)), **config)
    begin = nets.variables, copy.deepcopy(nets.torch.state_dict())
    steps, runs = 500 if same.full else 200, {}
    for name, start, rules in (
        ("Gaussian, 0.5", 0.5 * gaussian, clipping),
        ("Gaussian, 2, not clipped", 2 * gaussian, plain),
        ("Gaussian, 2, clipped", 2 * gaussian, clipping),
        ("orthogonal, 1, clipped", turning, clipping),
    ):
        params = begin[0]["params"]
        rnn = params["rnn"] | {"weight_hh_l0": to_jax(start)}
        nets.variables = {"params": params | {"rnn": rnn}}
        nets.torch.load_state_dict(begin[1] | {"rnn.weight_hh_l0": to_torch(start)})
        batches = itertools.islice(signs(same.rng), steps)
        runs[name] = np.array([*nets.train(batches, MSE, rules)])
        first = 4 if "2" in name else steps  # what explodes blows up rounding, too
        same(f"{name}: losses", *runs[name][:first].T, limit=1e-6)
        print(f"{name}: loss {runs[name][0, 1]:.1f} to {runs[name][-20:, 1].mean():.2g}")
    ends = {name: run[-20:].mean(0) for name, run in runs.items()}
    same.holds("vanishing: nothing is learnt", min(ends["Gaussian, 0.5"]) > 0.9)
    exploded = ~(ends["Gaussian, 2, not clipped"] < 100)  # at last it is no number
    same.holds("exploding: worse than nothing", exploded.all())
    same.holds("clipped: it learns", max(ends["Gaussian, 2, clipped"]) < 0.05)
    same.holds("orthogonal: so does this", max(ends["orthogonal, 1, clipped"]) < 0.05)
    if (axes := same.axes(1, 2, height=4.2)) is not None:
        for i, ((kind, radius), pair) in enumerate(found.items()):
            twice(axes[0], lags, pair, f"C{i}", f"{kind}, {radius}")
        axes[0].set(yscale="log", xlabel="lag", ylabel="norm of the gradient", ylim=(1e-12, 1e8))
        axes[0].set_title("by the spectral radius")
        axes[0].legend(fontsize=7)
        for i, (name, run) in enumerate(runs.items()):
            twice(axes[1], range(steps), run.T, f"C{i}", name)
        axes[1].set(yscale="log", xlabel="step", ylabel="loss", ylim=(1e-5, 1e8))
        axes[1].set_title("remember a sign over 30 steps")
        axes[1].legend(fontsize=7)

# %% [lstm] Long Short-Term Memory (LSTM) Networks
# c' = f c + i g, h' = o tanh(c'): the cell state is added to, and not multiplied by a matrix.
with lesson("lstm") as same:
    # Stacked, both ways, on sequences of different length.
    x, lengths = same.rng.standard_normal((5, 9, 3)), np.array([9, 4, 1, 7, 9])
    config = {"input_size": 3, "hidden_size": 4, "num_layers": 2}
    nets = Networks(JaxLSTM, LSTM, same.rng, x, lengths, bidirectional=True, **config)
    found = nets(x, lengths)
    same("outputs, last h, last c", *found)
    same.holds("padding gives zeros", not to_numpy(found[1][0])[1, 4:].any())

    # Dropout between the layers: only in training, and not along time. At rate 1 no draw is left.
    for rate in (0.5, 1.0):
        nets = Networks(JaxLSTM, LSTM, same.rng, x, dropout=rate, **config)
        same(f"dropout {rate}: none in evaluation", *nets(x))
    found = nets.jax.apply(
        nets.variables, to_jax(x), train=True, rngs={"dropout": jax.random.key(0)}
    )
    nets.torch.train()
    same("all dropped: the second layer sees zeros", found, nets.torch(to_torch(x)))
    same.holds("the same at every sequence", float(np.ptp(found[0], axis=0).max()) < 1e-12)

    # The adding problem: of random numbers two are marked; what is their sum?
    def sums(rng, batch=64, longest=16):
        while True:
            lengths = rng.integers(longest // 2, longest, batch, endpoint=True)
            x = np.zeros((batch, longest, 2))
            x[..., 0] = rng.random((batch, longest))
            for row, length in zip(x, lengths, strict=True):
                row[length:] = 0
                row[rng.choice(length, 2, replace=False), 1] = 1
            yield (x, lengths), (x.prod(-1).sum(1, keepdims=True),)

    size = 24
    config = {"input_size": 2, "hidden_size": size, "output_size": 1}
    test, wanted = next(sums(same.rng, batch=500))
    guess, steps = float(wanted[0].var()), 1500 if same.full else 350
    runs, ends = {}, {}
    for name, sides in (("LSTM", (JaxLSTMNet, LSTMNet)), ("Elman", (JaxElmanNet, ElmanNet))):
        nets = Networks(*sides, same.rng, *(each[:2] for each in test), **config)
        if name == "LSTM":  # the forget gates begin open: their bias is 1 more
            bias = nets.torch.lstm.bias_ih_l0.detach()
            bias[size : 2 * size] += 1
            nets.variables["params"]["lstm"]["bias_ih_l0"] = to_jax(bias.numpy())
        runs[name] = trained(nets, sums(same.rng), MSE, steps, 0.02)
        # Elman's gradients explode at times, and rounding with them; then only the outcome counts.
        same(f"{name}: losses", *runs[name][: steps if name == "LSTM" else 30].T, limit=1e-6)
        ends[name] = [rmse(found, wanted[0]) ** 2 for found in nets(*test)]
        print(f"{name}: squared error {ends[name][1]:.4f}; of the mean {guess:.4f}")
    same.holds("the LSTM adds", max(ends["LSTM"]) < 0.2 * guess)
    same.holds("Elman's network is far behind", min(ends["Elman"]) > 3 * max(ends["LSTM"]))
    if (axis := same.axes()) is not None:
        for i, (name, run) in enumerate(runs.items()):
            overlay(axis, *smooth(run), f"C{i}", name)
        axis.axhline(guess, color="k", ls=":", label="the mean, always")
        axis.set(yscale="log", xlabel="step", ylabel="squared error")
        axis.set(title="the adding problem, 8 to 16 steps")
        axis.legend()

# %% [gru] Gated Recurrent Units (GRUs)
# One state, two gates: h' = (1 - z) n + z h. Reset after the product, as cuDNN, PyTorch and Flax
# have it, or before it, as in the paper:
#   after    n = tanh(W_in x + b_in + r (W_hn h + b_hn))
#   before   n = tanh(W_in x + b_in + W_hn (r h) + b_hn)
with lesson("gru") as same:
    size, x = 5, same.rng.standard_normal((4, 9, 3))
    nets = Networks(JaxGRU, GRU, same.rng, x, input_size=3, hidden_size=size)
    (outputs, _), (toutputs, _) = nets(x)
    same("the layer", outputs, toutputs)

    def before(x, h, w_ih, w_hh, b_ih, b_hh, sigmoid=nn.sigmoid, tanh=jnp.tanh):
        """The paper's form, in either framework."""
        r, z, n = (slice(k * size, (k + 1) * size) for k in range(3))
        from_x, from_h = x @ w_ih.T + b_ih, h @ w_hh.T + b_hh
        reset, z = sigmoid((from_x + from_h)[:, r]), sigmoid((from_x + from_h)[:, z])
        candidate = tanh(from_x[:, n] + (reset * h) @ w_hh[n].T + b_hh[n])
        return (1 - z) * candidate + z * h

    def runs(cells, weights):
        """The last states of both frameworks' loops."""
        found = []
        for cross, cell in zip((to_jax, to_torch), cells, strict=True):
            h = cross(np.zeros((4, size)))
            for t in range(9):
                h = cell(cross(x[:, t]), h, *map(cross, weights))
            found.append(h)
        return found

    papers = before, partial(before, sigmoid=torch.sigmoid, tanh=torch.tanh)
    weights = list(nets.state()[1].values())
    after, paper = runs((jax_gru_cell, gru_cell), weights), runs(papers, weights)
    same("reset after", *after)
    same("which is the layer's", after[0], toutputs[:, -1])
    same("reset before", *paper)
    gap = float(abs(paper[1] - after[1]).max())
    print(f"the two forms, of the same weights, differ by {gap:.2f}")
    same.holds("the forms are two", gap > 0.01)
    # A diagonal W_hn commutes with r, and without a bias behind it the two are one.
    diagonal = [w.copy() for w in weights]
    diagonal[1][2 * size :] *= np.eye(size)
    diagonal[3][2 * size :] = 0
    pair = runs((jax_gru_cell, gru_cell), diagonal), runs(papers, diagonal)
    same("one with a diagonal W_hn", pair[0][0], pair[1][1])

    # Three blocks of rows where the LSTM has four; to be fair, the GRU gets more units.
    raw, length, cut = series("sunspots"), 24, 230
    values = (raw - raw[:cut].mean()) / raw[:cut].std()
    whole, count = windows(values, length), cut - length
    naive, ends = rmse(whole["x"][count:, -1], whole["y"][count:]), {}
    for name, sides, size in (
        ("LSTM", (JaxLSTMNet, LSTMNet), 16),
        ("GRU", (JaxGRUNet, GRUNet), 19),
    ):
        config = {"input_size": 1, "hidden_size": size, "output_size": 1}
        nets = Networks(*sides, same.rng, whole["x"][:2], **config)
        counts = [sum(v.size for v in side.values()) for side in nets.state()]
        gates = 4 if name == "LSTM" else 3
        wanted = gates * size * (1 + size + 2) + size + 1
        same.holds(f"{name}, {size}: G H (D + H + 2) and the head", counts == [wanted, wanted])
        batches = shuffled(same.rng, (whole["x"][:count],), (whole["y"][:count],), 32)
        losses = trained(nets, batches, MSE, 500 if same.full else 150, 0.01)
        same(f"{name}, {size}: losses", *losses.T)
        found = [rmse(f, whole["y"][count:]) for f in (g[count:] for g in nets(whole["x"]))]
        ends[f"{name} of {size}"] = counts[1], losses, found
        print(f"{name} of {size}: {wanted} parameters, error {found[1] / naive:.2f} of the naive")
        same.holds(f"{name}, {size}: better than the year before", max(found) < 0.8 * naive)
    if (axis := same.axes()) is not None:
        for i, (name, (count, losses, _)) in enumerate(ends.items()):
            overlay(axis, *smooth(losses), f"C{i}", f"{name}: {count} parameters")
        axis.set(yscale="log", xlabel="step", ylabel="loss", title="the next year's sunspots")
        axis.legend(fontsize=8)

# %% [applications] Applications of RNNs
# Four tasks, four shapes: text to its next character, sound to a tag for each frame, an image to
# words, words to digits. All are judged by what they were not trained on.
with lesson("applications") as same:
    axes = same.axes(2, 2, height=3.4)

    def learned(name, modules, loss, stream, targets, steps, lr, **config):
        """Networks of one architecture, trained on a stream of batches."""
        example = next(stream)
        example.pop(targets)
        ours, theirs = (getattr(module, name) for module in modules)
        nets = Networks(ours, theirs, same.rng, *example.values(), **config)
        losses = tuple(getattr(module, loss) for module in modules)
        steps, lr = (3 * steps, lr / 3) if same.full else (steps, lr)
        run = trained(nets, given(stream, targets), losses, steps, lr)
        same(f"{name}: losses", *run.T, limit=1e-6)
        return nets

    def written(nets, *inputs):
        """What both networks write by themselves."""
        *arrays, start, length = inputs
        theirs = nets.torch.generate(*(to_torch(a) for a in arrays), start, length)
        arrays = [a.transpose(0, 2, 3, 1) if a.ndim == 4 else a for a in arrays]
        write = jax.jit(lambda v, *a: nets.jax.apply(v, *a, start, length, method="generate"))
        return write(nets.variables, *map(to_jax, arrays)), theirs

    # A language model: the next character of Python's help texts; the last tenth is held out.
    prose, signs = text.prose(), len(text.ALPHABET)
    cut = len(prose) * 9 // 10
    stream = text.characters(same.rng, batch=32, length=32, share=slice(cut))
    config = {"vocab_size": signs, "embedding_size": 16, "hidden_size": 48}
    loss = "next_character_loss"
    nets = learned("CharLM", (jax_char_lm, char_lm), loss, stream, "targets", 150, 0.03, **config)
    held = prose[cut : cut + 3300].reshape(100, 33)
    outputs, toutputs = nets(held[:, :-1])
    nats = jax_char_lm.next_character_loss(outputs, to_jax(held[:, 1:]))
    tnats = char_lm.next_character_loss(toutputs, to_torch(held[:, 1:]))
    same("characters: held out", nats, tnats, 1e-6)
    alone = -np.log(np.bincount(prose[:cut], minlength=signs) / cut)[held[:, 1:]].mean()
    same.holds("characters: far better than by frequency", nats < 0.75 * alone)
    # It writes. Each character is drawn: argmax(logits + Gumbel noise) is a draw from the softmax.
    noise = same.rng.gumbel(size=(60, signs))

    def write(step, cross, token, state):
        tokens = []
        for each in cross(noise):
            logits, state = step(token, state)
            token = (1.5 * logits[:, 0] + each).argmax(-1)[:, None]
            tokens.append(int(token[0, 0]))
        return text.decode(tokens)

    step = jax.jit(nets.jax.apply)
    zeros = (jnp.zeros((1, 1, 48)),) * 2
    said = write(partial(step, nets.variables), to_jax, to_jax(np.zeros((1, 1), int)), zeros)
    with torch.no_grad():
        tsaid = write(nets.torch, to_torch, torch.zeros(1, 1, dtype=torch.int64), None)
    same.holds("characters: both write the same", said == tsaid)
    print(f"characters: {tnats / np.log(2):.2f} bits, by frequency {alone / np.log(2):.2f}")
    print(f"  {tsaid!r}")

    # A tagger of speech: silence, vowels and noise, in a noisy recording.
    stream = frames.frames(same.rng, batch=16, length=40, noise=0.1)
    config = {"num_features": 20, "channels": 16, "hidden_size": 12, "num_tags": len(frames.TAGS)}
    modules = jax_tagger, speech_tagger
    nets = learned("SpeechTagger", modules, "tag_loss", stream, "tags", 60, 0.02, **config)
    test = next(frames.frames(same.rng, batch=64, length=40, noise=0.1))
    scores, tscores = (to_numpy(found) for found in nets(test["x"], test["lengths"]))
    same("speech: held out", scores, tscores, 1e-6)
    inside, tags = test["tags"] >= 0, tscores.argmax(-1)
    right = (tags == test["tags"])[inside].mean()
    print(f"speech: {right:.1%} of the frames")
    same.holds("speech: nine of ten frames", right > 0.9)
    if axes is not None:
        axes[0, 0].imshow(test["x"][0].T, origin="lower", aspect="auto")
        for values, label, color in (
            (test["tags"], "what it is", "w"),
            (tags, "what it says", "r"),
        ):
            style = "-" if color == "w" else ":"
            axes[0, 0].step(range(40), 4 * values[0] + 1, color + style, where="mid", label=label)
        axes[0, 0].set(xlabel="frame", ylabel="tag", title="energies and tags of one utterance")
        axes[0, 0].set(yticks=4 * np.arange(5) + 1, yticklabels=frames.TAGS)
        axes[0, 0].legend(fontsize=7)

    # A captioner: two digits side by side, none of which it has seen.
    train, held = hold_out(1797, 0.2, same.rng)
    stream = captions.captions(same.rng, batch=32, among=train)
    config = {"image_size": (8, 16), "channels": 1, "width": 8, "embedding_size": 8}
    config |= {"hidden_size": 32, "vocab_size": len(captions.VOCABULARY)}
    modules = jax_captioner, image_captioner
    nets = learned(
        "ImageCaptioner", modules, "caption_loss", stream, "targets", 300, 0.01, **config
    )
    test = captions.captioned(same.rng.choice(held, (200, 2)))
    words, twords = written(nets, test["images"].astype(float), captions.START, 3)
    same("captions: words", words, twords)
    right = (to_numpy(twords) == test["targets"]).all(1).mean()
    print(f"captions: {right:.1%} of the pairs")
    same.holds("captions: three of four pairs", right > 0.75)
    if axes is not None:
        said = [" ".join(captions.VOCABULARY[word] for word in row[:2]) for row in twords[:2]]
        for axis, image, title in zip((axes[0, 1], axes[1, 0]), test["images"], said, strict=False):
            picture(axis, image[0], title)

    # Translation with attention: numbers in words to digits, of numbers that it has not seen.
    train, held = (part + 1 for part in hold_out(translation.MOST, 0.2, same.rng))
    stream = translation.translations(same.rng, batch=32, among=train)
    config = {"source_vocab": len(translation.WORDS), "target_vocab": len(translation.DIGITS)}
    config |= {"embedding_size": 16, "hidden_size": 24}
    modules, loss = (jax_seq2seq, seq2seq), "translation_loss"
    nets = learned("Seq2Seq", modules, loss, stream, "targets", 200, 0.015, **config)
    test = translation.pairs([4017, *held[:299]])
    found = written(nets, test["source"], test["lengths"], translation.START, 5)
    same("translation: digits", found[0][0], found[1][0])
    same("translation: where it looks", found[0][1], found[1][1], 1e-6)
    digits = [translation.digits_of(row) for row in found[1][0]]
    right = np.mean([said == str(n) for said, n in zip(digits[1:], held, strict=False)])
    print(f"translation: {right:.1%} of the numbers")
    same.holds("translation: nine of ten numbers", right > 0.9)
    if axes is not None:
        spelled = translation.spelled(4017)
        axes[1, 1].imshow(found[1][1][0, :, : len(spelled)], vmin=0, vmax=1)
        axes[1, 1].set_xticks(range(len(spelled)), spelled, fontsize=8)
        axes[1, 1].set_aspect("auto")
        marks = [*digits[0], "<end>"]
        axes[1, 1].set(yticks=range(len(marks)), yticklabels=marks)
        axes[1, 1].set(title="where each digit looks", ylim=(len(marks) - 0.5, -0.5))
