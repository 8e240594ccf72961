"""Matrix multiplication in JAX and in PyTorch: the definition, broadcasting, dot products, layers.

Run it as a program (`python examples/linear_algebra/matmul.py --out figures`), or cell by cell in
an editor that knows `# %%`. `--full` goes to larger sizes: about 10 s on two cores.
"""

# %% Set-up
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch

from compare.share import to_jax
from compare.study.lessons import both, lesson
from compare.study.scripts import script
from jaxnn.layers.linear import Linear as JaxLinear
from jaxnn.linalg import broadcasting as jax_broadcasting
from jaxnn.linalg import products as jax_products
from torchref.layers.linear import Linear
from torchref.linalg import broadcasting, products

script(__name__)


def seconds(run, *args, repeats=5):
    """The shortest of a few runs, after one that compiles."""
    jax.block_until_ready(run(*args))
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(run(*args))  # JAX returns before it has computed
        found.append(time.perf_counter() - began)
    return min(found)


# %% [basic] Basic Matrix Multiplication
# C_ij is row i of A times column j of B. Three orders of the same sums: entry by entry, column by
# column (each column of C combines the columns of A), and as a sum of K matrices of rank one.
with lesson("basic") as same:
    a, b, c = (same.rng.standard_normal((n, n)) for n in (4, 4, 4))
    (ja, ta), (jb, tb), (jc, tc) = both(a), both(b), both(c)

    def by_loops(a, b, zeros):
        """The definition, word for word; no one computes it so."""
        rows = range(a.shape[0])
        return [[sum((a[i, k] * b[k, j] for k in rows), zeros) for j in rows] for i in rows]

    loops = jnp.array(by_loops(ja, jb, jnp.zeros(()))), torch.tensor(by_loops(ta, tb, 0.0))
    same("three loops", *loops)
    for name in ("matmul", "matmul_by_columns", "matmul_by_outer"):
        product = getattr(jax_products, name)(ja, jb), getattr(products, name)(ta, tb)
        same(name, *product)
        same(f"{name} is @", product[0], ta @ tb)
    same("einsum", jnp.einsum("ik,kj->ij", ja, jb), torch.einsum("ik,kj->ij", ta, tb))

    # Associative and distributive, but not commutative.
    same("(AB)C = A(BC)", (ja @ jb) @ jc, ta @ (tb @ tc))
    same("A(B + C) = AB + AC", ja @ (jb + jc), ta @ tb + ta @ tc)
    same.holds("AB is not BA", float(abs(ja @ jb - jb @ ja).max()) > 0.1)

    # 2 n^3 operations on 3 n^2 numbers: each is used n times, if the cache keeps it. `@` works in
    # blocks that fit; the sum over a broadcast product writes n^3 numbers to memory first.
    sizes = (32, 64, 128, 256, 512) if same.full else (32, 64, 128, 256)
    table = {"jax @": [], "torch @": [], "jax broadcast": [], "torch broadcast": []}
    by_at, by_sum = jax.jit(jnp.matmul), jax.jit(jax_products.matmul)
    for n in sizes:
        jx, tx = both(same.rng.standard_normal((n, n)))
        table["jax @"].append(seconds(by_at, jx, jx))
        table["torch @"].append(seconds(torch.matmul, tx, tx))
        table["jax broadcast"].append(seconds(by_sum, jx, jx))
        table["torch broadcast"].append(seconds(products.matmul, tx, tx))
    print(f"{'n':>16}" + "".join(f"{n:>9}" for n in sizes))
    for name, times in table.items():
        rates = "".join(f"{2e-9 * n**3 / t:9.2f}" for n, t in zip(sizes, times, strict=True))
        print(f"{name:>16}{rates}  GFLOP/s")
    if (axis := same.axes()) is not None:
        for name, times in table.items():
            axis.loglog(sizes, times, "o-", label=name)
        cubes = [table["torch @"][-1] * (n / sizes[-1]) ** 3 for n in sizes]
        axis.loglog(sizes, cubes, "k:", label="n cubed")
        axis.set(
            xlabel="n", ylabel="seconds", title="one n by n product: the sums alike, the memory not"
        )
        axis.legend()

# %% [broadcasting] Broadcasting
# Shapes are aligned at the last axis; an axis of size 1, or one that is missing in front, is
# stretched. NumPy's rule, and the same in both frameworks.
with lesson("broadcasting") as same:
    for shapes in (((3, 1), (4,)), ((2, 1, 5), (3, 1)), ((), (2, 3))):
        wanted = np.broadcast_shapes(*shapes)
        print(f"{shapes[0]} with {shapes[1]} -> {wanted}")
        same.holds("NumPy's rule (JAX)", jax_broadcasting.broadcast_shape(*shapes) == wanted)
        same.holds("NumPy's rule (PyTorch)", broadcasting.broadcast_shape(*shapes) == wanted)

    # A bias is added to every example; its gradient sums over what was stretched.
    (jx, tx), (jb, tb) = both(same.rng.standard_normal((5, 3))), both(same.rng.standard_normal(3))
    same("bias", jx + jb, tx + tb)
    tb.requires_grad_()
    ((tx + tb) ** 2).sum().backward()
    slope = jax.grad(lambda bias: ((jx + bias) ** 2).sum())(jb)
    same("gradient of the bias", slope, tb.grad)
    by_rule = jax_broadcasting.unbroadcast(2 * (jx + jb), (3,))
    same("which is the unbroadcast one", by_rule, tb.grad)

    # Outer sums: all pairs at once, here squared distances of points.
    jp, tp = both(same.rng.standard_normal((6, 2)))
    apart = ((jp[:, None] - jp[None]) ** 2).sum(-1), ((tp[:, None] - tp[None]) ** 2).sum(-1)
    same("squared distances", *apart)

    # The mistake that neither framework stops: (N,) against (N, 1) makes (N, N). A loss of such
    # predictions runs, trains, and means nothing.
    jy, ty = both(same.rng.standard_normal(5))
    wrong = ((jy[:, None] - jy) ** 2).mean(), ((ty[:, None] - ty) ** 2).mean()
    same("the mistake is the same in both", *wrong)
    same.holds("and not the 0 that was meant", float(wrong[0]) > 0.1)

# %% [dot] Dot Product
# A neuron's output is a dot product: how far x points along w. Divided by both lengths it is the
# cosine of the angle.
with lesson("dot") as same:
    (jw, tw), (jx, tx) = both(same.rng.standard_normal(64)), both(same.rng.standard_normal(64))
    same("inner", jax_products.inner(jw, jx), products.inner(tw, tx))
    neuron = jnp.tanh(jw @ jx / 8 + 0.5), torch.tanh(tw @ tx / 8 + 0.5)
    same("a neuron", *neuron)
    cosine = jw @ jx / jnp.linalg.norm(jw) / jnp.linalg.norm(jx)
    same("cosine similarity", cosine, torch.cosine_similarity(tw, tx, dim=0))

    # Rounding adds up with the length: a running sum in float32 loses about sqrt(n) units, sums in
    # blocks fewer. JAX's dot and PyTorch's `sum` go in blocks; how PyTorch's dot goes says the BLAS
    # that it was built with, and the reference BLAS is a running sum. One draw may be lucky, so 32
    # are averaged.
    lengths = [10**k for k in range(2, 7 if same.full else 6)]
    errors = {"running sum": [], "jax": [], "torch": [], "torch, sum of products": []}
    for n in lengths:
        squares = dict.fromkeys(errors, 0.0)
        for _ in range(32):
            x, y = same.rng.random((2, n), np.float32)
            exact = float(x.astype(np.float64) @ y.astype(np.float64))
            found = {
                "running sum": np.cumsum(x * y, dtype=np.float32)[-1],
                "jax": jnp.dot(jnp.asarray(x), jnp.asarray(y)),
                "torch": torch.dot(torch.from_numpy(x), torch.from_numpy(y)),
                "torch, sum of products": (torch.from_numpy(x) * torch.from_numpy(y)).sum(),
            }
            for name, value in found.items():
                squares[name] += (float(value) / exact - 1) ** 2 / 32
        for name, square in squares.items():
            errors[name].append(square**0.5)
    running, jax_dot, torch_dot, torch_sum = (values[-1] for values in errors.values())
    same.holds("JAX's dot is better than a running sum", jax_dot < running / 4)
    same.holds("PyTorch's sum of the products, too", torch_sum < running / 4)
    same.holds("PyTorch's dot is not worse", torch_dot < 1.01 * running)
    if (axis := same.axes()) is not None:
        for name, values in errors.items():
            axis.loglog(lengths, values, "o-", label=name)
        axis.axhline(2**-24, color="k", ls=":", label="half a unit of float32")
        axis.set(
            xlabel="length",
            ylabel="relative error, root mean square",
            title="a dot product in float32",
        )
        axis.legend()

# %% [matrix_vector] Matrix-Vector Multiplication
# By rows: each output is a dot product with a row. By columns: the output combines the columns.
with lesson("matrix_vector") as same:
    (ja, ta), (jx, tx) = both(same.rng.standard_normal((3, 4))), both(same.rng.standard_normal(4))
    rows = jnp.stack([row @ jx for row in ja]), torch.stack([row @ tx for row in ta])
    same("rows", *rows)
    columns = sum(x * column for x, column in zip(jx, ja.T, strict=True))
    same("columns", columns, ta @ tx)

    # A linear layer is one such product for each example. torch stores W as (out, in) and computes
    # x W^T; JAX's kernel is (in, out). One vmap, or one matrix product, serves the whole batch.
    layer = Linear(4, 3)
    kernel, bias = to_jax(layer.weight.detach().numpy().T), to_jax(layer.bias.detach().numpy())
    jbatch, tbatch = both(same.rng.standard_normal((5, 4)))
    variables = {"params": {"kernel": kernel, "bias": bias}}
    outputs = JaxLinear(4, 3).apply(variables, jbatch)
    same("a layer", outputs, layer(tbatch))
    same("vmap of one example", jax.vmap(lambda x: x @ kernel + bias)(jbatch), layer(tbatch))
    one = torch.func.vmap(lambda x: layer.weight @ x + layer.bias)(tbatch)
    same("torch's vmap", outputs, one)

# %% [matrix_matrix] Matrix-Matrix Multiplication
# Leading axes are a batch, in both frameworks; they broadcast.
with lesson("matrix_matrix") as same:
    (ja, ta), (jb, tb) = (both(same.rng.standard_normal(s)) for s in ((2, 1, 3, 4), (5, 4, 2)))
    same("batched", ja @ jb, ta @ tb)
    same("as einsum", jnp.einsum("abik,bkj->abij", ja.repeat(5, 1), jb), ta @ tb)

    # Blocks: C = sum over k of A[:, k] B[k, :], blocks in place of numbers. What fits the cache is
    # read once; this is how every library computes it.
    (jx, tx), size = both(same.rng.standard_normal((64, 64))), 16

    def blocked(a, b, join):
        cut = [slice(i, i + size) for i in range(0, len(a), size)]
        return join([[sum(a[i, k] @ b[k, j] for k in cut) for j in cut] for i in cut])

    whole = blocked(jx, jx, jnp.block)
    grid = blocked(tx, tx, lambda rows: torch.cat([torch.cat(row, 1) for row in rows]))
    same("in blocks", whole, grid)
    same("which is the product", whole, tx @ tx)

    # Precision. On a CPU float32 is float32; on an NVIDIA GPU both frameworks may round the factors
    # to TF32 (10 bits of fraction), on a TPU JAX to bfloat16 (7 bits), unless "highest" is asked
    # for. Here the factors are rounded by hand and summed in float32, as the hardware does.
    def rounded(x, bits):
        """x in float32 with so many bits of fraction, to the nearest."""
        whole = np.float32(x).view(np.uint32)
        drop = 23 - bits
        return ((whole + np.uint32(1 << (drop - 1))) >> drop << drop).view(np.float32)

    x, y = same.rng.standard_normal((2, 128, 128)).astype(np.float32)
    exact = x.astype(np.float64) @ y.astype(np.float64)
    shown = {}
    for name, (p, q) in {
        "highest": (x, y),
        "TF32": (rounded(x, 10), rounded(y, 10)),
        "bfloat16": (rounded(x, 7), rounded(y, 7)),
    }.items():
        by_jax = jnp.matmul(jnp.asarray(p), jnp.asarray(q), precision="highest")
        by_torch = torch.from_numpy(p) @ torch.from_numpy(q)
        shown[name] = [
            float(np.linalg.norm(np.asarray(v, np.float64) - exact) / np.linalg.norm(exact))
            for v in (by_jax, by_torch)
        ]
        print(f"{name:>9}  jax {shown[name][0]:.1e}  torch {shown[name][1]:.1e}")
        same.holds("both lose alike", 0.5 < shown[name][0] / shown[name][1] < 2)
    same(
        "bfloat16 by hand is bfloat16", rounded(x, 7), torch.from_numpy(x).bfloat16().float(), 2**-8
    )
    same.holds("each step costs digits", shown["bfloat16"] > shown["TF32"] > shown["highest"])
    if (axis := same.axes()) is not None:
        places = np.arange(len(shown))
        for side, (shift, name) in enumerate(((-0.2, "jax"), (0.2, "torch"))):
            axis.bar(places + shift, [v[side] for v in shown.values()], 0.4, label=name)
        axis.set_xticks(places, list(shown))
        axis.set(
            yscale="log", ylabel="relative error", title="128 by 128, by precision of the factors"
        )
        axis.legend()
