"""Weights that are normalised: spectral norm and weight norm."""

from __future__ import annotations

from typing import Any

from compare.differences.catalogue import Difference
from compare.differences.measuring import gaps, jax64, normal
from compare.differences.shared.frameworks import fnn, jax, jnp, nn, torch


def _spectral(u: Any, w: Any, update: bool) -> Any:
    """flax.linen.SpectralNorm's weight (out, in) from a stored u."""

    class Model(fnn.Module):
        @fnn.compact
        def __call__(self, x: Any, update_stats: bool) -> Any:
            dense = fnn.Dense(w.shape[0], use_bias=False, param_dtype=float)
            return fnn.SpectralNorm(dense)(x, update_stats=update_stats)

    def run(eye: Any, u: Any, kernel: Any) -> Any:
        model = Model()
        state = model.init(jax.random.key(0), eye, False)
        params = jax.tree.map(lambda _: kernel, state["params"])
        stats = {
            group: {name: u[None] if name.endswith("/u") else v for name, v in values.items()}
            for group, values in state["batch_stats"].items()
        }
        variables = {"params": params, "batch_stats": stats}
        return model.apply(variables, eye, update, mutable=["batch_stats"])[0].T

    return jax64(run, torch.eye(w.shape[1]).double(), u, w.T)


def _spectral_torch() -> tuple[Any, Any, Any, Any, Any]:
    """A spectrally normalised layer whose u, v have not converged, with w, u, v and sigma."""
    w, u, v = normal(5, 4), normal(5), normal(4)
    linear: Any = nn.Linear(4, 5, bias=False).double()
    linear.weight.data.copy_(w)
    nn.utils.parametrizations.spectral_norm(linear)
    state: Any = linear.parametrizations.weight[0]
    u, v = u / u.norm(), v / v.norm()
    with torch.no_grad():
        state._u.copy_(u)
        state._v.copy_(v)
    return linear, w, u, v, state


def _own_spectral(w: Any, u: Any, v: Any, iterate: bool) -> Any:
    """PyTorch's spectral norm, written in JAX."""

    def unit(z: Any) -> Any:
        return z / jnp.maximum(jnp.linalg.norm(z), 1e-12)

    def run(w: Any, u: Any, v: Any) -> Any:
        if iterate:
            u = unit(w @ v)
            v = unit(w.T @ u)
        return w / (u @ w @ v)

    return jax64(run, w, u, v)


def _spectral_state() -> tuple[float, float]:
    w = normal(5, 4)  # iterated to the end: flax, which iterates once more, changes nothing
    linear: Any = nn.Linear(4, 5, bias=False).double()
    linear.weight.data.copy_(w)
    nn.utils.parametrizations.spectral_norm(linear, n_power_iterations=500)
    linear.eval()
    u = normal(5, seed=1)
    state: Any = linear.parametrizations.weight[0]
    with torch.no_grad():
        return gaps(linear.weight, _spectral(u / u.norm(), w, False), _spectral(state._u, w, False))


spectral_state = Difference(
    code="SN-01",
    title="SpectralNorm's first vectors",
    torch="parametrizations.spectral_norm: u and v, after 15 iterations at the start",
    jax="nn.SpectralNorm: u alone, random, no iteration at the start",
    fix_torch="_u and _v set to flax's",
    fix_jax="u of batch_stats set to PyTorch's _u",
    kinds="",  # a state, not a computation: copied with the weights
    measure=_spectral_state,
)


def _spectral_eval() -> tuple[float, float]:
    linear, w, u, v, _ = _spectral_torch()
    linear.eval()
    return gaps(linear.weight, _spectral(u, w, False), _own_spectral(w, u, v, False))


spectral_eval = Difference(
    code="SN-02",
    title="SpectralNorm in eval mode",
    torch="parametrizations.spectral_norm: the stored u and v as they are",
    jax="nn.SpectralNorm(update_stats=False): iterates, and only does not store",
    fix_torch="module.train()",
    fix_jax="w / (u @ w @ v) with the stored u and v",
    kinds="",  # the layer is replayed with its weight as it came out
    measure=_spectral_eval,
)


def _spectral_order() -> tuple[float, float]:
    linear, w, u, v, _ = _spectral_torch()
    return gaps(linear.train().weight, _spectral(u, w, True), _own_spectral(w, u, v, True))


spectral_order = Difference(
    code="SN-03",
    title="Order of SpectralNorm's half steps",
    torch="u = W v, then v = W.T u",
    jax="nn.SpectralNorm: v = W.T u, then u = W v",
    fix_torch="v from the stored u first",
    fix_jax="u = unit(w @ v), v = unit(w.T @ u), w / (u @ w @ v)",
    kinds="",  # the layer is replayed with its weight as it came out
    measure=_spectral_order,
)


def _weight_norm() -> tuple[float, float]:
    w, x = normal(5, 4), normal(3, 4)
    linear: Any = nn.Linear(4, 5, bias=False).double()
    linear.weight.data.copy_(w)
    ours = nn.utils.parametrizations.weight_norm(linear)(x)

    def theirs(scale: Any) -> Any:
        def run(x: Any, kernel: Any, scale: Any) -> Any:
            module = fnn.WeightNorm(fnn.Dense(5, use_bias=False, param_dtype=float), epsilon=0.0)
            state = module.init(jax.random.key(0), x)
            leaves = jax.tree.map(lambda a: kernel if a.ndim == 2 else scale, state)
            return module.apply(leaves, x)

        return jax64(run, x, w.T, scale)

    return gaps(ours, theirs(torch.ones(5).double()), theirs(w.norm(dim=1)))


weight_norm = Difference(
    code="WN-01",
    title="WeightNorm's first scale",
    torch="parametrizations.weight_norm: g is the rows' norm, the output stays",
    jax="nn.WeightNorm: the scale starts as 1, the output changes",
    fix_torch="original0 set to 1",
    fix_jax="scale = the kernel's column norms, epsilon=0",
    kinds="",  # a parameter: copied with the weights
    measure=_weight_norm,
)
