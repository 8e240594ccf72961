"""Activations in JAX and in PyTorch: sigmoid, relu, softmax, tanh, leaky relu and swish.

Run it as a program (`python examples/neural_networks/activations.py --out figures`), or cell by
cell in an editor that knows `# %%`. In the figures broad lines are JAX's, dashed ones PyTorch's.
`--full` trains longer: about 30 s on two cores.
"""

# %% Set-up
import codecs
import contextlib
import io
import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

from compare.data.batches import shuffled
from compare.data.digits import every_digit, split_digits
from compare.share import to_jax, to_torch
from compare.study.figures import twice
from compare.study.lessons import both, lesson
from compare.study.networks import Networks
from compare.study.scripts import script
from jaxnn.layers import activations as jax_activations
from jaxnn.layers.container import Sequential
from jaxnn.training.losses import cross_entropy as jax_cross_entropy
from jaxnn.training.optimizers import sgd as jax_sgd
from torchref.layers import activations
from torchref.training.losses import cross_entropy
from torchref.training.optimizers import sgd

script(__name__)


def curves(pair, z):
    """Values and slopes of an activation at each of the numbers z: JAX's, PyTorch's."""
    leaf = to_torch(z).requires_grad_()
    values = pair[1](leaf)
    (slopes,) = torch.autograd.grad(values.sum(), leaf)
    ours = jax.jit(jax.vmap(jax.value_and_grad(pair[0])))(to_jax(z))
    return jax.tree.map(np.asarray, (ours, (values.detach(), slopes)))


def named(name, **more):
    """An activation of both frameworks."""
    return tuple(partial(getattr(side, name), **more) for side in (jax_activations, activations))


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


# %% [sigmoid] Sigmoid Function
# s(z) = 1 / (1 + e^-z), a number between 0 and 1: a probability, or a gate. s'(z) = s (1 - s).
with lesson("sigmoid") as same:
    z = np.append(np.linspace(-10, 10, 201), [-1e4, 1e4])
    (value, slope), (tvalue, tslope) = found = curves(named("sigmoid"), z)
    same("value and slope", *found)
    same("slope = s (1 - s)", value * (1 - value), tslope)
    same("1 - s(z) = s(-z)", 1 - value, torch.sigmoid(-to_torch(z)))
    same.holds("finite at 1e4", np.isfinite(found).all())

    # Word for word neither form survives 1e4: e^1e4 is infinite, infinity over infinity NaN.
    # e^-|z| cannot overflow. What |z| has for a slope at 0 is a convention, 1 in JAX and 0 in
    # PyTorch: the true slope of s there, 1/4, comes out only by luck.
    def by_absolute(z, exp):
        small = exp(-abs(z))
        return (z >= 0) / (1 + small) + (z < 0) * small / (1 + small)

    for name, form in {
        "1 / (1 + e^-z)": lambda z, exp: 1 / (1 + exp(-z)),
        "e^z / (1 + e^z)": lambda z, exp: exp(z) / (1 + exp(z)),
        "by e^-|z|": by_absolute,
    }.items():
        pair = partial(form, exp=jnp.exp), partial(form, exp=torch.exp)
        ours, theirs = curves(pair, np.array([-1e4, 0, 1e4]))
        for side, each in (("jax", ours), ("torch", theirs)):
            print(f"{name:>15} at -1e4, 0, 1e4: {each[0]}, slopes {each[1]} ({side})")
        if form is by_absolute:
            same(name, ours[0], theirs[0])
            same.holds("slopes at 0", (ours[1][1], theirs[1][1]) == (0.25, 0))
        else:
            same.holds(f"{name} fails", np.isnan(ours).any())
            same.holds("at the same places", (np.isnan(ours) == np.isnan(theirs)).all())
    # log(1 - s) is -infinity from z = 37 on; taken whole, -log(1 + e^z), it is not.
    far, tfar = both(np.array([40.0, 1e4]))
    same.holds("a logarithm too late", jnp.isinf(jnp.log(1 - jax.nn.sigmoid(far))).all())
    same("log(1 - s)", jax.nn.log_sigmoid(-far), torch.nn.functional.logsigmoid(-tfar))

    # Saturation: beyond |z| = 6 the slope is below a hundredth of its best. In a layer of digits
    # it is the size of the weights that takes units there.
    x = every_digit(flat=True)["x"][:500] @ same.rng.standard_normal((64, 100)) / 8
    sizes = (0.5, 1, 2, 4, 8, 16)
    shares = np.array(
        [
            [(s < 0.0025).mean() for _, s in curves(named("sigmoid"), size * x.ravel())]
            for size in sizes
        ]
    ).T
    same("share saturated", *shares)
    same.holds("few, then most", shares[1][0] < 0.05 < 0.5 < shares[1][-1])
    if (axes := same.axes(1, 2, height=4)) is not None:
        twice(axes[0], z[:201], (value[:201], tvalue[:201]), "C0", "s(z)")
        twice(axes[0], z[:201], (slope[:201], tslope[:201]), "C1", "s'(z)")
        for left in (-10, 6):
            axes[0].axvspan(left, left + 4, color="0.9")
        axes[0].set(xlabel="z", title="saturated where it is grey")
        axes[0].legend()
        twice(axes[1], sizes, shares, "C2", "100 units, 500 digits")
        axes[1].set(xscale="log", xlabel="size of the weights", ylabel="share saturated")
        axes[1].legend()

# %% [relu] ReLU Function
# max(z, 0): the slope is 1 or 0, it never saturates above, and half of the units are exactly 0.
with lesson("relu") as same:
    z = np.linspace(-3, 3, 121)
    same("value and slope", *curves(named("relu"), z))

    # At exactly 0 there is no derivative; every way of writing it has a convention of its own.
    ways = {
        "relu(z)": named("relu"),
        "z (z > 0)": [lambda z: z * (z > 0)] * 2,
        "maximum(z, 0)": (partial(jnp.maximum, 0), lambda z: torch.maximum(z, z * 0)),
        "(z + |z|) / 2": [lambda z: (z + abs(z)) / 2] * 2,
        "clip(z, min=0)": (partial(jnp.clip, min=0), partial(torch.clamp, min=0)),
    }
    at_zero = {}
    for name, pair in ways.items():
        same(f"{name}: values", *(side[0] for side in curves(pair, z)))
        at_zero[name] = tuple(float(side[1][0]) for side in curves(pair, np.zeros(1)))
        print(f"slope of {name:>14} at 0:  jax {at_zero[name][0]}  torch {at_zero[name][1]}")
    same("relu's at 0", *at_zero["relu(z)"])
    same.holds("is 0", at_zero["relu(z)"] == (0, 0))
    same.holds("|z|: 1 and 0", at_zero["(z + |z|) / 2"] == (1, 0.5))
    # PyTorch's clamp counted its bound as inside, until version 2.14.
    clamped = 0 if torch.__version__ >= "2.14" else 1
    same.holds(f"clipping: a half and {clamped}", at_zero["clip(z, min=0)"] == (0.5, clamped))

    # A unit is dead when no example reaches it: its sum is negative for all of them, its slope 0,
    # and no gradient will ever change it. Steps that are too large throw units off the data.
    x, labels, held_x, held = split_digits(same.rng, flat=True)
    rates, dead, seed = (0.05, 0.5, 1.0, 1.25, 1.5), [], same.rng.integers(2**32)
    steps = 800 if same.full else 300
    for lr in rates:
        nets = network(seed, named("relu"), (64, 100, 10))
        losses = np.array([*train(same.rng, nets, x, labels, steps, lr)]).T
        if lr < 1:  # larger steps multiply what was rounded, too
            same(f"trained at {lr}", *nets.state())
        sums = [x @ each["0.weight"].T + each["0.bias"] for each in nets.state()]
        dead.append([(each <= 0).all(0).sum() for each in sums])
        right = nets.accuracy(held_x, held)
        print(f"rate {lr}: {dead[-1][1]} dead, {right[1]:.3f} right on held-out digits")
        same.holds("learns", lr > 1 or min(right) > 0.9)
    same.holds("a small rate kills none, a large one many", max(dead[0]) < 1 < 20 < min(dead[-1]))
    if (axes := same.axes(1, 2, height=4)) is not None:
        for side, (mark, name) in enumerate((("o", "jax"), ("x", "torch"))):
            slopes = [each[side] for each in at_zero.values()]
            axes[0].plot(slopes, list(at_zero), mark, ms=12, mfc="none", label=name)
        axes[0].set(xlabel="slope", title="slope at exactly 0")
        axes[0].legend()
        twice(axes[1], rates, np.array(dead).T, "C3", "dead units of 100")
        axes[1].set(xlabel="learning rate", ylabel="units", title="trained on digits")
        axes[1].legend()

# %% [softmax] Softmax Function
# p_i = e^(z_i) / sum_j e^(z_j): positive, of sum 1; adding a constant to all z changes nothing.
with lesson("softmax") as same:
    # Which letter follows which in a text? Counts are unnormalised probabilities, their logarithms
    # logits: -infinity for pairs that never occur. Such a mask gives exactly 0.
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    text = [c for c in codecs.decode(this.s, "rot13").lower() if c.isalpha()]
    letters, pairs = sorted(set(text)), Counter(itertools.pairwise(text))
    counts = np.array([[pairs[a, b] for b in letters] for a in letters], float)
    with np.errstate(divide="ignore"):
        z, tz = both(np.log(counts))
    p = jax.nn.softmax(z)
    same("softmax of log counts", p, torch.softmax(tz, 1))
    same("is the frequency", p, counts / counts.sum(1, keepdims=True))
    same.holds("what is masked is 0", ((np.asarray(p) == 0) == (counts == 0)).all())
    shifted = jax.nn.logsumexp(z + 1e4, 1) - 1e4
    same("logsumexp, of logits at 1e4", shifted, torch.logsumexp(tz + 1e4, 1) - 1e4)
    same("is the logarithm of the sum", shifted, np.log(counts.sum(1)))
    # A row that is all -infinity is NaN in both: infinity less infinity. JAX's where= gives 0.
    none, tnone = both(np.full(3, -np.inf))
    same.holds("JAX: NaN", jnp.isnan(jax.nn.softmax(none)).all())
    same.holds("PyTorch: NaN", torch.softmax(tnone, 0).isnan().all())
    left_out = jax.nn.softmax(none, where=jnp.zeros(3, bool))
    same("where=, and in PyTorch by hand", left_out, torch.softmax(tnone, 0).nan_to_num())

    # Word for word e^1000 overflows; less its largest logit none does, and the result is the same.
    big, tbig = both(np.array([1000.0, 999, 0]))
    same.holds("JAX overflows", jnp.isnan(jnp.exp(big) / jnp.exp(big).sum()).any())
    same.holds("so does PyTorch", (tbig.exp() / tbig.exp().sum()).isnan().any())
    by_hand = jnp.exp(big - big.max())
    same("less the maximum", by_hand / by_hand.sum(), torch.softmax(tbig, 0))
    # The logarithm of a softmax that is 0 has lost the logit; log_softmax = z - logsumexp(z) not.
    same.holds("log of softmax", jnp.log(jax.nn.softmax(big))[2] == -jnp.inf)
    same("log_softmax", jax.nn.log_softmax(big), torch.log_softmax(tbig, 0))
    same("z - logsumexp(z)", big - jax.nn.logsumexp(big), torch.log_softmax(tbig, 0))

    # The Jacobian, from the definition: dp_i/dz_j = p_i ([i = j] - p_j).
    row = np.asarray(z[letters.index("t")])
    seen = np.flatnonzero(np.isfinite(row))
    row, trow = both(row[seen])
    q = jax.nn.softmax(row)
    jacobian = jnp.diag(q) - jnp.outer(q, q)
    tjacobian = torch.func.jacrev(partial(torch.softmax, dim=0))(trow)
    same("by JAX", jacobian, jax.jacobian(jax.nn.softmax)(row))
    same("by PyTorch", jacobian, tjacobian)
    same.holds("the sum stays 1: columns sum to 0", abs(jacobian.sum(0)).max() < 1e-15)

    # Temperature: p_T = softmax(z / T). T -> 0 takes the likeliest, T -> infinity all alike.
    chances = {
        t: (jax.nn.softmax(row / t), torch.softmax(trow / t, 0)) for t in (0.05, 0.3, 1, 3, 99)
    }
    entropies = [torch.special.entr(theirs).sum().item() for _, theirs in chances.values()]
    for (t, found), entropy in zip(chances.items(), entropies, strict=True):
        same(f"temperature {t}", *found)
        print(f"T = {t}: entropy {entropy:.2f}")
    same.holds("entropy rises", (np.diff(entropies) > 0).all())
    same.holds("from 0", entropies[0] < 0.05)
    same.holds("to that of all alike", abs(entropies[-1] - np.log(len(seen))) < 0.01)
    if (axes := same.axes(1, 2, height=4)) is not None:
        for i, (t, found) in enumerate(chances.items()):
            twice(axes[0], range(len(seen)), found, f"C{i}", f"T = {t}")
        axes[0].set_xticks(range(len(seen)), [letters[i] for i in seen])
        axes[0].set(ylabel="probability", title="the letter after a t")
        axes[0].legend()
        axes[1].imshow(np.vstack([jacobian, tjacobian]), cmap="RdBu", vmin=-0.1, vmax=0.1)
        axes[1].axhline(len(seen) - 0.5, color="k")
        axes[1].set_yticks([len(seen) // 2, len(seen) * 3 // 2], ["jax", "torch"])
        axes[1].set_xticks(range(len(seen)), [letters[i] for i in seen])
        axes[1].set(title="Jacobian at T = 1")

# %% [tanh] Tanh Function
# tanh(z) = (e^z - e^-z) / (e^z + e^-z) lies between -1 and 1; its slope is 1 - tanh^2, at most 1.
with lesson("tanh") as same:
    z = np.append(np.linspace(-5, 5, 201), [-1e4, 1e4])
    (value, slope), (tvalue, tslope) = found = curves(named("tanh"), z)
    same("value and slope", *found)
    same("slope = 1 - tanh^2", 1 - value**2, tslope)
    # A sigmoid, stretched to (-1, 1) and half as wide: tanh(z) = 2 s(2z) - 1.
    same("of a sigmoid", 2 * jax.nn.sigmoid(2 * z) - 1, tvalue)
    # Saturation: float32 has no number between 1 - 6e-8 and 1, so that tanh soon is 1, its slope 0.
    ends = np.arange(5, 20, 0.5, dtype=np.float32)
    for name, limit in (("tanh", 9.5), ("sigmoid", 17.5)):
        first = [ends[np.argmax(values == 1)] for values, _ in curves(named(name), ends)]
        print(f"float32 {name} is 1 from {first[0]} on in JAX, from {first[1]} on in PyTorch")
        same.holds(f"{name} saturates", limit - 2 < min(first) <= max(first) <= limit)

    # So every net of tanh is one of sigmoids with other weights: twice those of the hidden layer,
    # twice those behind it, and a bias that takes off their sum.
    x, labels, held_x, held = split_digits(same.rng, flat=True)
    seed, runs = same.rng.integers(2**32), {}
    nets = {name: network(seed, named(name), (64, 32, 10)) for name in ("tanh", "sigmoid")}
    ours, theirs = nets["tanh"].state()
    hidden = jax.nn.sigmoid(2 * (x @ ours["0.weight"].T + ours["0.bias"]))
    disguised = (2 * hidden - 1) @ ours["2.weight"].T + ours["2.bias"]
    same("the same net", disguised, nets["tanh"](x)[1])

    # They are not trained alike. Outputs of a sigmoid are all positive, so for one example all
    # weights into a unit are pushed the same way; tanh is centred.
    one, tone = both(labels[:1])
    for name, each in nets.items():
        cost = cross_entropy(each.torch(to_torch(x[:1]).double()), tone)
        (tpush,) = torch.autograd.grad(cost, each.torch[2].weight)
        push = jax.grad(
            lambda p, net=each.jax: jax_cross_entropy(net.apply({"params": p}, x[:1]), one)
        )(each.variables["params"])["2"]["kernel"]
        same(f"push of one example, {name}", push.T, tpush)
        one_way = (abs(tpush.sign().sum(1)) == 32).all().item()
        same.holds(f"all one way with {name}: {one_way}", one_way == (name == "sigmoid"))
        steps = 600 if same.full else 200
        runs[name] = np.array([*train(same.rng, each, x, labels, steps, 0.3)]).T
        same(f"losses, {name}", *runs[name])
        same(f"trained, {name}", *each.state())
        right = each.accuracy(held_x, held)
        print(f"{name}: {right[0]:.3f} and {right[1]:.3f} right on held-out digits")
        same.holds("tanh learns", name == "sigmoid" or min(right) > 0.9)
    late = {name: losses[:, -50:].mean() for name, losses in runs.items()}
    same.holds("and sooner", late["tanh"] < 0.7 * late["sigmoid"])
    if (axes := same.axes(1, 2, height=4)) is not None:
        twice(axes[0], z[:201], (value[:201], tvalue[:201]), "C0", "tanh(z)")
        twice(axes[0], z[:201], (slope[:201], tslope[:201]), "C1", "its slope")
        sigmoids = [side[0] for side in curves(named("sigmoid"), z[:201])]
        twice(axes[0], z[:201], sigmoids, "C2", "sigmoid")
        axes[0].set(xlabel="z")
        axes[0].legend()
        for i, (name, losses) in enumerate(runs.items()):
            twice(axes[1], range(steps), losses, f"C{2 * i}", name)
        axes[1].set(xlabel="step", ylabel="cross-entropy", title="the same start, on digits")
        axes[1].legend()

# %% [leaky_relu] Leaky ReLU Function
# z where z > 0, else a z. With a > 0 no unit can die; PReLU learns a, with the weights.
with lesson("leaky_relu") as same:
    z = np.linspace(-3, 3, 121)
    shapes = {a: curves(named("leaky_relu", negative_slope=a), z) for a in (0.01, 0.25)}
    for a, found in shapes.items():
        same(f"slope {a}", *found)
    # Defaults: 0.01 in both, but 0.25 is where torch's PReLU starts, 0.01 where Flax's does.
    one, tone = both(np.array([-1.0]))
    same("leaky relu of -1", jax.nn.leaky_relu(one), torch.nn.functional.leaky_relu(tone))
    starts = nn.PReLU().init(jax.random.key(0), one)["params"], torch.nn.PReLU().weight
    same("PReLU starts at, in Flax", starts[0]["negative_slope"], np.float32(0.01))
    same("and in PyTorch", 0.25, starts[1][0])
    # At 0 jax.nn takes the slope 1 (z >= 0), torch a (z > 0); the twin is as torch.
    pairs = named("leaky_relu"), (jax.nn.leaky_relu, activations.leaky_relu)
    at_zero = [[side[1].item() for side in curves(pair, np.zeros(1))] for pair in pairs]
    print(f"slopes at 0: the twin {at_zero[0]}, jax.nn and torch {at_zero[1]}")
    same.holds("their conventions", at_zero == [[0.01, 0.01], [1, 0.01]])

    # dL/da sums what is negative: dL/dy z. On digits, from three starts, one a for each of two
    # hidden layers.
    x, labels, held_x, held = split_digits(same.rng, flat=True)
    steps, paths = 1000 if same.full else 300, {}
    for begin in (0.01, 0.25, 1.0):
        nets = network(same.rng.integers(2**32), named("prelu"), (64, 32, 32, 10), begin)
        path = [
            [(each["1.a"][0], each["3.a"][0]) for each in nets.state()]
            for _ in train(same.rng, nets, x, labels, steps, 0.1)
        ]
        paths[begin] = np.moveaxis(np.array(path), 0, -1)  # (side, layer, step)
        same(f"slopes from {begin}", *paths[begin])
        same(f"trained from {begin}", *nets.state())
        right = nets.accuracy(held_x, held)
        print(f"from {begin}: a = {paths[begin][1][:, -1]}, {right[1]:.3f} right")
        same.holds("learns", min(right) > 0.9)
    same.holds("a is learned", (abs(paths[1.0][1][:, -1] - 1) > 0.05).all())
    if (axes := same.axes(1, 2, height=4)) is not None:
        for i, (a, (ours, theirs)) in enumerate(shapes.items()):
            twice(axes[0], z, (ours[0], theirs[0]), f"C{i}", f"a = {a}")
        axes[0].set(xlabel="z", title="leaky relu")
        axes[0].legend()
        for i, (begin, found) in enumerate(paths.items()):
            for layer in (0, 1):
                label = None if layer else f"from {begin}"
                twice(axes[1], range(steps), [side[layer] for side in found], f"C{i}", label)
        axes[1].set(xlabel="step", ylabel="a", title="PReLU: two layers' slopes")
        axes[1].set_ylim(top=1.3 * max(path.max() for path in paths.values()))
        axes[1].legend(loc="upper left")

# %% [swish] Swish Function
# z s(beta z): z/2 at beta = 0, SiLU at 1, relu in the limit. GELU, z Phi(z), is of the same shape.
with lesson("swish") as same:
    z = np.linspace(-6, 6, 241)
    shapes = {beta: curves(named("swish", beta=beta), z) for beta in (0, 0.5, 1, 10, 1e4)}
    for beta, found in shapes.items():
        same(f"beta {beta:g}", *found)
    same("SiLU is swish at 1", shapes[1][0], curves(named("silu"), z)[1])
    same("half of z at 0", shapes[0][0][0], z / 2)
    same("relu in the limit", shapes[1e4][0][0], torch.relu(to_torch(z)))

    # GELU: exactly, with the normal distribution's Phi, and by a tanh, which JAX takes by default.
    gelus = {
        "exact": (partial(jax.nn.gelu, approximate=False), torch.nn.functional.gelu),
        "tanh": (jax.nn.gelu, partial(torch.nn.functional.gelu, approximate="tanh")),
        "z s(1.702 z)": named("swish", beta=1.702),
    }
    found = {name: curves(pair, z) for name, pair in gelus.items()}
    off = {
        name: [abs(a[0] - b[0]) for a, b in zip(each, found["exact"], strict=True)]
        for name, each in found.items()
    }
    for name, each in found.items():
        same(f"GELU, {name}", *each)
        print(f"GELU, {name}: up to {off[name][1].max():.1e} off")
    same.holds("the defaults differ by 5e-4", 4e-4 < off["tanh"][1].max() < 6e-4)

    # beta learned: one for each hidden layer, from 1.
    x, labels, held_x, held = split_digits(same.rng, flat=True)
    steps = 1000 if same.full else 300
    nets = network(same.rng.integers(2**32), named("swish"), (64, 32, 32, 10), 1.0)
    path = [
        [(each["1.a"][0], each["3.a"][0]) for each in nets.state()]
        for _ in train(same.rng, nets, x, labels, steps, 0.3)
    ]
    betas, right = np.moveaxis(np.array(path), 0, -1), nets.accuracy(held_x, held)
    same("betas", betas[0], betas[1])
    same("trained", *nets.state())
    print(f"beta learned: {betas[1][:, -1]}, {right[1]:.3f} right on held-out digits")
    same.holds("they moved", (abs(betas[1][:, -1] - 1) > 0.02).all())
    same.holds("learns", min(right) > 0.9)
    if (axes := same.axes(1, 3, height=4)) is not None:
        for i, (beta, (ours, theirs)) in enumerate(shapes.items()):
            twice(axes[0], z, (ours[0], theirs[0]), f"C{i}", f"beta = {beta:g}")
        twice(axes[0], z, [side[0] for side in found["exact"]], "k", "GELU")
        axes[0].set(xlabel="z", xlim=(-4, 2), ylim=(-1, 2), title="swish")
        for i, name in enumerate(("tanh", "z s(1.702 z)")):
            twice(axes[1], z, off[name], f"C{i}", name)
        axes[1].set(yscale="log", ylim=(1e-7, 1e-1), xlabel="z", title="off the exact GELU")
        for layer in (0, 1):
            lines = [side[layer] for side in betas]
            twice(axes[2], range(steps), lines, f"C{layer}", f"layer {layer + 1}")
        axes[2].set(xlabel="step", title="beta, learned")
        for axis in axes:
            axis.legend(fontsize=8)
