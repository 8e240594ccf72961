"""Long short-term memory in JAX and in PyTorch: the cell, its gradient, its gates, forecasts.

Every lesson shows the same thing twice, once as users of JAX and Flax write it and once as users of
PyTorch do, runs both on the same numbers, and holds what they give to each other in float64. In the
figures broad lines are JAX's, dashed ones PyTorch's.
"""

# %% side="both"
from functools import partial

import numpy as np

from compare.data.series import series, windows
from compare.study.figures import legend, lines
from compare.study.lessons import lesson
from compare.study.scripts import script

script(__name__)  # a program runs the lessons from here; a notebook goes on to the next cell


def off(found, truth):
    """The root of the mean squared error."""
    return np.sqrt(np.mean((found - truth) ** 2))


def match(units, number):
    """How closely each unit (N, H) goes with a number (N,): the size of their correlation."""
    return abs(np.corrcoef(units.T, number)[-1, :-1])


def gapped(rng, values, size, share=0.3):
    """All windows of a series (M, size, 1), cut to random lengths (M,), with gaps.

    Returns: the inputs (M, size, 2), value or 0 and whether it is there; the lengths; the windows.
    """
    y = np.lib.stride_tricks.sliding_window_view(values, size)[..., None]
    lengths = rng.integers(size // 2, size, size=len(y), endpoint=True)
    inside = (np.arange(size) < lengths[:, None])[..., None]
    seen = inside & (rng.random(y.shape) >= share)
    return np.concatenate([y * seen, seen], axis=-1), lengths, y * inside


# %% side="jax"
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

# %% side="torch"
import torch
from torch.autograd.functional import jacobian
from torch.nn.functional import mse_loss
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

# %% [markdown] lesson="introduction" title="Introduction to LSTM"
# A recurrent network reads a sequence step by step and keeps what it knows in a state. The simplest
# one makes a new state from the old one and the input at every step, so that all it knows is
# rewritten all the time. Long short-term memory, LSTM, keeps its knowledge in a *cell state* $c$
# that is left alone unless the network decides otherwise. Three *gates*, numbers between 0 and 1,
# decide for each unit: $i$, how much is stored; $f$, how much of the old is kept; $o$, how much is
# shown. What may be stored is the *candidate* $g$. With the input $x$ and the output before, $h$:
#
# $$\begin{aligned} i, f, o &= \sigma(W x + U h + b) \quad\text{each with its own } W, U, b \\
#   g &= \tanh(W_g x + U_g h + b_g) \\
#   c' &= f\,c + i\,g \qquad h' = o \tanh(c') \end{aligned}$$
#
# Here $\sigma(a) = 1/(1 + e^{-a})$. The first cells are these equations. The four matrices are
# stacked into one, so that a step needs one product with $x$ and one with $h$. In JAX the loop over
# the steps is `scan`: a function from a state and an input to a new state and what is to be kept.
# In PyTorch it is a loop. With one unit, the weights can be chosen by hand: the figure shows a cell
# that stores a number when its second input says "write", and gives it out when the third says
# "show".


# %% side="jax"
@jax.jit
def lstm_jax(weights, x):
    w, u, b, b_more = weights  # the rows of i, f, g, o, one block below the other

    def step(state, x_t):
        h, c = state
        i, f, g, o = jnp.split(x_t @ w.T + h @ u.T + b + b_more, 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), (h, c)

    zeros = jnp.zeros((len(x), u.shape[1]))
    _, (h, c) = jax.lax.scan(step, (zeros, zeros), x.swapaxes(0, 1))  # over the first axis
    return {"h": h.swapaxes(0, 1), "c": c.swapaxes(0, 1)}


# %% side="torch"
def lstm_torch(weights, x):
    w, u, b, b_more = weights  # the rows of i, f, g, o, one block below the other
    h = c = torch.zeros(len(x), u.shape[1])
    every_h, every_c = [], []
    for x_t in x.unbind(1):
        i, f, g, o = (x_t @ w.T + h @ u.T + b + b_more).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        every_h.append(h)
        every_c.append(c)
    return {"h": torch.stack(every_h, 1), "c": torch.stack(every_c, 1)}


# %% [markdown]
# The frameworks' own layers do the same, once they are given the weights. PyTorch's has the stacked
# arrays from above, with a bias for each product; the two are added. Flax's has a small dense layer
# for each letter: `ii` for the input gate's $W$, `hi` for its $U$ and $b$, and so on. Nothing in an
# array of numbers says in which order the gates lie: the file format ONNX has i, o, f, g. The cells
# also read the blocks in that order, to see what happens, and differentiate a sum of squares.


# %% side="jax"
def layer_jax(weights, order):
    blocks = zip(order, *(jnp.split(weight, 4) for weight in weights), strict=True)
    params = {}
    for gate, w, u, b, b_more in blocks:
        params["i" + gate] = {"kernel": w.T}
        params["h" + gate] = {"kernel": u.T, "bias": b + b_more}
    layer = nn.RNN(nn.OptimizedLSTMCell(5, param_dtype=float))
    return lambda x: layer.apply({"params": {"cell": params}}, x)


def run_jax(weights, x):
    def loss(weights):
        return (layer_jax(weights, "ifgo")(x) ** 2).sum()

    return {
        "by hand": lstm_jax(weights, x)["h"],
        "the layer": layer_jax(weights, "ifgo")(x),
        "in another order": layer_jax(weights, "iofg")(x),
        "gradients": jax.grad(loss)(weights),
    }


# %% side="torch"
def layer_torch(weights, order):
    layer = torch.nn.LSTM(3, 5, batch_first=True)
    with torch.no_grad():
        for parameter, weight in zip(layer.parameters(), weights, strict=True):
            blocks = dict(zip(order, weight.chunk(4), strict=True))
            parameter.copy_(torch.cat([blocks[gate] for gate in "ifgo"]))
    return layer


def run_torch(weights, x):
    layer = layer_torch(weights, "ifgo")
    outputs, _ = layer(x)  # and the last (h, c)
    (outputs**2).sum().backward()
    return {
        "by hand": lstm_torch(weights, x)["h"],
        "the layer": outputs,
        "in another order": layer_torch(weights, "iofg")(x)[0],
        "gradients": [parameter.grad for parameter in layer.parameters()],
    }


# %% side="both"
with lesson("introduction") as same:
    number, write, show = np.eye(3)  # the inputs
    w = np.stack([20 * write, -20 * write, number, 20 * show])
    latch = (w, np.zeros((4, 1)), np.array([-10.0, 10, 0, -10]), np.zeros(4))
    x = np.zeros((1, 20, 3))
    x[0, :, 0] = same.rng.uniform(-1.5, 1.5, 20)
    x[0, [3, 12], 0] = 0.8, -0.5
    x[0, [3, 12], 1] = x[0, [7, 8, 17], 2] = 1
    ours, theirs = same.run(lstm_jax, lstm_torch, latch, x)
    for step in (3, 7, 12, 17):
        same.row(f"cell state in step {step}", ours["c"][0, step, 0], theirs["c"][0, step, 0])
    written = np.tanh(x[0, [3, 12], 0])
    same.holds(
        "what was written is still there", abs(theirs["c"][0, [11, 19], 0] - written).max() < 1e-2
    )
    axis = same.axes(height=4)
    axis.plot(np.tanh(x[0, :, 0]), "k.", label="tanh of the number")
    for name in "ch":
        lines(axis, ours[name][0, :, 0], theirs[name][0, :, 0], label=name)
    for place, say in ((3, "write"), (7.5, "show"), (12, "write"), (17, "show")):
        axis.text(place, 1.02, say, ha="center")
    axis.set(xlabel="step", ylim=(-1, 1.15), xlim=(-0.5, 26.5), xticks=range(0, 20, 2))
    axis.set_title("a memory of one unit, its weights set by hand")
    legend(axis, loc="center right")

    weights = [same.rng.uniform(-0.5, 0.5, shape) for shape in ((20, 3), (20, 5), 20, 20)]
    ours, theirs = same.run(run_jax, run_torch, weights, same.rng.standard_normal((4, 9, 3)))
    same("by hand is the layer", ours["by hand"], theirs["the layer"])
    same("both biases have the same gradient", ours["gradients"][2], theirs["gradients"][3])
    wrong = abs(theirs["in another order"] - theirs["the layer"]).max()
    same.holds("another order runs, too, and is wrong", wrong > 0.01)

# %% [markdown]
# ### Where the frameworks part
# | | `torch.nn.LSTM` | Flax's cells in `nn.RNN` | |
# |---|---|---|---|
# | the gates | one array, blocks i, f, g, o | a layer for each, by name | RNN-01 |
# | biases | two, which are added | one | RNN-02 |
# | a step of training | moves both, their sum twice as far | moves the one | RNN-04 |
# | the state | `(h, c)` | `(c, h)` | RNN-03 |
# | first axis | time, unless `batch_first=True` | the batch, unless `time_major=True` | RNN-13 |
# | type of the parameters | that of the module | float32, unless `param_dtype` | DT-09 |
#
# ### Try it
# - Make the bias of the latch's forget gate 0, so that $f$ is a half. What is left of the number
#   after four steps, and after eight?
# - Set the forget gate's weight of "write" to 0. What does the cell hold after the second writing?
# - Swap the names `h` and `c` in the first line of JAX's `step`. What tells you of the mistake?

# %% [markdown] lesson="vanishing_gradient" title="Vanishing Gradient Problem"
# How far back can a recurrent network learn? A network learns from gradients, so the question is
# how strongly the last output depends on an input $k$ steps before it. In the simplest recurrent
# network, Elman's, with $h_t = \tanh(W x_t + U h_{t-1} + b)$, the chain rule gives a product:
#
# $$\frac{\partial h_T}{\partial h_t} = \prod_{s=t+1}^{T} \operatorname{diag}(1 - h_s^2)\, U$$
#
# Each factor shrinks a vector if $U$ is small, and once more where $\tanh$ is flat. A product of
# fifty such factors is next to nothing: the gradient *vanishes*, and what happened long ago leaves
# no trace in the training.
#
# An LSTM has a second path, along the cell state. As $c_s = f_s c_{s-1} + i_s g_s$, that path is a
# product of forget gates alone, $\prod_s f_s$, unit by unit, without a matrix. It is as long as the
# gates are near 1, and they begin near $\sigma(b_f)$: a bias of 0 gives 0.5, 1 gives 0.73, and 3
# gives 0.95. Therefore one often starts with a forget bias of 1 or more.
#
# The first cells make the layers and set that bias. Flax's parameters are a dictionary that is
# never changed: the function returns a new one, with one entry replaced. PyTorch's are changed in
# place, and `no_grad` says that this is no part of a computation to be differentiated.


# %% side="jax"
def network_jax(kind):
    cell = nn.SimpleCell if kind == "Elman" else nn.OptimizedLSTMCell
    return nn.RNN(cell(24, param_dtype=float))


def set_forget_jax(variables, bias):
    cell = variables["params"]["cell"]
    forget = cell["hf"] | {"bias": jnp.full(24, bias)}
    return {"params": {"cell": cell | {"hf": forget}}}


# %% side="torch"
def network_torch(kind):
    layer = torch.nn.RNN if kind == "Elman" else torch.nn.LSTM
    return layer(1, 24, batch_first=True)


def set_forget_torch(layer, bias):
    with torch.no_grad():
        layer.bias_ih_l0[24:48] = bias  # i, f, g, o: the second block of 24
        layer.bias_hh_l0[24:48] = 0


# %% [markdown]
# Then a random question is put to the last output, and differentiated with respect to the inputs.
# What is compared is the logarithm of the gradient's size at each distance, the *lag*: small
# gradients count as much as large ones. The layers do not tell their gates, but all that a gate
# sees is known afterwards: the inputs, and the outputs of the step before.


# %% side="jax"
def reach_jax(kind, variables, bias, x, ask):
    net = network_jax(kind)
    if kind == "LSTM":
        variables = set_forget_jax(variables, bias)

    def answer(x):
        h = jax.jit(net.apply)(variables, x)
        return (h[:, -1] * ask).sum(), h

    slopes, h = jax.jit(jax.grad(answer, has_aux=True))(x)
    found = {"log of the gradient": jnp.log(jnp.linalg.norm(slopes, axis=(0, 2)))[::-1]}
    if kind == "LSTM":
        cell = variables["params"]["cell"]
        before = jnp.pad(h[:, :-1], ((0, 0), (1, 0), (0, 0)))  # the first step saw zeros
        rows = x @ cell["if"]["kernel"] + before @ cell["hf"]["kernel"] + cell["hf"]["bias"]
        found["forget gate"] = nn.sigmoid(rows).mean()
    return found


# %% side="torch"
def reach_torch(kind, state, bias, x, ask):
    net = network_torch(kind)
    net.load_state_dict(state)
    if kind == "LSTM":
        set_forget_torch(net, bias)

    x.requires_grad_()
    h, _ = net(x)
    (h[:, -1] * ask).sum().backward()
    sizes = torch.linalg.norm(x.grad, dim=(0, 2))
    found = {"log of the gradient": torch.log(sizes).flip(0)}
    if kind == "LSTM":
        w, u, b, b_more = (parameter.chunk(4)[1] for parameter in net.parameters())
        before = torch.nn.functional.pad(h[:, :-1], (0, 0, 1, 0))  # the first step saw zeros
        rows = x @ w.T + before @ u.T + b + b_more
        found["forget gate"] = torch.sigmoid(rows).mean()
    return found


# %% side="both"
with lesson("vanishing_gradient") as same:
    x, ask = same.rng.standard_normal((16, 60, 1)), same.rng.standard_normal((16, 24))
    axis, left = same.axes(height=4), []
    for kind, biases in (("Elman", [None]), ("LSTM", [0.0, 1.0, 3.0])):
        weights = same.weights(network_jax(kind), partial(network_torch, kind), x)
        for bias in biases:
            name = kind if bias is None else f"LSTM, forget bias {bias:.0f}"
            ours, theirs = same.run(reach_jax, reach_torch, kind, weights, bias, x, ask)
            logs = [side["log of the gradient"] for side in (ours, theirs)]
            rates = [np.exp((each[50] - each[10]) / 40) for each in logs]
            same.row(f"{name}: each step back, gradient times", *rates)
            if kind == "LSTM":
                gates = ours["forget gate"], theirs["forget gate"]
                same.row(f"{name}: forget gate on average", *gates)
                same.holds(f"{name}: fades no faster than the gate", rates[1] > 0.95 * gates[1])
            left.append(np.exp(logs[1][50] - logs[1][0]))
            lines(axis, *map(np.exp, logs), label=name)
    same.holds("Elman's fades fastest, then bias 0, 1, 3", left == sorted(left))
    same.holds("of a hundred million, Elman's leaves not one", left[0] < 1e-8)
    same.holds("forget bias 3 leaves one of a hundred", left[3] > 1e-2)
    axis.set(yscale="log", xlabel="lag", ylabel="gradient", ylim=(1e-18, 100))
    axis.set(title="how far back the last output's gradient reaches")
    legend(axis)

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | Flax | |
# |---|---|---|---|
# | the forget gate's bias | half of it in each of two arrays | one array, `hf` | RNN-02 |
# | first biases | up to $1/\sqrt H$ in size, $H$ units | 0 | INIT-02 |
# | parameters are set | in place, under `no_grad` | in a new dictionary | |
# | gradient of an input | `x.requires_grad_()`, then `x.grad` | `jax.grad` by the argument | |
#
# In neither framework is the forget bias 1: that has to be set. (Haiku, and TensorFlow's older
# cells, add it inside the gate: RNN-05.)
#
# ### Try it
# - Multiply Elman's recurrent weights $U$ by 1.5 and by 3. With which of the two does the gradient
#   no longer vanish?
# - Set the forget bias to 10. Does the gradient reach further than with 3? What can such a network
#   no longer do?
# - Leave out the line that zeroes `bias_hh_l0`. Which curves of the two frameworks still agree?

# %% [markdown] lesson="cell_state" title="LSTM Cell State"
# What does a cell state do in a network that has learned? Here is a task that needs a memory: of
# thirty random numbers one is marked, somewhere in the first half, and at the end the network is
# asked for it. Three units learn it, with forget gates that begin near 1. Then we look inside for
# the *keeper*: a unit whose cell state goes with the marked number from sequence to sequence, right
# after the mark as well as at the end. It carries the number along, as a conveyor belt does.
#
# The belt can be measured. Of $c_t = f_t c_{t-1} + i_t g_t$ take the gates and the candidate as
# given. Then the matrix of derivatives, the *Jacobian*, is diagonal:
#
# $$\frac{\partial c_T}{\partial c_t} = \operatorname{diag}\Big(\prod_{s=t+1}^{T} f_s\Big)$$
#
# In truth the gates see $h$, and $h$ comes from $c$, so that there are other paths, too. Autodiff
# counts them all, unless it is told to take the gates as constants: by `stop_gradient` in JAX, by
# `detach` in PyTorch. The first cells train; the next look at the trained cell, and differentiate.


# %% side="jax"
class Memory_jax(nn.Module):
    @nn.compact
    def __call__(self, x):
        cell = nn.OptimizedLSTMCell(3, param_dtype=float, name="lstm")
        (_, h), _ = nn.RNN(cell, return_carry=True)(x)  # the last (c, h), and every h
        return nn.Dense(1, param_dtype=float, name="fc")(h)


def fit_jax(params, batches):
    optimizer = optax.adam(0.01)

    @jax.jit
    def step(params, state, x, y):
        def loss_of(params):
            return ((Memory_jax().apply({"params": params}, x) - y) ** 2).mean()

        loss, slopes = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(slopes, state)
        return optax.apply_updates(params, updates), state, loss

    state, losses = optimizer.init(params), []
    for x, y in batches:
        params, state, loss = step(params, state, x, y)
        losses.append(loss)
    return params, losses


# %% side="torch"
class Memory_torch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.fc = torch.nn.LSTM(2, 3, batch_first=True), torch.nn.Linear(3, 1)
        torch.nn.init.constant_(self.lstm.get_parameter("bias_ih_l0")[3:6], 5.0)  # forget gates
        self.lstm.bias_hh_l0.requires_grad_(False).zero_()

    def forward(self, x):
        return self.fc(self.lstm(x)[0][:, -1])


def fit_torch(net, batches):
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=0.01), []
    for x, y in batches:
        optimizer.zero_grad()
        loss = mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


# %% side="jax"
def look_jax(variables, batches, x, mark):
    params, losses = fit_jax(variables["params"], batches)
    dense = params["lstm"]
    w, u = (jnp.hstack([dense[side + gate]["kernel"] for gate in "ifgo"]) for side in "ih")
    b = jnp.hstack([dense["h" + gate]["bias"] for gate in "ifgo"])

    def step(state, x_t, given=False):
        c, h = state
        i, f, g, o = jnp.split(x_t @ w + h @ u + b, 4, axis=-1)
        gates = nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(g), nn.sigmoid(o)
        i, f, g, o = jax.lax.stop_gradient(gates) if given else gates
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (c, h), (c, h, f)

    zeros = jnp.zeros((len(x), 3))
    _, (c, h, f) = jax.lax.scan(step, (zeros, zeros), x.swapaxes(0, 1))  # (steps, sequences, units)

    def last(now, given):  # the first sequence, from the mark to its end
        state, _ = jax.lax.scan(partial(step, given=given), (now, h[mark, 0]), x[0, mark + 1 :])
        return state[0]

    slopes = [jax.jacobian(last)(c[mark, 0], given) for given in (True, False)]
    answers = Memory_jax().apply({"params": params}, x)
    return {"losses": losses, "answers": answers, "c": c, "h": h, "forget": f, "Jacobians": slopes}


# %% side="torch"
def look_torch(state, batches, x, mark):
    net = Memory_torch()
    net.load_state_dict(state)
    losses = fit_torch(net, batches)
    w, u, b, _ = (parameter.detach() for parameter in net.lstm.parameters())

    def step(c, h, x_t, given=False):
        i, f, g, o = (x_t @ w.T + h @ u.T + b).chunk(4, dim=-1)
        gates = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
        i, f, g, o = (gate.detach() for gate in gates) if given else gates
        c = f * c + i * g
        h = o * torch.tanh(c)
        return c, h, f

    c, h, steps = torch.zeros(len(x), 3), torch.zeros(len(x), 3), []
    for x_t in x.unbind(1):
        c, h, f = step(c, h, x_t)
        steps.append((c, h, f))
    c, h, f = (torch.stack(each) for each in zip(*steps, strict=True))

    def last(now, given):  # the first sequence, from the mark to its end
        shown = h[mark, 0]
        for x_t in x[0, mark + 1 :]:
            now, shown, _ = step(now, shown, x_t, given)
        return now

    slopes = [jacobian(partial(last, given=given), c[mark, 0]) for given in (True, False)]
    answers = net(x)
    return {"losses": losses, "answers": answers, "c": c, "h": h, "forget": f, "Jacobians": slopes}


# %% side="both"
with lesson("cell_state") as same:
    count, first = 64 * 400 + 200, np.arange(200)  # the first 200 are to look at
    x, places = same.rng.uniform(-1, 1, (count, 30, 2)), same.rng.integers(15, size=count)
    x[..., 1] = places[:, None] == np.arange(30)
    y = x[np.arange(count), places, 0]
    weights = same.weights(Memory_jax(), Memory_torch, x[:2])
    batches, mark = same.batches(400, 64, x[200:], y[200:, None]), int(places[0])
    sides = same.run(look_jax, look_torch, weights, batches, x[first], mark)
    same.row("off, of numbers never seen", *(off(s["answers"][:, 0], y[first]) for s in sides))
    found = []
    for side in sides:
        early, late = (
            match(c, y[first]) for c in (side["c"][places[first] + 1, first], side["c"][-1])
        )
        belt = side["forget"][mark + 1 :, 0].prod(0)
        same("the belt is the product of the forget gates", np.diag(belt), side["Jacobians"][0])
        found.append(np.stack([early, late, belt, np.diag(side["Jacobians"][1])]))
    keeper = found[1][:2].min(0).argmax()
    names = "match with the number, early", "match, late", "passed by its belt", "by all paths"
    for name, *both in zip(names, *(each[:, keeper] for each in found), strict=True):
        same.row(f"keeper: {name}", *both)
    same.holds("it remembers", off(sides[1]["answers"][:, 0], y[first]) < 0.3 * y.std())
    same.holds("the keeper holds the number", found[1][:2, keeper].min() > 0.8)
    same.holds("its belt passes more than half", found[1][2, keeper] > 0.5)
    for axis, name in zip(same.axes(2, 1, height=3.4), "ch", strict=True):
        for n in y[first].argsort()[19::40]:
            lines(axis, *(s[name][:, n, keeper] for s in sides), label=f"{y[n]:.2f} is marked")
            axis.plot(places[n], sides[1][name][places[n], n, keeper], "ko")
        axis.set(ylabel=name, title=f"{name} of the keeper in five sequences; a dot at the mark")
        legend(axis, ncols=2)

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | a constant for autodiff | `x.detach()` | `jax.lax.stop_gradient(x)` | GRAD-13 |
# | a Jacobian | `jacobian(f, x)`, the matrix | `jax.jacobian(f)(x)`, of a function | |
# | two biases | one is frozen here | there is one | RNN-04 |
#
# ### Try it
# - Start with a forget bias of 0. Does the network still learn the task in 400 steps?
# - Let PyTorch train its second bias, too. What differs, and why does the first loss not?

# %% [markdown] lesson="gates" title="LSTM Gates"
# Each gate of an LSTM looks at the input $x$ and at the output before, $h$. Is that all it should
# look at, and are three gates needed? Two variants say no, in opposite directions.
#
# - **Peepholes.** With the output gate shut, $h$ is 0, and the other gates do not know what the
#   cell holds. A peephole shows it to them: one weight for each unit, with which the cell state is
#   added to the gate's sum, $i = \sigma(\dots + p_i c)$ and $f = \sigma(\dots + p_f c)$. The output
#   gate is shown the new cell state, $o = \sigma(\dots + p_o c')$.
# - **Coupled gates.** Store as much as you forget: $f = 1 - i$, and there is one gate less,
#
# $$c' = (1 - i)\,c + i\,g.$$
#
# This is a mean of the old cell state and of the candidate, weighted by $i$. As $g$ lies between
# $-1$ and 1, so does $c$, for ever. A plain cell can count on and on.
#
# The cells write the three down as one module and train each on the number of sunspots: from the 24
# years before it, forecast a year. Then each reads all 309 years, and its gates are looked at. See
# in the figure how they rise and fall with the sun's eleven years. In JAX a module's parameters are
# made before the loop, so that `scan` can be given a plain function; PyTorch's loop uses `self`.


# %% side="jax"
class Variant_jax(nn.Module):
    kind: str

    @nn.compact
    def __call__(self, x):
        blocks = 3 if self.kind == "coupled" else 4
        draw = nn.initializers.normal(1 / 3)
        w = self.param("w", draw, (1, 12 * blocks))
        u = self.param("u", draw, (12, 12 * blocks))
        b = self.param("b", draw, (12 * blocks,))
        p = self.param("p", draw, (3, 12)) if self.kind == "peephole" else jnp.zeros((3, 12))

        def step(state, x_t):
            h, c = state
            i, g, o, *f = jnp.split(x_t @ w + h @ u + b, blocks, axis=-1)
            i, g = nn.sigmoid(i + p[0] * c), jnp.tanh(g)
            f = nn.sigmoid(f[0] + p[1] * c) if f else 1 - i
            c = f * c + i * g
            o = nn.sigmoid(o + p[2] * c)
            seen = {"input": i, "forget": f, "candidate": g, "output": o, "c": c}
            return (o * jnp.tanh(c), c), seen

        zeros = jnp.zeros((len(x), 12))
        (h, _), seen = jax.lax.scan(step, (zeros, zeros), x.swapaxes(0, 1))
        return nn.Dense(1, name="fc")(h), seen


# %% side="torch"
class Variant_torch(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.blocks = 3 if kind == "coupled" else 4
        self.w = torch.nn.Parameter(torch.randn(1, 12 * self.blocks) / 3)
        self.u = torch.nn.Parameter(torch.randn(12, 12 * self.blocks) / 3)
        self.b = torch.nn.Parameter(torch.randn(12 * self.blocks) / 3)
        p = torch.randn(3, 12) / 3
        self.p = torch.nn.Parameter(p) if kind == "peephole" else torch.zeros(3, 12)
        self.fc = torch.nn.Linear(12, 1)

    def step(self, h, c, x_t):
        rows = x_t @ self.w + h @ self.u + self.b
        i, g, o, *f = rows.chunk(self.blocks, dim=-1)
        i, g = torch.sigmoid(i + self.p[0] * c), torch.tanh(g)
        f = torch.sigmoid(f[0] + self.p[1] * c) if f else 1 - i
        c = f * c + i * g
        o = torch.sigmoid(o + self.p[2] * c)
        seen = {"input": i, "forget": f, "candidate": g, "output": o, "c": c}
        return o * torch.tanh(c), seen

    def forward(self, x):
        h, seen = torch.zeros(len(x), 12), [{"c": torch.zeros(len(x), 12)}]
        for x_t in x.unbind(1):
            h, now = self.step(h, seen[-1]["c"], x_t)
            seen.append(now)
        return self.fc(h), {name: torch.stack([s[name] for s in seen[1:]]) for name in now}


# %% side="jax"
def train_jax(kind, variables, batches, unseen, years):
    net, optimizer = Variant_jax(kind), optax.adam(0.02)

    @jax.jit
    def step(variables, state, x, y):
        def loss_of(variables):
            return ((net.apply(variables, x)[0] - y) ** 2).mean()

        loss, slopes = jax.value_and_grad(loss_of)(variables)
        updates, state = optimizer.update(slopes, state)
        return optax.apply_updates(variables, updates), state, loss

    state, losses = optimizer.init(variables), []
    for x, y in batches:
        variables, state, loss = step(variables, state, x, y)
        losses.append(loss)
    found = {"losses": losses, "forecasts": net.apply(variables, unseen)[0]}
    return found | net.apply(variables, years)[1]


# %% side="torch"
def train_torch(kind, state, batches, unseen, years):
    net, losses = Variant_torch(kind), []
    net.load_state_dict(state)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for x, y in batches:
        optimizer.zero_grad()
        loss = mse_loss(net(x)[0], y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return {"losses": losses, "forecasts": net(unseen)[0]} | net(years)[1]


# %% side="both"
with lesson("gates") as same:
    raw, cut = series("sunspots"), 230  # from 1930 on, nothing is learned
    values = (raw - raw[:cut].mean()) / raw[:cut].std()
    whole = windows(values, 24)
    x, y, axes = whole["x"], whole["y"], same.axes(5, 1, height=1.7)
    test, naive = (x[cut - 24 :], y[cut - 24 :]), off(x[cut - 24 :, -1], y[cut - 24 :])
    for kind in ("plain", "peephole", "coupled"):
        weights = same.weights(Variant_jax(kind), partial(Variant_torch, kind), x[:2])
        batches = same.batches(100, 32, x[: cut - 24], y[: cut - 24])
        given = kind, weights, batches, test[0], values[None, :, None]
        ours, theirs = same.run(train_jax, train_torch, *given)
        errors = [off(side["forecasts"], test[1]) / naive for side in (ours, theirs)]
        same.row(f"{kind}: error, in parts of the naive one", *errors)
        same.row(f"{kind}: largest cell state", *(abs(s["c"]).max() for s in (ours, theirs)))
        same.holds(f"{kind}: better than the year before", errors[1] < 0.8)
        if kind == "plain":
            for axis, name in zip(
                axes[1:], ("input", "forget", "candidate", "output"), strict=True
            ):
                for unit in range(3):
                    lines(axis, *(s[name][:, 0, unit] for s in (ours, theirs)), x=range(1700, 2009))
    same.holds("coupled: |c| <= 1", abs(theirs["c"]).max() <= 1)
    axes[0].plot(range(1700, 2009), raw, "k-", lw=0.8)
    for axis, name in zip(
        axes, ("sunspots", "input", "forget", "candidate", "output"), strict=True
    ):
        axis.set(ylabel=name, xlim=(1900, 2008))
    axes[0].set_title("the gates of three units of the plain cell")
    legend(axes[0], loc="upper left", ncols=2)

# %% [markdown]
# ### Where the frameworks part
# Neither framework's own LSTM has peepholes or coupled gates; one writes them as here.
#
# | | PyTorch | Flax | |
# |---|---|---|---|
# | parameters of one's own module | made in `__init__`, with all shapes | made in the call | |
# | their type | the default one | float32, unless it is said | DT-09 |
# | a step of the loop | a method that uses `self` | a function of arrays, compiled once | |
# | training it | the graph is as long as the loop | the loop is one operation | |
#
# ### Try it
# - Take the forget gate out, $f = 1$, as in the first LSTM of 1997. What is the largest cell state?
# - Take the output gate out, $o = 1$. Are the forecasts any worse?
# - Give the cells 36 units in place of 12. Are the forecasts of years never seen better?

# %% [markdown] lesson="bidirectional" title="Bidirectional LSTM"
# To fill a gap in a series one looks at both its sides. A bidirectional LSTM is two LSTMs: one
# reads from the beginning, the other from the end, and each step's output is both of theirs:
#
# $$y_t = W\,[\overrightarrow h_t;\ \overleftarrow h_t] + b$$
#
# Sequences of a batch often have different lengths. An array has no room for that, so the short
# ones are filled up with zeros, the *padding*. For the LSTM that reads from the beginning, padding
# comes last and does no harm. The one that reads from the end would begin with it, and reach the
# first true value with a state that padding has made. It has to be told the lengths.
#
# The frameworks go about it differently. PyTorch *packs* the batch: of each time step only the
# sequences that reach it, one step after the other, so that no padding is left to compute. What
# comes out is padded again, with zeros. JAX compiles for shapes that are known beforehand, so all
# steps of all sequences are computed; Flax turns only the true part of each sequence around, and
# what is computed behind its end is thrown away. The last lines of both networks set it to 0.
#
# The task is the sunspots again, windows of up to 24 years with three values in ten missing. Each
# step's input is the value, or 0, and whether it is there. PyTorch's second biases are held at 0.


# %% side="jax"
class Filler_jax(nn.Module):
    @nn.compact
    def __call__(self, x, lengths):
        forth, back = (nn.RNN(nn.OptimizedLSTMCell(12, param_dtype=float)) for _ in range(2))
        h = nn.Bidirectional(forth, back)(x, seq_lengths=lengths)
        y = nn.Dense(1, param_dtype=float, name="fc")(h)
        inside = jnp.arange(x.shape[1]) < lengths[:, None]
        return jnp.where(inside[..., None], y, 0)


# %% side="torch"
class Filler_torch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(2, 12, batch_first=True, bidirectional=True)
        self.fc = torch.nn.Linear(24, 1)
        for bias in (self.lstm.bias_hh_l0, self.lstm.bias_hh_l0_reverse):
            bias.requires_grad_(False).zero_()

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        h, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])
        inside = torch.arange(x.shape[1]) < lengths[:, None]
        return self.fc(h).masked_fill(~inside[..., None], 0)


# %% [markdown]
# Trained, the networks fill the gaps of windows that they have not seen: padded, in one batch; two
# of them alone, without any padding; and once told that all sequences are full.


# %% side="jax"
def fill_jax(variables, batches, x, lengths):
    net, optimizer = Filler_jax(), optax.adam(0.02)

    @jax.jit
    def step(variables, state, x, lengths, y):
        def loss_of(variables):
            return ((net.apply(variables, x, lengths) - y) ** 2).mean()

        loss, slopes = jax.value_and_grad(loss_of)(variables)
        updates, state = optimizer.update(slopes, state)
        return optax.apply_updates(variables, updates), state, loss

    state, losses = optimizer.init(variables), []
    for batch in batches:
        variables, state, loss = step(variables, state, *batch)
        losses.append(loss)
    fill = jax.jit(partial(net.apply, variables))
    alone = [fill(x[n : n + 1, : lengths[n]], lengths[n : n + 1])[0] for n in range(2)]
    full = fill(x, jnp.full(len(x), x.shape[1]))
    return {"losses": losses, "filled": fill(x, lengths), "alone": alone, "told nothing": full}


# %% side="torch"
def fill_torch(state, batches, x, lengths):
    net, losses = Filler_torch(), []
    net.load_state_dict(state)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for x_batch, lengths_batch, y in batches:
        optimizer.zero_grad()
        loss = mse_loss(net(x_batch, lengths_batch), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    alone = [net(x[n : n + 1, : lengths[n]], lengths[n : n + 1])[0] for n in range(2)]
    full = net(x, torch.full((len(x),), x.shape[1]))
    return {"losses": losses, "filled": net(x, lengths), "alone": alone, "told nothing": full}


# %% side="both"
with lesson("bidirectional") as same:
    raw, cut = series("sunspots"), 230
    values = (raw - raw[:cut].mean()) / raw[:cut].std()
    x, lengths, y = gapped(same.rng, values, 24)
    weights = same.weights(Filler_jax(), Filler_torch, x[:2], lengths[:2])
    batches = same.batches(200, 32, *(each[: cut - 24] for each in (x, lengths, y)))
    unseen, ends, truth, steps = x[cut:], lengths[cut:], y[cut:, :, 0], np.arange(24)
    ours, theirs = same.run(fill_jax, fill_torch, weights, batches, unseen, ends)
    for n in range(2):
        same(f"padded or alone: {n}", ours["filled"][n, : ends[n]], theirs["alone"][n])
    inside, seen = steps < ends[:, None], unseen[..., 1] == 1
    gap, filled = inside & ~seen, [side["filled"][..., 0] for side in (ours, theirs)]
    straight = [np.interp(steps, steps[s], v[s]) for v, s in zip(truth, seen, strict=True)]
    errors = [off(each[gap], truth[gap]) for each in (*filled, np.stack(straight))]
    same.row("off, in the gaps", *errors[:2])
    same.row("off, with a straight line", errors[2], errors[2])
    same.holds("better than a straight line", errors[1] < errors[2])
    wrong = abs(theirs["told nothing"][..., 0] - filled[1]).max(1, where=inside, initial=0)
    right = (wrong < 1e-3) == (ends == 24)
    same.holds("told nothing of lengths, it is right for the full windows alone", right.all())
    axis, n = same.axes(height=4), int(np.argmax(ends))
    shown = steps[inside[n]]
    axis.plot(shown, truth[n, shown], "k-", lw=0.8, label="sunspots")
    axis.plot(steps[seen[n]], truth[n, seen[n]], "ko", label="given")
    lines(axis, *(each[n, shown] for each in filled), label="filled")
    axis.set(xlabel="year of the window", ylabel="sunspots, standardised")
    axis.set_title("gaps, filled from both sides")
    legend(axis)

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | Flax | |
# |---|---|---|---|
# | lengths are told by | packing the batch | `seq_lengths=` | |
# | outputs behind the end | 0 | whatever the cell makes of the padding | RNN-11 |
# | the last state | that of the true end | so, too, but only if lengths are told | RNN-12 |
# | from the end alone | flip the input | `reverse=True`; outputs in reversed time | RNN-10 |
# | steps computed | the true ones | all | |
#
# ### Try it
# - Fill the padding with 100 in place of 0. Which of the results change?
# - Let both networks read from the beginning only. Do they still beat the straight line?
# - Leave `jnp.where` out of JAX's network. Do the losses of the two frameworks still agree?

# %% [markdown] lesson="forecasting" title="Time Series Prediction with LSTM"
# A forecast is worth something if it is made for a time that the forecaster could not see. So a
# series must not be shuffled into training and test examples, as a set of images is. *Walk-forward
# validation* does what time does: train on all that lies before a block of the series, forecast the
# block, one step after the other; then let the block join what is trained on, and go on with the
# next. Nothing of the future may be used, and that includes its mean and its spread: each block is
# standardised by what lies before it.
#
# Two series are forecast, the yearly sunspots and the monthly carbon dioxide over Mauna Loa. The
# carbon dioxide rises, so that its future values lie outside of all that was trained on. Its
# *differences* from month to month, $d_t = v_t - v_{t-1}$, do not. So the network is given those,
# and the forecast is $v_{t-1} + \hat d_t$.
#
# A number like "off by 20" says little by itself. Two forecasts that cost nothing set the scale:
# the value before, and the value a season ago (eleven years for the sun, twelve months for carbon
# dioxide). Further ahead a network has to read its own forecasts in place of values, and its errors
# add up. The figure shows both: one step ahead, and, for the last block, on its own.
#
# The window of 24 values is the sequence, and a dense layer answers from the last output. In each
# block training begins anew. (PyTorch's second bias is held at 0, since Flax has one only.)


# %% side="jax"
class Forecaster_jax(nn.Module):
    @nn.compact
    def __call__(self, x):
        cell = nn.OptimizedLSTMCell(16, param_dtype=float, name="lstm")
        (_, h), _ = nn.RNN(cell, return_carry=True)(x)  # the last (c, h), and every h
        return nn.Dense(1, param_dtype=float, name="fc")(h)


# %% side="torch"
class Forecaster_torch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.fc = torch.nn.LSTM(1, 16, batch_first=True), torch.nn.Linear(16, 1)
        self.lstm.bias_hh_l0.requires_grad_(False).zero_()

    def forward(self, x):
        return self.fc(self.lstm(x)[0][:, -1])


# %% side="jax"
def forecast_jax(start, blocks):
    net, optimizer = Forecaster_jax(), optax.adam(0.02)

    @jax.jit
    def step(variables, state, x, y):
        def loss_of(variables):
            return ((net.apply(variables, x) - y) ** 2).mean()

        loss, slopes = jax.value_and_grad(loss_of)(variables)
        updates, state = optimizer.update(slopes, state)
        return optax.apply_updates(variables, updates), state, loss

    apply, losses, ahead = jax.jit(net.apply), [], []
    for batches, x in blocks:
        variables, state = start, optimizer.init(start)
        for x_batch, y in batches:
            variables, state, loss = step(variables, state, x_batch, y)
            losses.append(loss)
        ahead.append(apply(variables, x)[:, 0])

    def on(window, _):
        y = apply(variables, window)
        return jnp.concatenate([window[:, 1:], y[:, None]], axis=1), y[0, 0]

    _, alone = jax.lax.scan(on, x[:1], length=len(x))
    return {"losses": losses, "one step ahead": ahead, "on its own": alone}


# %% side="torch"
def forecast_torch(start, blocks):
    net, losses, ahead = Forecaster_torch(), [], []
    for batches, x in blocks:
        net.load_state_dict(start)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for x_batch, y in batches:
            optimizer.zero_grad()
            loss = mse_loss(net(x_batch), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        with torch.no_grad():
            ahead.append(net(x)[:, 0])

    window, alone = x[:1], []
    with torch.no_grad():
        for _ in range(len(x)):
            y = net(window)
            window = torch.cat([window[:, 1:], y[:, None]], dim=1)
            alone.append(y[0, 0])
    return {"losses": losses, "one step ahead": ahead, "on its own": alone}


# %% side="both"
with lesson("forecasting") as same:
    weights = same.weights(Forecaster_jax(), Forecaster_torch, np.zeros((2, 24, 1)))
    tasks = ("sunspots", 11, 219, 30), ("co2", 12, 406, 40)  # season, first forecast, block
    for axis, (name, season, cut, size) in zip(same.axes(2, 1, height=3.4), tasks, strict=True):
        raw, blocks, scales = series(name), [], []
        shift = 1 if name == "co2" else 0  # the differences begin a month later
        moves = np.diff(raw) if shift else raw
        for begin in cut + size * np.arange(3) - shift:
            mean, spread = moves[:begin].mean(), moves[:begin].std()
            x, y = windows((moves - mean) / spread, 24).values()
            batches = same.batches(150, 32, x[: begin - 24], y[: begin - 24])
            blocks.append((batches, x[begin - 24 :][:size]))
            scales.append((mean, spread))
        sides = same.run(forecast_jax, forecast_torch, weights, blocks)
        at, (mean, spread) = cut + np.arange(3 * size), np.array(scales).T[..., None]
        ahead = [(s["one step ahead"] * spread + mean).ravel() + shift * raw[at - 1] for s in sides]
        alone = [s["on its own"] * spread[-1] + mean[-1] for s in sides]
        alone = [raw[at[-size] - 1] + each.cumsum() if shift else each for each in alone]
        same.row(f"{name}: off, the network", *(off(each, raw[at]) for each in ahead))
        for rival, lag in {"the value before": 1, "a season ago": season}.items():
            error = off(raw[at - lag], raw[at])
            same.row(f"{name}: off, {rival}", error, error)
            same.holds(f"{name}: better than {rival}", off(ahead[1], raw[at]) < 0.8 * error)
        dates = 1958 + (2 + at) / 12 if shift else 1700 + at
        axis.plot(dates, raw[at], "k-", lw=0.8, label=name)
        lines(axis, *ahead, x=dates, label="one step ahead")
        lines(axis, *alone, x=dates[-size:], label="on its own")
        axis.set(ylabel="parts per million" if shift else "sunspots", xlabel="year")
        legend(axis, loc="upper left")

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | to begin anew | `load_state_dict`, and a new optimizer | the first variables are still there | |
# | the optimizer's state | inside the optimizer | an argument and a result | OPT-20 |
# | reading its own forecasts | a loop, under `no_grad` | `scan`; no gradient unless asked for | |
# | float64 | keeps it | float32, unless x64 is enabled | DT-01 |
#
# ### Try it
# - Give the network the carbon dioxide itself in place of its differences. Which forecast that
#   costs nothing is better now?
# - Standardise by the whole series. For which of the two do the forecasts look better than they are?
# - Add to the value a season ago what has changed since: the step before, less the step before a
#   season ago. How much better than that is the network?
