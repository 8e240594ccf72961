"""Derivatives in JAX and in PyTorch: from a difference quotient to backpropagation and its uses.

Run it as a program (`python examples/backprop/chain_rule.py --out figures`), or cell by cell in an
editor that knows `# %%`. `--full` trains longer: about 20 s on two cores.
"""

# %% Set-up
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from compare.data.batches import epochs
from compare.data.digits import split_digits
from compare.report.terminal import tracked
from compare.share import to_jax, to_torch
from compare.study.lessons import both, lesson
from compare.study.scripts import script
from jaxnn.foundations import tape as jax_tape
from jaxnn.foundations.mlp import MLP as JaxMLP
from jaxnn.training.losses import cross_entropy as jax_cross_entropy
from jaxnn.training.optimizers import sgd as jax_sgd
from jaxnn.training.steps import TrainState
from jaxnn.training.steps import train_step as jax_train_step
from torchref.foundations import tape
from torchref.foundations.mlp import MLP
from torchref.training.losses import cross_entropy
from torchref.training.optimizers import sgd
from torchref.training.steps import train_step

script(__name__)

SIZES = (64, 32, 10)


def draw(rng):
    """Weights (in, out) and biases of each layer of an MLP."""
    sizes = pairwise(SIZES)
    return [(rng.standard_normal(s) * (2 / s[0]) ** 0.5, np.zeros(s[1])) for s in sizes]


def trained(rng, layers, x, labels, steps, lr=0.2):
    """The twins, from the same weights and on the same batches, by both frameworks' gradients.

    Returns: what gives JAX's logits, the torch model, all losses of each, the batches' indices.
    """
    order = epochs(rng, len(x), 64)
    batches = np.stack([next(order) for _ in range(steps)])
    dense = {
        str(2 * i): {"kernel": to_jax(w), "bias": to_jax(b)} for i, (w, b) in enumerate(layers)
    }
    network = JaxMLP(SIZES[0], SIZES[1:-1], SIZES[-1])
    state = TrainState.create(apply_fn=network.apply, params={"layers": dense}, tx=jax_sgd(lr))
    jx, jlabels = to_jax(x), to_jax(labels)

    @jax.jit
    def run(state):
        def step(state, index):
            return jax_train_step(state, (jx[index],), (jlabels[index],), jax_cross_entropy)

        return jax.lax.scan(step, state, to_jax(batches))

    state, jlosses = run(state)
    model = MLP(SIZES[0], SIZES[1:-1], SIZES[-1])
    names = [f"layers.{2 * i}.{name}" for i in range(len(layers)) for name in ("weight", "bias")]
    values = [to_torch(value.T) for layer in layers for value in layer]
    model.load_state_dict(dict(zip(names, values, strict=True)))
    optimizer, (tx, tlabels) = sgd(model.parameters(), lr=lr), (to_torch(x), to_torch(labels))
    tlosses = [
        train_step(model, optimizer, (tx[index],), (tlabels[index],), cross_entropy)
        for index in torch.from_numpy(batches)
    ]
    return state, model, (jlosses, torch.stack(tlosses)), batches


# %% [calculus] Basic Calculus
# f'(x) is the limit of (f(x + h) - f(x)) / h. A computer cannot take it: a large h is wrong by what
# Taylor's series goes on with, a small one by the digits that the subtraction loses.
#   forward   (f(x + h) - f(x)) / h          error  h/2 |f''| + 2 u |f| / h
#   central   (f(x + h) - f(x - h)) / 2 h    error  h^2/6 |f'''| + u |f| / h
#   complex   Im f(x + i h) / h              error  h^2/6 |f'''|: nothing is subtracted
with lesson("calculus") as same:

    def curve(x, np):
        return np.exp(x) / np.sqrt(np.sin(x) ** 3 + np.cos(x) ** 3)

    at = 1.5
    slope = jax.grad(lambda x: curve(x, jnp))(at)
    tx = torch.tensor(at, requires_grad=True)
    (tslope,) = torch.autograd.grad(curve(tx, torch), tx)
    same("autodiff", slope, tslope)

    steps = 10.0 ** -np.arange(1, 21)
    jh, th = both(steps)

    def quotients(h, np):
        x = np.full_like(h, at)
        return {
            "forward": (curve(x + h, np) - curve(x, np)) / h,
            "central": (curve(x + h, np) - curve(x - h, np)) / (2 * h),
            "complex": curve(x + 1j * h, np).imag / h,
        }

    found = jax.jit(lambda h: quotients(h, jnp))(jh), quotients(th, torch)
    errors = [
        {name: abs(np.asarray(each) / float(tslope) - 1) for name, each in q.items()} for q in found
    ]
    same("a step of 0.001", found[0]["central"][2], found[1]["central"][2])
    same("the complex step", found[0]["complex"][5:], found[1]["complex"][5:])
    for error in errors:
        best = {name: (each.min(), steps[each.argmin()]) for name, each in error.items()}
        for name, (lowest, h) in best.items():
            print(f"{name}: {lowest:.0e} at best, with h = {h:.0e}")
        same.holds("forward: half of the digits", 1e-11 < best["forward"][0] < 1e-6)
        same.holds("with the root of the unit", 1e-9 <= best["forward"][1] <= 1e-6)
        same.holds("central: two thirds of them", 1e-14 < best["central"][0] < 1e-9)
        same.holds("complex: all, however small h is", error["complex"][-1] < 1e-14)

    # Both frameworks check gradients with such quotients; the tests of a layer should.
    same.holds("torch's own check", torch.autograd.gradcheck(lambda x: curve(x, torch), tx))
    jax.test_util.check_grads(lambda x: curve(x, jnp), (at,), order=1)
    # At a kink there is no derivative, and each framework has its convention.
    tzero = torch.zeros((), requires_grad=True)
    at_kink = jax.grad(jnp.abs)(0.0), torch.autograd.grad(abs(tzero), tzero)[0]
    same.holds("|x| at 0: one in JAX, zero in torch", (at_kink[0], at_kink[1].item()) == (1, 0))

    if (axis := same.axes(height=4)) is not None:
        for name, color in (("forward", "C0"), ("central", "C1"), ("complex", "C2")):
            axis.loglog(steps, errors[0][name].clip(1e-17), color, lw=5, alpha=0.4, label=name)
            axis.loglog(steps, errors[1][name].clip(1e-17), color + "o--", lw=1, ms=4)
        axis.loglog([], [], "k", lw=5, alpha=0.4, label="(broad) jax")
        axis.loglog([], [], "ko--", lw=1, ms=4, label="(dashed) torch")
        axis.set(xlabel="step h", ylabel="relative error", ylim=(1e-18, 1e2))
        axis.set(title="difference quotients against autodiff, float64")
        axis.legend(ncols=2)

# %% [chain_rule] Chain Rule
with lesson("chain_rule") as same:
    # Scalar: y = sin(exp(x^2)), dy/dx = cos(v) * exp(u) * 2 x: the local slopes, multiplied.
    (x, tx), u = both(np.array(0.7)), 0.7**2
    by_hand = np.cos(np.exp(u)) * np.exp(u) * 2 * 0.7
    slopes = jax.grad(lambda x: jnp.sin(jnp.exp(x**2)))(x)
    same("scalar", slopes, torch.func.grad(lambda x: torch.sin(torch.exp(x**2)))(tx))
    same("the product of the slopes", slopes, torch.tensor(by_hand))

    # Vector: J = J3 J2 J1. A jvp multiplies from the right, one column J v at a time, along with
    # the values; a vjp from the left, one row w^T J. No Jacobian is formed in either.
    (ja, ta), (jb, tb) = (both(same.rng.standard_normal(s) / 2) for s in ((5, 4), (3, 5)))
    (jx, tx), (jv, tv), (jw, tw) = (both(same.rng.standard_normal(n)) for n in (4, 4, 3))
    layers = [(lambda x: ja @ x), jnp.tanh, (lambda x: jb @ x)]
    tlayers = [(lambda x: ta @ x), torch.tanh, (lambda x: tb @ x)]

    def through(x, layers):
        for layer in layers:
            x = layer(x)
        return x

    middle = torch.diag(1 - torch.tanh(ta @ tx) ** 2)  # of a function by elements: diagonal
    product = tb @ middle @ ta
    same("Jacobian", jax.jacobian(through)(jx, layers), product)
    forward = jax.jvp(lambda x: through(x, layers), (jx,), (jv,))[1]
    same("jvp", forward, torch.func.jvp(lambda x: through(x, tlayers), (tx,), (tv,))[1])
    same("J v, from the right", forward, tb @ (middle @ (ta @ tv)))
    (backward,) = jax.vjp(lambda x: through(x, layers), jx)[1](jw)
    same("vjp", backward, torch.func.vjp(lambda x: through(x, tlayers), tx)[1](tw)[0])
    same("w^T J, from the left", backward, ((tw @ tb) @ middle) @ ta)
    same("w^T J v, either way", jw @ forward, tv @ to_torch(np.asarray(backward)))

    # Several paths: what is used twice gets the sum. z = f(x(t), y(t)): dz/dt = f_x x' + f_y y'.
    jt, tt = both(np.array(0.3))
    paths = float(torch.exp(tt) * torch.cos(tt) - torch.sin(tt) * torch.exp(tt))
    same("two paths", jax.grad(lambda t: jnp.cos(t) * jnp.exp(t))(jt), torch.tensor(paths))

    # A recurrence h_t = tanh(w h_{t-1} + x_t) uses w at each step: give each step a copy of its own
    # and the copies' gradients are the paths' shares. Autodiff returns their sum.
    count, (jxs, txs) = 12, both(same.rng.standard_normal(12) / 4)

    def recur(copies, xs, np):
        h = 0 * xs[0]
        for w, x in zip(copies, xs, strict=True):
            h = np.tanh(w * h + x)
        return h

    jw, tw = both(np.array(1.0))
    jshares = jax.jit(jax.grad(lambda c: recur(c, jxs, jnp)))(jnp.full(count, jw))
    tshares = torch.func.grad(lambda c: recur(c, txs, torch))(torch.full((count,), tw.item()))
    same("shares of the steps", jshares, tshares)
    whole = torch.func.grad(lambda w: recur([w] * count, txs, torch))(tw)
    same("their sum", jshares.sum(), whole)
    same("is the gradient", jax.jit(jax.grad(lambda w: recur([w] * count, jxs, jnp)))(jw), whole)
    if (axis := same.axes()) is not None:
        places = np.arange(1, count + 1)
        for shift, name, each in ((-0.2, "jax", jshares), (0.2, "torch", tshares)):
            axis.bar(places + shift, each, 0.4, label=f"{name}, sum {float(each.sum()):.6f}")
        axis.set(xlabel="step t at which w is used", ylabel="share of dh/dw")
        axis.set(title="one shared weight, twelve paths")
        axis.legend()

# %% [backpropagation] Backpropagation
# A tape notes what each operation read and how a gradient passes back through it; read backwards it
# is the chain rule over any graph. The tape of `foundations/tape` asks no autodiff. It trains an
# MLP on digits here, and each framework's own gradients train the twin beside it.
with lesson("backpropagation") as same:
    x, labels, held_x, held_labels = split_digits(same.rng, flat=True, scale="unit")
    layers, steps = draw(same.rng), 1200 if same.full else 400
    state, model, losses, batches = trained(same.rng, layers, x, labels, steps)

    def by_tape(module, layers, x, labels):
        """The loss, and its gradient for each parameter."""
        notes = module.Tape()
        nodes = [(notes.given(w), notes.given(b)) for w, b in layers]
        logits = module.mlp(notes, notes.given(x), nodes)
        loss = notes.cross_entropy(logits, labels)
        flat = notes.gradients(loss, [node for pair in nodes for node in pair])
        return loss.value, list(zip(flat[::2], flat[1::2], strict=True)), notes

    (jx, tx), (jlabels, tlabels) = both(x), both(labels)
    jlayers = [(to_jax(w), to_jax(b)) for w, b in layers]
    tlayers = [(to_torch(w), to_torch(b)) for w, b in layers]
    notes = by_tape(tape, tlayers, tx[:4], tlabels[:4])[2]
    print("the tape, read backwards:")
    for node in reversed(notes.nodes):
        sources = ", ".join(str(tuple(source.value.shape)) for source, _ in node.pulls)
        print(f"  {tuple(node.value.shape)!s:9} {'from ' + sources if sources else 'given'}")

    def step(layers, index):
        loss, gradients, _ = by_tape(jax_tape, layers, jx[index], jlabels[index])
        return jax.tree.map(lambda p, g: p - 0.2 * g, layers, gradients), loss

    jlayers, jlosses = jax.jit(lambda p: jax.lax.scan(step, p, to_jax(batches)))(jlayers)
    tlosses = []
    for index in tracked(torch.from_numpy(batches), "by the tape"):
        loss, gradients, _ = by_tape(tape, tlayers, tx[index], tlabels[index])
        tlosses.append(loss)
        tlayers = [
            (w - 0.2 * dw, b - 0.2 * db)
            for (w, b), (dw, db) in zip(tlayers, gradients, strict=True)
        ]
    same("losses by the tape", jlosses, torch.stack(tlosses))
    same("and by autodiff", *losses)
    same("the tape's are autodiff's", jlosses, losses[1])
    dense = [state.params["layers"][str(2 * i)] for i in range(len(layers))]
    named = [(d["kernel"], d["bias"]) for d in dense]
    same("trained weights, two tapes", jlayers, tlayers)
    same("trained weights, jax.grad and a tape", named, tlayers)
    held = to_torch(held_x), to_torch(held_labels)
    right = (model(held[0]).argmax(1) == held[1]).double().mean()
    outputs = state.apply_fn({"params": state.params}, to_jax(held_x))
    jright = (outputs.argmax(1) == to_jax(held_labels)).mean(dtype="float64")
    same("accuracy on digits that were held out", jright, right)
    print(f"accuracy {right:.3f}")
    same.holds("nine in ten", right > 0.9)
    if (axis := same.axes()) is not None:
        axis.plot(jlosses, lw=5, alpha=0.4, label="jax, by the tape")
        axis.plot(torch.stack(tlosses), "--", lw=1.5, label="torch, by the tape")
        axis.plot(losses[1].numpy(), "k:", lw=1, label="torch, by autograd")
        axis.set(xlabel="step", ylabel="cross-entropy", title="an MLP on digits")
        axis.legend()

# %% [graphs] Computational Graphs
# torch writes a graph of backward functions while it computes, anew at each call; JAX traces the
# function once, for its shapes, into a jaxpr: a list of forward operations, from which the backward
# ones are made. Both can be read, and walked by hand.
with lesson("graphs") as same:
    values = [same.rng.standard_normal(shape) for shape in ((3, 4), (4, 4), (4,))]
    (jx, tx), (jw, tw), (jb, tb) = (both(value) for value in values)

    def energy(x, w, b, np):
        h = np.tanh(x @ w + b)
        return ((h + x) * h).sum()  # h and x are used twice

    leaves = [tensor.requires_grad_() for tensor in (tx, tw, tb)]
    root = energy(tx, tw, tb, torch).grad_fn
    jaxpr = jax.make_jaxpr(lambda x, w, b: energy(x, w, b, jnp))(jx, jw, jb).jaxpr
    print(jaxpr)

    nodes: list = []
    names = dict(zip(map(id, leaves), "xwb", strict=True))

    def visit(node):
        """The nodes behind one, each after those that it came from."""
        if node not in nodes:
            for source, _ in node.next_functions:
                if source is not None:
                    visit(source)
            nodes.append(node)

    visit(root)
    # torch's graph: a node is a function of the gradient; a leaf's node would add it to .grad.
    found, slopes = {root: torch.ones(())}, {}
    for node in reversed(nodes):
        if hasattr(node, "variable"):
            # What was broadcast is summed: autograd's engine does it, not the nodes.
            slopes[names[id(node.variable)]] = found[node].sum_to_size(node.variable.shape)
            continue
        parts = node(found[node])
        for (source, _), part in zip(
            node.next_functions, parts if isinstance(parts, tuple) else (parts,), strict=True
        ):
            if source is not None:
                found[source] = found.get(source, 0) + part

    # JAX's: forwards equation by equation, with the way back of each kept; then backwards.
    env, pulls = dict(zip(jaxpr.invars, (jx, jw, jb), strict=True)), []
    for eqn in jaxpr.eqns:
        inputs = [env[v] for v in eqn.invars]
        env[eqn.outvars[0]], pull = jax.vjp(
            lambda *args, eqn=eqn: eqn.primitive.bind(*args, **eqn.params), *inputs
        )
        pulls.append((eqn, pull))
    back = {jaxpr.outvars[0]: jnp.ones(())}
    for eqn, pull in reversed(pulls):
        for var, part in zip(eqn.invars, pull(back[eqn.outvars[0]]), strict=True):
            back[var] = back.get(var, 0) + part
    walked = {name: back[var] for name, var in zip("xwb", jaxpr.invars, strict=True)}
    same("the value", env[jaxpr.outvars[0]], energy(tx, tw, tb, torch))
    same("both graphs, walked by hand", walked, slopes)
    whole = jax.grad(lambda each: energy(*each, np=jnp))((jx, jw, jb))
    same("jax.grad and autograd", whole, torch.autograd.grad(energy(tx, tw, tb, torch), leaves))
    same("as the walk", whole, [slopes[name] for name in "xwb"])

    if (axes := same.axes(1, 2, height=6)) is not None:
        drawn = {}
        for node in nodes:
            leaf = f"\nof {names[id(node.variable)]}" if hasattr(node, "variable") else ""
            behind = [source for source, _ in node.next_functions if source is not None]
            drawn[node] = node.name().rpartition("::")[2] + leaf, behind
        traced = {var: (name, []) for name, var in zip("xwb", jaxpr.invars, strict=True)}
        for eqn in jaxpr.eqns:
            traced[eqn.outvars[0]] = eqn.primitive.name, eqn.invars
        for axis, graph, arrow in ((axes[0], traced, "<|-"), (axes[1], drawn, "-|>")):
            levels, place = {}, {}
            for key, (_, sources) in graph.items():
                level = max((place[source][1] for source in sources), default=-1) + 1
                levels.setdefault(level, []).append(key)
                place[key] = (0, level)
            for level, keys in levels.items():
                for i, key in enumerate(keys):
                    place[key] = (1.3 * (i - (len(keys) - 1) / 2), level)
            for key, (label, sources) in graph.items():
                color = "lightgray" if place[key][1] == 0 else "lightblue"
                box = {"boxstyle": "round", "facecolor": color}
                axis.text(*place[key], label, ha="center", va="center", size=8, bbox=box, zorder=5)
                for source in sources:
                    far = place[key][1] - place[source][1] > 1  # around what is between
                    bend = (0.3 if place[source][0] < 0 else -0.7) if far else 0
                    style = {"arrowstyle": arrow, "shrinkA": 12, "shrinkB": 12}
                    style["connectionstyle"] = f"arc3,rad={-bend}"
                    axis.annotate("", place[source], place[key], arrowprops=style)
            axis.set(xlim=(-2.1, 2.1), ylim=(max(levels) + 0.6, -0.6))
            axis.axis("off")
        axes[0].set_title("the jaxpr: values flow down")
        axes[1].set_title("autograd's graph: gradients flow up")

# %% [autodiff] Automatic Differentiation
with lesson("autodiff") as same:
    # The Jacobian of f: R^n -> R^m takes n passes forward (a column each), or m in reverse (a row
    # each). Reverse mode makes any gradient (m = 1) for a few times the cost of f.
    width, counted = 64, {}
    weights = [both(same.rng.standard_normal((width, width)) / 8) for _ in range(3)]

    def chain(x, outputs, side, np):
        h = x @ weights[0][side][: len(x)]
        for each in weights[1:]:
            h = np.tanh(h) @ each[side]
        return h[:outputs]

    def work(name, n, m):
        """Multiplications and additions: of XLA's program, and of torch's matrix products."""
        jx, tx = both(same.rng.standard_normal(n))
        run = [lambda x: chain(x, m, 0, jnp), lambda x: chain(x, m, 1, torch)]
        if name:
            run = [getattr(jax, name)(run[0]), getattr(torch.func, name)(run[1])]
        compiled = jax.jit(run[0]).lower(jx).compile()
        with FlopCounterMode(display=False) as counter:
            same(f"{name or 'f'}, {n} -> {m}", compiled(jx), run[1](tx))
        xla: Any = compiled.cost_analysis()
        return {"jax": xla["flops"], "torch": counter.get_total_flops()}

    counts = (1, 8, 64)
    for n, m in [(n, 1) for n in counts] + [(1, 64)]:
        alone = work("", n, m)
        for name in ("jacfwd", "jacrev"):
            cost = work(name, n, m)
            counted[name, n, m] = {side: cost[side] / alone[side] for side in cost}
    for side in ("jax", "torch"):
        cost = {key: value[side] for key, value in counted.items()}
        same.holds("a gradient costs a few times f", cost["jacrev", 64, 1] < 5)
        same.holds("forward mode grows with n", cost["jacfwd", 64, 1] > 20)
        same.holds("reverse mode with m", cost["jacrev", 1, 64] > 5 * cost["jacfwd", 1, 64])
        same.holds("forward mode does not", cost["jacfwd", 1, 64] < 5)
        print(
            f"{side}: 64 -> 1 costs {cost['jacfwd', 64, 1]:.0f} f forward, "
            f"{cost['jacrev', 64, 1]:.1f} f in reverse"
        )

    # A gradient of one's own: autodiff of log(1 + e^x) meets inf / inf at 1000, where the slope is
    # 1. The derivative is known: the sigmoid.
    @jax.custom_vjp
    def jsoftplus(x):
        return jnp.logaddexp(x, 0)

    jsoftplus.defvjp(lambda x: (jsoftplus(x), x), lambda x, g: (g * jax.nn.sigmoid(x),))

    class Softplus(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return torch.logaddexp(x, torch.zeros(()))

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, *g):
            return g[0] * torch.sigmoid(*ctx.saved_tensors)

    jx, tx = both(np.array([-800.0, -1, 0, 2, 1000]))
    slope = jax.vmap(jax.grad(jsoftplus))(jx)
    same("a custom gradient", slope, torch.func.vmap(torch.func.grad(Softplus.apply))(tx))
    plain = jax.grad(lambda x: jnp.log(1 + jnp.exp(x)))(jx[-1])
    tplain = torch.func.grad(lambda x: torch.log(1 + torch.exp(x)))(tx[-1])
    same.holds("the plain form has none", np.isnan(float(plain)) and tplain.isnan())
    twice = jax.grad(jax.grad(jsoftplus))(2.0)
    same("and it has one, too", twice, torch.func.grad(torch.func.grad(Softplus.apply))(tx[3]))

    # Higher orders: grad of grad, in both.
    jd, td = jnp.tanh, torch.tanh
    for order in range(5):
        same(f"derivative {order} of tanh", jd(0.5), td(torch.tensor(0.5)))
        jd, td = jax.grad(jd), torch.func.grad(td)

    # Hessian times vector: the derivative of the gradient along v, forward over reverse. It costs a
    # few gradients, where the Hessian costs one for each parameter. Its largest eigenvalue, by
    # repeated products, is the curvature that bounds the step of gradient descent.
    x, labels, *_ = split_digits(same.rng, flat=True, scale="unit")
    (jx, tx), (jlabels, tlabels) = both(x[:300]), both(labels[:300])

    def objective(w):
        return jax_cross_entropy(jx @ w.reshape(64, 10), jlabels)

    def tobjective(w):
        return cross_entropy(tx @ w.reshape(64, 10), tlabels)

    (jw, tw), (jv, tv) = (both(same.rng.standard_normal(640) / 8) for _ in range(2))

    @jax.jit
    def product(v):
        return jax.jvp(jax.grad(objective), (jw,), (v,))[1]

    def tproduct(v):
        return torch.func.jvp(torch.func.grad(tobjective), (tw,), (v,))[1]

    same("Hessian times vector", product(jv), tproduct(tv))
    hessian, thessian = jax.hessian(objective)(jw), torch.func.hessian(tobjective)(tw)
    same("Hessian", hessian, thessian)
    same("and its product", product(jv), thessian @ tv)
    for _ in range(200):
        jv, tv = (v / (v @ v) ** 0.5 for v in (product(jv), tproduct(tv)))
    same("largest curvature", jv @ product(jv), tv @ tproduct(tv))
    same(
        "is that of the whole Hessian", jv @ product(jv), torch.linalg.eigvalsh(thessian)[-1], 1e-6
    )
    if (axis := same.axes(height=4)) is not None:
        for name, color in (("jacfwd", "C0"), ("jacrev", "C1")):
            for side, style in (("jax", "o-"), ("torch", "s--")):
                cost = [counted[name, n, 1][side] for n in counts]
                axis.loglog(counts, cost, color + style, label=f"{side} {name}")
        axis.set(xlabel="inputs n, one output", ylabel="operations, as multiples of f's")
        axis.set(title="a gradient, forward and in reverse")
        axis.legend()

# %% [practice] Practical Applications
with lesson("practice") as same:
    # Implicit differentiation. z = tanh(W z + x) is found by iteration, but dz need not pass back
    # through it: at the solution g(z, W) = z, so dz = (I - dg/dz)^-1 dg/dW dW. One linear system
    # replaces the memory of all iterations, however many they were.
    rng, n = same.rng, 20
    (jw, tw), (jx, tx) = both(rng.standard_normal((n, n)) / 10), both(rng.standard_normal(n))

    def solved(w, steps, x, np):
        z = 0 * x
        for _ in range(steps):
            z = np.tanh(w @ z + x)
        return z

    jz, tz = solved(jw, 100, jx, jnp), solved(tw, 100, tx, torch)
    same("the fixed point", jz, tz)
    pull = jax.vjp(lambda w, z: jnp.tanh(w @ z + jx), jw, jz)[1]
    tpull = torch.func.vjp(lambda w, z: torch.tanh(w @ z + tx), tw, tz)[1]
    # Of L = |z|^2, with dL/dz = 2 z: u = dL/dz (I - dg/dz)^-1, dL/dW = u dg/dW.
    matrix = jnp.eye(n) - jax.vmap(lambda e: pull(e)[1])(jnp.eye(n)).T
    tmatrix = torch.eye(n) - torch.func.vmap(lambda e: tpull(e)[1])(torch.eye(n)).T
    implicit = pull(jnp.linalg.solve(matrix, 2 * jz))[0]
    timplicit = tpull(torch.linalg.solve(tmatrix, 2 * tz))[0]
    same("implicit gradient", implicit, timplicit)
    through = jax.grad(lambda w: (solved(w, 100, jx, jnp) ** 2).sum())(jw)
    same("through a hundred iterations", through, timplicit)
    leaf = tw.clone().requires_grad_()
    (tthrough,) = torch.autograd.grad((solved(leaf, 100, tx, torch) ** 2).sum(), leaf)
    same("in torch, too", implicit, tthrough)

    # Adversarial examples. The gradient to the *input* says which pixels to move: a step of eps in
    # each pixel, in the direction of the sign, raises the loss most. Random signs hardly hurt.
    x, labels, held_x, held_labels = split_digits(rng, flat=True, scale="unit")
    state, model, _, _ = trained(rng, draw(rng), x, labels, 1200 if same.full else 400)
    (jx, tx), (jlabels, tlabels), eps = both(held_x), both(held_labels), 0.15

    def network(x):
        return state.apply_fn({"params": state.params}, x)

    to_input = jax.grad(lambda x: jax_cross_entropy(network(x), jlabels))(jx)
    leaf = tx.clone().requires_grad_()
    (tto_input,) = torch.autograd.grad(cross_entropy(model(leaf), tlabels), leaf)
    same("gradient to the input", to_input, tto_input)
    moved = jnp.clip(jx + eps * jnp.sign(to_input), 0, 1)
    tmoved = (tx + eps * tto_input.sign()).clamp(0, 1)
    same("attacked digits", moved, tmoved)
    jnoise, tnoise = both(eps * rng.choice([-1.0, 1.0], held_x.shape))
    noisy = jnp.clip(jx + jnoise, 0, 1), (tx + tnoise).clamp(0, 1)
    shown = {"clean": (jx, tx), "random signs": noisy, "attacked": (moved, tmoved)}
    rates = {}
    for name, (ours, theirs) in shown.items():
        right = (network(ours).argmax(1) == jlabels).mean(dtype="float64")
        rates[name] = (model(theirs).argmax(1) == tlabels).double().mean()
        same(f"accuracy, {name}", right, rates[name])
        print(f"{name}: {rates[name]:.3f} right")
    same.holds("clean digits are read", rates["clean"] > 0.9)
    same.holds("random noise is borne", rates["random signs"] > 0.8)
    same.holds("the attack is not", rates["attacked"] < 0.4)

    # A saliency map: the gradient of the winning logit to the pixels, |d logit / d x|: which pixels
    # the answer hangs on. Times the pixel it says what is lost if the pixel is wiped out.
    winner = network(jx).argmax(1)
    map_of = jax.vmap(jax.grad(lambda x, k: network(x[None])[0, k]))(jx, winner)
    leaf = tx.clone().requires_grad_()
    top = model(leaf).max(1).values.sum()  # examples do not mix: one pass serves all
    (tmap,) = torch.autograd.grad(top, leaf)
    same("saliency maps", abs(map_of), tmap.abs())
    ranked = np.argsort(-(tmap * tx).numpy(), axis=1, kind="stable")[:, :6]
    inked = np.argsort(-(rng.random(held_x.shape) * (held_x > 0.3)), axis=1)[:, :6]
    still = {}
    for name, pixels in (("salient", ranked), ("other inked", inked)):
        wiped = held_x.copy()
        np.put_along_axis(wiped, pixels, 0, axis=1)
        ours, theirs = network(to_jax(wiped)), model(to_torch(wiped))
        same(f"logits without {name} pixels", ours, theirs)
        still[name] = (theirs.argmax(1).numpy() == np.asarray(winner)).mean()
        print(f"without six {name} pixels {still[name]:.2f} of the answers stay")
    same.holds("the salient pixels matter more", still["salient"] < still["other inked"] - 0.3)

    if (axes := same.axes(2, 5, height=2.1)) is not None:
        answers = (winner, network(moved).argmax(1), model(tmoved).argmax(1))
        fooled = np.flatnonzero(
            (np.asarray(winner) == held_labels) & (np.asarray(answers[1]) != held_labels)
        )
        for row, index in zip(axes, fooled[:2], strict=True):
            panels = {
                f"a {answers[0][index]}": (jx, "gray_r"),
                "saliency, jax": (abs(map_of), "magma"),
                "saliency, torch": (tmap.abs(), "magma"),
                f"attacked, jax: {answers[1][index]}": (moved, "gray_r"),
                f"attacked, torch: {answers[2][index]}": (tmoved, "gray_r"),
            }
            for axis, (title, (images, colors)) in zip(row, panels.items(), strict=True):
                axis.imshow(np.asarray(images[index]).reshape(8, 8), colors)
                axis.set_title(title, fontsize=9)
                axis.axis("off")
