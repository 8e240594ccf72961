"""Eigenvalues and eigenvectors in JAX and in PyTorch: how they are found, what they tell.

Run it as a program (`python examples/linear_algebra/eigen.py --out figures`), or cell by cell in an
editor that knows `# %%`.
"""

# %% Set-up
import ast
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch

from compare.data.digits import digits
from compare.data.sunspots import sunspots
from compare.share import to_jax, to_torch
from compare.study.lessons import both, lesson
from compare.study.scripts import script
from jaxnn.linalg import eigen as jax_eigen
from jaxnn.linalg import exponential as jax_exponential
from jaxnn.linalg import low_rank as jax_low_rank
from jaxnn.linalg import svd as jax_svd
from jaxnn.rnn.elman import elman_cell as jax_elman_cell
from torchref.linalg import eigen, exponential, low_rank, svd
from torchref.rnn.elman import elman_cell

script(__name__)


def symmetric(rng, values):
    """A matrix with these eigenvalues, and its eigenvectors, which are random."""
    q, _ = np.linalg.qr(rng.standard_normal((len(values), len(values))))
    return q * values @ q.T, q


def ordered(values):
    """Complex numbers by real, then imaginary part; no order of them is agreed upon."""
    values = np.asarray(values)
    return values[np.lexsort((values.imag.round(9), values.real.round(9)))]


def all_digits(rng):
    """The 1797 digits, shuffled: pixels in [0, 1], float64 (1797, 64), and labels (1797,)."""
    batch = next(digits(rng, batch=1797, flat=True, scale="unit"))
    return batch["x"].astype(np.float64), batch["labels"]


# %% [definition] Definition of Eigenvalues and Eigenvectors
# A v = l v: a direction that A only stretches. Applied again and again, A turns every vector to the
# direction that it stretches most; all ways to eigenvectors start from that.
with lesson("definition") as same:
    values = np.array([5.0, 3.0, 2.0, 1.0, -0.5, 0.1])
    a, q = symmetric(same.rng, values)
    start = same.rng.standard_normal(6)
    (ja, ta), (jv, tv) = both(a), both(start)
    jl, jq = jnp.linalg.eigh(ja)
    tl, tq = torch.linalg.eigh(ta)
    same("the library's values", jl, tl)
    same.holds("A v = l v", float(abs(ja @ jq - jq * jl).max()) < 1e-12)

    # Power iteration, v <- A v / |A v|, finds the largest, 5; inverse iteration the one nearest to
    # a guess; QR iteration (A = QR, A <- RQ) all of them, the largest first.
    jfound, tfound = jax_eigen.power_iteration(ja, jv), eigen.power_iteration(ta, tv)
    same("power iteration", jfound, tfound)
    same("is the library's largest", jfound[0], tl[-1])
    jnear, tnear = (f(m, v, 2.2) for f, m, v in (
        (jax_eigen.inverse_iteration, ja, jv), (eigen.inverse_iteration, ta, tv)))  # fmt: skip
    same("inverse iteration near 2.2", jnear, tnear)
    same("is the library's third", jnear[0], tl[-3])
    jt, tt = jax_eigen.qr_iteration(ja, 150), eigen.qr_iteration(ta, 150)
    same("QR iteration", jt, tt)
    order = np.argsort(-abs(values))
    same("finds all", jnp.sort(jnp.diagonal(jt[0])), tl)
    same.holds("the largest first", np.allclose(jnp.diagonal(jt[0]), values[order]))
    same("and the vectors", jnp.abs(jt[1].T @ q[:, order]), np.eye(6), 1e-7)

    # How fast: the error falls by |l_2 / l_1| = 3/5 in every step; by |2 - 2.2| / |3 - 2.2| = 1/4
    # near the guess; what QR leaves below the diagonal by the worst |l_(i+1) / l_i|, here 2/3.
    counts = np.arange(1, 31)
    power, inverse, qr = map(
        jax.jit, (jax_eigen.power_iteration, jax_eigen.inverse_iteration, jax_eigen.qr_iteration)
    )

    def off(v, true):
        """The sine of the angle between two unit vectors."""
        v = np.asarray(v)
        return float(np.linalg.norm(v - true * (true @ v)))

    def below(t):
        return float(abs(np.tril(np.asarray(t), -1)).max())

    jerrors, terrors = (
        {
            "power, (3/5)^k": [off(f(m, v, steps=int(k))[1], q[:, 0]) for k in counts],
            "inverse, (1/4)^k": [off(g(m, v, 2.2, steps=int(k))[1], q[:, 2]) for k in counts],
            "QR, (2/3)^k": [below(h(m, steps=int(k))[0]) for k in counts],
        }
        for f, g, h, m, v in (
            (power, inverse, qr, ja, jv),
            (eigen.power_iteration, eigen.inverse_iteration, eigen.qr_iteration, ta, tv),
        )
    )
    for (name, ours), rate in zip(jerrors.items(), (3 / 5, 1 / 4, 2 / 3), strict=True):
        same(name, ours[:10], terrors[name][:10], 1e-6)
        late = slice(6, 10) if rate < 0.5 else slice(20, 30)
        measured = np.exp(np.diff(np.log(ours[late])).mean())
        print(f"{name:>17}: {measured:.3f} a step")
        same.holds(f"{name} is the rate", abs(measured / rate - 1) < 0.05)
    if (axes := same.axes(1, 2, 3.8)) is not None:
        turn = np.linspace(0, 2 * np.pi, 25)[:-1]
        plane = np.array([[1.5, 0.5], [0.5, 0.9]])
        circle = np.stack([np.cos(turn), np.sin(turn)])
        jp, tp = jnp.linalg.eigh(to_jax(plane)), torch.linalg.eigh(to_torch(plane))
        scale = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 4e-3}
        axes[0].quiver(*circle, *(plane @ circle - circle), **scale)
        for i in range(2):
            v, w = np.asarray(jp[1][:, i] * jp[0][i]), tp[1][:, i] * tp[0][i]
            name = f"jax, l = {jp[0][i]:.2f}"
            axes[0].plot([-v[0], v[0]], [-v[1], v[1]], f"C{i}", lw=4, alpha=0.5, label=name)
            axes[0].plot([-w[0], w[0]], [-w[1], w[1]], "k:", label="torch" if i else None)
        axes[0].set(aspect="equal", title="from x on the circle to A x", ylim=(-2.5, 1.5))
        for name, ours in jerrors.items():
            axes[1].semilogy(counts, np.maximum(ours, 1e-16), lw=4, alpha=0.5, label=f"jax: {name}")
            axes[1].semilogy(counts, np.maximum(terrors[name], 1e-16), "k:")
        axes[1].set(xlabel="steps k", ylabel="error", title="three iterations (dots: torch)")
        for axis in axes:
            axis.legend(fontsize=8, loc="lower left")

# %% [properties] Properties of Eigenvalues and Eigenvectors
with lesson("properties") as same:
    ja, ta = both(same.rng.standard_normal((5, 5)))
    jl, tl = jnp.linalg.eigvals(ja), torch.linalg.eigvals(ta)
    same("values, real and imaginary", ordered(jl), ordered(tl))
    # Their sum is the trace, their product the determinant. Of a real matrix the complex ones come
    # in pairs, l and its conjugate. A function of A has that function of the values.
    same("trace", jl.sum().real, ta.trace())
    same("determinant", jl.prod().real, torch.linalg.det(ta))
    same("conjugate", ordered(jl.conj()), ordered(tl))
    same("of A^T the same", ordered(jnp.linalg.eigvals(ja.T)), ordered(tl))
    same("of A A A: cubed", ordered(jnp.linalg.eigvals(ja @ ja @ ja)), ordered(tl**3), 1e-8)
    same(
        "of A^-1: inverted", ordered(jnp.linalg.eigvals(jnp.linalg.inv(ja))), ordered(1 / tl), 1e-8
    )
    same("of A + 2 I: moved", ordered(jnp.linalg.eigvals(ja + 2 * jnp.eye(5))), ordered(tl + 2))

    # Symmetric: real values, orthogonal vectors (eigh reads one triangle and knows that). A turn
    # by t has e^(it) and e^(-it), no real direction; what is antisymmetric has imaginary ones.
    jh, th = ja + ja.T, ta + ta.T
    (jl, jv), (tl, tv) = jnp.linalg.eigh(jh), torch.linalg.eigh(th)
    same("symmetric", jl, tl)
    same("orthogonal", jv.T @ jv, tv.T @ tv)
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    jr, tr = jnp.linalg.eigvals(to_jax(turn)), torch.linalg.eigvals(to_torch(turn))
    same("a turn", ordered(jr), ordered(tr))
    same("by its angle", jnp.abs(jnp.angle(jr)), [0.7, 0.7])
    skew = ordered(jnp.linalg.eigvals(ja - ja.T)), ordered(torch.linalg.eigvals(ta - ta.T))
    same("antisymmetric", *skew)
    same.holds("has no real part", abs(skew[0].real).max() < 1e-9)

    # Gradients. Symmetric: dl/dA = v v^T. Otherwise, with the left eigenvector w (w^T A = l w^T),
    # dl/dA = w v^T / w^T v: where w and v are nearly orthogonal, a value moves a lot.
    def jax_largest(a):
        return jnp.linalg.eigh(a)[0][-1]

    leaf = th.clone().requires_grad_()
    torch.linalg.eigh(leaf)[0][-1].backward()
    same("gradient of the largest", jax.grad(jax_largest)(jh), leaf.grad)
    same("is v v^T", jnp.outer(jv[:, -1], jv[:, -1]), leaf.grad)
    leaf = ta.clone().requires_grad_()
    torch.linalg.eigvals(leaf).abs().max().backward()
    slope = jax.grad(lambda a: jnp.abs(jnp.linalg.eigvals(a)).max())(ja)
    same("of a spectral radius", slope, leaf.grad)
    positive = jnp.abs(ja)  # whose largest value is real (Perron)
    slope = jax.grad(lambda a: jnp.abs(jnp.linalg.eigvals(a)).max())(positive)
    v, w = (jax_eigen.power_iteration(m, jnp.ones(5), 300)[1] for m in (positive, positive.T))
    same("is w v^T / w^T v", jnp.outer(w, v) / (w @ v), slope, 1e-8)
    leaf = torch.abs(ta).requires_grad_()
    eigen.power_iteration(leaf, torch.ones(5), 300)[0].backward()
    same("also through power iteration", leaf.grad, to_torch(np.asarray(slope)), 1e-8)

    # Random matrices, of variance 1/n: symmetric ones have a semicircle of values, others a disc.
    n = 400
    noise = same.rng.standard_normal((n, n)) / np.sqrt(n)
    (jn, tn), (js, ts) = both(noise), both((noise + noise.T) / np.sqrt(2))
    jdisc, tdisc = jnp.linalg.eigvals(jn), torch.linalg.eigvals(tn)
    jbell, tbell = jnp.linalg.eigvalsh(js), torch.linalg.eigvalsh(ts)
    same("the semicircle", jbell, tbell)
    same("the disc", ordered(jdisc), ordered(tdisc), 1e-8)
    same.holds("of radius 1", 0.9 < float(jnp.abs(jdisc).max()) < 1.15)
    same.holds("of radius 2", 1.85 < float(jnp.abs(jbell).max()) < 2.1)
    if (axes := same.axes(1, 2, 3.8)) is not None:
        axes[0].plot(jdisc.real, jdisc.imag, "o", ms=5, alpha=0.5, label="jax")
        axes[0].plot(tdisc.real, tdisc.imag, "k.", ms=2, label="torch")
        circle = np.linspace(0, 2 * np.pi, 200)
        axes[0].plot(np.cos(circle), np.sin(circle), "C1", lw=1)
        axes[0].set(xlabel="real", ylabel="imaginary", aspect="equal", title=f"{n} by {n}, random")
        bins = np.linspace(-2.2, 2.2, 23)
        axes[1].hist(np.asarray(jbell), bins, density=True, alpha=0.5, label="jax")
        axes[1].hist(tbell, bins, density=True, histtype="step", color="k", ls=":", label="torch")
        line = np.linspace(-2, 2, 100)
        axes[1].plot(line, np.sqrt(4 - line**2) / (2 * np.pi), "C1", label="semicircle")
        axes[1].set(xlabel="eigenvalue", ylabel="density", title="the same, symmetric")
        for axis in axes:
            axis.legend(fontsize=8, loc="upper right")

# %% [diagonalization] Diagonalization
# A = V diag(l) V^-1: in the basis of its eigenvectors A multiplies each coordinate by a number.
with lesson("diagonalization") as same:
    # Jacobi: turn one pair of coordinates so that its entry off the diagonal is zero, pair after
    # pair. Later turns spoil it, less and less: in the end each sweep squares what is left.
    a, _ = symmetric(same.rng, np.linspace(-2, 3, 8))
    ja, ta = both(a)
    jacobi = jax.jit(jax_eigen.jacobi_eigh)
    jfound, tfound = jacobi(ja), eigen.jacobi_eigh(ta)
    same("Jacobi's rotations", jfound, tfound)
    same("find the library's values", jfound[0], torch.linalg.eigvalsh(ta))
    left = {"jax": [], "torch": []}
    for sweeps in range(7):
        for side, (m, vectors) in (
            ("jax", (ja, jacobi(ja, sweeps)[1])), ("torch", (ta, eigen.jacobi_eigh(ta, sweeps)[1])),
        ):  # fmt: skip
            square = np.asarray(vectors.T @ m @ vectors)
            left[side].append(max(np.linalg.norm(square - np.diag(np.diag(square))), 1e-16))
    same("left off the diagonal", left["jax"][:4], left["torch"][:4], 1e-6)
    same.holds("after six sweeps rounding", max(left["jax"][-1], left["torch"][-1]) < 1e-13)

    # Powers: A^k = V diag(l^k) V^-1. Fibonacci's numbers are one: (F_(k+1), F_k) = A^k (1, 0).
    jf, tf = both(np.array([[1.0, 1.0], [1.0, 0.0]]))
    (jl, jv), (tl, tv) = jnp.linalg.eigh(jf), torch.linalg.eigh(tf)
    k = 40
    fibonacci = (jv * jl**k @ jv.T)[1, 0], (tv * tl**k @ tv.T)[1, 0]
    same("F_40 by its eigenvalues", *fibonacci)
    same("by products", fibonacci[0], torch.linalg.matrix_power(tf, k)[1, 0])
    same("the number itself", fibonacci[0], 102334155.0)

    # Exponentials: x' = A x has x(t) = e^(At) x(0), and e^(At) = V diag(e^(lt)) V^-1. A weight on
    # a spring, damped: complex values l = -0.2 +- 0.98 i, a decay and a swing.
    times = np.linspace(0, 20, 101)
    (js, ts), (jt, tt) = both(np.array([[0.0, 1.0], [-1.0, -0.4]])), both(times)
    jpath = jax.jit(jax.vmap(lambda t: jax_exponential.matrix_exponential(t * js)[:, 0]))(jt)
    tpath = torch.stack([exponential.matrix_exponential(t * ts)[:, 0] for t in tt])
    same("a spring, by squaring", jpath, tpath)
    same("the library's", jpath, torch.linalg.matrix_exp(tt[:, None, None] * ts)[:, :, 0])
    (jl, jv), (tl, tv) = jnp.linalg.eig(js), torch.linalg.eig(ts)
    jswing = jnp.einsum("ik,tk,k->ti", jv, jnp.exp(jt[:, None] * jl), jnp.linalg.inv(jv)[:, 0])
    start = torch.linalg.inv(tv)[:, 0]
    tswing = torch.einsum("ik,tk,k->ti", tv, torch.exp(tt[:, None] * tl), start)
    same("by its eigenvalues", jswing, tswing)
    same("which is the same", jswing.real, tpath)
    same.holds("and real", float(abs(jswing.imag).max()) < 1e-12)
    same.holds("it swings as slowly as l says", abs(float(abs(jl.imag).max()) - 0.98) < 1e-3)

    # Not all can: [[1, 1], [0, 1]] has 1 twice, and one direction only. Its powers grow although
    # no value is above 1; and an entry of 1e-12 moves the values by 1e-6, the root of it.
    jd, td = both(np.array([[1.0, 1.0], [0.0, 1.0]]))
    jv, tv = (np.asarray(f(m)[1]) for f, m in ((jnp.linalg.eig, jd), (torch.linalg.eig, td)))
    for side, v in (("jax", jv), ("torch", tv)):
        print(f"{side}: condition of the eigenvectors {np.linalg.cond(v):.0e}")
        same.holds("V has no inverse", np.linalg.cond(v) > 1e12)
    same("A^50 all the same", jnp.linalg.matrix_power(jd, 50), torch.linalg.matrix_power(td, 50))
    grown = jax_exponential.matrix_exponential(jd), exponential.matrix_exponential(td)
    same("and e^A", *grown)
    same("is e [[1, 1], [0, 1]]", grown[0], np.e * td)
    moves = np.logspace(-14, -2, 7)
    jc, tc = both(np.array([[0.0, 0.0], [1.0, 0.0]]))
    jsplit = [float(abs(jnp.linalg.eigvals(jd + e * jc) - 1).max()) for e in moves]
    tsplit = [float((torch.linalg.eigvals(td + e * tc) - 1).abs().max()) for e in moves]
    same("the values move", jsplit, tsplit)
    same("by the root", jsplit, np.sqrt(moves), 1e-6)
    eye = jnp.eye(2)  # symmetric: by no more than it is moved itself
    jsafe = [float(abs(jnp.linalg.eigvalsh(eye + e * (jc + jc.T)) - 1).max()) for e in moves]
    same.holds("not so a symmetric one's", np.all(jsafe < 1.01 * moves + 1e-15))
    if (axes := same.axes(1, 3)) is not None:
        shown = ("jax", "o-", jpath, jsplit), ("torch", "k:", tpath, tsplit)
        for side, marker, path, split in shown:
            axes[0].semilogy(range(7), left[side], marker, label=side)
            axes[1].plot(times, np.asarray(path)[:, 0], marker.strip("o"), label=side)
            axes[2].loglog(moves, split, marker, label=side)
        envelope = np.exp(-0.2 * times)
        axes[1].plot(times, envelope, "C1", lw=1, label="$e^{-0.2t}$")
        axes[2].loglog(moves, np.maximum(jsafe, 1e-15), "C1s-", label="jax, symmetric")
        axes[0].set(xlabel="sweeps", ylabel="off the diagonal", title="Jacobi's rotations")
        axes[1].set(xlabel="t", ylabel="x", title="a spring: $e^{At} x_0$")
        axes[2].set(xlabel="an entry moved by", ylabel="eigenvalue moves by", title="defective")
        for axis in axes:
            axis.legend(fontsize=8)

# %% [applications] Applications of Eigenvalues and Eigenvectors
with lesson("applications") as same:
    # PCA by covariance: its eigenvectors are the directions, its eigenvalues the variances. (An SVD
    # of the data finds the same without squaring them first.)
    x, labels = all_digits(same.rng)
    (jx, tx), count = both(x), 8
    jl, jv = jnp.linalg.eigh(jnp.cov(jx.T))
    tl, tv = torch.linalg.eigh(torch.cov(tx.T))
    jpca, tpca = jax_low_rank.pca(jx, count), low_rank.pca(tx, count)
    jways, tways = jv[:, ::-1][:, :count].T, tv.flip(1)[:, :count].T
    jways, tways = jways * jax_svd.signs(jways)[:, None], tways * svd.signs(tways)[:, None]
    same("variances", jl, tl)
    same("directions", jways, tways)
    same("are those of the SVD", (jways, jl[::-1][:count]), tpca[1:])
    same("whose mean is that of the data", jpca[0], tx.mean(0))

    # The Hessian. Descent on a quadratic with Hessian H multiplies the error along each eigenvector
    # by 1 - lr l: it converges for lr < 2 / l_max, best at 2 / (l_max + l_min), and then takes
    # l_max / l_min steps for a digit or so. Here: least squares, 8 components to one of 3 digits.
    three = labels < 3
    flat = (x[three] - np.asarray(jpca[0])) @ np.asarray(jways).T
    target = np.eye(3)[labels[three]]
    (jf, tf), (jy, ty) = both(flat), both(target - target.mean(0))
    n = len(flat)
    jh, th = jf.T @ jf / n, tf.T @ tf / n

    def squares(w, x, y):
        return ((x @ w - y) ** 2).sum() / (2 * n)

    by_jax = jax.hessian(squares)(jnp.zeros(8), jf, jy[:, 0])
    by_torch = torch.func.hessian(squares)(torch.zeros(8), tf, ty[:, 0])
    same("Hessian of least squares", by_jax, by_torch)
    same("is X^T X / N", jh, by_torch)
    jcurved, tcurved = jnp.linalg.eigvalsh(jh), torch.linalg.eigvalsh(th)
    rates = {"1 / l_max": 1, "best": 2 / float(1 + tcurved[0] / tcurved[-1]), "2.1 / l_max": 2.1}
    jbest, tbest = jnp.linalg.solve(jh, jf.T @ jy / n), torch.linalg.solve(th, tf.T @ ty / n)
    jdescent, tdescent = {}, {}
    for name, rate in rates.items():
        jstep, tstep = rate / jcurved[-1], rate / tcurved[-1]

        def descend(w, _, step=jstep):
            w = w - step * (jh @ w - jf.T @ jy / n)
            return w, jnp.linalg.norm(w - jbest)

        jdescent[name] = jax.lax.scan(descend, jnp.zeros((8, 3)), length=60)[1]
        w, tdescent[name] = torch.zeros(8, 3), []
        for _ in range(60):
            w = w - tstep * (th @ w - tf.T @ ty / n)
            tdescent[name].append((w - tbest).norm())
        same(f"descent at {name}", jdescent[name], torch.stack(tdescent[name]))
        print(f"descent at {name:>11}: {jdescent[name][0]:.2g} to {jdescent[name][-1]:.2g}")
    at, best, over = (float(run[-1] / run[0]) for run in jdescent.values())
    same.holds("below 2 / l_max it converges, above it does not", best < at < 1 < over)

    # Of a net it changes from step to step. Trained, it has a few large values and many near 0:
    # directions that do not matter. The largest needs no matrix: power iteration on products H v.
    def loss(p, x, y, lib):
        """Cross entropy of an 8-8-3 net with its 99 parameters in one vector."""
        h = lib.tanh(x @ p[:64].reshape(8, 8) + p[64:72])
        outputs = h @ p[72:96].reshape(8, 3) + p[96:]
        return lib.log(lib.exp(outputs).sum(1)).mean() - (outputs * y).sum(1).mean()

    (jp, tp), (jy, ty) = both(same.rng.standard_normal(99) / 3), both(target)
    jgrad = jax.grad(lambda p: loss(p, jf, jy, jnp))
    tgrad = torch.func.grad(lambda p: loss(p, tf, ty, torch))
    jp = jax.jit(lambda p: jax.lax.fori_loop(0, 300, lambda _, p: p - 0.5 * jgrad(p), p))(jp)
    for _ in range(300):
        tp = tp - 0.5 * tgrad(tp)
    same("trained", jp, tp)
    same.holds("which fits", float(loss(jp, jf, jy, jnp)) < 0.1)
    jhess, thess = jax.jit(jax.jacfwd(jgrad))(jp), torch.func.jacfwd(tgrad)(tp)
    jsharp, tsharp = jnp.linalg.eigvalsh(jhess)[::-1], torch.linalg.eigvalsh(thess).flip(0)
    same("Hessian of a net", jhess, thess)
    same("its spectrum", jsharp, tsharp)
    same.holds("most are near 0", float(jnp.sort(abs(jsharp))[89]) < 0.1 * float(jsharp[0]))
    start = same.rng.standard_normal(99)
    jv, tv = both(start / np.linalg.norm(start))
    jproduct = jax.jit(lambda v: jax.jvp(jgrad, (jp,), (v,))[1])
    for _ in range(60):
        jv, tv = jproduct(jv), torch.func.jvp(tgrad, (tp,), (tv,))[1]
        jv, tv = jv / jnp.linalg.norm(jv), tv / tv.norm()
    same("the direction by products", jv, tv)
    same("sharpest", jv @ jproduct(jv), tsharp[0], 1e-6)

    # PageRank: a reader follows a link at random, or begins anywhere, in 15 of 100 cases. The
    # share of each page in the long run is the eigenvector of the value 1. The pages: Python's own
    # modules; a link: an import.
    files = {path.stem: path for path in sorted(Path(os.__file__).parent.glob("*.py"))}
    links = {}
    for name, path in files.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
        links[name] = found & sys.stdlib_module_names - {name}
    pages = sorted(set(links).union(*links.values()))
    follow = np.array([[other in links.get(name, ()) for name in pages] for other in pages], float)
    follow[:, follow.sum(0) == 0] = 1  # who links to nobody: anywhere
    chain = 0.85 * follow / follow.sum(0) + 0.15 / len(pages)
    (jm, tm), (ju, tu) = both(chain), both(np.ones(len(pages)))
    jone, jrank = jax_eigen.power_iteration(jm, ju)
    tone, trank = eigen.power_iteration(tm, tu)
    jrank, trank = jrank / jrank.sum(), trank / trank.sum()
    same("PageRank", jrank, trank)
    same("its value is 1", jone, 1.0)
    jwhole = jnp.sort(abs(jnp.linalg.eigvals(jm)))[::-1]
    twhole = torch.linalg.eigvals(tm).abs().sort(descending=True)[0]
    same("the values of the chain", jwhole[:5], twhole[:5], 1e-8)
    same.holds("the second, the rate, at most 0.85", float(jwhole[1]) < 0.85 + 1e-9)
    top = np.argsort(-np.asarray(jrank))[:8]
    print(f"most read of {len(pages)} modules:", ", ".join(pages[i] for i in top))
    same.holds("sys and os are among them", {"sys", "os"} <= {pages[i] for i in top})

    # Spectral radius. A gradient through T steps of an RNN meets W^T (T times): it goes as r^T, r
    # the largest |l|; tanh' < 1 makes it smaller. Orthogonal W, r = 1, is the start that lasts.
    series = next(sunspots(same.rng, batch=1, length=60))["x"][0].astype(np.float64)
    noise = same.rng.standard_normal((32, 32))
    (jw, tw), (js, ts), (jo, to) = both(noise), both(series), both(np.zeros(32))
    ji, ti = both(0.002 * same.rng.standard_normal((32, 1)))
    radius = jnp.abs(jnp.linalg.eigvals(jw)).max(), torch.linalg.eigvals(tw).abs().max()
    same("spectral radius", *radius)
    jreach, treach = {}, {}
    for r in (0.7, 1.0, 1.1):
        jm, tm = jw * r / radius[0], tw * r / radius[1]

        def last(kicks, m=jm):
            """The sum of the last state; each state is moved by a kick."""

            def step(state, given):
                value, kick = given
                return jax_elman_cell(value[None], state, ji, m, jo, jo) + kick, None

            return jax.lax.scan(step, jnp.zeros((1, 32)), (js, kicks))[0].sum()

        jreach[r] = jnp.linalg.norm(jax.grad(last)(jnp.zeros((60, 1, 32))), axis=(1, 2))[::-1]
        states = [torch.zeros(1, 32)]
        for value in ts:
            h = elman_cell(value[None], states[-1], ti, tm, to, to)
            states.append(h.requires_grad_())
        slopes = torch.autograd.grad(states[-1].sum(), states[1:])
        treach[r] = torch.stack([slope.norm() for slope in slopes]).flip(0)
        same(f"gradients back in time, r = {r}", jreach[r], treach[r])
        print(f"r = {r}: from {float(jreach[r][0]):.1f} to {float(jreach[r][-1]):.1e} in 59 steps")
    same.holds("they vanish below 1", float(jreach[0.7][-1]) < 1e-6)
    same.holds("and grow above", float(jreach[1.1][-1]) > 10 * float(jreach[1.1][0]))
    if (axes := same.axes(2, 3, 3.2)) is not None:
        axes[0, 0].semilogy(np.maximum(jl[::-1], 1e-6), lw=4, alpha=0.5, label="jax, covariance")
        axes[0, 0].semilogy(tpca[2], "ko", ms=3, label="torch, SVD")
        axes[0, 0].set(xlabel="i", ylabel="variance", title="digits: PCA", ylim=(1e-5, 20))
        for name, run in jdescent.items():
            axes[0, 1].semilogy(np.asarray(run), lw=4, alpha=0.5, label=name)
            axes[0, 1].semilogy(tdescent[name], "k:")
        axes[0, 1].set(xlabel="step", ylabel="error", title="descent (dots: torch)")
        axes[0, 2].plot(np.asarray(jsharp), lw=4, alpha=0.5, label="jax")
        axes[0, 2].plot(tsharp, "k:", label="torch")
        axes[0, 2].set(xlabel="i", ylabel="eigenvalue", title="Hessian of a net")
        places = np.arange(len(top))
        for shift, side, rank in ((-0.2, "jax", jrank), (0.2, "torch", trank)):
            axes[1, 0].barh(places + shift, np.asarray(rank)[top], 0.4, label=side)
        axes[1, 0].set_yticks(places, [pages[i] for i in top])
        axes[1, 0].set(xlabel="PageRank", title="imported modules")
        axes[1, 0].invert_yaxis()
        axes[1, 1].plot(np.asarray(jwhole[:60]), "o", alpha=0.5, label="jax")
        axes[1, 1].plot(twhole[:60], "k.", ms=2, label="torch")
        axes[1, 1].axhline(0.85, color="k", ls=":", label="0.85")
        axes[1, 1].set(xlabel="i", ylabel="|eigenvalue|", title="of that chain")
        for r, reach in jreach.items():
            axes[1, 2].semilogy(np.asarray(reach), lw=4, alpha=0.5, label=f"r = {r}")
            axes[1, 2].semilogy(treach[r], "k:")
        axes[1, 2].set(xlabel="steps back", ylabel="gradient", title="an RNN (dots: torch)")
        for axis in axes.flat:
            axis.legend(fontsize=8)

# %% [svd] Singular Value Decomposition (SVD)
# A = U diag(s) V^T gives A^T A = V diag(s^2) V^T and A A^T = U diag(s^2) U^T: the singular vectors
# are eigenvectors, and the eigenvalues are s^2.
with lesson("svd") as same:
    x, _ = all_digits(same.rng)
    keep = x.std(0) > 0.1  # the borders are nearly always white
    x = x[:, keep]
    jx, tx = both(x - x.mean(0))
    (ju, js, jvh), (tu, ts, tvh) = jnp.linalg.svd(jx, False), torch.linalg.svd(tx, False)
    (jl, jv), (tl, tv) = jnp.linalg.eigh(jx.T @ jx), torch.linalg.eigh(tx.T @ tx)
    same("s^2 = l", js**2, tl.flip(0))
    same("l = s^2", jl[::-1], ts**2)
    same("u_i = A v_i / s_i", jnp.abs(jx @ jv[:, ::-1] / js), tu.abs())
    # Or from one symmetric matrix, without squares: [[0, A], [A^T, 0]] has +s and -s and zeros.
    jb, tb = both(x[:40])
    jz, tz = jnp.zeros((40, 40)), torch.zeros(40, 40)
    width = x.shape[1]
    jblock = jnp.block([[jz, jb], [jb.T, jnp.zeros((width, width))]])
    tblock = torch.cat([torch.cat([tz, tb], 1), torch.cat([tb.T, torch.zeros(width, width)], 1)])
    jpairs, tpairs = jnp.linalg.eigvalsh(jblock), torch.linalg.eigvalsh(tblock)
    same("of the block matrix", jpairs, tpairs)
    same("are +s", jpairs[::-1][:40], torch.linalg.svdvals(tb))
    same("and -s", -jpairs[:40], torch.linalg.svdvals(tb))
    # Symmetric A: s = |l|, in another order, and the sign of l is put into U.
    a, _ = symmetric(same.rng, np.array([-3.0, -1.0, 0.5, 2.0]))
    ja, ta = both(a)
    sizes = jnp.sort(abs(jnp.linalg.eigvalsh(ja)))[::-1]
    same("symmetric: s = |l|", sizes, torch.linalg.svdvals(ta))
    u, s, vh = jnp.linalg.svd(ja)
    same("signs of l", jnp.sign((u * vh.T).sum(0)), [-1, 1, -1, 1])

    # Signs. With v, -v is an eigenvector; (u, v) and (-u, -v) are as good in an SVD. What comes out
    # depends on the routine, the library, the version. Three ways to live with that: choose (the
    # largest entry positive, as scikit-learn does), align with a reference, or use only what does
    # not depend on it.
    rows = {"jax, eigh": jv[:, ::-1].T, "torch, eigh": tv.flip(1).T}
    rows = {k: np.asarray(v) for k, v in {**rows, "jax, svd": jvh, "torch, svd": tvh}.items()}
    for name, found in rows.items():
        opposite = int(((found * rows["torch, svd"]).sum(1) < 0).sum())
        print(f"{name:>11}: {opposite:2} of {len(found)} vectors opposite to torch's svd")
    chosen = {
        name: found * np.asarray(signs(convert(found)))[:, None]
        for (name, found), (signs, convert) in zip(
            rows.items(), 2 * [(jax_svd.signs, to_jax), (svd.signs, to_torch)], strict=True
        )
    }
    for name, found in chosen.items():
        same(f"{name}, signs chosen", found, chosen["torch, svd"])
    aligned = jv[:, ::-1].T * jnp.sign((jv[:, ::-1].T * to_jax(rows["torch, svd"])).sum(1))[:, None]
    same("aligned", aligned, tvh)
    same("projector on the first three", jvh[:3].T @ jvh[:3], tv[:, -3:] @ tv[:, -3:].T)
    same("u_i v_i^T", jnp.outer(ju[:, 2], jvh[2]), torch.outer(tu[:, 2], tvh[2]))
    # Polar form: A = Q P, a turn and a stretch, P = V diag(s) V^T = sqrt(A^T A).
    same("stretch", jvh.T * js @ jvh, tv * tl.sqrt() @ tv.T)
    same("turn", ju @ jvh, tu @ tvh)
    if (axes := same.axes(4, 6, 1.5)) is not None:
        for line, (name, found) in zip(axes, rows.items(), strict=True):
            for i, axis in enumerate(line):
                picture = np.zeros(64)
                picture[keep] = (found if i < 3 else chosen[name])[i % 3]
                axis.imshow(picture.reshape(8, 8), cmap="RdBu", vmin=-0.4, vmax=0.4)
                axis.set(xticks=[], yticks=[])
                axis.set_title(f"v{i % 3 + 1}" + ", sign chosen" * (i > 2), fontsize=9)
            line[0].set_ylabel(name, fontsize=8)
