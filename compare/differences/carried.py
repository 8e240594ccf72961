"""What goes wrong when weights are carried over by hand: layout, form, type, and the wrong tensor.

None is a layer's habit. The weights that the porter gives are held to PyTorch's, leaf by leaf, and
what a leaf is instead of its tensor is named by one of these, or by its layer's own difference.
"""

from __future__ import annotations

from functools import partial

from compare.differences.catalogue import Difference
from compare.differences.measuring import against, gaps, jax64, normal
from compare.differences.shared.frameworks import F, jnp


def _laid_out() -> tuple[float, float]:
    x, w = normal(4, 6), normal(5, 6)
    ours, theirs = F.linear(x, w), partial(jax64, jnp.matmul, x)
    return gaps(ours, theirs(w.reshape(6, 5)), theirs(w.T))


layout = Difference(
    code="WT-01",
    title="A weight whose elements lie in another order",
    torch="Linear (out, in), Conv2d (out, in, h, w); gates and query, key, value packed in rows",
    jax="kernel (in, out), (h, w, in, out); a reshape in place of a transpose gives no error",
    fix_torch="weight.permute(...)",
    fix_jax="weight.transpose(...), by what each axis means",
    kinds="",
    measure=_laid_out,
)


def _less_one() -> tuple[float, float]:
    x, w = normal(4, 6), normal(6)
    return against(x * w, jnp.multiply, lambda x, v: x * (1 + v), x, w - 1)


form = Difference(
    code="WT-02",
    title="A weight that is stored in another form",
    torch="the weight itself; running_var is a variance",
    jax="some models keep a scale less one, a standard deviation, a logarithm, a scaled query",
    fix_torch="weight - 1, or what else is stored",
    fix_jax="1 + scale, or what else is stored, undone where the weights are carried over",
    kinds="",
    measure=_less_one,
)


def _rounded() -> tuple[float, float]:
    x, w = normal(4, 6), normal(6, 5).float().double()
    theirs = partial(jax64, jnp.matmul, x)
    return gaps(x @ w, theirs(w.bfloat16().double()), theirs(w))


rounded = Difference(
    code="WT-03",
    title="A weight rounded to 16 bits",
    torch="weights keep the type of the checkpoint",
    jax="astype(jnp.bfloat16), param_dtype=jnp.bfloat16 round them when they are carried over",
    fix_torch="module.to(torch.bfloat16)",
    fix_jax="param_dtype=jnp.float32, and no cast of the checkpoint",
    kinds="",
    measure=_rounded,
)


def _never_loaded() -> tuple[float, float]:
    x, w, b = normal(4, 6), normal(6, 5), normal(5)
    return against(x @ w + b, lambda x, w, b: x @ w, lambda x, w, b: x @ w + b, x, w, b)


never_loaded = Difference(
    code="WT-04",
    title="A weight that was not loaded, or not all of it",
    torch="load_state_dict(strict=True) names what is missing",
    jax="a tree that is merged keeps the first weights where no key fits, without a word",
    fix_torch="load_state_dict(strict=True)",
    fix_jax="compare the paths of both trees before they are merged",
    kinds="",
    measure=_never_loaded,
)


def _exchanged() -> tuple[float, float]:
    x, one, two = normal(4, 6), normal(6, 6), normal(6, 6, seed=1)

    def layers(x, one, two):
        return jnp.tanh(x @ one) @ two

    return against(
        (x @ one).tanh() @ two, lambda x, one, two: layers(x, two, one), layers, x, one, two
    )


another = Difference(
    code="WT-05",
    title="A weight that is another layer's",
    torch="each name once",
    jax="a list sorted as text has 10 before 2; query, key and value are alike in shape",
    fix_torch="the names one by one",
    fix_jax="sort by number; name each tensor",
    kinds="",
    measure=_exchanged,
)
