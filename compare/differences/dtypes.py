"""Types, integers and statistics."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, gaps, jax64, normal
from compare.differences.shared.calls import alternatives, option, without
from compare.differences.shared.frameworks import F, fnn, jax, jnp, torch
from compare.share import to_jax, to_numpy


def _double() -> tuple[float, float]:
    x = 10 * normal(50)
    with jax.enable_x64(False):
        single = to_numpy(to_jax(to_numpy(x)))
    return gaps(x, single, jax64(lambda v: v, x))


double = Difference(
    code="DT-01",
    title="float64 becomes float32",
    torch="a float64 array stays float64",
    jax="float32, without a word, unless x64 is enabled",
    fix_torch="x.float()",
    fix_jax="jax.config.update('jax_enable_x64', True)",
    kinds="",  # the check runs both sides in float64 and names what is lower
    measure=_double,
)


def _long() -> tuple[float, float]:
    x = torch.tensor([1, 2**31, 2**40 + 3])
    with jax.enable_x64(False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            short = to_numpy(to_jax(to_numpy(x)))
    return gaps(x, short.astype(np.int64), jax64(lambda v: v, x))


long = Difference(
    code="DT-02",
    title="int64 becomes int32",
    torch="integers are int64",
    jax="int32 unless x64 is enabled: 2**31 is -2**31",
    fix_torch="x.int()",
    fix_jax="jax.config.update('jax_enable_x64', True)",
    kinds="",  # identifiers and hashes, no layer's values
    measure=_long,
)


def _deviation() -> tuple[float, float]:
    x = normal(3, 10)
    return against(torch.std(x, dim=1), lambda v: v.std(1), lambda v: v.std(1, ddof=1), x)


def _deviation_forms(site: Site) -> Iterator[Edit]:
    name = {"std_mean": "std", "var_mean": "var"}.get(site.kind, site.kind)
    unbiased = option(site, "unbiased", default=True)
    own = option(site, "correction", default=int(unbiased))
    dim, keep = option(site, "dim", 1), option(site, "keepdim", 3, False)
    for correction in without((0, 1), own):
        for form, function in (("std", torch.std), ("var", torch.var)):
            yield Edit(
                f"jnp.{name}(x, axis, ddof={own})",
                f"torch.{form}(x, dim, correction={correction})",
                site.replaced(
                    lambda x, *_, f=function, c=correction: f(
                        x, dim=dim, correction=c, keepdim=keep
                    )
                ),
            )
    other = torch.var if name == "std" else torch.std
    yield Edit(
        f"jnp.{name}(x, axis, ddof={own})",
        f"torch.{other.__name__}(x, dim)",
        site.replaced(lambda x, *_: other(x, dim=dim, correction=own, keepdim=keep)),
    )


deviation = Difference(
    code="DT-03",
    title="standard deviation and variance: n or n - 1",
    torch="torch.std, torch.var: divide by n - 1",
    jax="jnp.std, jnp.var: divide by n",
    fix_torch="torch.std(x, correction=0)",
    fix_jax="jnp.std(x, ddof=1)",
    kinds="std|var",
    measure=_deviation,
    edits=_deviation_forms,
)


def _integer_sum() -> tuple[float, float]:
    x = torch.full((5,), 100, dtype=torch.int8)
    naive = jax64(lambda v: jnp.cumsum(v).astype(int), x)
    mended = jax64(lambda v: jnp.cumsum(v.astype(int)), x)
    return gaps(torch.cumsum(x, 0), naive, mended)


integer_sum = Difference(
    code="DT-04",
    title="cumulative sums of small integers",
    torch="torch.cumsum of int8: int64",
    jax="jnp.cumsum of int8: int8, which wraps",
    fix_torch="torch.cumsum(x, 0, dtype=torch.int8)",
    fix_jax="jnp.cumsum(x.astype(int))",
    kinds="",  # float64 has no small integers
    measure=_integer_sum,
)


def _cast() -> tuple[float, float]:
    x = torch.tensor([-1.0, 300.0, 17.5], dtype=torch.float64)
    naive = jax64(lambda v: v.astype(jnp.uint8).astype(float), x)
    mended = jax64(lambda v: (v.astype(int) % 256).astype(jnp.uint8).astype(float), x)
    return gaps(x.long().remainder(256).to(torch.uint8).double(), naive, mended)


cast = Difference(
    code="DT-05",
    title="floats that do not fit an unsigned integer",
    torch="x.to(torch.uint8): wraps around, -1.0 is 255 and 300.0 is 44",
    jax="x.astype(jnp.uint8): saturates, -1.0 is 0 and 300.0 is 255",
    fix_torch="x.clamp(0, 255).to(torch.uint8)",
    fix_jax="jnp.clip(x, 0, 255) on both sides",
    kinds="",  # images before the first layer
    measure=_cast,
)


def _division() -> tuple[float, float]:
    x, y = torch.tensor([-7, 7, -7, 7]), torch.tensor([3, -3, -3, 3])
    return against(x // y, jax.lax.div, jnp.floor_divide, x, y)


def _division_forms(site: Site) -> Iterator[Edit]:
    yield Edit(
        "x // y, jnp.floor_divide",
        "torch.div(x, y, rounding_mode='trunc')",
        site.called(function=lambda x, y, **_: torch.div(x, y, rounding_mode="trunc")),
    )


division = Difference(
    code="DT-06",
    title="integer division: rounded down or towards 0",
    torch="x // y: down",
    jax="x // y: down; jax.lax.div, jax.lax.rem: towards 0",
    fix_torch="torch.div(x, y, rounding_mode='trunc')",
    fix_jax="jnp.floor_divide(x, y)",
    kinds="floor_divide|__floordiv__",
    measure=_division,
    edits=_division_forms,
    whats=("output",),
)


def _remainder() -> tuple[float, float]:
    x, y = normal(9, scale=3.0), torch.full((9,), 2.0, dtype=torch.float64)
    return against(x % y, jax.lax.rem, jnp.remainder, x, y)


def _remainder_forms(site: Site) -> Iterator[Edit]:
    other = torch.remainder if site.kind == "fmod" else torch.fmod
    yield Edit(
        "jnp.fmod(x, y)" if site.kind == "fmod" else "jnp.remainder(x, y)",
        f"torch.{other.__name__}(x, y)",
        site.called(function=other),
    )


remainder = Difference(
    code="DT-07",
    title="remainder: the sign of the divisor or of the dividend",
    torch="x % y, torch.remainder: the divisor's sign; torch.fmod: the dividend's",
    jax="x % y, jnp.remainder: the divisor's; jax.lax.rem, jnp.fmod: the dividend's",
    fix_torch="torch.fmod(x, y)",
    fix_jax="jnp.remainder(x, y)",
    kinds="remainder|__mod__|fmod",
    measure=_remainder,
    edits=_remainder_forms,
)


def _rounding() -> tuple[float, float]:
    x = torch.tensor([-2.5, -0.5, 0.5, 1.5, 2.5], dtype=torch.float64)
    return against(torch.round(x), jax.lax.round, jnp.round, x)


def _rounding_forms(site: Site) -> Iterator[Edit]:
    forms: dict[str, Callable] = {
        "torch.sign(x) * torch.floor(x.abs() + 0.5)": lambda x: x.sign() * (x.abs() + 0.5).floor(),
        "torch.floor(x + 0.5)": lambda x: (x + 0.5).floor(),
        "torch.floor(x)": torch.floor,
        "torch.trunc(x)": torch.trunc,
    }
    yield from alternatives(site, "jnp.round(x)", forms)


rounding = Difference(
    code="DT-08",
    title="rounding of halves",
    torch="torch.round: to the even neighbour",
    jax="jnp.round: to the even one; jax.lax.round: away from 0",
    fix_torch="torch.sign(x) * torch.floor(x.abs() + 0.5)",
    fix_jax="jnp.round(x)",
    kinds="round_?",
    measure=_rounding,
    edits=_rounding_forms,
    whats=("output",),
)


def _param_dtype() -> tuple[float, float]:
    x, w = normal(4, 3), normal(5, 3, seed=1)

    def run(dtype):
        def dense(v, kernel):
            layer = fnn.Dense(5, use_bias=False, param_dtype=dtype)
            start = jax.tree.leaves(layer.init(jax.random.key(0), v))[0]
            return layer.apply({"params": {"kernel": kernel.T.astype(start.dtype)}}, v)

        return dense

    return against(F.linear(x, w), run(jnp.float32), run(jnp.float64), x, w)


param_dtype = Difference(
    code="DT-09",
    title="the type of Flax's parameters",
    torch="parameters follow model.double()",
    jax="param_dtype=jnp.float32, with x64 as well",
    fix_torch="model.float()",
    fix_jax="nn.Dense(features, param_dtype=jnp.float64)",
    kinds="",  # copied weights bring their own type
    measure=_param_dtype,
)


def _promotion() -> tuple[float, float]:
    x = normal(9).half()
    part = torch.tensor(0.75, dtype=torch.float32)

    def product(v, scalar):
        return (v * scalar).astype(jnp.float64)

    naive = jax64(lambda v: product(v, jnp.float32(0.75)), x)
    mended = jax64(product, x, 0.75)
    return gaps((x * part).double(), naive, mended)


promotion = Difference(
    code="DT-10",
    title="a scalar array raises the type",
    torch="float16 array times float32 scalar tensor: float16",
    jax="float16 array times float32 scalar array: float32; a Python number leaves float16",
    fix_torch="x.float() * scalar",
    fix_jax="a Python number, or scalar.astype(x.dtype)",
    kinds="",  # the check runs both sides in float64
    measure=_promotion,
)


def _rewritten() -> tuple[float, float]:
    x = torch.tensor([1.0, 1000.0], dtype=torch.float64)

    def function(v):
        return jnp.log(jnp.exp(v))

    return against(x.exp().log(), jax.jit(function), function, x)


rewritten = Difference(
    code="DT-11",
    title="log(exp(x)) under jit",
    torch="inf where exp overflows",
    jax="jax.jit rewrites it to x: finite; since jaxlib 0.11.2 as in PyTorch",
    fix_torch="x",
    fix_jax="call the function outside of jax.jit",
    kinds="",  # two functions in a row: neither alone shows it
    measure=_rewritten,
    gone="jaxlib 0.11.2",
)
