"""Autoencoders in JAX and in PyTorch: networks that learn to describe digits in a few numbers.

Every lesson shows the same thing twice, once as users of JAX and Flax write it and once as users of
PyTorch do, runs both on the same numbers, and holds what they give to each other in float64.
"""

# %% side="both"
import numpy as np

from compare.data.digits import split_digits
from compare.study.figures import picture
from compare.study.lessons import lesson
from compare.study.scripts import script


def gallery(axes, rows, chosen=range(4)):
    """Square images (N, S*S) of JAX and of PyTorch: a line for each name, four of each side."""
    for line, (name, sides) in zip(axes, rows.items(), strict=True):
        size = round(sides[0][0].size ** 0.5)
        for place, images in enumerate(sides):
            for column, index in enumerate(chosen):
                image = images[index].reshape(size, size)
                picture(line[4 * place + column], image, "", vmin=0, vmax=1)
        line[0].set_ylabel(name, fontsize=9)
    axes[0][0].set_title("JAX", loc="left", fontsize=10)
    axes[0][4].set_title("PyTorch", loc="left", fontsize=10)


script(__name__)  # a program runs the lessons from here; a notebook goes on to the next cell

# %% side="jax"
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxnn.layers.container import Sequential  # names its layers "0", "1", …

# %% side="torch"
import torch
import torch.nn.functional as F

# %% [markdown] lesson="introduction" title="Introduction to Autoencoders"
# Can a network learn without labels? An autoencoder is asked for what it was given. Its *encoder*
# $f$ turns an image $x$ of 64 pixels into a *code* $z = f(x)$ of fewer numbers, its *decoder* $g$
# turns the code back into an image $y = g(z)$, and the loss is how far that is from $x$:
#
# $$L = \frac{1}{64} \sum_i (y_i - x_i)^2$$
#
# If the code were as wide as the image, copying would do. A narrower one (the autoencoder is then
# called *undercomplete*) has to know what digits have in common: only what is particular about this
# digit can be sent through the code, the rest must be stored in the weights.
#
# The simplest case has an answer in closed form. Let $f$ and $g$ each be one linear layer, and the
# code have four numbers. Then all that comes out lies in a four-dimensional plane, and the best
# plane is known: it is spanned by the four directions in which the data vary most, the *principal
# components* (PCA), which the singular value decomposition of the centred data gives. The network
# finds the same plane by gradient descent. It does not find the same *axes* in it: any basis of
# the plane serves the loss just as well.
#
# With a hidden layer and a relu in each half the images can lie on a curved surface, which comes
# nearer to digits. A code of 128 numbers, *overcomplete*, has room for any image. The test is an
# image that is no digit: the same pixels in another order. Watch whose error grows on those.


# %% side="jax"
def components_jax(x, held):
    _, _, directions = jnp.linalg.svd(x, full_matrices=False)
    plane = directions[:4]  # a direction a row
    projection = plane.T @ plane
    return {"projection": projection, "restored": held @ projection}


def net_jax(hidden, latent):
    if not hidden:
        return Sequential((nn.Dense(latent), nn.Dense(64)))
    encoder = (nn.Dense(hidden), nn.relu, nn.Dense(latent))
    decoder = (nn.Dense(hidden), nn.relu, nn.Dense(64))
    return Sequential(encoder + decoder)


# %% side="torch"
def components_torch(x, held):
    _, _, directions = torch.linalg.svd(x, full_matrices=False)
    plane = directions[:4]  # a direction a row
    projection = plane.T @ plane
    return {"projection": projection, "restored": held @ projection}


def net_torch(hidden, latent):
    if not hidden:
        return torch.nn.Sequential(torch.nn.Linear(64, latent), torch.nn.Linear(latent, 64))
    encoder = [torch.nn.Linear(64, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, latent)]
    decoder = [torch.nn.Linear(latent, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 64)]
    return torch.nn.Sequential(*encoder, *decoder)


# %% [markdown]
# The training loop is the usual one, except that no label occurs in it: the batch is input and
# target at once.


# %% side="jax"
def compress_jax(hidden, latent, rate, variables, batches, held, shuffled):
    net, optimizer = net_jax(hidden, latent), optax.adam(rate)

    def loss_of(variables, x):
        return ((net.apply(variables, x) - x) ** 2).mean()

    @jax.jit
    def step(variables, state, x):
        loss, gradients = jax.value_and_grad(loss_of)(variables, x)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(variables, updates), state, loss

    state, losses = optimizer.init(variables), []
    for x in batches:
        variables, state, loss = step(variables, state, x)
        losses.append(loss)
    return {
        "losses": losses,
        "weights": variables,
        "restored": net.apply(variables, held),
        "shuffled": net.apply(variables, shuffled),
    }


# %% side="torch"
def compress_torch(hidden, latent, rate, weights, batches, held, shuffled):
    net = net_torch(hidden, latent)
    net.load_state_dict(weights)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)

    losses = []
    for x in batches:
        optimizer.zero_grad()
        loss = ((net(x) - x) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    with torch.no_grad():
        return {
            "losses": losses,
            "weights": net.state_dict(),
            "restored": net(held),
            "shuffled": net(shuffled),
        }


# %% side="both"
with lesson("introduction") as same:
    x, _, held, _ = split_digits(same.rng, flat=True, scale="unit", share=0.2)
    mean, shuffled = x.mean(0), same.rng.permuted(held, axis=1)  # pixels in another order
    x, held, shuffled = x - mean, held - mean, shuffled - mean
    pca = same.run(components_jax, components_torch, x, held)
    floor = ((pca[1]["restored"] - held) ** 2).mean()
    same.row("PCA, 4: error, restored", ((pca[0]["restored"] - held) ** 2).mean(), floor)
    rows = {"held out": [held + mean] * 2, "PCA, 4": [side["restored"] + mean for side in pca]}
    errors, sizes = {}, {"linear, 4": (0, 4), "curved, 4": (64, 4), "linear, 128": (0, 128)}
    for name, size in sizes.items():
        exact = name == "linear, 4"  # all digits in each step, so that it arrives at the optimum
        batches = same.batches(350, len(x), x) if exact else same.batches(500, 64, x)
        weights = same.weights(net_jax(*size), lambda size=size: net_torch(*size), x[:2])
        given = *size, 0.02 if exact else 0.005, weights, batches, held, shuffled
        found = same.run(compress_jax, compress_torch, *given)
        rows[name] = [side["restored"] + mean for side in found]
        for key, wanted in (("restored", held), ("shuffled", shuffled)):
            errors[name, key] = [((side[key] - wanted) ** 2).mean() for side in found]
            same.row(f"{name}: error, {key}", *errors[name, key])
        if exact:
            axes = found[1]["weights"]["1.weight"]  # (64, 4): a direction a column
            cosines = np.linalg.svd(pca[1]["projection"] @ np.linalg.qr(axes)[0])[1][:4]
            same.holds("the linear one finds PCA's plane", cosines.min() > 0.999)
            same.holds("but other axes in it", np.linalg.cond(axes) > 1.1)  # PCA's have 1
            same.holds("PCA's error, too", abs(errors[name, "restored"][1] / floor - 1) < 0.01)
    under, over = ([errors[n, k][1] for k in ("restored", "shuffled")] for n in list(sizes)[1:])
    same.holds("a curved surface is nearer to digits than a plane", under[0] < 0.95 * floor)
    same.holds("a narrow code knows digits only", under[1] > 3 * under[0])
    same.holds("a wide one copies anything", over[0] < floor / 10 and over[1] < under[1] / 3)
    gallery(same.axes(len(rows), 8, height=1), rows)

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | Flax and JAX | |
# |---|---|---|---|
# | a linear layer's weight | `weight`, (out, in) | `kernel`, (in, out) | LIN-01 |
# | first weights, left to itself | variance $1/(3n)$ | variance $1/n$ | INIT-01 |
# | the input's size | `Linear(64, 4)` | `Dense(4)`; found when `init` sees an example | |
# | the result of training | the module has changed | new variables, returned; the old are as before | |
#
# ### Try it
# - Print `axes.T @ axes`: the columns that the linear network found are neither of length 1 nor at
#   right angles to each other, as PCA's are.
# - Train the linear network at the rate 0.005, as the others. Has it arrived after 350 steps?

# %% [markdown] lesson="encoder_decoder" title="Encoder and Decoder Networks"
# The two halves of an autoencoder are networks of their own. They are trained together and used
# apart: the encoder alone makes short descriptions of images, to search or to sort them; the
# decoder alone makes images from descriptions that nobody encoded.
#
# With codes of two numbers one can look at both. Each digit becomes a point $z = f(x)$ of the
# plane, and each point of the plane an image $g(z)$. Nothing told the network which digit is
# which. Still alike images come to lie in like places, as this costs the decoder least. How well it
# sorts them can be measured: how often does a held-out digit have the label of the training digit
# whose code is nearest? The figure shows the points, and what the decoder makes of a grid of them.
#
# So one loss depends on two sets of parameters. In PyTorch one optimizer is handed both modules'. In
# JAX the two sets go into one dict, by which the loss is differentiated.


# %% side="jax"
def halves_jax():
    encoder = Sequential((nn.Dense(32), nn.relu, nn.Dense(2)))
    decoder = Sequential((nn.Dense(32), nn.relu, nn.Dense(64)))
    return encoder, decoder


def plane_jax(encoder_weights, decoder_weights, batches, x, held, grid):
    encoder, decoder = halves_jax()
    optimizer = optax.adam(0.005)

    def loss_of(params, x):
        codes = encoder.apply(params["encoder"], x)
        return ((decoder.apply(params["decoder"], codes) - x) ** 2).mean()

    @jax.jit
    def step(params, state, x):
        loss, gradients = jax.value_and_grad(loss_of)(params, x)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, loss

    params, losses = {"encoder": encoder_weights, "decoder": decoder_weights}, []
    state = optimizer.init(params)
    for batch in batches:
        params, state, loss = step(params, state, batch)
        losses.append(loss)
    codes = encoder.apply(params["encoder"], held)
    points = codes.min(0) + grid * (codes.max(0) - codes.min(0))
    return {
        "losses": losses,
        "codes trained on": encoder.apply(params["encoder"], x),
        "codes": codes,
        "decoded points": decoder.apply(params["decoder"], points),
    }


# %% side="torch"
def halves_torch():
    encoder = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
    decoder = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.ReLU(), torch.nn.Linear(32, 64))
    return encoder, decoder


def plane_torch(encoder_weights, decoder_weights, batches, x, held, grid):
    encoder, decoder = halves_torch()
    encoder.load_state_dict(encoder_weights)
    decoder.load_state_dict(decoder_weights)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.005)

    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = ((decoder(encoder(batch)) - batch) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    with torch.no_grad():
        codes = encoder(held)
        points = codes.amin(0) + grid * (codes.amax(0) - codes.amin(0))
        return {
            "losses": losses,
            "codes trained on": encoder(x),
            "codes": codes,
            "decoded points": decoder(points),
        }


# %% [markdown]
# The halves may also share. With *tied weights* the decoder's matrix is the encoder's, transposed:
# $z = x W$ and $y = z W^\top$, half of the parameters. $W$ then stands in the loss twice, and its
# gradient is the sum of what the two places would get if they were apart, for $L(A, B)$ with $A$ in
# the encoder and $B$ in the decoder:
#
# $$\frac{dL}{dW} = \frac{\partial L}{\partial A} + \Big(\frac{\partial L}{\partial B}\Big)^{\!\top}
#   \quad\text{at}\quad A = W,\; B = W^\top$$
#
# Nothing has to be done for it: automatic differentiation adds up the uses of a variable. And half
# of the parameters are enough here: no linear autoencoder, tied or not, can beat PCA's error.


# %% side="jax"
def error_jax(a, b, x):
    return ((x @ a @ b - x) ** 2).sum() / len(x)


def tied_jax(w, x, held):
    slope = jax.jit(jax.grad(lambda w: error_jax(w, w.T, x)))
    a, b = jax.grad(error_jax, argnums=(0, 1))(w, w.T, x)
    found = {"gradient, tied": slope(w), "sum of both uses": a + b.T}
    for _ in range(200):
        w = w - 0.1 * slope(w)
    return found | {"error, tied": error_jax(w, w.T, held)}


# %% side="torch"
def error_torch(a, b, x):
    return ((x @ a @ b - x) ** 2).sum() / len(x)


def tied_torch(w, x, held):
    a, b, w = (each.clone().requires_grad_() for each in (w, w.T, w))
    error_torch(a, b, x).backward()
    error_torch(w, w.T, x).backward()
    found = {"gradient, tied": w.grad.clone(), "sum of both uses": a.grad + b.grad.T}
    for _ in range(200):
        w.grad = None  # gradients add up, unless they are taken away
        error_torch(w, w.T, x).backward()
        w.data -= 0.1 * w.grad
    return found | {"error, tied": error_torch(w, w.T, held).detach()}


# %% side="both"
with lesson("encoder_decoder") as same:
    x, labels, held, truth = split_digits(same.rng, flat=True, scale="unit", share=0.2)
    encoder = same.weights(halves_jax()[0], lambda: halves_torch()[0], x[:2])
    decoder = same.weights(halves_jax()[1], lambda: halves_torch()[1], np.zeros((2, 2)))
    line = np.linspace(0, 1, 10)
    grid = np.stack(np.meshgrid(line, line[::-1]), -1).reshape(-1, 2)  # from the top left
    given = encoder, decoder, same.batches(600, 64, x), x, held, grid
    ours, theirs = same.run(plane_jax, plane_torch, *given)

    def right(codes, known):
        return np.mean(labels[((codes[:, None] - known) ** 2).sum(-1).argmin(1)] == truth)

    shares = [right(side["codes"], side["codes trained on"]) for side in (ours, theirs)]
    same.row("nearest neighbour is of the same digit", *shares)
    start, mean = same.rng.standard_normal((64, 8)) / 8, x.mean(0)
    flat = np.linalg.svd(x - mean, full_matrices=False)[2][:2].T  # PCA's plane
    same.holds("better than in PCA's plane", shares[1] > right(held @ flat, x @ flat) + 0.02)
    tied = same.run(tied_jax, tied_torch, start, x - mean, held - mean)
    same("tied is the sum", tied[0]["gradient, tied"], tied[1]["sum of both uses"])
    eight = np.linalg.svd(x - mean, full_matrices=False)[2][:8].T
    best = ((((held - mean) @ eight @ eight.T) - (held - mean)) ** 2).sum() / len(held)
    same.row("tied weights: error over PCA's", *(side["error, tied"] / best for side in tied))
    same.holds("half of the weights are enough", tied[1]["error, tied"] < 1.1 * best)
    axes = same.axes(1, 2, height=4)
    for place, (codes, name) in enumerate(((ours["codes"], "JAX"), (theirs["codes"], "PyTorch"))):
        style = {"s": (60, 8)[place], "alpha": (0.3, 1)[place], "marker": "ox"[place]}
        points = axes[0].scatter(*codes.T, c=truth, cmap="tab10", label=name, **style)
    axes[0].legend(*points.legend_elements(), ncols=5, loc=(0, 1.01), title="o JAX, x PyTorch")
    framed = np.pad(theirs["decoded points"].reshape(10, 10, 8, 8), [(0, 0)] * 2 + [(1, 1)] * 2)
    sheet = framed.transpose(0, 2, 1, 3).reshape(100, 100)
    picture(axes[1], sheet, "PyTorch's decoder, on a grid of the plane", vmin=0, vmax=1)

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX and Flax | |
# |---|---|---|---|
# | parameters of two networks | one list for the optimizer | one dict, differentiated as a whole | |
# | a weight that is used twice | a name in two places of a module | an argument that occurs twice | |
# | a tied linear layer | `F.linear(z, weight.T)`, (out, in) | `z @ kernel.T`, (in, out) | LIN-01 |
#
# ### Try it
# - Leave the relus out, in both columns. Is the plane still better than PCA's?
# - Hand PyTorch's optimizer the encoder's parameters alone. Its decoder stays as it was drawn; the
#   losses part at the second step. What would you change in JAX to do the same?
# - Set `w.T` to `w.T.detach()` in PyTorch: of the gradient only the encoder's part is left.

# %% [markdown] lesson="losses" title="Loss Functions"
# An image can be wrong in many ways, and an autoencoder gets right what its loss asks for. Let the
# last layer give logits $a$, and let $y = 1 / (1 + e^{-a})$ be the pixels, between 0 (black) and 1.
# Four losses of a pixel or a window are in use, each averaged over the image:
#
# - squared error (MSE), $(y - x)^2$;
# - binary cross-entropy (BCE), $-x \log y - (1 - x) \log(1 - y)$, which takes a grey pixel as the
#   chance that it is white, and is computed from $a$, as $\log y$ is lost where $y$ rounds to 0;
# - absolute error (L1), $|y - x|$;
# - structural similarity (SSIM), which compares windows of 11 by 11 pixels by their means $\mu$,
#   variances $\sigma^2$ and covariance $\sigma_{xy}$, with small constants $c_1$ and $c_2$:
#
# $$1 - \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}
#   {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}$$
#
# What do they prefer where the code cannot tell whether a pixel is dark or bright? The squared
# error is least at the *mean* of what it may be, and so is the cross-entropy: both paint grey. The
# absolute error is least at the *median*: a pixel that is dark in most digits is left black. SSIM
# wants the edges of a window in the right places. So the same network is trained four times, from
# the same weights, on digits of 16 by 16 pixels. Compare how many pixels are left black, and how
# the four networks do by the measure of SSIM: only the one that was asked for it does well.

# %% side="jax"
from jaxnn.training.images import ssim as ssim_jax


def loss_jax(name, logits, x):
    y = nn.sigmoid(logits)
    if name == "MSE":
        return ((y - x) ** 2).mean()
    if name == "BCE":
        return optax.sigmoid_binary_cross_entropy(logits, x).mean()
    if name == "L1":
        return jnp.abs(y - x).mean()
    y, x = (images.reshape(-1, 16, 16, 1) for images in (y, x))  # channels last
    return ssim_jax(y, x)  # 1 - the similarity


# %% side="torch"
from torchref.training.images import ssim as ssim_torch


def loss_torch(name, logits, x):
    y = logits.sigmoid()
    if name == "MSE":
        return F.mse_loss(y, x)
    if name == "BCE":
        return F.binary_cross_entropy_with_logits(logits, x)
    if name == "L1":
        return F.l1_loss(y, x)
    y, x = (images.reshape(-1, 1, 16, 16) for images in (y, x))  # channels first
    return ssim_torch(y, x)  # 1 - the similarity


# %% [markdown]
# The loop is as before. It is short, for a reason: the slope of L1 jumps from $-1$ to $1$ where $y$
# passes $x$, and under it what the two frameworks round differently, in the sixteenth digit, grows
# tenfold in some fifteen steps. After 80 steps they still agree, after 500 they have two networks.


# %% side="jax"
def layers_jax():
    encoder = (nn.Dense(64), nn.relu, nn.Dense(8))
    decoder = (nn.Dense(64), nn.relu, nn.Dense(256))
    return Sequential(encoder + decoder)


def reconstruct_jax(name, names, variables, batches, held):
    net, optimizer = layers_jax(), optax.adam(0.01)

    @jax.jit
    def step(variables, state, x):
        def loss_of(variables):
            return loss_jax(name, net.apply(variables, x), x)

        loss, gradients = jax.value_and_grad(loss_of)(variables)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(variables, updates), state, loss

    state, losses = optimizer.init(variables), []
    for x in batches:
        variables, state, loss = step(variables, state, x)
        losses.append(loss)
    logits = jax.jit(net.apply)(variables, held)
    measured = {each: loss_jax(each, logits, held) for each in names}
    return {"losses": losses, "images": nn.sigmoid(logits), "measured": measured}


# %% side="torch"
def layers_torch():
    encoder = [torch.nn.Linear(256, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8)]
    decoder = [torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 256)]
    return torch.nn.Sequential(*encoder, *decoder)


def reconstruct_torch(name, names, weights, batches, held):
    net = layers_torch()
    net.load_state_dict(weights)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)

    losses = []
    for x in batches:
        optimizer.zero_grad()
        loss = loss_torch(name, net(x), x)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    with torch.no_grad():
        logits = net(held)
        measured = {each: loss_torch(each, logits, held) for each in names}
    return {"losses": losses, "images": logits.sigmoid(), "measured": measured}


# %% side="both"
with lesson("losses") as same:
    x, _, held, _ = split_digits(same.rng, size=16, flat=True, scale="unit", share=0.2)
    weights = same.weights(layers_jax(), layers_torch, x[:2])
    batches, names = same.batches(80, 64, x), ["MSE", "BCE", "L1", "SSIM"]
    rows, squares, windows, black = {"held out": [held, held]}, {}, {}, {}
    for name in names:
        given = name, names, weights, batches, held
        found = same.run(reconstruct_jax, reconstruct_torch, *given)
        rows[name] = [side["images"] for side in found]
        squares[name] = [side["measured"]["MSE"] for side in found]
        windows[name] = [side["measured"]["SSIM"] for side in found]
        black[name] = [(side["images"] < 0.02).mean() for side in found]
    for title, table in (("MSE", squares), ("1 - SSIM", windows), ("black pixels", black)):
        for name in names:
            same.row(f"{title}, trained for {name}", *table[name])
    alike = abs(squares["MSE"][1] / squares["BCE"][1] - 1)
    same.holds("MSE and BCE have one minimum", alike < 0.2)
    grey = max(black["MSE"][1], black["BCE"][1])
    same.holds("L1 leaves more pixels black", black["L1"][1] > 1.1 * grey)
    others = min(windows[name][1] for name in names[:3])
    same.holds("SSIM wins by its own measure", windows["SSIM"][1] < 0.8 * others)
    gallery(same.axes(len(rows), 8, height=1), rows)

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | optax and JAX | |
# |---|---|---|---|
# | `binary_cross_entropy_with_logits` | the mean of all pixels | `sigmoid_binary_cross_entropy` keeps one value a pixel | LOSS-14 |
# | cross-entropy of probabilities | `binary_cross_entropy` cuts $\log y$ off at $-100$ | only the one of logits | LOSS-16 |
# | half the squared error | `mse_loss` has no 1/2 | `optax.l2_loss` has; `squared_error` has none | LOSS-01 |
# | images for a convolution, as in SSIM | (N, C, H, W) | (N, H, W, C) | |
#
# ### Try it
# - Drop `.mean()` behind the cross-entropy in JAX. `value_and_grad` says that it wants a scalar.
# - Take `optax.l2_loss(y, x).mean()` for MSE. Its losses are half of PyTorch's; why do the images
#   hardly change? (Adam divides each step by the size of the gradients.)
# - Train for 500 steps. Which of the four networks do the frameworks not agree on any more?

# %% [markdown] lesson="regularization" title="Regularization Techniques"
# A code that is wider than it need be copies the image and learns nothing. There are other ways
# than a narrow one to forbid that: ask for something besides the copy. The network here has a code
# $h = \sigma(W x + b)$ of 64 units for 64 pixels, with $\sigma(a) = 1 / (1 + e^{-a})$, and a linear
# decoder. To its squared error it adds, one at a time:
#
# - *sparse, by L1*: $0.1 \sum_k |h_k|$, so that few units speak for an image;
# - *sparse, by KL*: let $\rho_k$ be how active unit $k$ is on average over the batch. The
#   Kullback-Leibler divergence, $\rho \log \frac{\rho}{\rho_k} +
#   (1 - \rho) \log \frac{1 - \rho}{1 - \rho_k}$, is 0 where $\rho_k = \rho = 0.05$ and grows on
#   both sides: each unit is to speak for few images, but none is to fall silent;
# - *contractive*: $0.3 \sum_{kd} (\partial h_k / \partial x_d)^2$: the code should hardly move as
#   the image does. For this encoder $\partial h_k / \partial x_d = h_k (1 - h_k) W_{kd}$.
#
# The second pair of cells is about noise. Watch in the table what each penalty does to the code:
# how large it is, how many units are active, how steep it is, and what it costs in error.


# %% side="jax"
def autoencoder_jax():
    return Sequential((nn.Dense(64), nn.sigmoid, nn.Dense(64)))


def encode_jax(variables, x):
    layer = variables["params"]["0"]
    return nn.sigmoid(x @ layer["kernel"] + layer["bias"])


def penalties_jax(variables, x):
    h, kernel = encode_jax(variables, x), variables["params"]["0"]["kernel"]  # (pixel, unit)
    rho, mean = 0.05, h.mean(0)
    rare = rho * jnp.log(rho / mean) + (1 - rho) * jnp.log((1 - rho) / (1 - mean))
    steep = (h * (1 - h)) ** 2 @ (kernel**2).sum(0)
    return {"L1": jnp.abs(h).sum(1).mean(), "KL": rare.sum(), "contractive": steep.mean()}


def steepness_jax(variables, x):
    """The mean of ||dh/dx||², by forward-mode differentiation of the encoder as it is."""
    slopes = jax.vmap(jax.jacfwd(lambda image: encode_jax(variables, image)))(x)
    return (slopes**2).sum((1, 2)).mean()  # slopes: (image, unit, pixel)


# %% side="torch"
def autoencoder_torch():
    layers = torch.nn.Linear(64, 64), torch.nn.Sigmoid(), torch.nn.Linear(64, 64)
    return torch.nn.Sequential(*layers)


def encode_torch(net, x):
    return net[1](net[0](x))  # a Sequential can be indexed


def penalties_torch(net, x):
    h, weight = encode_torch(net, x), net[0].weight  # (unit, pixel)
    rho, mean = 0.05, h.mean(0)
    rare = rho * torch.log(rho / mean) + (1 - rho) * torch.log((1 - rho) / (1 - mean))
    steep = (h * (1 - h)) ** 2 @ (weight**2).sum(1)
    return {"L1": h.abs().sum(1).mean(), "KL": rare.sum(), "contractive": steep.mean()}


def steepness_torch(net, x):
    """The mean of ||dh/dx||², by forward-mode differentiation of the encoder as it is."""
    slopes = torch.func.vmap(torch.func.jacfwd(lambda image: encode_torch(net, image)))(x)
    return (slopes**2).sum((1, 2)).mean()  # slopes: (image, unit, pixel)


# %% [markdown]
# A *denoising* autoencoder has no penalty. Half of the pixels of its input are set to 0, and the
# whole image is wanted. Copying does not help any more: it has to know which pixels go together.
# Dropout of the input is the same noise with one difference. What is kept is doubled, so that the
# sums of the next layer are right on average; the network can then be given whole images later.


# %% side="jax"
def regularised_jax(kind, strength, variables, batches, held, destroyed):
    net, optimizer = autoencoder_jax(), optax.adam(0.005)

    @jax.jit
    def step(variables, state, x, kept):
        def loss_of(variables):
            given = {"denoising": x * kept, "dropout": x * kept / 0.5}.get(kind, x)
            error = ((net.apply(variables, given) - x) ** 2).sum(1).mean() / 2
            return error + strength * penalties_jax(variables, x).get(kind, 0.0)

        loss, gradients = jax.value_and_grad(loss_of)(variables)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(variables, updates), state, loss

    state, losses = optimizer.init(variables), []
    for x, kept in batches:
        variables, state, loss = step(variables, state, x, kept)
        losses.append(loss)
    return {
        "losses": losses,
        "codes": encode_jax(variables, held),
        "restored": net.apply(variables, held),
        "mended": net.apply(variables, destroyed),
        "steepness": steepness_jax(variables, held),
        "by the formula": penalties_jax(variables, held)["contractive"],
    }


# %% side="torch"
def regularised_torch(kind, strength, weights, batches, held, destroyed):
    net = autoencoder_torch()
    net.load_state_dict(weights)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.005)

    losses = []
    for x, kept in batches:
        given = {"denoising": x * kept, "dropout": x * kept / 0.5}.get(kind, x)
        optimizer.zero_grad()
        error = ((net(given) - x) ** 2).sum(1).mean() / 2
        loss = error + strength * penalties_torch(net, x).get(kind, 0.0)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    with torch.no_grad():
        return {
            "losses": losses,
            "codes": encode_torch(net, held),
            "restored": net(held),
            "mended": net(destroyed),
            "steepness": steepness_torch(net, held),
            "by the formula": penalties_torch(net, held)["contractive"],
        }


# %% side="both"
with lesson("regularization") as same:
    x, _, held, _ = split_digits(same.rng, flat=True, scale="unit", share=0.2)
    kept, left = ((same.rng.random(each.shape) > 0.5).astype(float) for each in (x, held))
    weights = same.weights(autoencoder_jax(), autoencoder_torch, x[:2])
    batches, found = same.batches(400, 64, x, kept), {}
    rows = {"held out": [held] * 2, "destroyed": [held * left] * 2}
    kinds = {"none": 0, "L1": 0.1, "KL": 0.2, "contractive": 0.3, "denoising": 0, "dropout": 0}
    for kind, strength in kinds.items():
        destroyed = held * left / (0.5 if kind == "dropout" else 1)
        given = kind, strength, weights, batches, held, destroyed
        sides = same.run(regularised_jax, regularised_torch, *given)
        same("the formula is the Jacobian", sides[0]["by the formula"], sides[1]["steepness"])
        measured = {
            "units above 0.2": [(side["codes"] > 0.2).mean() for side in sides],
            "steepness": [side["steepness"] for side in sides],
            "error": [((side["restored"] - held) ** 2).mean() for side in sides],
            "error, destroyed": [((side["mended"] - held) ** 2).mean() for side in sides],
        }
        found[kind] = {name: each[1] for name, each in measured.items()}
        for name, each in measured.items():
            same.row(f"{kind}: {name}", *each)
        if kind in ("none", "denoising", "dropout"):
            rows[kind] = [side["mended"] for side in sides]
    active, steep, _, mended = ({k: v[name] for k, v in found.items()} for name in measured)
    same.holds("sparse: few are active", max(active["L1"], active["KL"]) < 0.3 * active["none"])
    same.holds("contractive: the code is flat", steep["contractive"] < steep["none"] / 2)
    noisy = max(mended["denoising"], mended["dropout"])
    same.holds("noise teaches to mend", noisy < 0.85 * mended["none"])
    gallery(same.axes(len(rows), 8, height=1), rows)

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | the first layer's weight | `net[0].weight`, (unit, pixel) | `params["0"]["kernel"]`, (pixel, unit) | LIN-01 |
# | a penalty on the code | of the module, which holds its weights | of the variables, which are handed on | |
# | the library's dropout | `F.dropout(x, 0.5)`, a global generator | `nn.Dropout(0.5)`, a key in `rngs` | DROP-01 |
# | the library's KL divergence | `F.kl_div`: the mean of all entries | `optax.kl_divergence`: sums over the last axis | LOSS-09 |
#
# ### Try it
# - Raise the weight of L1 from 0.1 to 1. How many units are still active, and what is the error?
# - Set the strength of the contractive penalty to 0. Its rows become those of `none`.

# %% [markdown] lesson="convolutional" title="Convolutional Autoencoders"
# A dense autoencoder gives each pixel weights of its own. A convolutional one uses the same few
# weights everywhere in the image, and its code is an image, too: smaller, with $Z$ numbers in each
# place. A convolution of stride 2 looks at every other place only and so halves height and width;
# two of them turn 16 pixels (4 by 4) into one place. The decoder goes back by *transposed*
# convolutions, which double the size: each number of the input paints a patch of the output, and
# where patches overlap they add up. With $Z = 2$ the code has
#
# $$\frac{16}{Z} = 8$$
#
# times fewer numbers than the image. Quality is measured in decibels, by the peak signal-to-noise
# ratio $10 \log_{10}(1 / \text{MSE})$: 10 dB more is a tenth of the error. What 8 to 1 is worth
# shows beside the plainest way to the same number of values: the mean of each 4 by 2 pixels.
#
# As no layer depends on the size, a sheet of eight digits can be compressed as one image, by the
# weights that were learned on single ones.
#
# The same network can also be trained to *remove noise*: it is given an image with noise and asked
# for the clean one. What it cannot express through its code it has to leave out, and noise is hard
# to express.


# %% side="jax"
class ConvAutoencoder_jax(nn.Module):
    def setup(self):
        half = {"kernel_size": (4, 4), "strides": (2, 2)}
        self.conv1 = nn.Conv(16, **half, padding=1)
        self.conv2 = nn.Conv(2, **half, padding=1)
        # The padding is that of the widened input: 4 - 1 - 1 = 2 on each side.
        self.deconv1 = nn.ConvTranspose(16, **half, padding=2, transpose_kernel=True)
        self.deconv2 = nn.ConvTranspose(1, **half, padding=2, transpose_kernel=True)

    def encode(self, x):  # (N, 16, 16, 1) -> (N, 4, 4, 2)
        return self.conv2(nn.relu(self.conv1(x)))

    def __call__(self, x):
        return self.deconv2(nn.relu(self.deconv1(self.encode(x))))


# %% side="torch"
class ConvAutoencoder_torch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        half = {"kernel_size": 4, "stride": 2}
        self.conv1 = torch.nn.Conv2d(1, 16, **half, padding=1)
        self.conv2 = torch.nn.Conv2d(16, 2, **half, padding=1)
        # The padding is what is cropped from the output: 1 on each side.
        self.deconv1 = torch.nn.ConvTranspose2d(2, 16, **half, padding=1)
        self.deconv2 = torch.nn.ConvTranspose2d(16, 1, **half, padding=1)

    def encode(self, x):  # (N, 1, 16, 16) -> (N, 2, 4, 4)
        return self.conv2(F.relu(self.conv1(x)))

    def forward(self, x):
        return self.deconv2(F.relu(self.deconv1(self.encode(x))))


# %% [markdown]
# A batch holds what is given and what is wanted; for compression both are the same.


# %% side="jax"
def restore_jax(variables, batches, given, sheet):
    net, optimizer = ConvAutoencoder_jax(), optax.adam(0.01)

    @jax.jit
    def step(variables, state, x, wanted):
        def loss_of(variables):
            return ((net.apply(variables, x) - wanted) ** 2).mean()

        loss, gradients = jax.value_and_grad(loss_of)(variables)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(variables, updates), state, loss

    state, losses = optimizer.init(variables), []
    for x, wanted in batches:
        variables, state, loss = step(variables, state, x, wanted)
        losses.append(loss)
    return {
        "losses": losses,
        "restored": net.apply(variables, given),
        "sheet": net.apply(variables, sheet),
        "numbers in the codes": net.apply(variables, given, method="encode").size,
    }


# %% side="torch"
def restore_torch(weights, batches, given, sheet):
    net = ConvAutoencoder_torch()
    net.load_state_dict(weights)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)

    losses = []
    for x, wanted in batches:
        optimizer.zero_grad()
        loss = ((net(x) - wanted) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    with torch.no_grad():
        return {
            "losses": losses,
            "restored": net(given),
            "sheet": net(sheet),
            "numbers in the codes": net.encode(given).numel(),
        }


# %% side="both"
with lesson("convolutional") as same:
    x, _, held, _ = split_digits(same.rng, size=16, scale="unit", share=0.2)
    weights = same.weights(ConvAutoencoder_jax(), ConvAutoencoder_torch, x[:2])
    sheet = held[:8, 0].reshape(2, 4, 16, 16).transpose(0, 2, 1, 3).reshape(1, 1, 32, 64)
    means = held.reshape(-1, 1, 4, 4, 8, 2).mean((3, 5)).repeat(4, 2).repeat(2, 3)
    noisy, given = (each + 0.3 * same.rng.standard_normal(each.shape) for each in (held, x))
    rows = {"held out": [held] * 2, "means of 4 x 2": [means] * 2, "noisy": [noisy] * 2}
    for name, taken, shown in (("8 to 1", x, held), ("denoised", given, noisy)):
        batches = same.batches(150, 64, same.images(taken), same.images(x))
        images = same.images(shown), same.images(sheet)
        found = same.run(restore_jax, restore_torch, weights, batches, *images)
        rows[name] = [side["restored"] for side in found]
        if name == "8 to 1":
            same.row("numbers in", held.size, held.size)
            same.row("numbers in the codes", *(side["numbers in the codes"] for side in found))
            whole = [10 * np.log10(1 / ((side["sheet"] - sheet) ** 2).mean()) for side in found]
            same.row("a sheet of eight digits, dB", *whole)
    decibels = {
        k: [10 * np.log10(1 / ((y - held) ** 2).mean()) for y in rows[k]] for k in list(rows)[1:]
    }
    for name, values in decibels.items():
        same.row(f"{name}, dB", *values)
    best = decibels["means of 4 x 2"][1] + 4
    same.holds("8 to 1 by learning is better than by means", decibels["8 to 1"][1] > best)
    same.holds("much of the noise is gone", decibels["denoised"][1] > decibels["noisy"][1] + 6)
    same.holds("a sheet is restored as single digits are", whole[1] > best)
    gallery(same.axes(len(rows), 8, height=1), {k: [y[:, 0] for y in v] for k, v in rows.items()})

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | Flax | |
# |---|---|---|---|
# | images | (N, C, H, W) | (N, H, W, C) | |
# | the kernel of a convolution | (out, in, 4, 4) | (4, 4, in, out) | CONV-01 |
# | `padding=1` of a transposed convolution | crops 1 from the output | pads the widened input by 1; for the same size say 2 | CT-02 |
# | its kernel, (in, out, 4, 4) in PyTorch | paints as it is | is flipped, unless `transpose_kernel=True` | CT-01 |
#
# ### Try it
# - Write `padding=1` in Flax's transposed convolutions, too. Which size has the result?
# - Leave `transpose_kernel=True` out. Nothing changes, as `same.weights` turns the kernels over when
#   it hands them to Flax. Who copies weights by hand has to do it.
# - Take one number in each place in place of two: 16 to 1. How many decibels does it cost?

# %% [markdown] lesson="variational" title="Variational Autoencoders"
# Decode a code that no image had, and a plain autoencoder may give anything: nothing said where
# codes lie. The encoder of a variational autoencoder (VAE) gives a *distribution* of codes,
# $q(z|x)$, a normal one of mean $\mu$ and variance $\sigma^2$; a code is drawn from it and decoded,
# and cross-entropy holds the result to the image $x$, whose probability the model says is $p(x)$. A
# second term, the KL divergence, keeps $q(z|x)$ near $N(0, 1)$, so that codes fill one region:
#
# $$-\log p(x) \;\le\; \underbrace{\mathbb E_q[-\log p(x|z)]}_{\text{cross-entropy}}
#   + \underbrace{\tfrac12 \textstyle\sum (\mu^2 + \sigma^2 - 1 - \log \sigma^2)}_{\text{KL}}$$
#
# The right side, the negative *evidence lower bound* (ELBO), is the loss. It counts in nats, units
# of information: the KL is what the code says, the cross-entropy what is left to say. In $\beta$-VAE
# the KL is multiplied by $\beta = 4$: codes get cheaper, and say less.
#
# A draw is no function of $\mu$ and $\sigma$ that has gradients. The *reparameterisation* makes it
# one: $z = \mu + \sigma \varepsilon$, with $\varepsilon$ from $N(0, 1)$ drawn beforehand. As a test, the
# mean of $z^2$ is $\mu^2 + \sigma^2$; its slope by $\mu$, through 20000 draws, is to be near $2 \mu$. Then
# look at images whose codes nobody encoded: drawn from $N(0, 1)$, and between those of two digits.


# %% side="jax"
class VAE_jax(nn.Module):
    def setup(self):
        self.inner, self.outer = nn.Dense(64), nn.Dense(64)
        self.mean, self.logvar, self.pixels = nn.Dense(8), nn.Dense(8), nn.Dense(256)

    def decode(self, z):
        return self.pixels(nn.relu(self.outer(z)))

    def __call__(self, x, eps):
        h = nn.relu(self.inner(x))
        mu, logvar = self.mean(h), self.logvar(h)
        return self.decode(mu + jnp.exp(logvar / 2) * eps), mu, logvar


def terms_jax(outputs, x):
    logits, mu, logvar = outputs
    entropy = optax.sigmoid_binary_cross_entropy(logits, x).sum()
    kl = (mu**2 + jnp.exp(logvar) - 1 - logvar).sum() / 2
    return entropy / len(x), kl / len(x)  # in nats, of an image


def slope_jax(mu, sigma, eps):
    return {"slope": jax.grad(lambda mu: ((mu + sigma * eps) ** 2).mean())(mu)}


# %% side="torch"
class VAE_torch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = torch.nn.Linear(256, 64), torch.nn.Linear(8, 64)
        self.mean, self.logvar = torch.nn.Linear(64, 8), torch.nn.Linear(64, 8)
        self.pixels = torch.nn.Linear(64, 256)

    def decode(self, z):
        return self.pixels(F.relu(self.outer(z)))

    def forward(self, x, eps):
        h = F.relu(self.inner(x))
        mu, logvar = self.mean(h), self.logvar(h)
        return self.decode(mu + torch.exp(logvar / 2) * eps), mu, logvar


def terms_torch(outputs, x):
    logits, mu, logvar = outputs
    entropy = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = (mu**2 + torch.exp(logvar) - 1 - logvar).sum() / 2
    return entropy / len(x), kl / len(x)  # in nats, of an image


def slope_torch(mu, sigma, eps):
    mu.requires_grad_()
    ((mu + sigma * eps) ** 2).mean().backward()
    return {"slope": mu.grad}


# %% side="jax"
from jaxnn.autoencoder.vae import ConvVAE as ConvVAE_jax


def vae_jax(kind):
    return ConvVAE_jax(16, width=8, latent=8) if kind == "ConvVAE" else VAE_jax()


def generate_jax(kind, beta, variables, batches, held, eps, z, line):
    net, optimizer = vae_jax(kind), optax.adam(0.005)

    @jax.jit
    def step(variables, state, x, eps):
        def loss_of(variables):
            entropy, kl = terms_jax(net.apply(variables, x, eps), x)
            return entropy + beta * kl

        loss, gradients = jax.value_and_grad(loss_of)(variables)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(variables, updates), state, loss

    state, losses = optimizer.init(variables), []
    for x, noise in batches:
        variables, state, loss = step(variables, state, x, noise)
        losses.append(loss)
    y, mu, logvar = jax.jit(net.apply)(variables, held, eps)
    entropy, kl = terms_jax((y, mu, logvar), held)
    between = mu[0] + line * (mu[1] - mu[0])
    drawn = net.apply(variables, jnp.concatenate([z, between]), method="decode")
    return {"losses": losses, "entropy": entropy, "KL": kl, "restored": y, "drawn": drawn}


# %% side="torch"
from torchref.autoencoder.vae import ConvVAE as ConvVAE_torch


def vae_torch(kind):
    return ConvVAE_torch(16, width=8, latent=8) if kind == "ConvVAE" else VAE_torch()


def generate_torch(kind, beta, weights, batches, held, eps, z, line):
    net = vae_torch(kind)
    net.load_state_dict(weights)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.005)

    losses = []
    for x, noise in batches:
        optimizer.zero_grad()
        entropy, kl = terms_torch(net(x, noise), x)
        loss = entropy + beta * kl
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    with torch.no_grad():
        y, mu, logvar = net(held, eps)
        entropy, kl = terms_torch((y, mu, logvar), held)
        between = mu[0] + line * (mu[1] - mu[0])
        drawn = net.decode(torch.cat([z, between]))
    return {"losses": losses, "entropy": entropy, "KL": kl, "restored": y, "drawn": drawn}


# %% side="both"
with lesson("variational") as same:
    x, _, held, _ = split_digits(same.rng, size=16, scale="unit", share=0.2)
    noise, line = same.rng.standard_normal(20_000), np.linspace(0, 1, 4)[:, None]
    slopes = same.run(slope_jax, slope_torch, np.array(0.7), 0.8, noise)
    same.row("slope, in theory 1.4", *(side["slope"] for side in slopes))
    eps, z, given = (same.rng.standard_normal((n, 8)) for n in (len(held), 100, len(x)))
    flat, shown = x.reshape(-1, 256), held.reshape(-1, 256)
    rows, found = {"held out": [shown] * 2}, {}
    for name, kind, beta in (("VAE", "VAE", 1), ("beta 4", "VAE", 4), ("ConvVAE", "ConvVAE", 1)):
        conv = kind == "ConvVAE"
        seen, asked = (same.images(x), same.images(held)) if conv else (flat, shown)
        example = x[:2] if conv else flat[:2], eps[:2]
        weights = same.weights(vae_jax(kind), lambda kind=kind: vae_torch(kind), *example)
        each = kind, beta, weights, same.batches(300, 64, seen, given), asked, eps, z, line
        found[name] = same.run(generate_jax, generate_torch, *each)
        for term in ("entropy", "KL"):
            same.row(f"{name}: {term}, nats", *(side[term] for side in found[name]))
        rows[name] = [1 / (1 + np.exp(-side["restored"])) for side in found[name]]
    drawn = [1 / (1 + np.exp(-side["drawn"])) for side in found["VAE"]]
    rows["samples"], rows["in between"] = drawn, [each[-4:] for each in drawn]
    entropy, kl = ([found[name][1][term] for name in found] for term in ("entropy", "KL"))
    mean = flat.mean(0).clip(1e-3, 1 - 1e-3)  # the best without a code: each pixel by itself
    alone = -(shown * np.log(mean) + (1 - shown) * np.log(1 - mean)).sum(1).mean()
    same.holds("a code is worth its nats", max(entropy[0] + kl[0], entropy[2] + kl[2]) < alone - 8)
    near = [((flat - image) ** 2).sum(1).min() for image in drawn[1][:-4]]
    far = [((flat - each) ** 2).sum(1).min() for each in same.rng.random((100, 256)) < mean]
    same.holds("samples are near to digits, pixels by chance are not", max(near) < min(far))
    same.holds("beta: cheaper, says less", kl[1] < 0.6 * kl[0] and entropy[1] > entropy[0] + 4)
    gallery(same.axes(len(rows), 8, height=1), rows)

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | Flax and JAX | |
# |---|---|---|---|
# | drawing the noise | `torch.randn_like(mu)`, a global generator | `jax.random.normal(key, mu.shape)` | INIT-05 |
# | a method that is not the forward pass | `net.decode(z)` | `net.apply(variables, z, method="decode")` | |
# | features of `ConvVAE`, flat | channel, row, column | row, column, channel, unless transposed | FLAT-01 |
#
# ### Try it
# - Set $\beta = 4$ to 0: the cross-entropy falls, and the KL rises to more than 60 nats.
# - Set it to 256, as if one took the mean of the pixels and not their sum: the KL goes to 0.
