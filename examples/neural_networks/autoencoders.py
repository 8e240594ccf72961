"""Autoencoders in JAX and in PyTorch: from PCA to the variational one, on digits.

Run it as a program (`python examples/neural_networks/autoencoders.py --out figures`), or cell by
cell in an editor that knows `# %%`. `--full` trains longer: about 120 s on two cores.
"""

# %% Set-up
from functools import cache, partial
from typing import Any

import jax
import numpy as np
import torch

from compare.data.batches import epochs
from compare.data.digits import every_digit
from compare.data.folds import hold_out
from compare.study.figures import picture
from compare.study.lessons import both, lesson
from compare.study.networks import Networks
from compare.study.scripts import script
from jaxnn.autoencoder import contractive as jax_contractive
from jaxnn.autoencoder import convolutional as jax_convolutional
from jaxnn.autoencoder import denoising as jax_denoising
from jaxnn.autoencoder import dense as jax_dense
from jaxnn.autoencoder import sparse as jax_sparse
from jaxnn.autoencoder import tied as jax_tied
from jaxnn.autoencoder import vae as jax_vae
from jaxnn.layers.dropout import dropout as jax_dropout
from jaxnn.linalg.low_rank import pca as jax_pca
from jaxnn.training import losses as jax_losses
from jaxnn.training import optimizers as jax_optimizers
from jaxnn.training import regularisers as jax_regularisers
from jaxnn.training import robust as jax_robust
from jaxnn.training.images import ssim as jax_ssim
from torchref.autoencoder import contractive, convolutional, denoising, dense, sparse, tied, vae
from torchref.layers.dropout import dropout
from torchref.linalg.low_rank import pca
from torchref.training import losses, optimizers, regularisers, robust
from torchref.training.images import ssim

script(__name__)

DENSE, VAE = (jax_dense, dense), (jax_vae, vae)
CONTRACTIVE, SPARSE = (jax_contractive, contractive), (jax_sparse, sparse)


def pair(sides, name, **keywords) -> tuple[Any, Any]:
    """Both frameworks' function or class of a name, with keywords."""
    ours, theirs = (partial(getattr(side, name), **keywords) for side in sides)
    return ours, theirs


MSE = pair((jax_losses, losses), "mse")


@cache
def rule(name, **keywords):
    """An optimizer of both frameworks; cached, as JAX compiles a step for each that is made."""
    return getattr(jax_optimizers, name)(**keywords), partial(getattr(optimizers, name), **keywords)


def digits(rng, size=8):
    """Pixels in [0, 1] to train on (1438, S*S) and held out (359, S*S), and the labels of both."""
    every = every_digit(size=size, flat=True, scale="unit")
    seen, held = hold_out(len(every["x"]), 0.2, rng)
    x, labels = every["x"].astype(np.float64), every["labels"]
    return x[seen], x[held], labels[seen], labels[held]


def batches(rng, x, steps, *more):
    """Batches of 64, input and target at once; `more`, functions (rng, shape), draw inputs, too."""
    for _, index in zip(range(steps), epochs(rng, len(x), 64), strict=False):
        yield (x[index], *(draw(rng, x[index].shape) for draw in more)), (x[index],)


def fit(same, name, nets, stream, pair, by=None, until=None):
    """Trains both networks, and holds them to each other: all of it, or the first losses."""
    found = np.array([*nets.train(stream, pair, by or rule("adam", lr=0.005))])
    same(f"losses, {name}", *found[:until].T)
    if until is None:
        same(f"trained, {name}", *nets.state())


def part(nets, method, x):
    """A method of both networks: JAX's output, PyTorch's."""
    x, tx = both(x)
    with torch.no_grad():
        return nets.jax.apply(nets.variables, x, method=method), getattr(nets.torch, method)(tx)


def bright(logits) -> tuple[Any, Any]:
    """Pixels of logits: JAX's, PyTorch's."""
    ours, theirs = (1 / (1 + np.exp(-np.asarray(each))) for each in logits)
    return ours, theirs


def errors(y, x):
    """Mean squared error of a pixel: JAX's, PyTorch's."""
    return [float(np.square(np.asarray(each) - x).mean()) for each in y]


def gallery(axes, rows, size):
    """Images (N, S*S), four of each framework: a row for each name."""
    for line, (name, found) in zip(axes, rows.items(), strict=True):
        ours, theirs = found if isinstance(found, tuple) else (found, found)
        images = [*np.asarray(ours)[:4], *np.asarray(theirs)[:4]]
        for axis, image in zip(line, images, strict=True):
            picture(axis, image.reshape(size, size), "", vmin=0, vmax=1)
        line[0].set_ylabel(name, fontsize=8)
    axes[0][0].set_title("jax", loc="left")
    axes[0][4].set_title("torch", loc="left")


# %% [introduction] Introduction to Autoencoders
# z = f(x), y = g(z), and y is to be x. A code that is narrower than x has to know what the data
# have in common. With linear f and g and a squared error the best code is that of PCA.
with lesson("introduction") as same:
    x, held, *_ = digits(same.rng)
    found = jax_pca(both(x)[0], 4), pca(both(x)[1], 4)
    same("PCA", *found)
    mean, directions, _ = map(np.asarray, found[0])
    by_pca = (held - mean) @ directions.T @ directions + mean
    nets = Networks(*pair(DENSE, "Autoencoder", hidden=(), latent=4, in_features=64), same.rng, x)
    whole = (((x - mean,), (x - mean,)) for _ in range(700))
    fit(same, "linear", nets, whole, MSE, rule("sgd", lr=2.5, momentum=0.9))
    # The same subspace: all angles between it and PCA's are 0. Not the same basis.
    for side, state in zip(("jax", "torch"), nets.state(), strict=True):
        weight = state["decoder.layers.0.weight"]  # (64, 4)
        cosines = np.linalg.svd(directions @ np.linalg.qr(weight)[0])[1]
        print(f"{side}: cosines of the angles to PCA's subspace {cosines.round(4)}")
        same.holds("PCA's subspace", cosines.min() > 0.999)
        overlap = np.abs(directions @ weight / np.linalg.norm(weight, axis=0))
        same.holds("in another basis", overlap.max(0).min() < 0.95)
    (floor,) = errors([by_pca], held)
    for value in errors(nets(held - mean), held - mean):
        same.holds("PCA's error", abs(value / floor - 1) < 0.01)

    # Layers between make codes that no plane can: undercomplete. A code that is wider than x is
    # overcomplete: it copies, also what is no digit (the pixels of each image, shuffled).
    shuffled, rows, table = (
        same.rng.permuted(held, axis=1),
        {"held out": held, "PCA, 4": by_pca},
        [],
    )
    for name, hidden, latent in (("under, 4", (64,), 4), ("over, 128", (), 128)):
        config = {"in_features": 64, "hidden": hidden, "latent": latent}
        nets = Networks(*pair(DENSE, "Autoencoder"), same.rng, x[:2], **config)
        fit(same, name, nets, batches(same.rng, x, 1500 if same.full else 500), MSE)
        table.append([errors(nets(target), target) for target in (held, shuffled)])
        rows |= {name: nets(held)}
        print(f"{name}: digits {table[-1][0][1]:.4f}, shuffled {table[-1][1][1]:.4f}")
    print(f"PCA, 4: digits {floor:.4f}")
    under, over = np.array(table)
    same.holds("layers beat PCA", max(under[0]) < 0.95 * floor)
    same.holds("more room, less error", max(over[0]) < floor / 10)
    same.holds("narrow: digits only", (under[1] > 3 * under[0]).all())
    same.holds("wide: much else", (over[1] < under[1] / 3).all())
    if (axes := same.axes(4, 8, height=1)) is not None:
        gallery(axes, rows, 8)

# %% [encoder_decoder] Encoder and Decoder Networks
with lesson("encoder_decoder") as same:
    x, held, labels, truth = digits(same.rng)
    steps, (jx, tx) = 2000 if same.full else 600, both(held)
    plane = {"in_features": 64, "hidden": (32,), "latent": 2}
    nets = Networks(*pair(DENSE, "Autoencoder"), same.rng, x[:2], **plane)
    fit(same, "plane", nets, batches(same.rng, x, steps), MSE)
    # Two networks, each with its own variables: in JAX a part of the tree, in PyTorch an attribute.
    encoder, decoder = jax_dense.Encoder(**plane), jax_dense.Decoder(2, (32,), 64)
    mine, yours = ({"params": nets.variables["params"][name]} for name in ("encoder", "decoder"))
    code = encoder.apply(mine, jx)
    with torch.no_grad():
        tcode = nets.torch.encoder(tx)
    same("codes", code, tcode)
    same("decoded", decoder.apply(yours, code), nets(held)[1])

    # A code knows the digit that it was never told: its nearest neighbour among those trained on.
    def right(code, others):
        nearest = [np.square(others - each).sum(1).argmin() for each in np.asarray(code)]
        return float((labels[nearest] == truth).mean())

    known, (mean, directions, _) = np.asarray(encoder.apply(mine, both(x)[0])), pca(both(x)[1], 2)
    shares = [right(each, known) for each in (code, tcode)]
    flat = right((tx - mean) @ directions.T, ((both(x)[1] - mean) @ directions.T).numpy())
    print(f"nearest neighbour of 2 numbers: {shares[1]:.2f} right, of PCA's 2 {flat:.2f}")
    same.holds("codes tell digits apart", min(shares) > max(0.6, flat + 0.02))

    # Tied weights: the decoder's matrix is the encoder's, transposed. One parameter, used twice:
    # its gradient is the sum of what an untied pair gets.
    #   d/dW L(W, W') = d/dA L(A, B) + (d/dB L(A, B))'  at A = W, B = W'
    def loss(a, b, x):
        return ((x @ a.T @ b.T - x) ** 2).sum() / 2

    w, tw = both(same.rng.standard_normal((4, 64)) / 8)
    twice = jax.grad(lambda w: loss(w, w.T, jx))(w)
    apart = jax.grad(loss, (0, 1))(w, w.T, jx)
    leaf = tw.clone().requires_grad_()
    same("used twice", twice, torch.autograd.grad(loss(leaf, leaf.T, tx), leaf)[0])
    same("the sum of both uses", apart[0] + apart[1].T, leaf.new_tensor(np.asarray(twice)))
    counts, quality = {}, {}
    for name, sides, hidden in (("Tied", (jax_tied, tied), 32), ("", DENSE, (32,))):
        config = {"in_features": 64, "hidden": hidden, "latent": 8}
        each = Networks(*pair(sides, f"{name}Autoencoder"), same.rng, x[:2], **config)
        fit(same, f"{name} weights", each, batches(same.rng, x, 400), MSE, rule("adam", lr=0.01))
        quality[name] = errors(each(held), held)
        leaves = jax.tree.leaves(each.variables), [*each.torch.parameters()]
        counts[name] = [sum(leaf.size for leaf in leaves[0]), sum(p.numel() for p in leaves[1])]
        print(f"{name or 'Untied'}: {counts[name][1]} parameters, error {quality[name][1]:.4f}")
    same("parameters", *np.transpose([*counts.values()]))
    same.holds("half of the parameters", counts["Tied"][0] < 0.55 * counts[""][0])
    same.holds("for less than twice the error", max(quality["Tied"]) < 2 * max(quality[""]))
    if (axes := same.axes(1, 2, height=4)) is not None:
        for digit in range(10):
            chosen = truth == digit
            axes[0].scatter(*code[chosen].T, s=40, color=f"C{digit}", alpha=0.25)
            axes[0].scatter(*tcode[chosen].T, s=6, color=f"C{digit}", marker="x", label=digit)
        axes[0].set(xlabel="z1", ylabel="z2", title="held-out digits, o jax, x torch")
        axes[0].legend(fontsize=6, loc="upper right")
        low, high = np.quantile(np.asarray(code), (0.05, 0.95), axis=0)
        grid = np.stack(np.meshgrid(*np.linspace(low, high, 10).T), -1).reshape(-1, 2)
        images = np.asarray(decoder.apply(yours, both(grid)[0])).reshape(10, 10, 8, 8)[::-1]
        sheet = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.5)
        sheet = sheet.transpose(0, 2, 1, 3).reshape(100, 100)
        picture(axes[1], sheet, "decoded from a grid of the plane", vmin=0, vmax=1)

# %% [losses] Loss Functions
#   MSE (y - x)^2   L1 |y - x|   BCE -x log y - (1 - x) log(1 - y)   SSIM 1 - structural similarity
# The network gives logits, y = sigmoid(logit): BCE takes them as they are, which is stable.
with lesson("losses") as same:
    x, held, *_ = digits(same.rng, size=16)

    def structure(z, x):
        return jax_ssim(jax.nn.sigmoid(z).reshape(-1, 16, 16, 1), x.reshape(-1, 16, 16, 1))

    def tstructure(z, x):
        return ssim(z.sigmoid().reshape(-1, 1, 16, 16), x.reshape(-1, 1, 16, 16))

    pairs = {
        "MSE": (lambda z, x: MSE[0](jax.nn.sigmoid(z), x), lambda z, x: MSE[1](z.sigmoid(), x)),
        "BCE": pair((jax_losses, losses), "binary_cross_entropy_with_logits"),
        "L1": (
            lambda z, x: jax_robust.l1(jax.nn.sigmoid(z), x),
            lambda z, x: robust.l1(z.sigmoid(), x),
        ),
        "SSIM": (structure, tstructure),
    }
    start, config = same.rng.bit_generator.state, {"in_features": 256, "hidden": (64,), "latent": 8}
    rows: dict[str, Any] = {"held out": held}
    table = np.zeros((2, 4, 4))
    for i, (name, each) in enumerate(pairs.items()):
        same.rng.bit_generator.state = start  # the same weights and batches for every loss
        nets = Networks(*pair(DENSE, "Autoencoder"), same.rng, x[:2], **config)
        # The slope of L1 jumps where y passes x: what is rounded grows tenfold in some 15 steps.
        until = 75 if name == "L1" else None
        stream = batches(same.rng, x, 1000 if same.full else 300)
        fit(same, name, nets, stream, each, until=until)
        z, tz = nets(held)
        for j, (loss, tloss) in enumerate(pairs.values()):
            table[:, i, j] = loss(z, both(held)[0]), tloss(tz, both(held)[1])
        if until is None:
            same(f"{name}, held out", *table[:, i])
        rows[name] = bright((z, tz))
    print("trained on, by held-out", *pairs)
    for name, line in zip(pairs, table[1], strict=True):
        print(f"{name:>5}", *(f"{value:.4f}" for value in line))
    for side, each in enumerate(table):
        same.holds("SSIM wins by its own measure", each[3, 3] < 0.7 * each[:3, 3].min())
        # MSE and BCE have one minimum, the mean of what the pixel may be; L1 asks for the median: a
        # pixel that is dark in most digits is left black.
        same.holds("MSE and BCE are alike", (abs(each[0] / each[1] - 1) < 0.2)[:3].all())
        black = {name: float((rows[name][side] < 0.02).mean()) for name in pairs}
        print("share of black pixels", {name: round(share, 2) for name, share in black.items()})
        same.holds("L1 has more black", black["L1"] > max(black["MSE"], black["BCE"]))
    if (axes := same.axes(5, 8, height=1)) is not None:
        gallery(axes, rows, 16)

# %% [regularization] Regularization Techniques
# A wide code needs another reason not to copy: few active units, noise, or a flat encoder.
with lesson("regularization") as same:
    x, held, *_ = digits(same.rng)
    steps, rows, found = 1500 if same.full else 400, {}, {}
    # Sparse. L1 lets few units speak for each example; KL lets each unit speak for few examples.
    for name, loss in {
        "free": pair(SPARSE, "sparse_l1_loss", strength=0.0),
        "L1": pair(SPARSE, "sparse_l1_loss", strength=0.1),
        "KL": pair(SPARSE, "sparse_kl_loss", strength=0.2, rho=0.05),
    }.items():
        nets = Networks(*pair(SPARSE, "SparseAutoencoder", hidden=64), same.rng, x[:2])
        fit(same, name, nets, batches(same.rng, x, steps), loss)
        outputs = nets(held)
        found[name] = [np.asarray(code) for _, code in outputs]
        code, error = found[name][1], errors([y for y, _ in outputs], held)[1]
        print(
            f"{name}: mean {code.mean():.3f}, {(code > 0.2).mean():.0%} active, error {error:.4f}"
        )
    for free, l1, kl in zip(*found.values(), strict=True):
        most = max((code > 0.2).mean() for code in (l1, kl))
        same.holds("L1 and KL: few are active", most < 0.3 * (free > 0.2).mean())
        same.holds("KL: near rho", abs(kl.mean() - 0.05) < 0.04)
    columns = [state["decoder.weight"].T for state in nets.state()]
    largest = np.linalg.norm(columns[1], axis=1).argsort()[::-1]
    rows["KL: a unit"] = tuple(0.5 + each[largest] / np.abs(each).max() for each in columns)

    # Denoising: half of the pixels are destroyed, the whole image is wanted. Dropout of the input
    # is the same noise, but what is kept is lengthened, so that whole images need no correction.
    p, quality = 0.5, {}
    kept = same.rng.random(held.shape) > p
    given = [[each[side] for each in map(both, (held, kept))] for side in (0, 1)]
    dropped = jax_dropout(*given[0], p=p), dropout(*given[1], p=p)
    same("dropout", dropped[0], dropped[1])
    same("is masking, lengthened", held * kept / (1 - p), dropped[1])
    rows["destroyed"] = held * kept
    config = {"in_features": 64, "hidden": 128}
    loss = jax_denoising.denoising_loss, denoising.denoising_loss
    for name, draw in {
        "whole": lambda rng, shape: np.ones(shape),
        "denoising": lambda rng, shape: rng.random(shape) > p,
        "dropout": lambda rng, shape: (rng.random(shape) > p) / (1 - p),
    }.items():
        sides = pair((jax_denoising, denoising), "DenoisingAutoencoder")
        nets = Networks(*sides, same.rng, x[:2], np.ones((2, 64)), **config)
        fit(same, name, nets, batches(same.rng, x, steps, draw), loss)
        rows[name] = bright(nets(held, kept / (1 - p) if name == "dropout" else kept))
        quality[name] = errors(rows[name], held)
        print(f"trained on {name}: error {quality[name][1]:.4f} of destroyed images")
    for name in ("denoising", "dropout"):
        same.holds(f"{name} restores", max(quality[name]) < 0.85 * min(quality["whole"]))

    # Contractive: how far the code moves with the image, ||dh/dx||, by differentiation forward and,
    # as the layer is a sigmoid, by hand: dh_k/dx_d = h_k (1 - h_k) W_kd.
    slopes = {}
    for name, strength in (("flat", 0.3), ("steep", 0.0)):
        loss = pair(CONTRACTIVE, "contractive_loss", strength=strength)
        sides = pair(CONTRACTIVE, "ContractiveAutoencoder", in_features=64, hidden=64)
        nets = Networks(*sides, same.rng, x[:2])
        fit(same, name, nets, batches(same.rng, x, steps), loss)
        state, codes = nets.state(), part(nets, "encode", held)
        layers = [
            [both(each[f"encoder.{leaf}"])[side] for leaf in ("weight", "bias")]
            for side, each in enumerate(state)
        ]
        jacobians = [
            side.encoder_jacobian(each, *layer)  # (N, H, D), by jax.jacfwd and torch.func.jacfwd
            for side, each, layer in zip(CONTRACTIVE, both(held), layers, strict=True)
        ]
        same(f"Jacobian, {name}", jacobians[0], jacobians[1])
        squared = [(each**2).sum((1, 2)).mean() for each in jacobians]
        by_hand = [
            side.contractive_penalty(code, weight)
            for side, code, (weight, _) in zip(
                (jax_regularisers, regularisers), codes, layers, strict=True
            )
        ]
        same(f"closed form, {name}", by_hand, squared[::-1])
        slopes[name] = [float(each) for each in squared]
        error = errors(bright([each[0] for each in nets(held)]), held)[1]
        print(f"{name}: ||dh/dx||^2 {slopes[name][1]:.2f}, error {error:.4f}")
    same.holds("the penalty flattens", max(slopes["flat"]) < min(slopes["steep"]) / 2)
    if (axes := same.axes(len(rows), 8, height=1)) is not None:
        gallery(axes, rows, 8)

# %% [convolutional] Convolutional Autoencoders
# The code is an image, too, of a quarter of the height and width: 16 numbers become `latent`.
# Stride 2 halves the size; the decoder's transposed convolutions double it.
with lesson("convolutional") as same:
    x, held = (each.reshape(-1, 1, 16, 16) for each in digits(same.rng, size=16)[:2])
    steps, config = 1500 if same.full else 300, {"channels": 1, "width": 16, "latent": 2}
    nets = Networks(
        *pair((jax_convolutional, convolutional), "ConvAutoencoder"), same.rng, x[:2], **config
    )

    def decibels(y):
        """Peak signal-to-noise ratio: 10 log10(1 / MSE). JAX's, PyTorch's."""
        return -10 * np.log10(errors(y, held))

    def run(images):
        """Outputs in PyTorch's layout: JAX's, PyTorch's."""
        y, ty = nets(images)
        return np.asarray(y).transpose(0, 3, 1, 2), np.asarray(ty)

    fit(same, "compression", nets, batches(same.rng, x, steps), MSE)
    with torch.no_grad():
        ratio = held.size / nets.torch.encode(both(held)[1]).numel()
    same("ratio", ratio, 16 / config["latent"])
    restored = run(held)
    same("restored", *restored)
    # As many numbers, without learning: the means of 4 x 2 pixels.
    blocks = held.reshape(-1, 1, 4, 4, 8, 2).mean((3, 5)).repeat(4, 2).repeat(2, 3)
    (plain,) = decibels([blocks])
    print(f"{ratio:.0f} to 1: {decibels(restored)[1]:.1f} dB, blocks {plain:.1f} dB")
    same.holds("better than fewer pixels", min(decibels(restored)) > plain + 4)
    # Nothing depends on the size: eight digits on one sheet are one image.
    sheet = held[:8, 0].reshape(2, 4, 16, 16).transpose(0, 2, 1, 3).reshape(1, 1, 32, 64)
    same("a sheet", *run(sheet))
    same.holds("of its size", run(sheet)[1].shape == sheet.shape)

    # The same network, trained on: noise in, no noise wanted.
    noisy = held + 0.3 * same.rng.standard_normal(held.shape)
    stream = (
        ((clean + 0.3 * same.rng.standard_normal(clean.shape),), (clean,))
        for (clean,), _ in batches(same.rng, x, steps)
    )
    fit(same, "denoising", nets, stream, MSE)
    clean, (dim,) = run(noisy), decibels([noisy])
    same("denoised", *clean)
    print(f"noise: {dim:.1f} dB, denoised {decibels(clean)[1]:.1f} dB")
    same.holds("less noise", min(decibels(clean)) > dim + 7)
    if (axes := same.axes(5, 8, height=1)) is not None:
        rows = {"held out": held, "means of 4 x 2": blocks, f"{ratio:.0f} to 1": restored}
        gallery(axes, rows | {"noisy": noisy, "denoised": clean}, 16)

# %% [variational] Variational Autoencoders
# The encoder gives a distribution of codes, q(z|x) = N(mu, s^2), which is held near N(0, 1).
#   log p(x) >= E_q[log p(x|z)] - KL(q(z|x) || N(0, 1)),  the ELBO
with lesson("variational") as same:
    x, held, *_ = digits(same.rng, size=16)
    steps, still = 2000 if same.full else 400, np.zeros((len(held), 8))
    # A draw from N(mu, s^2) is no function of mu and s; noise that is given makes it one:
    # z = mu + s eps. E[z^2] = mu^2 + s^2 has the slope 2 mu by mu, and so has the mean over draws.
    m, logvar, eps = (
        both(each) for each in (np.array(0.7), np.array(-0.4), same.rng.normal(size=20_000))
    )

    def spread(side, m, i):
        """The mean of z^2 over the draws."""
        return (side.reparameterize(m + 0 * eps[i], logvar[i] + 0 * eps[i], eps[i]) ** 2).mean()

    slopes = (
        jax.grad(lambda m: spread(VAE[0], m, 0))(m[0]),
        torch.func.grad(lambda m: spread(VAE[1], m, 1))(m[1]),
    )
    same("the slope through the draws", *slopes)
    same.holds("is that of the mean", abs(float(slopes[1]) - 2 * 0.7) < 0.05)

    def square(images):
        return images.reshape(-1, 1, 16, 16)

    elbo, sizes = pair(VAE, "elbo_loss"), {"in_features": 256, "hidden": 64}
    mean = np.clip(x.mean(0), 1e-3, 1 - 1e-3)
    alone = -(held * np.log(mean) + (1 - held) * np.log(1 - mean)).sum(1).mean()
    print(f"each pixel by itself, without a code: {alone:.2f} nats")
    rows: dict[str, Any] = {"held out": held}
    trained, terms = {}, {}
    for name, kind, config, shape, loss in (
        ("VAE", "VAE", sizes, np.asarray, elbo),
        ("beta = 4", "VAE", sizes, np.asarray, pair(VAE, "beta_vae_loss")),
        ("ConvVAE", "ConvVAE", {"image_size": 16, "width": 8}, square, elbo),
    ):
        nets = Networks(*pair(VAE, kind, latent=8, **config), same.rng, shape(x[:2]), still[:2])
        stream = (
            ((shape(images), same.rng.standard_normal((len(images), 8))), (shape(images),))
            for (images,), _ in batches(same.rng, x, steps)
        )
        fit(same, name, nets, stream, loss)
        # Its two terms on held-out digits, in nats: what the code costs, what it leaves to say.
        eps, terms[name] = same.rng.standard_normal(still.shape), []
        outputs = [[np.asarray(each) for each in side] for side in nets(shape(held), eps)]
        for side, (logits, mu, logvar) in enumerate(outputs):
            given = [both(each)[side] for each in (logits.reshape(held.shape), mu, logvar, held)]
            kl = (mu**2 + np.exp(logvar) - 1 - logvar).sum() / 2 / len(held)
            # KL(q || p) is E_q[log q(z) - log p(z)]: one draw a digit, the mean of all.
            z = mu + np.exp(logvar / 2) * eps
            drawn = (z**2 - eps**2 - logvar).sum() / 2 / len(held)
            same.holds("the KL in closed form", abs(drawn - kl) < 0.5)
            terms[name].append((float(elbo[side](given[:3], given[3])), kl))
        same(f"terms, {name}", *terms[name])
        trained[name], rows[name] = nets, bright([side[0] for side in nets(shape(held), still)])
        print(f"{name}: -ELBO {terms[name][1][0]:.2f} nats, of which KL {terms[name][1][1]:.2f}")
    for plain, beta, conv in zip(*terms.values(), strict=True):
        same.holds("a code is worth its nats", max(plain[0], conv[0]) < alone - 8)
        same.holds("beta: a cheaper code", beta[1] < 0.6 * plain[1])
        same.holds("and more left to say", beta[0] - beta[1] > plain[0] - plain[1] + 4)

    # Samples: codes drawn from N(0, 1), decoded, are nearer to digits than pixels drawn alone.
    # Interpolation: on the line between two codes everything is a code.
    z, line = same.rng.standard_normal((200, 8)), np.linspace(0, 1, 4)[:, None]
    rows["samples"] = samples = bright(part(trained["VAE"], "decode", z))
    same("samples", samples[0], samples[1])
    ends = trained["VAE"](held, still)[1][1].numpy()[:2]
    between = bright(part(trained["VAE"], "decode", (1 - line) * ends[0] + line * ends[1]))
    same("interpolation", between[0], between[1])

    def far(images):
        """The mean distance from an image to the nearest digit."""
        return np.mean([np.square(x - image).sum(1).min() ** 0.5 for image in images])

    distances = [far(each) for each in samples]
    chance = far(same.rng.random((200, 256)) < mean)
    print(f"samples to the nearest digit {distances[1]:.2f}, held-out ones {far(held):.2f}")
    same.holds("samples look like digits", max(distances) < chance / 2)
    if (axes := same.axes(6, 8, height=1)) is not None:
        gallery(axes, rows | {"interpolation": between}, 16)
