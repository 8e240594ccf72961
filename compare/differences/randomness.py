"""Initialisation, dropout and draws: what the seeds and the shapes of the draws decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, gaps, jax64, normal
from compare.differences.shared.calls import option, without
from compare.differences.shared.frameworks import F, fnn, jax, jnp, torch
from compare.share import to_numpy, to_torch


def _seeded(draw: Callable[[], Any]) -> Any:
    """A torch draw that leaves torch's own stream as it was."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        return draw()


def _drawn(draw: Callable[[Any], Any]) -> np.ndarray:
    """A JAX draw in float64; `draw` is given a key."""
    return jax64(lambda: draw(jax.random.key(0)))


def _beyond(values: Any, bound: float) -> float:
    """The share of values beyond a bound, in per cent."""
    return 100 * float((np.abs(to_numpy(values)) > bound).mean())


def _linear() -> tuple[float, float]:
    bound = 1 / np.sqrt(64)
    ours = _beyond(_seeded(lambda: torch.nn.Linear(64, 64).double().weight), 1.0001 * bound)
    init = jax.nn.initializers

    def share(initializer):
        return _beyond(_drawn(lambda key: initializer(key, (64, 64), jnp.float64)), bound)

    return abs(ours - share(init.lecun_normal())), abs(
        ours - share(init.variance_scaling(1 / 3, "fan_in", "uniform"))
    )


kernel = Difference(
    code="INIT-01",
    title="first weights of dense and convolutional layers",
    torch="nn.Linear, nn.Conv2d: uniform up to 1 / sqrt(fan_in)",
    jax="nn.Dense, nn.Conv: lecun_normal, 1.73 times as wide",
    fix_torch="nn.init.trunc_normal_(weight, std=(1 / fan_in) ** 0.5)",
    fix_jax="kernel_init=nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')",
    kinds="",  # one set of weights serves both sides
    measure=_linear,
)


def _bias() -> tuple[float, float]:
    ours = _beyond(_seeded(lambda: torch.nn.Linear(16, 64).bias), 0.0)
    x = jnp.zeros((1, 16))

    def share(**options):
        def draw(key):
            return fnn.Dense(64, **options).init(key, x)["params"]["bias"]

        return _beyond(_drawn(draw), 0.0)

    def uniform(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -0.25, 0.25)

    return abs(ours - share()), abs(ours - share(bias_init=uniform))


bias = Difference(
    code="INIT-02",
    title="first biases",
    torch="nn.Linear, nn.Conv2d: uniform up to 1 / sqrt(fan_in)",
    jax="nn.Dense, nn.Conv: 0",
    fix_torch="nn.init.zeros_(layer.bias)",
    fix_jax="bias_init: jax.random.uniform between -1 / sqrt(fan_in) and 1 / sqrt(fan_in)",
    kinds="",  # one set of weights serves both sides
    measure=_bias,
)


def _truncated() -> tuple[float, float]:
    def share(**options):
        empty = torch.empty(5000, dtype=torch.float64)
        draw = torch.nn.init.trunc_normal_
        return _beyond(_seeded(lambda: draw(empty, std=0.02, **options)), 0.04)

    theirs = _drawn(
        lambda key: jax.nn.initializers.truncated_normal(0.02)(key, (5000,), jnp.float64)
    )
    return abs(share() - _beyond(theirs, 0.04)), abs(share(a=-0.04, b=0.04) - _beyond(theirs, 0.04))


truncated = Difference(
    code="INIT-03",
    title="truncated normal weights: where they are cut",
    torch="nn.init.trunc_normal_(std): at -2 and 2, whatever the deviation",
    jax="nn.initializers.truncated_normal(std): at two deviations",
    fix_torch="nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)",
    fix_jax="nn.initializers.truncated_normal(std, lower=-2 / std, upper=2 / std)",
    kinds="",  # one set of weights serves both sides
    measure=_truncated,
)


def _tail() -> tuple[float, float]:
    std = np.sqrt(2 / 100)
    init = torch.nn.init.kaiming_normal_
    ours = _seeded(lambda: init(torch.empty(100, 100, dtype=torch.float64)))
    deviation = 2.3 * std  # a truncated normal of this deviation ends at 2.274
    he = jax.nn.initializers.he_normal()
    theirs = _drawn(lambda key: he(key, (100, 100), jnp.float64))
    copied = jax64(lambda v: v, ours)
    return (
        abs(_beyond(ours, deviation) - _beyond(theirs, deviation)),
        abs(_beyond(ours, deviation) - _beyond(copied, deviation)),
    )


tail = Difference(
    code="INIT-04",
    title="normal weights: whole or truncated",
    torch="nn.init.kaiming_normal_, xavier_normal_: a whole normal distribution",
    jax="he_normal, glorot_normal, lecun_normal: truncated at two deviations",
    fix_torch="nn.init.trunc_normal_",
    fix_jax="copy PyTorch's weights, or nn.initializers.normal(std)",
    kinds="",  # one set of weights serves both sides
    measure=_tail,
)


def _stream() -> tuple[float, float]:
    ours = _seeded(lambda: torch.randn(6, dtype=torch.float64))
    theirs = _drawn(lambda key: jax.random.normal(key, (6,)))
    return gaps(ours, theirs, jax64(lambda v: v, ours))


stream = Difference(
    code="INIT-05",
    title="the numbers of a seed",
    torch="torch.manual_seed(0): Mersenne Twister",
    jax="jax.random.key(0): Threefry",
    fix_torch="draw with NumPy and hand the numbers to both",
    fix_jax="draw with NumPy and hand the numbers to both",
    kinds="",  # noise is an input of both sides
    measure=_stream,
)


def _categorical() -> tuple[float, float]:
    p = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)
    naive = jax64(jax.nn.softmax, p)
    mended = jax64(lambda v: jax.nn.softmax(jnp.log(v)), p)
    return gaps(torch.distributions.Categorical(p).probs, naive, mended)


categorical = Difference(
    code="INIT-06",
    title="categorical draws: probabilities or logits",
    torch="torch.distributions.Categorical(probs), torch.multinomial: probabilities",
    jax="jax.random.categorical(key, logits): logits, whose softmax is drawn from",
    fix_torch="Categorical(logits=x)",
    fix_jax="jax.random.categorical(key, jnp.log(probabilities))",
    kinds="",  # a draw
    measure=_categorical,
)


def _gamma() -> tuple[float, float]:
    x = normal(5).abs()
    two, three = torch.tensor([2.0, 3.0], dtype=torch.float64)
    ours = torch.distributions.Gamma(two, three).log_prob(x)

    def log_prob(scale):
        return lambda v: jax.scipy.stats.gamma.logpdf(v, 2.0, scale=scale)

    return against(ours, log_prob(3.0), log_prob(1 / 3.0), x)


gamma = Difference(
    code="INIT-07",
    title="gamma distribution: rate or scale",
    torch="torch.distributions.Gamma(concentration, rate)",
    jax="jax.scipy.stats.gamma(a, scale=)",
    fix_torch="Gamma(concentration, 1 / scale)",
    fix_jax="jax.scipy.stats.gamma.logpdf(x, a, scale=1 / rate)",
    kinds="",  # a distribution, no layer
    measure=_gamma,
)


def _mask() -> tuple[float, float]:
    x = normal(50)
    mask = _seeded(lambda: F.dropout(torch.ones_like(x), 0.3))

    def flax(v):
        layer = fnn.Dropout(0.3, deterministic=False)
        return layer.apply({}, v, rngs={"dropout": jax.random.key(0)})

    return gaps(x * mask, jax64(flax, x), jax64(lambda v, m: v * m, x, mask))


DROPOUTS = "dropout[123]?d?_?|Dropout[123]?d?|alpha_dropout|AlphaDropout"


def _mask_forms(site: Site) -> Iterator[Edit]:
    p = option(site, "p", 1, 0.5)
    if not 0 < p < 1:
        return
    right = f"nn.Dropout(rate={p:g})"
    yield Edit(
        f"{right} divides by {1 - p:g}: x * mask / {1 - p:g}",
        f"x * mask, without 1 / {1 - p:g}",
        lambda: to_torch(site.ours * (1 - p)),
    )
    yield Edit(
        f"rate={p:g}: it is the share that is dropped, not that is kept",
        f"x * mask / {p:g}",
        lambda: to_torch(site.ours * (1 - p) / p),
    )
    yield Edit(
        "deterministic=False in training", "no dropout here", site.replaced(lambda x, *_: x * 1.0)
    )
    yield Edit(
        "no factor where nothing is dropped",
        f"x * {1 - p:g}",
        site.replaced(lambda x, *_: x * (1 - p)),
    )
    for rate in without((0.1, 0.2, 0.25, 0.3, 0.5), p):
        yield Edit(
            right,
            f"x * mask / {1 - rate:g}",
            lambda r=rate: to_torch(site.ours * (1 - p) / (1 - r)),
        )


mask = Difference(
    code="DROP-01",
    title="dropout: the mask, its factor and the meaning of the rate",
    torch="nn.Dropout(p): drops the share p, divides the rest by 1 - p; another mask in each call",
    jax="nn.Dropout(rate): the same; the mask is the key's, and off with deterministic=True",
    fix_torch="x * mask / (1 - p) with a mask that both are given",
    fix_jax="x * mask / (1 - rate) with a mask that both are given",
    kinds=DROPOUTS,
    measure=_mask,
    edits=_mask_forms,
)


def _channels() -> tuple[float, float]:
    x = torch.ones(8, 5, 4, 4, dtype=torch.float64)

    def split(y):
        """The channels of which only a part was dropped."""
        share = (to_numpy(y).reshape(8, 5, -1) > 0).mean(-1)
        return float(((share > 0) & (share < 1)).sum())

    def flax(**options):
        def run(v):
            layer = fnn.Dropout(0.5, deterministic=False, **options)
            return layer.apply({}, v, rngs={"dropout": jax.random.key(0)})

        return split(jax64(run, x))

    ours = split(_seeded(lambda: F.dropout2d(x, 0.5)))
    return abs(ours - flax()), abs(ours - flax(broadcast_dims=(2, 3)))


channels = Difference(
    code="DROP-02",
    title="dropout of whole channels",
    torch="nn.Dropout2d: drops channels",
    jax="nn.Dropout: drops elements, unless broadcast_dims names the other axes",
    fix_torch="nn.Dropout",
    fix_jax="nn.Dropout(rate, broadcast_dims=(1, 2)) of (N, H, W, C)",
    kinds="",  # with the same mask on both sides there is nothing to see
    measure=_channels,
)


def _attention() -> tuple[float, float]:
    q, k = torch.zeros(4, 6, 2, 8, dtype=torch.float64), normal(4, 6, 2, 8)
    weights = torch.full((4, 2, 6, 6), 1 / 6, dtype=torch.float64)

    def shared(w):
        """Whether all examples and heads have one mask, in per cent."""
        kept = to_numpy(w) > 0
        return 100.0 * bool((kept == kept[:1, :1]).all())

    def flax(**options):
        def run(a, b):
            return fnn.dot_product_attention_weights(
                a,
                b,
                dropout_rng=jax.random.key(0),
                dropout_rate=0.5,
                deterministic=False,
                **options,
            )

        return shared(jax64(run, q, k))

    ours = shared(_seeded(lambda: F.dropout(weights, 0.5)))
    return abs(ours - flax()), abs(ours - flax(broadcast_dropout=False))


attention = Difference(
    code="DROP-03",
    title="dropout of attention weights: one mask for all, or each its own",
    torch="nn.MultiheadAttention(dropout): each example and head its own mask",
    jax="nn.MultiHeadDotProductAttention: one mask for all (broadcast_dropout=True)",
    fix_torch="one mask of (1, 1, L, S) for all",
    fix_jax="broadcast_dropout=False",
    kinds="",  # with the same mask on both sides there is nothing to see
    measure=_attention,
)
