"""Feedforward networks in JAX and in PyTorch: backpropagation, descent, overfitting, tuning, reuse.

Run it as a program (`python examples/neural_networks/feedforward.py --out figures`), or cell by
cell in an editor that knows `# %%`. In all figures broad lines are JAX's and dashed ones PyTorch's.
`--full` trains longer: about 30 s on two cores.
"""

# %% Set-up
from copy import deepcopy
from functools import cache, partial
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optuna
import torch
from torch.utils.flop_counter import FlopCounterMode

from compare.data.batches import epochs, shuffled
from compare.data.digits import split_digits
from compare.share import to_jax
from compare.study.figures import picture, twice
from compare.study.lessons import both, lesson
from compare.study.networks import Networks
from compare.study.scripts import script
from jaxnn.cnn.lenet import LeNet as JaxLeNet
from jaxnn.foundations.mlp import MLP as JaxMLP
from jaxnn.layers.dropout import dropout as jax_dropout
from jaxnn.training.loops import EarlyStopping as JaxEarlyStopping
from jaxnn.training.losses import cross_entropy as jax_cross_entropy
from jaxnn.training.optimizers import sgd as jax_sgd
from jaxnn.training.regularisers import l1_penalty as jax_l1_penalty
from jaxnn.training.regularisers import l2_penalty as jax_l2_penalty
from torchref.cnn.lenet import LeNet
from torchref.foundations.mlp import MLP
from torchref.layers.dropout import dropout
from torchref.training.loops import EarlyStopping
from torchref.training.losses import cross_entropy
from torchref.training.optimizers import sgd
from torchref.training.regularisers import l1_penalty, l2_penalty

script(__name__)

LOSSES = jax_cross_entropy, cross_entropy


def batched(rng, x, labels, size, steps):
    """So many batches."""
    return [*islice(shuffled(rng, (x,), (labels,), size), steps)]


def rules(**options):
    """SGD for each framework."""
    return jax_sgd(**options), lambda parameters: sgd(parameters, **options)


# %% [backpropagation] Backpropagation
# z_l = W_l h_(l-1) + b_l, h_l = relu(z_l), L = mean cross-entropy of softmax(z_last). Backwards,
# with delta_l = dL/dz_l and a row for each example:
#   delta_last = (p - t) / N,  dL/dW_l = delta_l^T h_(l-1),  dL/db_l = sum of delta_l's rows,
#   delta_(l-1) = (delta_l W_l) [h_(l-1) > 0]
with lesson("backpropagation") as same:
    x, labels, *_ = split_digits(same.rng, flat=True)
    x, labels = x[:40], labels[:40]
    nets = Networks(JaxMLP, MLP, same.rng, x, in_features=64, hidden=(32, 16), out_features=10)
    (jx, tx), (jy, ty), (jt, tt) = both(x), both(labels), both(np.eye(10)[labels])

    def forward(np, layers, x):
        """What each layer was given, and the probabilities."""
        given, z = [], x
        for place, (weight, bias) in enumerate(layers):
            given.append(np.where(z > 0, z, 0) if place else x)
            z = given[-1] @ weight.T + bias
        e = np.exp(z - z.max())
        return given, e / e.sum(1)[:, None]

    def backward(np, layers, x, targets):
        """The gradients to x, and to W and b of each layer: the same lines for both frameworks."""
        given, p = forward(np, layers, x)
        delta, grads = (p - targets) / len(x), []
        for (weight, _), h in zip(layers[::-1], given[::-1], strict=True):
            grads.append((delta.T @ h, delta.sum(0)))
            delta = (delta @ weight) * (h > 0) if h is not x else delta @ weight
        return delta, grads[::-1]

    def cost(variables, x):
        return jax_cross_entropy(nets.jax.apply(variables, x), jy)

    dense = nets.variables["params"]["layers"]
    layers = [(dense[name]["kernel"].T, dense[name]["bias"]) for name in ("0", "2", "4")]
    tlayers = [(linear.weight.detach(), linear.bias.detach()) for linear in nets.torch.layers[::2]]
    hand, thand = backward(jnp, layers, jx, jt), backward(torch, tlayers, tx, tt)
    same("by hand", hand, thand)
    auto, slope = jax.jit(jax.grad(cost, argnums=(0, 1)))(nets.variables, jx)
    auto = auto["params"]["layers"]
    grads = [(auto[name]["kernel"].T, auto[name]["bias"]) for name in ("0", "2", "4")]
    same("jax.grad and by hand", (slope, grads), thand)
    cross_entropy(nets.torch(tx.requires_grad_()), ty).backward()
    tgrads = [(linear.weight.grad, linear.bias.grad) for linear in nets.torch.layers[::2]]
    same("by hand and autograd", hand, (tx.grad, tgrads))

    # A difference quotient along a direction agrees as far as it can: over a large h relus switch
    # on the way, and over a small one rounding is divided by h.
    away, taway = both(same.rng.standard_normal(x.shape))
    f, widths = jax.jit(partial(cost, nets.variables)), 10.0 ** np.arange(-1, -12, -1)
    quotients, tquotients = [], []
    for h in widths:
        quotients.append((f(jx + h * away) - f(jx - h * away)) / (2 * h))
        with torch.no_grad():
            ends = (cross_entropy(nets.torch(tx + s * h * taway), ty) for s in (1, -1))
            tquotients.append((next(ends) - next(ends)) / (2 * h))
    wanted, twanted = (slope * away).sum(), (thand[0] * taway).sum()
    errors = [abs(float(q / wanted) - 1) for q in quotients]
    terrors = [abs(float(q / twanted) - 1) for q in tquotients]
    same.holds("the quotient agrees", max(min(errors), min(terrors)) < 1e-6)

    if (axes := same.axes(1, 3, height=3.0)) is not None:
        twice(axes[0], widths, (errors, terrors), "C0", None)
        axes[0].set(xscale="log", yscale="log", xlabel="h", title="error of the quotient")
        picture(axes[1], x[0].reshape(8, 8), f"a {labels[0]}")
        size = float(thand[0][0].abs().max())
        image = thand[0][0].reshape(8, 8)
        picture(axes[2], image, "its gradient, by hand", cmap="coolwarm", vmin=-size, vmax=size)

# %% [gradient_descent] Gradient Descent
# The same network from the same weights on all examples a step, on 50 and on one. A step on a batch
# follows the gradient of its own examples, which is the whole gradient and noise.
with lesson("gradient_descent") as same:
    x, labels, x_out, labels_out = split_digits(same.rng, flat=True)
    seed, count = same.rng.integers(2**32), len(x)
    plans = {"batch": (count, 60, 0.5), "mini-batch": (50, 6, 0.1), "stochastic": (1, 3, 0.01)}
    sizes, paths, spent = {"in_features": 64, "hidden": (32,), "out_features": 10}, {}, {}
    for name, (size, rounds, lr) in plans.items():
        nets = Networks(JaxMLP, MLP, np.random.default_rng(seed), x[:2], **sizes)
        each, rule = count // size, rules(lr=lr)
        batches, costs = batched(same.rng, x, labels, size, rounds * each), []
        right = [nets.accuracy(x_out, labels_out)]
        for step, pair in enumerate(nets.train(batches, LOSSES, rule), 1):
            costs.append(pair)
            if step % each == 0:
                same(f"{name}: weights after {step} steps", *nets.state())
                right.append(nets.accuracy(x_out, labels_out))
        same(f"{name}: losses", *np.array(costs).T)
        same(f"{name}: accuracies", *np.array(right).T)
        paths[name], spent[name] = np.array(right).T, each * np.arange(rounds + 1)
        print(f"{name}: {right[-1][1]:.3f} after {rounds * each} steps, {rounds} epochs")
        same.holds(f"{name} arrives", right[-1][1] > 0.9)
    batch, several, single = (each[1] for each in paths.values())
    same.holds("one start", batch[0] == several[0] == single[0])
    same.holds("of one epoch, more steps make more", batch[1] < several[1] < single[1])

    if (axes := same.axes(1, 2, height=3.6)) is not None:
        for color, (name, pair) in zip(("C0", "C1", "C2"), paths.items(), strict=True):
            label = f"{name} of {plans[name][0]}"
            twice(axes[0], range(len(pair[0])), pair, color, label)
            twice(axes[1], spent[name], pair, color, label)
        axes[0].set(xlabel="epochs", ylabel="accuracy, held out", xscale="symlog")
        axes[1].set(xlabel="steps", xscale="symlog")
        axes[1].legend(fontsize=8)

# %% [regularization] Overfitting and Regularization
# 256 units and 400 digits, three of ten with a wrong label: the network learns them all by heart.
# Against it: a price on the weights, units that come and go, and to stop in time.
with lesson("regularization") as same:
    x, labels, x_out, labels_out = split_digits(same.rng, share=1397 / 1797, flat=True)
    wrong = same.rng.choice(400, 120, replace=False)
    labels[wrong] = (labels[wrong] + same.rng.integers(1, 10, 120)) % 10
    # 500 of the digits that are held out are for validation, the others for the test.
    (jx, tx), (jy, ty), (jout, tout) = map(both, (x, labels, x_out))
    jvalid, tvalid = both(labels_out[:500])
    rule, stream = rules(lr=0.05, momentum=0.9), epochs(same.rng, 400, 50)
    nets = Networks(JaxMLP, MLP, same.rng, x[:2], in_features=64, hidden=(256,), out_features=10)
    rounds = [np.stack([next(stream) for _ in range(8)]) for _ in range(60)]
    masks = [same.rng.random((8, 50, 256)) > 0.7 for _ in rounds]

    @partial(jax.jit, static_argnames="p")
    def epoch(params, state, batches, masks, l1, l2, p):
        """Parameters and state after eight batches, the validation loss, and all scores."""

        def cost(params, index, mask):
            first, last = (params["layers"][name] for name in ("0", "2"))
            h = jax.nn.relu(jx[index] @ first["kernel"] + first["bias"])
            z = jax_dropout(h, mask, p) @ last["kernel"] + last["bias"]
            price = jax_l1_penalty(params, l1) + jax_l2_penalty(params, l2)
            return jax_cross_entropy(z, jy[index]) + price

        def step(carry, given):
            params, state = carry
            updates, state = rule[0].update(jax.grad(cost)(params, *given), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, state), _ = jax.lax.scan(step, (params, state), (batches, masks))
        z, z_out = (nets.jax.apply({"params": params}, each) for each in (jx, jout))
        return params, state, jax_cross_entropy(z_out[:500], jvalid), z, z_out

    def tepoch(model, optimizer, batches, masks, l1, l2, p):
        for index, mask in zip(*map(torch.from_numpy, (batches, masks)), strict=True):
            optimizer.zero_grad()
            z = model.layers[2](dropout(model.layers[:2](tx[index]), mask, p))
            price = l1_penalty(model.parameters(), l1) + l2_penalty(model.parameters(), l2)
            (cross_entropy(z, ty[index]) + price).backward()
            optimizer.step()
        with torch.no_grad():
            z, z_out = model(tx), model(tout)
        return cross_entropy(z_out[:500], tvalid), z, z_out

    def right(z, z_out):
        """The shares of the training set, validation set and test set."""
        hits = [np.asarray(each).argmax(1) == y for each, y in ((z, labels), (z_out, labels_out))]
        return hits[0].mean(), hits[1][:500].mean(), hits[1][500:].mean()

    plans = {"nothing": (0, 0, 0), "L1": (4e-3, 0, 0), "L2": (0, 3e-2, 0), "dropout": (0, 0, 0.7)}
    found, end = {}, {}
    for name, (l1, l2, p) in plans.items():
        params, model = nets.variables["params"], deepcopy(nets.torch)
        state, optimizer = rule[0].init(params), rule[1](model.parameters())
        stopping, tstopping, series = JaxEarlyStopping(8), EarlyStopping(8), []
        best, over = stopping.init(params), False
        for batches, kept in zip(rounds, masks, strict=True):
            given = batches, kept if p else np.ones_like(kept)
            params, state, *seen = epoch(
                params, state, *map(to_jax, given), 1.0 * l1, 1.0 * l2, p=p
            )
            tseen = tepoch(model, optimizer, *given, l1, l2, p)
            same(f"{name}: validation loss and scores", seen, tseen)
            series.append((right(*seen[1:]), right(*tseen[1:])))
            if name == "nothing" and not over:
                best = stopping.update(best, seen[0], params)
                over = tstopping.update(float(tseen[0]), model)
                same("to stop", stopping.stop(best), over)
        found[name] = np.array(series).transpose(1, 2, 0)
        end[name] = found[name][1, :, -10:].mean(1)
        if name == "nothing":
            tstopping.restore(model)
            z, z_out = model(tx).detach(), model(tout).detach()
            same("early stopping: scores", nets.jax.apply({"params": best.params}, jout), z_out)
            end["early stopping"] = right(z, z_out)
    same.holds("learns the wrong labels, too", end["nothing"][0] > 0.99)
    for name, (_, _, test) in end.items():
        print(f"{name}: {test:.3f} of the test set")
        same.holds(f"{name} against nothing", name == "nothing" or test > end["nothing"][2] + 0.03)

    if (axes := same.axes(1, 2, height=3.6)) is not None:
        for color, (name, series) in zip(("C3", "C0", "C1", "C2"), found.items(), strict=True):
            for axis, place in zip(axes, (0, 1), strict=True):
                twice(axis, range(1, 61), series[:, place], color, name)
        axes[1].axhline(end["early stopping"][1], color="k", lw=1, ls=":", label="early stopping")
        axes[0].set(xlabel="epoch", title="training set, wrong labels and all", ylabel="accuracy")
        axes[1].set(xlabel="epoch", title="validation set")
        axes[1].legend(fontsize=8)

# %% [hyperparameter_tuning] Hyperparameter Tuning
# Optuna's sampler draws rate, depth and width where trials went well. Equal results make it draw
# equal trials: one study each, and they must not part.
with lesson("hyperparameter_tuning") as same:
    x, labels, x_out, labels_out = split_digits(same.rng, flat=True)
    (jx, tx), (jy, ty), valid = both(x), both(labels), slice(900, None)
    stream, seed = epochs(same.rng, 900, 50), int(same.rng.integers(2**32))
    visits = np.stack([next(stream) for _ in range(50)])

    @cache
    def start(depth, width):
        hidden, rng = (width,) * depth, np.random.default_rng(seed)
        return Networks(JaxMLP, MLP, rng, x[:2], in_features=64, hidden=hidden, out_features=10)

    @partial(jax.jit, static_argnums=0)
    def fit(model, variables, lr):
        def cost(variables, part):
            return jax_cross_entropy(model.apply(variables, jx[part]), jy[part])

        def step(variables, index):
            grads = jax.grad(cost)(variables, index)
            return jax.tree.map(lambda p, g: p - lr * g, variables, grads), None

        variables, _ = jax.lax.scan(step, variables, to_jax(visits))
        return cost(variables, valid)

    def tfit(model, lr):
        optimizer = sgd(model.parameters(), lr=lr)
        for index in torch.from_numpy(visits):
            optimizer.zero_grad()
            cross_entropy(model(tx[index]), ty[index]).backward()
            optimizer.step()
        with torch.no_grad():
            return cross_entropy(model(tx[valid]), ty[valid])

    def objective(trial, side):
        lr = trial.suggest_float("rate", 1e-3, 1.0, log=True)
        nets = start(trial.suggest_int("depth", 1, 3), trial.suggest_int("width", 8, 40, step=16))
        jax_side = side == "jax"
        loss = fit(nets.jax, nets.variables, lr) if jax_side else tfit(deepcopy(nets.torch), lr)
        trial.set_user_attr("loss", float(loss))
        return round(float(loss), 9)  # of losses that differ by rounding alone, the same trees

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tables, bests, weights = [], [], []
    for side in ("jax", "torch"):
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        study.optimize(partial(objective, side=side), n_trials=60 if same.full else 24)
        tables.append([[*t.params.values(), t.user_attrs["loss"]] for t in study.trials])
        bests.append(study.best_params)
        by_trees = optuna.importance.FanovaImportanceEvaluator(seed=0)
        weights.append(optuna.importance.get_param_importances(study, evaluator=by_trees))
    tables, best = np.array(tables), bests[1]
    same("trials and their losses", tables[0], tables[1])
    same("the best trial", bests[0], best)
    same("importances", weights[0], weights[1])
    print(f"best: {best}, loss {tables[1, :, -1].min():.3f}")
    of = weights[1]
    same.holds("the rate matters more than the width", of["rate"] > of["width"])
    nets = start(best["depth"], best["width"])
    batches = batched(same.rng, x, labels, 50, 200)
    costs = np.array([*nets.train(batches, LOSSES, rules(lr=best["rate"]))])
    same("the best, trained on", *costs.T)
    right = nets.accuracy(x_out, labels_out)
    same("the best: accuracy", *right)
    same.holds("19 of 20 held out", right[1] > 0.95)

    if (axes := same.axes(1, 2, height=3.6)) is not None:
        for table, color, size in zip(tables, ("C0", "C1"), (90, 15), strict=True):
            axes[0].scatter(table[:, 0], table[:, -1], size, color, alpha=0.35 if size > 50 else 1)
        axes[0].set(xscale="log", xlabel="learning rate", ylabel="validation loss")
        axes[0].set_title("trials (broad: JAX)")
        names = [*weights[1]]
        for each, height, alpha in zip(weights, (0.8, 0.4), (0.35, 1), strict=True):
            axes[1].barh(names, [each[name] for name in names], height, color="C0", alpha=alpha)
        axes[1].set(title="importance")

# %% [convolutional] Convolutional Neural Networks
# The same images for a network that sees 256 unrelated pixels, and for one that looks with the same
# few weights everywhere; both have about 21 000 parameters.
with lesson("convolutional") as same:
    images, labels, images_out, labels_out = split_digits(same.rng, size=16)
    x, x_out = (each.reshape(len(each), -1) for each in (images, images_out))
    sizes = {"in_features": 256, "hidden": (80,), "out_features": 10}
    mlp = Networks(JaxMLP, MLP, same.rng, x[:2], **sizes)
    lenet = Networks(JaxLeNet, LeNet, same.rng, images[:2], image_size=16)
    # Multiplications and additions for one image, by the formulas of their layers.
    convolutions = 6 * 25 * 16**2 + 16 * 150 * 4**2  # kernels, at every place
    linear = {"MLP": 256 * 80 + 80 * 10, "LeNet": 64 * 120 + 120 * 84 + 84 * 10}
    work = {"MLP": 2 * linear["MLP"], "LeNet": 2 * (convolutions + linear["LeNet"])}
    shifts, right, numbers = range(-3, 4), {}, {}
    for name, nets, given, out in (("MLP", mlp, x, x_out), ("LeNet", lenet, images, images_out)):
        leaves = jax.tree.leaves(nets.variables)
        numbers[name] = sum(p.numel() for p in nets.torch.parameters())
        same(f"{name}: parameters", sum(leaf.size for leaf in leaves), numbers[name])
        with FlopCounterMode(display=False) as counter:
            nets.torch(torch.from_numpy(given[:1]))
        same(f"{name}: FLOPs by torch", work[name], counter.get_total_flops())
        one = to_jax(np.moveaxis(given[:1], 1, -1) if given.ndim == 4 else given[:1])
        # XLA leaves out products with the padding, and counts biases, relus and pooling.
        xla: Any = jax.jit(nets.jax.apply).lower(nets.variables, one).cost_analysis()
        same.holds(f"{name}: FLOPs by XLA", abs(xla["flops"] / work[name] - 1) < 0.1)
        plan = batched(same.rng, given, labels, 50, 250)
        costs = np.array([*nets.train(plan, LOSSES, rules(lr=0.05, momentum=0.9))])
        same(f"{name}: losses", *costs.T)
        same(f"{name}: trained", *nets.state())
        # Moved by some pixels, over the edge to the other side.
        moved = [np.roll(images_out, shift, -1).reshape(out.shape) for shift in shifts]
        right[name] = np.array([nets.accuracy(each, labels_out) for each in moved]).T
        same(f"{name}: accuracies", *right[name])
        print(f"{name}: {numbers[name]} parameters, {work[name]} FLOPs, {right[name][1].round(2)}")
    same.holds("both 19 of 20 as they are", min(each[1][3] for each in right.values()) > 0.95)
    same.holds("LeNet bears moves better", right["LeNet"][1].sum() > right["MLP"][1].sum())

    if (axes := same.axes(1, 2, height=3.4)) is not None:
        for color, (name, pair) in zip(("C0", "C1"), right.items(), strict=True):
            twice(axes[0], shifts, pair, color, name)
        axes[0].set(xlabel="moved by pixels", ylabel="accuracy, held out")
        axes[0].legend()
        for place, name in enumerate(work):
            relative = [each[name] / each["MLP"] for each in (numbers, work)]
            axes[1].bar(np.arange(2) + 0.4 * place, relative, 0.4, color=f"C{place}", label=name)
        axes[1].set_xticks([0.2, 1.2], ["parameters", "FLOPs"])
        axes[1].set(title="relative to the MLP")
        axes[1].legend()

# %% [transfer] Transfer Learning
# Trained on the digits 0-4, the network gets a new last layer for 5-9, of which there are ten
# examples each. What was learned before may stay as it is (frozen) or move on (fine-tuned). It is
# a start, not an end: of what tells 5-9 apart, much was of no use for 0-4.
with lesson("transfer") as same:
    x, labels, *_ = split_digits(same.rng, classes=range(5), flat=True)
    sizes = {"in_features": 64, "hidden": (64,) * 4, "out_features": 5}
    old, rule = Networks(JaxMLP, MLP, same.rng, x[:2], **sizes), rules(lr=0.05, momentum=0.9)
    costs = [*old.train(batched(same.rng, x, labels, 50, 60), LOSSES, rule)]
    same("before: losses", *np.array(costs).T)

    x, labels, x_out, labels_out = split_digits(same.rng, classes=range(5, 10), flat=True)
    few = np.concatenate([np.flatnonzero(labels == label)[:10] for label in range(5)])
    plan, seed, found = [((x[few],), (labels[few],))] * 60, same.rng.integers(2**32), {}

    def groups(params):
        return {"layers": {name: name == "8" for name in params["layers"]}}

    # optax freezes by a rule for each group of leaves; torch's optimizer gets only what may move.
    frozen = optax.multi_transform({True: rule[0], False: optax.set_to_zero()}, groups)
    for name in ("from scratch", "frozen", "fine-tuned"):
        nets = Networks(JaxMLP, MLP, np.random.default_rng(seed), x[:2], **sizes)
        new = nets.torch.layers[8]
        if name != "from scratch":
            last = {"8": nets.variables["params"]["layers"]["8"]}
            nets.variables = {"params": {"layers": old.variables["params"]["layers"] | last}}
            nets.torch.layers[:8].load_state_dict(old.torch.layers[:8].state_dict())
        how = (frozen, lambda _, new=new: rule[1](new.parameters())) if name == "frozen" else rule
        before, right = nets.state(), [nets.accuracy(x_out, labels_out)]
        for _ in nets.train(plan, LOSSES, how):
            right.append(nets.accuracy(x_out, labels_out))
        same(f"{name}: trained", *nets.state())
        same(f"{name}: accuracies", *np.array(right).T)
        found[name] = np.array(right).T
        print(f"{name}: {right[5][1]:.3f} after 5 steps, {right[-1][1]:.3f} after 60")
        for old_side, side in zip(before, nets.state(), strict=True):
            moved = {key for key in side if (side[key] != old_side[key]).any()}
            only = {"layers.8.weight", "layers.8.bias"}
            same.holds(f"{name}: what moves", moved == only if name == "frozen" else moved > only)
    ends = {name: each[1] for name, each in found.items()}
    same.holds("what was learned helps at first", ends["fine-tuned"][5] > ends["from scratch"][5])
    same.holds("but is not what 5-9 need", ends["fine-tuned"][-1] > ends["frozen"][-1])

    if (axis := same.axes(height=3.6)) is not None:
        for color, (name, pair) in zip(("C7", "C0", "C1"), found.items(), strict=True):
            twice(axis, range(61), pair, color, name)
        axis.set(xlabel="step on 50 examples of 5-9", ylabel="accuracy, held out")
        axis.legend()
