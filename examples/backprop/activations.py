"""Backward through activations, in JAX and in PyTorch: what each passes on, loses and blocks.

Run it as a program (`python examples/backprop/activations.py --out figures`), or cell by cell in an
editor that knows `# %%`. In the figures broad lines are JAX's, dashed ones PyTorch's. What the
activations are is the subject of examples/neural_networks/activations.py. `--full` trains longer:
about 110 s on two cores.
"""

# %% Set-up
import itertools
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

from compare.data.batches import shuffled
from compare.data.digits import split_digits
from compare.share import to_jax, to_torch
from compare.study.figures import twice
from compare.study.lessons import both, lesson
from compare.study.networks import Networks
from compare.study.scripts import script
from jaxnn.foundations import backprop as jax_backprop
from jaxnn.layers import activations as jax_activations
from jaxnn.layers.container import Sequential
from jaxnn.training.losses import cross_entropy as jax_cross_entropy
from jaxnn.training.optimizers import sgd as jax_sgd
from torchref.foundations import backprop
from torchref.layers import activations
from torchref.training.losses import cross_entropy
from torchref.training.optimizers import sgd

script(__name__)


def by_hand(value, backward):
    """A function with a backward pass of its own: JAX's, PyTorch's.

    Args:
      value: y of the inputs, and of `jnp` or `torch`, which comes last.
      backward: dL/d(input) for each input, of dL/dy, the inputs, y, and `jnp` or `torch`.
    """

    @jax.custom_vjp
    def ours(*inputs):
        return value(*inputs, jnp)

    def forward(*inputs):
        y = value(*inputs, jnp)
        return y, (*inputs, y)

    ours.defvjp(forward, lambda kept, dy: backward(dy, *kept, jnp))

    class Theirs(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            y = value(*inputs, torch)
            ctx.save_for_backward(*inputs, y)
            return y

        @staticmethod
        def backward(ctx, *dy):
            return backward(dy[0], *ctx.saved_tensors, torch)

    return ours, Theirs.apply


def slopes(pair, *inputs):
    """d(sum of f)/d(input) of a function of both frameworks, for each input: JAX's, PyTorch's."""
    leaves = [to_torch(each).requires_grad_() for each in inputs]
    theirs = torch.autograd.grad(pair[1](*leaves).sum(), leaves)
    slope = jax.jit(jax.grad(lambda *z: pair[0](*z).sum(), tuple(range(len(inputs)))))
    return jax.tree.map(np.asarray, (slope(*map(to_jax, inputs)), theirs))


def named(name, **more):
    """An activation of both frameworks."""
    return tuple(partial(getattr(side, name), **more) for side in (jax_activations, activations))


def arriving(weights, pair, x, labels):
    """Norms of dL/dz of each layer's sums z = h W, first to last: JAX's, PyTorch's."""
    (ws, tws), (h, th), (labels, tlabels) = (
        zip(*map(both, weights), strict=True),
        both(x),
        both(labels),
    )

    def loss(pushes):  # zeros, added to the sums
        z = h @ ws[0] + pushes[0]
        for w, push in zip(ws[1:], pushes[1:], strict=True):
            z = pair[0](z) @ w + push
        return jax_cross_entropy(z, labels)

    ours = jax.jit(jax.grad(loss))([jnp.zeros((len(x), w.shape[1])) for w in ws])
    sums = [(th @ tws[0]).requires_grad_()]
    for w in tws[1:]:
        sums.append(pair[1](sums[-1]) @ w)
    theirs = torch.autograd.grad(cross_entropy(sums[-1], tlabels), sums)
    return [np.array([np.linalg.norm(each) for each in side]) for side in (ours, theirs)]


class JaxActivation(nn.Module):
    """f(z), or f(z, a) with a number `a` that is learned."""

    f: Callable
    a: float | None = None

    @nn.compact
    def __call__(self, z):
        if self.a is None:
            return self.f(z)
        return self.f(z, self.param("a", nn.initializers.constant(self.a), (1,)))


class Activation(torch.nn.Module):
    """The same in PyTorch."""

    def __init__(self, f, a=None):
        super().__init__()
        self.f, self.a = f, None if a is None else torch.nn.Parameter(torch.full((1,), a))

    def forward(self, z):
        return self.f(z) if self.a is None else self.f(z, self.a)


def network(seed, pair, widths, a=None):
    """Linear layers of such widths, and the activation between them, on both sides."""

    def ours():
        layers = [each for n in widths[1:] for each in (nn.Dense(n), JaxActivation(pair[0], a))]
        return Sequential(tuple(layers[:-1]))

    def theirs():
        sizes = itertools.pairwise(widths)
        layers = [x for m, n in sizes for x in (torch.nn.Linear(m, n), Activation(pair[1], a))]
        return torch.nn.Sequential(*layers[:-1])

    return Networks(ours, theirs, np.random.default_rng(seed), np.zeros((1, widths[0])))


def train(rng, nets, x, labels, steps, lr):
    """SGD on batches of 64, a step at a time: an iterator of the losses of both."""
    batches = itertools.islice(shuffled(rng, (x,), (labels,), 64), steps)
    rules = jax_sgd(lr=lr), partial(sgd, lr=lr)
    return nets.train(batches, (jax_cross_entropy, cross_entropy), rules)


def dead(state, x):
    """Which units of the first layer no example reaches."""
    return (x @ state["0.weight"].T + state["0.bias"] <= 0).all(0)


# %% [sigmoid] Sigmoid Function
# y = s(z), dL/dz = dL/dy y (1 - y): only the output has to be kept.
with lesson("sigmoid") as same:

    def s(z, of):
        return 1 / (1 + of.exp(-z))

    # Three formulas of one slope, which is even: s'(-z) = s'(z). From z = 37 on y is exactly 1, and
    # y (1 - y) is 0; of e^-z / (1 + e^-z)^2 nothing is left where e^-z overflows. s(z) s(-z) is
    # right everywhere. The frameworks' own is the first: what is sure and wrong learns nothing,
    # unless the loss takes logarithm and sigmoid in one.
    z = np.linspace(-60, 60, 241)
    small = np.exp(-np.abs(z.astype(np.longdouble)))
    exact, lost = small / (1 + small) ** 2, {}
    for name, backward in {
        "y (1 - y)": lambda dy, z, y, of: (dy * y * (1 - y),),
        "s(z) s(-z)": lambda dy, z, y, of: (dy * y * s(-z, of),),
        "by e^-z": lambda dy, z, y, of: (dy * of.exp(-z) / (1 + of.exp(-z)) ** 2,),
    }.items():
        pair = by_hand(s, backward)
        (ours,), (theirs,) = slopes(pair, z)
        same(name, ours, theirs)
        lost[name] = [np.abs(np.array(each / exact - 1, float)) for each in (ours, theirs)]
        far = slopes(pair, np.array([-1e4]))[1][0]
        print(f"{name:>10}: relative error up to {lost[name][1].max():.0e}; {far} at -1e4")
        same.holds("NaN at -1e4", np.isnan(far).all() == (name == "by e^-z"))
    (ours,), (theirs,) = slopes(named("sigmoid"), z)
    same("the frameworks' own", ours, theirs)
    same(
        "is y (1 - y)", ours, slopes(by_hand(s, lambda dy, z, y, of: (dy * y * (1 - y),)), z)[1][0]
    )
    same.holds("which has lost all of it at 40", ours[200] == theirs[200] == 0 < exact[200])
    same.holds("s(z) s(-z) nothing", max(each.max() for each in lost["s(z) s(-z)"]) < 1e-14)

    # In depth: dL/dz_l = (dL/dz_(l+1) W^T) s'(z_l), and s' <= 1/4, so that a layer passes on at
    # most |W| / 4 of what arrives, |W| the largest singular value.
    x, labels, *_ = split_digits(same.rng, flat=True)
    weights = [same.rng.standard_normal((64, 64)) / 8 for _ in range(12)]
    weights.append(same.rng.standard_normal((64, 10)) / 8)
    norms = arriving(weights, named("sigmoid"), x[:200], labels[:200])
    same("what arrives at each layer", np.log(norms[0]), np.log(norms[1]))
    most = [np.linalg.norm(w, 2) / 4 for w in weights[1:]]
    share = norms[1][:-1] / norms[1][1:]
    print(f"a layer passes on {share[:-1].mean():.2f} of the gradient, at most {most[0]:.2f}")
    same.holds("never more than |W| / 4", (share <= most).all())
    same.holds("the first gets next to nothing", norms[1][0] < 1e-5 * norms[1][-1])
    if (axes := same.axes(1, 2, height=4)) is not None:
        for i, (name, lines) in enumerate(lost.items()):
            twice(axes[0], z, [np.maximum(each, 1e-18) for each in lines], f"C{i}", name)
        axes[0].set(yscale="log", xlabel="z", title="relative error of s'(z)")
        axes[0].legend()
        layers = np.arange(1, 14)
        twice(axes[1], layers, norms, "C0", "of sigmoid, on digits")
        bound = norms[1][-1] * np.append(np.cumprod(most[::-1])[::-1], 1)
        axes[1].plot(layers, bound, "k:", label="at most: |W| / 4 a layer")
        axes[1].set(yscale="log", xlabel="layer", ylabel="norm of dL/dz", title="13 layers")
        axes[1].legend()

# %% [relu] ReLU Function
# dL/dz = dL/dy [z > 0]: a gate, open or shut; nothing but the gate has to be kept.
with lesson("relu") as same:
    # At the kink any c between 0 and 1 is a sub-gradient: the line c z lies nowhere above relu(z).
    z = np.linspace(-1, 1, 41)

    def with_kink(c):
        """relu, with the slope c at 0."""
        return by_hand(
            lambda z, of: of.where(z > 0, z, 0.0),
            lambda dy, z, y, of: (dy * of.where(z > 0, 1.0, of.where(z < 0, 0.0, c)),),
        )

    for c in (-0.1, 0.0, 0.5, 1.0, 1.1):
        below = (c * z <= np.maximum(z, 0)).all()
        print(f"slope {c} at 0: {'a' if below else 'no'} sub-gradient")
        same.holds("0 to 1 are", below == (0 <= c <= 1))
        (ours,), (theirs,) = slopes(with_kink(c), z)
        same(f"slope {c} at 0", ours, theirs)
        same.holds("it is", ours[20] == theirs[20] == c)
    # Sub-gradients do not add up as gradients do: relu(z) - relu(-z) is z, yet its slope at 0 is 0.
    (ours,), (theirs,) = slopes([lambda z, f=f: f(z) - f(-z) for f in named("relu")], z)
    same("slope of z, so written", ours, theirs)
    same.holds("0 at 0, else 1", (theirs == (z != 0)).all())

    # For training it does not matter: no sum is ever exactly 0.
    x, labels, held_x, held = split_digits(same.rng, flat=True)
    seed, nets = same.rng.integers(2**32), {}
    for c in (0.0, 1.0):
        nets[c] = network(seed, with_kink(c), (64, 100, 10))
        order = np.random.default_rng(seed)
        losses = np.array([*train(order, nets[c], x, labels, 100, 0.1)])
        same(f"losses with {c} at 0", losses[:, 0], losses[:, 1])
    same("0 or 1 at the kink: the same net", nets[0.0].state()[0], nets[1.0].state()[1])

    # Behind a gate that is shut for every example no gradient arrives: what is dead stays dead.
    steps, counts = 600 if same.full else 100, {}
    for lr in (0.1, 0.75, 1.0, 1.25):
        net = network(seed, named("relu"), (64, 100, 10))
        path = [
            [dead(each, x).sum() for each in net.state()]
            for _ in train(same.rng, net, x, labels, steps, lr)
        ]
        counts[lr] = np.array(path).T
        same(f"dead at rate {lr}", counts[lr][0], counts[lr][1])
        print(f"rate {lr}: {path[-1][1]} of 100 units dead")
        same.holds("none comes back", (np.diff(counts[lr]) >= 0).all())
    same.holds("large steps kill", counts[1.25][1, -1] > 20 > counts[0.1][1, -1] + 10)

    # Flow: for one digit the net is linear. Its Jacobian is W2 D W1, the gates on the diagonal D,
    # and the gradient flows through open ones only.
    (point, tpoint), state = both(x[0]), nets[1.0].state()[1]
    ours = jax.jacobian(lambda x: nets[1.0].jax.apply(nets[1.0].variables, x))(point)
    theirs = torch.autograd.functional.jacobian(nets[1.0].torch, tpoint)
    gates = state["0.weight"] @ x[0] + state["0.bias"] > 0
    same("Jacobian", ours, theirs)
    same("is the sum of open paths", ours, state["2.weight"] * gates @ state["0.weight"])
    open_ = (x @ state["0.weight"].T + state["0.bias"] > 0).mean(0)
    print(f"open gates: {open_.mean():.2f}")
    same.holds("about half are", 0.3 < open_.mean() < 0.7)
    if (axes := same.axes(1, 2, height=4)) is not None:
        for i, (lr, lines) in enumerate(counts.items()):
            twice(axes[0], range(steps), lines, f"C{i}", f"rate {lr}")
        axes[0].set(xlabel="step", ylabel="units", title="dead units of 100, on digits")
        axes[0].legend(loc="center right")
        axes[1].imshow(np.vstack([ours, theirs]), cmap="RdBu", aspect="auto")
        axes[1].axhline(9.5, color="k")
        axes[1].set_yticks([4.5, 14.5], ["jax", "torch"])
        axes[1].set(xlabel="pixel", title="d(logits)/d(pixels) of one digit")

# %% [softmax] Softmax Function
# dp_i/dz_j = p_i ([i = j] - p_j), so dL/dz = p (g - g.p), g = dL/dp: no Jacobian is ever made.
with lesson("softmax") as same:
    (z, tz), (g, tg) = both(same.rng.standard_normal(6)), both(same.rng.standard_normal(6))
    softmax, tsoftmax = jax.nn.softmax, partial(torch.softmax, dim=0)
    p, pull = jax.vjp(softmax, z)
    same("backward, JAX", p * (g - g @ p), pull(g)[0])
    same("backward, PyTorch", pull(g)[0], torch.func.vjp(tsoftmax, tz)[1](tg)[0])
    jacobian = jax.jacobian(softmax)(z)
    same("the Jacobian", jacobian, torch.func.jacrev(tsoftmax)(tz))
    same.holds("is symmetric", abs(jacobian - jacobian.T).max() < 1e-15)
    same.holds("and singular: all z moved alike change nothing", abs(jacobian.sum(1)).max() < 1e-15)

    # Cross-entropy behind it: dL/dp = -y / p, and through the Jacobian p - y. Fused it is exact
    # everywhere; in two steps it divides by a p that has become 0.
    (z, tz), (label, tlabel) = both(np.array([[1000.0, 0, -1000]])), both(np.array([2]))
    (one, tone), (y, ty) = both(np.array(1.0)), both(np.array([[0.0, 0, 1]]))
    two_steps = (
        jax.grad(lambda z: -(y * jnp.log(jax.nn.softmax(z))).sum())(z),
        torch.func.grad(lambda z: -(ty * torch.softmax(z, 1).log()).sum())(tz),
    )
    cache = jax_backprop.softmax_cross_entropy_forward(z, label)[1]
    tcache = backprop.softmax_cross_entropy_forward(tz, tlabel)[1]
    fused = jax_backprop.softmax_cross_entropy_backward(one, cache)["logits"]
    tfused = backprop.softmax_cross_entropy_backward(tone, tcache)["logits"]
    print(f"in two steps {two_steps[1].numpy()}, fused {tfused.numpy()}")
    same("p - y by hand", fused, tfused)
    same("is JAX's", fused, jax.grad(jax_cross_entropy)(z, label))
    same("is PyTorch's", fused, torch.func.grad(cross_entropy)(tz, tlabel))
    for side in two_steps:
        same.holds("in two steps: not a number", np.isnan(np.asarray(side)).any())

    # p - y is as long as the mistake is large. Squared error sends its slope through the Jacobian,
    # which is 0 where p is 0 or 1: what is most wrong learns least.
    gaps, sizes = np.linspace(-12, 12, 97), {}
    for name, loss in {
        "cross-entropy": lambda p: -p[:, 1].log() if torch.is_tensor(p) else -jnp.log(p[:, 1]),
        "squared error": lambda p: (p[:, 0] ** 2 + (1 - p[:, 1]) ** 2) / 2,
    }.items():
        pair = [lambda z, f=f, loss=loss: loss(f(z, -1)) for f in (jax.nn.softmax, torch.softmax)]
        (ours,), (theirs,) = slopes(pair, np.stack([gaps, np.zeros(97)], 1))  # class 1 is right
        same(name, ours, theirs)
        sizes[name] = ours[:, 0], theirs[:, 0]
    same("p - y", sizes["cross-entropy"][0], torch.sigmoid(to_torch(gaps)))
    same.holds("most wrong, least learnt", sizes["squared error"][1][-1] < 1e-4)

    # Softmax regression without autodiff, from large random weights, that are surely wrong:
    # dL/dW = x^T dL/dz / N.
    x, labels, held_x, held = split_digits(same.rng, flat=True)
    (jx, tx), (jy, ty) = both(x), both(np.eye(10)[labels])
    (w, tw), right = both(same.rng.standard_normal((64, 10))), {}

    def slope(name, w, x, y, p):
        """dL/dW; the same lines serve both frameworks."""
        off = p - y
        dz = off if name == "cross-entropy" else p * (off - (off * p).sum(1)[:, None])
        return x.T @ dz / len(x)

    def costs(w):
        """What the two have as their slopes, by JAX."""
        p = jax.nn.softmax(jx @ w)
        return {
            "cross-entropy": -(jy * jnp.log(p)).sum(1).mean(),
            "squared error": ((p - jy) ** 2).sum(1).mean() / 2,
        }

    autodiff = jax.jacrev(costs)(w)
    for name in sizes:

        def step(w, _, name=name):
            return w - 0.5 * slope(name, w, jx, jy, jax.nn.softmax(jx @ w)), None

        same(
            f"slope by hand, {name}", autodiff[name], slope(name, tw, tx, ty, (tx @ tw).softmax(1))
        )
        ours, theirs = jax.jit(lambda w, step=step: jax.lax.scan(step, w, length=300)[0])(w), tw
        for _ in range(300):
            theirs = theirs - 0.5 * slope(name, theirs, tx, ty, (tx @ theirs).softmax(1))
        same(f"trained by {name}", ours, theirs)
        right[name] = ((held_x @ theirs.numpy()).argmax(1) == held).mean()
        print(f"{name}: {right[name]:.3f} right on held-out digits")
    same.holds("cross-entropy learns", right["cross-entropy"] > 0.9)
    same.holds("squared error less", right["squared error"] < right["cross-entropy"] - 0.05)
    if (axis := same.axes(height=4)) is not None:
        for i, (name, lines) in enumerate(sizes.items()):
            twice(axis, gaps, lines, f"C{i}", name)
        axis.set(xlabel="logit of the wrong class, less that of the right", ylabel="slope")
        axis.set(title="what a mistake sends back through a softmax")
        axis.legend()

# %% [tanh] Tanh Function
# y = tanh(z), dL/dz = dL/dy (1 - y^2): the slope is 1 at 0, four times the sigmoid's.
with lesson("tanh") as same:
    z = np.linspace(-5, 5, 101)
    pair = by_hand(lambda z, of: of.tanh(z), lambda dy, z, y, of: (dy * (1 - y**2),))
    (ours,), (theirs,) = slopes(pair, z)
    (of_sigmoid,), (tof_sigmoid,) = slopes(named("sigmoid"), z)
    same("by hand", ours, theirs)
    same("as both do", ours, slopes(named("tanh"), z)[1][0])
    same.holds("at most 1, and 1/4", theirs.max() == 1 and tof_sigmoid.max() == 0.25)

    # The same weights, the same digits, twelve layers: what arrives at the first. A sigmoid that is
    # stretched to be a tanh, 2 s(2z) - 1, is one backward, too: the slope at 0 is what matters.
    x, labels, held_x, held = split_digits(same.rng, flat=True)
    weights = [same.rng.standard_normal((64, 64)) / 8 for _ in range(12)]
    weights.append(same.rng.standard_normal((64, 10)) / 8)
    stretched = [lambda z, f=f: 2 * f(2 * z) - 1 for f in named("sigmoid")]
    norms = {
        name: arriving(weights, pair, x[:200], labels[:200])
        for name, pair in (
            ("tanh", named("tanh")),
            ("sigmoid", named("sigmoid")),
            ("2 s(2z) - 1", stretched),
        )
    }
    for name, found in norms.items():
        same(f"what arrives, {name}", np.log(found[0]), np.log(found[1]))
        print(f"{name}: first over last gradient {found[1][0] / found[1][-1]:.0e}")
    same("stretched, it is a tanh", norms["2 s(2z) - 1"][0], norms["tanh"][1])
    same.holds("tanh: most", norms["tanh"][1][0] > 0.05 * norms["tanh"][1][-1])
    same.holds("sigmoid: nothing", norms["sigmoid"][1][0] < 1e-5 * norms["sigmoid"][1][-1])

    # Trained, at growing depth.
    depths, steps, seed = (1, 3, 5), 800 if same.full else 300, same.rng.integers(2**32)
    right = {name: [] for name in ("tanh", "sigmoid")}
    for name, depth in itertools.product(right, depths):
        net = network(seed, named(name), (64, *(32,) * depth, 10))
        losses = np.array([*train(same.rng, net, x, labels, steps, 0.2)])
        same(f"losses, {depth} of {name}", losses[:, 0], losses[:, 1])
        right[name].append(net.accuracy(held_x, held))
        print(f"{depth} layers of {name}: {right[name][-1][1]:.3f} right on held-out digits")
    same.holds("tanh learns at any depth", np.min(right["tanh"]) > 0.85)
    same.holds("the sigmoid at one layer", min(right["sigmoid"][0]) > 0.85)
    same.holds("not at five", max(right["sigmoid"][-1]) < 0.3)
    if (axes := same.axes(1, 2, height=4)) is not None:
        for i, (name, found) in enumerate(norms.items()):
            if name in right:
                twice(axes[0], range(1, 14), found, f"C{i}", name)
                twice(axes[1], depths, np.array(right[name]).T, f"C{i}", name)
        axes[0].set(yscale="log", xlabel="layer", ylabel="norm of dL/dz", title="before training")
        axes[1].set(xlabel="hidden layers", ylabel="right on held-out digits", title="and after")
        axes[1].set_xticks(depths)
        for axis in axes:
            axis.legend()

# %% [leaky_relu] Leaky ReLU Function
# dL/dz = dL/dy where z > 0, a dL/dy elsewhere: the gate is never quite shut.
with lesson("leaky_relu") as same:
    # By hand, with a learned a: dL/da = sum of dL/dy z over what is negative.
    pair = by_hand(
        lambda z, a, of: of.where(z > 0, z, a * z),
        lambda dy, z, a, y, of: (
            dy * of.where(z > 0, 1.0, a),
            (dy * of.where(z > 0, 0.0, z)).sum()[None],
        ),
    )
    z, a = np.linspace(-3, 3, 41)[:, None], np.array([0.1])
    ours, theirs = slopes(pair, z, a)
    same("by hand", ours, theirs)
    same("as both do", ours, slopes(named("prelu"), z, a)[1])
    # Where relu has no gradient, this one has; at 0 it is a, by the twin's convention.
    (zero,), (tzero,) = slopes(named("relu"), z)
    same("relu's", zero, tzero)
    same.holds("0 to the left, where the leaky one has a", (tzero[:20] == 0).all())
    same("a", theirs[0][:20], np.full((20, 1), 0.1))

    # A relu layer that steps of 1.25 have half killed is trained on, at 0.5: as relu, or leaky.
    x, labels, held_x, held = split_digits(same.rng, flat=True)
    steps, widths, counts = 800 if same.full else 300, (64, 100, 10), {}
    killed = network(same.rng.integers(2**32), named("relu"), widths)
    for _ in train(same.rng, killed, x, labels, 40, 1.25):
        pass
    same("what large steps have left", *killed.state())
    for a in (0.0, 0.01, 0.1, 0.3):
        net = network(0, named("leaky_relu", negative_slope=a), widths)
        net.torch.load_state_dict(killed.torch.state_dict())
        net.variables = killed.variables
        path = [[dead(each, x).sum() for each in net.state()]]
        for _ in train(np.random.default_rng(0), net, x, labels, steps, 0.5):
            path.append([dead(each, x).sum() for each in net.state()])
        counts[a], right = np.array(path).T, net.accuracy(held_x, held)
        same(f"dead with a = {a}", counts[a][0], counts[a][1])
        same(f"trained with a = {a}", *net.state())
        print(f"a = {a}: {path[0][1]} dead, then {path[-1][1]}; {right[1]:.3f} right")
        if a == 0:
            for old, new in zip(killed.state(), net.state(), strict=True):
                still = (old["0.weight"] == new["0.weight"]).all(1)
                same.holds("what was dead has not moved", still[dead(old, x)].all())
    last = [count[1, -1] for count in counts.values()]
    same.holds("relu revives none", last[0] >= counts[0.0][1, 0] > 20)
    same.holds("the leakier, the more come back", (np.diff(last) <= 0).all())
    same.holds("a = 0.3 half of them", last[-1] < last[0] / 2)
    if (axis := same.axes(height=4)) is not None:
        for i, (a, lines) in enumerate(counts.items()):
            twice(axis, range(steps + 1), lines, f"C{i}", f"a = {a}" if a else "relu")
        axis.set(xlabel="step", ylabel="units of 100 that no digit reaches")
        axis.set(title="a layer that large steps have killed, trained on")
        axis.legend()

# %% [swish] Swish Function
# y = z s with s = s(beta z): dy/dz = s + beta z s (1 - s), dy/dbeta = z^2 s (1 - s).
with lesson("swish") as same:

    def value(z, beta, of):
        return z / (1 + of.exp(-beta * z))

    def backward(dy, z, beta, y, of):
        s = 1 / (1 + of.exp(-beta * z))
        return dy * (s + beta * y * (1 - s)), (dy * z * y * (1 - s)).sum()[None]

    by_us, z, betas = by_hand(value, backward), np.linspace(-6, 6, 241), (0.5, 1.0, 2.0)
    curves = {}
    for beta in betas:
        ours, theirs = slopes(by_us, z, np.array([beta]))
        same(f"by hand, beta {beta}", ours, theirs)
        same(f"as both do, beta {beta}", ours, slopes(named("swish"), z, np.array([beta]))[1])
        curves[beta] = ours[0], theirs[0]

        # It falls before it rises: left of z = -1.2785 / beta the slope is negative. There, what
        # would raise the output must lower the sum.
        low = -1.278464542761074 / beta
        same.holds("negative to the left", (theirs[0][z < low] < 0).all())
        same.holds("positive to the right", (theirs[0][z > low] > 0).all())
        (ours,), (theirs,) = slopes(named("swish", beta=beta), np.array([low]))
        same.holds("0 between", max(abs(ours[0]), abs(theirs[0])) < 1e-15)
    # Its steepest slope is more than 1, 1.0998 at 2.4 / beta, whatever beta.
    same.holds("up to 1.0998", max(abs(c[1].max() - 1.0998) for c in curves.values()) < 1e-3)
    same.holds("down to -0.0998", max(abs(c[1].min() + 0.0998) for c in curves.values()) < 1e-3)

    # Trained on digits with the backward pass by hand, and by autodiff.
    x, labels, held_x, held = split_digits(same.rng, flat=True)
    steps, seed, nets = 800 if same.full else 300, same.rng.integers(2**32), {}
    for name, pair in (("by hand", by_us), ("by autodiff", named("swish"))):
        nets[name] = network(seed, pair, (64, 64, 10), 1.0)
        losses = np.array([*train(np.random.default_rng(seed), nets[name], x, labels, steps, 0.3)])
        same(f"losses {name}", losses[:, 0], losses[:, 1])
    same("the same net", nets["by hand"].state()[0], nets["by autodiff"].state()[1])
    right = nets["by hand"].accuracy(held_x, held)
    same.holds("learns", min(right) > 0.9)
    # How many sums lie where the slope is negative? relu would be blind there.
    sums = [
        (each["0.weight"] @ x.T + each["0.bias"][:, None]) * each["1.a"]
        for each in nets["by hand"].state()
    ]
    share = [(each < -1.278464542761074).mean() for each in sums]
    same("share where it falls", share[0], share[1])
    beta = nets["by hand"].state()[1]["1.a"].item()
    print(f"beta {beta:.2f}, {right[1]:.3f} right; {share[1]:.2f} of the sums where swish falls")
    same.holds("many do", share[1] > 0.05)
    if (axes := same.axes(1, 2, height=4)) is not None:
        for i, (beta, lines) in enumerate(curves.items()):
            twice(axes[0], z, lines, f"C{i}", f"beta = {beta}")
        axes[0].axhline(0, color="k", lw=0.5)
        axes[0].set(xlabel="z", title="slope of swish")
        axes[0].legend()
        bins, places = np.linspace(-8, 8, 65), np.linspace(-8, 8, 65)[:-1] + 0.125
        heights = [np.histogram(each, bins)[0] / each.size for each in sums]
        twice(axes[1], places, heights, "C3", "sums of 64 units")
        axes[1].axvspan(-8, -1.2785, color="0.9", label="swish falls")
        axes[1].set(xlabel="beta z", ylabel="share", title="all digits, after training")
        axes[1].legend()
