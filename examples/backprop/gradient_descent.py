"""Gradient descent in JAX and in PyTorch: surfaces, costs, rates, momentum and adaptive methods.

Run it as a program (`python examples/backprop/gradient_descent.py --out figures`), or cell by cell
in an editor that knows `# %%`. In all figures broad lines are JAX's and dashed ones PyTorch's.
"""

# %% Set-up
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from sklearn.datasets import load_diabetes

from compare.data.batches import epochs
from compare.data.digits import split_digits
from compare.share import to_jax, to_torch
from compare.study.figures import overlay, twice
from compare.study.lessons import both, lesson
from compare.study.scripts import script
from jaxnn.foundations.mlp import MLP as JaxMLP
from jaxnn.training import adaptive as jax_adaptive
from jaxnn.training import loops as jax_loops
from jaxnn.training import losses as jax_losses
from jaxnn.training import moments as jax_moments
from jaxnn.training import optimizers as jax_optimizers
from jaxnn.training import robust as jax_robust
from jaxnn.training.steps import TrainState
from torchref.foundations.mlp import MLP
from torchref.training import adaptive, loops, losses, moments, optimizers, robust

script(__name__)


def descend(functions, start, makers, steps, **options):
    """Every parameter on the way, (steps + 1, ...), by both frameworks' gradients and optimizers.

    Args:
      functions: of the parameter and a batch's indices, one for each framework.
      makers: of the optimizer, one for each framework.
      steps: their number, or the indices of each step's batch.
      options: of the optimizer, by torch's names.
    """
    batches = np.arange(steps) if isinstance(steps, int) else steps
    (function, tfunction), (make, tmake), (p, tp) = functions, makers, both(start)
    rule, tp = make(**options), tp.requires_grad_()

    def step(carry, index):
        p, state = carry
        updates, state = rule.update(jax.grad(function)(p, index), state, p)
        p = optax.apply_updates(p, updates)
        return (p, state), p

    _, path = jax.jit(lambda p: jax.lax.scan(step, (p, rule.init(p)), to_jax(batches)))(p)
    optimizer, tpath = tmake([tp], **options), [tp.detach().clone()]
    for index in torch.from_numpy(batches):
        optimizer.zero_grad()
        tfunction(tp, index).backward()
        optimizer.step()
        tpath.append(tp.detach().clone())
    return jnp.concatenate([p[None], path]), torch.stack(tpath)


def surface(f):
    """f(p, np), of p's two coordinates, as `descend` takes it."""
    return (lambda p, _: f(p, jnp)), (lambda p, _: f(p, torch))


SGD = jax_optimizers.sgd, optimizers.sgd


def quadratic(curvatures):
    """(a x^2 + b y^2) / 2: its Hessian is diag(a, b)."""
    return lambda p, np: (curvatures[0] * p[0] ** 2 + curvatures[1] * p[1] ** 2) / 2


def contours(axis, f, across, up, title):
    """Lines of equal height, one tenth of the area between two of them."""
    grid = np.stack(np.meshgrid(*(np.linspace(low, high, 80) for low, high in (across, up))))
    heights = f(grid, np)
    levels = np.unique(np.quantile(heights, np.linspace(0.02, 0.95, 12)))
    axis.contour(*grid, heights, levels=levels, colors="gray", linewidths=0.6)
    axis.set(xlim=across, ylim=up, title=title, xlabel="x", ylabel="y")


def digits(rng):
    """Handwritten digits: 1348 rows of 64 pixels in [0, 1] and a one (the bias), and labels."""
    x, labels, *_ = split_digits(rng, flat=True, scale="unit")
    return np.c_[x, np.ones(len(x))], labels


def softmax_regression(x, labels):
    """The loss of weights (65, 10) on the rows of a batch, for each framework."""
    (jx, tx), (jlabels, tlabels) = both(x), both(labels)
    return (
        lambda w, index: jax_losses.cross_entropy(jx[index] @ w, jlabels[index]),
        lambda w, index: losses.cross_entropy(tx[index] @ w, tlabels[index]),
    )


def patients():
    """Ten measurements of 442 patients, as they were taken, and their diabetes a year later."""
    x, y = map(np.asarray, load_diabetes(return_X_y=True, scaled=False))
    return x, (y - y.mean()) / y.std()


# %% [optimization] Understanding the concept of optimization
with lesson("optimization") as same:

    def bowl(p, np):
        return (p[0] - 1) ** 2 + 2 * (p[1] + 0.5) ** 2

    def himmelblau(p, np):
        """Four minima, of height 0, with saddles between them and a hill in the middle."""
        return (p[0] ** 2 + p[1] - 11) ** 2 + (p[0] + p[1] ** 2 - 7) ** 2

    def saddle(p, np):
        return p[0] ** 2 - p[1] ** 2 + p[1] ** 4 / 4

    # Convex: downhill leads to the one minimum, from anywhere. Not convex: the start decides.
    starts = [np.array(p) for p in ((-3.0, 3.5), (3.0, 3.5), (-3.0, -3.5), (3.5, -3.5))]
    ends, drawn = {}, {}
    for f, lr in ((bowl, 0.1), (himmelblau, 0.01)):
        found = [descend(surface(f), start, SGD, 200, lr=lr) for start in starts]
        for ours, theirs in found:
            same(f"a path on {f.__name__}", ours, theirs)
        ends[f.__name__] = np.stack([theirs[-1].numpy() for _, theirs in found])
        drawn[f] = found
    same.holds("convex: one end", np.ptp(ends["bowl"], axis=0).max() < 1e-9)
    same.holds("not convex: four", len(np.unique(ends["himmelblau"].round(3), axis=0)) == 4)

    # What a point is, the Hessian says: all curvatures up is a minimum, up and down a saddle.
    for name, f, point, up in (
        ("a minimum", himmelblau, ends["himmelblau"][1], 2),
        ("a saddle", saddle, np.zeros(2), 1),
    ):
        (jp, tp), by = both(point), surface(f)
        curved = jnp.linalg.eigvalsh(jax.hessian(lambda p, by=by: by[0](p, 0))(jp))
        tcurved = torch.linalg.eigvalsh(torch.func.hessian(lambda p, by=by: by[1](p, 0))(tp))
        same(f"curvatures of {name}", curved, tcurved)
        same.holds(f"{name}: {up} of two upwards", (tcurved > 0).sum() == up)

    # On the ridge the gradient leads to the saddle and ends there. The least push escapes.
    drawn[saddle] = [
        descend(surface(saddle), np.array([1.5, y]), SGD, 100, lr=0.1) for y in (0.0, 1e-3)
    ]
    for ours, theirs in drawn[saddle]:
        same("a path to the saddle", ours, theirs)
    same.holds("stuck, exactly on the ridge", drawn[saddle][0][1][-1].norm() < 1e-6)
    same.holds("escaped", abs(drawn[saddle][1][1][-1][1].item() - 2**0.5) < 1e-6)

    # Condition number: the largest curvature L over the smallest m. The best rate, 2 / (L + m),
    # shrinks the error by (k - 1) / (k + 1) a step: k / 2 steps for a factor of e.
    errors = {}
    for k in (2, 10, 100):
        ours, theirs = descend(
            surface(quadratic((1, k))), np.array([1.0, 1.0]), SGD, 300, lr=2 / (1 + k)
        )
        same(f"a path at condition {k}", ours, theirs)
        errors[k] = jnp.linalg.norm(ours, axis=1), theirs.norm(dim=1)
        rate = (errors[k][1][11] / errors[k][1][10]).item()
        same(f"the rate at condition {k}", rate, torch.tensor((k - 1) / (k + 1)))
    # That of real data: patients' measurements in their units, and brought to one scale.
    x, _ = patients()
    conditions = []
    for each in (x - x.mean(0), (x - x.mean(0)) / x.std(0)):
        jx, tx = both(each)
        found = jnp.linalg.cond(jx.T @ jx), torch.linalg.cond(tx.T @ tx)
        same("condition of the patients' data", *found, 1e-8)
        conditions.append(found[1].item())
    print(f"condition {conditions[0]:.0f} in the units of the clinic, {conditions[1]:.0f} scaled")
    same.holds("scaling pays", conditions[0] > 10 * conditions[1])

    if (axes := same.axes(2, 2, height=3.6)) is not None:
        titles = {bowl: "convex", himmelblau: "not convex: four minima", saddle: "a saddle"}
        for axis, (f, title) in zip(axes.flat, titles.items(), strict=False):
            span = (-2, 2) if f is saddle else (-5, 5)
            contours(axis, f, span, span, title)
            for i, (ours, theirs) in enumerate(drawn[f]):
                overlay(axis, ours.T, theirs.T, f"C{i}", None)
        for i, (k, (ours, theirs)) in enumerate(errors.items()):
            steps = range(len(ours))
            twice(axes[1, 1], steps, (ours, theirs), f"C{i}", f"condition {k}")
        axes[1, 1].set(yscale="log", ylim=(1e-9, 2), xlabel="step", ylabel="distance to minimum")
        axes[1, 1].legend()

# %% [cost_functions] Introducing the concept of cost functions
# One model, a x + b, and four costs. Each target is the disease's progression, x the body mass
# index; ten targets are typed with a digit too many, as happens.
with lesson("cost_functions") as same:
    x, y = patients()
    x = (x[:, 2] - x[:, 2].mean()) / x[:, 2].std()
    wrong = y.copy()
    wrong[same.rng.choice(np.flatnonzero(x > 0.5), 10, replace=False)] -= 15
    (jx, tx), (jy, ty), (jright, tright) = both(x), both(wrong), both((y > 0) * 1.0)
    costs = {
        "MSE": (jax_losses.mse, losses.mse, jy, ty),
        "MAE": (jax_robust.l1, robust.l1, jy, ty),
        "Huber": (jax_robust.huber, robust.huber, jy, ty),
        "cross-entropy": (
            jax_losses.binary_cross_entropy_with_logits,
            losses.binary_cross_entropy_with_logits,
            jright,
            tright,
        ),
    }
    slopes, shifts = np.linspace(-1, 2.5, 71), np.linspace(-2, 2, 81)
    grid = np.stack(np.meshgrid(slopes, shifts), -1).reshape(-1, 2)
    jgrid, tgrid = both(grid)
    found = {}
    for name, (cost, tcost, jt, tt) in costs.items():
        ours = jax.jit(jax.vmap(lambda p, c=cost, t=jt: c(p[0] * jx + p[1], t)))(jgrid)
        theirs = torch.func.vmap(lambda p, c=tcost, t=tt: c(p[0] * tx + p[1], t))(tgrid)
        same(f"{name} surface", ours, theirs)
        found[name] = ours, theirs
        best = grid[int(ours.argmin())], grid[int(theirs.argmin())]
        same(f"{name}: where it is lowest", *best)
        print(f"{name}: lowest at a = {best[1][0]:.2f}, b = {best[1][1]:.2f}")
    lowest = {name: grid[int(theirs.argmin())] for name, (_, theirs) in found.items()}
    clean = np.polyfit(x, y, 1)
    off = {name: np.linalg.norm(p - clean) for name, p in lowest.items()}
    same.holds("MSE follows the wrong targets", off["MSE"] > 2 * max(off["MAE"], off["Huber"]))
    exact = torch.linalg.lstsq(torch.stack([tx, torch.ones_like(tx)], 1), ty[:, None]).solution
    same.holds("and is solved exactly", np.abs(lowest["MSE"] - exact[:, 0].numpy()).max() < 0.06)

    # What an error pulls with is the cost's slope: MSE's grows with the error, the others' do not.
    (je, te), zero = both(np.array([0.1, 1.0, 10.0])), (jnp.zeros(()), torch.zeros(()))
    for name in ("MSE", "MAE", "Huber"):
        cost, tcost, _, _ = costs[name]
        pull = jax.vmap(jax.grad(lambda e, c=cost: c(e, zero[0])))(je)
        tpull = torch.func.vmap(torch.func.grad(lambda e, c=tcost: c(e, zero[1])))(te)
        same(f"pull of {name}", pull, tpull)
        same.holds(f"pull of {name} at 10", tpull[2] == (20 if name == "MSE" else 1))

    if (axes := same.axes(2, 2, height=3.4)) is not None:
        for axis, (name, (ours, theirs)) in zip(axes.flat, found.items(), strict=True):
            for each, style in ((ours, {"linewidths": 4, "alpha": 0.35}), (theirs, {})):
                heights = np.asarray(each).reshape(81, 71)
                levels = np.quantile(heights, np.linspace(0.02, 0.9, 10))
                lines = {"linewidths": 1, "linestyles": "--"} | style
                axis.contour(slopes, shifts, heights, levels=levels, **lines)
            axis.plot(*lowest[name], "r*", ms=12, label="lowest")
            if name != "cross-entropy":
                axis.plot(*clean, "k+", ms=12, label="without wrong targets")
            axis.set(title=name, xlabel="slope a", ylabel="intercept b")
            axis.legend(fontsize=8)

# %% [intuition] Understanding the intuition behind gradient descent
with lesson("intuition") as same:
    f = quadratic((1, 8))
    start = np.array([4.0, 1.0])
    (jp, tp), by = both(start), surface(f)
    slope = jax.grad(by[0])(jp, 0)
    tslope = torch.func.grad(by[1])(tp, 0)
    same("gradient", slope, tslope)
    # Of all directions of length 1, the gradient's rises most, and across it nothing rises: it is
    # orthogonal to the line of equal height.
    angles = np.linspace(0, 2 * np.pi, 361)
    jd, td = both(np.stack([np.cos(angles), np.sin(angles)], 1))
    rises, trises = jd @ slope, td @ tslope
    same("rise in each direction", rises, trises)
    steepest = td[trises.argmax()] @ tslope / tslope.norm()
    same.holds("the steepest is the gradient", steepest > 0.9999)

    # How far? Along -g the cost is c(s) = f - s |g|^2 + s^2/2 g.H g: it falls until s = 1 / c and
    # is back where it was at s = 2 / c, with c = g.H g / g.g the curvature in that direction.
    curvature = slope @ jax.hessian(by[0])(jp, 0) @ slope / (slope @ slope)
    tcurvature = tslope @ torch.func.hessian(by[1])(tp, 0) @ tslope / (tslope @ tslope)
    same("curvature along the gradient", curvature, tcurvature)
    js, ts = both(np.linspace(0, 2.4, 49) / tcurvature.item())
    along = jax.vmap(lambda s: by[0](jp - s * slope, 0))(js)
    talong = torch.func.vmap(lambda s: by[1](tp - s * tslope, 0))(ts)
    same("cost along the gradient", along, talong)
    same.holds("lowest at one over the curvature", talong.argmin() == 20)
    same("back at two over it", along[40], by[1](tp, 0))

    # With that step each time, every gradient is orthogonal to the next: the path zigzags.
    def exactly(p, curvatures, steps):
        path, gradients = [p], []
        for _ in range(steps):
            g = curvatures * p
            p = p - (g @ g) / (g @ (curvatures * g)) * g
            path, gradients = [*path, p], [*gradients, g]
        return path, gradients

    (ja, ta), steps = both(np.array([1.0, 8.0])), 12
    (ours, _), (theirs, gradients) = exactly(jp, ja, steps), exactly(tp, ta, steps)
    same("exact steps", ours, theirs)
    same.holds("each turns by a right angle", abs(gradients[0] @ gradients[1]) < 1e-12)
    paths = {"the best step each time": (jnp.stack(ours), torch.stack(theirs))}
    for name, lr in (("small steps", 0.03), ("large steps", 0.23)):
        paths[name] = descend(by, start, SGD, 40, lr=lr)
        same(name, *paths[name])
    if (axes := same.axes(2, 1, height=3.6)) is not None:
        contours(axes[0], f, (-1, 4.5), (-1.5, 1.5), "three paths downhill")
        for i, (name, (ours, theirs)) in enumerate(paths.items()):
            overlay(axes[0], ours.T, theirs.T, f"C{i}", name)
        axes[0].legend()
        overlay(axes[1], (js, along), (ts, talong), "C0", "cost along the first gradient")
        tangent = by[1](tp, 0) - ts * (tslope @ tslope)
        axes[1].plot(ts, tangent, "k:", label="what the gradient promises")
        for k in (1, 2):
            axes[1].axvline(k / tcurvature, color=f"C{k}", lw=1, label=f"{k} / curvature")
        axes[1].set(xlabel="step s", ylabel="cost", ylim=(0, 19))
        axes[1].set_title("a step against the curvature")
        axes[1].legend()

# %% [types] Types of gradient descent
# The gradient of all examples is exact and costs them all; that of a few is right on average, with
# noise that falls as 1 / sqrt(B), and B times cheaper than B single ones only in hardware.
with lesson("types") as same:
    x, labels = digits(same.rng)
    functions, n = softmax_regression(x, labels), len(x)
    start = same.rng.standard_normal((65, 10)) / 100
    jw, tw = both(start)
    slope, tslope = jax.jit(jax.grad(functions[0])), torch.func.grad(functions[1])
    exact, texact = slope(jw, np.arange(n)), tslope(tw, torch.arange(n))
    same("exact gradient", exact, texact)
    sizes, noise = (1, 4, 16, 64, 256), []
    for size in sizes:
        index = same.rng.integers(n, size=(200, size))
        each = jax.jit(jax.vmap(slope, (None, 0)))(jw, to_jax(index))
        teach = torch.func.vmap(tslope, (None, 0))(tw, to_torch(index))
        same(f"gradients of {size}", each, teach)
        pairs = (each, exact), (teach, texact)
        spread = [((g - mean) ** 2).sum((1, 2)).mean() ** 0.5 for g, mean in pairs]
        same(f"noise of {size}", *spread)
        noise.append([float(s) for s in spread])
    power = np.polyfit(np.log(sizes), np.log(np.array(noise)[:, 1]), 1)[0]
    same.holds("the noise falls with the square root", abs(power + 0.5) < 0.05)

    runs, final = {}, {}
    for name, size, lr, passes in (
        ("batch", n, 0.5, 5),
        ("mini-batch of 32", 32, 0.5, 5),
        ("stochastic", 1, 0.05, 5),
    ):
        order = epochs(same.rng, n, size)
        batches = np.stack([next(order) for _ in range(passes * (n // size))])
        ours, theirs = descend(functions, start, SGD, batches, lr=lr)
        same(f"weights by {name}", ours[-1], theirs[-1])
        every = max(1, len(batches) // 100)
        cost = jax.jit(jax.vmap(lambda w: functions[0](w, np.arange(n))))(ours[::every])
        tcost = torch.stack([functions[1](w, torch.arange(n)) for w in theirs[::every]])
        same(f"costs by {name}", cost, tcost)
        runs[name] = np.arange(len(ours))[::every] * size / n, cost, tcost
        final[name] = tcost[-1].item()
        tail = tcost[-20:].diff().abs().mean()
        print(f"{name}: {len(batches)} steps, cost {final[name]:.3f}, moving by {tail:.4f}")
    same.holds("five exact steps are far behind", final["batch"] > 3 * final["mini-batch of 32"])
    rough = {name: (tcost[-20:].diff() > 0).sum() for name, (_, _, tcost) in runs.items()}
    same.holds("the exact one never rises", rough["batch"] == 0)
    same.holds("the stochastic one does", rough["stochastic"] > 3)
    if (axes := same.axes(1, 2, height=4)) is not None:
        for i, (name, (passes, cost, tcost)) in enumerate(runs.items()):
            twice(axes[0], passes, (cost, tcost), f"C{i}", name)
        axes[0].set(xlabel="passes over the data", ylabel="cost", yscale="log", title="digits")
        axes[0].legend(loc="center right", bbox_to_anchor=(1, 0.72))
        ours, theirs = np.array(noise).T
        twice(axes[1], sizes, (ours, theirs), "C0", "measured")
        axes[1].plot(sizes, ours[0] / np.sqrt(sizes), "k:", label="1 / sqrt(B)")
        axes[1].set(xlabel="examples B", ylabel="noise of the gradient")
        axes[1].set(xscale="log", yscale="log", title="and the price of exactness is B")
        axes[1].legend()

# %% [learning_rate] Learning rate
with lesson("learning_rate") as same:
    # Linear regression on the patients: the Hessian is 2/n X^T X everywhere, L its largest
    # eigenvalue. Along that eigenvector a step multiplies the error by 1 - lr L.
    x, y = patients()
    (jx, tx), (jy, ty) = both((x - x.mean(0)) / x.std(0)), both(y)
    functions = (
        lambda w, _: jax_losses.mse(jx @ w, jy),
        lambda w, _: losses.mse(tx @ w, ty),
    )
    values, vectors = jnp.linalg.eigh(2 / len(y) * jx.T @ jx)
    tvalues, tvectors = torch.linalg.eigh(2 / len(y) * tx.T @ tx)
    same("the Hessian's eigenvalues", values, tvalues)
    edge, best = 2 / tvalues[-1].item(), torch.linalg.lstsq(tx, ty[:, None]).solution[:, 0]
    start, lowest, curves = same.rng.standard_normal(10), functions[1](best, 0), {}
    print(f"L = {tvalues[-1]:.2f}: stable below {edge:.3f}")
    for name, part in {
        "too small": 0.02,
        "good": 0.9,
        "below the edge": 0.99,
        "beyond it": 1.01,
    }.items():
        ours, theirs = descend(functions, start, SGD, 300, lr=part * edge)
        same(f"a path, {name}", ours, theirs)
        along = (theirs - best) @ tvectors[:, -1]
        factor = torch.tensor(1 - 2 * part)
        same(f"error along the steepest, {name}", (along[1] / along[0]).item(), factor, 1e-8)
        curves[name] = [
            np.array([float(f(w, 0)) for w in path]) - lowest.item()
            for f, path in ((jax.jit(functions[0]), ours), (functions[1], theirs))
        ]
    end = {name: theirs[-1] / theirs[0] for name, (_, theirs) in curves.items()}
    same.holds("a small rate is slow", end["too small"] > 2 * end["good"])
    same.holds("stable below 2 / L", end["below the edge"] < 0.1)
    same.holds("not beyond", end["beyond it"] > 10 and end["beyond it"] > end["good"])

    # Where L is not known (and changes, as in a network) the rate is tried: it grows from step to
    # step, and the one at which the cost falls most steeply is a good one to start with.
    x, labels = digits(same.rng)
    order = epochs(same.rng, len(x), 200)
    batches = [((x[i, :64],), (labels[i],)) for i in (next(order) for _ in range(80))]
    weights = [same.rng.standard_normal(s) * (2 / s[0]) ** 0.5 for s in ((64, 32), (32, 10))]
    dense = {
        str(2 * i): {"kernel": to_jax(w), "bias": jnp.zeros(w.shape[1])}
        for i, w in enumerate(weights)
    }
    network, model = JaxMLP(64, (32,), 10), MLP(64, (32,), 10)
    state = TrainState.create(
        apply_fn=network.apply, params={"layers": dense}, tx=jax_optimizers.sgd(lr=1.0)
    )
    for name, parameter in model.named_parameters():
        w = weights[int(name.split(".")[1]) // 2].T
        parameter.data = to_torch(w if name.endswith("weight") else np.zeros(len(w)))
    jbatches = jax.tree.map(to_jax, batches)
    tbatches = [((to_torch(x),), (to_torch(t),)) for (x,), (t,) in batches]
    found = jax_loops.lr_range_test(state, jbatches, jax_losses.cross_entropy, 1e-4, 10.0)
    optimizer = optimizers.sgd(model.parameters(), lr=1.0)
    tfound = loops.lr_range_test(model, optimizer, tbatches, losses.cross_entropy, 1e-4, 10.0)
    same("rates and losses", found, tfound)
    # One batch is noisy: the mean of nine neighbours is looked at, as far as it falls.
    mean = np.ones(9) / 9
    smooth = [np.convolve(np.asarray(each), mean, "valid") for each in (found[1], tfound[1])]
    smooth = [each[: each.argmin() + 1] for each in smooth]
    rates = tfound[0][4 : 4 + len(smooth[1])]
    suggested = jax_loops.suggest_lr(found[0][4 : 4 + len(smooth[0])], to_jax(smooth[0]))
    tsuggested = loops.suggest_lr(rates, to_torch(smooth[1]))
    same("suggested rate", suggested, tsuggested)
    print(f"the finder suggests {tsuggested:.2f}")
    same.holds("of a sensible size", 0.02 < tsuggested < 2)
    if (axes := same.axes(1, 2, height=4)) is not None:
        for i, (name, (ours, theirs)) in enumerate(curves.items()):
            steps = range(len(ours))
            twice(axes[0], steps, (ours, theirs), f"C{i}", name)
        axes[0].set(yscale="log", xlabel="step", ylabel="cost above the lowest")
        axes[0].set_title(f"patients: the edge is 2 / L = {edge:.2f}")
        axes[0].legend()
        overlay(axes[1], found, tfound, "C0", "one batch each")
        axes[1].plot(rates, smooth[1], "k", lw=1, label="mean of nine")
        axes[1].axvline(tsuggested.item(), color="C1", label=f"suggested: {tsuggested:.2f}")
        axes[1].set(xscale="log", xlabel="learning rate", ylabel="cost", title="finder, digits")
        axes[1].legend()

# %% [momentum] Gradient descent with momentum
# A buffer b of gradients: what they agree on adds up, what alternates cancels.
#   torch     b <- mu b + (1 - dampening) g,   p <- p - lr b      (Nesterov: p <- p - lr (g + mu b))
#   textbook  v <- mu v - lr g,                p <- p + v
with lesson("momentum") as same:
    k = 100
    f = surface(quadratic((1, k)))
    start, steps = np.array([4.0, 1.0]), 500
    # The best pair for a quadratic (Polyak): the error shrinks by (sqrt k - 1) / (sqrt k + 1).
    lr, mu = 4 / (k**0.5 + 1) ** 2, ((k**0.5 - 1) / (k**0.5 + 1)) ** 2
    runs = {
        "plain": {"lr": 2 / (1 + k)},
        "heavy ball": {"lr": lr, "momentum": mu},
        "Nesterov": {"lr": 1 / k, "momentum": (k**0.5 - 1) / (k**0.5 + 1), "nesterov": True},
        "dampened": {"lr": 1 / k, "momentum": 0.9, "dampening": 0.5},
    }
    paths = {name: descend(f, start, SGD, steps, **options) for name, options in runs.items()}
    for name, (ours, theirs) in paths.items():
        same(name, ours, theirs)
    far = {name: theirs.norm(dim=1) for name, (_, theirs) in paths.items()}
    needed = {name: int((each > 1e-3).sum()) for name, each in far.items()}
    print("steps to a thousandth:", needed)
    same.holds("the root of the condition counts", needed["heavy ball"] < needed["plain"] / 4)
    same.holds("Nesterov's, too", needed["Nesterov"] < needed["plain"] / 2)

    # At one and the same rate momentum goes further: by 1 / (1 - mu) where gradients agree.
    at_one_rate = {}
    for name, options in runs.items():
        options = options | {"lr": 0.5 / k} | ({"momentum": 0.8} if "momentum" in options else {})
        at_one_rate[name] = descend(f, start, SGD, 40, **options)
        same(f"{name} at half of 1 / L", *at_one_rate[name])
    along = {name: theirs[-1, 0].item() for name, (_, theirs) in at_one_rate.items()}
    same.holds("momentum goes further", along["heavy ball"] < along["dampened"] < along["plain"])

    # By hand, from both formulas: equal while the rate is constant ...
    def by_hand(rates, mu, textbook, nesterov=False, dampening=0.0):
        p, b, slope = to_torch(start), None, torch.tensor([1.0, k])
        path = [p]
        for rate in rates:
            g = slope * p
            if textbook:
                b = -rate * g if b is None else mu * b - rate * g
                p = p + b
            else:
                b = g if b is None else mu * b + (1 - dampening) * g  # the first is not dampened
                p = p - rate * (g + mu * b if nesterov else b)
            path.append(p)
        return torch.stack(path)

    constant = [lr] * steps
    same("torch's formula", paths["heavy ball"][0], by_hand(constant, mu, False))
    same("the textbook's", paths["heavy ball"][0], by_hand(constant, mu, True))
    same("Nesterov's", paths["Nesterov"][0], by_hand([1 / k] * steps, 9 / 11, False, True))
    same("dampened", paths["dampened"][0], by_hand([1 / k] * steps, 0.9, False, dampening=0.5))
    # ... and not when it changes: in the textbook's the old rate lives on in the buffer.
    falling = [lr / (1 + t / 10) for t in range(steps)]
    apart = (by_hand(falling, mu, False) - by_hand(falling, mu, True)).abs().max()
    same.holds("a falling rate tells them apart", apart > 0.01)
    table = to_jax(np.array(falling))
    pair = (lambda lr, momentum: optax.sgd(lambda count: table[count], momentum)), SGD[1]
    scheduled = descend(f, start, pair, steps, lr=lr, momentum=mu)[0]
    same("optax with a schedule is torch's formula", scheduled, by_hand(falling, mu, False))

    # optax's own pieces: sgd is torch's; of dampening it has only ema, whose first is dampened too.
    for name in ("heavy ball", "Nesterov"):
        options = runs[name]
        pair = (lambda lr, momentum, nesterov=False: optax.sgd(lr, momentum, nesterov)), SGD[1]
        same(f"optax.sgd, {name}", descend(f, start, pair, steps, **options)[0], paths[name][1])

    def by_ema(lr, momentum, dampening):
        return optax.chain(optax.ema(momentum, debias=False), optax.scale(-lr))

    options = {"lr": 1 / k, "momentum": 0.9, "dampening": 0.9}
    ours, theirs = descend(f, start, (by_ema, SGD[1]), 1, **options)
    first = (ours[1] - ours[0]) / (theirs[1] - theirs[0]).numpy()
    same("optax.ema's first step is a tenth of torch's", first, torch.full((2,), 0.1))
    if (axes := same.axes(2, 1, height=3.6)) is not None:
        contours(axes[0], quadratic((1, k)), (-2, 4.5), (-1.5, 1.5), "40 steps at half of 1 / L")
        for i, (name, (ours, theirs)) in enumerate(at_one_rate.items()):
            overlay(axes[0], ours.T, theirs.T, f"C{i}", name)
            ours = jnp.linalg.norm(paths[name][0], axis=1)
            twice(axes[1], range(steps + 1), (ours, far[name]), f"C{i}", name)
        axes[1].set(yscale="log", xlabel="step", ylabel="distance to minimum", ylim=(1e-12, 20))
        axes[1].legend()

# %% [adaptive] Adaptive learning rate methods
# A rate of its own for every weight: the gradient divided by the root of an average of its squares.
with lesson("adaptive") as same:

    def average(state, name, value, decay):
        state[name] = decay * state.get(name, 0) + (1 - decay) * value
        return state[name]

    # Each: the step from the gradient g, what is kept in s, the step's number t and the weight p,
    # with torch's defaults; to be multiplied by -lr. m and v are the averages of g and of g^2.
    def adagrad(g, s, t, p):
        s["v"] = s.get("v", 0) + g**2
        return g / (s["v"].sqrt() + 1e-10)

    def adadelta(g, s, t, p):
        step = ((s.get("u", 0 * g) + 1e-6) / (average(s, "v", g**2, 0.9) + 1e-6)).sqrt() * g
        average(s, "u", step**2, 0.9)
        return step

    def rmsprop(g, s, t, p):
        return g / (average(s, "v", g**2, 0.99).sqrt() + 1e-8)

    def adam(g, s, t, p):
        m, v = average(s, "m", g, 0.9), average(s, "v", g**2, 0.999)
        return m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)

    def adamw(g, s, t, p):
        return adam(g, s, t, p) + 0.01 * p  # the decay is not divided by anything

    def nadam(g, s, t, p):
        mu, later = (0.9 * (1 - 0.5 * 0.96 ** (i * 0.004)) for i in (t, t + 1))
        s["mu"] = s.get("mu", 1) * mu
        m, v = average(s, "m", g, 0.9), average(s, "v", g**2, 0.999)
        ahead = (1 - mu) * g / (1 - s["mu"]) + later * m / (1 - s["mu"] * later)
        return ahead / ((v / (1 - 0.999**t)).sqrt() + 1e-8)

    def radam(g, s, t, p):
        m, v = average(s, "m", g, 0.9) / (1 - 0.9**t), average(s, "v", g**2, 0.999)
        end = 2 / (1 - 0.999) - 1
        r = end - 2 * t * 0.999**t / (1 - 0.999**t)
        if r <= 5:  # too few squares yet for their average to be trusted
            return m
        rectified = ((r - 4) * (r - 2) * end / ((end - 4) * (end - 2) * r)) ** 0.5
        return m * rectified * (1 - 0.999**t) ** 0.5 / (v.sqrt() + 1e-8)

    homes = {adagrad: "adaptive", adadelta: "adaptive", rmsprop: "adaptive"}
    homes |= {adam: "optimizers", adamw: "optimizers", nadam: "moments", radam: "moments"}
    rooms = {
        "adaptive": (jax_adaptive, adaptive),
        "optimizers": (jax_optimizers, optimizers),
        "moments": (jax_moments, moments),
    }

    def valley(p, np):
        """A bent one: steep across, flat along."""
        return (p[0] - 2) ** 2 / 20 + 5 * (p[1] - p[0] ** 2 / 4) ** 2

    x, labels = digits(same.rng)
    on_digits = softmax_regression(x, labels)
    order = epochs(same.rng, len(x), 64)
    batches = np.stack([next(order) for _ in range(200)])
    start, paths, curves = np.array([-2.5, 1.0]), {}, {}
    slope = torch.func.grad(lambda p: valley(p, torch))
    everything = np.arange(len(x))
    cost = jax.jit(jax.vmap(lambda w: on_digits[0](w, everything)))
    for rule, home in homes.items():
        name = rule.__name__
        makers = tuple(getattr(module, name) for module in rooms[home])
        lr = {"adagrad": 0.5, "adadelta": 20.0}.get(name, 0.1)
        paths[name] = descend(surface(valley), start, makers, 100, lr=lr)
        same(f"{name} in a valley", *paths[name])
        p, kept, path = to_torch(start), {}, [to_torch(start)]
        for t in range(1, 101):
            p = p - lr * rule(slope(p), kept, t, p)
            path.append(p)
        same(f"{name} by its formula", paths[name][0], torch.stack(path))
        lr = {"adagrad": 0.2, "adadelta": 5.0, "radam": 0.1}.get(name, 0.02)
        ours, theirs = descend(on_digits, np.zeros((65, 10)), makers, batches, lr=lr)
        same(f"{name} on digits", ours[-1], theirs[-1])
        tcost = torch.stack([on_digits[1](w, torch.from_numpy(everything)) for w in theirs[::4]])
        curves[name] = cost(ours[::4]), tcost
        same(f"{name}, costs", *curves[name])
        print(f"{name}: cost {tcost[-1]:.3f} on digits after 200 steps")
        same.holds(f"{name} learns", tcost[-1] < 0.3)

    # Where eps stands. torch adds it to the root; optax.rmsprop puts it under the root unless told,
    # where 1e-8 acts like 1e-4: gradients below that hardly move anything.
    sizes = 10.0 ** np.arange(-10.0, 1)
    line = (lambda p, _: p @ to_jax(sizes)), (lambda p, _: p @ to_torch(sizes))

    def first_step(make):
        ours, theirs = descend(
            line, np.zeros(len(sizes)), (make, adaptive.rmsprop), 1, lr=1.0, alpha=0.9
        )
        return -ours[1], -theirs[1]

    beside, by_torch = first_step(lambda lr, alpha: optax.rmsprop(lr, alpha, eps_in_sqrt=False))
    under, _ = first_step(lambda lr, alpha: optax.rmsprop(lr, alpha))
    same("beside it, optax's is torch's", beside, by_torch)
    ratio = beside / under
    same.holds("of a gradient of 1e-6 the step is 300 times as long", 250 < ratio[4] < 350)
    same.holds("of a gradient of 1 the same", abs(ratio[-1] - 1) < 1e-6)
    if (axes := same.axes(2, 2, height=3.6)) is not None:
        contours(axes[0, 0], valley, (-2.8, 0.4), (-0.4, 2.2), "a valley, 100 steps")
        for i, name in enumerate(paths):
            ours, theirs = paths[name]
            overlay(axes[0, 0], ours.T, theirs.T, f"C{i}", name)
            height = [np.array([float(valley(p, np)) for p in each]) for each in paths[name]]
            twice(axes[0, 1], range(101), height, f"C{i}", name)
            steps = range(0, 201, 4)
            twice(axes[1, 0], steps, curves[name], f"C{i}", name)
        axes[0, 1].set(yscale="log", xlabel="step", ylabel="height", title="in the valley")
        axes[1, 0].set(yscale="log", xlabel="step", ylabel="cost", title="digits")
        axes[1, 0].legend(fontsize=8, ncols=2)
        for name, ours in (("beside", beside), ("under", under)):
            axes[1, 1].loglog(sizes, ours, lw=5, alpha=0.35, label=f"optax: eps {name} the root")
        axes[1, 1].loglog(sizes, by_torch, "k--", label="torch")
        axes[1, 1].set(xlabel="gradient", ylabel="first step", title="RMSprop's eps")
        axes[1, 1].legend(fontsize=8)
