"""Linear algebra, norms, complex numbers and windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import (
    against,
    gap,
    gaps,
    jax64,
    jax_gradient,
    normal,
    torch_gradient,
)
from compare.differences.shared.calls import option, without
from compare.differences.shared.frameworks import F, jax, jnp, torch
from compare.share import to_torch


def _positive(n: int = 4) -> Any:
    x = normal(n, n)
    return x @ x.T + n * torch.eye(n, dtype=torch.float64)


def _uneven() -> Any:
    """A positive matrix that is not quite symmetric."""
    x = _positive()
    x[0, 1] += 0.5
    return x


def _symmetric(site: Site) -> Iterator[Edit]:
    function: Any = site.function
    for text, step in (
        ("(x + x.mT) / 2", lambda x: (x + x.mT) / 2),
        ("the upper triangle", lambda x: x.mT),
    ):
        yield Edit(
            "symmetrize_input=False",
            f"{site.kind}({text})",
            site.called(function=lambda x, *a, f=step, **k: function(f(x), *a, **k)),
        )


def _eigh() -> tuple[float, float]:
    x = _uneven()
    naive = jax64(lambda v: jnp.linalg.eigh(v)[0], x)
    mended = jax64(lambda v: jnp.linalg.eigh(v, symmetrize_input=False)[0], x)
    return gaps(torch.linalg.eigh(x)[0], naive, mended)


eigh = Difference(
    code="LA-01",
    title="eigenvalues of a matrix that is not quite symmetric",
    torch="torch.linalg.eigh: reads the lower triangle",
    jax="jnp.linalg.eigh: averages both triangles",
    fix_torch="torch.linalg.eigh((x + x.mT) / 2)",
    fix_jax="jnp.linalg.eigh(x, symmetrize_input=False)",
    kinds="(linalg_)?eigv?a?l?s?h",
    measure=_eigh,
    edits=_symmetric,
)


def _cholesky() -> tuple[float, float]:
    x = _uneven()
    naive = jax64(jnp.linalg.cholesky, x)
    mended = jax64(lambda v: jnp.linalg.cholesky(v, symmetrize_input=False), x)
    return gaps(torch.linalg.cholesky(x), naive, mended)


cholesky = Difference(
    code="LA-02",
    title="Cholesky factor of a matrix that is not quite symmetric",
    torch="torch.linalg.cholesky: reads the lower triangle",
    jax="jnp.linalg.cholesky: averages both triangles",
    fix_torch="torch.linalg.cholesky((x + x.mT) / 2)",
    fix_jax="jnp.linalg.cholesky(x, symmetrize_input=False)",
    kinds="(linalg_)?cholesky",
    measure=_cholesky,
    edits=_symmetric,
)


def _upper() -> tuple[float, float]:
    x = _positive()
    naive = jax64(jax.scipy.linalg.cholesky, x)
    mended = jax64(lambda v: jax.scipy.linalg.cholesky(v, lower=True), x)
    return gaps(torch.linalg.cholesky(x), naive, mended)


def _transposed(site: Site) -> Iterator[Edit]:
    function: Any = site.function
    yield Edit(
        "the other triangle: lower=True, or the transpose",
        f"{site.kind}(x).mT",
        site.called(function=lambda *a, **k: function(*a, **k).mT),
    )


upper = Difference(
    code="LA-03",
    title="Cholesky factor: lower or upper",
    torch="torch.linalg.cholesky: lower",
    jax="jax.scipy.linalg.cholesky: upper; jnp.linalg.cholesky: lower",
    fix_torch="torch.linalg.cholesky(x, upper=True)",
    fix_jax="jax.scipy.linalg.cholesky(x, lower=True)",
    kinds="(linalg_)?cholesky|(linalg_)?inv|(linalg_)?pinv|matrix_exp",
    measure=_upper,
    edits=_transposed,
)


def _pinv() -> tuple[float, float]:
    eps = float(np.finfo(np.float64).eps)
    x = torch.diag(torch.tensor([1.0, 15 * eps, 0.5], dtype=torch.float64))
    return against(
        torch.linalg.pinv(x), jnp.linalg.pinv, lambda v: jnp.linalg.pinv(v, rtol=3 * eps), x
    )


def _pinv_forms(site: Site) -> Iterator[Edit]:
    rows, columns = site.inputs[0].shape[-2:]
    eps = float(np.finfo(np.float64).eps) * max(rows, columns)
    for factor in (10.0, 100.0):
        yield Edit(
            "jnp.linalg.pinv(x, rtol=max(m, n) * eps)",
            f"torch.linalg.pinv(x, rtol={factor:g} * max(m, n) * eps)",
            site.replaced(lambda x, *_, f=factor: torch.linalg.pinv(x, rtol=f * eps)),
        )


pinv = Difference(
    code="LA-04",
    title="pseudo-inverse: which singular values count as 0",
    torch="torch.linalg.pinv: below max(m, n) eps times the largest",
    jax="jnp.linalg.pinv: below 10 max(m, n) eps times the largest",
    fix_torch="torch.linalg.pinv(x, rtol=10 * max(m, n) * eps)",
    fix_jax="jnp.linalg.pinv(x, rtol=max(m, n) * eps)",
    kinds="(linalg_)?pinv",
    measure=_pinv,
    edits=_pinv_forms,
)


def _norm() -> tuple[float, float]:
    x = normal(4, 3)
    return against(
        torch.norm(x, p=1), lambda v: jnp.linalg.norm(v, 1), lambda v: jnp.abs(v).sum(), x
    )


def _norm_forms(site: Site) -> Iterator[Edit]:
    p, dim = option(site, "p", 1, None), option(site, "dim", 2)
    p = option(site, "ord", 1, p)
    keep = option(site, "keepdim", 3, False)
    right = f"jnp.sum(jnp.abs(x) ** p, axis) ** (1 / p) with p={p or 2}"
    if dim is None and site.inputs[0].ndim == 2:
        for order in (1, 2, "fro", "nuc", float("inf")):
            yield Edit(
                right,
                f"torch.linalg.matrix_norm(x, {order!r})",
                site.replaced(lambda x, *_, o=order: torch.linalg.matrix_norm(x, o)),
            )
    for order in (1, 2, float("inf")):
        yield Edit(
            right,
            f"torch.linalg.vector_norm(x, {order}, dim)",
            site.replaced(lambda x, *_, o=order: torch.linalg.vector_norm(x, o, dim, keepdim=keep)),
        )
    for eps in (1e-12, 1e-8, 1e-6):
        yield Edit(
            right,
            f"((x * x).sum(dim) + {eps:g}).sqrt()",
            site.replaced(lambda x, *_, e=eps: _root_of_squares(x, dim, keep, e)),
        )
    yield Edit(right, "(x * x).sum(dim)", site.replaced(lambda x, *_: _squares(x, dim, keep)))


def _squares(x: Any, dim: Any, keep: bool) -> Any:
    return (x * x).sum() if dim is None else (x * x).sum(dim, keepdim=keep)


def _root_of_squares(x: Any, dim: Any, keep: bool, eps: float) -> Any:
    return (_squares(x, dim, keep) + eps).sqrt()


norm = Difference(
    code="LA-05",
    title="norm of a matrix: of its entries or of the map",
    torch="torch.norm(x, p=1): of the entries",
    jax="jnp.linalg.norm(x, 1): the largest column sum",
    fix_torch="torch.linalg.matrix_norm(x, 1)",
    fix_jax="jnp.abs(x).sum()",
    kinds="norm|vector_norm|(linalg_)?(vector_)?norm",
    measure=_norm,
    edits=_norm_forms,
)


def _det() -> tuple[float, float]:
    x = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64)
    ours = torch_gradient(lambda v: v[0, 0] * v[1, 1] - v[0, 1] * v[1, 0], x)
    broken = torch_gradient(torch.linalg.det, x)
    theirs = jax_gradient(jnp.linalg.det, x)
    return gap(broken, theirs), gap(ours, theirs)


def _det_forms(site: Site) -> Iterator[Edit]:
    def cofactors(x, *_):
        """The expansion by the first row, whose gradient needs no inverse."""
        if x.shape[-1] == 1:
            return x[..., 0, 0]
        columns = range(x.shape[-1])
        return sum(
            (-1) ** j * x[..., 0, j] * cofactors(x[..., 1:, :][..., [c for c in columns if c != j]])
            for j in columns
        )

    if site.inputs[0].shape[-1] <= 5:
        yield Edit(
            "none: JAX's gradient is right",
            "expand the determinant by its first row",
            site.replaced(cofactors),
        )


det = Difference(
    code="LA-06",
    title="gradient of the determinant of a singular matrix",
    torch="torch.linalg.det: 0, which is wrong",
    jax="jnp.linalg.det: the cofactors",
    fix_torch="expand the determinant by its first row",
    fix_jax="none: JAX's gradient is right",
    kinds="(linalg_)?det",
    measure=_det,
    edits=_det_forms,
    whats=("gradient",),
)


def _svd() -> tuple[float, float]:
    x = normal(3, 3)
    ours = torch.svd(x).V

    def right(v, transposed):
        vectors = jnp.linalg.svd(v)[2]
        return vectors.T if transposed else vectors

    return against(ours, lambda v: right(v, False), lambda v: right(v, True), x)


svd = Difference(
    code="LA-07",
    title="singular vectors: V or its transpose",
    torch="torch.svd: V; torch.linalg.svd: its transpose",
    jax="jnp.linalg.svd: its transpose",
    fix_torch="torch.linalg.svd(x).Vh",
    fix_jax="jnp.linalg.svd(x)[2].T",
    kinds="",  # the third of three results: the finder compares the first
    measure=_svd,
)


def _triangle() -> tuple[float, float]:
    x, b = normal(3, 3), normal(3, 2, seed=1)
    ours = torch.linalg.solve_triangular(x, b, upper=False)

    def solve(lower):
        return lambda v, w: jax.scipy.linalg.solve_triangular(v, w, lower=lower)

    return against(ours, solve(False), solve(True), x, b)


def _triangles(site: Site) -> Iterator[Edit]:
    upper = bool(option(site, "upper", default=False))
    yield Edit(
        f"jax.scipy.linalg.solve_triangular(a, b, lower={not upper})",
        f"torch.linalg.solve_triangular(a, b, upper={not upper})",
        site.replaced(lambda a, b, *_: torch.linalg.solve_triangular(a, b, upper=not upper)),
    )
    yield Edit(
        "trans=0",
        f"torch.linalg.solve_triangular(a.mT, b, upper={not upper})",
        site.replaced(lambda a, b, *_: torch.linalg.solve_triangular(a.mT, b, upper=not upper)),
    )


triangle = Difference(
    code="LA-08",
    title="triangular systems: the lower or the upper triangle",
    torch="torch.linalg.solve_triangular(upper=): has to be said",
    jax="jax.scipy.linalg.solve_triangular: upper (lower=False)",
    fix_torch="torch.linalg.solve_triangular(a, b, upper=True)",
    fix_jax="jax.scipy.linalg.solve_triangular(a, b, lower=True)",
    kinds="(linalg_)?solve_triangular",
    measure=_triangle,
    edits=_triangles,
)


def _complex() -> tuple[float, float]:
    x = torch.complex(normal(3), normal(3, seed=1))
    leaf = x.clone().requires_grad_()
    (ours,) = torch.autograd.grad((leaf.abs() ** 2).sum(), leaf)

    def gradient(v):
        return jax.grad(lambda z: (jnp.abs(z) ** 2).sum())(v)

    return against(ours, gradient, lambda v: jnp.conj(gradient(v)), x)


def _conjugated(site: Site) -> Iterator[Edit]:
    yield Edit("jnp.conj(gradient)", "x.grad.conj()", lambda: to_torch(np.conj(site.ours)))


complex_gradient = Difference(
    code="LA-10",
    title="gradient of a real loss of complex values",
    torch="x.grad: the direction of ascent",
    jax="jax.grad: its conjugate",
    fix_torch="x.grad.conj()",
    fix_jax="jnp.conj(jax.grad(loss)(x))",
    kinds="abs|real|imag|glue|angle",
    measure=_complex,
    edits=_conjugated,
    whats=("gradient", "param"),
)


def _correlated() -> tuple[float, float]:
    x, w = normal(9), normal(3, seed=1)
    naive = jax64(lambda a, b: jnp.convolve(a, b, mode="valid"), x, w)
    mended = jax64(lambda a, b: jnp.correlate(a, b, mode="valid"), x, w)
    return gaps(F.conv1d(x[None, None], w[None, None])[0, 0], naive, mended)


def _flipped(site: Site) -> Iterator[Edit]:
    function: Any = site.function
    axes = {"conv1d": (2,), "conv2d": (2, 3), "conv3d": (2, 3, 4)}[site.kind]
    for text, chosen in (("all axes", axes), ("rows", axes[:1]), ("columns", axes[-1:])):
        yield Edit(
            "jnp.correlate, or the kernel flipped once more",
            f"F.{site.kind}(x, w.flip(...)), {text}",
            site.called(function=lambda x, w, *a, c=chosen, **k: function(x, w.flip(c), *a, **k)),
        )


correlated = Difference(
    code="LA-11",
    title="convolution: the kernel flipped or not",
    torch="F.conv1d: not flipped",
    jax="jnp.convolve: flipped; jnp.correlate and jax.lax.conv: not",
    fix_torch="F.conv1d(x, w.flip(2))",
    fix_jax="jnp.correlate(x, w)",
    kinds="conv[123]d",
    measure=_correlated,
    edits=_flipped,
)


def _window() -> tuple[float, float]:
    naive = jax64(lambda: jnp.hanning(8))
    mended = jax64(lambda: jnp.hanning(9)[:-1])
    return gaps(torch.hann_window(8, dtype=torch.float64), naive, mended)


window = Difference(
    code="LA-12",
    title="Hann window: periodic or symmetric",
    torch="torch.hann_window: periodic",
    jax="jnp.hanning: symmetric",
    fix_torch="torch.hann_window(n, periodic=False)",
    fix_jax="jnp.hanning(n + 1)[:-1]",
    kinds="",  # it depends on no input
    measure=_window,
)


def _inverse() -> tuple[float, float]:
    x = normal(9)
    naive = jax64(lambda v: jnp.fft.irfft(jnp.fft.rfft(v)), x)
    mended = jax64(lambda v: jnp.fft.irfft(jnp.fft.rfft(v), n=9), x)
    return gaps(torch.fft.irfft(torch.fft.rfft(x), n=9), naive, mended)


inverse = Difference(
    code="LA-13",
    title="inverse real Fourier transform of an odd length",
    torch="torch.fft.irfft(x, n=9): the length has to be said",
    jax="jnp.fft.irfft(x): an even length, where it is not said",
    fix_torch="torch.fft.irfft(x)",
    fix_jax="jnp.fft.irfft(x, n=9)",
    kinds="",  # another shape
    measure=_inverse,
)


def _fourier() -> tuple[float, float]:
    x = normal(8)
    naive = jax64(lambda v: jnp.abs(jnp.fft.rfft(v)), x)
    mended = jax64(lambda v: jnp.abs(jnp.fft.rfft(v, norm="ortho")), x)
    return gaps(torch.fft.rfft(x, norm="ortho").abs(), naive, mended)


def _norms(site: Site) -> Iterator[Edit]:
    own, call = option(site, "norm", 3) or "backward", cast(Any, site.function)
    for other in without(("backward", "ortho", "forward"), own):
        yield Edit(
            f"norm={own!r}",
            f"norm={other!r}",
            site.called(function=lambda x, *a, n=other, **k: call(x, *a[:2], **{**k, "norm": n})),
        )


fourier = Difference(
    code="LA-14",
    title="Fourier transform: its normalisation",
    torch="torch.fft: norm='backward'; norm='ortho' has to be handed over",
    jax="jnp.fft: norm='backward'",
    fix_torch="norm='backward'",
    fix_jax="jnp.fft.rfft(x, norm='ortho')",
    kinds="(fft_)?i?r?h?fft[2n]?",
    measure=_fourier,
    edits=_norms,
)
