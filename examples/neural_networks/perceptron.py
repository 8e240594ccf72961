"""Perceptrons in JAX and in PyTorch: one unit, its rules, its gradient, and what is built of it.

Run it as a program (`python examples/neural_networks/perceptron.py --out figures`), or cell by cell
in an editor that knows `# %%`. In all figures broad lines are JAX's and dashed ones PyTorch's.
"""

# %% Set-up
from functools import partial
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.svm import SVC

from compare.data.batches import shuffled
from compare.data.digits import split_digits
from compare.data.folds import hold_out
from compare.data.words import TOPICS, bags_of_words
from compare.share import to_jax, to_torch
from compare.study.figures import overlay, picture, twice
from compare.study.lessons import both, lesson
from compare.study.networks import Networks
from compare.study.scripts import script
from jaxnn.foundations import adaline as jax_adaline
from jaxnn.foundations import multiclass_perceptron as jax_multiclass
from jaxnn.foundations import perceptron as jax_perceptron
from jaxnn.foundations import voted_perceptron as jax_voting
from jaxnn.foundations.mlp import MLP as JaxMLP
from jaxnn.layers.container import Sequential as JaxSequential
from jaxnn.layers.convolution import Conv2d as JaxConv2d
from jaxnn.layers.linear import Linear as JaxLinear
from jaxnn.layers.pooling import max_pool2d as jax_max_pool2d
from jaxnn.training.losses import cross_entropy as jax_cross_entropy
from jaxnn.training.optimizers import sgd as jax_sgd
from torchref.foundations import adaline, multiclass_perceptron, perceptron
from torchref.foundations import voted_perceptron as voting
from torchref.foundations.mlp import MLP
from torchref.training.losses import cross_entropy
from torchref.training.optimizers import sgd

script(__name__)

CORNERS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])  # of XOR and the like


def zeros(*shape):
    """A weight of zeros of that shape, and its bias, in both frameworks: JAX's, PyTorch's."""
    return tuple(zip(both(np.zeros(shape)), both(np.zeros(shape[:-1])), strict=True))


def trained(same, name, nets, x, labels, steps):
    """Trains both by SGD on batches of 50, and holds their losses and weights to each other."""
    batches = islice(shuffled(same.rng, (x,), (labels,), 50), steps)
    rules = jax_sgd(lr=0.05, momentum=0.9), lambda params: sgd(params, lr=0.05, momentum=0.9)
    costs = np.array([*nets.train(batches, (jax_cross_entropy, cross_entropy), rules)])
    same(f"{name}: losses", *costs.T)
    same(f"{name}: trained", *nets.state())


def accuracies(scores, labels):
    """The share of rows whose largest score is that of the label, for each framework's scores."""
    return [float((np.asarray(each).argmax(1) == labels).mean()) for each in scores]


def curves(axis, lines, color, label):
    """`overlay` of two lines, JAX's and PyTorch's."""
    ours, theirs = lines
    overlay(axis, ours, theirs, color, label)


# %% [architecture] Perceptron Architecture
# y = +1 where w.x + b > 0, else -1: a weighted sum, a bias, a step.
with lesson("architecture") as same:
    jx, tx = both(CORNERS)
    unit, tunit = jax_perceptron.Perceptron(2), perceptron.Perceptron(2)
    # By hand: the sum of two inputs passes 1.5 if both are on, and 0.5 if one is.
    for name, bias, wanted in (("AND", -1.5, [-1, -1, -1, 1]), ("OR", -0.5, [-1, 1, 1, 1])):
        given = {"params": {"linear": {"kernel": jnp.ones((2, 1)), "bias": jnp.array([bias])}}}
        tunit.load_state_dict({"linear.weight": torch.ones(1, 2), "linear.bias": tx.new([bias])})
        same(f"{name}: score", unit.apply(given, jx), tunit(tx))
        same(f"{name}: class", unit.apply(given, jx, method="predict"), tunit.predict(tx))
        same(f"{name} as wanted", np.array(wanted), tunit.predict(tx))

    # Of the 16 functions of two bits, Rosenblatt's rule finds all that a line separates.
    tables = 2 * (np.arange(16)[:, None] >> np.arange(4) & 1) - 1
    (line, tline), (jy, ty) = zeros(16, 2), both(tables)
    epoch = jax.jit(jax.vmap(jax_perceptron.rosenblatt, (0, 0, None, 0)))
    wrong, twrong = [], []
    for _ in range(12):
        line = epoch(*line, jx, jy)
        each = [perceptron.rosenblatt(w, b, tx, y) for w, b, y in zip(*tline, ty, strict=True)]
        tline = tuple(map(torch.stack, zip(*each, strict=True)))
        wrong.append((jy * (line[0] @ jx.T + line[1][:, None]) <= 0).sum(1))
        twrong.append((ty * (tline[0] @ tx.T + tline[1][:, None]) <= 0).sum(1))
    same("the sixteen lines", line, tline)
    same("mistakes after each epoch", wrong, twrong)
    never = np.flatnonzero(twrong[-1]).tolist()
    print(f"separated: {16 - len(never)} of 16, all but {tables[never].tolist()}")
    same.holds("all but XOR and its opposite", never == [6, 9])

    # Why: for every line s(0,0) + s(1,1) = s(0,1) + s(1,0), and XOR wants the left side not above 0
    # and the right side above.
    some, tsome = both(same.rng.standard_normal((1000, 3)))
    score, tscore = some[:, :2] @ jx.T + some[:, 2:], tsome[:, :2] @ tx.T + tsome[:, 2:]
    same("both sums", score[:, 0] + score[:, 3], tscore[:, 1] + tscore[:, 2])

    if (axes := same.axes(2, 2, height=3.4)) is not None:
        across = np.array([-0.5, 1.5])
        for axis, name, row in zip(axes.flat, ("AND", "OR", "XOR"), (8, 14, 6), strict=False):
            found = [(*map(float, w[row]), float(b[row])) for w, b in (line, tline)]
            if there := all(two for _, two, _ in found):
                ends = [(across, -(b + one * across) / two) for one, two, b in found]
                curves(axis, ends, "C0", None)
            axis.scatter(*CORNERS.T, c=tables[row], cmap="coolwarm", s=120, edgecolors="k")
            axis.set(title=f"{name} (red is on): {'a line' if there else 'back at w = 0, no line'}")
            axis.set(xlabel="x1", ylabel="x2", xlim=across, ylim=across)
            lines = [(range(1, 13), [w[row] for w in each]) for each in (wrong, twrong)]
            curves(axes[1, 1], lines, f"C{row}", name)
        axes[1, 1].set(title="Rosenblatt's rule", xlabel="epoch", ylabel="of four wrong")
        axes[1, 1].legend()

# %% [learning_rule] Perceptron Learning Algorithm
# Rosenblatt: where label (w.x + b) <= 0, w <- w + label x and b <- b + label. Nothing else moves.
with lesson("learning_rule") as same:
    # Online, digits 0 against 1. What moved when is told by all the weights and how long they held.
    x, labels, *_ = split_digits(same.rng, classes=(0, 1), flat=True)
    ones, signs = np.c_[x, np.ones(len(x))], 2 * labels - 1
    (jx, tx), (jy, ty), order = both(ones[:, :-1]), both(signs), np.tile(np.arange(len(x)), 3)
    (nothing, tnothing), vote = zeros(64), jax.jit(jax_voting.voted_perceptron)
    voted = vote(*nothing, jx, jy, to_jax(order))
    tvoted = voting.voted_perceptron(*tnothing, tx, ty, to_torch(order))
    same("every weight vector and bias", voted[:2], tvoted[:2])
    same("the visits that moved them", voted[2].cumsum(), tvoted[2].cumsum(0))
    once = jax_perceptron.rosenblatt(*nothing, jx, jy)
    same("after one epoch", once, perceptron.rosenblatt(*tnothing, tx, ty))
    k = np.arange(int((tvoted[2] > 0).sum()) + 1)  # mistakes
    same.holds("separated", (ty * (tx @ tvoted[0][k[-1]] + tvoted[1][k[-1]]) > 0).all())

    # Novikoff's bound. Let u of length 1 separate with a margin g, and let no (x, 1) be longer than
    # R. After k mistakes u.w >= k g, for each adds at least g, and |w|^2 <= k R^2, for each adds at
    # most R^2. Therefore k g <= |w| <= sqrt(k) R, and there are no more than (R / g)^2 mistakes.
    widest = SVC(kernel="linear", C=1e9).fit(x, signs)  # the separation of the largest margin
    u = np.append(widest.coef_, widest.intercept_)
    g, radius = (signs * (ones @ u)).min() / np.linalg.norm(u), np.linalg.norm(ones, axis=1).max()
    length = jnp.hypot(jnp.linalg.norm(voted[0], axis=1), voted[1])[: len(k)]
    tlength = torch.hypot(tvoted[0].norm(dim=1), tvoted[1])[: len(k)]
    same("lengths", length, tlength)
    print(f"{k[-1]} mistakes, of at most {(radius / g) ** 2:.0f}")
    same.holds("no shorter than k g", (tlength.numpy() >= k * g - 1e-9).all())
    same.holds("no longer than sqrt(k) R", (tlength.numpy() <= np.sqrt(k) * radius + 1e-9).all())
    same.holds("the bound", k[-1] <= (radius / g) ** 2)

    # Epoch-wise: all mistakes move at once. It is gradient descent on the mean of
    # max(0, -label score), which has a gradient from any start but zero.
    (jones, tones), (w, tw) = both(ones), both(0.1 * same.rng.standard_normal(65))
    slope = jax.jit(jax.grad(lambda w: jax_perceptron.perceptron_loss(jones @ w, jy)))
    tslope = torch.func.grad(lambda w: perceptron.perceptron_loss(tones @ w, ty))
    for step in range(60):
        w, tw = w - 0.1 * slope(w), tw - 0.1 * tslope(tw)
        same(f"epoch-wise: weights after {step}", w, tw)
    same.holds("epoch-wise: separated", (ty * (tones @ tw) > 0).all())

    # Even against odd digits: no line separates them, and the weights never settle. Which to keep?
    x, labels, x_out, labels_out = split_digits(same.rng, flat=True)
    (jx, tx), (jy, ty), (jout, tout) = both(x), both(1 - 2 * (labels % 2)), both(x_out)
    order, torder = both(np.concatenate([same.rng.permutation(len(x)) for _ in range(3)]))
    wanted, given, tgiven = 1 - 2 * (labels_out % 2), (jx, jy, order), (tx, ty, torder)
    voted, tvoted = vote(*nothing, *given), voting.voted_perceptron(*tnothing, *tgiven)
    same("all weights", voted, tvoted)
    says = jax_voting.voted_predict(*voted, x=jout), voting.voted_predict(*tvoted, x=tout)
    kept = {"vote": says}
    for name in ("averaged", "pocket"):
        ours = jax.jit(getattr(jax_voting, f"{name}_perceptron"))(*nothing, *given)
        theirs = getattr(voting, f"{name}_perceptron")(*tnothing, *tgiven)
        same(f"{name}: weights", ours, theirs)
        says = jax_voting.averaged_predict(*ours, x=jout), voting.averaged_predict(*theirs, x=tout)
        kept[name] = says
    # The accuracy of the weights that held after each visit.
    held = np.repeat(np.arange(len(order) + 1), tvoted[2])
    says = jnp.sign(jout @ voted[0].T + voted[1]), torch.sign(tout @ tvoted[0].T + tvoted[1])
    after, tafter = ((np.asarray(each) == wanted[:, None]).mean(0)[held] for each in says)
    same("accuracy after each visit", after, tafter)
    print(f"the last thousand visits: {tafter[-1000:].mean():.3f}")
    for name, (found, tfound) in kept.items():
        same(f"{name}: classes", found, tfound)
        right = (tfound.numpy() == wanted).mean()
        print(f"{name}: {right:.3f}")
        same.holds(f"{name}: better than what held last", right > tafter[-1000:].mean())

    if (axes := same.axes(1, 2, height=3.8)) is not None:
        twice(axes[0], k, (length, tlength), "C0", "|w|")
        wide = np.linspace(0, (radius / g) ** 2 * 1.1, 200)
        axes[0].plot(wide, wide * g, "k-", lw=1, label="k g, at least")
        axes[0].plot(wide, np.sqrt(wide) * radius, "k:", lw=1, label="sqrt(k) R, at most")
        axes[0].set(title="mistakes on 0 and 1, and their bound", xlabel="mistakes k")
        visits = np.arange(0, len(held), 25)
        lines = [(visits, each[visits]) for each in (after, tafter)]
        curves(axes[1], lines, "C7", "those of the visit")
        for how, (name, (_, found)) in zip(("C2-", "C0--", "C1-"), kept.items(), strict=True):
            right = (found.numpy() == wanted).mean()
            axes[1].plot([0, len(held)], [right, right], how, label=name)
        axes[1].set(title="even against odd, held out", xlabel="visit", ylabel="accuracy")
        axes[1].set_ylim(0.6, 0.95)
        for axis in axes:
            axis.legend(fontsize=8)

# %% [gradient_descent] Gradient Descent
# A step has no slope. Adaline learns from the score itself, by (label - score)^2 / 2; the logistic
# unit from a smooth step, by log(1 + exp(-label score)). Both have gradients, and one minimum.
with lesson("gradient_descent") as same:
    # Tumours, benign or malignant, by the mean radius and texture of their cells.
    x, labels = map(np.asarray, load_breast_cancer(return_X_y=True))
    x, labels = (x[:, :2] - x[:, :2].mean(0)) / x[:, :2].std(0), 1 - 2 * labels
    x = np.c_[x, np.ones(len(x))]
    kept, aside = hold_out(len(x), 0.25, same.rng)
    (jx, tx), (jy, ty) = both(x[kept]), both(labels[kept])

    def walk(loss, batches, lr):
        """The parameters (w1, w2, b) after every step, from zero: JAX's, PyTorch's."""
        cost, tcost = getattr(jax_adaline, loss), getattr(adaline, loss)

        def step(p, index):
            p = p - lr * jax.grad(lambda p: cost(jx[index] @ p, jy[index]))(p)
            return p, p

        path = jax.lax.scan(step, jnp.zeros(3), to_jax(batches))[1]
        slope, tpath = torch.func.grad(lambda p, i: tcost(tx[i] @ p, ty[i])), [torch.zeros(3)]
        for index in torch.from_numpy(batches):
            tpath.append(tpath[-1] - lr * slope(tpath[-1], index))
        return path, torch.stack(tpath[1:])

    every = np.arange(len(kept))
    batch = np.tile(every, (120, 1))  # all examples, 120 times
    single = np.concatenate([same.rng.permutation(every) for _ in range(3)])[:, None]
    paths = {}
    for loss, faster in (("adaline_loss", 1), ("logistic_loss", 8)):  # whose slopes are smaller
        for kind, batches, lr in (("batch", batch, 0.2), ("stochastic", single, 0.01)):
            paths[loss, kind] = walk(loss, batches, faster * lr)
            same(f"{loss}, {kind}: the path", *paths[loss, kind])
        says = [np.sign(x[aside] @ np.asarray(path[-1])) for path in paths[loss, "batch"]]
        same(f"{loss}: says", *says)
        right = (says[1] == labels[aside]).mean()
        print(f"{loss}: {right:.3f} of the tumours that were held out")
        same.holds(f"{loss}: right on five of six", right > 5 / 6)

    # One epoch of Widrow and Hoff's rule is the stochastic path of Adaline.
    (nothing, tnothing), first = zeros(2), single[every, 0]
    found = jax_adaline.delta_rule(*nothing, jx[first, :2], jy[first], 0.01)
    same("delta rule", found, adaline.delta_rule(*tnothing, tx[first, :2], ty[first], 0.01))
    epoch = paths["adaline_loss", "stochastic"][1][every[-1]]
    same("is stochastic descent", jnp.append(*found), epoch)

    # Adaline's minimum is that of least squares. Descent finds it at rates below 2 / L, with L the
    # largest curvature, of X^T X / N, and at no rate above.
    best = torch.linalg.lstsq(tx, ty[:, None] / 1.0).solution[:, 0]
    largest = np.linalg.eigvalsh(x[kept].T @ x[kept] / len(kept))[-1]
    for share in (0.9, 1.1):
        found = walk("adaline_loss", np.tile(every, (200, 1)), share * 2 / largest)
        same(f"path at {share} of the largest rate", *found)
        same.holds(f"at {share} of it", ((found[1][-1] - best).norm() < 1e-6) == (share < 1))

    if (axes := same.axes(1, 2, height=4.0)) is not None:
        for axis, loss in zip(axes, ("adaline_loss", "logistic_loss"), strict=True):
            last = paths[loss, "batch"][1][-1]
            side = torch.linspace(-0.4, 2.2, 60) * last[:2].abs().max()
            grid = torch.cartesian_prod(side, side, last[2:])
            heights = torch.stack([getattr(adaline, loss)(tx @ p, ty) for p in grid])
            levels = np.quantile(heights, np.linspace(0.02, 0.95, 12))
            axis.contour(side, side, heights.view(60, 60).T, levels, colors="gray", linewidths=0.6)
            for kind, color, apart in (("stochastic", "C1", 12), ("batch", "C0", 1)):
                lines = [np.asarray(p)[::apart, :2].T for p in paths[loss, kind]]
                curves(axis, lines, color, kind)
            axis.set(title=loss, xlabel="weight of the radius", ylabel="weight of the texture")
            axis.legend(fontsize=8)

# %% [backpropagation] Backpropagation
# Two layers solve XOR. The chain rule, from the loss back to every weight, N examples at a time:
#   h = tanh(x W^T + b), s = h.v + c, L = mean log(1 + exp(-y s))
with lesson("backpropagation") as same:
    (jx, tx), (jy, ty) = both(CORNERS), both(np.array([-1.0, 1.0, 1.0, -1.0]))

    def score(np, params, x):
        weight, bias, out, shift = params
        return np.tanh(x @ weight.T + bias) @ out + shift

    def by_hand(np, params, x, y):
        """The gradients to W, b, v and c: the same lines for jax.numpy and for torch."""
        weight, bias, out, shift = params
        h = np.tanh(x @ weight.T + bias)
        s = h @ out + shift
        ds = -y / (1 + np.exp(y * s)) / len(y)  # dL/ds
        dz = ds[:, None] * out * (1 - h**2)  # through s = h.v + c, then through tanh
        return dz.T @ x, dz.sum(0), h.T @ ds, ds.sum()

    def cost(params):
        return jax_adaline.logistic_loss(score(jnp, params, jx), jy)

    def tcost(params):
        return adaline.logistic_loss(score(torch, params, tx), ty)

    # Trained on the gradients by hand, from a draw and from equal weights: those get equal
    # gradients, remain equal for ever, and are no more than one unit.
    shapes, lr = ((8, 2), (8,), (8,), ()), 0.5
    starts = {
        "drawn": [both(same.rng.standard_normal(shape)) for shape in shapes],
        "equal": [both(np.full(shape, 0.3)) for shape in shapes],
    }
    step = jax.jit(lambda p: (cost(p), by_hand(jnp, p, jx, jy), jax.grad(cost)(p)))
    tauto, runs = torch.func.grad(tcost), {}
    for name, start in starts.items():
        (params, tparams), costs = zip(*start, strict=True), []
        for index in range(800):
            ours, grads, auto = step(params)
            tgrads = by_hand(torch, tparams, tx, ty)
            costs.append((float(ours), float(tcost(tparams))))
            if index % 200 == 0:
                same(f"{name} {index}: by hand", grads, tgrads)
                same(f"{name} {index}: jax.grad", auto, tgrads)
                same(f"{name} {index}: autograd", grads, tauto(tuple(tparams)))
            params = [p - lr * g for p, g in zip(params, grads, strict=True)]
            tparams = [p - lr * g for p, g in zip(tparams, tgrads, strict=True)]
        same(f"{name}: trained", params, tparams)
        same(f"{name}: costs", *np.array(costs).T)
        right = int(((score(torch, tparams, tx) > 0) == (ty > 0)).sum())
        same.holds(f"from {name} weights", (right == 4) == (name == "drawn"))
        print(f"from {name} weights: {right} of 4 right, cost {costs[-1][1]:.3f}")
        runs[name] = params, tparams, np.array(costs).T
    same.holds("equal for ever", np.ptp(runs["equal"][1][0].numpy(), axis=0).max() == 0)

    if (axes := same.axes(1, 2, height=3.8)) is not None:
        side = np.linspace(-0.5, 1.5, 81)
        jgrid, tgrid = both(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2))
        surface = score(jnp, runs["drawn"][0], jgrid), score(torch, runs["drawn"][1], tgrid)
        for each, width, line, alpha in zip(surface, (5, 1.2), ("-", "--"), (0.35, 1), strict=True):
            how = {"linewidths": width, "linestyles": line, "alpha": alpha, "colors": "C0"}
            axes[0].contour(side, side, np.asarray(each).reshape(81, 81), [0], **how)
        axes[0].scatter(*CORNERS.T, c=np.asarray(jy), cmap="coolwarm", s=120, edgecolors="k")
        axes[0].set(title="XOR: where the score is 0", xlabel="x1", ylabel="x2")
        for color, (name, (_, _, costs)) in zip(("C0", "C3"), runs.items(), strict=True):
            lines = [(range(0, 800, 20), each[::20]) for each in costs]
            curves(axes[1], lines, color, f"{name} weights")
        axes[1].set(title="gradients by hand", xlabel="step", ylabel="cost", yscale="log")
        axes[1].legend()

# %% [variations] Perceptron Variations
# Ten classes, four ways: a weight vector for each class; ten votes of one against the rest; a
# hidden layer; and a layer of small units that look at every place of the image.
with lesson("variations") as same:
    images, labels, images_out, labels_out = split_digits(same.rng)
    x, x_out = (each.reshape(len(each), -1) for each in (images, images_out))
    (jx, tx), (jy, ty), (jout, tout) = both(x), both(labels), both(x_out)
    found, numbers = {}, {}

    # The perceptron of several classes: a mistake moves the right class to x, its rival away.
    (p, tp), rule = zeros(10, 64), jax.jit(jax_multiclass.multiclass_rosenblatt)
    trule = multiclass_perceptron.multiclass_rosenblatt
    for _ in range(3):
        p, tp = rule(*p, jx, jy), trule(*tp, tx, ty)
    found["MultiClassPerceptron"] = jout @ p[0].T + p[1], tout @ tp[0].T + tp[1]
    numbers["MultiClassPerceptron"] = 650
    # Of two classes it is Rosenblatt's rule, at twice the rate.
    two = ty < 2
    pair = trule(*zeros(2, 64)[1], tx[two], ty[two])
    single = perceptron.rosenblatt(*zeros(64)[1], tx[two], 2 * ty[two] - 1, lr=2.0)
    same("two classes", [jnp.asarray(each[1] - each[0]) for each in pair], single)

    # Ten voted perceptrons, each of one digit against the rest: the digit with the most votes.
    signs, tsigns = both(2 * (labels == np.arange(10)[:, None]) - 1)
    (nothing, tnothing), (order, torder) = zeros(64), both(np.arange(len(x)))
    vote = jax.jit(jax.vmap(jax_voting.voted_perceptron, (None, None, None, 0, None)))
    weights, biases, counts = vote(*nothing, jx, signs, order)
    each = [voting.voted_perceptron(*tnothing, tx, sign, torder) for sign in tsigns]
    tweights, tbiases, tcounts = map(torch.stack, zip(*each, strict=True))
    same("vote: weights and counts", (weights, biases, counts), (tweights, tbiases, tcounts))
    votes = jnp.sign(jout @ weights.mT + biases[:, None]) @ (counts[..., None] / 1.0)
    tvotes = torch.sign(tout @ tweights.mT + tbiases[:, None]) @ (tcounts[..., None] / 1.0)
    found["VotedPerceptron"] = votes[..., 0].T, tvotes[..., 0].T
    numbers["VotedPerceptron"] = int((tcounts > 0).sum()) * 65

    def flat(x):
        return x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # torch flattens (C, H, W)

    def jax_convolutional():
        pool = partial(jax_max_pool2d, kernel_size=2)
        units = JaxConv2d(1, 12, 3, padding=1)
        return JaxSequential((units, jax.nn.relu, pool, flat, JaxLinear(192, 10)))

    def convolutional():
        units, pool = torch.nn.Conv2d(1, 12, 3, padding=1), torch.nn.MaxPool2d(2)
        last = torch.nn.Flatten(), torch.nn.Linear(192, 10)
        return torch.nn.Sequential(units, torch.nn.ReLU(), pool, *last)

    sizes = {"in_features": 64, "hidden": (64,), "out_features": 10}
    mlp = Networks(JaxMLP, MLP, same.rng, x[:2], **sizes), x, x_out
    looking = Networks(jax_convolutional, convolutional, same.rng, images[:2]), images, images_out
    for name, (nets, given, out) in (("MLP", mlp), ("convolutional", looking)):
        trained(same, name, nets, given, labels, 300)
        found[name] = nets(out)
        numbers[name] = sum(each.numel() for each in nets.torch.parameters())

    right = {name: accuracies(each, labels_out) for name, each in found.items()}
    for name, (ours, theirs) in right.items():
        same(f"{name}: scores", *found[name])
        same(f"{name}: accuracy", ours, theirs)
        print(f"{name}: {theirs:.3f} held out, of {numbers[name]} numbers")
        same.holds(f"{name}: nine of ten", theirs > 0.9)
    same.holds("a second layer pays", right["MLP"][1] > right["MultiClassPerceptron"][1])
    same.holds("so do neighbours", right["convolutional"][1] > right["VotedPerceptron"][1])

    if (axis := same.axes(height=3.4)) is not None:
        places, (ours, theirs) = np.arange(4), zip(*right.values(), strict=True)
        axis.bar(places - 0.2, ours, 0.4, label="JAX")
        axis.bar(places + 0.2, theirs, 0.4, label="PyTorch")
        axis.set_xticks(places, [f"{name}\n{numbers[name]} numbers" for name in right], fontsize=8)
        axis.set(ylabel="accuracy, held out", ylim=(0.85, 1), title="ten digits, four perceptrons")
        axis.legend(loc="upper left")

# %% [applications] Perceptron Applications
with lesson("applications") as same:
    # Images: digits by a multilayer perceptron, and what it takes for what.
    x, labels, x_out, labels_out = split_digits(same.rng, flat=True)
    nets = Networks(JaxMLP, MLP, same.rng, x[:2], in_features=64, hidden=(48,), out_features=10)
    trained(same, "images", nets, x, labels, 250)
    pairs = [(labels_out, np.asarray(scores).argmax(1)) for scores in nets(x_out)]
    ours, confusion = (np.histogram2d(*pair, bins=np.arange(11))[0].astype(int) for pair in pairs)
    same("images: confusions", ours, confusion)
    same.holds("images: 19 of 20", confusion.trace() > 0.95 * len(x_out))

    # Text: paragraphs of Python's documentation by topic, each a bag of words, by the perceptron of
    # several classes; the words of the largest weights are what it goes by.
    vocabulary, train, held_out = bags_of_words(same.rng)
    (jx, tx), (jy, ty) = both(train["x"].astype(float)), both(train["labels"])
    (jout, tout), wanted = both(held_out["x"].astype(float)), held_out["labels"]
    p, tp = zeros(len(TOPICS), len(vocabulary))
    rule = jax.jit(jax_multiclass.multiclass_rosenblatt)
    for _ in range(30):
        p, tp = rule(*p, jx, jy), multiclass_perceptron.multiclass_rosenblatt(*tp, tx, ty)
    same("text: weights", p, tp)
    scores = jout @ p[0].T + p[1], tout @ tp[0].T + tp[1]
    right, guess = accuracies(scores, wanted), np.bincount(wanted).max() / len(wanted)
    same("text: accuracy", *right)
    same.holds("text: four of five", right[1] > 0.8 > guess)
    same.holds("text: separated", ((tx @ tp[0].T + tp[1]).argmax(1) == ty).all())
    seen = confusion.trace() / len(x_out)
    print(f"images {seen:.3f}, text {right[1]:.3f} (by guessing {guess:.3f})")

    if (axes := same.axes(1, 2, height=4.0)) is not None:
        picture(axes[0], confusion**0.5, "what is (row) and what was said", cmap="Blues")
        axes[0].set(xticks=range(10), yticks=range(10), xlabel="said", ylabel="is")
        for row, column in np.argwhere(confusion):
            how = {"ha": "center", "va": "center", "fontsize": 7}
            axes[0].text(column, row, confusion[row, column], **how)
        for topic, name in enumerate(TOPICS):
            top = tp[0][topic].argsort(descending=True)[:7].numpy()
            words = [f"{vocabulary[word]} " for word in top]
            axes[1].barh(words, np.asarray(p[0][topic])[top], 0.9, color=f"C{topic}", alpha=0.35)
            axes[1].barh(words, tp[0][topic][top], 0.4, color=f"C{topic}", label=name)
        axes[1].set(title="words that tell a topic", xlabel="weight")
        axes[1].tick_params(axis="y", labelsize=7)
        axes[1].invert_yaxis()
        axes[1].legend(fontsize=8)
