"""Attention from its formula, with something done otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from compare.differences.catalogue import Edit, Site
from compare.differences.shared.frameworks import F, torch
from compare.differences.shared.layers import rewritten, settings

MODULE, FUNCTION = "MultiheadAttention", "scaled_dot_product_attention"
KINDS = f"{MODULE}|{FUNCTION}"


def _bias(mask: Any, like: Any) -> Any:
    """A mask, True or 0 where attended, as what is added to the logits."""
    if mask is None:
        return torch.zeros((), dtype=like.dtype)
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=like.dtype).masked_fill(~mask, float("-inf"))
    return mask.to(like.dtype)


def attend(
    q: Any,
    k: Any,
    v: Any,
    mask: Any,
    *,
    scale: float | None = None,
    axis: int = -1,
    empty: str = "zero",
    added: Any = None,
) -> Any:
    """Attention over (N, heads, length, D); rows that see nothing give zero, or the mean."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    logits = q @ k.mT * scale
    bias = _bias(mask, logits)
    shown = bias.expand(logits.shape)
    if empty == "mean":
        shown = shown.clamp(min=torch.finfo(logits.dtype).min)
        logits = torch.where(shown <= torch.finfo(logits.dtype).min, shown, logits + shown)
    else:
        logits = logits + shown
    if added is not None:
        logits = logits + added
    weights = logits.softmax(axis)
    if empty == "zero" and axis == -1:
        weights = weights.masked_fill((shown == float("-inf")).all(-1, keepdim=True), 0.0)
    return weights @ v


def given_of(site: Site) -> SimpleNamespace:
    """The call's mask, True or 0 where attended, and its scale; heads stay in the values."""
    if site.module is None:
        s = settings(site, "key value attn_mask dropout_p is_causal scale enable_gqa")
        mask = s.attn_mask
        if s.is_causal:
            q, k = site.inputs[:2]
            causal = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
            mask = causal if mask is None else mask & causal
        return SimpleNamespace(mask=mask, scale=s.scale)
    names = "key_padding_mask need_weights attn_mask average_attn_weights is_causal".split()
    positional = site.args[3:] or site.inputs[3:]
    given = {**dict(zip(names, positional, strict=False)), **site.kwargs}
    padding, mask = given.get("key_padding_mask"), given.get("attn_mask")

    def attended(value: Any) -> Any:
        if value is None or value.dtype != torch.bool:
            return value
        return ~value

    padding, mask = attended(padding), attended(mask)
    if padding is not None:
        padding = padding[:, None, None, :] if padding.ndim == 2 else padding
    if mask is not None and mask.ndim == 3:
        mask = mask.unflatten(0, (-1, site.module.num_heads))
    if padding is None or mask is None:
        return SimpleNamespace(mask=mask if padding is None else padding, scale=None)
    if padding.dtype == torch.bool and mask.dtype == torch.bool:
        return SimpleNamespace(mask=padding & mask, scale=None)
    like = site.inputs[0]
    return SimpleNamespace(mask=_bias(padding, like) + _bias(mask, like), scale=None)


Split = Callable[[Any, int], Any]


def split_heads(x: Any, heads: int) -> Any:
    """(N, length, E) -> (N, heads, length, D)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Any) -> Any:
    return x.transpose(1, 2).flatten(-2)


def imitated(
    site: Site,
    core: Callable[..., Any] = attend,
    splits: tuple[Split, Split, Split] = (split_heads, split_heads, split_heads),
    merge: Callable[[Any], Any] = merge_heads,
    order: tuple[int, ...] = (0, 1, 2),
    thirds: Callable[[Any], tuple[Any, ...]] = lambda packed: packed.chunk(3),
    biases: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
    change: Callable[[int, Any], Any] = lambda _, w: w,
    **how: Any,
) -> Callable[[], Any]:
    """The layer or function from its formula, with something done otherwise.

    `thirds` parts the packed rows, `order` is what the parts are taken for; `biases` weigh those
    of query, key, value and output; `change` is given the four weights by number.
    """
    given = given_of(site)
    mask = how.pop("mask", given.mask)
    how.setdefault("scale", given.scale)

    if site.module is None:

        def function(q: Any, k: Any, v: Any, *_: Any) -> Any:
            q, k, v = ((q, k, v)[i] for i in order)
            if k.shape[1] != q.shape[1]:
                k, v = (a.repeat_interleave(q.shape[1] // k.shape[1], 1) for a in (k, v))
            return core(q, k, v, mask, **how)

        return site.replaced(function)

    def forward(m: Any, q: Any, k: Any, v: Any, *_: Any) -> Any:
        packed = m.in_proj_weight
        rows = (
            thirds(packed)
            if packed is not None
            else (m.q_proj_weight, m.k_proj_weight, m.v_proj_weight)
        )
        row_biases = [0.0] * 3 if m.in_proj_bias is None else thirds(m.in_proj_bias)
        values = []
        for i, (x, split) in enumerate(zip((q, k, v), splits, strict=True)):
            x = x if m.batch_first else x.transpose(0, 1)
            y = F.linear(x, change(i, rows[order[i]])) + biases[i] * row_biases[order[i]]
            values.append(split(y, m.num_heads))
        y = F.linear(merge(core(*values, mask, **how)), change(3, m.out_proj.weight))
        if m.out_proj.bias is not None:
            y = y + biases[3] * m.out_proj.bias
        return y if m.batch_first else y.transpose(0, 1)

    return rewritten(site, forward)


def is_plain(site: Site) -> bool:
    """Whether the formula above is all there is: no extra key, three dimensions."""
    module = site.module
    if module is None:
        return all(x.ndim == 4 for x in site.inputs[:3])
    extra = module.bias_k is not None or module.add_zero_attn
    return not extra and site.inputs[0].ndim == 3


def guarded(
    edits: Callable[[Site], Iterator[Edit]],
    written_out: Callable[[Site], Iterator[Edit]] = lambda _: iter(()),
) -> Callable[[Site], Iterator[Edit]]:
    """The edits of the layer; of attention that is written out, those of its functions."""

    def found(site: Site) -> Iterator[Edit]:
        if site.kind not in (MODULE, FUNCTION):
            return written_out(site)
        return edits(site) if is_plain(site) else iter(())

    return found
