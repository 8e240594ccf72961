"""The exponential of a matrix, e^A = I + A + A^2 / 2! + …: x' = A x is solved by e^(tA) x(0).

Reference: C. Moler, C. Van Loan, "Nineteen dubious ways to compute the exponential of a matrix,
twenty-five years later", SIAM Review 45 (2003); N. Higham, "The scaling and squaring method for the
matrix exponential revisited", SIAM Journal on Matrix Analysis 26 (2005).
"""

import jax
import jax.numpy as jnp

from jaxnn.linalg.elimination import fold, gaussian_elimination
from jaxnn.linalg.products import require_square

__all__ = ["taylor_exponential", "matrix_exponential"]

# The numerator of Padé's approximation of degree 13 to e^x; the denominator is the same at -x.
# Where |A| is at most THETA, its error is below a double's rounding.
PADE = [64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0]
PADE += [129060195264000.0, 10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0]
PADE += [40840800.0, 960960.0, 16380.0, 182.0, 1.0]
THETA = 5.371920351148152
# The squarings that a compiled program makes room for: |A| up to THETA 2^32.
SQUARINGS = 32


def taylor_exponential(a: jax.Array, terms: int = 30) -> jax.Array:
    """The series, cut off: sum_(k<=terms) A^k / k!.

    Good for a small |A|. The terms grow up to |A|^k / k! before they fall, and where they cancel,
    as for a negative A, their rounding errors remain: e^-30 comes out wrong in every digit.

    Args:
      a: float (N, N).
      terms: the last power.

    Returns: float (N, N).

    Raises:
      ValueError: if a is not square.
    """
    require_square(a=a)
    eye = jnp.eye(len(a), dtype=a.dtype)

    def add(state, k):
        total, term = state
        term = term @ a / k
        return total + term, term

    return fold(add, (eye, eye), jnp.arange(1, terms + 1))[0]


def matrix_exponential(a: jax.Array) -> jax.Array:
    """Scaling and squaring: e^A = (e^(A / 2^s))^(2^s), with Padé's approximation of the inner one.

    With s such that |A| / 2^s <= THETA:  (V - U) X = V + U, where U holds the odd powers and V the
    even ones; then s times X <- X X.

    Args:
      a: float (N, N), not all of whose powers need fit: a result above the largest float is inf or
        NaN.

    Returns: float (N, N), as `torch.linalg.matrix_exp` and `jax.scipy.linalg.expm`.

    Raises:
      ValueError: if a is not square.
    """
    require_square(a=a)
    if not len(a):
        return a
    size = jax.lax.stop_gradient(jnp.abs(a).sum(0).max())
    s = jnp.maximum(jnp.ceil(jnp.log2(size / THETA)), 0)
    x = _pade(a / 2**s)

    # torch: s is a number, and steers the loop; here the number of rounds is static.
    def square(x, k):
        return jnp.where(k < s, x @ x, x)

    return fold(square, x, jnp.arange(SQUARINGS))


def _pade(a: jax.Array) -> jax.Array:
    c, eye = PADE, jnp.eye(len(a), dtype=a.dtype)
    a2 = a @ a
    a4 = a2 @ a2
    a6 = a2 @ a4
    odd = a6 @ (c[13] * a6 + c[11] * a4 + c[9] * a2) + c[7] * a6 + c[5] * a4 + c[3] * a2
    even = a6 @ (c[12] * a6 + c[10] * a4 + c[8] * a2) + c[6] * a6 + c[4] * a4 + c[2] * a2
    u, v = a @ (odd + c[1] * eye), even + c[0] * eye
    return gaussian_elimination(v - u, v + u)
