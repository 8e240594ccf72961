"""Convolutional networks as functions on NHWC images, by `lax.conv_general_dilated` and by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import torch
from jax import lax
from torch import Tensor, nn
from torch.nn import functional as F

from compare import Array, Image, Twin
from tests.ports import Values, fresh, trained


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1, padding="SAME", **options) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


def hwio(kernel):
    return kernel.transpose(2, 3, 1, 0)


class Stack(nn.Module):
    """Convolutions and batch norms, in inference as its port has it."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(x + self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


def stack_call(apply, p: dict, x: jax.Array, train: bool) -> tuple[jax.Array, dict]:
    return apply(p, x, train)


def stack_apply(p: dict, x: jax.Array, train: bool) -> tuple[jax.Array, dict]:
    """The logits, and the running statistics as they are then."""
    running = {}

    def norm(name: str, x: jax.Array) -> jax.Array:
        q = p[name]
        mean, var = q["mean"], q["var"]
        running[name] = {"mean": mean, "var": var}
        if train:
            mean, var, many = x.mean((0, 1, 2)), x.var((0, 1, 2)), x[..., 0].size
            seen = {"mean": mean, "var": var * many / (many - 1)}
            running[name] = {k: 0.9 * q[k] + 0.1 * seen[k] for k in seen}
        return (x - mean) * lax.rsqrt(var + 1e-5) * q["gamma"] + q["beta"]

    x = jax.nn.relu(norm("bn1", conv(x, p["conv1"])))
    x = jax.nn.relu(x + norm("bn2", conv(x, p["conv2"])))
    return jnp.mean(x, (1, 2)) @ p["fc"]["w"] + p["fc"]["b"], running


def statistics(s: Values, name: str) -> Values:
    return {
        "gamma": s[f"{name}.weight"],
        "beta": s[f"{name}.bias"],
        "mean": s[f"{name}.running_mean"],
        "var": s[f"{name}.running_var"],
    }


_torch, _s = trained(Stack)
stack_params = {
    "conv1": hwio(_s["conv1.weight"]),
    "bn1": statistics(_s, "bn1"),
    "conv2": hwio(_s["conv2.weight"]),
    "bn2": statistics(_s, "bn2"),
    "fc": {"w": _s["fc.weight"].T, "b": _s["fc.bias"]},
}
images = {"x": Image(2, 3, 6, 6)}
stack = Twin(torch=_torch, jax=(stack_apply, stack_params), inputs=images, jax_call=stack_call)


class Separable(nn.Module):
    """A block of ConvNeXt: depthwise, layer norm over the channels, two dense layers, a scale."""

    def __init__(self, dim: int = 4):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, 8), nn.Linear(8, dim)
        self.gamma = nn.Parameter(0.5 * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


def separable_apply(p: dict, x: jax.Array) -> jax.Array:
    y = conv(x, p["dw"]["k"], feature_group_count=x.shape[-1]) + p["dw"]["b"]
    mean, var = y.mean(-1, keepdims=True), y.var(-1, keepdims=True)
    y = (y - mean) / jnp.sqrt(var + 1e-6) * p["ln"]["scale"] + p["ln"]["bias"]
    y = jax.nn.gelu(y @ p["up"]["w"] + p["up"]["b"], approximate=False)
    return x + p["layer_scale"] * (y @ p["down"]["w"] + p["down"]["b"])


_torch, _s = trained(Separable)
separable_params = {
    "dw": {"k": hwio(_s["dwconv.weight"]), "b": _s["dwconv.bias"]},
    "ln": {"scale": _s["norm.weight"], "bias": _s["norm.bias"]},
    "up": {"w": _s["pwconv1.weight"].T, "b": _s["pwconv1.bias"]},
    "down": {"w": _s["pwconv2.weight"].T, "b": _s["pwconv2.bias"]},
    "layer_scale": _s["gamma"],
}
separable = Twin(
    torch=_torch, jax=(separable_apply, separable_params), inputs={"x": Image(2, 4, 5, 5)}
)


class Unet(nn.Module):
    """One level of a U-Net: down by a pool, up by a transposed convolution, a skip between."""

    def __init__(self):
        super().__init__()
        self.down, self.mid = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.silu(self.down(x))
        y = self.up(F.silu(self.mid(F.max_pool2d(skip, 2))))
        return self.out(torch.cat([skip, y], 1))


def unet_apply(p: dict, x: jax.Array) -> jax.Array:
    skip = jax.nn.silu(conv(x, p["down_k"]) + p["down_b"])
    y = lax.reduce_window(skip, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    y = jax.nn.silu(conv(y, p["mid_k"]) + p["mid_b"])
    y = lax.conv_transpose(
        y, p["up_k"], (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    y = jnp.concatenate([skip, y + p["up_b"]], axis=-1)
    return y @ p["out_k"] + p["out_b"]


_torch, _s = fresh(Unet)
unet_params = {
    "down_k": hwio(_s["down.weight"]),
    "down_b": _s["down.bias"],
    "mid_k": hwio(_s["mid.weight"]),
    "mid_b": _s["mid.bias"],
    "up_k": _s["up.weight"].transpose(2, 3, 0, 1)[::-1, ::-1],
    "up_b": _s["up.bias"],
    "out_k": _s["out.weight"][:, :, 0, 0].T,
    "out_b": _s["out.bias"],
}
unet = Twin(torch=_torch, jax=(unet_apply, unet_params), inputs=images)


class Residual(nn.Module):
    """A residual block with group norms and a strided shortcut."""

    def __init__(self, cin: int = 4, cout: int = 6):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(2, cin), nn.GroupNorm(3, cout)
        self.conv1 = nn.Conv2d(cin, cout, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.shortcut = nn.Conv2d(cin, cout, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.relu(self.norm2(y)))


def group_norm(p: dict, x: jax.Array, groups: int) -> jax.Array:
    y = x.reshape(*x.shape[:3], groups, -1)
    mean = y.mean((1, 2, 4), keepdims=True)
    var = ((y - mean) ** 2).mean((1, 2, 4), keepdims=True)
    return ((y - mean) / jnp.sqrt(var + 1e-5)).reshape(x.shape) * p["scale"] + p["offset"]


def residual_apply(p: dict, x: jax.Array) -> jax.Array:
    one = [(1, 1), (1, 1)]
    y = jax.nn.relu(group_norm(p["gn"][0], x, 2))
    y = conv(y, p["convs"][0]["w"], 2, one) + p["convs"][0]["b"]
    y = jax.nn.relu(group_norm(p["gn"][1], y, 3))
    y = conv(y, p["convs"][1]["w"], 1, one) + p["convs"][1]["b"]
    return y + x[:, ::2, ::2] @ p["skip"]


_torch, _s = trained(Residual)
residual_params = {
    "gn": [{"scale": _s[f"norm{i}.weight"], "offset": _s[f"norm{i}.bias"]} for i in (1, 2)],
    "convs": [{"w": hwio(_s[f"conv{i}.weight"]), "b": _s[f"conv{i}.bias"]} for i in (1, 2)],
    "skip": _s["shortcut.weight"][:, :, 0, 0].T,
}
residual = Twin(
    torch=_torch, jax=(residual_apply, residual_params), inputs={"x": Image(2, 4, 6, 6)}
)


class Excited(nn.Module):
    """A convolution of standardised weights, and squeeze-and-excitation after it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.squeeze, self.excite = nn.Conv2d(8, 5, 1), nn.Conv2d(5, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        w = self.conv.weight
        mean, var = w.mean((1, 2, 3), keepdim=True), w.var((1, 2, 3), keepdim=True, unbiased=False)
        x = F.conv2d(x, (w - mean) / torch.sqrt(var + 1e-5), self.conv.bias, padding=1)
        s = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(s))))


def excited_apply(p: dict, x: jax.Array) -> jax.Array:
    w = p["kernel"]
    w = (w - w.mean((0, 1, 2))) * lax.rsqrt(w.var((0, 1, 2)) + 1e-5)
    x = conv(x, w) + p["bias"]
    s = jax.nn.relu(x.mean((1, 2)) @ p["se_w1"] + p["se_b1"])
    return x * jax.nn.sigmoid(s @ p["se_w2"] + p["se_b2"])[:, None, None, :]


_torch, _s = fresh(Excited)
excited_params = {
    "kernel": hwio(_s["conv.weight"]),
    "bias": _s["conv.bias"],
    "se_w1": _s["squeeze.weight"].squeeze().T,
    "se_b1": _s["squeeze.bias"],
    "se_w2": _s["excite.weight"].squeeze().T,
    "se_b2": _s["excite.bias"],
}
excited = Twin(torch=_torch, jax=(excited_apply, excited_params), inputs=images)


class Flat(nn.Module):
    """A dense layer on a flattened image: the port moves the weight's rows, not the image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.fc1, self.fc2 = nn.Linear(4 * 2 * 2, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.sigmoid(self.fc1(torch.flatten(torch.sigmoid(self.conv(x)), 1))))


def flat_apply(p: list, x: jax.Array) -> jax.Array:
    (k, b), (w1, b1), (w2, b2) = p
    x = jax.nn.sigmoid(conv(x, k, 2, "VALID") + b).reshape(len(x), -1)
    return jax.nn.sigmoid(x @ w1 + b1) @ w2 + b2


_torch, _s = fresh(Flat)
flat_params = [
    (hwio(_s["conv.weight"]), _s["conv.bias"]),
    (
        _s["fc1.weight"].reshape(7, 4, 2, 2).transpose(2, 3, 1, 0).reshape(16, 7),
        _s["fc1.bias"],
    ),
    (_s["fc2.weight"].T, _s["fc2.bias"]),
]
flat = Twin(torch=_torch, jax=(flat_apply, flat_params), inputs=images)


class Causal(nn.Module):
    """Dilated causal convolutions in time; the port sums shifted products."""

    def __init__(self, dim: int = 4):
        super().__init__()
        self.conv1 = nn.Conv1d(3, dim, 2, dilation=1)
        self.conv2 = nn.Conv1d(dim, dim, 2, dilation=2)
        self.out = nn.Conv1d(dim, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.conv1(F.pad(x, (1, 0))))
        x = x + torch.tanh(self.conv2(F.pad(x, (2, 0))))
        return self.out(x)


def causal_apply(p: dict, x: jax.Array) -> jax.Array:
    def shifted(x: jax.Array, by: int) -> jax.Array:
        return jnp.pad(x, ((0, 0), (by, 0), (0, 0)))[:, : x.shape[1]]

    def layer(q: dict, x: jax.Array, dilation: int) -> jax.Array:
        return jnp.tanh(shifted(x, dilation) @ q["past"] + x @ q["now"] + q["bias"])

    x = layer(p["l1"], x.swapaxes(1, 2), 1)
    x = x + layer(p["l2"], x, 2)
    return (x @ p["out"]["w"] + p["out"]["bias"]).swapaxes(1, 2)


_torch, _s = fresh(Causal)
causal_params = {
    **{
        f"l{i}": {
            "past": _s[f"conv{i}.weight"][:, :, 0].T,
            "now": _s[f"conv{i}.weight"][:, :, 1].T,
            "bias": _s[f"conv{i}.bias"],
        }
        for i in (1, 2)
    },
    "out": {"w": _s["out.weight"][:, :, 0].T, "bias": _s["out.bias"]},
}
causal = Twin(torch=_torch, jax=(causal_apply, causal_params), inputs={"x": Array((2, 3, 7))})


class Shuffled(nn.Module):
    """Upsampling by a pixel shuffle: the port has its channels in the order of NHWC."""

    def __init__(self, dim: int = 3):
        super().__init__()
        self.body = nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect")
        self.up = nn.Conv2d(5, 4 * dim, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.up(F.leaky_relu(self.body(x), 0.1)))


def shuffled_apply(p: dict, x: jax.Array) -> jax.Array:
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    x = jax.nn.leaky_relu(conv(x, p["body"]["w"], padding="VALID") + p["body"]["b"], 0.1)
    x = conv(x, p["up"]["w"]) + p["up"]["b"]
    b, h, w, _ = x.shape
    x = x.reshape(b, h, w, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, 2 * h, 2 * w, -1)


_torch, _s = fresh(Shuffled)
shuffled_params = {
    "body": {"w": hwio(_s["body.weight"]), "b": _s["body.bias"]},
    "up": {
        "w": hwio(_s["up.weight"].reshape(3, 4, 5, 3, 3).swapaxes(0, 1).reshape(12, 5, 3, 3)),
        "b": _s["up.bias"].reshape(3, 4).T.reshape(-1),
    },
}
shuffled = Twin(torch=_torch, jax=(shuffled_apply, shuffled_params), inputs=images)
