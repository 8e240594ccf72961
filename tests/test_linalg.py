"""Linear algebra from the definitions: both sides, in float64, against NumPy and SciPy.

A result is judged by what defines it: residuals and orthogonality in units of eps times the size.
"""

import functools
import importlib
from typing import Any

import jax
import numpy as np
import pytest
import scipy.linalg
import torch

from compare.share import to_jax, to_numpy, to_torch

EPS = np.finfo(np.float64).eps


def drawn(shape: int | tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def rotated(singular_values, m: int, n: int) -> np.ndarray:
    """A matrix with the given singular values, and generic singular vectors."""
    u, v = (np.linalg.qr(drawn((k, k), seed))[0] for seed, k in enumerate((m, n)))
    return u[:, : len(singular_values)] * singular_values @ v[:, : len(singular_values)].T


SQUARE = {
    "well": rotated([3, 2.5, 2, 1.5, 1], 5, 5),
    "ill": rotated(np.logspace(0, -10, 5), 5, 5),
    "deficient": rotated([3, 2, 1], 5, 5),
    "zero": np.zeros((5, 5)),
    "one": np.array([[-2.0]]),
    "empty": np.zeros((0, 0)),
}
TALL = {
    "well": rotated([3, 2, 1], 5, 3),
    "ill": rotated(np.logspace(0, -10, 3), 5, 3),
    "deficient": rotated([3, 2], 5, 3),
    "zero": np.zeros((5, 3)),
    "one": np.array([[-2.0]]),
    "empty": np.zeros((0, 0)),
}
REGULAR = ("well", "ill", "one", "empty")
SIDES = ("jax", "torch")


@functools.cache
def compiled(room: str, name: str, options: tuple):
    module = importlib.import_module(f"jaxnn.linalg.{room}")
    return jax.jit(functools.partial(getattr(module, name), **dict(options)))


def run(side: str, room: str, name: str, *arrays: np.ndarray, **options) -> Any:
    """A function of one side on NumPy arrays, in float64; NumPy arrays come back."""
    if side == "torch":
        module = importlib.import_module(f"torchref.linalg.{room}")
        out = getattr(module, name)(*map(to_torch, arrays), **options)
    else:
        with jax.enable_x64(True):
            given = [to_jax(a) for a in arrays]
            out = compiled(room, name, tuple(options.items()))(*given)
    many = isinstance(out, tuple)
    found = [to_numpy(x) for x in (out if many else [out])]
    assert all(x.dtype in (np.float64, np.int64, np.int32, bool) for x in found)
    return tuple(found) if many else found[0]


def size(a: np.ndarray) -> float:
    return float(np.abs(a).max(initial=0))


def error(found: np.ndarray, wanted: np.ndarray, scale: float | None = None) -> float:
    """The largest error, in units of eps times the largest side times the scale of the values."""
    assert found.shape == wanted.shape
    scale = size(wanted) if scale is None else scale
    return size(found - wanted) / (EPS * max((1, *wanted.shape)) * (scale or 1))


def skew(q: np.ndarray) -> float:
    """How far columns are from orthonormal, in the same units."""
    return error(q.T @ q, np.eye(q.shape[1]))


@pytest.mark.parametrize("side", SIDES)
def test_products(side):
    x, y = drawn((2, 4))
    a, b = drawn((3, 4), 1), drawn((4, 2), 2)
    call = functools.partial(run, side, "products")
    # A sum's rounding errors are of the size of its terms: the sum itself may be far smaller.
    assert error(call("inner", x, y), np.inner(x, y), np.abs(x) @ np.abs(y)) < 8
    assert error(call("outer", x, y[:3]), np.outer(x, y[:3])) == 0
    assert error(call("hadamard", a, a), a * a) == 0
    for name in ("matmul", "matmul_by_columns", "matmul_by_outer"):
        assert error(call(name, a, b), a @ b, size(np.abs(a) @ np.abs(b))) < 8
    empty = np.zeros((3, 0)), np.zeros((0, 2))
    assert (call("matmul", *empty) == np.zeros((3, 2))).all()
    assert (call("matmul_by_outer", *empty) == np.zeros((3, 2))).all()
    assert error(call("kronecker", a, b), np.kron(a, b)) == 0


@pytest.mark.parametrize("side", SIDES)
def test_substitution_and_elimination(side):
    call = functools.partial(run, side, "elimination")
    for name in REGULAR:
        a = SQUARE[name]
        for b in (a.sum(1), drawn((len(a), 2))):
            x = call("gaussian_elimination", a, b)
            assert error(a @ x, b, size(a) * size(x) + size(b)) < 8, name
        spoilt = np.where(np.tri(len(a)) == 1, a, np.nan)
        x = call("forward_substitution", spoilt, b)
        assert error(np.tril(a) @ x, b, size(a) * size(x) + size(b)) < 8, name
        x = call("back_substitution", spoilt.T, b)
        assert error(np.tril(a).T @ x, b, size(a) * size(x) + size(b)) < 8, name
    singular = call("gaussian_elimination", SQUARE["zero"], np.ones(5))
    assert not np.isfinite(singular).any()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", SQUARE)
def test_lu_and_cholesky(side, name):
    a = SQUARE[name]
    p, l, u = run(side, "elimination", "lu", a)
    assert sorted(p) == list(range(len(a)))
    assert error(l @ u, a[p]) < 8
    assert size(l) <= 1
    assert (np.triu(l) == np.eye(len(a))).all()
    assert (np.tril(u, -1) == 0).all()
    if name in REGULAR:
        definite = a @ a.T + np.eye(len(a))
        l = run(side, "elimination", "cholesky", np.where(np.tri(len(a)) == 1, definite, np.nan))
        assert error(l @ l.T, definite) < 8
        assert (np.triu(l, 1) == 0).all()
    indefinite = -np.eye(5)
    assert np.isnan(run(side, "elimination", "cholesky", indefinite)).any()


# A zero column before the pivots, one between, one that depends on others; and its transpose.
STAIRS = np.array([[0, 2, 4, 1, 3.0], [0, 1, 2, 5, 6], [0, 3, 6, 6, 9], [0, 0, 0, 0, 0]])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("a", [STAIRS, STAIRS.T, *SQUARE.values(), np.zeros((0, 3))])
def test_bases(side, a):
    # An elimination judges ranks less surely than singular values do.
    options = {"tol": 1e-12} if a is SQUARE["deficient"] else {}
    call = functools.partial(run, side, "bases", **options)
    form, pivots = call("reduced_row_echelon", a)
    wanted = np.linalg.matrix_rank(a) if a.size else 0
    assert call("rank", a) == pivots.sum() == wanted
    assert (form[:, pivots] == np.eye(len(a))[:, :wanted]).all()
    assert (form[wanted:] == 0).all()
    scale = max(1, size(form))
    columns = call("column_space", a)
    # A = (its pivot columns) (the rows of its form), and the null space is orthogonal to the rows.
    assert error(columns[:, pivots] @ form[:wanted], a, size(a) * scale) < 16
    null = call("null_space", a)
    assert (null[:, pivots] == 0).all()
    assert (null[:, ~pivots][~pivots] == np.eye((~pivots).sum())).all()
    assert error(a @ null, np.zeros(a.shape), size(a) * scale) < 16


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", SQUARE)
def test_determinants(side, name):
    a = SQUARE[name]
    found, expanded = (run(side, "determinants", f, a) for f in ("determinant", "laplace"))
    # Hadamard's bound on the determinant is the scale of its rounding errors.
    bound = float(np.prod(np.linalg.norm(a, axis=1)))
    assert error(found, np.linalg.det(a), bound) < 16
    assert error(expanded, np.linalg.det(a), bound) < 16
    adjugate = run(side, "determinants", "cofactors", a).T
    assert error(a @ adjugate, np.linalg.det(a) * np.eye(len(a)), bound) < 64


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", TALL)
def test_orthogonal(side, name):
    a = TALL[name]
    call = functools.partial(run, side, "orthogonal")
    for shaped in (a, a.T):
        q, r = call("householder_qr", shaped)
        assert skew(q) < 8
        assert error(q @ r, shaped) < 8
        assert (np.tril(r, -1) == 0).all()
    if name in REGULAR:
        condition = np.linalg.cond(a) if a.size else 1
        for method, power in (("classical_gram_schmidt", 2), ("modified_gram_schmidt", 1)):
            q, r = call(method, a)
            assert error(q @ r, a) < 8
            assert skew(q) < 8 * min(condition**power, 1 / EPS)
            assert (np.diagonal(r) > 0).all()
            assert (np.tril(r, -1) == 0).all()
        p, u = call("projector", a), np.linalg.svd(a, full_matrices=False)[0]
        # The space itself moves by eps times the condition.
        assert error(p, u @ u.T) < 8 * condition


def test_modified_gram_schmidt_is_the_better_one():
    ill = rotated(np.logspace(0, -7, 5), 8, 5)
    for side in SIDES:
        classical, modified, householder = (
            skew(run(side, "orthogonal", name, ill)[0])
            for name in ("classical_gram_schmidt", "modified_gram_schmidt", "householder_qr")
        )
        assert classical > 100 * modified > 1e4 * householder


@pytest.mark.parametrize("side", SIDES)
def test_project(side):
    b, a = drawn((2, 5))
    found = run(side, "orthogonal", "project", b, a)
    assert error(found, np.outer(a, a) @ b / (a @ a), float(np.linalg.norm(b))) < 8
    assert np.isnan(run(side, "orthogonal", "project", b, np.zeros(5))).all()


SYMMETRIC = {
    "well": lambda q: q * [5, 4, 3, -1, -2] @ q.T,
    "ill": lambda q: q * [1, 1e-3, 1e-6, -1e-9, 1e-12] @ q.T,
    "repeated": lambda q: q * [2, 2, 2, 1, 1] @ q.T,
    "deficient": lambda q: q * [2, 1, 0, 0, 0] @ q.T,
    "diagonal": lambda q: np.diag([1.0, 3, 2, 3, 0]),
    "one": lambda q: np.array([[-2.0]]),
    "empty": lambda q: np.zeros((0, 0)),
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", SYMMETRIC)
def test_jacobi_eigh(side, name):
    q, _ = np.linalg.qr(drawn((5, 5)))
    a = SYMMETRIC[name](q)
    a = (a + a.T) / 2
    values, vectors = run(side, "eigen", "jacobi_eigh", a)
    assert error(values, np.linalg.eigvalsh(a), size(a)) < 8
    assert skew(vectors) < 16
    assert error(vectors * values @ vectors.T, a) < 16


@pytest.mark.parametrize("side", SIDES)
def test_iterations_converge(side):
    call = functools.partial(run, side, "eigen")
    q, _ = np.linalg.qr(drawn((4, 4)))
    values, v = np.array([8, -4, 2, 1.0]), drawn(4, 1)
    a = q * values @ q.T
    wanted = {"power_iteration": (0, {"steps": 60})}
    wanted |= {"inverse_iteration": (2, {"shift": 1.8, "steps": 30})}
    for name, (k, options) in wanted.items():
        value, vector = call(name, a, v, **options)
        assert error(value, values[k], 8) < 8, name
        # A vector is unique up to its sign: its projector is compared.
        assert error(np.outer(vector, vector), np.outer(q[:, k], q[:, k])) < 16, name
    t, basis = call("qr_iteration", a, steps=60)
    assert error(t, np.diag(values)) < 32
    assert skew(basis) < 64
    assert error(basis @ t @ basis.T, a) < 128
    triangular = np.triu(drawn((4, 4), 2), 1) + np.diag(values)
    t, _ = call("qr_iteration", q @ triangular @ q.T, steps=60)
    assert error(np.diagonal(t), values, size(triangular)) < 256
    assert call("qr_iteration", np.zeros((0, 0)), steps=60)[0].shape == (0, 0)


SHAPED = [pytest.param(a, id=name) for name, a in TALL.items()]
SHAPED += [pytest.param(TALL[name].T, id=f"{name}-wide") for name in ("well", "deficient")]
SHAPED += [pytest.param(SQUARE["ill"], id="ill-square")]
# A bidiagonal matrix with zeros on its diagonal.
SHAPED += [pytest.param(np.diag([1.0, 0, 2, 3, 0]) + np.diag(np.ones(4), 1), id="zero-diagonal")]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("a", SHAPED)
@pytest.mark.parametrize("name", ["jacobi_svd", "golub_kahan_svd"])
def test_svd(side, a, name):
    u, s, vh = run(side, "svd", name, a)
    assert error(s, np.linalg.svd(a, compute_uv=False), size(a)) < 8
    assert error(u * s @ vh, a) < 16
    # Jacobi leaves to chance what belongs to a singular value of rounding size.
    known = np.ones(len(s), bool) if name == "golub_kahan_svd" else s > 1e-8 * size(s)
    assert skew(u[:, known]) < 16
    assert skew(vh[known].T) < 16


@pytest.mark.parametrize("name", ["jacobi_svd", "golub_kahan_svd"])
def test_svd_at_thirty_columns(name):
    """As many sweeps and steps as are promised; compiled, for a Python loop takes seconds."""
    for values in (np.logspace(0, -14, 30), np.repeat([1, 1e-3, 1e-6], 10)):
        u, s, vh = run("jax", "svd", name, rotated(values, 30, 30))
        assert error(s, values) < 8
        assert max(skew(u), skew(vh.T)) < 8


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", TALL)
def test_bidiagonalise(side, name):
    a = TALL[name]
    m, n = a.shape
    whole = run(side, "svd", "bidiagonalise", a)
    b, u, v = whole[:m, :n], whole[:m, n:].T, whole[m:, :n]
    assert error(b, np.triu(np.tril(b, 1)), size(a)) < 16
    assert error(u @ b @ v.T, a) < 16
    assert max(skew(u), skew(v)) < 16


@pytest.mark.parametrize("side", SIDES)
def test_low_rank(side):
    call = functools.partial(run, side, "low_rank")
    a = rotated([4, 3, 2, 1], 6, 4)
    values = np.array([4, 3, 2, 1])
    for rank in (0, 2, 4):
        best = call("low_rank", a, rank=rank)
        assert error(np.linalg.svd(a - best)[1][0], np.append(values, 0)[rank], 4) < 64
        assert np.linalg.matrix_rank(best) == rank
    # Of a matrix of rank 2, three random directions find all.
    deficient = rotated([3, 1], 6, 4)
    u, s, vh = call("randomised_svd", deficient, drawn((4, 3)))
    assert error(u * s @ vh, deficient) < 16
    assert max(skew(u), skew(vh.T)) < 16
    assert (vh.max(1) >= -vh.min(1)).all()
    # Power steps turn what is found towards the leading directions.
    omega = drawn((4, 2))
    errors = [
        np.linalg.norm(a - (u * s) @ vh, 2)
        for u, s, vh in (call("randomised_svd", a, omega, power=power) for power in (0, 40))
    ]
    assert errors[0] > 2.01 > errors[1] > 1.99


@pytest.mark.parametrize("side", SIDES)
def test_pca(side):
    x = drawn((8, 3)) * [1, 2, 4] + 5
    mean, directions, variances = run(side, "low_rank", "pca", x, components=2)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    assert error(mean, x.mean(0)) < 8
    assert error(variances, values[:0:-1]) < 16
    for found, wanted in zip(directions, vectors.T[:0:-1], strict=True):
        assert error(np.outer(found, found), np.outer(wanted, wanted)) < 64
        assert found.max() > -found.min()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("a", SHAPED)
def test_pseudo_inverse(side, a):
    inverse = run(side, "low_rank", "pseudo_inverse", a)
    # Penrose's equations define it. The scale: A+ moves by eps |A+|^2 |A|.
    p, q = a @ inverse, inverse @ a
    condition = max(1, size(a) * size(inverse))
    assert error(p @ a, a, size(a) * condition) < 32
    assert error(q @ inverse, inverse, size(inverse) * condition) < 32
    assert error(p, p.T, condition) < 32
    assert error(q, q.T, condition) < 32
    if a.size:
        assert (
            error(inverse, np.linalg.pinv(a, rcond=max(a.shape) * EPS), size(inverse) * condition)
            < 64
        )


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", SQUARE)
def test_matrix_exponential(side, name):
    a = SQUARE[name]
    taylor = run(side, "exponential", "taylor_exponential", a, terms=40)
    for scale in (1, 30):
        found = run(side, "exponential", "matrix_exponential", scale * a)
        wanted = scipy.linalg.expm(scale * a) if a.size else a
        condition = size(np.asarray(scipy.linalg.expm_cond(scale * a))) if a.size else 0
        assert error(found, wanted, size(wanted) * (1 + condition)) < 32
        if scale == 1:
            # The series' terms add up to at most e^|A|.
            assert error(taylor, wanted, float(np.exp(np.linalg.norm(a, 2)))) < 32


@pytest.mark.parametrize("side", SIDES)
def test_a_series_that_cancels_is_wrong_where_scaling_is_not(side):
    a, wanted = np.array([[-30.0]]), np.array([[np.exp(-30)]])
    # The condition of e^x is |x|.
    assert error(run(side, "exponential", "matrix_exponential", a), wanted, 30 * wanted[0, 0]) < 16
    assert error(run(side, "exponential", "taylor_exponential", a, terms=150), wanted) > 1 / EPS


def gradients(side: str, room: str, name: str, loss, *arrays: np.ndarray) -> list[np.ndarray]:
    """The gradients by the arrays; `loss` maps the function's outputs to a scalar."""
    tree = {"torch": "torchref", "jax": "jaxnn"}[side]
    function = getattr(importlib.import_module(f"{tree}.linalg.{room}"), name)
    if side == "torch":
        leaves = [to_torch(a).requires_grad_() for a in arrays]
        return [to_numpy(g) for g in torch.autograd.grad(loss(function(*leaves)), leaves)]
    with jax.enable_x64(True):
        places = tuple(range(len(arrays)))
        grad = jax.jit(jax.grad(lambda *given: loss(function(*given)), argnums=places))
        return [to_numpy(g) for g in grad(*map(to_jax, arrays))]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["determinant", "laplace"])
def test_gradient_of_a_determinant_that_is_zero(side, name):
    """The matrix of cofactors, where the last pivot is missing; `torch.linalg.det` gives zeros."""
    (found,) = gradients(side, "determinants", name, lambda x: x, np.array([[1, 2.0], [2, 4]]))
    assert (found == [[4, -2], [-2, 1]]).all()


def test_gradients_are_those_of_the_mathematics():
    """Of the one side: that JAX's are the same is what the twins' checks hold."""
    of = functools.partial(gradients, "torch")
    a, b = SQUARE["well"], drawn(5)
    inverse = np.linalg.inv(a)
    d_a, d_b = of("elimination", "gaussian_elimination", lambda x: x.sum(), a, b)
    wanted = inverse.T @ np.ones(5)
    assert error(d_b, wanted) < 32
    assert error(d_a, -np.outer(wanted, inverse @ b)) < 32
    # d det A / d A = det(A) A^-T
    (found,) = of("determinants", "determinant", lambda x: x, a)
    assert error(found, np.linalg.det(a) * inverse.T) < 32
    # d l_k / d A = v_k v_k^T
    symmetric = (a + a.T) / 2
    (found,) = of("eigen", "jacobi_eigh", lambda x: x[0][-1], symmetric)
    v = np.linalg.eigh(symmetric)[1][:, -1]
    assert error((found + found.T) / 2, np.outer(v, v)) < 64
    # d s_k / d A = u_k v_k^T; that of a vector is as LAPACK's.
    tall = TALL["well"]
    u, _, vh = np.linalg.svd(tall, full_matrices=False)
    leaf = to_torch(tall).requires_grad_()
    first = torch.linalg.svd(leaf, full_matrices=False)[2][0].prod() ** 2
    of_vector = to_numpy(torch.autograd.grad(first, leaf)[0])
    wanted = np.outer(u[:, 0], vh[0]) + of_vector
    for name in ("jacobi_svd", "golub_kahan_svd"):
        (found,) = of("svd", name, lambda x: x[1][0] + x[2][0].prod() ** 2, tall)
        assert error(found, wanted) < 64
    # d trace e^A / d A = (e^A)^T
    (found,) = of("exponential", "matrix_exponential", lambda x: x.trace(), 4 * a)
    assert error(found, scipy.linalg.expm(4 * a).T, 4 * size(found)) < 64


BAD = [
    ("products", "inner", ((2,), (3,)), "y must"),
    ("products", "outer", ((2,), (3, 1)), "y must"),
    ("products", "hadamard", ((2, 2), (2, 3)), "b must"),
    ("products", "matmul", ((2, 3), (2, 3)), "b must"),
    ("products", "matmul_by_outer", ((2, 3), (3,)), "b must"),
    ("products", "kronecker", ((2,), (2, 2)), "a must"),
    ("elimination", "forward_substitution", ((2, 3), (2,)), "l must"),
    ("elimination", "back_substitution", ((2, 2), (3,)), "b must"),
    ("elimination", "gaussian_elimination", ((2, 2), (3,)), "b must"),
    ("elimination", "lu", ((2, 3),), "a must"),
    ("elimination", "cholesky", ((2,),), "a must"),
    ("bases", "rank", ((2,),), "a must"),
    ("determinants", "cofactors", ((2, 3),), "a must"),
    ("orthogonal", "project", ((2,), (3,)), "a must"),
    ("orthogonal", "projector", ((2, 3),), "a must"),
    ("eigen", "power_iteration", ((2, 2), (3,)), "v must"),
    ("eigen", "jacobi_eigh", ((2, 3),), "a must"),
    ("svd", "jacobi_svd", ((2,),), "a must"),
    ("svd", "golub_kahan_svd", ((2,),), "a must"),
    ("low_rank", "randomised_svd", ((4, 3), (3, 4)), "omega must"),
    ("low_rank", "pseudo_inverse", ((2,),), "a must"),
    ("exponential", "matrix_exponential", ((2, 3),), "a must"),
]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("room", "name", "shapes", "message"), BAD)
def test_bad_arguments(side, room, name, shapes, message):
    with pytest.raises(ValueError) as raised:
        run(side, room, name, *map(np.ones, shapes))
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("side", SIDES)
def test_a_rank_out_of_range(side):
    with pytest.raises(ValueError, match=r"^rank must be 0 to 3, not 4"):
        run(side, "low_rank", "low_rank", np.ones((3, 5)), rank=4)
    with pytest.raises(ValueError, match=r"^components must be 0 to 3, not -1"):
        run(side, "low_rank", "pca", np.ones((3, 5)), components=-1)


def test_the_tests_can_fail(monkeypatch):
    """Without its pivoting an elimination is caught by the residuals."""
    from torchref.linalg import elimination

    monkeypatch.setattr(elimination, "_pivot", lambda a, k: k)
    with pytest.raises(AssertionError):
        test_lu_and_cholesky("torch", "ill")
    monkeypatch.undo()
    monkeypatch.setattr(np.linalg, "det", lambda a: np.float64(1.0))
    with pytest.raises(AssertionError):
        test_determinants("torch", "well")


def test_an_svd_that_stops_early_is_caught(monkeypatch):
    from torchref.linalg import svd

    monkeypatch.setattr(svd, "rotation", lambda alpha, beta, gamma: torch.eye(2).double())
    with pytest.raises(AssertionError):
        test_svd("torch", TALL["well"], "jacobi_svd")
