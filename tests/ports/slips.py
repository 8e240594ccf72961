"""The slips of conversion: one in a port each, and what is to be said of it."""

from __future__ import annotations

import numpy as np

from tests.ports.planting import (
    Slip,
    exchanged,
    flipped,
    in_order,
    in_turns,
    initial,
    of,
    part,
    reshaped,
    rounded,
    turned,
)

_TEXT = sorted(range(12), key=str)

SLIPS = [
    # dense layers
    Slip(
        "plain/mlp", "untransposed", of("w2", turned), ("w2 is fc2.weight, transposed",), "LIN-01"
    ),
    Slip("plain/mlp", "zeros", of("b2", np.zeros_like), ("b2 is all 0: never loaded",), "WT-04"),
    Slip(
        "plain/mlp",
        "biases exchanged",
        exchanged("b1", "b2"),
        ("b2 is fc1.bias", "b1 is fc2.bias"),
        "WT-05",
    ),
    Slip(
        "plain/mlp",
        "less one",
        of("gamma", lambda g: g - 1),
        ("gamma is norm.weight, plus -1",),
        "WT-02",
    ),
    Slip(
        "plain/mlp",
        "a row of zeros",
        of("w1", part(2, np.zeros_like)),
        ("w1 is fc1.weight, but for 8 of 48 elements, row 2",),
        "WT-04",
    ),
    Slip(
        "plain/gated",
        "halves exchanged",
        of("wi", in_order("10", 1)),
        ("wi[:, 10:20] is gate_proj.weight.T", "wi[:, 0:10] is up_proj.weight.T"),
        "WT-05",
    ),
    Slip(
        "plain/gated",
        "taken in turns",
        of("wi", in_turns(2, axis=1)),
        (
            (
                "wi is gate_proj.weight, up_proj.weight in a row, interleaved,"
                " 2 blocks of 10 taken in turns along axis 1"
            ),
        ),
        "WT-01",
    ),
    Slip(
        "plain/gated",
        "bfloat16",
        of("wo", rounded),
        ("wo is down_proj.weight, rounded to bfloat16",),
        "WT-03",
    ),
    Slip(
        "plain/tied",
        "off by one",
        of("pos", lambda p: np.roll(p, 1, 0)),
        ("pos is wpe.weight, rolled by 1 along axis 0",),
        "WT-01",
    ),
    Slip(
        "plain/tied",
        "transposed",
        of("tok", reshaped),
        ("tok is wte.weight, its axes in the order (1, 0), and then reshaped",),
        "WT-01",
    ),
    Slip(
        "plain/experts",
        "experts exchanged",
        of("wi", in_order("10")),
        ("wi[1] is experts.0.0.weight.T", "wi[0] is experts.1.0.weight.T"),
        "WT-05",
    ),
    Slip(
        "plain/experts",
        "the gate exchanged",
        of("router", in_order("10", 1)),
        ("router is gate.weight, in reverse order along axis 1",),
        "WT-01",
    ),
    Slip(
        "plain/vae",
        "halves exchanged",
        of("encoder/w1", in_order("10", 1)),
        ("encoder/w1[:, 3:6] is mu.weight.T", "encoder/w1[:, 0:3] is logvar.weight.T"),
        "WT-05",
    ),
    Slip(
        "plain/mixer",
        "never loaded",
        of("tok_out", initial),
        ("tok_out is not token.2.weight, nor made from it: never loaded?",),
        None,
    ),
    Slip(
        "plain/deep",
        "sorted as text",
        {f"w/{i}": lambda leaves, j=j: leaves[f"w/{j}"] for i, j in enumerate(_TEXT)},
        tuple(f"w/{i} is layers.{j}.weight.T" for i, j in enumerate(_TEXT) if i != j),
        "WT-05",
    ),
    Slip(
        "plain/bilinear",
        "reshaped",
        of("tensor", lambda t: t.transpose(2, 0, 1).reshape(t.shape)),
        ("tensor is pair.weight, its axes in the order (2, 0, 1), and then reshaped",),
        "WT-01",
    ),
    # recurrent
    Slip(
        "recurrent/lstm_by_gate",
        "gates",
        exchanged("W_xi", "W_xf"),
        ("W_xf is rnn.weight_ih_l0[0:6].T", "W_xi is rnn.weight_ih_l0[6:12].T"),
        "RNN-01",
    ),
    Slip(
        "recurrent/lstm_joint",
        "gates as PyTorch's",
        of("lstm/w", in_order("0213", 1))
        | of("lstm/b_i", in_order("0213"))
        | of("lstm/b_h", in_order("0213")),
        (
            "lstm/w[0:5] is rnn.weight_ih_l0, its 4 blocks in the order 0, 2, 1, 3 along axis 1",
            "lstm/w[5:11] is rnn.weight_hh_l0, its 4 blocks in the order 0, 2, 1, 3 along axis 1",
            "lstm/b_i is rnn.bias_ih_l0, its 4 blocks in the order 0, 2, 1, 3 along axis 0",
            "lstm/b_h is rnn.bias_hh_l0, its 4 blocks in the order 0, 2, 1, 3 along axis 0",
        ),
        "RNN-01",
    ),
    Slip(
        "recurrent/lstm_joint",
        "a bias lost",
        of("lstm/b_h", np.zeros_like),
        ("lstm/b_h is all 0: never loaded",),
        "WT-04",
    ),
    Slip(
        "recurrent/gru",
        "biases summed",
        {"bi": lambda p: p["bi"] + p["bh"], "bh": lambda p: 0 * p["bh"]},
        ("bi is the sum of rnn.bias_ih_l0 and rnn.bias_hh_l0", "bh is all 0: never loaded"),
        "RNN-04",
    ),
    Slip(
        "recurrent/gru",
        "r and z",
        of("wh", in_order("10", 1)),
        ("wh[:, 0:6] is rnn.weight_hh_l0[6:12].T", "wh[:, 6:12] is rnn.weight_hh_l0[0:6].T"),
        "RNN-09",
    ),
    Slip(
        "recurrent/both_ways",
        "one direction twice",
        {"bwd/kernel": lambda p: p["fwd/kernel"]},
        ("bwd/kernel is rnn.weight_ih_l0",),
        "WT-05",
    ),
    Slip(
        "recurrent/stacked",
        "layers exchanged",
        of("u", in_order("10")),
        ("u[1] is rnn.weight_hh_l0.T", "u[0] is rnn.weight_hh_l1.T"),
        "WT-05",
    ),
    Slip(
        "recurrent/decoder",
        "one bias twice",
        {"b_hh": lambda p: p["b_ih"]},
        ("b_hh is cell.bias_ih",),
        "WT-05",
    ),
    # attention
    Slip(
        "attention/fused",
        "q and k",
        of("qkv", in_order("102", 1)),
        ("qkv[:, 12:24] is q_proj.weight.T", "qkv[:, 0:12] is k_proj.weight.T"),
        "WT-05",
    ),
    Slip(
        "attention/fused",
        "by head",
        of("qkv", in_turns(3, 4, 1)),
        (
            (
                "qkv is q_proj.weight, k_proj.weight, v_proj.weight in a row, interleaved,"
                " 3 blocks of 12 taken in turns, 4 at a time along axis 1"
            ),
        ),
        "WT-01",
    ),
    Slip(
        "attention/fused",
        "scaled",
        of("qkv", part(np.s_[:, :12], lambda q: q * np.float32(0.5))),
        ("qkv[:, 0:12] is q_proj.weight, times 0.5",),
        "WT-02",
    ),
    Slip(
        "attention/per_head",
        "heads interleaved",
        of("wo", lambda w: in_turns(3)(w.reshape(12, 12)).reshape(w.shape)),
        ("wo is out_proj.weight, its axes in the order (1, 0, 2), and then reshaped",),
        "WT-01",
    ),
    Slip(
        "attention/block",
        "untransposed",
        of("query/w", turned),
        ("query/w is c_attn.weight[0:12], transposed",),
        "LIN-01",
    ),
    Slip(
        "attention/cross",
        "v and k",
        of("kv/kernel", in_order("10", 1)),
        (
            "kv/kernel[:, 0:12] is attn.in_proj_weight[24:36].T",
            "kv/kernel[:, 12:24] is attn.in_proj_weight[12:24].T",
        ),
        "WT-05",
    ),
    Slip(
        "attention/patches",
        "channels first",
        of("patch/kernel", lambda k: k.reshape(16, 3, 12).swapaxes(0, 1).reshape(k.shape)),
        (
            (
                "patch/kernel is patch_embed.weight, interleaved,"
                " 16 blocks of 3 taken in turns along axis 0"
            ),
        ),
        "WT-01",
    ),
    Slip(
        "attention/patches",
        "off by one",
        of("pos", lambda p: np.roll(p, -1, 0)),
        ("pos is pos_embed, rolled by 4 along axis 0",),
        "WT-01",
    ),
    Slip(
        "attention/window",
        "reshaped",
        of("rel_bias", reshaped),
        ("rel_bias is table, its axes in the order (1, 0), and then reshaped",),
        "WT-01",
    ),
    # convolutions
    Slip(
        "convolution/stack",
        "deviation",
        of("bn1/var", np.sqrt),
        ("bn1/var is bn1.running_var, its square root",),
        "WT-02",
    ),
    Slip(
        "convolution/stack",
        "in and out",
        of("conv2", turned),
        ("conv2 is conv2.weight, its axes in the order (0, 1, 3, 2)",),
        "CONV-01",
    ),
    Slip(
        "convolution/separable",
        "flipped",
        of("dw/k", flipped),
        ("dw/k is dwconv.weight, reversed along axes 0, 1",),
        "WT-01",
    ),
    Slip(
        "convolution/unet",
        "not flipped",
        of("up_k", flipped),
        ("up_k is up.weight, reversed along axes (0, 1)",),
        "CT-01",
    ),
    Slip(
        "convolution/residual",
        "channels reversed",
        of("convs/0/w", lambda k: k[:, :, ::-1]),
        ("convs/0/w is conv1.weight, reversed along axis 2",),
        "WT-01",
    ),
    Slip(
        "convolution/flat",
        "channels first",
        of("1/0", lambda w: w.reshape(4, 4, 7).swapaxes(0, 1).reshape(w.shape)),
        ("1/0 is fc1.weight, interleaved, 4 blocks of 4 taken in turns along axis 0",),
        "WT-01",
    ),
    Slip(
        "convolution/causal",
        "past and now",
        exchanged("l2/past", "l2/now"),
        (
            "l2/now is conv2.weight[:, :, 0:1].transpose(1, 0, 2)",
            "l2/past is conv2.weight[:, :, 1:2].transpose(1, 0, 2)",
        ),
        "WT-05",
    ),
    Slip(
        "convolution/shuffled",
        "channels as PyTorch's",
        of("up/w", in_turns(4, axis=3)) | of("up/b", in_turns(4)),
        (
            "up/w is up.weight, interleaved, 4 blocks of 3 taken in turns along axis 3",
            "up/b is up.bias, interleaved, 4 blocks of 3 taken in turns along axis 0",
        ),
        "WT-01",
    ),
    # stacked
    Slip(
        "scanned/scan",
        "a layer of zeros",
        of("layers/w_up", part(1, np.zeros_like)),
        ("layers/w_up[1] is all 0: never loaded",),
        "WT-04",
    ),
    Slip(
        "scanned/linen_scan",
        "layers reversed",
        of("layers/down/kernel", lambda w: w[::-1]),
        (
            "layers/down/kernel[0] is layers.2.down.weight",
            "layers/down/kernel[2] is layers.0.down.weight",
        ),
        "WT-05",
    ),
    Slip(
        "scanned/linen_auto",
        "another layer's",
        {"Dense_3/kernel": lambda p: p["Dense_1/kernel"]},
        ("Dense_3/kernel is layers.0.up.weight",),
        "WT-05",
    ),
    Slip(
        "scanned/ensemble",
        "one twice",
        of("0", lambda w: w[[0, 0, 2]]),
        ("0[1] is layers.0.0.weight",),
        "WT-05",
    ),
    # Linen, NNX, Equinox
    Slip(
        "linen/general",
        "heads interleaved",
        of("q/kernel", lambda w: in_turns(4, axis=1)(w.reshape(12, 12)).reshape(w.shape)),
        ("q/kernel is q_proj.weight, interleaved, 4 blocks of 3 taken in turns along axis 1",),
        "WT-01",
    ),
    Slip(
        "linen/flax_attention",
        "key and value",
        exchanged(*(f"MultiHeadDotProductAttention_0/{n}/kernel" for n in ("key", "value"))),
        (
            "MultiHeadDotProductAttention_0/value/kernel is k_proj.weight.T",
            "MultiHeadDotProductAttention_0/key/kernel is v_proj.weight.T",
        ),
        "WT-05",
    ),
    Slip(
        "linen/classifier",
        "in and out",
        of("Conv_1/kernel", turned),
        ("Conv_1/kernel is body.0.weight, its axes in the order (0, 1, 3, 2)",),
        "CONV-01",
    ),
    Slip(
        "linen/classifier",
        "deviation",
        of("BatchNorm_0/var", np.sqrt),
        ("BatchNorm_0/var is stem.1.running_var, its square root",),
        "WT-02",
    ),
    Slip(
        "linen/tagger",
        "gates",
        exchanged("cell/xz/kernel", "cell/xr/kernel"),
        ("cell/xr/kernel is rnn.weight_ih_l0[6:12].T", "cell/xz/kernel is rnn.weight_ih_l0[0:6].T"),
        "RNN-09",
    ),
    Slip(
        "linen/dueling",
        "untransposed",
        of("value.0.weight", turned),
        ("value/0/weight is value.0.weight, transposed",),
        "LIN-01",
    ),
    Slip(
        "nnx/attended",
        "key as query",
        {"attention/key/kernel": lambda p: p["attention/query/kernel"]},
        ("attention/key/kernel is q.weight",),
        "WT-05",
    ),
    Slip(
        "nnx/mixture", "untransposed", of("w", turned), ("w is proj.weight, transposed",), "LIN-01"
    ),
    Slip(
        "nnx/pyramid",
        "flipped",
        of("convs/1/kernel", flipped),
        ("convs/1/kernel is mix.weight, reversed along axes 0, 1",),
        "WT-01",
    ),
    Slip(
        "eqx/gated",
        "halves exchanged",
        of("wi/weight", in_order("10")),
        ("wi/weight[10:20] is gate_proj.weight", "wi/weight[0:10] is up_proj.weight"),
        "WT-05",
    ),
    Slip(
        "eqx/attended",
        "transposed",
        of("attention/key_proj/weight", turned),
        ("attention/key_proj/weight is attn.in_proj_weight[8:16], transposed",),
        "WT-01",
    ),
    Slip(
        "eqx/unrolled",
        "biases exchanged",
        of("biases", in_order("10")),
        ("biases[1] is gru.bias_ih_l0", "biases[0] is gru.bias_hh_l0"),
        "WT-05",
    ),
]
