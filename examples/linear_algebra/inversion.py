"""Determinants, elimination and factorisations in JAX and in PyTorch: how systems are solved.

Run it as a program (`python examples/linear_algebra/inversion.py --out figures`), or cell by cell
in an editor that knows `# %%`. `--full` goes to larger sizes: about 30 s on two cores.
"""

# %% Set-up
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
from sklearn.datasets import load_digits, load_sample_image

from compare.share import to_jax, to_torch
from compare.study.lessons import both, lesson
from compare.study.scripts import script
from jaxnn.linalg import bases as jax_bases
from jaxnn.linalg import determinants as jax_determinants
from jaxnn.linalg import elimination as jax_elimination
from jaxnn.linalg import products as jax_products
from torchref.linalg import bases, determinants, elimination, products

script(__name__)
# Handwritten digits, (1797, 64) in 0..1.
PIXELS, LABELS = (np.asarray(part) for part in load_digits(return_X_y=True))
PIXELS = PIXELS / 16


# %% [determinants] Determinants
# det A: the factor by which A stretches volumes, negative where it also mirrors. From A[p] = L U
# it is the product of U's diagonal, with the sign of the order p.
with lesson("determinants") as same:
    (ja, ta), (jb, tb) = (both(same.rng.standard_normal((6, 6))) for _ in range(2))
    jax_determinant = jax.jit(jax_determinants.determinant)
    by_lu = jax_determinant(ja), determinants.determinant(ta)
    same("by LU", *by_lu)
    same("is that of the libraries", jnp.linalg.det(ja), torch.linalg.det(ta))
    same("in both", by_lu[0], torch.linalg.det(ta))
    same("det AB = det A det B", jnp.linalg.det(ja @ jb), by_lu[1] * torch.linalg.det(tb))
    same("det A^T = det A", jnp.linalg.det(ja.T), by_lu[1])
    same("det 2A = 2^6 det A", jnp.linalg.det(2 * ja), 64 * by_lu[1])
    same("two rows exchanged", jnp.linalg.det(ja[jnp.array([1, 0, 2, 3, 4, 5])]), -by_lu[1])

    # Sign and logarithm: det A is a product of n numbers, and at n = 400 no float64 any more. What
    # a Gaussian's density or a flow needs is log |det A| anyway: a sum.
    jx, tx = both(same.rng.standard_normal((400, 400)))
    print(f"n = 400: det {float(jnp.linalg.det(jx))}, {float(torch.linalg.det(tx))}")
    same.holds("det overflows", not np.isfinite([jnp.linalg.det(jx), torch.linalg.det(tx)]).any())
    logs = jnp.linalg.slogdet(jx), torch.linalg.slogdet(tx)
    same("sign and logarithm", tuple(logs[0]), tuple(logs[1]))
    _, _, ju = jax.jit(jax_elimination.lu)(jx)
    _, _, tu = elimination.lu(tx)
    same("sum of log |U_ii|", jnp.log(abs(ju.diagonal())).sum(), tu.diagonal().abs().log().sum())
    same("is the logarithm", jnp.log(abs(ju.diagonal())).sum(), logs[1].logabsdet)

    # Volume: the unit square becomes a parallelogram of area |det A| (by the shoelace formula).
    square = np.array([[0.0, 1, 1, 0], [0, 0, 1, 1]])
    shapes = {
        "stretch": [[1.5, 0.3], [0.2, 1.2]],
        "shear": [[1.0, 0.8], [0.0, 1.0]],
        "mirror": [[0.6, 0.9], [1.1, 0.2]],
    }

    def area(corners, roll):
        x, y = corners
        return (x * roll(y, -1) - y * roll(x, -1)).sum() / 2

    images = {name: (both(m), both(np.array(m) @ square)) for name, m in shapes.items()}
    for name, ((jm, tm), (js, ts)) in images.items():
        same(f"area of the {name}", area(js, jnp.roll), determinants.determinant(tm))
        same(f"and in torch, {name}", jax_determinant(jm), area(ts, torch.roll))

    # So densities are divided by it: if x is standard normal, y = A x has the density p(x)/|det A|.
    (jx, tx), normal = both(same.rng.standard_normal(6)), 6 / 2 * np.log(2 * np.pi)
    flow = -jx @ jx / 2 - normal - jnp.linalg.slogdet(ja)[1]
    theirs = torch.distributions.MultivariateNormal(torch.zeros(6), ta @ ta.T).log_prob(ta @ tx)
    same("a normal density, carried along", flow, theirs)

    # Gradient: d det A / dA_ij is the cofactor of A_ij, and d log|det A| / dA = A^-T.
    slope = jax.jit(jax.grad(jax_determinant))(ja), ta.clone().requires_grad_()
    determinants.determinant(slope[1]).backward()
    same("gradient", slope[0], slope[1].grad)
    same("is the cofactors", slope[0], determinants.cofactors(ta))
    same("is det A A^-T", jnp.linalg.det(ja) * jnp.linalg.inv(ja).T, slope[1].grad)
    by_log = jax.grad(lambda a: jnp.linalg.slogdet(a)[1])(ja), ta.clone().requires_grad_()
    torch.linalg.slogdet(by_log[1]).logabsdet.backward()
    same("gradient of the logarithm", by_log[0], by_log[1].grad)
    same("is A^-T", by_log[0], torch.linalg.inv(ta).T)

    # Where det A = 0 there is no A^-T, but there are cofactors.
    js, ts = both(np.array([[1.0, 2], [2, 4]]))
    ts.requires_grad_()
    torch.linalg.det(ts).backward()
    found = jax.grad(jnp.linalg.det)(js)
    print(f"singular: jnp.linalg.det's gradient {found.tolist()}, torch's {ts.grad.tolist()}")
    same("the cofactors of a singular matrix", found, determinants.cofactors(ts))
    same("by Laplace", jax.jit(jax.grad(jax_determinants.laplace))(js), determinants.cofactors(ts))
    if (axes := same.axes(1, 3)) is not None:
        for axis, (name, ((jm, _), (js, ts))) in zip(axes, images.items(), strict=True):
            axis.fill(*square, color="lightgrey", label="unit square")
            axis.fill(*np.asarray(js), color="tab:blue", alpha=0.5, label="JAX")
            axis.plot(*ts[:, [0, 1, 2, 3, 0]], "--", color="tab:orange", label="PyTorch")
            axis.set(title=f"{name}: det {float(jnp.linalg.det(jm)):.2f}", xlabel="x", ylabel="y")
            axis.set(aspect="equal", xlim=(-0.2, 2), ylim=(-0.2, 2))
        axes[0].legend(fontsize=8, loc="upper left")

# %% [cofactor] Cofactor Expansion
# det A = sum_j (-1)^j A_0j M_0j, M_0j being the determinant without row 0 and column j; and so on,
# down to one entry. It defines the determinant, and costs more than n! products.
with lesson("cofactor") as same:

    def expand(a, counted):
        """The definition, for the arrays of either framework; counts its products."""
        n = len(a)
        if n == 1:
            return a[0, 0]
        counted[0] += n
        total = 0.0
        for j in range(n):
            minor = a[1:][:, np.delete(np.arange(n), j)]
            total = total + (-1) ** j * a[0, j] * expand(minor, counted)
        return total

    def seconds(run, *args):
        began = time.perf_counter()
        jax.block_until_ready(run(*args))
        return time.perf_counter() - began

    sizes, products_of, times = range(2, 8 if same.full else 7), {}, {}
    fast = jax.jit(jax_determinants.determinant)
    for n in sizes:
        ja, ta = both(same.rng.standard_normal((n, n)))
        counted = [0]
        same(f"expansion, n = {n}", expand(ja, counted), expand(ta, [0]))
        same(f"is the determinant, n = {n}", fast(ja), expand(ta, [0]))
        products_of[n] = counted[0], sum(k * k + k for k in range(1, n)) + n - 1
        times[n] = [
            seconds(expand, ja, [0]),
            seconds(expand, ta, [0]),
            seconds(fast, ja),
            seconds(determinants.determinant, ta),
        ]
        print(f"n = {n}: {products_of[n][0]:6} products, by elimination {products_of[n][1]:4}")
    biggest = max(sizes)
    same.holds("more than n! products", products_of[biggest][0] > np.prod(range(1, biggest + 1)))
    same.holds("elimination: about n^3 / 3", products_of[biggest][1] < biggest**3 / 2)

    # The adjugate: A C^T = det(A) I, so A^-1 = C^T / det A. Cramer's rule is a row of it.
    ja, ta = both(same.rng.standard_normal((5, 5)))
    (jb, tb) = both(same.rng.standard_normal(5))
    cofactors = jax.jit(jax_determinants.cofactors)(ja), determinants.cofactors(ta)
    same("cofactors", *cofactors)
    adjugate = cofactors[0].T, cofactors[1].T
    same("A adj A = det(A) I", ja @ adjugate[0], torch.linalg.det(ta) * torch.eye(5))
    inverse = adjugate[0] / jnp.linalg.det(ja), adjugate[1] / torch.linalg.det(ta)
    same("inverse", *inverse)
    same("is that of the libraries", inverse[0], torch.linalg.inv(ta))
    same("or of JAX", jnp.linalg.inv(ja), inverse[1])
    cramer = jnp.stack([jnp.linalg.det(ja.at[:, i].set(jb)) for i in range(5)]) / jnp.linalg.det(ja)
    same("Cramer's rule", cramer, torch.linalg.solve(ta, tb))

    # What it is good for: 3 by 3, in closed form. The matrix from red, green and blue to JPEG's
    # brightness and two colour differences; its inverse brings a photograph back.
    colours = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    jm, tm = both(colours)
    jp, tp = both(load_sample_image("flower.jpg")[::8, ::8] / 255)
    back = [jax_determinants.cofactors(jm).T / fast(jm)]
    back += [determinants.cofactors(tm).T / determinants.determinant(tm)]
    print(np.asarray(back[0]).round(3))
    restored = (jp @ jm.T) @ back[0].T, (tp @ tm.T) @ back[1].T
    same("the photograph, there and back", *restored)
    same("is what it was", restored[0], tp)
    if (axes := same.axes(1, 2)) is not None:
        names = "expansion, JAX", "expansion, PyTorch", "LU, JAX (jit)", "LU, PyTorch"
        for k, name in enumerate(("expansion", "elimination")):
            axes[0].semilogy(sizes, [products_of[n][k] for n in sizes], "o-", label=name)
        for k, name in enumerate(names):
            axes[1].semilogy(sizes, [times[n][k] for n in sizes], "o-", label=name)
        axes[0].set(xlabel="n", ylabel="products of numbers", title="what a determinant takes")
        axes[1].set(xlabel="n", ylabel="seconds", title="and how long")
        for axis in axes:
            axis.legend(fontsize=8)

# %% [gaussian_elimination] Gaussian Elimination
# Subtract multiples of one row from those below until a triangle is left; solve it from the bottom.
with lesson("gaussian_elimination") as same:
    a, b = np.array([[2.0, 1, -1], [-3, -1, 2], [-2, 1, 2]]), np.array([8.0, -11, -3])
    (ja, ta), (jb, tb) = both(a), both(b)
    whole = np.column_stack([a, b])
    for k in range(3):
        top = k + abs(whole[k:, k]).argmax()  # partial pivoting: the largest entry goes up
        whole = whole[elimination.swap(3, k, int(top)).numpy()]
        whole[k + 1 :] -= np.outer(whole[k + 1 :, k] / whole[k, k], whole[k])
        print(f"column {k}, pivot {whole[k, k]:.3f}:\n{whole.round(3)}")
    jax_solve = jax.jit(jax_elimination.gaussian_elimination)
    solved = jax_solve(ja, jb), elimination.gaussian_elimination(ta, tb)
    same("the solution", *solved)
    same("is (2, 3, -1)", solved[0], np.array([2.0, 3, -1]))
    back = jax_elimination.back_substitution(to_jax(whole[:, :3]), to_jax(whole[:, 3]))
    same("the triangle above, from the bottom", back, solved[1])
    same("is that of the libraries", jnp.linalg.solve(ja, jb), torch.linalg.solve(ta, tb))

    # Why the rows are exchanged: with a pivot of 1e-20 the factor is 1e20, and A_11 is lost in it.
    def without_pivoting(a, b):
        factor = a[1, 0] / a[0, 0]
        y = (b[1] - factor * b[0]) / (a[1, 1] - factor * a[0, 1])
        return (b[0] - a[0, 1] * y) / a[0, 0], y

    (ja, ta), (jb, tb) = both(np.array([[1e-20, 1], [1, 1]])), both(np.array([1.0, 2]))
    bad = without_pivoting(ja, jb), without_pivoting(ta, tb)
    print(f"without pivoting {[float(v) for v in bad[0]]}, truly (1, 1)")
    same("both lose alike", *bad)
    same.holds("the first unknown is wrong by 1", float(bad[0][0]) == 0)
    good = jax_solve(ja, jb), elimination.gaussian_elimination(ta, tb)
    same("with pivoting", *good)
    same("is right", good[0], np.ones(2))

    # Rank-deficient: the reduced row echelon form of [A | b] tells the cases apart. A pivot in the
    # last column says 0 = 1; a free column, that solutions can be added to. Here row 2 is the sum
    # of rows 0 and 1.
    a = np.array([[1.0, 2, 0, 1], [0, 1, 1, 3], [1, 3, 1, 4]])
    for name, b in (("consistent", [1.0, 2, 3]), ("inconsistent", [1.0, 2, 4])):
        jw, tw = both(np.column_stack([a, b]))
        forms = jax.jit(jax_bases.reduced_row_echelon)(jw), bases.reduced_row_echelon(tw)
        same(f"{name}: echelon form and pivots", *forms)
        print(f"{name}, pivots in {np.flatnonzero(forms[0][1]).tolist()}:\n{forms[0][0]}")
        same.holds(name, bool(forms[0][1][-1]) == (name == "inconsistent"))
    (ja, ta), (jb, tb) = both(a), both(np.array([1.0, 2, 3]))
    form, pivots = bases.reduced_row_echelon(torch.column_stack([ta, tb]))
    one = jnp.zeros(4).at[jnp.array([0, 1])].set(to_jax(form[:2, -1].numpy()))
    free = jax_bases.null_space(ja), bases.null_space(ta)
    same("the null space", *free)
    same("x + 5 n solves it, too", ja @ (one + 5 * free[0].sum(1)), tb)
    same("in torch", jb, ta @ (to_torch(np.asarray(one)) + 5 * free[1].sum(1)))

    # On a singular square matrix jax goes on, with inf or NaN; torch raises.
    js, ts = both(np.array([[1.0, 2], [2, 4]]))
    silent = jnp.linalg.solve(js, jnp.ones(2))
    same.holds("jnp.linalg.solve gives no numbers", not bool(jnp.isfinite(silent).all()))
    try:
        torch.linalg.solve(ts, torch.ones(2))
        same.holds("torch.linalg.solve raises", False)
    except torch.linalg.LinAlgError as error:
        print(f"jax: {silent}; torch: {str(error).partition(' (')[0]}")

    # Ill-conditioned: Hilbert's matrices, H_ij = 1 / (i + j + 1). The residual stays small whatever
    # A is; the error does not, it grows to cond(A) times the rounding.
    orders, eps = range(2, 13), np.finfo(np.float64).eps
    found = {"condition": [], "JAX": [], "PyTorch": [], "residual": []}
    for n in orders:
        hilbert = 1 / (np.arange(n)[:, None] + np.arange(n) + 1)
        (ja, ta), (jb, tb) = both(hilbert), both(hilbert.sum(1))  # x is all ones
        ours = jax_solve(ja, jb)
        theirs = elimination.gaussian_elimination(ta, tb)
        found["condition"].append(np.linalg.cond(hilbert))
        found["JAX"].append(max(float(abs(ours - 1).max()), eps))
        found["PyTorch"].append(max(float(abs(theirs - 1).max()), eps))
        found["residual"].append(max(float(abs(ja @ ours - jb).max()), eps / 4))
    for name in ("JAX", "PyTorch"):
        bound = 10 * eps * np.array(found["condition"])
        same.holds(f"errors below 10 eps cond ({name})", (found[name] < bound).all())
        same.holds(f"at n = 12 few digits are left ({name})", found[name][-1] > 1e-4)
    same.holds("residuals of a few eps", max(found["residual"]) < 20 * eps)
    if (axis := same.axes()) is not None:
        axis.semilogy(orders, found["JAX"], "o-", label="error, JAX")
        axis.semilogy(orders, found["PyTorch"], "x--", label="error, PyTorch")
        axis.semilogy(orders, found["residual"], "s-", label="residual, JAX")
        axis.semilogy(orders, eps * np.array(found["condition"]), "k:", label="eps cond(A)")
        axis.set(xlabel="n", ylabel="largest entry", title="Hilbert's matrices, solved in float64")
        axis.legend(fontsize=8)

# %% [lu] LU Decomposition
# A[p] = L U: the factors of the elimination are kept in L, what is left in U. n^3 / 3 products
# once, then n^2 for each right side.
with lesson("lu") as same:
    ja, ta = both(same.rng.standard_normal((6, 6)))
    factors = jax_elimination.lu(ja), elimination.lu(ta)
    same("p, L and U", *factors)
    p, l, u = factors[0]
    same("A[p] = L U", l @ u, ta[factors[1][0]])
    same.holds("partial pivoting: no factor above 1", float(abs(l).max()) <= 1)
    library = jax.scipy.linalg.lu(ja), torch.linalg.lu(ta)
    same("the libraries: A = P L U", library[0], tuple(library[1]))
    same("have the same L", l, library[1].L)

    # Doolittle's order makes the same factors row by row, each entry by one inner product:
    # U_ij = A_ij - sum_(k<i) L_ik U_kj,  L_ij = (A_ij - sum_(k<j) L_ik U_kj) / U_jj.
    def doolittle(a):
        n, l, u = len(a), {}, {}
        for i in range(n):
            for j in range(n):
                rest = a[i, j] - sum(l[i, k] * u[k, j] for k in range(min(i, j)))
                if i > j:
                    l[i, j] = rest / u[j, j]
                else:
                    u[i, j] = rest
        return {"L": [float(v) for v in l.values()], "U": [float(v) for v in u.values()]}

    by_rows = doolittle(ja[p]), doolittle(ta[factors[1][0]])
    same("Doolittle", *by_rows)
    same("its L is L", np.array(by_rows[0]["L"]), factors[1][1][*np.tril_indices(6, -1)])

    # jax: the elimination is one `scan` with `where` in place of `if`, so jit compiles it once for
    # a shape, and vmap makes a batch of it. torch: the pivots steer Python, and vmap has to refuse.
    traced = []

    @jax.jit
    def compiled(a):
        traced.append(a.shape)
        return jax_elimination.lu(a)

    for _ in range(3):
        jx, tx = both(same.rng.standard_normal((6, 6)))
        same("under jit", compiled(jx), elimination.lu(tx))
    same.holds("traced once for three matrices", len(traced) == 1)
    jx, tx = both(same.rng.standard_normal((4, 6, 6)))
    each = [torch.stack(parts) for parts in zip(*map(elimination.lu, tx), strict=True)]
    same("vmap, and a loop", jax.vmap(jax_elimination.lu)(jx), tuple(each))
    try:
        torch.func.vmap(elimination.lu)(tx)
        same.holds("torch.func.vmap refuses", False)
    except RuntimeError as error:
        print(f"torch.func.vmap: {str(error)[:70]}…")

    # One matrix, many right sides: heat that spreads over a grid of 8 by 8 pixels. An implicit step
    # solves (I + dt K) u_new = u, K being the differences to the neighbours; it is stable whatever
    # dt is. Here all 1797 digits at once, ten steps with one factorisation.
    line = np.diag([1.0, *[2] * 6, 1]) - np.eye(8, k=1) - np.eye(8, k=-1)
    (jline, tline), (jeye, teye) = both(line), both(np.eye(8))
    jk = jax_products.kronecker(jline, jeye) + jax_products.kronecker(jeye, jline)
    tk = products.kronecker(tline, teye) + products.kronecker(teye, tline)
    same("K", jk, tk)
    (ju, tu), dt = both(PIXELS.T), 0.1
    jp, jl, jr = compiled(jnp.eye(64) + dt * jk)
    tp, tl, tr = elimination.lu(torch.eye(64) + dt * tk)

    @jax.jit
    def warmed(u):
        def step(u, _):
            y = jax_elimination.forward_substitution(jl, u[jp])
            return jax_elimination.back_substitution(jr, y), None

        return jax.lax.scan(step, u, length=10)[0]

    blurred, spread = warmed(ju), tu
    for _ in range(10):
        spread = elimination.back_substitution(tr, elimination.forward_substitution(tl, spread[tp]))
    same("ten steps of 1797 right sides", blurred, spread)
    power = torch.linalg.matrix_power(torch.linalg.inv(torch.eye(64) + dt * tk), 10)
    same("are A^-10", blurred, power @ tu)
    same("heat is kept", blurred.sum(0), tu.sum(0))
    same.holds("and levelled", float(blurred.max()) < float(ju.max()))
    if (axes := same.axes(2, 6, height=1.5)) is not None:
        shown = ("JAX", ju, blurred), ("PyTorch", tu, spread)
        for row, (name, before, after) in zip(axes, shown, strict=True):
            for k in range(3):
                for axis, image, when in ((row[2 * k], before, 0), (row[2 * k + 1], after, 1)):
                    axis.imshow(image[:, k].reshape(8, 8), cmap="gray", vmin=0, vmax=1)
                    axis.set(xticks=[], yticks=[])
                    axis.set_title(f"{name}: t = {when}", fontsize=9)

# %% [cholesky] Cholesky Decomposition
# A = L L^T for a symmetric A with x^T A x > 0: half the work of LU, and no pivoting is needed.
# L_jj = sqrt(A_jj - sum_(k<j) L_jk^2),  L_ij = (A_ij - sum_(k<j) L_ik L_jk) / L_jj.
with lesson("cholesky") as same:
    factor = same.rng.standard_normal((5, 5))
    ja, ta = both(factor @ factor.T + np.eye(5))
    roots = jax_elimination.cholesky(ja), elimination.cholesky(ta)
    same("by its definition", *roots)
    same("is that of the libraries", jnp.linalg.cholesky(ja), roots[1])
    same("in both", roots[0], torch.linalg.cholesky(ta))
    same("L L^T = A", roots[0] @ roots[0].T, ta)
    same("log det A = 2 sum log L_ii", 2 * jnp.log(roots[0].diagonal()).sum(), torch.logdet(ta))

    # The test for definiteness: it fails exactly where a square root has no number.
    ji, ti = both(np.array([[1.0, 2], [2, 1]]))  # eigenvalues 3 and -1
    same.holds("NaN in JAX", bool(jnp.isnan(jax_elimination.cholesky(ji)).any()))
    same.holds("NaN in torchref", bool(elimination.cholesky(ti).isnan().any()))
    same.holds("NaN in jnp.linalg", bool(jnp.isnan(jnp.linalg.cholesky(ji)).any()))
    print(f"torch.linalg.cholesky_ex says at which column: {torch.linalg.cholesky_ex(ti).info}")
    same.holds("torch has a code for it", int(torch.linalg.cholesky_ex(ti).info) == 2)

    # A Newton step solves H d = g, and H is positive definite where the loss is convex. Logistic
    # regression, 3 against 8: H = X^T diag(p (1 - p)) X + I, g = X^T (p - y) + w.
    chosen = np.isin(LABELS, (3, 8))
    x = np.column_stack([PIXELS[chosen], np.ones(chosen.sum())])
    (jx, tx), (jy, ty) = both(x), both((LABELS[chosen] == 8).astype(float))
    train, test = slice(0, 240), slice(240, None)

    @jax.jit
    def newton_jax(w):
        def step(w, _):
            p = jax.nn.sigmoid(jx[train] @ w)
            g = jx[train].T @ (p - jy[train]) + w
            l = jax_elimination.cholesky(jx[train].T @ (jx[train] * (p * (1 - p))[:, None]) + eye)
            d = jax_elimination.back_substitution(l.T, jax_elimination.forward_substitution(l, g))
            return w - d, jnp.sqrt(g @ g)

        eye = jnp.eye(len(w))
        return jax.lax.scan(step, w, length=8)

    jw, jsizes = newton_jax(jnp.zeros(65))
    tw, tsizes = torch.zeros(65), []
    for _ in range(8):
        p = torch.sigmoid(tx[train] @ tw)
        g = tx[train].T @ (p - ty[train]) + tw
        l = elimination.cholesky(tx[train].T @ (tx[train] * (p * (1 - p))[:, None]) + torch.eye(65))
        tw = tw - elimination.back_substitution(l.T, elimination.forward_substitution(l, g))
        tsizes.append(float(g.norm()))
    same("weights after 8 Newton steps", jw, tw)
    same("|g| of the first steps", jsizes[:5], torch.tensor(tsizes[:5]))
    same.holds("the gradient is gone (JAX)", float(jsizes[-1]) < 1e-10)
    same.holds("the gradient is gone (PyTorch)", tsizes[-1] < 1e-10)
    right = (
        float(((jx[test] @ jw > 0) == (jy[test] > 0)).mean()),
        float(((tx[test] @ tw > 0) == (ty[test] > 0)).double().mean()),
    )
    print(f"|g| {[f'{size:.0e}' for size in tsizes]}; accuracy {right[0]:.3f} and {right[1]:.3f}")
    same.holds("9 of 10 digits that it has not seen", min(right) > 0.9)

    # To sample: if z has the covariance I, L z has L L^T = C. A Gaussian with mean and covariance
    # of the zeros; 0.01 on the diagonal, for pixels that are always blank have no variance.
    zeros = PIXELS[LABELS == 0]
    mean, covariance = zeros.mean(0), np.cov(zeros.T) + 0.01 * np.eye(64)
    (jm, tm), (jc, tc), (jz, tz) = (
        both(v) for v in (mean, covariance, same.rng.standard_normal((4000, 64)))
    )
    samples = (
        jm + jz @ jax.jit(jax_elimination.cholesky)(jc).T,
        tm + tz @ elimination.cholesky(tc).T,
    )
    same("samples", *samples)
    away = np.linalg.norm(np.cov(np.asarray(samples[0]).T) - covariance)
    same.holds("have the covariance", away < 0.1 * np.linalg.norm(covariance))
    if (axes := same.axes(1, 3)) is not None:
        axes[0].semilogy(jsizes, "o-", label="JAX")
        axes[0].semilogy(tsizes, "x--", label="PyTorch")
        axes[0].set(xlabel="Newton step", ylabel="|gradient|", title="digits that count double")
        axes[0].legend()
        for axis, name, drawn in zip(axes[1:], ("JAX", "PyTorch"), samples, strict=True):
            tiles = np.pad(np.asarray(drawn[:9]).reshape(9, 8, 8), ((0, 0), (1, 1), (1, 1)))
            tiles = tiles.reshape(3, 3, 10, 10).transpose(0, 2, 1, 3).reshape(30, 30)
            axis.imshow(tiles, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[], title=f"zeros, sampled: {name}")
