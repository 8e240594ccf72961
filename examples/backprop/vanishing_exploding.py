"""Vanishing and exploding gradients in JAX and in PyTorch: where they come from, and what helps.

Run it as a program (`python examples/backprop/vanishing_exploding.py --out figures`), or cell by
cell in an editor that knows `# %%`. In all figures broad lines are JAX's and dashed ones PyTorch's.
`--full` trains longer: about 50 s on two cores.
"""

# %% Set-up
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from compare.data.batches import epochs
from compare.data.digits import every_digit
from compare.share import to_jax, to_torch
from compare.study.figures import overlay
from compare.study.lessons import both, lesson
from compare.study.scripts import script
from jaxnn.layers import activations as jax_activations
from jaxnn.layers import initialisers as jax_initialisers
from jaxnn.layers.layer_norm import LayerNorm as JaxLayerNorm
from jaxnn.layers.structured import orthogonal as jax_orthogonal
from jaxnn.training.gradients import clip_grad_norm as jax_clip_grad_norm
from jaxnn.training.gradients import clip_grad_value as jax_clip_grad_value
from jaxnn.training.losses import cross_entropy as jax_cross_entropy
from jaxnn.training.optimizers import sgd as jax_sgd
from torchref.layers import activations, initialisers
from torchref.layers.layer_norm import LayerNorm
from torchref.layers.structured import orthogonal
from torchref.training.gradients import clip_grad_norm, clip_grad_value
from torchref.training.losses import cross_entropy
from torchref.training.optimizers import sgd

script(__name__)

WIDTH = 64  # of every layer, and of a digit


def digits(rng):
    """Standardised digits (1797, 64) and their labels, in both frameworks, in a random order."""
    every = every_digit(flat=True)
    order = rng.permutation(len(every["labels"]))
    return both(every["x"][order].astype(np.float64)), both(every["labels"][order])


def network(rng, depth, make, tmake, **options):
    """Weights of `depth` layers, stacked, and of a last one for ten classes; there are no biases.

    Args:
      make, tmake: each framework's initialiser, a function of normal draws.
      options: of the initialiser.

    Returns: JAX's, (depth, in, out) and (in, classes), and torch's, (depth, out, in) and
      (classes, in).
    """
    draws, last = rng.standard_normal((depth, WIDTH, WIDTH)), rng.standard_normal((10, WIDTH))
    last /= WIDTH**0.5
    ours = jnp.stack([make(to_jax(draw.T), **options) for draw in draws])
    theirs = torch.stack([tmake(to_torch(draw), **options) for draw in draws])
    return (ours, to_jax(last.T)), (theirs, to_torch(last))


def plain(name):
    """A layer of input h and weighted sum z, for each framework: an activation of z."""
    return (lambda h, z: getattr(jax_activations, name)(z)), (
        lambda h, z: getattr(activations, name)(z)
    )


def residual(depth):
    """A relu layer around which the input passes; the more layers, the less each adds."""
    (relu, trelu), share = plain("relu"), depth**-0.5
    return (lambda h, z: h + share * relu(h, z)), (lambda h, z: h + share * trelu(h, z))


def logits(params, x, layer):
    """JAX: one layer is compiled, and scanned over the stack."""
    h, _ = jax.lax.scan(lambda h, w: (layer(h, h @ w), None), x, params[0])
    return h @ params[1]


def tlogits(params, x, layer):
    for w in params[0]:
        x = layer(x, x @ w.T)
    return x @ params[1].T


def gradients(params, layers, x, labels):
    """The norm of the gradient to each layer's output for 200 examples, by both frameworks."""
    (x, tx), (labels, tlabels) = ([v[:200] for v in pair] for pair in (x, labels))

    @jax.jit
    def norms(stack, last):
        def cost(pushes):  # zeros, added to every output
            def step(h, each):
                return layers[0](h, h @ each[0]) + each[1], None

            return jax_cross_entropy(jax.lax.scan(step, x, (stack, pushes))[0] @ last, labels)

        slopes = jax.grad(cost)(jnp.zeros((len(stack), *x.shape)))
        return jnp.linalg.norm(slopes, axis=(1, 2))

    h, outputs = tx.clone().requires_grad_(), []
    for w in params[1][0]:
        h = layers[1](h, h @ w.T)
        outputs.append(h)
    cost = cross_entropy(h @ params[1][1].T, tlabels)
    slopes = torch.stack(torch.autograd.grad(cost, outputs))
    return norms(*params[0]), torch.linalg.matrix_norm(slopes)


def trained(rng, params, layers, x, labels, steps, clips=None, **options):
    """Losses of `steps` batches of 64 by SGD, and the accuracy on 397 digits that are held out.

    Args:
      clips: optax's transformation of gradients, and a function of torch's parameters.
      options: of the optimizer.

    Returns: losses and accuracy of JAX, and of PyTorch.
    """
    order, held_out = epochs(rng, 1400, 64), slice(1400, None)
    batches = np.stack([next(order) for _ in range(steps)])
    clip, tclip = clips or (optax.identity(), lambda parameters: None)
    rule = optax.chain(clip, jax_sgd(**options))

    @jax.jit
    def run(params):
        def step(carry, index):
            params, state = carry
            cost, slopes = jax.value_and_grad(
                lambda p: jax_cross_entropy(logits(p, x[0][index], layers[0]), labels[0][index])
            )(params)
            updates, state = rule.update(slopes, state, params)
            return (optax.apply_updates(params, updates), state), cost

        (params, _), costs = jax.lax.scan(step, (params, rule.init(params)), to_jax(batches))
        right = logits(params, x[0][held_out], layers[0]).argmax(1) == labels[0][held_out]
        return costs, right.mean(dtype="float64")

    parameters, tcosts = [p.clone().requires_grad_() for p in params[1]], []
    optimizer = sgd(parameters, **options)
    for index in torch.from_numpy(batches):
        optimizer.zero_grad()
        cost = cross_entropy(tlogits(parameters, x[1][index], layers[1]), labels[1][index])
        cost.backward()
        tclip(parameters)
        optimizer.step()
        tcosts.append(cost.detach())
    right = tlogits(parameters, x[1][held_out], layers[1]).argmax(1) == labels[1][held_out]
    return run(params[0]), (torch.stack(tcosts), right.double().mean())


def numbered(values):
    """What `plot` takes: 1, 2, ... and the values."""
    return np.arange(1, len(values) + 1), values


NORMAL = jax_initialisers.normal, initialisers.normal
KAIMING = (
    partial(jax_initialisers.kaiming_normal, nonlinearity="relu"),
    partial(initialisers.kaiming_normal, nonlinearity="relu"),
)

# %% [problem] Explaining the problem of vanishing and exploding gradients
# Backwards, each layer multiplies the gradient by its transposed Jacobian. Fifty factors a little
# below 1 leave nothing for the first layers to learn from, fifty a little above 1 throw them off.
with lesson("problem") as same:
    x, labels = digits(same.rng)
    depth, found = 50, {}
    for name, factor in (("vanishing", 0.6), ("stable", 1.0), ("exploding", 1.5)):
        std = factor * (2 / WIDTH) ** 0.5  # of the weights; at factor 1 a relu keeps the variance
        params = network(same.rng, depth, *NORMAL, std=std)
        found[name] = gradients(params, plain("relu"), x, labels)
        ours, theirs = found[name]
        same(f"gradients, {name}", ours, theirs)
        # Norms span many powers of ten: their logarithms hold each layer to the other framework's.
        same(f"each layer's, {name}", jnp.log(ours), theirs.log())
        print(f"{name}: {theirs[0]:.0e} at the first layer, {theirs[-1]:.0e} at the last")
    ratio = {name: (theirs[0] / theirs[-1]).item() for name, (_, theirs) in found.items()}
    same.holds("vanishing: nothing arrives", ratio["vanishing"] < 1e-8)
    same.holds("stable: as much as there was", 0.05 < ratio["stable"] < 20)
    same.holds("exploding: far too much does", ratio["exploding"] > 1e6)
    # float32 ends at 1e-45: 210 such layers leave exactly nothing.
    same.holds("float32 underflows", np.float32(0.6) ** np.float32(210) == 0)
    if (axis := same.axes(height=4)) is not None:
        for i, (name, (ours, theirs)) in enumerate(found.items()):
            overlay(axis, numbered(ours), numbered(theirs), f"C{i}", name)
        axis.set(yscale="log", xlabel="layer", ylabel="gradient to its output")
        axis.set(title="a relu net of 50 layers, by the size of its weights")
        axis.legend()

# %% [causes] Identifying the causes of vanishing and exploding gradients
# The gradient passes through J = J_L ... J_1, J_l = diag(f'(z_l)) W_l. Its singular values say what
# becomes of each direction: they are spread by each random factor, and scaled by the weights.
with lesson("causes") as same:
    x, _ = digits(same.rng)
    point, spectra = [v[0] for v in x], {}
    for kind, makers in {"normal": KAIMING, "orthogonal": (jax_orthogonal, orthogonal)}.items():
        options = {"gain": 2**0.5} if kind == "orthogonal" else {}
        (stack, _), (tstack, _) = network(same.rng, 30, *makers, **options)
        for depth in (1, 5, 30):

            def through(x, depth=depth, stack=stack):
                return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w / 2), None), x, stack[:depth])[0]

            def tthrough(x, depth=depth, tstack=tstack):
                for w in tstack[:depth]:
                    x = torch.tanh(x @ w.T / 2)
                return x

            jacobian = jax.jit(jax.jacobian(through))(point[0])
            tjacobian = torch.func.jacrev(tthrough)(point[1])
            same(f"Jacobian of {depth} {kind} layers", jacobian, tjacobian)
            spectrum = jnp.linalg.svdvals(jacobian), torch.linalg.svdvals(tjacobian)
            same(f"its singular values, {depth} {kind}", *spectrum)
            spectra[kind, depth] = spectrum
    spread = {key: (theirs[0] / theirs[32]).item() for key, (_, theirs) in spectra.items()}
    same.holds("depth spreads the directions", spread["normal", 30] > 1e3 * spread["normal", 1])
    same.holds("orthogonal ones far less", spread["orthogonal", 30] < spread["normal", 30] / 1e2)

    # The scale: with weights of std g / sqrt(n) each relu layer multiplies the gradient's length by
    # g / sqrt 2, for half of its units are off. The depth is the exponent.
    x, labels = digits(same.rng)
    gains, found, growth = (0.7, 1, 2**0.5, 2, 3), {}, []
    for gain in gains:
        params = network(same.rng, 40, *NORMAL, std=gain / WIDTH**0.5)
        found[gain] = gradients(params, plain("relu"), x, labels)
        same(f"gradients at gain {gain:.1f}", *(np.log(each) for each in found[gain]))
        growth.append((found[gain][1][0] / found[gain][1][-1]).log().item() / 39)
        print(f"gain {gain:.1f}: times {np.exp(growth[-1]):.2f} a layer")
    same.holds("g / sqrt 2", np.abs(growth - np.log(np.array(gains) / 2**0.5)).max() < 0.1)
    if (axes := same.axes(1, 2, height=4.4)) is not None:
        for i, ((kind, depth), (ours, theirs)) in enumerate(spectra.items()):
            overlay(axes[0], numbered(ours), numbered(theirs), f"C{i}", f"{kind}, {depth} deep")
        axes[0].set(yscale="log", xlabel="index", ylabel="singular value", ylim=(1e-16, 100))
        axes[0].set_title("Jacobian of tanh layers")
        axes[0].legend(fontsize=8)
        for i, (gain, (ours, theirs)) in enumerate(found.items()):
            overlay(axes[1], numbered(ours), numbered(theirs), f"C{i}", f"gain {gain:.1f}")
        axes[1].set(yscale="log", xlabel="layer", ylabel="gradient to its output")
        axes[1].set_title("40 layers of relu, by scale")
        axes[1].legend(fontsize=8)

# %% [techniques] Techniques for addressing vanishing and exploding gradients
with lesson("techniques") as same:
    x, labels = digits(same.rng)
    norm = JaxLayerNorm(WIDTH, elementwise_affine=False)
    tnorm = LayerNorm(WIDTH, elementwise_affine=False)
    relu, trelu = plain("relu")
    normed = (lambda h, z: relu(h, norm.apply({}, z))), (lambda h, z: trelu(h, tnorm(z)))
    depth, found = 20, {}
    for name, makers, options, layers in (
        ("std 0.05", NORMAL, {"std": 0.05}, plain("relu")),
        ("Xavier", (jax_initialisers.xavier_normal, initialisers.xavier_normal), {}, plain("relu")),
        ("Kaiming", KAIMING, {}, plain("relu")),
        ("orthogonal", (jax_orthogonal, orthogonal), {"gain": 2**0.5}, plain("relu")),
        ("std 0.3, normalised", NORMAL, {"std": 0.3}, normed),
        ("Kaiming, residual", KAIMING, {}, residual(depth)),
    ):
        params = network(same.rng, depth, *makers, **options)
        pair = gradients(params, layers, x, labels)
        same(f"gradients, {name}", *(np.log(each) for each in pair))
        run, trun = trained(same.rng, params, layers, x, labels, 400 if same.full else 150, lr=0.01)
        # Where costs jump, rounding grows from step to step.
        same(f"the first 150 costs, {name}", run[0][:150], trun[0][:150], 1e-6)
        found[name] = pair, run, trun
        ratio = pair[1][0] / pair[1][-1]
        print(f"{name}: first over last gradient {ratio:.0e}, {trun[1]:.2f} right")
    for name, (_, *runs) in found.items():
        learns = name not in ("std 0.05", "Xavier")
        for costs, _ in runs:  # ln 10 = 2.3 is what guesses cost
            fell = costs[-20:].mean() < 2.1
            same.holds(f"{name} {'learns' if learns else 'does not'}", fell == learns)
    if (axes := same.axes(1, 2, height=4.4)) is not None:
        for i, (name, (pair, run, trun)) in enumerate(found.items()):
            overlay(axes[0], numbered(pair[0]), numbered(pair[1]), f"C{i}", name)
            overlay(axes[1], numbered(run[0]), numbered(trun[0]), f"C{i}", name)
        axes[0].set(yscale="log", xlabel="layer", ylabel="gradient to its output")
        axes[0].set_title("before training")
        axes[1].set(xlabel="step", ylabel="cross-entropy", title="20 layers on digits")
        axes[1].set_ylim(0, 3.5)
        axes[1].legend(fontsize=8)

# %% [activations] The role of activation functions in preventing vanishing and exploding gradients
# The same 40 layers of std 1 / sqrt(n), seven activations: a layer passes on its mean slope f'(z).
# The sigmoid's is at most 1/4; selu's scale was chosen so that signal and gradient keep theirs.
with lesson("activations") as same:
    x, labels = digits(same.rng)
    params = network(same.rng, 40, *NORMAL, std=WIDTH**-0.5)
    names = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu")
    found, curves, (jz, tz) = {}, {}, both(np.linspace(-4, 4, 201) + 0.01)
    for name in names:
        layer, tlayer = plain(name)
        found[name] = gradients(params, (layer, tlayer), x, labels)
        same(f"gradients, {name}", *(np.log(each) for each in found[name]))
        slope = jax.vmap(jax.grad(lambda z, layer=layer: layer(None, z)))(jz)
        tslope = torch.func.vmap(torch.func.grad(lambda z, tlayer=tlayer: tlayer(None, z)))(tz)
        curves[name] = slope, tslope
        same(f"slope of {name}", slope, tslope)
        print(f"{name}: first over last gradient {found[name][1][0] / found[name][1][-1]:.0e}")
    ratio = {name: (theirs[0] / theirs[-1]).item() for name, (_, theirs) in found.items()}
    same.holds("sigmoid is worst", min(ratio, key=lambda name: ratio[name]) == "sigmoid")
    same.holds("by twenty powers of ten", ratio["sigmoid"] < 1e-20)
    same.holds("selu keeps the gradient", 0.1 < ratio["selu"] < 10)
    same.holds("relu halves its square", 1e-7 < ratio["relu"] < 1e-4)
    if (axes := same.axes(1, 2, height=4.4)) is not None:
        for i, name in enumerate(names):
            overlay(axes[0], numbered(found[name][0]), numbered(found[name][1]), f"C{i}", name)
            axes[1].plot(jz, curves[name][0], color=f"C{i}", lw=5, alpha=0.35)
            axes[1].plot(tz, curves[name][1], color=f"C{i}", ls="--", lw=1.2)
        axes[0].set(yscale="log", xlabel="layer", ylabel="gradient to its output")
        axes[0].set_title("40 layers, the same weights")
        axes[0].legend(fontsize=8)
        axes[1].set(xlabel="z", ylabel="f'(z)", title="slopes")

# %% [clipping] The use of gradient clipping to address exploding gradients
#   by value     g <- clip(g, -c, c), each entry: the direction changes
#   by norm      g <- g min(1, c / |g|), all entries together: it remains
#   adaptive     the same for each unit, with c a fraction of its weights' norm
with lesson("clipping") as same:
    x, labels = digits(same.rng)
    params = network(same.rng, 20, *NORMAL, std=1.2 * (2 / WIDTH) ** 0.5)
    layers, depth = plain("relu"), 20
    slopes = jax.grad(lambda p: jax_cross_entropy(logits(p, x[0], layers[0]), labels[0]))(params[0])
    leaves = [p.clone().requires_grad_() for p in params[1]]
    cost = cross_entropy(tlogits(leaves, x[1], layers[1]), labels[1])
    raw = torch.autograd.grad(cost, leaves)
    size = torch.cat([g.flatten() for g in raw]).norm()

    def adaptive(parameters, share=0.01):
        """Of NFNets: each unit's gradient at most a share of its weights' norm."""
        for p in parameters:
            most = share * p.detach().norm(dim=-1, keepdim=True).clamp(min=1e-3)
            length = p.grad.norm(dim=-1, keepdim=True)
            p.grad = torch.where(length < most, p.grad, p.grad * most / length)

    clips = {
        "value": (jax_clip_grad_value(0.003), lambda p: clip_grad_value(p, 0.003)),
        "norm": (jax_clip_grad_norm(0.5), lambda p: clip_grad_norm(p, 0.5)),
        "adaptive": (optax.adaptive_grad_clip(0.01, axis=-2), adaptive),
    }
    turned = {}
    for name, (clip, tclip) in clips.items():
        ours: Any = clip.update(slopes, clip.init(params[0]), params[0])[0]
        for leaf, g in zip(leaves, raw, strict=True):
            leaf.grad = g.clone()
        tclip(leaves)
        theirs: Any = [leaf.grad for leaf in leaves]
        same(f"clipped by {name}", [g.swapaxes(-1, -2) for g in ours], theirs)
        flat = [torch.cat([g.flatten() for g in each]) for each in (theirs, raw)]
        turned[name] = torch.cosine_similarity(*flat, dim=0)
        print(f"by {name}: norm {size:.0f} to {flat[0].norm():.2f}, cosine {turned[name]:.2f}")
    same.holds("the norm keeps the direction", turned["norm"] > 1 - 1e-12)
    same.holds("the others do not", max(turned["value"], turned["adaptive"]) < 0.99)

    # torch divides by |g| + 1e-6, optax by |g|: of a gradient of norm 1e-4 that is one per cent.
    # The twin has torch's; optax's becomes torch's with the factor |g| / (|g| + 1e-6).
    (g, tg), bound = both(np.array([6e-5, 8e-5])), 5e-5
    leaf = torch.zeros(2, requires_grad=True)
    leaf.grad = tg
    clip_grad_norm([leaf], bound)
    rule, plainly = jax_clip_grad_norm(bound), optax.clip_by_global_norm(bound)
    by_optax: Any = plainly.update(g, plainly.init(g))[0]
    same("the twin has torch's 1e-6", rule.update(g, rule.init(g))[0], leaf.grad)
    same("optax's, reconciled", by_optax * (1e-4 / (1e-4 + 1e-6)), leaf.grad)
    same.holds("unreconciled: one per cent", abs(by_optax[0] / leaf.grad[0].item() - 1.01) < 1e-6)

    # Trained: without a clip the first steps throw the weights off, once and for all.
    runs = {}
    for name, clip in (("none", None), *clips.items()):
        steps = 400 if same.full else 200
        runs[name] = trained(same.rng, params, layers, x, labels, steps, clip, lr=0.05)
        run, trun = runs[name]
        same(f"first cost, {name}", run[0][0], trun[0][0])
        print(f"{name}: cost {trun[0][0]:.0f} to {trun[0][-1]:.2g}, {trun[1]:.2f} right")
        if name == "none":
            for _, share in (run, trun):
                same.holds("without a clip nothing is learnt", share < 0.3)
        else:
            # Of some weights later costs jump, and rounding grows with them.
            same(f"the first 100 costs by {name}", run[0][:100], trun[0][:100], 1e-6)
            for _, share in (run, trun):
                same.holds(f"by {name} something is", share > 0.4)
    if (axis := same.axes(height=4)) is not None:
        for i, (name, (run, trun)) in enumerate(runs.items()):
            overlay(
                axis,
                numbered(run[0]),
                numbered(trun[0]),
                f"C{i}",
                f"clipped: {name}" if i else "not clipped",
            )
        axis.set(yscale="log", xlabel="step", ylabel="cross-entropy", ylim=(0.3, 1e3))
        axis.set(title="20 relu layers with weights too large, on digits")
        axis.legend()

# %% [skip_connections] The use of skip connections to address vanishing gradients
# h + F(h) has the Jacobian I + dF/dh: the 1 carries the gradient past every layer, whatever F does.
with lesson("skip_connections") as same:
    x, labels = digits(same.rng)
    xavier = jax_initialisers.xavier_normal, initialisers.xavier_normal
    flows, runs = {}, {}
    for depth in (20, 50, 100):
        params = network(same.rng, depth, *xavier)
        for name, layers in (("plain", plain("relu")), ("residual", residual(depth))):
            key = f"{name}, {depth} layers"
            flows[key] = gradients(params, layers, x, labels)
            same(f"gradients, {key}", *(np.log(each) for each in flows[key]))
            steps = 400 if same.full else 100
            run, trun = trained(same.rng, params, layers, x, labels, steps, lr=0.05)
            same(f"training, {key}", run, trun)
            runs[key] = run, trun
            ratio = flows[key][1][0] / flows[key][1][-1]
            print(f"{key}: first over last gradient {ratio:.0e}, {trun[1]:.2f} right")
            if name == "residual":
                same.holds("the gradient arrives", 0.1 < ratio < 30)
                same.holds("and the net learns", trun[1] > 0.7)
            else:
                same.holds("it shrinks by sqrt 2 a layer", ratio < 1.3**-depth)
                same.holds("and nothing is learnt", trun[1] < 0.3)
    if (axes := same.axes(1, 2, height=4.4)) is not None:
        for i, (key, pair) in enumerate(flows.items()):
            overlay(axes[0], numbered(pair[0]), numbered(pair[1]), f"C{i}", key)
            overlay(axes[1], numbered(runs[key][0][0]), numbered(runs[key][1][0]), f"C{i}", key)
        axes[0].set(yscale="log", xlabel="layer", ylabel="gradient to its output")
        axes[0].set_title("before training")
        axes[0].legend(fontsize=8)
        axes[1].set(xlabel="step", ylabel="cross-entropy", yscale="log", title="digits")
