"""The transpose in JAX and in PyTorch: views and copies, vectors, products, and adjoints.

Run it as a program (`python examples/linear_algebra/transpose.py --out figures`), or cell by cell
in an editor that knows `# %%`.
"""

# %% Set-up
import codecs
import contextlib
import io
import itertools
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from sklearn.datasets import load_digits, load_sample_image

from compare.share import to_jax, to_torch
from compare.study.figures import picture
from compare.study.lessons import both, lesson
from compare.study.scripts import script
from jaxnn.foundations import backprop as jax_backprop
from jaxnn.layers.convolution import Conv2d as JaxConv2d
from jaxnn.layers.transposed import ConvTranspose2d as JaxConvTranspose2d
from jaxnn.linalg import elimination as jax_elimination
from jaxnn.linalg import products as jax_products
from torchref.foundations import backprop
from torchref.layers.convolution import Conv2d
from torchref.layers.linear import Linear
from torchref.layers.transposed import ConvTranspose2d
from torchref.linalg import elimination, products

script(__name__)
# Handwritten digits: (1797, 64) in 0..16.
PIXELS, LABELS = (np.asarray(part) for part in load_digits(return_X_y=True))


def grey(size):
    """The middle of a photograph of a temple, in grey between 0 and 1: (size, size)."""
    image = load_sample_image("china.jpg").mean(2) / 255
    return image[100 : 100 + size, 200 : 200 + size]


# %% [definition] Definition and Properties of Matrix Transpose
# (A^T)_ij = A_ji: rows become columns, and the picture is mirrored at its diagonal.
with lesson("definition") as same:
    photo = grey(200)[:, :160]
    jx, tx = both(photo)
    by_entries = np.array([[photo[i, j] for i in range(200)] for j in range(160)])
    same("entry by entry (JAX)", jx.T, by_entries)
    same("entry by entry (PyTorch)", by_entries, tx.T)

    # torch: a tensor is memory and strides, the steps from one row and one column to the next. Its
    # transpose exchanges the strides and moves nothing, so that writing into it writes into A.
    print(f"A {tuple(tx.shape)} strides {tx.stride()}; A.T strides {tx.T.stride()}")
    same.holds("the same memory", tx.T.data_ptr() == tx.data_ptr())
    same.holds("the strides are exchanged", tx.T.stride() == tx.stride()[::-1])
    same.holds("rows are no longer contiguous", not tx.T.is_contiguous())
    written = tx.clone()
    written.T[3, 5] = 7.0
    same("writing into A.T", jx.at[5, 3].set(7.0), written)
    try:
        tx.T.view(-1)
        same.holds("view refuses what is not contiguous", False)
    except RuntimeError as error:
        print(f"view: {str(error).partition('.')[0]}")
    same("reshape copies where it must", jx.T.reshape(-1), tx.T.reshape(-1))

    # jax: an array is a value. It has no strides, and XLA chooses layouts: under jit the transpose
    # of A^T B is no copy but a product that sums over the rows of both.
    product = jax.jit(lambda a, b: a.T @ b)
    compiled = product.lower(jx, jx).compile().as_text() or ""
    print(next(line.strip() for line in compiled.splitlines() if " dot(" in line)[:88])
    same.holds("nothing is transposed", " transpose(" not in compiled)
    same("A^T B", product(jx, jx), tx.T @ tx)
    same("with letters", jnp.einsum("ki,kj->ij", jx, jx), torch.einsum("ki,kj->ij", tx, tx))

    # A batch: `mT` exchanges the last two axes. `T` reverses all of them, which mixes the batch
    # with the columns; torch warns of that, jax does not.
    jb, tb = both(PIXELS[:6].reshape(6, 8, 8)[:, :, :5] / 16)
    same("mT", jb.mT, tb.mT)
    same("swapaxes", jnp.swapaxes(jb, -1, -2), tb.transpose(-1, -2))
    same.holds("T reverses all axes", jb.T.shape == (5, 8, 6))
    same("layouts, NHWC to NCHW", jb[..., None].transpose(0, 3, 1, 2), tb[..., None].movedim(3, 1))

    # Symmetric: S = S^T. Every A^T A is, here how 64 pixels of digits go together.
    jd, td = both(PIXELS / 16)
    same("A^T A", jd.T @ jd, td.T @ td)
    same("is symmetric", (jd.T @ jd).T, td.T @ td)
    values = jnp.linalg.eigvalsh(jd.T @ jd), torch.linalg.eigvalsh(td.T @ td)
    same("its eigenvalues are real", *values)
    same.holds("and, for A^T A, not negative", values[0].min() > -1e-9 * values[0].max())
    if (axes := same.axes(1, 3)) is not None:
        picture(axes[0], photo, "A, 200 by 160")
        picture(axes[1], jx.T, "A.T in JAX: a new value")
        picture(axes[2], tx.T, f"A.T in PyTorch: strides {tx.T.stride()}")

# %% [vector] Transpose of a Vector
# A column x is (n, 1), its transpose a row (1, n). x^T y is a number, x y^T a matrix of rank one.
with lesson("vector") as same:
    (jx, tx), (jy, ty) = both(same.rng.standard_normal(5)), both(same.rng.standard_normal(5))
    column, row = (jx[:, None], tx[:, None]), (jy[None, :], ty[None, :])
    same("the transpose of a row", jy[None, :].T, row[1].T)
    same("inner: (1, n) by (n, 1)", row[0] @ column[0], row[1] @ column[1])
    same("outer: (n, 1) by (1, n)", column[0] @ row[0], column[1] @ row[1])
    same("by the definition", jax_products.outer(jx, jy), column[1] @ row[1])
    same("trace(x y^T) = y^T x", jnp.trace(column[0] @ row[0]), products.inner(ty, tx))
    same.holds("rank one", int(jnp.linalg.matrix_rank(column[0] @ row[0])) == 1)

    # The 1-D trap: an array of one axis is neither row nor column, and `.T` leaves it alone. So
    # x @ y.T is not the outer product, but the inner one again; torch at least warns.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trap = jx @ jy.T, tx @ ty.T
    print(f"x @ y.T has the shape {trap[0].shape}, not (5, 5); warnings: {len(caught)}")
    same("x @ y.T", *trap)
    same("is the inner product", trap[0], products.inner(tx, ty))
    same("jnp.outer and torch.outer say what is meant", jnp.outer(jx, jy), torch.outer(tx, ty))

    # X^T X is the sum of the outer products of the examples.
    jd, td = both(PIXELS[:200] / 16)
    each = jax.vmap(jax_products.outer)(jd, jd), torch.func.vmap(products.outer)(td, td)
    same("sum of outer products", each[0].sum(0), td.T @ td)
    same("in torch, too", jd.T @ jd, each[1].sum(0))

    # A filter that is an outer product needs no matrix: Sobel's edges are a column, which smooths,
    # times a row, which differentiates. 3 + 3 products for a pixel in place of 9.
    photo = grey(160)
    (js, ts), (jr, tr) = both(np.array([1.0, 2, 1]) / 4), both(np.array([-1.0, 0, 1]) / 2)
    jp, tp = both(photo[None, None])

    def filtered(x, window):
        return jax.lax.conv(x, window[None, None], (1, 1), "VALID")

    whole = filtered(jp, jnp.outer(js, jr))
    apart = torch.nn.functional.conv2d(tp, ts[:, None][None, None])
    apart = torch.nn.functional.conv2d(apart, tr[None, :][None, None])
    same("one filter, or a column and a row", whole, apart)
    if (axes := same.axes(1, 3)) is not None:
        picture(axes[0], photo, "a photograph")
        picture(axes[1], whole[0, 0], "JAX: the outer product, 3 by 3")
        picture(axes[2], apart[0, 0], "PyTorch: the column, then the row")

# %% [product] Transpose of a Matrix Product
# (AB)^T = B^T A^T, for row i of A times column j of B is the entry (j, i) of the result.
with lesson("product") as same:
    (ja, ta), (jb, tb), (jc, tc) = (
        both(same.rng.standard_normal(s)) for s in ((3, 4), (4, 5), (5, 2))
    )
    same("(AB)^T = B^T A^T", (ja @ jb).T, tb.T @ ta.T)
    same("(ABC)^T = C^T B^T A^T", (ja @ jb @ jc).T, tc.T @ tb.T @ ta.T)
    (jp, tp), (jq, tq) = (both(same.rng.standard_normal((4, 4))) for _ in range(2))
    same.holds("A^T B^T is something else", abs((jp @ jq).T - jp.T @ jq.T).max() > 0.1)

    # A layer of a textbook is y = W x for a column x. Examples are rows, so it is transposed:
    # y^T = x^T W^T. torch keeps the W of the textbook, (out, in), and computes x W^T; Flax keeps
    # W^T, (in, out), and computes x K. Weights that move between them are transposed.
    jx, tx = both(PIXELS[:100] / 16)
    layer, flax_layer = Linear(64, 10), nn.Dense(10)
    with torch.no_grad():
        layer.weight.copy_(to_torch(same.rng.standard_normal((10, 64)) / 8))
        layer.bias.copy_(to_torch(same.rng.standard_normal(10)))
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    dense = {"params": {"kernel": to_jax(weight.T), "bias": to_jax(bias)}}
    print(f"torch weight {weight.shape}, Flax kernel {dense['params']['kernel'].shape}")
    same("the same layer", flax_layer.apply(dense, jx), layer(tx))

    # Where in = out no shape protects from forgetting it.
    square = jx[:, :4] @ jp, tx[:, :4] @ tp.T
    same.holds("runs, and is wrong", abs(np.asarray(square[0]) - square[1].numpy()).max() > 0.1)

    # Backward, everything is transposed: y = x W^T gives dx = dy W and dW = dy^T x. The shapes
    # leave no other choice.
    label = LABELS[:100]

    def loss(params, x):
        logs = jax.nn.log_softmax(x @ params["kernel"] + params["bias"])
        return -logs[jnp.arange(100), label].mean()

    slopes, jdx = jax.grad(loss, argnums=(0, 1))(dense["params"], jx)
    tx.requires_grad_()
    torch.nn.functional.cross_entropy(layer(tx), torch.from_numpy(label)).backward()
    same("dW, transposed as W is", slopes["kernel"].T, layer.weight.grad)
    same("dx", jdx, tx.grad)
    jy, cache = jax_backprop.linear_forward(jx, to_jax(weight), to_jax(bias))
    jdy = (jax.nn.softmax(jy) - jax.nn.one_hot(label, 10)) / 100
    same("dy W and dy^T x, by hand", jax_backprop.linear_backward(jdy, cache)["weight"], jdy.T @ jx)
    ty, cache = backprop.linear_forward(tx, layer.weight, layer.bias)
    tdy = (ty.softmax(1) - torch.nn.functional.one_hot(torch.from_numpy(label), 10)) / 100
    same("are what JAX has", slopes["kernel"].T, backprop.linear_backward(tdy, cache)["weight"])
    same("in x, too", jdx, backprop.linear_backward(tdy, cache)["x"])

# %% [sum] Transpose of a Sum
# (A + B)^T = A^T + B^T and (cA)^T = c A^T: transposing is itself linear.
with lesson("sum") as same:
    photo = grey(160)
    (ja, ta), (jb, tb) = both(photo), both(same.rng.standard_normal((160, 160)))
    same("(A + 3B)^T", (ja + 3 * jb).T, ta.T + 3 * tb.T)

    # So every square A is symmetric plus antisymmetric: A = (A + A^T)/2 + (A - A^T)/2.
    parts = ((ja + ja.T) / 2, (ja - ja.T) / 2), ((ta + ta.T) / 2, (ta - ta.T) / 2)
    same("the two parts", *parts)
    same("their sum", parts[0][0] + parts[0][1], ta)
    same.holds("they are orthogonal", abs(float((parts[0][0] * parts[0][1]).sum())) < 1e-9)

    # x^T A x sees the symmetric part alone, and so does its gradient, (A + A^T) x.
    jx, tx = both(same.rng.standard_normal(160))
    same("x^T A x = x^T S x", jx @ ja @ jx, tx @ parts[1][0] @ tx)
    tx.requires_grad_()
    (tx @ ta @ tx).backward()
    same("gradient", jax.grad(lambda x: x @ ja @ x)(jx), tx.grad)
    same("(A + A^T) x", (ja + ja.T) @ jx, tx.grad)
    tx = tx.detach()

    # A linear function has a transpose without a matrix: <f(x), y> = <x, f'(y)> for all x and y.
    # jax.linear_transpose reads it off the program, each operation in reverse order: what was read
    # is added up. torch: the vjp of a linear function is the same.
    def transposed(f, *at):
        (value,) = torch.func.vjp(f, at[0])[1](at[1])
        return value

    maps = {
        "A x": (lambda x: ja @ x, lambda x: ta @ x, lambda y: ta.T @ y),
        "cumsum": (jnp.cumsum, lambda x: x.cumsum(0), lambda y: y.flip(0).cumsum(0).flip(0)),
        "roll": (lambda x: jnp.roll(x, 3), lambda x: x.roll(3), lambda y: y.roll(-3)),
        "sum": (
            lambda x: ja @ x + jnp.cumsum(x),
            lambda x: ta @ x + x.cumsum(0),
            lambda y: ta.T @ y + y.flip(0).cumsum(0).flip(0),
        ),
    }
    jy, ty = both(same.rng.standard_normal(160))
    for name, (ours, theirs, known) in maps.items():
        (back,) = jax.linear_transpose(ours, jx)(jy)
        same(f"transpose of {name}", back, transposed(theirs, tx, ty))
        same(f"known for {name}", back, known(ty))
        same(f"<f(x), y> = <x, f'(y)> for {name}", ours(jx) @ jy, tx @ known(ty))
    if (axes := same.axes(2, 3, height=2.9)) is not None:
        for (symmetric, anti), framework, line in zip(parts, ("JAX", "PyTorch"), axes, strict=True):
            picture(line[0], symmetric + anti, f"{framework}: the sum, A")
            picture(line[1], symmetric, "symmetric, (A + A^T) / 2")
            picture(line[2], anti, "antisymmetric, (A - A^T) / 2", vmin=-0.5, vmax=0.5)

# %% [inverse] Transpose of an Inverse
# A A^-1 = I, transposed: (A^-1)^T A^T = I. So (A^-1)^T = (A^T)^-1, written A^-T.
with lesson("inverse") as same:
    # A from a text: P_ij is how often the letter i is followed by j, and A = I - 0.9 P. It is not
    # symmetric: "q" is followed by "u", and not the other way round.
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    letters = "abcdefghijklmnopqrstuvwxyz "
    text = [c for c in codecs.decode(this.s, "rot13").lower().replace("\n", " ") if c in letters]
    counts = np.full((27, 27), 0.01)
    for one, two in itertools.pairwise(text):
        counts[letters.index(one), letters.index(two)] += 1
    chain = counts / counts.sum(1, keepdims=True)
    ja, ta = both(np.eye(27) - 0.9 * chain)
    same("(A^-1)^T = (A^T)^-1", jnp.linalg.inv(ja).T, torch.linalg.inv(ta.T))

    # What a letter is worth: v = r + 0.9 P v, vowels counted ahead, each letter 0.9 of the one
    # before. What is visited: u = s + 0.9 P^T u, from a start s. <s, A^-1 r> = <A^-T s, r>.
    (jr, tr), (js, ts) = (both(np.array([c in w for c in letters], float)) for w in ("aeiou", "t"))
    value = jnp.linalg.solve(ja, jr), torch.linalg.solve(ta, tr)
    visits = jnp.linalg.solve(ja.T, js), torch.linalg.solve(ta.T, ts)
    same("values, A v = r", *value)
    same("visits, A^T u = s", *visits)
    same("<s, v> = <u, r>", js @ value[0], visits[1] @ tr)

    # One factorisation serves both. A[p] = L U, transposed: A^T = U^T L^T without the order, so
    # U^T (a lower triangle) first, then L^T (an upper one), then put the rows back.
    jp, jl, ju = jax_elimination.lu(ja)
    tp, tl, tu = elimination.lu(ta)
    jz = jax_elimination.back_substitution(jl.T, jax_elimination.forward_substitution(ju.T, js))
    tz = elimination.back_substitution(tl.T, elimination.forward_substitution(tu.T, ts))
    by_factors = jnp.zeros(27).at[jp].set(jz), torch.zeros(27).index_put((tp,), tz)
    same("with transposed factors", *by_factors)
    same("the visits again", by_factors[0], visits[1])
    kept = jax.scipy.linalg.lu_factor(ja), torch.linalg.lu_factor(ta)
    same(
        "libraries: trans=1 and adjoint=True",
        jax.scipy.linalg.lu_solve(kept[0], js, trans=1),
        torch.linalg.lu_solve(*kept[1], ts[:, None], adjoint=True)[:, 0],
    )

    # That is the backward pass of `solve`: for x = A^-1 b, db = A^-T dx and dA = -db x^T.
    ta, tr = ta.requires_grad_(), tr.requires_grad_()
    (ts @ torch.linalg.solve(ta, tr)).backward()
    slopes = jax.grad(lambda a, r: js @ jnp.linalg.solve(a, r), argnums=(0, 1))(ja, jr)
    same("gradients", slopes, (ta.grad, tr.grad))
    same("A^-T dx", by_factors[0], tr.grad)
    same("-db x^T", -jnp.outer(by_factors[0], value[0]), ta.grad)
    if (axes := same.axes(2, 1, height=2.6)) is not None:
        shown = ("vowels ahead of a letter: A v = r", value), ("visits from t: A^T u = s", visits)
        for axis, (title, (ours, theirs)) in zip(axes, shown, strict=True):
            axis.bar(np.arange(27), ours, color="tab:blue", label="JAX")
            axis.plot(np.arange(27), theirs, "o", color="tab:orange", label="PyTorch")
            axis.set_xticks(np.arange(27), [*letters[:-1], "␣"])
            axis.set(title=title, ylabel="discounted number", xlabel="letter")
            axis.legend()

# %% [transpose] Transpose of a Transpose
# (A^T)^T = A. A linear function is the transpose of its transpose, whatever computes it.
with lesson("transpose") as same:
    ja, ta = both(same.rng.standard_normal((3, 5)))
    same("(A^T)^T", ja.T.T, ta)
    same.holds("torch: the same memory and strides", ta.T.T.stride() == ta.stride())

    # A convolution is linear, too: a sparse matrix A, one row for each output pixel. Its transpose
    # is ConvTranspose2d with the same weights, although it looks like another layer.
    weight = same.rng.standard_normal((1, 1, 3, 3))
    options = {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False}
    conv, back = Conv2d(1, 1, **options), ConvTranspose2d(1, 1, **options, output_padding=1)
    with torch.no_grad():
        conv.weight.copy_(to_torch(weight))
        back.weight.copy_(to_torch(weight))
    variables = {"params": {"kernel": to_jax(weight.transpose(2, 3, 1, 0))}}
    jax_conv = JaxConv2d(1, 1, **options).bind(variables)
    jax_back = JaxConvTranspose2d(1, 1, **options, output_padding=1).bind(variables)

    def forth_jax(x):
        return jax_conv(x.reshape(1, 8, 8, 1)).reshape(-1)

    def back_jax(y):
        return jax_back(y.reshape(1, 4, 4, 1)).reshape(-1)

    def forth(x):
        return conv(x.reshape(1, 1, 8, 8)).reshape(-1)

    def back_torch(y):
        return back(y.reshape(1, 1, 4, 4)).reshape(-1)

    (jx, tx), (jy, ty) = both(PIXELS[3] / 16), both(np.ones(16))
    matrices = jax.jacobian(forth_jax)(jx), torch.func.jacrev(forth)(tx).detach()
    transposes = jax.jacobian(back_jax)(jy), torch.func.jacrev(back_torch)(ty).detach()
    same("A", *matrices)
    same("A^T", *transposes)
    same("is A transposed", matrices[0].T, transposes[1])
    print(f"A is {matrices[0].shape}, {int((matrices[0] != 0).sum())} of 1024 entries are not 0")

    # <Ax, y> = <x, A'y> for every x and y.
    for _ in range(3):
        (jx1, tx1), (jy1, ty1) = (both(same.rng.standard_normal(n)) for n in (64, 16))
        same("<Ax, y> = <x, A'y>", forth_jax(jx1) @ jy1, tx1 @ back_torch(ty1))
        same("and the other way round", jx1 @ back_jax(jy1), forth(tx1) @ ty1)
        (by_jax,) = jax.linear_transpose(forth_jax, jx1)(jy1)
        same("jax.linear_transpose", by_jax, back_torch(ty1))
        (twice,) = jax.linear_transpose(back_jax, jy1)(jx1)
        same("twice is the convolution", twice, forth(tx1))

    # A transpose is no inverse ("deconvolution" is a misnomer): shapes come back, values do not.
    again = back_jax(forth_jax(jx)), back_torch(forth(tx)).detach()
    same("A'Ax", *again)
    same.holds("is not x", float(abs(again[0] - jx).max()) > 0.5)
    if (axes := same.axes(2, 4, height=2.4)) is not None:
        rows = zip(axes, ("JAX", "PyTorch"), matrices, transposes, again, strict=True)
        for line, framework, matrix, transposed, restored in rows:
            picture(line[0], matrix, f"{framework}: A, 16 by 64")
            picture(line[1], transposed, "A', 64 by 16")
            picture(line[2], jx.reshape(8, 8), "x")
            picture(line[3], restored.reshape(8, 8), "A'Ax, not x")
