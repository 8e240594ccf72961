"""Regularisation in JAX and in PyTorch: penalties, dropout, stopping, augmentation, batch norm.

Run it as a program (`python examples/backprop/regularization.py --out figures`), or cell by cell in
an editor that knows `# %%`. In the figures broad lines are JAX's, dashed ones PyTorch's. `--full`
trains longer: about 50 s on two cores.
"""

# %% Set-up
import copy
import itertools
from functools import cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from jax.scipy.ndimage import map_coordinates

from compare.data.batches import epochs
from compare.data.digits import every_digit
from compare.data.folds import hold_out
from compare.share import to_jax, to_torch
from compare.study.figures import picture, twice
from compare.study.lessons import both, lesson
from compare.study.networks import Networks
from compare.study.scripts import script
from jaxnn.foundations.mlp import MLP as JaxMLP
from jaxnn.layers import dropout as jax_dropout
from jaxnn.layers import norm as jax_norm
from jaxnn.layers import stochastic as jax_stochastic
from jaxnn.layers.container import Sequential
from jaxnn.training import optimizers as jax_optimizers
from jaxnn.training import regularisers as jax_regularisers
from jaxnn.training.loops import EarlyStopping as JaxEarlyStopping
from jaxnn.training.losses import cross_entropy as jax_cross_entropy
from torchref.foundations.mlp import MLP
from torchref.layers import dropout, stochastic
from torchref.training import optimizers, regularisers
from torchref.training.loops import EarlyStopping
from torchref.training.losses import cross_entropy

script(__name__)

LOSS = jax_cross_entropy, cross_entropy


@cache
def rule(name, **keywords):
    """An optimizer of both frameworks; cached, as JAX compiles a step for each that is made."""
    return getattr(jax_optimizers, name)(**keywords), partial(getattr(optimizers, name), **keywords)


def digits(rng, count, wrong=0.0, **how):
    """Some digits to train on, a share of them with a wrong label, and the others, held out."""
    every = every_digit(flat=True, **how)
    x, labels = every["x"].astype(np.float64), every["labels"]
    seen, held = hold_out(len(x), 1 - count / len(x), rng)
    given = np.where(rng.random(len(seen)) < wrong, rng.integers(0, 10, len(seen)), labels[seen])
    return x[seen], given, x[held], labels[held]


def batches(rng, x, labels, steps, batch=50, *more):
    """Batches; `more`, functions of their number of examples, draw further inputs."""
    for index in itertools.islice(epochs(rng, len(x), batch), steps):
        yield (x[index], *(draw(len(index)) for draw in more)), (labels[index],)


def losses(nets, *given):
    """Cross-entropy in evaluation mode of inputs and labels: JAX's, PyTorch's."""
    *inputs, labels = given
    outputs = zip(nets(*inputs), both(labels), LOSS, strict=True)
    return [float(loss(y, target)) for y, target, loss in outputs]


# %% [l1_l2] L1 and L2 Regularization
#   L1  s |w|, slope s sign(w): the same force for every weight, down to 0
#   L2  s w^2 / 2, slope s w: large weights shrink most, none becomes 0
with lesson("l1_l2") as same:
    w, tw = both(np.append(same.rng.standard_normal(9), 0))
    for name, slope in {
        "l1_penalty": np.sign(w),
        "l2_penalty": w,
        "elastic_net_penalty": 0.5 * (np.sign(w) + w),
    }.items():
        penalty, tpenalty = getattr(jax_regularisers, name), getattr(regularisers, name)
        gradient = jax.grad(lambda w, f=penalty: f([w], 1.0))(w)
        same(f"slope of {name}", gradient, torch.func.grad(lambda w, f=tpenalty: f([w], 1.0))(tw))
        same(f"{name} by hand", slope, torch.func.grad(lambda w, f=tpenalty: f([w], 1.0))(tw))

    # 100 digits, 192 numbers of noise beside the 64 pixels of each, and a linear model.
    x, labels, held, truth = digits(same.rng, 100, scale="unit")
    x, held = (np.hstack([each, same.rng.normal(0, 0.5, (len(each), 192))]) for each in (x, held))
    data, steps = [*zip(both(x), both(labels), strict=True)], 400
    weights = 0.1 * same.rng.standard_normal((256, 10))

    def path(step, weights, steps):
        """Weights after each step (steps, ...), by both frameworks."""
        w, tw = both(weights)
        _, ours = jax.lax.scan(lambda w, _: (step[0](w),) * 2, w, length=steps)
        theirs = []
        for _ in range(steps):
            tw = step[1](tw)
            theirs.append(tw)
        return np.asarray(ours), torch.stack(theirs).numpy()

    slopes = [
        gradient(lambda w, x=x, y=y, loss=loss: loss(x @ w, y))
        for gradient, (x, y), loss in zip((jax.grad, torch.func.grad), data, LOSS, strict=True)
    ]
    # The subgradient s sign(w) leaves weights trembling around 0. The proximal step solves the kink
    # exactly: w <- soft(w - lr dL/dw, lr s), soft(w) = sign(w) max(|w| - lr s, 0).
    lr, s = 0.5, 0.01
    found = {
        "no penalty": path([lambda w, g=g: w - lr * g(w) for g in slopes], weights, steps),
        "L2": path([lambda w, g=g: w - lr * (g(w) + s * w) for g in slopes], weights, steps),
        "L1, subgradient": path(
            [
                lambda w, g=g, np=np: w - lr * (g(w) + s * np.sign(w))
                for g, np in zip(slopes, (jnp, torch), strict=True)
            ],
            weights,
            steps,
        ),
        "L1, proximal": path(
            [
                lambda w, g=g, side=side: side.proximal_step([w], [g(w)], lr, s)[0]
                for g, side in zip(slopes, (jax_regularisers, regularisers), strict=True)
            ],
            weights,
            steps,
        ),
    }
    zeros, right = {}, {}
    for name, run in found.items():
        # Weights that tremble around 0 differ by what was rounded, and then by a step's sign.
        until = 20 if name == "L1, subgradient" else steps
        same(name, run[0][:until], run[1][:until])
        zeros[name] = [np.mean(side[-1] == 0) for side in run]
        right[name] = [np.mean((held @ side[-1]).argmax(1) == truth) for side in run]
        noise = np.abs(run[1][-1][64:]).sum() / np.abs(run[1][-1]).sum()
        print(f"{name}: {zeros[name][1]:.0%} zeros, {right[name][1]:.3f} right, {noise:.0%} noise")
    same.holds("only the proximal step makes zeros", min(zeros["L1, proximal"]) > 0.6)
    same.holds("the others none", max(max(zeros[name]) for name in [*found][:3]) < 0.01)
    for name in ("L2", "L1, proximal"):
        same.holds(f"{name} helps", min(right[name]) > max(right["no penalty"]))

    # Weight decay is w <- w - lr s w beside the step. With SGD that is L2. Adam divides the slope
    # by its own size, the penalty's with it. A pixel that is always 0 shows it, for it has no other
    # slope: under AdamW its weights fall by (1 - lr s) a step, under Adam by lr, whatever s is.
    def optimised(name, weight_decay, penalty=0.0):
        ours, theirs = rule(name, lr=0.01, weight_decay=weight_decay)
        (x, y), (tx, ty) = data
        w, tw = both(weights)

        def step(carry, _):
            g = jax.grad(lambda w: LOSS[0](x @ w, y) + jax_regularisers.l2_penalty([w], penalty))(
                carry[0]
            )
            updates, state = ours.update(g, carry[1], carry[0])
            w = optax.apply_updates(carry[0], updates)
            return (w, state), w

        _, walked = jax.jit(lambda w: jax.lax.scan(step, (w, ours.init(w)), length=50))(w)
        tw, twalked = tw.requires_grad_(), []
        optimizer = theirs([tw])
        for _ in range(50):
            optimizer.zero_grad()
            (LOSS[1](tx @ tw, ty) + regularisers.l2_penalty([tw], penalty)).backward()
            optimizer.step()
            twalked.append(tw.detach().clone())
        return np.asarray(walked), torch.stack(twalked).numpy()

    weights[0] = np.sign(weights[0]) * (1 + same.rng.random(10))  # of the first pixel, always 0
    for name in ("sgd", "adam"):
        decayed, penalised = optimised(name, 0.1), optimised(name, 0.0, 0.1)
        same(f"{name}: decay is L2", decayed[0], penalised[1])
        same(f"{name}: L2 is decay", penalised[0], decayed[1])
    falls = {
        f"{name}, {s:g}": optimised(name, s) for name in ("adam", "adamw") for s in (0.01, 1.0)
    }
    for name, run in falls.items():
        same(name, run[0], run[1])
    left = {name: np.abs(run[1][:, 0] / weights[0]) for name, run in falls.items()}
    same("AdamW by hand", (1 - 0.01 * 1.0) ** np.arange(1, 51), left["adamw, 1"][:, 0])
    lost = [np.abs(weights[0]) - np.abs(falls[f"adam, {s}"][1][-1, 0]) for s in ("0.01", "1")]
    print(f"after 50 steps of 0.01 Adam has taken {lost[0].mean():.3f} and {lost[1].mean():.3f}")
    same.holds("Adam: by lr a step", np.abs(np.array(lost) - 0.5).max() < 0.05)
    if (axes := same.axes(1, 2, height=4)) is not None:
        for i, (name, run) in enumerate(found.items()):
            sizes = [np.sort(np.abs(side[-1]).ravel())[::-1] for side in run]
            twice(axes[0], np.arange(2560), sizes, f"C{i}", name)
        axes[0].set(yscale="log", ylim=(1e-6, 10), xlabel="weight, by size", ylabel="|w|")
        axes[0].legend(fontsize=8)
        for i, (name, run) in enumerate(falls.items()):
            lines = [np.abs(side[:, 0] / weights[0]).mean(1) for side in run]
            twice(axes[1], np.arange(50), lines, f"C{i}", name)
        axes[1].set(xlabel="step", ylabel="left of a weight without data")
        axes[1].legend(fontsize=8)

# %% [dropout] Dropout
# In training each unit is dropped with probability p, and what is kept lengthened by 1 / (1 - p):
# its mean is what it was, so evaluation takes the net as it is. The mask is an input of the twins.
with lesson("dropout") as same:
    p, x = 0.4, same.rng.standard_normal((6, 5, 5, 8))
    weight, bias = same.rng.standard_normal((3, 8)), same.rng.standard_normal(3)
    keep = lambda *shape: same.rng.random(shape) > p  # noqa: E731
    forms: dict[str, Any] = {
        # name: function of JAX, of PyTorch, arrays, mask
        "units": (jax_dropout.dropout, dropout.dropout, (x[:, 0, 0],), keep(6, 8)),
        "channels": (jax_dropout.feature_dropout, dropout.feature_dropout, (x,), keep(6, 8)),
        "weights": (
            jax_stochastic.drop_connect,
            stochastic.drop_connect,
            (x[:, 0, 0], weight, bias),
            keep(3, 8),
        ),
    }
    outputs = {}
    for name, (ours, theirs, arrays, mask) in forms.items():
        # torch: channels are the second axis.
        first = lambda a: np.moveaxis(a, -1, 1) if a.ndim == 4 else a  # noqa: E731
        leaves = [to_torch(first(a)).requires_grad_() for a in arrays]
        ty = theirs(*leaves, to_torch(mask), p)
        tslopes = torch.autograd.grad((ty**2).sum(), leaves)
        y = ours(*map(to_jax, arrays), to_jax(mask), p)
        slopes = jax.grad(lambda a, ours=ours, mask=mask: (ours(*a, to_jax(mask), p) ** 2).sum())(
            [*map(to_jax, arrays)]
        )
        same(f"{name} dropped", first(np.asarray(y)), ty)
        same(f"slopes, {name}", [first(np.asarray(each)) for each in slopes], [*tslopes])
        # The mean over masks is what evaluation gives.
        many = jax.vmap(lambda mask, ours=ours, arrays=arrays: ours(*map(to_jax, arrays), mask, p))(
            to_jax(keep(4000, *mask.shape))
        ).mean(0)
        plain = x[:, 0, 0] @ weight.T + bias if name == "weights" else arrays[0]
        off = float(jnp.abs(many - plain).max() / np.abs(plain).max())
        print(f"{name}: mean over 4000 masks is off by {off:.1%}")
        same.holds(f"{name}: the mean is kept", off < 0.1)
        outputs[name] = y
    channels = np.asarray(outputs["channels"]).any((1, 2))
    same.holds("channels are dropped whole", (channels == forms["channels"][3]).all())
    # The frameworks' own layers: 0 or x / (1 - p) in training, x in evaluation.
    layer, tlayer, one = nn.Dropout(p), torch.nn.Dropout(p), both(np.ones(10_000))
    trained = layer.apply({}, one[0], deterministic=False, rngs={"dropout": jax.random.key(0)})
    for side in (trained, tlayer.train()(one[1])):
        values, counts = np.unique(np.asarray(side), return_counts=True)
        same("values in training", values, np.array([0, 1 / (1 - p)]))
        same.holds("as many as p says", abs(counts[0] / 10_000 - p) < 0.03)
    same("in evaluation", layer.apply({}, one[0], deterministic=True), tlayer.eval()(one[1]))

    class JaxNet(nn.Module):
        """A wide hidden layer, with a mask of what is kept of it in training."""

        p: float

        @nn.compact
        def __call__(self, x, mask, *, train=False):
            h = nn.relu(nn.Dense(512, name="fc1")(x))
            h = jax_dropout.dropout(h, mask, self.p) if train else h
            return nn.Dense(10, name="fc2")(h)

    class Net(torch.nn.Module):
        """The same in PyTorch."""

        def __init__(self, p):
            super().__init__()
            self.p, self.fc1, self.fc2 = p, torch.nn.Linear(64, 512), torch.nn.Linear(512, 10)

        def forward(self, x, mask):
            h = torch.relu(self.fc1(x))
            return self.fc2(dropout.dropout(h, mask, self.p) if self.training else h)

    # 300 digits, a third of them with a label drawn by chance: there is something not to learn.
    x, labels, held, truth = digits(same.rng, 300, wrong=1 / 3)
    all_kept, steps, curves = np.ones((len(held), 512), bool), 1000 if same.full else 400, {}
    for p in (0.0, 0.5, 0.8):
        nets = Networks(JaxNet, Net, same.rng, x[:2], all_kept[:2], p=p)
        draw = lambda n, p=p: same.rng.random((n, 512)) >= p  # noqa: E731
        stream, curves[p] = batches(same.rng, x, labels, steps, 50, draw), []
        for step, _ in enumerate(nets.train(stream, LOSS, rule("sgd", lr=0.05, momentum=0.9))):
            if step % 20 == 19:
                seen = losses(nets, x, all_kept[: len(x)], labels)
                curves[p].append([seen, losses(nets, held, all_kept, truth)])
        same(f"trained, p = {p}", *nets.state())
        y, ty = nets(held, all_kept)
        right = [float((np.asarray(each).argmax(1) == truth).mean()) for each in (y, ty)]
        seen, out = curves[p][-1]
        print(f"p = {p}: loss {seen[1]:.2f} seen, {out[1]:.2f} held out, {right[1]:.3f} right")
    last = {p: np.array(curve)[-1] for p, curve in curves.items()}  # (seen or held out, side)
    same.holds("less is learnt by heart", (last[0.8][0] > last[0.0][0]).all())
    same.holds("more is understood", (last[0.8][1] < 0.8 * last[0.0][1]).all())
    if (axes := same.axes(1, 2, height=4)) is not None:
        for i, (p, curve) in enumerate(curves.items()):
            at = 20 * np.arange(1, len(curve) + 1)
            for axis, part in zip(axes, np.array(curve).transpose(1, 2, 0), strict=True):
                twice(axis, at, part, f"C{i}", f"p = {p}")
        axes[0].set(xlabel="step", ylabel="cross-entropy", title="trained on, 1/3 mislabelled")
        axes[1].set(xlabel="step", title="held out, labelled right")
        axes[1].legend()

# %% [early_stopping] Early Stopping
# A large net first learns what examples share, then each by heart. Stop when the validation loss
# has not improved for `patience` epochs, and go back to the weights of its best.
with lesson("early_stopping") as same:
    x, labels, rest, others = digits(same.rng, 300, wrong=1 / 3)
    (check, test), (known, truth) = np.split(rest, [300]), np.split(others, [300])
    config = {"in_features": 64, "hidden": (256,), "out_features": 10}
    nets = Networks(JaxMLP, MLP, same.rng, x[:2], **config)
    ours, theirs, patience = JaxEarlyStopping(patience=8), EarlyStopping(patience=8), 8
    stopped: list[Any] = [None, None]
    state, curve = ours.init(nets.variables["params"]), []
    stream = batches(same.rng, x, labels, 6 * 60)
    for step, _ in enumerate(nets.train(stream, LOSS, rule("sgd", lr=0.05, momentum=0.9))):
        if step % 6 == 5:  # an epoch
            curve.append([losses(nets, *each) for each in ((x, labels), (check, known))])
            # jax: a state that is given and returned. torch: an object that changes.
            if stopped[0] is None:
                loss = to_jax(np.array(curve[-1][1][0]))
                state = ours.update(state, loss, nets.variables["params"])
                stopped[0] = len(curve) if ours.stop(state) else None
            if stopped[1] is None and theirs.update(curve[-1][1][1], nets.torch):
                stopped[1] = len(curve)
    curve = np.array(curve)  # (epochs, trained on or validation, side)
    same("every loss", curve[..., 0], curve[..., 1])
    # Of what was seen by then: epochs after the stop may be better still.
    best = curve[: stopped[1], 1, 1].argmin() + 1
    print(f"best epoch {best}, both stop at epoch {stopped}")
    same.holds("the same epoch", stopped[0] == stopped[1] == best + patience)
    late = [losses(nets, test, truth), nets.accuracy(test, truth)]
    theirs.restore(nets.torch)
    nets.variables = {"params": state.params}
    same("restored", *nets.state())
    same("to the best", losses(nets, check, known), [*curve[best - 1, 1]])
    early = [losses(nets, test, truth), nets.accuracy(test, truth)]
    for name, (loss, right) in (("restored", early), ("after 60 epochs", late)):
        print(f"{name}: loss {loss[1]:.2f}, {right[1]:.3f} right on test digits")
    same.holds("a lower loss", max(early[0]) < 0.9 * min(late[0]))
    same.holds("more right", min(early[1]) > max(late[1]))
    if (axis := same.axes(height=4)) is not None:
        at = np.arange(1, len(curve) + 1)
        for i, name in enumerate(("trained on, 1/3 mislabelled", "validation")):
            twice(axis, at, curve[:, i].T, f"C{i}", name)
        axis.axvline(best, color="k", lw=1, label="best, restored")
        axis.axvline(stopped[1], color="k", lw=1, ls=":", label=f"stopped, patience {patience}")
        axis.set(xlabel="epoch", ylabel="cross-entropy")
        axis.legend()

# %% [augmentation] Data Augmentation
# A digit that is turned, moved or magnified a little is the same digit: more examples for nothing.
# NumPy draws the plan (angle, zoom, shift) of each image; both frameworks carry it out. The digits
# here are all upright and centred: what a net learns of other ones, it learns from the plan.
with lesson("augmentation") as same:
    size = 16
    x, labels, held, truth = digits(same.rng, 1000, scale="unit", size=size)

    def plans(count):
        """What becomes of each image: a matrix and a shift (count, 2, 3), of pixels to pixels."""
        angle = np.deg2rad(same.rng.uniform(-15, 15, count))
        zoom, shift = same.rng.uniform(0.9, 1.1, count), same.rng.uniform(-1.5, 1.5, (2, count))
        cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
        return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]]).transpose(2, 0, 1)

    middle = (size - 1) / 2
    grid = np.stack(np.meshgrid(*[np.arange(size) - middle] * 2, indexing="ij")).reshape(2, -1)

    @jax.jit
    def augmented(images, plan):
        """Each pixel is read at a place between four: JAX takes its row and its column."""
        places = plan[:, :, :2] @ grid + plan[:, :, 2:] + middle  # (N, 2, S*S)
        read = partial(map_coordinates, order=1, mode="constant")
        return jax.vmap(read)(images.reshape(-1, size, size), places)

    def taugmented(images, plan):
        """PyTorch takes the column first, from -1 to 1."""
        places = plan[:, :, :2] @ to_torch(grid) + plan[:, :, 2:]
        places = (places / middle).flip(1).transpose(1, 2).reshape(-1, size, size, 2)
        images = images.reshape(-1, 1, size, size)
        return torch.nn.functional.grid_sample(images, places, align_corners=True).flatten(1)

    plan = plans(8)
    pictures = augmented(to_jax(x[:8]), to_jax(plan)), taugmented(*map(to_torch, (x[:8], plan)))
    same("augmented", np.asarray(pictures[0]).reshape(8, -1), pictures[1])
    still = np.tile(np.eye(2, 3), (8, 1, 1))
    same("the plan that does nothing", x[:8], taugmented(*map(to_torch, (x[:8], still))))

    # Learning curves: the same net and steps, more and more digits, as they are or augmented.
    config = {"in_features": size**2, "hidden": (128,), "out_features": 10}
    nets = Networks(JaxMLP, MLP, same.rng, x[:2], **config)
    start, steps = (
        (nets.variables, copy.deepcopy(nets.torch.state_dict())),
        1000 if same.full else 300,
    )
    counts, curves = (50, 100, 200, 400, 800), {"as they are": [], "augmented": []}
    moved = taugmented(*map(to_torch, (held, plans(len(held))))).numpy()
    for count, name in itertools.product(counts, curves):
        nets.variables = start[0]
        nets.torch.load_state_dict(start[1])
        stream = batches(same.rng, x[:count], labels[:count], steps)
        if name == "augmented":
            stream = (
                ((taugmented(*map(to_torch, (images, plans(50)))).numpy(),), target)
                for (images,), target in stream
            )
        found = np.array([*nets.train(stream, LOSS, rule("adam", lr=0.003))])
        same(f"losses, {count} {name}", *found.T)
        curves[name].append([nets.accuracy(each, truth) for each in (held, moved)])
        upright, other = curves[name][-1]
        print(f"{count} {name}: {upright[1]:.3f} of upright digits, {other[1]:.3f} of moved ones")
    plain, more = (np.array(curve) for curve in curves.values())  # (counts, upright or moved, side)
    same.holds("moved digits: better", (more[:, 1] > plain[:, 1] + 0.03).all())
    same.holds("a hundred are worth eight hundred", (more[1, 1] > plain[-1, 1]).all())
    same.holds("it costs few upright ones", (more[:, 0] > plain[:, 0] - 0.06).all())
    same.holds("more examples are better still", (more[-1] > more[0] + 0.03).all())
    if (axes := same.axes(1, 2, height=4)) is not None:
        rows = [x[:4], pictures[0][:4], pictures[1][:4]]
        sheet = np.array([np.asarray(row).reshape(4, size, size) for row in rows])
        sheet = np.pad(sheet, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.5)
        sheet = sheet.transpose(0, 2, 1, 3).reshape(3 * (size + 2), -1)
        picture(axes[0], sheet, "as they are; augmented by jax, by torch")
        for i, (name, curve) in enumerate((("as they are", plain), ("augmented", more))):
            for j, kind in enumerate(("upright", "moved")):
                twice(axes[1], counts, curve[:, j].T, f"C{2 * i + j}", f"{kind}, trained {name}")
        axes[1].set(
            xscale="log", xlabel="digits trained on", ylabel="right, held out", ylim=(0.4, 1)
        )
        axes[1].set_xticks(counts, counts)
        axes[1].minorticks_off()
        axes[1].legend(fontsize=8, loc="lower right")

# %% [batch_norm] Batch Normalization
# In training an example is normalised with the others of its batch, whoever they are: noise, whose
# size falls with that of the batch as 1 / sqrt(B). It is no part of evaluation.
with lesson("batch_norm") as same:
    x, labels, held, truth = digits(same.rng, 300, wrong=1 / 3)

    def network(normalised):
        """A wide hidden layer, normalised or not."""
        ours = [jax_norm.BatchNorm(256)] if normalised else []
        theirs = [torch.nn.BatchNorm1d(256)] if normalised else []
        return Networks(
            lambda: Sequential((nn.Dense(256), *ours, nn.relu, nn.Dense(10))),
            lambda: torch.nn.Sequential(
                torch.nn.Linear(64, 256), *theirs, torch.nn.ReLU(), torch.nn.Linear(256, 10)
            ),
            same.rng,
            x[:2],
        )

    nets, sizes, spread = network(True), (4, 16, 64, 256), []
    layers = copy.deepcopy(nets.torch).train()
    run = jax.jit(
        lambda v, x: jax.vmap(
            lambda x: nets.jax.apply(v, x, train=True, mutable=["batch_stats"])[0][0]
        )(x)
    )
    for size in sizes:  # logits of the first digit, in 100 batches
        index = np.array([same.rng.integers(1, 300, size - 1) for _ in range(100)])
        given = x[np.hstack([np.zeros((100, 1), int), index])]
        with torch.no_grad():
            logits = torch.stack([layers(each)[0] for each in to_torch(given)])
        noisy = np.asarray(run(nets.variables, to_jax(given)))
        same(f"logits among {size}", noisy, logits)
        spread.append([np.asarray(each).std(0).mean() for each in (noisy, logits)])
        print(f"batches of {size}: a logit's spread {spread[-1][1]:.3f}")
    falls = np.polyfit(np.log(sizes), np.log(spread), 1)[0]
    same.holds("as 1 / sqrt(B)", np.abs(falls + 0.5).max() < 0.15)

    # What it does to learning, where a third of the labels is wrong: the gap between the losses on
    # what was trained on and on what was held out, after as many steps, with and without it. It
    # learns faster, too, so that it has learnt more by heart: what regularises is the small batch.
    gaps, batch_sizes, steps = {True: [], False: []}, (10, 30, 150), 1000 if same.full else 300
    for normalised, size in itertools.product(gaps, batch_sizes):
        nets = network(normalised)
        stream = batches(same.rng, x, labels, steps, size)
        found = np.array([*nets.train(stream, LOSS, rule("sgd", lr=0.05))])
        name = f"{'' if normalised else 'not '}normalised, batches of {size}"
        same(name, *found.T)
        seen, out = losses(nets, x, labels), losses(nets, held, truth)
        gaps[normalised].append(np.subtract(out, seen))
        right = nets.accuracy(held, truth)[1]
        print(f"{name}: loss {seen[1]:.2f} seen, {out[1]:.2f} held out, {right:.3f} right")
    with_it, without = (np.array(each) for each in gaps.values())
    same.holds("small batches learn less by heart", (with_it[2] > with_it[0] + 0.1).all())
    same.holds("without it they hardly do", (abs(without[2] - without[0]) < 0.1).all())
    if (axes := same.axes(1, 2, height=4)) is not None:
        twice(axes[0], sizes, np.transpose(spread), "C0", "measured")
        axes[0].plot(sizes, spread[0][1] * 2 / np.sqrt(sizes), "k:", label="1 / sqrt(B)")
        axes[0].set(xscale="log", yscale="log", xlabel="B", ylabel="spread of a logit in training")
        axes[0].legend()
        for i, (name, gap) in enumerate((("batch norm", with_it), ("none", without))):
            twice(axes[1], batch_sizes, gap.T, f"C{i + 1}", name)
        axes[1].set(xscale="log", xlabel="B", ylabel="loss held out, less that on training data")
        axes[1].legend()
