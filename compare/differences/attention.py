"""Attention: masks, scales, heads and the packed projections."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, flax64, gaps, jax64, normal
from compare.differences.shared import attention_by_hand
from compare.differences.shared.attention import (
    FUNCTION,
    KINDS,
    MODULE,
    attend,
    given_of,
    guarded,
    imitated,
    is_plain,
    merge_heads,
    split_heads,
)
from compare.differences.shared.frameworks import F, fnn, jax, jnp, nn, torch
from compare.differences.shared.layers import rewritten

N, L, HEADS, D = 2, 4, 3, 5
E = HEADS * D


def _inputs(heads: int = HEADS, keys: int = L) -> tuple[Any, Any, Any]:
    """Query, key and value as flax has them, (N, length, heads, D)."""
    return (
        normal(N, L, HEADS, D, scale=1.5),
        normal(N, keys, heads, D, seed=1, scale=1.5),
        normal(N, keys, heads, D, seed=2),
    )


def _torch(q: Any, k: Any, v: Any, **options: Any) -> Any:
    """PyTorch's attention of flax's layout."""
    heads_first = (a.transpose(1, 2) for a in (q, k, v))
    return F.scaled_dot_product_attention(*heads_first, **options).transpose(1, 2)


def _flax(q: Any, k: Any, v: Any, mask: Any = None) -> Any:
    return jax64(lambda *a: fnn.dot_product_attention(*a[:3], mask=a[3]), q, k, v, mask)


def _module() -> tuple[Any, Any]:
    """PyTorch's layer with generic weights, and its input."""
    module = nn.MultiheadAttention(E, HEADS, batch_first=True).double()
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=index, scale=0.5))
    return module.requires_grad_(False), normal(N, L, E)


def _params(module: Any, order: str = "qkv", bias: bool = True, split: Any = None) -> Any:
    """flax.linen's parameters; `order` is what the packed rows are taken for."""
    params = {}
    weights = dict(zip(order, module.in_proj_weight.chunk(3), strict=True))
    biases = dict(zip(order, module.in_proj_bias.chunk(3), strict=True))
    for name in ("query", "key", "value"):
        kernel = weights[name[0]].T
        params[name] = {
            "kernel": split(kernel) if split else kernel.reshape(E, HEADS, D),
            "bias": biases[name[0]].reshape(HEADS, D),
        }
    params["out"] = {
        "kernel": module.out_proj.weight.T.reshape(HEADS, D, E),
        "bias": module.out_proj.bias if bias else 0 * module.out_proj.bias,
    }
    return params


def _flax_module(params: Any, x: Any, mask: Any = None) -> Any:
    module = fnn.MultiHeadDotProductAttention(HEADS, param_dtype=np.float64)
    return flax64(module, params, x, mask=mask)


def _layout() -> tuple[float, float]:
    q, k, v = (normal(N, 4, 4, D, seed=i) for i in range(3))
    ours = F.scaled_dot_product_attention(q, k, v)
    right = _flax(*(a.transpose(1, 2) for a in (q, k, v)))
    return gaps(ours, _flax(q, k, v), right.swapaxes(1, 2))


def _layouts(site: Site) -> Iterator[Edit]:
    def over_heads(q: Any, k: Any, v: Any, mask: Any, **how: Any) -> Any:
        q, k, v = (a.transpose(1, 2) for a in (q, k, v))
        return attend(q, k, v, mask, **how).transpose(1, 2)

    def transposed(q: Any, k: Any, v: Any, mask: Any, **how: Any) -> Any:
        return attend(q, k, v, mask, **how).transpose(1, 2).reshape(q.shape)

    line = "query, key and value as (N, length, heads, D)"
    for what, core in (
        ("attention over the heads' axis", over_heads),
        ("the output's heads and length swapped", transposed),
    ):
        yield Edit(line, what, imitated(site, core))
        yield Edit(line, f"{what}, no mask", imitated(site, core, mask=None))
    if site.module is None:
        return
    line, other = "the batch on the axis where PyTorch has it", not site.module.batch_first
    for heeded in (True, False) if site.kwargs.get("key_padding_mask") is not None else (True,):

        def turned(m: Any, *inputs: Any, heeded: bool = heeded) -> Any:
            m.batch_first, given = other, dict(site.kwargs)
            if (padding := given.get("key_padding_mask")) is not None:
                given["key_padding_mask"] = padding.mT if heeded else None
            return m(*inputs, **given)

        what = f"batch_first={other}" + ("" if heeded else ", no key_padding_mask")
        yield Edit(line, what, rewritten(site, turned))


layout = Difference(
    code="ATT-01",
    title="The heads' axis",
    torch="F.scaled_dot_product_attention: (N, heads, length, D)",
    jax="nn.dot_product_attention, jax.nn's: (N, length, heads, D)",
    fix_torch="x.transpose(1, 2) before and after",
    fix_jax="jnp.swapaxes(x, 1, 2) before and after",
    kinds=KINDS,
    measure=_layout,
    edits=guarded(_layouts),
)


def _float32_inside() -> tuple[float, float]:
    q, k, v = _inputs()
    return gaps(_torch(q, k, v), jax64(jax.nn.dot_product_attention, q, k, v), _flax(q, k, v))


float32_inside = Difference(
    code="ATT-02",
    title="Attention in float32 inside",
    torch="F.scaled_dot_product_attention: in the inputs' dtype",
    jax="jax.nn.dot_product_attention: softmax in float32, of float64 inputs too",
    fix_torch="softmax of logits.float()",
    fix_jax="flax.linen.dot_product_attention",
    kinds="",  # rounding: no two programs have the same
    measure=_float32_inside,
)


def _polarity() -> tuple[float, float]:
    module, x = _module()
    hidden = torch.zeros(N, L, dtype=torch.bool)
    hidden[1, 2:] = True
    ours = module(x, x, x, key_padding_mask=hidden)[0]
    params = _params(module)
    naive = _flax_module(params, x, hidden[:, None, None, :].numpy())
    mended = _flax_module(params, x, ~hidden[:, None, None, :].numpy())
    return gaps(ours, naive, mended)


def _other_masks(site: Site) -> Iterator[Edit]:
    mask = given_of(site).mask
    if mask is None:
        return
    line = "mask: True where attended (PyTorch's layer: True where ignored)"
    boolean = mask if mask.dtype == torch.bool else mask == 0
    if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == float("-inf"))).all()):
        yield Edit("+ mask", "- mask", imitated(site, mask=-mask, empty="mean"))
        return
    causal = bool((boolean == torch.ones_like(boolean).tril()).all())
    for empty in ("mean", "zero"):
        how = {"empty": empty}
        yield Edit(line, "~mask", imitated(site, mask=~boolean, **how))
        if boolean.shape[-1] == boolean.shape[-2] and not causal:
            yield Edit("the mask as it is", "mask.mT", imitated(site, mask=boolean.mT, **how))
            yield Edit(line, "~mask.mT", imitated(site, mask=~boolean.mT, **how))
    for right, number in (
        ("jnp.where(mask, logits, -inf), not logits + mask", boolean),
        (line, ~boolean),
    ):
        added = number.to(site.inputs[0].dtype)
        yield Edit(right, "logits + mask as numbers", imitated(site, mask=None, added=added))

    if boolean.ndim > 2 and boolean.shape[-2] == 1:
        over_queries = imitated(site, mask=boolean.mT, empty="mean")
        yield Edit("mask[:, None, None, :], over the keys", "over the queries", over_queries)

    def zeroed(q: Any, k: Any, v: Any, mask: Any, **how: Any) -> Any:
        weights = (q @ k.mT * (how["scale"] or q.shape[-1] ** -0.5)).softmax(-1)
        return (weights * mask) @ v

    after = "the mask before the softmax"
    yield Edit(after, "weights * mask after it", imitated(site, zeroed, mask=boolean))


polarity = Difference(
    code="ATT-03",
    title="What a mask's True means",
    torch="nn.MultiheadAttention: True is ignored; F.scaled_dot_product_attention: attended",
    jax="nn.MultiHeadDotProductAttention: True is attended",
    fix_torch="key_padding_mask=~mask",
    fix_jax="mask=~key_padding_mask[:, None, None, :]",
    kinds=f"{KINDS}|masked_fill|where|add",
    measure=_polarity,
    edits=guarded(_other_masks, attention_by_hand.polarities),
)


def _head_split() -> tuple[float, float]:
    module, x = _module()
    ours = module(x, x, x)[0]
    mixed = _params(module, split=lambda w: w.reshape(E, D, HEADS).mT)
    return gaps(ours, _flax_module(mixed, x), _flax_module(_params(module), x))


def _interleaved(x: Any, heads: int) -> Any:
    """The features as (D, heads)."""
    return x.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)


def _unmoved(x: Any, heads: int) -> Any:
    """A reshape to (N, heads, length, D) without a transpose."""
    return x.reshape(x.shape[0], heads, x.shape[1], -1)


def _glue_splits(site: Site) -> Iterator[Edit]:
    """Between two layers: (N, length, E) to four axes."""
    x: Any = site.inputs[0] if site.inputs else None
    shape = site.theirs.shape
    if getattr(x, "ndim", 0) != 3 or len(shape) != 4:
        return
    for sizes in sorted(set(itertools.permutations(shape, 2))):
        if sizes[0] * sizes[1] != x.shape[-1]:
            continue
        for order in itertools.permutations(range(4)):
            yield Edit(
                "x.reshape(n, length, heads, D)",
                f"x.unflatten(-1, {sizes}).permute{order}",
                lambda z=sizes, o=order: x.unflatten(-1, z).permute(o),
            )


def _head_splits(site: Site) -> Iterator[Edit]:
    if site.kind == "glue":
        yield from _glue_splits(site)
        return
    if site.kind != MODULE:
        yield from attention_by_hand.splits(site)
        return
    if not is_plain(site):
        return
    line = "weight.T.reshape(E, heads, D), out: weight.T.reshape(heads, D, E)"
    shape = (*site.inputs[0].shape[:2],)
    shape = shape if site.module.batch_first else shape[::-1]
    merges: dict[str, Callable[[Any], Any]] = {
        "": merge_heads,
        ", merged as (D, heads)": lambda x: x.permute(0, 2, 3, 1).flatten(-2),
        ", merged without a transpose": lambda x: x.reshape(*shape, -1),
    }
    for (name, merge), split in itertools.product(merges.items(), (_interleaved, _unmoved)):
        for who in ("", "qkv", "q", "k", "v", "qk", "kv"):
            if not who and not name:
                continue
            q, k, v = ((split if c in who else split_heads) for c in "qkv")
            what = f"{split.__name__.strip('_')} heads of {who or 'none'}{name}"
            yield Edit(line, what, imitated(site, splits=(q, k, v), merge=merge))
            if who == "q" and not name:  # the kernels alone, the biases as they should be
                for ws in ("q", "k", "v", "qk", "qkv"):
                    yield Edit(
                        line, f"{what} in the weights", imitated(site, change=_mixed(ws, site))
                    )


def _mixed(who: str, site: Site) -> Callable[[int, Any], Any]:
    heads = site.module.num_heads

    def change(index: int, weight: Any) -> Any:
        if "qkvo"[index] not in who:
            return weight
        return weight.unflatten(0, (-1, heads)).transpose(0, 1).flatten(0, 1)

    return change


head_split = Difference(
    code="ATT-04",
    title="How the heads share the features",
    torch="nn.MultiheadAttention: rows (heads, D), all of a head together",
    jax="kernels (E, heads, D): a reshape to (E, D, heads) gives no error",
    fix_torch="weight.unflatten(0, (D, heads)).transpose(0, 1).flatten(0, 1)",
    fix_jax="weight.T.reshape(E, heads, D), out: weight.T.reshape(heads, D, E)",
    kinds=f"{MODULE}|glue|{attention_by_hand.SPLITS}|{attention_by_hand.MOVES}",
    measure=_head_split,
    edits=_head_splits,
)


def _scale() -> tuple[float, float]:
    q, k, v = _inputs()
    ours = _torch(q, k, v)

    def theirs(scale: float) -> Any:
        def run(q: Any, k: Any, v: Any) -> Any:
            logits = jnp.einsum("nqhd,nkhd->nhqk", q, k) * scale
            return jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(logits), v)

        return jax64(run, q, k, v)

    return gaps(ours, theirs(1.0), theirs(D**-0.5))


def _scales(site: Site) -> Iterator[Edit]:
    width = site.inputs[0].shape[-1]
    heads = site.inputs[0].shape[1] if site.module is None else site.module.num_heads
    size = width if site.module is None else width // heads
    own = given_of(site).scale or size**-0.5
    embed = size * heads
    for name, scale in {
        "1": 1.0,
        "1 / D": 1 / size,
        "1 / sqrt(embed)": embed**-0.5,
        "1 / embed": 1 / embed,
        "sqrt(D)": size**0.5,
        "1 / sqrt(D)": size**-0.5,
        "1 / sqrt(heads)": heads**-0.5,
        "1 / sqrt(length)": site.inputs[1].shape[-2] ** -0.5,
    }.items():
        if scale != own:
            yield Edit(
                f"logits * {own:.6g}, and D={size}", f"scale={name}", imitated(site, scale=scale)
            )


attention_scale = Difference(
    code="ATT-05",
    title="The logits' scale",
    torch="F.scaled_dot_product_attention: 1 / sqrt(D) of one head",
    jax="nn.dot_product_attention: the same; jnp.einsum alone has none",
    fix_torch="scale=1.0",
    fix_jax="query / jnp.sqrt(D)",
    kinds=f"{KINDS}|matmul|einsum|div|mul|squeeze|masked_fill|where",
    measure=_scale,
    edits=guarded(_scales, attention_by_hand.scales),
)


def _empty_rows() -> tuple[float, float]:
    q, k, v = _inputs()
    mask = torch.ones(L, L, dtype=torch.bool)
    mask[0] = False
    ours = _torch(q, k, v, attn_mask=mask)
    theirs = _flax(q, k, v, mask[None, None])
    seen = mask.any(-1)[None, :, None, None].numpy()
    return gaps(ours, theirs, np.where(seen, theirs, 0))


def _empty_means(site: Site) -> Iterator[Edit]:
    if given_of(site).mask is not None:
        line = "jnp.where(mask.any(-1), y, 0): rows that attend to nothing"
        yield Edit(line, "finfo.min in place of -inf: the mean", imitated(site, empty="mean"))


empty_rows = Difference(
    code="ATT-06",
    title="A query that may attend to nothing",
    torch="F.scaled_dot_product_attention: 0; nn.MultiheadAttention with weights: NaN",
    jax="nn.dot_product_attention: the mean of the values (finfo.min, not -inf)",
    fix_torch="an additive mask of torch.finfo(dtype).min",
    fix_jax="jnp.where(mask.any(-1), y, 0)",
    kinds=KINDS,
    measure=_empty_rows,
    edits=guarded(_empty_means),
)


def _causal() -> tuple[float, float]:
    q, k, v = _inputs(keys=L + 2)
    ours = _torch(q, k, v, is_causal=True)

    def theirs(shift: int) -> Any:
        return _flax(q, k, v, np.tri(L, L + 2, shift, dtype=bool)[None, None])

    return gaps(ours, theirs(2), theirs(0))


def _causal_masks(site: Site) -> Iterator[Edit]:
    axis = -2 if site.module is None or site.module.batch_first else 0
    rows, keys = (site.inputs[i].shape[axis] for i in (0, 1))
    line = "nn.make_causal_mask, jnp.tril(ones): row i sees the keys 0 to i"
    whole = torch.ones(rows, keys, dtype=torch.bool)
    masks = {f"tril(diagonal={shift})": whole.tril(shift) for shift in (-1, 1, keys - rows, 0)}
    masks |= {f"triu(diagonal={shift})": whole.triu(shift) for shift in (0, 1)}
    own = given_of(site).mask
    if own is None:
        line = "no causal mask"
    for name, mask in masks.items():
        yield Edit(line, name, imitated(site, mask=mask, empty="mean"))
    if own is not None and own.dtype == torch.bool:
        yield Edit(
            line, "is_causal=True too", imitated(site, mask=own & whole.tril(), empty="mean")
        )


causal = Difference(
    code="ATT-07",
    title="Where a causal mask starts",
    torch="is_causal=True: row i sees the keys 0 to i, of longer keys too",
    jax="is_causal=True: the same; jnp.tril(k=keys - rows) by hand lets the last row see all",
    fix_torch="attn_mask=torch.ones(rows, keys).tril(keys - rows).bool()",
    fix_jax="jnp.tril(jnp.ones((rows, keys), bool))",
    kinds=f"{KINDS}|tril|triu|{attention_by_hand.COMPARISONS}",
    measure=_causal,
    edits=guarded(_causal_masks, attention_by_hand.starts),
)


def _grouped() -> tuple[float, float]:
    q, k, v = normal(N, L, 4, D), normal(N, L, 2, D, seed=1), normal(N, L, 2, D, seed=2)
    ours = _torch(q, k, v, enable_gqa=True)
    tiled = [jax64(lambda a: jnp.tile(a, (1, 1, 2, 1)), a) for a in (k, v)]
    repeated = [jax64(lambda a: jnp.repeat(a, 2, 2), a) for a in (k, v)]
    return gaps(ours, _flax(q, *tiled), _flax(q, *repeated))


def _tiled(site: Site) -> Iterator[Edit]:
    q, k = site.inputs[:2]
    if site.module is not None or q.shape[1] == k.shape[1]:
        return
    times = q.shape[1] // k.shape[1]
    given = given_of(site)

    def function(q: Any, k: Any, v: Any, *_: Any) -> Any:
        k, v = (a.repeat(1, times, 1, 1) for a in (k, v))
        return attend(q, k, v, given.mask, scale=given.scale)

    yield Edit(
        "jnp.repeat(k, times, heads' axis)", "k.repeat(1, times, 1, 1)", site.replaced(function)
    )


grouped = Difference(
    code="ATT-08",
    title="Fewer key heads than query heads",
    torch="enable_gqa=True: each key head repeated for neighbouring query heads",
    jax="jax.nn.dot_product_attention: the same; jnp.tile by hand does otherwise",
    fix_torch="k.repeat(1, times, 1, 1)",
    fix_jax="jnp.repeat(k, times, axis=2)",
    kinds=FUNCTION,
    measure=_grouped,
    edits=guarded(_tiled),
)


def _softmax_axis() -> tuple[float, float]:
    import warnings

    x = normal(3, 4, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = F.softmax(x)
    return against(ours, jax.nn.softmax, lambda a: jax.nn.softmax(a, 0), x)


def _softmax_axes(site: Site) -> Iterator[Edit]:
    if site.kind in (MODULE, FUNCTION):
        if is_plain(site):
            for name, axis in (("queries", -2), ("heads", 1)):
                change = imitated(site, axis=axis, empty="mean")
                yield Edit("axis=-1, over the keys", f"over the {name}", change)
        return
    own = getattr(site.module, "dim", None) if site.module is not None else None
    own = site.kwargs.get("dim", site.args[1] if len(site.args) > 1 else own)
    x = site.inputs[0]
    function = "log_softmax" if "log" in site.kind.lower() else "softmax"
    for axis in range(x.ndim):
        if own is None or axis != own % x.ndim:
            change = site.replaced(lambda x, *_, a=axis: getattr(x, function)(a))
            yield Edit(f"axis={own}", f"dim={axis}", change)
    yield Edit(
        f"axis={own}",
        "over all axes",
        site.replaced(lambda x, *_: getattr(x.flatten(), function)(0).reshape(x.shape)),
    )


softmax_axis = Difference(
    code="ATT-09",
    title="The softmax's axis",
    torch="F.softmax without dim: 0 of one or three axes, else 1",
    jax="jax.nn.softmax: axis=-1",
    fix_torch="F.softmax(x, dim=-1)",
    fix_jax="jax.nn.softmax(x, axis=PyTorch's dim)",
    kinds=rf"softmax|Softmax|Softmax2d|log_softmax|LogSoftmax|{KINDS}",
    measure=_softmax_axis,
    edits=_softmax_axes,
)


def _packed_order() -> tuple[float, float]:
    module, x = _module()
    ours = module(x, x, x)[0]
    swapped = _params(module, order="kqv")
    return gaps(ours, _flax_module(swapped, x), _flax_module(_params(module), x))


def _packed_orders(site: Site) -> Iterator[Edit]:
    for order in itertools.permutations(range(3)):
        if order != (0, 1, 2):
            said = ", ".join("query key value".split()[i] for i in order)
            yield Edit("the order query, key, value", said, imitated(site, order=order))
    if site.module is None or site.module.in_proj_weight is None:
        return
    for what, groups in (
        ("(features, 3)", site.module.embed_dim),
        ("(heads, 3, D)", site.module.num_heads),
    ):

        def thirds(rows: Any, groups: int = groups) -> tuple[Any, ...]:
            return tuple(
                part.flatten(0, 1) for part in rows.unflatten(0, (groups, 3, -1)).unbind(1)
            )

        change = imitated(site, thirds=thirds)
        yield Edit("the rows as (3, features)", f"the rows as {what}", change)


packed_order = Difference(
    code="ATT-10",
    title="Order of query, key and value",
    torch="nn.MultiheadAttention: in_proj_weight's rows are query, key, value",
    jax="three kernels by name: which rows go where is the port's",
    fix_torch="in_proj_weight's thirds permuted",
    fix_jax="jnp.split(in_proj_weight, 3): query, key, value",
    kinds=f"{KINDS}|matmul",
    measure=_packed_order,
    edits=guarded(_packed_orders, attention_by_hand.swaps),
)


def _output_bias() -> tuple[float, float]:
    module, x = _module()
    ours = module(x, x, x)[0]
    without = _params(module, bias=False)
    return gaps(ours, _flax_module(without, x), _flax_module(_params(module), x))


def _other_projections(site: Site) -> Iterator[Edit]:
    module = site.module
    for name, biases in {
        "no output bias": (1, 1, 1, 0),
        "no input biases": (0, 0, 0, 1),
        "no biases": (0, 0, 0, 0),
        "no query bias": (0, 1, 1, 1),
        "no value bias": (1, 1, 0, 1),
        "no query and key bias": (0, 0, 1, 1),
        "the query's bias alone": (1, 0, 0, 1),
        "the value's bias alone": (0, 0, 1, 1),
        "output bias twice": (1, 1, 1, 2),
    }.items():
        yield Edit("use_bias=True, all four biases", name, imitated(site, biases=biases))

    def turned(which: str) -> Callable[[int, Any], Any]:
        return lambda index, w: w.T if "qkvo"[index] in which else w

    def absent(index: int, weight: Any) -> Any:
        return torch.eye(len(weight), dtype=weight.dtype) if index == 3 else weight

    if module.in_proj_weight is not None:
        for which in ("o", "qkv", "qkvo", "q", "k", "v"):
            line = "each kernel is the weight's transpose"
            yield Edit(
                line, f"weights of {which} as they are", imitated(site, change=turned(which))
            )
    line = "the output projection: nn.MultiHeadDotProductAttention's 'out'"
    yield Edit(line, "no out_proj, its bias only", imitated(site, change=absent))
    none = imitated(site, change=absent, biases=(1, 1, 1, 0))
    yield Edit(line, "no out_proj", none)


output_bias = Difference(
    code="ATT-11",
    title="The projections' weights and biases",
    torch="nn.MultiheadAttention: in_proj_bias, out_proj.bias",
    jax="nn.MultiHeadDotProductAttention: biases too; jnp.einsum by hand has none",
    fix_torch="bias=False",
    fix_jax="{'out': {'kernel': ..., 'bias': out_proj.bias}}",
    kinds=MODULE,
    measure=_output_bias,
    edits=guarded(_other_projections),
)


def _unmasked() -> tuple[float, float]:
    q, k, v = _inputs()
    mask = torch.ones(N, L, dtype=torch.bool)
    mask[1, 2:] = False
    naive = _flax(q, k, v)
    mended = _flax(q, k, v, mask[:, None, None, :].numpy())
    return gaps(_torch(q, k, v, attn_mask=mask[:, None, None, :]), naive, mended)


def _no_mask(site: Site) -> Iterator[Edit]:
    if given_of(site).mask is not None:
        yield Edit(unmasked.fix_jax, "no mask", imitated(site, mask=None))


unmasked = Difference(
    code="ATT-12",
    title="A mask that is not passed on",
    torch="key_padding_mask=, attn_mask= or is_causal= given",
    jax="mask=None, the default: every key is attended, the padding too",
    fix_torch="no mask",
    fix_jax="mask=~key_padding_mask[:, None, None, :]",
    kinds=KINDS,
    measure=_unmasked,
    edits=guarded(_no_mask),
)
