"""Slips of conversion: what a port's weights become where its author has erred in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx

from compare import Twin
from tests.ports import Values

Change = Callable[[Values], np.ndarray]


@dataclass(frozen=True)
class Slip:
    """A right port with some leaves made wrongly.

    Args:
      port: its name.
      name: what was done, in a few words.
      leaves: by name, what makes each from the right leaves.
      says: what the report says of each leaf, and of no other.
      code: of the cause; None where what a leaf is instead cannot be known.
    """

    port: str
    name: str
    leaves: Mapping[str, Change]
    says: tuple[str, ...]
    code: str | None


def planted(twin: Twin, leaves: Mapping[str, Change]) -> Twin:
    """A port with other leaves: of its tree, of its Linen variables, or of its module."""

    def changed(tree: Any) -> Any:
        flat, structure = jax.tree_util.tree_flatten_with_path(tree)
        named = {_named(path): np.asarray(leaf) for path, leaf in flat}
        new = named | {name: change(named) for name, change in leaves.items()}
        assert new.keys() == named.keys(), (list(leaves), list(named))
        for name, change in leaves.items():
            assert new[name].shape == named[name].shape, (name, change)
        return jax.tree.unflatten(structure, [jnp.asarray(value) for value in new.values()])

    if twin.variables is not None:
        return replace(twin, variables=changed(twin.variables))
    if isinstance(twin.jax, tuple):
        apply, variables = twin.jax
        return replace(twin, jax=(apply, changed(variables)))
    if isinstance(twin.jax, nnx.Module):
        graph, state = nnx.split(twin.jax)
        return replace(twin, jax=nnx.merge(graph, changed(state)))
    arrays, static = eqx.partition(twin.jax, eqx.is_array)
    return replace(twin, jax=eqx.combine(changed(arrays), static))


def _named(path: tuple[Any, ...]) -> str:
    keys = [str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path]
    return "/".join(keys).removeprefix("params/").removeprefix("batch_stats/")


def of(leaf: str, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, Change]:
    """One leaf, changed."""
    return {leaf: lambda leaves: change(leaves[leaf])}


def exchanged(one: str, two: str) -> dict[str, Change]:
    """Each of two leaves in the place of the other."""
    return {one: lambda leaves: leaves[two], two: lambda leaves: leaves[one]}


def in_order(order: str, axis: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """Equal blocks along an axis in another order: "1032"."""

    def change(array: np.ndarray) -> np.ndarray:
        blocks = np.split(array, len(order), axis)
        return np.concatenate([blocks[int(number)] for number in order], axis)

    return change


def in_turns(blocks: int, wide: int = 1, axis: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """Blocks taken in turns, some at a time."""

    def change(array: np.ndarray) -> np.ndarray:
        moved = np.moveaxis(array, axis, 0)
        turned = moved.reshape(blocks, -1, wide, *moved.shape[1:]).swapaxes(0, 1)
        return np.moveaxis(turned.reshape(moved.shape), 0, axis)

    return change


def turned(array: np.ndarray) -> np.ndarray:
    """The last two axes exchanged."""
    return array.swapaxes(-1, -2)


def reshaped(array: np.ndarray) -> np.ndarray:
    """Reshaped to where it should have been transposed."""
    return array.T.reshape(array.shape)


def rounded(array: np.ndarray) -> np.ndarray:
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


def flipped(array: np.ndarray) -> np.ndarray:
    return array[::-1, ::-1]


def initial(array: np.ndarray) -> np.ndarray:
    """What was there before anything was loaded."""
    return 0.3 * np.random.default_rng(3).standard_normal(array.shape).astype(np.float32)


def part(index: Any, change: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """A part of a leaf, changed."""

    def changed(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[index] = change(array[index])
        return array

    return changed


_TEXT = sorted(range(12), key=str)

SLIPS = [
    # dense layers
    Slip("plain/mlp", "untransposed", of("w2", turned), (), "LIN-01"),
    Slip("plain/mlp", "zeros", of("b2", np.zeros_like), (), "WT-04"),
    Slip("plain/mlp", "biases exchanged", exchanged("b1", "b2"), (), "WT-05"),
    Slip("plain/mlp", "less one", of("gamma", lambda g: g - 1), (), "WT-02"),
    Slip("plain/mlp", "a row of zeros", of("w1", part(2, np.zeros_like)), (), "WT-04"),
    Slip("plain/gated", "halves exchanged", of("wi", in_order("10", 1)), (), "WT-05"),
    Slip("plain/gated", "taken in turns", of("wi", in_turns(2, axis=1)), (), "WT-01"),
    Slip("plain/gated", "bfloat16", of("wo", rounded), (), "WT-03"),
    Slip("plain/tied", "off by one", of("pos", lambda p: np.roll(p, 1, 0)), (), "WT-01"),
    Slip("plain/tied", "transposed", of("tok", reshaped), (), "WT-01"),
    Slip("plain/experts", "experts exchanged", of("wi", in_order("10")), (), "WT-05"),
    Slip("plain/experts", "the gate exchanged", of("router", in_order("10", 1)), (), "WT-01"),
    Slip("plain/vae", "halves exchanged", of("encoder/w1", in_order("10", 1)), (), "WT-05"),
    Slip("plain/mixer", "never loaded", of("tok_out", initial), (), None),
    Slip(
        "plain/deep", "sorted as text",
        {f"w/{i}": lambda leaves, j=j: leaves[f"w/{j}"] for i, j in enumerate(_TEXT)},
        (), "WT-05",
    ),
    Slip(
        "plain/bilinear", "reshaped",
        of("tensor", lambda t: t.transpose(2, 0, 1).reshape(t.shape)), (), "WT-01",
    ),
    # recurrent
    Slip("recurrent/lstm_by_gate", "gates", exchanged("W_xi", "W_xf"), (), "WT-05"),
    Slip(
        "recurrent/lstm_joint", "gates as PyTorch's",
        of("lstm/w", in_order("0213", 1)) | of("lstm/b_i", in_order("0213"))
        | of("lstm/b_h", in_order("0213")),
        (), "RNN-01",
    ),
    Slip("recurrent/lstm_joint", "a bias lost", of("lstm/b_h", np.zeros_like), (), "WT-04"),
    Slip(
        "recurrent/gru", "biases summed",
        {"bi": lambda p: p["bi"] + p["bh"], "bh": lambda p: 0 * p["bh"]}, (), "RNN-04",
    ),
    Slip("recurrent/gru", "r and z", of("wh", in_order("10", 1)), (), "RNN-09"),
    Slip(
        "recurrent/both_ways", "one direction twice",
        {"bwd/kernel": lambda p: p["fwd/kernel"]}, (), "WT-05",
    ),
    Slip("recurrent/stacked", "layers exchanged", of("u", in_order("10")), (), "WT-05"),
    Slip(
        "recurrent/decoder", "one bias twice", {"b_hh": lambda p: p["b_ih"]}, (), "RNN-02"
    ),
    # attention
    Slip("attention/fused", "q and k", of("qkv", in_order("102", 1)), (), "WT-05"),
    Slip("attention/fused", "by head", of("qkv", in_turns(3, 4, 1)), (), "WT-01"),
    Slip(
        "attention/fused", "scaled",
        of("qkv", part(np.s_[:, :12], lambda q: q * np.float32(0.5))), (), "WT-02",
    ),
    Slip(
        "attention/per_head", "heads interleaved",
        of("wo", lambda w: in_turns(3)(w.reshape(12, 12)).reshape(w.shape)), (), "WT-01",
    ),
    Slip("attention/block", "untransposed", of("query/w", turned), (), "LIN-01"),
    Slip("attention/cross", "v and k", of("kv/kernel", in_order("10", 1)), (), "WT-05"),
    Slip(
        "attention/patches", "channels first",
        of("patch/kernel", lambda k: k.reshape(16, 3, 12).swapaxes(0, 1).reshape(k.shape)),
        (), "WT-01",
    ),
    Slip("attention/patches", "off by one", of("pos", lambda p: np.roll(p, -1, 0)), (), "WT-01"),
    Slip("attention/window", "reshaped", of("rel_bias", reshaped), (), "WT-01"),
    # convolutions
    Slip("convolution/stack", "deviation", of("bn1/var", np.sqrt), (), "WT-02"),
    Slip("convolution/stack", "in and out", of("conv2", turned), (), "CONV-01"),
    Slip("convolution/separable", "flipped", of("dw/k", flipped), (), "WT-01"),
    Slip("convolution/unet", "not flipped", of("up_k", flipped), (), "CT-01"),
    Slip(
        "convolution/residual", "channels reversed",
        of("convs/0/w", lambda k: k[:, :, ::-1]), (), "WT-01",
    ),
    Slip(
        "convolution/flat", "channels first",
        of("1/0", lambda w: w.reshape(4, 4, 7).swapaxes(0, 1).reshape(w.shape)), (), "WT-01",
    ),
    Slip("convolution/causal", "past and now", exchanged("l2/past", "l2/now"), (), "WT-05"),
    Slip(
        "convolution/shuffled", "channels as PyTorch's",
        of("up/w", in_turns(4, axis=3)) | of("up/b", in_turns(4)), (), "WT-01",
    ),
    # stacked
    Slip("scanned/scan", "a layer of zeros", of("layers/w_up", part(1, np.zeros_like)), (), "WT-04"),
    Slip("scanned/linen_scan", "layers reversed", of("layers/down/kernel", lambda w: w[::-1]), (), "WT-05"),
    Slip("scanned/linen_auto", "another layer's", {"Dense_3/kernel": lambda p: p["Dense_1/kernel"]}, (), "WT-05"),
    Slip("scanned/ensemble", "one twice", of("0", lambda w: w[[0, 0, 2]]), (), "WT-05"),
    # Linen, NNX, Equinox
    Slip(
        "linen/general", "heads interleaved",
        of("q/kernel", lambda w: in_turns(4, axis=1)(w.reshape(12, 12)).reshape(w.shape)), (), "WT-01",
    ),
    Slip(
        "linen/flax_attention", "key and value",
        exchanged(*(f"MultiHeadDotProductAttention_0/{n}/kernel" for n in ("key", "value"))), (), "WT-05",
    ),
    Slip("linen/classifier", "in and out", of("Conv_1/kernel", turned), (), "CONV-01"),
    Slip("linen/classifier", "deviation", of("BatchNorm_0/var", np.sqrt), (), "WT-02"),
    Slip("linen/tagger", "gates", exchanged("cell/xz/kernel", "cell/xr/kernel"), (), "WT-05"),
    Slip("linen/dueling", "untransposed", of("value.0.weight", turned), (), "LIN-01"),
    Slip("nnx/attended", "key as query", {"attention/key/kernel": lambda p: p["attention/query/kernel"]}, (), "WT-05"),
    Slip("nnx/mixture", "untransposed", of("w", turned), (), "LIN-01"),
    Slip("nnx/pyramid", "flipped", of("convs/1/kernel", flipped), (), "WT-01"),
    Slip("eqx/gated", "halves exchanged", of("wi/weight", in_order("10")), (), "WT-05"),
    Slip("eqx/attended", "transposed", of("attention/key_proj/weight", turned), (), "WT-01"),
    Slip("eqx/unrolled", "biases exchanged", of("biases", in_order("10")), (), "WT-05"),
]  # fmt: skip
