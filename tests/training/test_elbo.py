"""The variational autoencoder's two losses: their KL term against draws from the code."""

import numpy as np
import pytest

from compare.share import to_jax, to_torch
from jaxnn.autoencoder import vae as theirs
from torchref.autoencoder import vae as ours

SIDES = ((theirs, to_jax), (ours, to_torch))


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_kl_is_the_mean_over_draws(beta):
    """E_q[log q(z) - log p(z)] with 200000 draws, for two codes of two numbers."""
    rng = np.random.default_rng(0)
    mu, logvar = np.array([[0.7, -1.2], [0.1, 0.4]]), np.array([[-0.4, 0.3], [-2.0, 0.0]])
    eps = rng.standard_normal((200_000, 2, 2))
    z = mu + np.exp(logvar / 2) * eps
    drawn = ((z**2 - eps**2 - logvar) / 2).sum(2).mean()
    logits, x = np.zeros((2, 3)), np.full((2, 3), 0.5)
    pixels = 3 * np.log(2)
    for side, to in SIDES:
        loss = side.elbo_loss((to(logits), to(mu), to(logvar)), to(x), beta=beta)
        kl = (float(loss) - pixels) / beta
        assert kl == pytest.approx(drawn, abs=0.01)
    four = [s.beta_vae_loss(tuple(map(t, (logits, mu, logvar))), t(x)) for s, t in SIDES]
    assert np.allclose(four, pixels + 4 * drawn, atol=0.04)
