"""Long short-term memory in JAX and in PyTorch: the cell, its gradient, its gates, forecasts.

Every lesson shows the same thing twice, once as users of JAX and Flax write it and once as users of
PyTorch do, runs both on the same numbers, and holds what they give to each other in float64. In the
figures broad lines are JAX's, dashed ones PyTorch's.
"""

# %% side="both"
from functools import partial

import numpy as np

from compare.data.series import gaps, series, windows
from compare.study.figures import bars, legend, lines
from compare.study.lessons import lesson
from compare.study.scripts import script

script(__name__)  # a program runs the lessons from here; a notebook goes on to the next cell


def off(found, truth):
    """The root of the mean squared error."""
    return np.sqrt(np.mean((found - truth) ** 2))


# %% side="jax"
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

# %% side="torch"
import torch
from torch.nn.functional import mse_loss

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
# that stores a number when its second input says "write" and gives it out when the third says "show".

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
# The frameworks' own layers do the same, once they are given the weights. PyTorch's has the four
# stacked arrays from above. Flax's has a small dense layer for each letter: `ii` for the input
# gate's $W$, `hi` for its $U$ and $b$, and so on. Nothing in an array of numbers says in which order
# the gates lie: ONNX has i, o, f, g. The cells also read the blocks in that order, to see what
# happens, and differentiate a sum of squares of the outputs.

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
    loss = lambda weights: (layer_jax(weights, "ifgo")(x) ** 2).sum()
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
    outputs, (last_h, last_c) = layer(x)
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
    x[0, [3, 12], 1] = x[0, [7, 8, 17], 2] = 1
    ours, theirs = same.run(lstm_jax, lstm_torch, latch, x)
    for step in (3, 7, 12, 17):
        same.row(f"cell state in step {step}", ours["c"][0, step, 0], theirs["c"][0, step, 0])
    written = np.tanh(x[0, [3, 12], 0])
    same.holds("what was written is still there", abs(theirs["c"][0, [11, 19], 0] - written).max() < 1e-2)
    axis = same.axes(height=4)
    axis.plot(np.tanh(x[0, :, 0]), "k.", label="tanh of the number")
    for name in "ch":
        lines(axis, ours[name][0, :, 0], theirs[name][0, :, 0], label=name)
    for place, say in ((3, "write"), (7.5, "show"), (12, "write"), (17, "show")):
        axis.text(place, 1.02, say, ha="center")
    axis.set(xlabel="step", ylim=(-1, 1.15), xticks=range(0, 20, 2))
    legend(axis, loc="lower right")

    shapes = (20, 3), (20, 5), 20, 20
    weights = tuple(same.rng.uniform(-0.5, 0.5, shape) for shape in shapes)
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
# | the first axis | time, unless `batch_first=True` | the batch, unless `time_major=True` | RNN-13 |
# | type of the parameters | that of the module | float32, unless `param_dtype` | DT-09 |
#
# ### Try it
# - Make the bias of the latch's forget gate 0. What is left of the number after ten steps?
# - Write twice in a row. Then set the forget gate's weight of "write" to 0 and write twice again:
#   what does the cell hold now, and which framework would you have counted with?
# - Swap the names `h` and `c` in the first line of `step`. Is there an error?

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
# The first cells make the layers and set that bias. Flax's parameters are a dictionary that is never
# changed: the function returns a new one, with one entry replaced. PyTorch's are changed in place,
# where nothing may be recorded for a gradient meanwhile.

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
        h = net.apply(variables, x)
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
# In neither framework is the forget bias 1: that has to be set. (Haiku, and TensorFlow's older cells,
# add it inside the gate: RNN-05.)
#
# ### Try it
# - Multiply Elman's recurrent weights by 1.5 and by 3. Does the gradient still vanish?
# - Set the forget bias to 10. Which new trouble would such a network have?
# - Leave out the line that zeroes `bias_hh_l0`. Which curves still agree?
